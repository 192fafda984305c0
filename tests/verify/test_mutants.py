"""Planted bugs are refused, their leaves named, and their causes, where they have a name, named right.

Those that take long, every scale of the loss and every precision are cases of the golden file, which asserts the same.
"""

import re
from itertools import cycle

import jax
import jax.numpy as jnp
import pytest

from experiments.verifier.mutants import MUTANTS
from jaxnet.verify import check_gradients

VISIBLE = [name for name, mutant in MUTANTS.items() if mutant.visible]
# Losses of their own, whose programs serve one test alone; test_diagnosis.py has unweighted examples as well.
ELSEWHERE = {"float32_running_sum", "padded_examples_contribute", "leaky_slope_on_wrong_side"}
SEVERAL = [
    "dW_without_1/m",
    "delta_Y_minus_A",
    "g_of_layer_above",
    "Z_for_A",
    "bfloat16_product",
    "one_coordinate_x_1.5",
]


def paths(mutant):
    return {f"[{layer}].{name}" for layer, name in mutant.wrong}


def failed(report):
    return {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"}


@pytest.mark.parametrize("name", [name for name in VISIBLE if name not in ELSEWHERE])
def test_a_mutant_is_refused_its_leaves_and_its_cause_named(name):
    mutant = MUTANTS[name]
    report = check_gradients(
        mutant.loss, mutant.gradient, *mutant.point(jax.random.key(0)), raise_=False, **mutant.options
    )
    assert failed(report) == paths(mutant), str(report)
    assert "crashed:" not in " ".join(report.notes) and "cannot: Type" not in str(
        report
    )  # a witness that stumbles over its own code
    assert mutant.cause is None or re.search(mutant.cause, str(report.cause), re.IGNORECASE), str(report)


@pytest.mark.parametrize(("scale", "name"), list(zip(cycle([1e-6, 1e6]), SEVERAL, strict=False)))
def test_a_mutant_is_refused_whatever_the_loss_is_multiplied_by(scale, name):
    mutant = MUTANTS[name]
    gradient = mutant.gradient
    report = check_gradients(
        lambda *a: scale * mutant.loss(*a),
        lambda *a: jax.tree.map(lambda g: scale * g, gradient(*a)),
        *mutant.point(jax.random.key(1)),
        raise_=False,
    )
    assert failed(report) == paths(mutant), str(report)


@pytest.mark.parametrize("name", ["g_of_layer_above", "Z_for_A"])
def test_a_mutant_is_refused_in_float64(name):
    mutant = MUTANTS[name]
    with jax.enable_x64(True):
        point = mutant.point(jax.random.key(2), jnp.float64)
        report = check_gradients(mutant.loss, mutant.gradient, *point, raise_=False)
    assert failed(report) == paths(mutant), str(report)


def test_the_bug_on_a_branch_not_taken_passes_and_the_full_check_points_at_the_branch():
    mutant = MUTANTS["rare_branch"]
    report = check_gradients(mutant.loss, mutant.gradient, *mutant.point(jax.random.key(0)), witnesses="full")
    assert report.passed
    assert any("mutants.py" in note and "never true" in note for note in report.notes), report.notes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x_1.001", "one_coordinate_zero", "g_prime_of_A", "wrong_only_under_jit"])
def test_a_mutant_is_refused_at_two_million_parameters(name):
    mutant = MUTANTS[name]
    report = check_gradients(mutant.loss, mutant.gradient, *mutant.large_point(jax.random.key(0)), raise_=False)
    assert failed(report) == paths(mutant), str(report)

"""The notes' formulas pass, their misprint does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from experiments import gradient_check, notes
from jaxnet.activations import ACTIVATIONS
from tests.comparison import assert_trees_close
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick


@pytest.fixture(scope="module")
def found():
    return measure(gradient_check, quick=True)


def test_the_misprint_is_refused_and_named(found):
    result = assert_it_runs(gradient_check, found)
    metrics = result.metrics
    assert result.held
    assert metrics["largest_relative_error_of_the_right"] < 1e-3 < 0.1 < metrics["relative_error_of_the_misprint"]
    assert "g[2]'(Z[1]) / g[1]'(Z[1]): sigmoid' in place of tanh'" in metrics["cause"]
    verdicts = {name: report["verdict"] for name, report in metrics["reports"].items()}
    assert verdicts == {"the notes, float32": "PASS", "the misprint, float32": "FAIL", "jaxnet, float32": "PASS"}


def test_each_clause_can_fail(found):
    right, wrong = (found["reports"][f"{name}, float32"] for name in ("the notes", "the misprint"))
    one_leaf = dataclasses.replace(wrong, leaves=wrong.leaves | {"[0].b": right.leaves["[0].b"]})
    another_cause = dataclasses.replace(wrong, cause="The ratio is 2.")
    assert_each_clause_can_fail(
        gradient_check,
        found,
        {
            "the_notes_and_jaxnet_pass": {"reports": {"jaxnet, float32": wrong}},
            "error_of_the_notes_and_jaxnet_over_the_smallest_seen": {"reports": {"the notes, float32": wrong}},
            "error_of_the_misprint_over_the_smallest_seen": {"reports": {"the misprint, float32": one_leaf}},
            "the_misprint_is_refused": {"reports": {"the misprint, float32": right}},
            "only_dW1_and_db1_fail": {"reports": {"the misprint, float32": one_leaf}},
            "it_is_named": {"reports": {"the misprint, float32": another_cause}},
        },
    )


def test_both_derivatives_are_those_of_their_activations():
    with jax.enable_x64(True):
        Z = jnp.linspace(-3, 3, 7)[None, :]
        for name, derivative in (("tanh", notes.tanh_derivative), ("sigmoid", notes.sigmoid_derivative)):
            g = ACTIVATIONS[name]
            expected = g.derivative(Z, g.apply(Z))
            np.testing.assert_allclose(derivative(Z, jnp.tanh(Z), jnp), expected, rtol=1e-14)


def test_the_six_formulas_are_one_program_for_numpy_and_jax():
    random = np.random.default_rng(7)
    params, X = notes.random_point(random, (3, 5, 1), 6)
    Y = (random.random((1, 6)) < 0.5).astype(np.float64)
    with jax.enable_x64(True):
        by_jax = jax.jit(lambda *point: notes.gradient(*point, jnp))(params, X, Y)
        net = jaxnet.MLP((3, 5, 1), ("tanh", "sigmoid"))
        by_jaxnet = jax.jit(jaxnet.value_and_grad, static_argnums=0)(net, params, X, Y)[1]
        by_numpy = notes.gradient(params, X, Y)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(by_numpy))
        assert_trees_close(by_jax, by_numpy, 1e-14)
        assert_trees_close(by_jaxnet, by_numpy, 1e-12)


@pytest.mark.slow
def test_in_float64_as_well(tmp_path):
    assert quick("gradient_check", tmp_path)["relative_error_of_the_misprint"] > 0.1
    found = measure(gradient_check)
    assert list(found["reports"])[:2] == ["the notes, float64", "the notes, float32"]
    assert all(gradient_check.clauses(found).values())

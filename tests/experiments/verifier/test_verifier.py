"""The comparison itself: the checkers are asked fairly, and a missed target is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.verifier.__main__ import run
from experiments.verifier.acceptance import judge
from experiments.verifier.checkers import CHECKERS, ask
from experiments.verifier.correct import Problem
from experiments.verifier.mutants import CORRECT, MUTANTS, plain_loss, small
from experiments.verifier.results import missed
from experiments.verifier.trials import Config, Row, settings

INSTALLED = [checker for checker in CHECKERS if checker.installed]


def problem(gradient, dtype):
    """The small net's loss with this gradient, in the checker's own dtype."""
    with jax.enable_x64(dtype == "float64"):
        params, X, Y = small(jax.random.key(0), dtype)
    return Problem(plain_loss, gradient, params, (X, Y))


@pytest.mark.parametrize("checker", INSTALLED, ids=lambda checker: checker.name)
def test_a_checker_accepts_the_correct_gradient_and_refuses_a_wrong_sign(checker):
    wrong = ask(checker, problem(MUTANTS["delta_Y_minus_A"].gradient, checker.dtype), patience=60)
    assert wrong.refused, wrong.says
    right = ask(checker, problem(CORRECT, checker.dtype), patience=60)
    # chex's default, 1e-6 of each entry, rejects correct float32 gradients: that is a finding, not a mistake here.
    assert not right.refused or checker.name == "chex f32", right.says


def test_a_checker_that_needs_too_many_losses_is_not_asked():
    slow = next(checker for checker in CHECKERS if checker.name == "classroom formula f64")
    many = Problem(lambda x: jnp.sum(x), lambda x: jnp.ones_like(x), jnp.ones(slow.most_parameters + 1))
    assert ask(slow, many, patience=1).refused is None


def test_asking_leaves_the_precision_of_the_caller_alone():
    ask(CHECKERS[1], problem(CORRECT, "float64"), patience=60)
    assert not jax.config.jax_enable_x64


def bug(**answer):
    """A row about one bug, refused and named unless the answer says otherwise."""
    found = {"refused": True, "verdict": "FAIL", "located": True, "cause": "exact", **answer}
    return Row("jaxnet.verify f32", "dW_zero", "mutant", **found)


@pytest.mark.parametrize(
    ("row", "missed_target"),
    [
        (bug(verdict="PASS", refused=False), "every visible bug refused"),
        (bug(located=False), "its leaves named"),
        (bug(cause="none"), "cause exact in 80% of the nameable"),
        (bug(cause="wrong"), "no wrong cause named"),
        (Row("jaxnet.verify f32", "has_aux", "tricky", verdict="FAIL"), "no correct gradient fails"),
        (Row("jaxnet.verify f32", "has_aux", "tricky", verdict="ERROR"), "no correct gradient fails"),
        (Row("jaxnet.verify f32", "has_aux", "tricky", verdict="INCONCLUSIVE"), "verdicts as expected"),
    ],
)
def test_a_missed_target_is_seen(row, missed_target):
    fine = [bug(), Row("jaxnet.verify f32", "has_aux", "tricky", verdict="PASS")]
    assert all(target["held"] for target in judge(fine, {}).values())
    assert not judge([*fine, row], {})[missed_target]["held"]


def test_a_target_of_which_nothing_was_asked_is_not_held():
    assert judge([], {}) == {}
    assert list(judge([Row("jaxnet.verify f32", "has_aux", "tricky", verdict="PASS")], {})) == [
        "no correct gradient fails", "verdicts as expected",
    ]  # fmt: skip
    nothing = run(Config(quick=True, peers=False, dtypes=("float32",), cases=("rare_branch",)))
    assert not nothing.held and "0 of 0 targets" in nothing.claim


def test_a_slow_check_and_a_dear_failure_are_seen():
    held = [t["held"] for t in judge([], {"parameters": 2_000_000, "pass": 6.0, "fail": {"x": 9.0}}).values()]
    assert held[-2:] == [False, False]


def test_the_questions_cover_the_targets():
    ours = CHECKERS[0]
    assert {(size, scale) for size in ("small", "large") for scale in (1.0, 1e-6, 1e6)} <= set(
        settings(ours, "dW_zero", Config())
    )
    assert missed([bug(), bug(refused=False)], ours, "small", 1.0) == (1, 2)


@pytest.mark.slow
def test_the_quick_comparison_holds_its_targets():
    result = run(Config(quick=True, peers=False))
    assert result.held, result.metrics["off"]
    assert np.isfinite([row["seconds"] for row in result.metrics["rows"]]).all()

"""The comparison itself: the checkers are tried fairly, and a criterion that is missed is seen."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

from experiments import verifier
from experiments.runner import experiment
from experiments.verifier import __main__ as comparison
from experiments.verifier.acceptance import criteria
from experiments.verifier.backward import CORRECT, plain_loss
from experiments.verifier.checkers import CHECKERS, Checker, check
from experiments.verifier.correct import Problem
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.points import small
from experiments.verifier.results import missed_bugs
from experiments.verifier.trials import Config, Trial, settings

README = Path(verifier.__file__).parent / "README.md"
OFTEN = ("jaxnet.verify f32", "check_grads f32")  # the others are slow
INSTALLED = [
    pytest.param(checker, id=checker.name, marks=() if checker.name in OFTEN else pytest.mark.slow)
    for checker in CHECKERS
    if checker.installed
]


def problem(gradient, dtype):
    """The small net's loss with this gradient, in the checker's own dtype."""
    with jax.enable_x64(dtype == "float64"):
        params, X, Y = small(jax.random.key(0), dtype)
    return Problem(plain_loss, gradient, params, (X, Y))


@pytest.mark.parametrize("checker", INSTALLED)
def test_a_checker_accepts_the_correct_gradient_and_refuses_a_wrong_sign(checker):
    wrong = check(checker, problem(MUTANTS["delta_Y_minus_A"].gradient, checker.dtype), timeout=60)
    assert wrong.refused, wrong.message
    right = check(checker, problem(CORRECT, checker.dtype), timeout=60)
    # chex's default, 1e-6 of each entry, rejects correct float32 gradients: that is a result, not a mistake here.
    assert not right.refused or checker.name == "chex f32", right.message
    assert not jax.config.jax_enable_x64


def test_a_checker_that_needs_too_many_losses_is_not_tried():
    slow = next(checker for checker in CHECKERS if checker.name == "classroom formula f64")
    many = Problem(lambda x: jnp.sum(x), lambda x: jnp.ones_like(x), jnp.ones(slow.max_parameters + 1))
    assert check(slow, many, timeout=1).refused is None


def test_a_check_leaves_the_precision_of_the_caller_alone():
    def dtype(problem):
        raise AssertionError(str(problem.params.dtype))

    outcome = check(Checker("stub", dtype, "float64", "-"), Problem(jnp.sum, jnp.ones_like, jnp.ones(2)), timeout=60)
    assert outcome.refused and outcome.message == "AssertionError: float64"
    assert not jax.config.jax_enable_x64


def bug(**outcome):
    """A trial of one bug, refused and named unless the outcome is another."""
    found = {"refused": True, "verdict": "FAIL", "located": True, "cause": "exact", **outcome}
    return Trial("jaxnet.verify f32", "dW_zero", "mutant", **found)


@pytest.mark.parametrize(
    ("trial", "missed"),
    [
        (bug(verdict="PASS", refused=False), "every visible bug refused"),
        (bug(located=False), "its leaves named"),
        (bug(cause="none"), "cause exact in 80% of the nameable"),
        (bug(cause="wrong"), "no wrong cause named"),
        (Trial("jaxnet.verify f32", "has_aux", "tricky", verdict="FAIL"), "no correct gradient fails"),
        (Trial("jaxnet.verify f32", "has_aux", "tricky", verdict="ERROR"), "no correct gradient fails"),
        (Trial("jaxnet.verify f32", "has_aux", "tricky", verdict="INCONCLUSIVE"), "verdicts as expected"),
    ],
)
def test_a_missed_criterion_is_seen(trial, missed):
    fine = [bug(), Trial("jaxnet.verify f32", "has_aux", "tricky", verdict="PASS")]
    assert all(criterion["held"] for criterion in criteria(fine, {}).values())
    assert not criteria([*fine, trial], {})[missed]["held"]


def test_a_criterion_of_which_nothing_was_tried_is_not_held():
    assert criteria([], {}) == {}
    assert list(criteria([Trial("jaxnet.verify f32", "has_aux", "tricky", verdict="PASS")], {})) == [
        "no correct gradient fails", "verdicts as expected",
    ]  # fmt: skip
    nothing = experiment.run(comparison, Config(quick=True, peers=False, dtypes=("float32",), cases=("rare_branch",)))
    assert not nothing.held and "0 of 0 acceptance criteria" in nothing.claim


def test_a_slow_check_and_a_failure_that_costs_more_than_a_pass_are_seen():
    timing = {"parameters": 2_000_000, "pass": 6.0, "fail": {"x": 9.1}}
    assert [bool(criterion["held"]) for criterion in criteria([], timing).values()] == [False, False]


def test_a_criterion_says_how_much_it_asks_and_how_much_was_found():
    """Of trials their number, of causes the share, of times the seconds and the ratio."""
    trials = [bug(), bug(), bug(), bug(), bug(cause="none")]
    timing = {"parameters": 2_000_000, "pass": 2.0, "fail": {"x": 2.5}}
    found = {name: criterion["held"] for name, criterion in criteria(trials, timing).items()}
    assert found == {
        "every visible bug refused": (5, "≥", 5),
        "its leaves named": (5, "≥", 5),
        "no wrong cause named": (5, "≥", 5),
        "cause exact in 80% of the nameable": (0.8, "≥", 0.8),
        "2,000,000 parameters under 5 s, cold": (2.0, "<", 5.0),
        "a failure costs at most 1.5 of a pass": (1.25, "≤", 1.5),
    }


def test_the_trials_cover_the_criteria():
    ours = CHECKERS[0]
    assert {(size, scale) for size in ("small", "large") for scale in (1.0, 1e-6, 1e6)} <= set(
        settings(ours, "dW_zero", Config())
    )
    assert missed_bugs([bug(), bug(refused=False)], ours, "small", 1.0) == (1, 2)


@pytest.mark.slow
def test_the_quick_comparison_meets_its_criteria():
    result = experiment.run(comparison, Config(quick=True, peers=False))
    assert result.held, result.metrics["failures"]
    assert np.isfinite([trial["seconds"] for trial in result.metrics["trials"]]).all()


def test_the_notes_of_the_folder_name_its_files_and_commands():
    text = README.read_text()
    assert set(re.findall(r"^\| \[(\w+\.py)\]", text, re.MULTILINE)) == {
        path.name for path in README.parent.glob("[a-z]*.py")
    }
    for words in re.findall(r"^python -m experiments.verifier([^#\n]*)", text, re.MULTILINE):
        assert tyro.cli(Config, args=words.split())

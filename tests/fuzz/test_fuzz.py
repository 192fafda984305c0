"""Whatever is given to a public function: the right answer, or a refusal in our own words that names the argument."""

import inspect
from collections import Counter
from functools import partial

import jax
import numpy as np
import pytest

import jaxnet
import tests.fuzz.calls  # noqa: F401 - enters the cases
from tests import oracle
from tests.fuzz.__main__ import Tally, line
from tests.fuzz.cases import DRAWN, case, function_of
from tests.fuzz.networks import NETS, Problem, point
from tests.fuzz.outcomes import CLASSES, Outcome
from tests.fuzz.process import run

CALLS, SEED = 500, 1
COMPILED = ("train_step", "fit", "sweep", "init", "per_example_grads", "check_gradients", "check_vjp")
PLANTED = {  # the functions of planted.py, and the class of what comes back
    "answers": "RIGHT",
    "answers wrongly": "SILENT",
    "answers what is wrong": "SILENT",
    "names X": "OURS",
    "refuses what is right": "REFUSED",
    "names another": "BARE",
    "JAX refuses": "FOREIGN",
    "has no attribute": "BARE",
    "asserts": "BARE",
    "hangs": "BARE",
    "crashes": "BARE",
}


def indices(seed, drawn=DRAWN) -> dict[str, list[int]]:
    """The calls of each function."""
    found = {}
    for index in range(CALLS):
        found.setdefault(function_of(np.random.default_rng([seed, index]), drawn), []).append(index)
    return found


@pytest.mark.parametrize("compiled", [True, False])
def test_every_call_is_answered_rightly_or_refused_by_name(compiled):
    """In two halves, one for each core, so that each program is compiled in one of them only."""
    tally, bad = Tally(), []
    half = [i for function, own in indices(SEED).items() if (function in COMPILED) is compiled for i in own]
    for index, text, outcome in run(SEED, half):
        tally.add(outcome)
        if outcome.name not in ("RIGHT", "OURS"):
            bad.append(line(SEED, index, text, outcome))
    assert tally.passes, "\n".join([*bad, tally.table()])


@pytest.mark.parametrize("name", NETS)
def test_the_reference_is_the_oracle(name):
    """At ordinary points, where the oracle's loops do not overflow."""
    net, params, X, Y, weights = point(np.random.default_rng(5), name, 6)
    problem = Problem(net, params, np.dtype(float), X, Y, weights, eps=0.0)
    (want, want_dX), (got, _) = oracle.backward(params, X, Y, net.activations, net.loss, weights), problem.gradients()
    close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    close(problem.run().A[-1], oracle.forward(params, X, net.activations))
    close(problem.cost()[0], oracle.cost(params, X, Y, net.activations, net.loss, weights))
    close(got.X, want_dX)
    jax.tree.map(close, got.params, want)


def test_every_public_function_is_called():
    public = {name for name in jaxnet.__all__ if inspect.isfunction(inspect.unwrap(getattr(jaxnet, name)))}
    devices = {f"parallel.{name}" for name in jaxnet.parallel.__all__}
    devices -= {"parallel.start"}  # which makes this process one of several
    assert set(DRAWN) == {*public, *devices, "MLP", "fit of a stream"}


@pytest.mark.filterwarnings("ignore")  # NumPy deprecates its matrix
def test_a_call_is_the_same_each_time():
    texts = [case(3, index).text for index in range(40)]
    assert [case(3, index).text for index in reversed(range(40))] == texts[::-1]


def test_outcomes_are_told_apart():
    """A hang and a crash too, after which another process goes on."""
    first = [own[0] for own in indices(0, {name: (1, None) for name in PLANTED}).values()]
    found = {outcome.function: outcome.name for _, _, outcome in run(0, first, "tests.fuzz.planted", seconds=2)}
    assert found == PLANTED


@pytest.mark.parametrize(
    ("counts", "passes"),
    [
        ({"RIGHT": 40, "OURS": 60}, True),
        ({"RIGHT": 97, "FOREIGN": 3}, True),
        ({"RIGHT": 96, "FOREIGN": 2, "REFUSED": 2}, False),
        ({"RIGHT": 999, "BARE": 1}, False),
        ({"RIGHT": 999, "SILENT": 1}, False),
        ({}, False),
    ],
)
def test_what_passes(counts, passes):
    tally = Tally()
    for name in Counter(counts).elements():
        tally.add(Outcome("f", name, ""))
    assert tally.passes is passes and set(counts) <= set(CLASSES)

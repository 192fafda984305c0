"""Four ways to put examples through a network."""

import numpy as np
import pytest

from experiments.vectorization import __main__ as vectorization
from experiments.vectorization import implementations
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure


@pytest.fixture(scope="module")
def found():
    return measure(vectorization, quick=True)


def test_four_ways(found):
    result = assert_it_runs(vectorization, found)
    assert result.held
    differences = result.metrics["relative_difference_from_matrix_form"]
    assert set(differences) == set(implementations.NAMES)
    assert max(max(pair.values()) for pair in differences.values()) < 2e-14
    assert result.metrics["relative_difference_of_mean_per_example_gradient"] < 2e-14
    seconds = result.metrics["seconds"]
    assert list(seconds) == [f"{what}, m = {m}" for what in ("forward", "gradient") for m in ("1", "31", "1,000")]
    assert all(list(times) == list(implementations.NAMES) and min(times.values()) > 0 for times in seconds.values())


def test_each_clause_can_fail(found):
    slow = found["times"]["gradient"] | {"matrix form": found["times"]["gradient"]["examples"]}
    assert_each_clause_can_fail(
        vectorization,
        found,
        {
            "difference_of_predictions": {"differences": {"vmap": [1e-9, 0.0]}},
            "difference_of_gradients": {"differences": {"examples": [0.0, 1e-9]}},
            "difference_of_the_mean_over_examples": {"mean of each": 1e-9},
            "speedup_of_the_matrix_form": {"times": {"gradient": slow}},
        },
    )


def test_a_loop_that_forgets_the_last_example_fails(monkeypatch):
    whole = implementations.GRADIENTS["units and examples"]

    def shortened(params, X, Y):
        return whole(params, X[:, :-1], Y[:, :-1]) if X.shape[1] > 1 else whole(params, X, Y)

    monkeypatch.setitem(implementations.GRADIENTS, "units and examples", shortened)
    clauses = vectorization.clauses(measure(vectorization, largest=10))
    assert not clauses["difference_of_gradients"] and clauses["difference_of_predictions"]


def test_largest_is_always_among_the_sizes():
    assert measure(vectorization, largest=25)["counts"] == [1, 10, 25]
    assert np.log10(vectorization.Config().largest) == 5

"""Derivatives at every node of the graph."""

import jax
import numpy as np
import pytest

from experiments import backpropagation
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure


@pytest.fixture(scope="module")
def found():
    return measure(backpropagation, quick=True)


def test_every_node(found):
    result = assert_it_runs(backpropagation, found)
    assert result.held
    assert set(result.metrics["difference_from_autodiff"]) == set(found["values"])
    assert max(result.metrics["difference_from_autodiff"].values()) < 1e-14
    descent = result.metrics["descent"]
    assert descent["difference_from_fit"] < 1e-12 and descent["last_cost"] < 0.5 * descent["first_cost"]


def test_each_clause_can_fail(found):
    costs = found["descent"]["the six formulas"]
    assert_each_clause_can_fail(
        backpropagation,
        found,
        {
            "difference_of_a_derivative_from_autodiff": {
                "derivatives": {"z1": 2 * np.asarray(found["derivatives"]["z1"])}
            },
            "difference_from_backward_of_jaxnet": {"jaxnet": {"x": np.asarray(found["jaxnet"]["x"]) + 1e-9}},
            "difference_of_the_costs_from_fit": {"descent": {"jaxnet.fit": costs + 1e-6}},
            "change_of_the_cost_in_a_step": {"descent": {"the six formulas": np.append(costs[:-1], costs[-2])}},
            "accuracy": {"descent": {"accuracy": 0.8}},
        },
    )


def test_a_wrong_derivative_in_the_graph_is_seen(found):
    """dz[1] is not passed on to W[1], b[1] and x."""
    wrong = jax.tree.map(np.asarray, found["derivatives"]) | {"W1": np.zeros((3, 2)), "x": np.zeros((2, 1))}
    clauses = backpropagation.clauses(found | {"derivatives": wrong})
    assert not clauses["difference_of_a_derivative_from_autodiff"] and not clauses["difference_from_backward_of_jaxnet"]

"""Slopes of the activations, and what trains ahead of what."""

import jax
import numpy as np
import pytest

from experiments import activations
from jaxnet.activations import ACTIVATIONS
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick


@pytest.fixture(scope="module")
def curves():
    by_activation = activations.evaluate(tuple(ACTIVATIONS[name] for name in activations.NAMES), activations.Z)
    return dict(zip(activations.NAMES, jax.device_get(by_activation), strict=True))


@pytest.fixture
def ideal(curves):
    """The real slopes, beside made-up costs and gradients of which every clause holds."""
    costs = {
        "shallow": {"sigmoid": 0.6, "tanh": 0.2, "relu": 0.1},
        "deep": {"sigmoid": 2.3, "tanh": 0.1, "relu": 0.03},
    }
    return {
        "config": activations.Config(),
        "curves": curves,
        "costs": {depth: {name: np.full((2, 5), J) for name, J in by.items()} for depth, by in costs.items()},
        "gradient_norms_by_layer": {"sigmoid": [0.001, 1.0], "tanh": [0.5, 1.0], "relu": [0.7, 1.0]},
    }


def test_a_small_run(monkeypatch):
    """One of the six nets is trained, for each compiles a program of its own."""
    train = activations.costs
    monkeypatch.setattr(
        activations,
        "costs",
        lambda config, optimizer, net, *data: (
            train(config, optimizer, net, *data)
            if net == activations.network("tanh", 1)
            else np.ones((config.seeds, config.epochs))
        ),
    )
    found = measure(activations, deep=2, epochs=1, seeds=1)
    assert found["costs"]["shallow"]["tanh"].shape == (1, 1) and 1 < found["costs"]["shallow"]["tanh"][0, 0] < 3
    result = assert_it_runs(activations, found)
    assert result.clauses["slopes_equal_those_of_the_notes"] and result.clauses["slopes_equal_those_of_autodiff"]
    slopes = {name: list(at.values()) for name, at in result.metrics["slopes"].items()}
    assert list(result.metrics["slopes"]["tanh"]) == ["z = -10", "z = 0", "z = 10"]
    np.testing.assert_allclose(slopes["sigmoid"], [0, 1 / 4, 0], atol=1e-4)
    np.testing.assert_allclose(slopes["tanh"], [0, 1, 0], atol=1e-6)
    assert slopes["relu"] == [0, 0, 1]
    assert set(slopes) == set(ACTIVATIONS) - {"softmax"}
    assert [len(norms) for norms in result.metrics["gradient_norms_by_layer"].values()] == [3, 3, 3]


def test_each_clause_can_fail(ideal):
    wrong_tanh = ideal["curves"]["tanh"]._replace(slope=1 - ideal["curves"]["tanh"].value)  # right at 0, wrong at -10
    assert_each_clause_can_fail(
        activations,
        ideal,
        {
            "slopes_equal_those_of_the_notes": {"curves": {"tanh": wrong_tanh}},
            "slopes_equal_those_of_autodiff": {"curves": {"tanh": wrong_tanh}},
            "cost_of_tanh_over_that_of_sigmoid": {"costs": {"shallow": {"tanh": np.full((2, 5), 0.7)}}},
            "cost_of_relu_on_the_deep_network": {"costs": {"deep": {"relu": np.full((2, 5), 0.2)}}},
            "share_of_the_gradient_left_by_sigmoid": {"gradient_norms_by_layer": {"sigmoid": [0.2, 1.0]}},
            "share_left_by_tanh_and_relu": {"gradient_norms_by_layer": {"relu": [0.05, 1.0]}},
        },
    )


@pytest.mark.slow
def test_slopes_and_training(tmp_path):
    found = quick("activations", tmp_path)
    assert 2 * found["last_cost"]["shallow"]["tanh"] < found["last_cost"]["shallow"]["sigmoid"]
    assert found["last_cost"]["deep"]["relu"] < found["last_cost"]["deep"]["tanh"]
    assert found["first_layer_gradient_over_last"]["sigmoid"] < 0.05

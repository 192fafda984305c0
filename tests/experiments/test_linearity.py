"""Deep networks of identity layers are one layer."""

import jax
import numpy as np
import optax
import pytest

from experiments import linearity
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick


@pytest.fixture(scope="module")
def found():
    """Two depths, short of the least cost."""
    return measure(linearity, depths=(2, 5), steps=50)


@pytest.fixture
def ideal(found):
    """The same, as if the two tanh layers had been trained to the end."""
    return found | {"tanh": found["tanh"] | {"accuracy": 1.0}}


def test_a_small_run(found):
    result = assert_it_runs(linearity, found)
    assert list(result.metrics["identity_layers"]) == [2, 5]
    assert all(net["relative_difference_from_one_layer"] <= 1e-12 for net in result.metrics["identity_layers"].values())


def test_a_line_short_of_the_least_cost_may_be_right_more_often(found):
    """Logistic regression has the least cost, not the most points right; of accuracy only the best line is a bound."""
    clauses = linearity.clauses(found)
    assert linearity.most_right(found) > found["logistic_regression"]["accuracy"]
    assert clauses["accuracy"]
    assert clauses["lowest_cost"]


def test_each_clause_can_fail(ideal):
    deepest = ideal["identity"][5]
    assert_each_clause_can_fail(
        linearity,
        ideal,
        {
            "difference_of_identity_layers_from_one_layer": {"differences": {2: 1e-6}},
            "lowest_cost": {"identity": {5: deepest | {"costs": np.array([0.01])}}},
            "accuracy": {"identity": {5: deepest | {"accuracy": 0.99}}},
            "accuracy_with_tanh": {"tanh": {"accuracy": 0.99}},
        },
    )


def test_layers_that_bend_are_seen(found):
    """tanh in the place of identity: less cost and more right than any line, and not W'x + b'."""
    config = linearity.Config(steps=500)
    with jax.numpy_dtype_promotion("standard"):
        bent = linearity.train(config, optax.adam(config.learning_rate), "tanh", 2, *found["data"])
    difference = linearity.difference_from_one_layer(bent["net"], bent["params"], found["data"][0])
    clauses = linearity.clauses(found | {"identity": {2: bent}, "differences": {2: difference}, "tanh": bent})
    assert [name for name, clause in clauses.items() if clause] == ["accuracy_with_tanh"]


def test_a_collapsed_layer_without_its_biases_is_seen(found, monkeypatch):
    product, net = linearity.one_layer, found["identity"][2]
    monkeypatch.setattr(linearity, "one_layer", lambda params: product(params)._replace(b=params[-1].b))
    assert linearity.difference_from_one_layer(net["net"], net["params"], found["data"][0]) > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_the_best_line_is_that_of_a_fine_sweep(seed):
    random = np.random.default_rng(seed)
    X, Y = random.standard_normal((2, 11)), random.integers(0, 2, (1, 11)).astype(float)
    most = 0
    for angle in np.linspace(0, 2 * np.pi, 5000):
        order = np.argsort(np.cos(angle) * X[0] + np.sin(angle) * X[1])
        signs = np.where(Y[0, order] == 1, 1, -1)
        right = [(signs[:k] == -1).sum() + (signs[k:] == 1).sum() for k in range(12)]
        most = max(most, *right)
    assert linearity.best_line(X, Y) == most / 11


@pytest.mark.slow
def test_one_layer_and_no_better(tmp_path):
    found = quick("linearity", tmp_path)
    line, bent, best = found["logistic_regression"], found["two_tanh_layers"], found["accuracy_of_the_best_line"]
    assert bent["accuracy"] == 1 and bent["cost"] < line["cost"] / 10
    assert list(found["identity_layers"]) == ["1", "2"]
    for net in found["identity_layers"].values():
        assert net["relative_difference_from_one_layer"] <= 1e-12
        assert net["lowest_cost"] == pytest.approx(line["cost"], abs=1e-3)  # they have converged, and so
        assert net["accuracy"] == line["accuracy"] < best < 0.95

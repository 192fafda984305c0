"""Linear and relu outputs on prices."""

import numpy as np
import pytest

from experiments import house_prices
from jaxnet import datasets
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, merged, quick

TRUTH = np.array([100.0, 10.0, 0.0])  # three houses: dear, cheap and worthless
OFF = {"ridge": -50.0, "linear": -50.0, "linear, hidden layer": -20.0, "relu": 1.0, "relu, hidden layer": 1.0}


def split(effect=1.0, **off):
    """One split's outcome: predictions that are off by so much, effects that are all the same."""
    models = {
        model: {"predicted": TRUTH + distance, "effect": np.full(4, effect)} for model, distance in (OFF | off).items()
    }
    return {"truth": TRUTH, "known": np.ones(4), **models}


def predictions(**predicted):
    """One split's outcome: predictions are right unless given."""
    return {"truth": TRUTH} | {
        model: {"predicted": np.array(predicted.get(model, TRUTH))} for model in house_prices.COLOURS
    }


def test_a_small_run(monkeypatch):
    """Two of the eight nets are trained, for each compiles a program of its own."""
    train = house_prices.train

    def one_layer_of_houses(config, optimizer, net, split, seed):
        if net.sizes == (4, 1):
            return train(config, optimizer, net, split, seed)
        return {"predicted": np.ones(split.Y_test.shape[1])}

    monkeypatch.setattr(house_prices, "train", one_layer_of_houses)
    found = measure(house_prices, houses=100, splits=1, epochs=1)
    result = assert_it_runs(house_prices, found)
    for lowest in result.metrics["lowest_prediction"].values():
        assert min(lowest["relu"], lowest["relu, hidden layer"]) >= 0
    assert set(result.metrics["effect_of_one_standard_deviation"]) == set(datasets.HOUSE_FEATURES)


def test_each_clause_can_fail():
    patients = split(ridge=50.0, linear=50.0)
    assert_each_clause_can_fail(
        house_prices,
        {"houses": [split(), split()], "diabetes": [patients]},
        {
            "lowest_prediction_of_relu": {"houses": [split(relu=-1.0)]},
            "ridge_and_linear_outputs_price_houses_below_zero": {"houses": [split(linear=1e3)]},
            "relu_is_nearer_on_those_houses": {"houses": [split(relu=1e3)]},
            "error_of_relu": {"houses": [split(relu=60.0)]},
            "error_of_relu_with_a_hidden_layer": {"houses": [split(**{"relu, hidden layer": 1e3})]},
            "distance_from_the_known_weights": {"houses": [split(effect=7.0)]},
            "error_of_one_layer_on_patients": {"diabetes": [split(ridge=10.0, linear=50.0)]},
        },
    )


def test_errors_are_compared_on_the_houses_below_zero():
    splits = [predictions(linear=[90.0, -20.0, -40.0], relu=[0.0, 10.0, 4.0]), predictions(linear=[0.0, 1.0, -40.0])]
    there = house_prices.where_negative("linear", "relu", splits)
    assert there == {"houses": 3, "error": pytest.approx(np.sqrt((30**2 + 40**2 + 40**2) / 3)),
                     "relu_error": pytest.approx(np.sqrt(4**2 / 3))}  # fmt: skip
    none = house_prices.where_negative("ridge", "relu", splits)
    assert none == {"houses": 0, "error": None, "relu_error": None}
    assert house_prices.in_words({"ridge": none}) == "none by ridge"


def test_a_planted_value_leaves_the_others():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


@pytest.mark.slow
def test_prices_below_zero(tmp_path):
    found = quick("house_prices", tmp_path)
    below_zero, errors = found["test_houses_priced_below_zero"], found["root_mean_squared_test_error"]
    assert list(below_zero) == ["ridge", "linear", "linear, hidden layer"]
    for there in below_zero.values():
        assert 0 < there["houses"] < 50 and there["relu_error"] < 0.5 * there["error"]
    for lowest in found["lowest_prediction"].values():
        assert min(lowest["relu"], lowest["relu, hidden layer"]) >= 0
    assert found["lowest_prediction"]["houses"]["linear"] < -50
    assert errors["houses"]["relu"] < 0.8 * errors["houses"]["ridge"]  # near the noise, 20 thousand euros
    assert errors["diabetes"]["relu"] == pytest.approx(errors["diabetes"]["ridge"], rel=0.1)
    for effect in found["effect_of_one_standard_deviation"].values():
        assert effect["relu output"] == pytest.approx(effect["known"], abs=5)


def test_houses_are_as_documented():
    X, Y = datasets.house_prices(20_000, seed=3)
    assert X.shape == (4, 20_000) and Y.shape == (1, 20_000) and Y.min() == 0
    dear = Y[0] > 100  # far from the kink the price is linear, up to the noise
    design = np.vstack([X, np.ones(X.shape[1])])
    worth = np.array([[*datasets.HOUSE_WEIGHTS, datasets.HOUSE_BASE]]) @ design
    assert np.std((Y - worth)[0, dear]) == pytest.approx(datasets.HOUSE_NOISE, rel=0.1)
    assert np.array_equal(datasets.house_prices(50, seed=3)[1], datasets.house_prices(50, seed=3)[1])
    assert not np.array_equal(datasets.house_prices(50, seed=3)[1], datasets.house_prices(50, seed=4)[1])


def test_a_regression_split_keeps_units_apart():
    X, Y = datasets.diabetes()
    assert X.shape == (10, 442) and (Y.min(), Y.max()) == (25, 346)
    parts = datasets.regression_split(X, Y, seed=1)
    np.testing.assert_allclose(parts.X.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(parts.X.std(axis=1), 1)
    assert sorted([*parts.Y[0], *parts.Y_test[0]]) == sorted(Y[0])
    assert parts.X_test.shape == (10, 88)

"""The experiments on the notes' sections 1 to 9 hold their claims, number by number; with a piece broken they fail."""

import dataclasses

import numpy as np
import pytest

from experiments import (
    activations,
    backpropagation,
    experiment,
    house_prices,
    linearity,
    representation,
    vectorization,
    ways,
)
from jaxnet import datasets
from jaxnet.activations import ACTIVATIONS

MODULES = (representation, vectorization, activations, linearity, house_prices, backpropagation)
pytestmark = pytest.mark.usefixtures("implicit_promotion")  # Adam's


@pytest.fixture(scope="module")
def metrics(request):
    """What each experiment measures with --quick, run once and only when it is asked for."""
    found = {}

    def of(module):
        if module not in found:
            found[module] = module.run(module.Config(quick=True))
            assert found[module].held, found[module].metrics["clauses"]
        return found[module].metrics

    return of


def test_representation_one_example_twice(metrics):
    found = metrics(representation)
    assert found["largest_difference"] <= 1e-15
    assert [len(layer) for layer in found["z"]] == [4, 1] and len(found["x"]) == 3
    for z, a in zip(found["z"], found["a"], strict=True):
        np.testing.assert_allclose(a, 1 / (1 + np.exp(-np.array(z))), rtol=1e-14)


def test_representation_of_large_numbers():
    """Where e^-z overflows σ is still 0 or 1; where even z does, nothing is said to be equal."""
    large = representation.run(representation.Config(seed=3, scale=50.0))
    assert large.held and max(large.metrics["z"][0]) > 1000 and large.metrics["a"][0] == [1, 0, 0, 1]
    with np.errstate(invalid="ignore", over="ignore"):
        infinite = representation.run(representation.Config(scale=1e200))
    assert not infinite.held and np.isnan(infinite.metrics["largest_difference"])


def test_vectorization_four_ways(metrics):
    found = metrics(vectorization)
    differences = found["relative_difference_from_matrix_form"]
    assert set(differences) == set(ways.WAYS)
    assert max(max(pair.values()) for pair in differences.values()) < 2e-14
    assert found["relative_difference_of_mean_per_example_gradient"] < 2e-14
    assert list(found["seconds"]) == [f"{what}, m = {m}" for what in ("forward", "gradient") for m in ("1", "1,000")]
    assert all(list(times) == list(ways.WAYS) and min(times.values()) > 0 for times in found["seconds"].values())


@pytest.mark.slow
def test_activations_slopes_and_training(metrics):
    found = metrics(activations)
    assert list(found["slopes"]["tanh"]) == ["z = -10", "z = 0", "z = 10"]
    slopes = {name: list(at.values()) for name, at in found["slopes"].items()}
    np.testing.assert_allclose(slopes["sigmoid"], [0, 1 / 4, 0], atol=1e-4)
    np.testing.assert_allclose(slopes["tanh"], [0, 1, 0], atol=1e-6)
    assert slopes["relu"] == [0, 0, 1]
    assert set(slopes) == set(ACTIVATIONS) - {"softmax"}
    assert 2 * found["last_cost"]["shallow"]["tanh"] < found["last_cost"]["shallow"]["sigmoid"]
    assert found["last_cost"]["deep"]["relu"] < found["last_cost"]["deep"]["tanh"]
    assert found["first_layer_gradient_over_last"]["sigmoid"] < 0.05


def test_linearity_one_layer_and_no_better(metrics):
    found = metrics(linearity)
    line, bent, best = found["logistic_regression"], found["two_tanh_layers"], found["accuracy_of_the_best_line"]
    assert bent["accuracy"] == 1 and bent["cost"] < line["cost"] / 10
    assert list(found["identity_layers"]) == [1, 4]
    for net in found["identity_layers"].values():
        assert net["relative_difference_from_one_layer"] <= 1e-12
        assert net["lowest_cost"] == pytest.approx(line["cost"], abs=1e-3)  # they have converged, and so
        assert net["accuracy"] == line["accuracy"] < best < 0.95


def test_a_line_short_of_the_least_cost_may_be_right_more_often(metrics):
    """Logistic regression has the least cost, not the most points right; of accuracy only the best line is a bound."""
    result = linearity.run(linearity.Config(depths=(1, 2, 3, 4, 5), steps=50))
    clauses, nets = result.metrics["clauses"], result.metrics["identity_layers"].values()
    assert max(net["accuracy"] for net in nets) > result.metrics["logistic_regression"]["accuracy"]
    assert clauses["none_is_right_more_often_than_the_best_line"]
    assert clauses["their_cost_is_never_below_logistic_regressions"]


def test_layers_that_bend_fail(monkeypatch):
    """tanh in the place of identity: less cost and more right than any line."""
    train = linearity.train
    monkeypatch.setattr(
        linearity, "train", lambda config, optimizer, hidden, *others: train(config, optimizer, "tanh", *others)
    )
    clauses = linearity.run(linearity.Config(depths=(2,), steps=500)).metrics["clauses"]
    assert clauses == dict.fromkeys(clauses, False) | {"tanh_separates": True}


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
def test_house_prices_below_zero(metrics):
    found = metrics(house_prices)
    below_zero, errors = found["test_houses_priced_below_zero"], found["root_mean_squared_test_error"]
    assert list(below_zero) == ["ridge", "linear", "linear, hidden layer"]
    for there in below_zero.values():
        assert 0 < there["houses"] < 50 and there["relu_error"] < 0.5 * there["error"]
    for lowest in found["lowest_prediction"].values():
        assert min(lowest["relu"], lowest["relu, hidden layer"]) >= 0
    assert found["lowest_prediction"]["houses"]["linear"] < -50
    assert errors["houses"]["relu"] < 0.8 * errors["houses"]["ridge"]  # near the noise, 20 thousand euros
    assert errors["diabetes"]["relu"] == pytest.approx(errors["diabetes"]["ridge"], rel=0.1)
    for effect in found["effect_of_one_deviation"].values():
        assert effect["relu output"] == pytest.approx(effect["known"], abs=5)


def house_run(**predicted):
    """Three houses, dear, cheap and worthless, as a split's outcome; predictions are right unless given."""
    truth = np.array([100.0, 10.0, 0.0])
    return {"truth": truth} | {
        model: {"predicted": np.array(predicted.get(model, truth))} for model in house_prices.COLOURS
    }


def test_errors_are_compared_on_the_houses_below_zero():
    runs = [house_run(linear=[90.0, -20.0, -40.0], relu=[0.0, 10.0, 4.0]), house_run(linear=[0.0, 1.0, -40.0])]
    there = house_prices.where_negative("linear", "relu", runs)
    assert there == {"houses": 3, "error": pytest.approx(np.sqrt((30**2 + 40**2 + 40**2) / 3)),
                     "relu_error": pytest.approx(np.sqrt(4**2 / 3))}  # fmt: skip
    none = house_prices.where_negative("ridge", "relu", runs)
    assert none == {"houses": 0, "error": None, "relu_error": None}
    assert house_prices.in_words("ridge", none) == "none by ridge"


@pytest.mark.parametrize(
    ("spoilt", "clause"),
    [
        ({"relu": 1e3}, "relu_is_nearer_on_those_houses"),
        ({"linear": 1e3}, "ridge_and_linear_outputs_price_houses_below_zero"),
        ({"relu": -1.0}, "relu_outputs_predict_nothing_below_zero"),
        ({"relu, hidden layer": 1e3}, "with_one_it_is_at_most_5%_worse"),
    ],
)
def test_a_relu_net_that_errs_fails(monkeypatch, spoilt, clause):
    """Each model's predictions are made up: linear ones below zero, and what is spoilt off by a million euros."""
    off = {"ridge": -50.0, "linear": -50.0, "linear, hidden layer": -20.0, "relu": 1.0, "relu, hidden layer": 1.0}

    def measured(config, optimizer, split, seed):
        runs = {"truth": split.Y_test[0], "known": np.ones(4)}
        for model, distance in (off | spoilt).items():
            predicted = split.Y_test[0] + distance
            runs[model] = {
                "predicted": predicted,
                "effect": np.ones(4),
                "error": house_prices.error(predicted, runs["truth"]),
            }
        return runs

    monkeypatch.setattr(house_prices, "measure", measured)
    assert not house_prices.run(house_prices.Config(quick=True)).metrics["clauses"][clause]
    monkeypatch.setitem(spoilt, next(iter(spoilt)), off[next(iter(spoilt))])
    assert house_prices.run(house_prices.Config(quick=True)).held


def test_backpropagation_every_node(metrics):
    found = metrics(backpropagation)
    assert set(found["difference_from_autodiff"]) == set(backpropagation.PLACES) - {"y"}
    assert max(found["difference_from_autodiff"].values()) < 1e-14
    assert found["descent"]["difference_from_fit"] < 1e-12
    assert found["descent"]["last_cost"] < 0.5 * found["descent"]["first_cost"]


def test_a_unit_without_its_bias_fails(monkeypatch):
    unit = representation.unit
    monkeypatch.setattr(representation, "unit", lambda w, a_prev, b: unit(w, a_prev, 0.0))
    result = representation.run(representation.Config())
    assert not result.held and not result.metrics["clauses"]["unit_by_unit_equals_matrix_form"]


def test_a_loop_that_forgets_the_last_example_fails(monkeypatch):
    whole = ways.GRADIENTS["units and examples"]
    monkeypatch.setitem(
        ways.GRADIENTS, "units and examples", lambda params, X, Y: whole(params, X[:, :-1] if X.shape[1] > 1 else X, Y)
    )
    monkeypatch.setattr(ways, "zip", lambda *parts, strict=False: zip(*parts, strict=False), raising=False)
    result = vectorization.run(vectorization.Config(largest=10))
    assert not result.held and not result.metrics["clauses"]["the_same_gradient"]


def test_a_wrong_slope_fails(monkeypatch):
    """tanh' = 1 - A: right at 0, wrong at -10; training is left out, its costs are made up."""
    wrong = ACTIVATIONS["tanh"]._replace(derivative=lambda Z, A: 1 - A)
    monkeypatch.setitem(activations.ACTIVATIONS, "tanh", wrong)
    monkeypatch.setattr(activations, "train", lambda *arguments: np.ones((2, 20)))
    monkeypatch.setattr(activations, "gradient_norms", lambda *arguments: [1.0, 1.0])
    clauses = activations.run(activations.Config(quick=True)).metrics["clauses"]
    assert not any(clauses.values())


def test_a_collapsed_layer_without_its_bias_fails(monkeypatch):
    product = linearity.one_layer
    monkeypatch.setattr(linearity, "one_layer", lambda params: product(params)._replace(b=params[-1].b))
    clauses = linearity.run(linearity.Config(depths=(2,), steps=50)).metrics["clauses"]
    assert not clauses["identity_layers_are_one_layer"]


def test_a_wrong_derivative_in_the_graph_fails(monkeypatch):
    right = backpropagation.backwards
    monkeypatch.setattr(backpropagation, "backwards", lambda values, y: (d := right(values, y)) | {"z1": 2 * d["z1"]})
    result = backpropagation.run(backpropagation.Config(quick=True, steps=5))
    assert not result.held and not result.metrics["clauses"]["every_derivative_is_autodiffs"]


@pytest.mark.parametrize("module", MODULES)
def test_it_names_its_sections_and_claims_in_a_sentence(module):
    assert module.NOTES.startswith("section")
    assert module.__doc__.split("\n")[0].endswith(".")
    assert issubclass(module.Config, experiment.Config) and dataclasses.fields(module.Config)


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (representation, {"scale": 0.0}, "scale is 0.0; expected a finite number above 0"),
        (vectorization, {"largest": 0}, "largest is 0"),
        (activations, {"deep": 1}, "deep is 1; expected an integer of at least 2"),
        (linearity, {"depths": (0,)}, "depths is 0"),
        (linearity, {"learning_rate": -1.0}, "learning_rate is -1.0"),
        (house_prices, {"splits": 0}, "splits is 0"),
        (backpropagation, {"steps": 1}, "steps is 1"),
    ],
)
def test_bad_settings_are_named(module, settings, message):
    with pytest.raises(ValueError, match=message):
        module.run(module.Config(**settings))


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
    split = datasets.regression_split(X, Y, seed=1)
    np.testing.assert_allclose(split.X.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(split.X.std(axis=1), 1)
    assert sorted([*split.Y[0], *split.Y_test[0]]) == sorted(Y[0])
    assert split.X_test.shape == (10, 88)

"""The flower needs a hidden layer."""

import math

import pytest

from experiments import planar
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick


@pytest.fixture(scope="module")
def found():
    return measure(planar, hidden=(1, 4), steps=1500)


@pytest.fixture
def ideal(found):
    """The same, as if it had been trained to the end."""
    accuracies = {"logistic regression": 0.47, "n = 1": 0.67, "n = 4": 0.9}
    nets = {name: net | {"accuracy": accuracies[name], "costs": [0.7, 0.6, 0.5]} for name, net in found["nets"].items()}
    return found | {"nets": nets}


def test_a_small_run(found):
    result = assert_it_runs(planar, found)
    rows = result.metrics["accuracy_and_cost_after_steps"]
    assert list(rows) == ["logistic regression", "n = 1", "n = 4"]
    assert all(list(row) == ["accuracy", 0, 1000, 1500] for row in rows.values())
    assert rows["n = 4"][0] == pytest.approx(math.log(2), abs=0.01) and rows["n = 4"][1500] < rows["n = 4"][0]


def test_each_clause_can_fail(ideal):
    assert_each_clause_can_fail(
        planar,
        ideal,
        {
            "distance_of_logistic_regression_from_one_half": {"nets": {"logistic regression": {"accuracy": 0.7}}},
            "accuracy_of_4_units_or_more": {"nets": {"n = 4": {"accuracy": 0.8}}},
            "accuracy_of_2_units_or_fewer": {"nets": {"n = 1": {"accuracy": 0.9}}},
            "last_cost_over_the_first": {"nets": {"n = 1": {"costs": [0.7, 0.5, 0.7]}}},
        },
    )


@pytest.mark.slow
def test_the_flower_needs_a_hidden_layer(tmp_path):
    found = quick("planar", tmp_path)["accuracy_and_cost_after_steps"]
    accuracy = {net: row["accuracy"] for net, row in found.items()}
    assert 0.4 < accuracy["logistic regression"] < 0.6 < accuracy["n = 1"] < 0.75 < 0.85 < accuracy["n = 4"]
    assert next(iter(accuracy)) == "logistic regression"
    assert all(list(row) == ["accuracy", "0", "1000", "2000", "3000", "4000", "5000"] for row in found.values())
    assert found["n = 4"]["0"] == pytest.approx(math.log(2), abs=0.01) and found["n = 4"]["5000"] < 0.3

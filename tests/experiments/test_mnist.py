"""MNIST in both precisions, and a learning rate chosen without a test digit."""

import numpy as np
import optax
import pytest

from experiments import mnist
from jaxnet import datasets
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick

pytestmark = pytest.mark.usefixtures("implicit_promotion")


@pytest.fixture(scope="module")
def found():
    return measure(mnist, epochs=1, seeds=1, learning_rates=(3e-3,), target=0.5)


def test_a_small_run(found):
    result = assert_it_runs(mnist, found)
    assert result.held and result.metrics["chosen_learning_rate"] == [3e-3] and len(result.figure.axes) == 3
    for precision in mnist.COLOURS:
        assert len(result.metrics[precision]["history"]["cost"]) == 1
        assert result.metrics[precision]["examples_a_second"] > 0


def test_each_clause_can_fail(found):
    assert_each_clause_can_fail(
        mnist,
        found,
        {
            "mean_test_accuracy_in_float32": {"precisions": {"float32": {"test_accuracy_mean": 0.4}}},
            "mean_test_accuracy_with_bfloat16_products": {"precisions": {"bfloat16": {"test_accuracy_mean": 0.4}}},
            "difference_of_the_two": {"precisions": {name: {"test_accuracy_mean": x} for name, x in
                                          zip(mnist.COLOURS, (0.9, 0.87), strict=True)}},
        },
    )  # fmt: skip


def test_the_rate_that_reads_most_validation_digits_is_chosen(monkeypatch):
    """Training is left out: each split has validation accuracies and a best rate of its own."""
    split, accuracies = datasets.digits(), {4: [0.9, 0.8], 5: [0.7, 0.95]}
    monkeypatch.setattr(mnist.datasets, "mnist", lambda seed, **settings: split)
    monkeypatch.setattr(mnist, "validation_accuracies", lambda config, _, split, seed: np.array(accuracies[seed]))
    monkeypatch.setattr(mnist, "adamw", lambda config, m, rate: rate)
    trained = []

    def train(config, precision, split, rate, seed):
        trained.append((precision, seed, rate))
        return {name: np.full(1, 0.95) for name in ("cost", "accuracy", "validation_cost", "validation_accuracy")}

    monkeypatch.setattr(mnist, "train", train)
    found = measure(mnist, seed=4, seeds=2, learning_rates=(1e-3, 1e-2))
    result = assert_it_runs(mnist, found)
    assert result.held and result.metrics["chosen_learning_rate"] == [1e-3, 1e-2]
    assert set(trained) == {(name, *one) for name in mnist.COLOURS for one in ((4, 1e-3), (5, 1e-2))}
    assert len(result.figure.axes) == 4


@pytest.mark.slow
def test_the_rate_is_chosen_without_a_test_digit():
    split, config = datasets.mnist(seed=1), mnist.Config(epochs=1)
    spoilt = split._replace(X_test=np.full_like(split.X_test, np.nan), labels_test=1 + split.labels_test)
    seen = [mnist.validation_accuracies(config, optax.adam, part, seed=1) for part in (split, spoilt)]
    assert np.array_equal(*seen) and seen[0].shape == (3,)


@pytest.mark.slow
def test_digits_are_read_in_both_precisions(tmp_path):
    found = quick("mnist", tmp_path)
    for precision in ("float32", "bfloat16"):
        assert found[precision]["test_accuracy_mean"] >= 0.94 and found[precision]["examples_a_second"] > 0
        assert found[precision]["test_accuracy"][0] == pytest.approx(
            found[precision]["history"]["validation_accuracy"][-1]
        )
    assert found["training_digits"] == 4000
    assert found["chosen_learning_rate"] == found["learning_rates"] == [3e-3]  # the middle one, and no choice
    assert found["validation_accuracy_by_rate"] == []

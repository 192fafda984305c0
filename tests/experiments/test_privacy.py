"""Privacy is bounded and costs accuracy."""

import jax
import numpy as np
import pytest

import jaxnet
from experiments.privacy import __main__ as privacy
from experiments.privacy import dp_sgd
from jaxnet import datasets
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick


@pytest.fixture(scope="module")
def found():
    return measure(privacy, noise=(0.0, 40.0), steps=2, starts=1)


def test_a_small_run(found):
    result = assert_it_runs(privacy, found)
    for clause in ("error_of_the_clipped_sum", "distance_of_the_noise_multiplier_from_that_asked"):
        assert result.clauses[clause]
    assert 0.999 < result.metrics["largest_move_by_one_digit"] <= 1 + 1e-4  # as far as a clipped gradient, not farther
    assert result.metrics["sampling_rate"] == 1 and len(result.metrics["milliseconds_a_step"]) == 4


def test_each_clause_can_fail(found):
    ideal = found | {
        "accuracies": {0.0: [0.95], 40.0: [0.8]},
        "milliseconds": dict(zip(found["milliseconds"], (1.0, 1.1, 1.2, 9.0), strict=True)),
    }
    assert_each_clause_can_fail(
        privacy,
        ideal,
        {
            "accuracy_without_noise": {"accuracies": {0.0: [0.9]}},
            "more_noise_costs_accuracy": {"accuracies": {40.0: [0.955]}},
            "error_of_the_clipped_sum": {"properties": {"error_where_half_are_clipped": 1e-2}},
            "largest_move_of_the_sum_by_one_digit": {"properties": {"largest_move_by_one_digit": 1.01}},
            "milliseconds_of_a_private_step": {"milliseconds": {"clipped, noisy sum": 10.0}},
            "distance_of_the_noise_multiplier_from_that_asked": {"properties": {"measured_noise_multiplier": 0.9}},
        },
    )


@pytest.mark.slow
def test_privacy_is_bounded_and_costs_accuracy(tmp_path):
    found = quick("privacy", tmp_path)
    silent, noisy = found["test_accuracy"]
    assert silent > 0.93 > noisy > 0.5
    assert found["noise_multipliers"] == [0, 40] and found["epsilon_at_most"][0] == "Infinity"
    assert 0.999 < found["largest_move_by_one_digit"] <= 1 + 1e-4
    assert found["sampling_rate"] == 1 and len(found["milliseconds_a_step"]) == 4


@pytest.mark.slow
def test_a_sum_that_lengthens_short_gradients_is_seen(monkeypatch):
    """C / ‖g‖ in place of min(1, C / ‖g‖): the same where every gradient is clipped, as it is at the start."""

    def lengthened(net, params, X, Y, C, *noise):
        norms = jaxnet.per_example_norms(net, params, X, Y).ravel()
        grads = jaxnet.per_example_grads(net, params, X, Y)
        return jax.tree.map(lambda g: jax.numpy.tensordot(C / norms, g, axes=1), grads)

    split = datasets.digits()
    key = jax.random.key(0)
    X, Y = jax.numpy.asarray(split.X[:, :200]), jaxnet.one_hot(split.labels[:200], 10)
    batch = jaxnet.init(dp_sgd.NET, key), X, Y, key
    norms = jaxnet.per_example_norms(dp_sgd.NET, *batch[:3])
    median, shortest = float(np.median(norms)), float(norms.min())
    assert dp_sgd.error_of_the_clipped_sum(dp_sgd.gradients(), *batch, median) < 1e-5
    monkeypatch.setattr(dp_sgd.jaxnet, "clipped_grads", lengthened)
    assert dp_sgd.error_of_the_clipped_sum(dp_sgd.gradients(), *batch, 0.9 * shortest) < 1e-5
    assert dp_sgd.error_of_the_clipped_sum(dp_sgd.gradients(), *batch, median) > 100 * privacy.ROUNDING

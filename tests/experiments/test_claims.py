"""The experiments' claims, clause by clause, on their quick settings: the numbers, not only that they run."""

import importlib
import json
import math
import shlex

import jax
import numpy as np
import optax
import pytest

import jaxnet
from experiments import dp_sgd, gradient_check, init_scale, mnist, planar, privacy, symmetry
from experiments.runner import experiment
from jaxnet import datasets

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("implicit_promotion")]


def quick(name, tmp_path):
    """The metrics of a quick run, as metrics.json has them, whose claim has to hold with all its clauses."""
    module = importlib.import_module(f"experiments.{name}")
    record = experiment.perform(name, module.Config(quick=True, results=tmp_path))
    assert record["held"], record["metrics"]["clauses"]
    assert all(value is True for value in record["metrics"]["clauses"].values())
    assert (tmp_path / name / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert module.__doc__.splitlines()[0].endswith(".") and module.NOTES.startswith("section")
    return json.loads((tmp_path / name / "metrics.json").read_text())["metrics"]


def test_the_flower_needs_a_hidden_layer(tmp_path):
    found = quick("planar", tmp_path)
    found = found["accuracy_and_cost_after_steps"]
    accuracy = {net: row["accuracy"] for net, row in found.items()}
    assert 0.4 < accuracy["logistic regression"] < 0.6 < accuracy["n = 1"] < 0.75 < 0.85 < accuracy["n = 4"]
    assert next(iter(accuracy)) == "logistic regression"
    assert all(list(row) == ["accuracy", "0", "1000", "2000", "3000", "4000", "5000"] for row in found.values())
    assert found["n = 4"]["0"] == pytest.approx(math.log(2), abs=0.01) and found["n = 4"]["5000"] < 0.3


def test_zero_weights_stay_equal_and_random_ones_do_not(tmp_path):
    found = quick("symmetry", tmp_path)
    for hidden in symmetry.HIDDEN:
        zeros, randn = found[f"{hidden}, zeros"], found[f"{hidden}, randn"]
        assert (zeros["steps_with_equal_rows"], randn["steps_with_equal_rows"]) == (3000, 0)
        assert zeros["largest_difference_of_rows"] == 0 < 1 < randn["largest_difference_of_rows"]
        assert zeros["accuracy"] < 0.7 < 0.85 < randn["accuracy"]
    assert found["sigmoid, zeros"]["largest_weight"] > 1 > found["tanh, zeros"]["largest_weight"] == 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("planar", {"learning_rate": -1.0}, "learning_rate is -1.0; expected a finite number above 0"),
        ("planar", {"hidden": (0,)}, r"sizes\[1\] is 0"),
        ("planar", {"hidden": (1, 2)}, "expected 4 units or more in one net"),
        ("symmetry", {"steps": 0}, "steps is 0"),
        ("init_scale", {"scales": (1.0, 0.1)}, "expected them to rise"),
        ("mnist", {"seeds": 0}, "seeds is 0"),
        ("mnist", {"learning_rates": (0.0,)}, "learning_rates is 0.0"),
        ("mnist", {"path": "/nowhere"}, "expected an .npz file, or a directory"),
        ("privacy", {"noise": (1.0, 2.0)}, "expected multipliers that rise from 0"),
        ("sweep", {"rates": 2}, "rates is 2; expected an integer of at least 3"),
        ("sweep", {"slowest": -1.0}, r"slowest is -1.0 and fastest 100.0; expected rates that rise"),
        ("sweep", {"slowest": 1.0, "fastest": 0.1}, "expected rates that rise"),
        ("sweep", {"fastest": float("nan")}, "expected rates that rise"),
        ("planar", {"init_scale": 0.0}, "init_scale is 0.0"),
        ("symmetry", {"init_scale": -1.0}, "init_scale is -1.0"),
        ("gradient_check", {"init_scale": 0.0}, "init_scale is 0.0"),
        ("init_scale", {"scales": (-1.0, 1.0)}, "scales is -1.0"),
        ("mnist", {"weight_decay": float("nan")}, "weight_decay is nan"),
        ("privacy", {"noise": (0.0, float("inf"))}, "noise is inf; expected a finite number above 0"),
        ("verifier", {"cases": ("x_1.001", "nonsense")}, "cases is 'nonsense'; expected one of"),
        ("verifier", {"seeds": 0}, "seeds is 0"),
        ("verifier", {"patience": -1.0}, "patience is -1.0"),
    ],
)
def test_bad_settings_are_refused(name, settings, message):
    module = importlib.import_module(f"experiments.{name}")
    with pytest.raises(ValueError, match=message):
        module.run(module.Config(**settings))


def test_the_figure_of_symmetry_names_the_scale_that_was_run():
    figure = symmetry.run(symmetry.Config(steps=2, init_scale=0.5)).figure
    assert [axes.get_title() for axes in figure.axes][1:] == [
        "W = 0: first weight of each", "W = randn * 0.5: first weight of each",
    ]  # fmt: skip


def test_rows_of_opposite_zeros_are_not_bit_equal():
    assert symmetry.rows_equal(jax.numpy.ones((2, 2)))
    assert not symmetry.rows_equal(jax.numpy.array([[0.0, 1.0], [-0.0, 1.0]]))


def test_the_valley_of_initial_scales(tmp_path):
    found = quick("init_scale", tmp_path)
    cost = dict(zip(found["scales"], found["cost"], strict=True))
    assert 0.01 <= found["best_scale"] <= 0.3
    assert cost[1e-4] > 2 * cost[0.1] and cost[100] > 1000 * cost[0.1] and cost[0.01] < 2 * cost[0.1]
    assert max(found["he"]["cost"], found["xavier"]["cost"]) < 1.2 * cost[0.1]
    assert found["saturated"][0] == 0 and found["saturated"][-1] > 0.95


@pytest.mark.parametrize(
    ("scale", "cost", "clause"),
    [
        (1.0, 0.13, "the_lowest_cost_is_in_the_valley"),
        (0.01, 0.39, "0.01_is_in_the_valley"),
        (1e-4, 0.2, "smaller_is_slower"),
        (100.0, 0.39, "larger_is_far_slower"),
    ],
)
def test_a_missed_clause_is_seen(scale, cost, clause):
    config = init_scale.Config(scales=(1e-4, 0.01, 0.1, 1.0, 100.0))
    curve = {
        "cost": np.array([0.4, 0.17, 0.14, 0.4, 800.0]),
        "saturated": np.array([0, 0, 0.01, 0.7, 0.99]),
        "relative_gradient_norm": np.array([1, 0.2, 0.17, 0.03, 0.001]),
    }
    found = {scheme: {"cost": 0.13} for scheme in init_scale.SCHEMES}
    assert all(init_scale.clauses(config, curve, found).values())
    curve["cost"][config.scales.index(scale)] = cost
    assert not init_scale.clauses(config, curve, found)[clause]


def test_the_misprint_is_refused_and_named(tmp_path):
    found = quick("gradient_check", tmp_path)
    assert found["largest_relative_error_of_the_right"] < 1e-3 < 0.1 < found["relative_error_of_the_misprint"]
    assert "g[2]'(Z[1]) / g[1]'(Z[1]): sigmoid' in place of tanh'" in found["cause"]
    verdicts = {name: report["verdict"] for name, report in found["reports"].items()}
    assert verdicts == {"the notes, float32": "PASS", "the misprint, float32": "FAIL", "jaxnet, float32": "PASS"}


def test_a_misprint_that_passes_fails_the_claim(monkeypatch):
    monkeypatch.setattr(gradient_check, "sigmoid_derivative", lambda Z, A: 1 - A * A)
    result = gradient_check.run(gradient_check.Config(quick=True))
    assert not result.held and not result.metrics["clauses"]["the_misprint_is_refused"]


def test_mnist_is_read_in_both_precisions(tmp_path):
    found = quick("mnist", tmp_path)
    for precision in ("float32", "bfloat16"):
        assert found[precision]["test_accuracy_mean"] >= 0.94 and found[precision]["examples_a_second"] > 0
        assert found[precision]["test_accuracy"][0] == pytest.approx(
            found[precision]["history"]["validation_accuracy"][-1]
        )
    assert found["training_digits"] == 4000
    assert found["chosen_learning_rate"] == found["learning_rates"] == [3e-3]  # the middle one, and no choice
    assert found["validation_accuracy_by_rate"] == []


def test_the_rate_that_reads_most_validation_digits_is_chosen(monkeypatch):
    """Training is left out: each split has validation accuracies and a best rate of its own."""
    shares = {4: [0.9, 0.8], 5: [0.7, 0.95]}
    monkeypatch.setattr(mnist, "validation_accuracies", lambda config, _, split, seed: np.array(shares[seed]))
    monkeypatch.setattr(mnist, "adamw", lambda config, m, rate: rate)
    history = {name: np.ones(1) for name in ("cost", "accuracy", "validation_cost", "validation_accuracy")}
    trained = []

    def train(config, precision, split, rate, seed):
        trained.append((precision, seed, rate))
        return {"accuracy": 0.95, "seconds": 1.0, "history": history}

    monkeypatch.setattr(mnist, "train", train)
    result = mnist.run(mnist.Config(seed=4, seeds=2, learning_rates=(1e-3, 1e-2)))
    assert result.held and result.metrics["chosen_learning_rate"] == [1e-3, 1e-2]
    assert set(trained) == {(name, *one) for name in mnist.COLOURS for one in ((4, 1e-3), (5, 1e-2))}
    assert len(result.figure.axes) == 4


def test_the_rate_of_mnist_is_chosen_without_a_test_digit():
    split, config = datasets.mnist(seed=1), mnist.Config(epochs=1)
    spoilt = split._replace(X_test=np.full_like(split.X_test, np.nan), labels_test=1 + split.labels_test)
    seen = [mnist.validation_accuracies(config, optax.adam, part, seed=1) for part in (split, spoilt)]
    assert np.array_equal(*seen) and seen[0].shape == (3,)


def test_privacy_is_bounded_and_costs_accuracy(tmp_path):
    found = quick("privacy", tmp_path)
    silent, noisy = found["test_accuracy"]
    assert silent > 0.93 > noisy > 0.5
    assert found["noise_multipliers"] == [0, 40] and found["epsilon_at_most"][0] == "Infinity"
    assert 0.999 < found["largest_move_by_one_digit"] <= 1 + 1e-4  # a clipped gradient has moved it, and none more
    assert found["sampling_rate"] == 1 and len(found["milliseconds_a_step"]) == 4


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
    assert dp_sgd.error_of_the_clipped_sum(dp_sgd.ways(float(np.median(norms))), *batch) < 1e-5
    monkeypatch.setattr(dp_sgd.jaxnet, "clipped_grads", lengthened)
    assert dp_sgd.error_of_the_clipped_sum(dp_sgd.ways(0.9 * float(norms.min())), *batch) < 1e-5
    assert dp_sgd.error_of_the_clipped_sum(dp_sgd.ways(float(np.median(norms))), *batch) > 100 * privacy.ROUNDING


def test_the_bound_on_epsilon_is_bun_and_steinkes():
    rho = 100 / (2 * 20**2)  # 100 Gaussian mechanisms of deviation 20 C
    assert dp_sgd.epsilon(100, 20.0) == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)))
    assert dp_sgd.epsilon(100, 0.0) == math.inf
    assert dp_sgd.epsilon(400, 40.0) == pytest.approx(
        dp_sgd.epsilon(100, 20.0)
    )  # four times the steps, twice the noise


def test_a_sweep_finds_the_rate(tmp_path):
    found = quick("sweep", tmp_path)
    assert found["nets"] == 32 and np.shape(found["test_accuracy"]) == (8, 4)
    assert found["best_median_accuracy"] > 0.93 and 0.01 < found["best_rate"] < 10
    assert found["largest_difference_from_fit"] < 1e-4 and found["speedup"] > 0


def test_quick_makes_what_is_left_at_its_default_smaller_and_keeps_what_is_chosen(tmp_path):
    config = planar.Config(quick=True, steps=10, results=tmp_path / "two words")
    assert (config.hidden, config.steps) == ((1, 4), 10)
    assert planar.Config(steps=10).hidden == (1, 2, 3, 4, 5, 20, 50)
    words = shlex.split(experiment.command("planar", config))
    assert words[3:] == ["--results", str(tmp_path / "two words"), "--quick", "--steps", "10"]


def test_the_record_tells_what_a_quick_run_ran(tmp_path):
    record = experiment.perform("symmetry", symmetry.Config(quick=True, results=tmp_path))
    assert record["config"]["steps"] == 3000 and "--steps" not in record["command"]

"""Clipped, noisy gradients hide any single digit: accuracy falls with the noise, and a step costs little more.

The notes' section 3 has one gradient for each example; differentially private gradient descent (DP-SGD; Abadi et al.
2016, arXiv 1607.00133) clips each to norm C, adds them up and adds noise of deviation σ C. `jaxnet.clipped_grads` does
so without forming any of them. Here 64-64-10 reads scikit-learn's digits, and every step uses all training digits (a
sampling rate of 1), so that the privacy bound needs no amplification by sampling.

The promise, ε for a number of steps and a noise, is in `experiments.privacy.dp_sgd`. Not counted in it: the pixels' scaling,
which is taken from the training digits, their number m, and the choice of the settings.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from experiments.privacy.dp_sgd import DELTA, NET, epsilon, measure, trained_accuracy, ways
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, GREEN, GREY, ORANGE, Figure, Result
from jaxnet import checks, datasets

NOTES = "section 3"
DATA = (datasets.digits,)
ROUNDING = 1e-4  # relative, of sums over all digits in float32


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the privacy experiment."""

    QUICK: ClassVar = {"noise": (0.0, 40.0), "starts": 2}

    noise: tuple[float, ...] = (0.0, 3.0, 10.0, 20.0, 40.0, 80.0)
    """Noise multipliers σ, rising from 0: the noise's deviation in units of the clipping norm."""
    max_norm: float = 1.0
    """The clipping norm C."""
    steps: int = 100
    """Steps, each on all training digits."""
    learning_rate: float = 0.2
    """The rate of gradient descent, with momentum 0.9."""
    starts: int = 5
    """Runs of each noise multiplier, with random starts and noise of their own."""


def run(config: Config) -> Result:
    """Train at every noise level, check what the promise rests on, and time a step."""
    if config.noise[:1] != (0,) or list(config.noise) != sorted(config.noise):
        raise ValueError(f"noise is {config.noise}; expected multipliers that rise from 0")
    for sigma in config.noise[1:]:
        checks.positive("noise", sigma)
    for name in ("steps", "starts"):
        checks.count(name, getattr(config, name))
    for name in ("max_norm", "learning_rate"):
        checks.positive(name, getattr(config, name))
    split = datasets.digits(config.seed)
    Y, Y_test = (jaxnet.one_hot(labels, 10) for labels in (split.labels, split.labels_test))
    settings = config.steps, config.max_norm, config.learning_rate
    keys = jax.random.split(jax.random.key(config.seed), config.starts)
    starts = [(jaxnet.init(NET, start_key), noise_key) for start_key, noise_key in map(jax.random.split, keys)]
    accuracies = {
        sigma: [float(trained_accuracy(*settings, sigma, *start, split.X, Y, split.X_test, Y_test)) for start in starts]
        for sigma in experiment.watched(config.noise, "noise level")
    }
    means = [float(np.mean(accuracies[sigma])) for sigma in config.noise]
    epsilons = [epsilon(config.steps, sigma) for sigma in config.noise]
    for row in zip(config.noise, epsilons, means, strict=True):
        print("noise multiplier {:4g}, epsilon at most {:6.2f}: test accuracy {:.2%}".format(*row))

    key, init_key = jax.random.split(jax.random.key(config.seed))
    batch = jaxnet.init(NET, init_key), jnp.asarray(split.X), Y, key
    gradients = ways(config.max_norm)
    found = measure(gradients, config.max_norm, *batch)
    milliseconds = {name: 1000 * experiment.seconds(way, *batch) for name, way in gradients.items()}
    print("  ".join(f"{name}: {time:.2f} ms" for name, time in milliseconds.items()))
    clauses = {
        "without_noise_it_learns": means[0] > 0.93,
        "more_noise_costs_accuracy": means[0] > means[-1] and all(np.diff(means) < 0.01),
        "the_sum_is_that_of_clipped_gradients": found["error_of_the_clipped_sum"] < ROUNDING
        and found["error_where_half_are_clipped"] < ROUNDING,
        "one_digit_moves_it_by_at_most_C": found["largest_move_by_one_digit"] <= config.max_norm * (1 + ROUNDING),
        "a_private_step_is_cheaper_than_each_gradient": milliseconds["clipped, noisy sum"]
        < milliseconds["each gradient formed"],
        "the_noise_is_as_strong_as_asked": abs(found["measured_noise_multiplier"] - 1) < 0.05,
    }
    private = max(range(len(means)), key=lambda i: (epsilons[i] < 10, means[i]))
    return Result(
        claim=f"With noise multiplier {config.noise[private]:g} (ε ≤ {epsilons[private]:.1f} at δ = {DELTA:g}) the net"
        f" reads {means[private]:.1%} of unseen digits, without noise {means[0]:.1%}; a step takes"
        f" {milliseconds['clipped, noisy sum'] / milliseconds['batch gradient']:.1f} times a plain one.",
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "sampling_rate": 1.0,
            "delta": DELTA,
            **found,
            "milliseconds_a_step": milliseconds,
            "noise_multipliers": list(config.noise),
            "epsilon_at_most": epsilons,
            "test_accuracy": means,
            "test_accuracies": list(accuracies.values()),
        },
        figure=draw(config, accuracies, milliseconds),
    )


def draw(config: Config, accuracies: dict[float, list[float]], milliseconds: dict[str, float]) -> Figure:
    """Accuracy against noise, with the bound on ε; and the time of a step."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(accuracies))
    for place, values in zip(places, accuracies.values(), strict=True):
        label = None if place else "one run each"
        left.plot([place] * len(values), 100 * np.array(values), "o", color=GREY, markersize=4, label=label)
    means = [100 * np.mean(values) for values in accuracies.values()]
    left.plot(places, means, "-", color=BLUE, label=f"mean of {config.starts}")
    names = []
    for sigma in accuracies:
        bound = epsilon(config.steps, sigma)
        names.append(f"{sigma:g}\nε ≤ {bound:.1f}" if math.isfinite(bound) else f"{sigma:g}\nno ε")
    left.set(
        title=f"{config.steps} steps, C = {config.max_norm:g}, δ = {DELTA:g}", xticks=places, xticklabels=names,
        xlabel="noise multiplier σ, and the upper bound of ε", ylabel="test digits read right (%)",
    )  # fmt: skip
    left.legend()
    colours = (GREY, BLUE, GREEN, ORANGE)
    bars = right.barh(list(milliseconds), list(milliseconds.values()), color=colours)
    right.bar_label(bars, fmt="%.2f ms", padding=3)
    right.set(title="One gradient on all training digits", xlabel="median time (ms)")
    right.margins(x=0.2)
    right.invert_yaxis()
    return figure


if __name__ == "__main__":
    experiment.main("privacy")

"""Clipped, noisy gradients hide any single digit: accuracy falls with the noise, and a step costs little more.

The notes' section 3 has one gradient for each example; differentially private gradient descent (DP-SGD; Abadi et al.
2016, arXiv 1607.00133) clips each to norm C, adds them up and adds noise of standard deviation σ C.
`jaxnet.clipped_grads` does so without forming any of them, and `fit(..., privacy=)` trains with it. Here 64-64-10 reads
scikit-learn's digits, and every step uses all training digits (a sampling rate of 1).

The guarantee is the history's epsilon. Not counted in it: the pixels' scaling, which is taken from the training digits,
their number m, and the choice of the settings.
"""

import dataclasses
import math
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.privacy.dp_sgd import DELTA, NET, gradients, properties, trained
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, at_most, below
from experiments.runner.options import NonNegative, Positive, Rising
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE

NOTES = "section 3"
DATA = (datasets.digits,)
ROUNDING = 1e-4  # relative, of sums over all digits in float32


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the privacy experiment."""

    QUICK: ClassVar = {"noise": (0.0, 40.0), "starts": 3}

    noise: Annotated[tuple[NonNegative[float], ...], Rising(first=0)] = (0.0, 3.0, 10.0, 20.0, 40.0, 80.0)
    """Noise multipliers σ, rising from 0: the noise's standard deviation in units of the clipping norm."""
    max_norm: Positive[float] = 1.0
    """The clipping norm C."""
    steps: Positive[int] = 100
    """Steps, each on all training digits."""
    learning_rate: Positive[float] = 0.2
    """The rate of gradient descent, with momentum 0.9."""
    starts: Positive[int] = 5
    """Runs of each noise multiplier, with random starts and noise of their own."""


def measure(config: Config) -> dict:
    """Train at every noise level, check what the guarantee rests on, and time a step."""
    split = datasets.digits(config.seed)
    Y, Y_test = (jaxnet.one_hot(labels, 10) for labels in (split.labels, split.labels_test))
    settings = config.steps, config.max_norm, optax.sgd(config.learning_rate, momentum=0.9)
    keys = jax.random.split(jax.random.key(config.seed), config.starts)
    starts = [(jaxnet.init(NET, start_key), noise_key) for start_key, noise_key in map(jax.random.split, keys)]
    results = {
        sigma: [trained(*settings, sigma, *start, split.X, Y) for start in starts]
        for sigma in experiment.progress(config.noise, "noise level")
    }
    accuracy = lambda result: float(jaxnet.accuracy(jaxnet.predict(NET, result.params, split.X_test), Y_test))
    key, init_key = jax.random.split(jax.random.key(config.seed))
    batch = jaxnet.init(NET, init_key), jnp.asarray(split.X), Y, key
    functions = gradients()
    found = {
        "config": config,
        "accuracies": {sigma: list(map(accuracy, of_starts)) for sigma, of_starts in results.items()},
        "epsilons": [float(first.history["epsilon"][-1]) for first, *_ in results.values()],
        "properties": properties(functions, config.max_norm, *batch),
        "milliseconds": {
            name: 1000 * experiment.seconds(each, *batch, config.max_norm).warm for name, each in functions.items()
        },
    }
    for row in zip(config.noise, found["epsilons"], means(found), strict=True):
        print("noise multiplier {:4g}, epsilon at most {:6.2f}: test accuracy {:.2%}".format(*row))
    print("  ".join(f"{name}: {time:.2f} ms" for name, time in found["milliseconds"].items()))
    return found


def means(found: dict) -> list[float]:
    """The mean test accuracy of each noise level."""
    return [float(np.mean(values)) for values in found["accuracies"].values()]


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Noise costs accuracy, what the guarantee rests on is true, and a step is cheap."""
    accuracy, of_the_sum, milliseconds = means(found), found["properties"], found["milliseconds"]
    return {
        "accuracy_without_noise": above(accuracy[0], 0.93),
        "more_noise_costs_accuracy": accuracy[0] > accuracy[-1] and all(np.diff(accuracy) < 0.01),
        "error_of_the_clipped_sum": below(
            [of_the_sum["error_of_the_clipped_sum"], of_the_sum["error_where_half_are_clipped"]], ROUNDING
        ),
        "largest_move_of_the_sum_by_one_digit": at_most(
            of_the_sum["largest_move_by_one_digit"], found["config"].max_norm * (1 + ROUNDING)
        ),
        "milliseconds_of_a_private_step": below(
            milliseconds["clipped, noisy sum"], milliseconds["each gradient formed"]
        ),
        "distance_of_the_noise_multiplier_from_that_asked": below(
            abs(of_the_sum["measured_noise_multiplier"] - 1), 0.05
        ),
    }


def claim(found: dict) -> str:
    """The accuracy at the best noise level of ε < 10, and what a step costs."""
    accuracy, epsilons, milliseconds = means(found), found["epsilons"], found["milliseconds"]
    private = max(range(len(accuracy)), key=lambda i: (epsilons[i] < 10, accuracy[i]))
    return (
        f"With noise multiplier {found['config'].noise[private]:g} (ε ≤ {epsilons[private]:.1f} at δ = {DELTA:g}) the"
        f" test accuracy is {accuracy[private]:.1%}, without noise {accuracy[0]:.1%}; a step takes"
        f" {milliseconds['clipped, noisy sum'] / milliseconds['batch gradient']:.1f} times a plain one."
    )


def metrics(found: dict) -> dict:
    """The guarantee, its parts, accuracies and times."""
    return {
        "sampling_rate": 1.0,
        "delta": DELTA,
        **found["properties"],
        "milliseconds_a_step": found["milliseconds"],
        "noise_multipliers": found["config"].noise,
        "epsilon_at_most": found["epsilons"],
        "test_accuracy": means(found),
        "test_accuracies": list(found["accuracies"].values()),
    }


def draw(found: dict):
    """Accuracy against noise, with the bound on ε; and the time of a step."""
    figure, config = plots.figure(12, 4.4), found["config"]
    accuracies, milliseconds = found["accuracies"], found["milliseconds"]
    left, right = figure.subplots(1, 2)
    places = range(len(accuracies))
    for place, values in zip(places, accuracies.values(), strict=True):
        label = None if place else "one run each"
        left.plot([place] * len(values), 100 * np.array(values), "o", color=GREY, markersize=4, label=label)
    left.plot(places, 100 * np.array(means(found)), "D", color=BLUE, label=f"mean of {config.starts}")
    names = [
        f"{sigma:g}\nε ≤ {bound:.1f}" if math.isfinite(bound) else f"{sigma:g}\nno ε"
        for sigma, bound in zip(accuracies, found["epsilons"], strict=True)
    ]
    left.set(
        title=f"{len(places)} of {len(Config.noise)} noise levels: {config.steps} steps, C = {config.max_norm:g},"
        f" δ = {DELTA:g}", xticks=places, xticklabels=names,
        xlabel="noise multiplier σ, and the upper bound of ε", ylabel="test accuracy (%)",
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

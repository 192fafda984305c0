"""Four ways to put m examples through a network give the same numbers; the matrix form is by far the fastest.

The notes' sections 3 and 4. The ways: a loop over units and examples, in plain Python numbers; a loop over examples,
the compiled one-example functions called m times; `jax.vmap` of the one-example functions; and Z = W X + b with
examples as columns. Each computes the predictions and the gradient of J. The points are random: only their number
counts.
"""

import dataclasses
import datetime
import math
import os
from typing import ClassVar

import jax
import numpy as np

import jaxnet
from experiments import notes
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, at_least, at_most
from experiments.runner.experiment import relative_difference
from experiments.runner.options import Positive
from experiments.vectorization.implementations import EACH_GRADIENT, FORWARDS, GRADIENTS, LOOPS, NAMES, NET, sums
from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW

NOTES = "sections 3 and 4"
DATA = ()  # random numbers
EPS = float(np.finfo(np.float64).eps)
COMPARED = 1000  # examples over which the four ways are compared
LAST_DIGITS = 64 * EPS  # 1000 numbers added in another order
ENOUGH = 0.2  # seconds of timed calls
FASTER = 10  # the matrix form against either loop, at the largest m; measured it is a hundred and more
MATRIX = NAMES[-1]
SHOWN, SMALL = 30, (1, 2, 3, 4, 10)  # of the figure on the page: columns, and examples before 100, 1,000, ...
START = {"m": 4, "way": "examples", "i": 2}
STYLES = dict(zip(NAMES, ((RED, "o"), (ORANGE, "s"), (GREEN, "^"), (BLUE, "D")), strict=True))


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the vectorization experiment."""

    QUICK: ClassVar = {"largest": 1000}

    largest: Positive[int] = 100_000
    """The largest number of examples; times are taken at 1, 10, 100, ... up to it. Quick: at 1, 31 and 1,000."""


def measure(config: Config) -> dict:
    """Compare the four ways in float64, then time them."""
    largest, random = config.largest, np.random.default_rng(config.seed)
    counts = sorted({10**power for power in range(int(math.log10(largest)) + 1)} | {largest})
    if config.quick:
        counts = sorted({1, math.isqrt(largest), largest})  # every count makes programs of its own
    with jax.enable_x64(True):
        params, X = notes.random_point(random, NET.sizes, max(largest, COMPARED))
        Y = (random.random((1, X.shape[1])) < 0.3).astype(np.float64)
        params, some = jax.device_put(params), (X[:, :COMPARED], Y[:, :COMPARED])
        answers = {way: (FORWARDS[way](params, some[0]), GRADIENTS[way](params, *some)) for way in NAMES}
        each = jax.device_get(EACH_GRADIENT(params, *some))
        times = {
            "forward": {way: [seconds(way, FORWARDS[way], params, X[:, :m]) for m in counts] for way in NAMES},
            "gradient": {
                way: [seconds(way, GRADIENTS[way], params, X[:, :m], Y[:, :m]) for m in counts] for way in NAMES
            },
        }
    reference = answers[MATRIX]
    found = {
        "counts": counts,
        "times": times,
        "differences": {
            way: [relative_difference(own, other) for own, other in zip(pair, reference, strict=True)]
            for way, pair in answers.items()
        },
        "mean of each": relative_difference(jax.tree.map(lambda leaf: leaf.mean(axis=0), each), reference[1]),
        "gradients": (each, reference[1]),
    }
    for what, by_way in speedups(found).items():
        text = ", ".join(f"{way} {by_way[way]:,.1f}x" for way in NAMES[:3])
        print(f"{what}, m = {largest:,}: {text} the time of the matrix form")
    return found


def seconds(way: str, call, *arguments) -> float:
    """Seconds of the fastest of 25 calls, for all else that runs on the machine only slows them down.

    Of long calls fewer are made, and a long loop runs once: its parts were compiled when m was small.
    """
    times = [experiment.seconds(call, *arguments, repeats=0).cold]
    if way in LOOPS and arguments[1].shape[1] > COMPARED:
        return times[0]
    while len(times) <= 25 and sum(times[1:]) < ENOUGH:
        times.append(experiment.seconds(call, *arguments, repeats=0).cold)
    return min(times[1:])


def speedups(found: dict) -> dict[str, dict[str, float]]:
    """How many times the matrix form's time each way takes, at the largest m."""
    return {
        what: {way: times[-1] / by_way[MATRIX][-1] for way, times in by_way.items()}
        for what, by_way in found["times"].items()
    }


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """The four ways agree, and the matrix form is the fastest."""
    differences = found["differences"].values()
    return {
        "difference_of_predictions": at_most([forward for forward, _ in differences], LAST_DIGITS),
        "difference_of_gradients": at_most([gradient for _, gradient in differences], LAST_DIGITS),
        "difference_of_the_mean_over_examples": at_most(found["mean of each"], LAST_DIGITS),
        "speedup_of_the_matrix_form": at_least(
            [by_way[way] for by_way in speedups(found).values() for way in LOOPS], FASTER
        ),
    }


def claim(found: dict) -> str:
    """The largest difference, and the speed-up over the slowest loop."""
    worst = max(*(max(pair) for pair in found["differences"].values()), found["mean of each"])
    return (
        f"Loops, vmap and matrix form agree to {worst:.1e}; at m = {found['counts'][-1]:,} the matrix form's gradient"
        f" takes 1/{speedups(found)['gradient'][NAMES[0]]:,.0f} of the time of the loop over units and examples."
    )


def metrics(found: dict) -> dict:
    """Differences and times."""
    return {
        "relative_difference_from_matrix_form": {
            way: dict(zip(("prediction", "gradient"), pair, strict=True)) for way, pair in found["differences"].items()
        },
        "relative_difference_of_mean_per_example_gradient": found["mean of each"],
        "seconds": {
            f"{what}, m = {m:,}": {way: times[i] for way, times in by_way.items()}
            for what, by_way in found["times"].items()
            for i, m in enumerate(found["counts"])
        },
        "times_slower_than_matrix_form": speedups(found),
    }


def explore(config: Config) -> dict:
    """Z[1] of 3-4-1 by the four ways, and the seconds of NET's predictions, for the figure of sections 3 and 4."""
    random = np.random.default_rng(config.seed)
    counts = [*SMALL, *(10**power for power in range(2, int(math.log10(config.largest)) + 1))]
    with jax.enable_x64(True):
        params, X = notes.random_point(random, (3, 4, 1), SHOWN, W=0.8, b=0.8)
        Z = sums(jaxnet.MLP((3, 4, 1), ("tanh", "sigmoid")), params, X)
        timed, examples = notes.random_point(random, NET.sizes, counts[-1])
        timed = jax.device_put(timed)
        times = {way: [seconds(way, FORWARDS[way], timed, examples[:, :m]) for m in counts] for way in NAMES}
    (W, b), _ = params
    return {
        "still": still(W, b, X[:, : START["m"]], Z[START["way"]][:, : START["m"]], counts, times),
        "W": W,
        "b": b[:, 0],
        "X": X.T,
        "Z": {way: by_way.T for way, by_way in Z.items()},
        "counts": counts,
        "seconds": times,
        "machine": machine(config),
        "start": START,
    }


def machine(config: Config) -> str:
    """Where and when times were taken."""
    from experiments.benchmarks.report import processor

    device = jax.devices(config.device)[0]
    name = processor() if device.platform == "cpu" else device.device_kind
    return f"{name}, {os.cpu_count()} CPU cores, {datetime.datetime.now(datetime.UTC):%d %B %Y}"


def still(W, b, X, Z, counts: list[int], times: dict[str, list[float]]) -> str:
    """The picture that the page's figure starts with: the matrices with their numbers, and the times."""
    figure = plots.figure(4.8, 6.8)
    matrices, against_m = figure.subplots(2, 1)
    (n, n_x), m = W.shape, X.shape[1]
    draw_matrix(matrices, "W", W, 0, n_x + 1)
    draw_matrix(matrices, "b", b, n_x + 0.3, n_x + 1)
    draw_matrix(matrices, "X", X, n_x + 1.8, 0)
    draw_matrix(matrices, "Z = WX + b", Z, n_x + 1.8, n_x + 1)
    matrices.set(xlim=(0, n_x + 1.8 + m), ylim=(n + n_x + 1.1, -1))
    matrices.axis("off")
    for way, (colour, marker) in STYLES.items():
        against_m.loglog(counts, times[way], f"{marker}-", color=colour, label=way, markersize=5)
    against_m.set(title="Time of all predictions", xlabel="examples m", ylabel="time (s)")
    against_m.legend(loc="upper left", frameon=False)
    return plots.svg(figure, "vector", f"W, b and {m} columns of X and Z, and the time of four ways against m")


def draw_matrix(axes, name: str, matrix, left: float, top: float) -> None:
    """A matrix with its numbers, in the colours of their signs."""
    axes.text(left + matrix.shape[1] / 2, top - 0.25, name, ha="center")
    for (j, i), number in np.ndenumerate(matrix):
        x, y, colour = left + i, top + j, ORANGE if number < 0 else BLUE
        axes.fill_between([x, x + 0.95], y, y + 0.95, color=colour, linewidth=0, alpha=min(0.4, 0.1 + abs(number) / 8))
        axes.text(x + 0.47, y + 0.7, f"{round(number, 1) + 0.0:.1f}".replace("-", "−"), ha="center", fontsize=9)


def draw(found: dict):
    """The times against m, how far the four ways differ, and the gradients of single examples about their mean."""
    figure = plots.figure(11, 8)
    (forward, backward), (agreement, cloud) = figure.subplots(2, 2)
    for axes, (what, by_way) in zip((forward, backward), found["times"].items(), strict=True):
        for way, (colour, marker) in STYLES.items():
            axes.loglog(found["counts"], by_way[way], f"{marker}-", color=colour, label=way, markersize=5)
        axes.set(
            title="Time of all predictions" if what == "forward" else "Time of the gradient",
            xlabel="examples m",
            ylabel="time (s)",
        )
    forward.legend(loc="upper left", fontsize="small")
    draw_agreement(agreement, found["differences"], found["mean of each"])
    draw_cloud(cloud, *found["gradients"])
    return figure


def draw_agreement(axes, differences, mean_of_each) -> None:
    """Differences from the matrix form, in units of the last digit."""
    bars = {
        f"{way}, {what}": difference
        for way, pair in differences.items()
        for what, difference in zip(("forward", "gradient"), pair, strict=True)
        if way != MATRIX
    } | {"mean per-example gradient": mean_of_each}
    places = np.arange(len(bars))[::-1]
    axes.barh(places, [value / EPS for value in bars.values()], color=GREY)
    axes.axvline(LAST_DIGITS / EPS, color=RED, linestyle="--", label="limit")
    axes.set(
        title=f"Difference from the matrix form, m = {COMPARED:,}", yticks=places, yticklabels=list(bars),
        xlabel="largest relative difference (units of the last digit, 2.2e-16)",
    )  # fmt: skip
    axes.legend(loc="lower right", bbox_to_anchor=(0.9, 0.2), fontsize="small")


def draw_cloud(axes, each, batch) -> None:
    """Two entries of every example's gradient, and of the batch's."""
    axes.scatter(*np.asarray(each[0].W)[:, 0, :2].T, s=6, color=PURPLE, alpha=0.4, label="one example")
    axes.scatter(*np.asarray(batch[0].W)[0, :2], s=90, color=BLUE, marker="D", label="the batch, all examples")
    axes.scatter(
        *np.asarray(each[0].W)[:, 0, :2].mean(axis=0), s=60, color=YELLOW, marker="+", label="mean of the examples"
    )
    axes.set(
        title="Per-example gradients",
        xlabel=r"$\partial\ell_i / \partial W^{[1]}_{11}$",
        ylabel=r"$\partial\ell_i / \partial W^{[1]}_{12}$",
    )
    axes.set_ylim(top=axes.get_ylim()[1] * 1.6)  # room for the legend
    axes.legend(loc="upper left", fontsize="small")


if __name__ == "__main__":
    experiment.main("vectorization")

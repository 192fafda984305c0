"""Four ways to put m examples through a network give the same numbers; the matrix form is by far the fastest.

The notes' sections 3 and 4. The ways: a loop over units and examples, in plain Python numbers; a loop over examples,
the compiled one-example functions called m times; `jax.vmap` of the one-example functions; and Z = W X + b with
examples as columns. Each computes the predictions and the gradient of J. The points are random: only their number
counts.
"""

import dataclasses
import itertools
import math
import time
from typing import ClassVar

import jax
import numpy as np

import jaxnet
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, Figure, Result
from experiments.vectorization.implementations import EACH_GRADIENT, FORWARDS, GRADIENTS, LOOPS, NET, WAYS
from jaxnet import checks

NOTES = "sections 3 and 4"
DATA = ()  # random numbers
EPS = float(np.finfo(np.float64).eps)
COMPARED = 1000  # examples over which the four ways are compared
LAST_DIGITS = 64 * EPS  # 1000 numbers added in another order
FASTER = 10  # the matrix form against either loop, at the largest m; measured it is a hundred and more
STYLES = dict(zip(WAYS, ((RED, "o"), (ORANGE, "s"), (GREEN, "^"), (BLUE, "D")), strict=True))


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the vectorization experiment."""

    QUICK: ClassVar = {"largest": 1000}

    largest: int = 100_000
    """The largest number of examples; times are taken at 1, 10, 100, ... up to it. Quick: at 1 and 1,000."""


def run(config: Config) -> Result:
    """Compare the four ways in float64, then time them."""
    largest = checks.count("largest", config.largest)
    counts = sorted({10**power for power in range(int(math.log10(largest)) + 1)} | {largest})
    if config.quick:
        counts = sorted({counts[0], counts[-1]})  # every count makes programs of its own
    with jax.enable_x64(True):
        params, X, Y = problem(config.seed, max(largest, COMPARED))
        some = X[:, :COMPARED], Y[:, :COMPARED]
        found = {way: (FORWARDS[way](params, some[0]), GRADIENTS[way](params, *some)) for way in WAYS}
        each = jax.device_get(EACH_GRADIENT(params, *some))
        times = {
            "forward": {way: [taken(way, FORWARDS[way], params, X[:, :m]) for m in counts] for way in WAYS},
            "gradient": {way: [taken(way, GRADIENTS[way], params, X[:, :m], Y[:, :m]) for m in counts] for way in WAYS},
        }
    reference = found["matrix form"]
    differences = {
        way: [relative(own, other) for own, other in zip(found[way], reference, strict=True)] for way in WAYS
    }
    mean_of_each = relative(jax.tree.map(lambda leaf: leaf.mean(axis=0), each), reference[1])
    speedups = {what: {way: taken[way][-1] / taken["matrix form"][-1] for way in WAYS} for what, taken in times.items()}
    for what, by_way in speedups.items():
        told = ", ".join(f"{way} {by_way[way]:,.1f}x" for way in WAYS[:3])
        print(f"{what}, m = {largest:,}: {told} the time of the matrix form")

    clauses = {
        "the_same_predictions": all(forward <= LAST_DIGITS for forward, _ in differences.values()),
        "the_same_gradient": all(gradient <= LAST_DIGITS for _, gradient in differences.values()),
        "mean_of_per_example_gradients_is_the_batch_gradient": mean_of_each <= LAST_DIGITS,
        f"matrix_form_{FASTER}_times_faster_than_the_loops": all(
            by_way[way] >= FASTER for by_way in speedups.values() for way in LOOPS
        ),
    }
    worst = max(*(max(pair) for pair in differences.values()), mean_of_each)
    return Result(
        claim=f"Loops, vmap and matrix form agree to {worst:.1e}; at m = {largest:,} the matrix form's gradient takes"
        f" 1/{speedups['gradient'][WAYS[0]]:,.0f} of the time of the loop over units and examples.",
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "relative_difference_from_matrix_form": {
                way: dict(zip(("prediction", "gradient"), pair, strict=True)) for way, pair in differences.items()
            },
            "relative_difference_of_mean_per_example_gradient": mean_of_each,
            "seconds": {
                f"{what}, m = {m:,}": {way: by_way[way][i] for way in WAYS}
                for what, by_way in times.items()
                for i, m in enumerate(counts)
            },
            "times_slower_than_matrix_form": speedups,
        },
        figure=draw(counts, times, differences, mean_of_each, each, reference[1]),
    )


def problem(seed: int, m: int):
    """Params on the device; m random points with random labels on the host."""
    random = np.random.default_rng(seed)
    randn = random.standard_normal
    params = tuple(jaxnet.Layer(randn((n, n_prev)), randn((n, 1))) for n_prev, n in itertools.pairwise(NET.sizes))
    X, Y = randn((NET.sizes[0], m)), (random.random((1, m)) < 0.3).astype(np.float64)
    return jax.device_put(params), X, Y


def relative(tree, reference) -> float:
    """The largest difference of any entry, relative to the largest entry of its leaf."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True)
    return max(float(np.abs(np.subtract(*pair)).max() / np.abs(pair[1]).max()) for pair in pairs)


def taken(way: str, call, *arguments) -> float:
    """Seconds that a call takes; a long loop is run once, for its parts were compiled when m was small."""
    if way in LOOPS and arguments[1].shape[1] > COMPARED:
        began = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - began
    return experiment.seconds(call, *arguments, repeats=5)


def draw(counts, times, differences, mean_of_each, each, batch) -> Figure:
    """The times against m, how far the four ways differ, and the gradients of single examples about their mean."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    (forward, backward), (agreement, cloud) = figure.subplots(2, 2)
    for axes, (what, by_way) in zip((forward, backward), times.items(), strict=True):
        for way, (colour, marker) in STYLES.items():
            axes.loglog(counts, by_way[way], f"{marker}-", color=colour, label=way, markersize=5)
        axes.set(
            title="Time of all predictions" if what == "forward" else "Time of the gradient",
            xlabel="examples m",
            ylabel="time (s)",
        )
    forward.legend(loc="upper left", fontsize="small")
    draw_agreement(agreement, differences, mean_of_each)
    draw_cloud(cloud, each, batch)
    return figure


def draw_agreement(axes, differences, mean_of_each) -> None:
    """Differences from the matrix form, in units of the last digit."""
    bars = {
        f"{way}, {what}": difference
        for way, pair in differences.items()
        for what, difference in zip(("forward", "gradient"), pair, strict=True)
        if way != "matrix form"
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

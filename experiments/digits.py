"""Train a network with hand-written gradients on real handwritten digits, and prove the gradients first.

The notes' sections 5 and 8 as a job: 64-64-10, relu then softmax, on scikit-learn's 1,797 scanned
digits.
"""

import dataclasses
import functools
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.options import NonNegative, Positive, Share
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, ORANGE

NOTES = "sections 5 and 8"
DATA = (datasets.digits,)
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the digits experiment."""

    QUICK: ClassVar = {"seeds": 2}

    hidden: Positive[int] = 64
    """Units of the hidden layer."""
    epochs: Positive[int] = 40
    """Passes over the training digits."""
    batch_size: Positive[int] = 32
    """Examples a step."""
    learning_rate: Positive[float] = 5e-3
    """AdamW's first rate; it falls to 0 along a cosine."""
    weight_decay: NonNegative[float] = 0.03
    """AdamW's weight decay."""
    seeds: Positive[int] = 10
    """Runs, each with a split, a start and an order of its own; the mean accuracy counts."""
    target: Share = 0.97
    """Least mean test accuracy."""


def measure(config: Config) -> dict:
    """Check the gradients leaf by leaf, then train once per seed."""
    net = jaxnet.MLP((64, config.hidden, CLASSES), ("relu", "softmax"))
    first = datasets.digits(config.seed)
    optimizer = adamw(config, first.X.shape[1], config.learning_rate)
    dtypes = ("float32",) if config.quick else ("float64", "float32")
    reports = {dtype: check_own_gradient(net, first, config.seed, dtype) for dtype in dtypes}
    for dtype, report in reports.items():
        print(f"The hand-written gradient in {dtype}\n{report}\n")

    seeds = range(config.seed, config.seed + config.seeds)
    runs = [train(config, net, optimizer, seed) for seed in experiment.progress(seeds, "seed")]
    found = {
        "config": config,
        "split": first,
        "reports": reports,
        "first run": runs[0],
        **{f"{part} accuracy": np.array([run[part] for run in runs]) for part in ("train", "test")},
    }
    print(f"\n{len(seeds)} seeds, {config.epochs} epochs each")
    for part in ("train", "test"):
        accuracies = found[f"{part} accuracy"]
        print(f"{part:>5} accuracy {accuracies.mean():.2%}, from {accuracies.min():.2%} to {accuracies.max():.2%}")
    return found


def clauses(found: dict) -> dict[str, bool]:
    """The gradients are right, and they train the net to the target."""
    target = found["config"].target
    return {
        "the_hand_written_gradient_is_right": all(map(bool, found["reports"].values())),
        f"it_reads_{target:.0%}": bool(found["test accuracy"].mean() >= target),
    }


def claim(found: dict) -> str:
    """The mean test accuracy."""
    config = found["config"]
    return (
        f"Hand-written gradients equal autodiff's, and they train {(64, config.hidden, CLASSES)} to"
        f" {config.target:.0%} on unseen digits: {found['test accuracy'].mean():.2%} over {config.seeds} seeds."
    )


def metrics(found: dict) -> dict:
    """Accuracies, the verifier's reports, and the history of the first seed."""
    return {
        "test_accuracy_mean": found["test accuracy"].mean(),
        "test_accuracy": found["test accuracy"],
        "train_accuracy_mean": found["train accuracy"].mean(),
        "train_accuracy": found["train accuracy"],
        "gradient_check": {dtype: json.loads(report.to_json()) for dtype, report in found["reports"].items()},
        "history": found["first run"]["history"],
    }


def check_own_gradient(net: jaxnet.MLP, split: datasets.Split, seed: int, dtype: str) -> jaxnet.Report:
    """Return the verifier's report on the hand-written gradient, on a batch of 128 digits."""
    with jax.enable_x64(dtype == "float64"):
        params = jaxnet.init(net, jax.random.key(seed), dtype=dtype)
        X = jnp.asarray(split.X[:, :128], dtype)
        Y = jaxnet.one_hot(split.labels[:128], CLASSES, dtype)
        loss = functools.partial(jaxnet.cost, net)
        return jaxnet.check_gradients(loss, by_hand(net), params, X, Y, key=seed, raise_=False)


def by_hand(net: jaxnet.MLP):
    """The hand-written gradient as a function of (params, X, Y)."""
    return lambda params, X, Y: jaxnet.value_and_grad(net, params, X, Y)[1]


def adamw(config, m: int, rate) -> optax.GradientTransformation:
    """AdamW on m examples, whose rate falls to 0 along a cosine over the whole training.

    Raises:
        ValueError: a batch is larger than the m examples.
    """
    if config.batch_size > m:
        raise ValueError(f"--batch-size is {config.batch_size}; expected at most the {m} training examples")
    steps = config.epochs * -(-m // config.batch_size)
    return optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=config.weight_decay)


def train(config: Config, net: jaxnet.MLP, optimizer: optax.GradientTransformation, seed: int) -> dict:
    """Train on the split of that seed; return the history, both accuracies and the test predictions."""
    split = datasets.digits(seed)
    Y, Y_test = (jaxnet.one_hot(labels, CLASSES) for labels in (split.labels, split.labels_test))
    result = experiment.fit(
        config, net, split.X, Y, key=jax.random.key(seed), optimizer=optimizer, epochs=config.epochs,
        batch_size=config.batch_size, validation=(split.X_test, Y_test),
    )  # fmt: skip
    outputs = (np.asarray(jaxnet.predict(net, result.params, X)) for X in (split.X, split.X_test))
    read, predicted = (np.argmax(A, axis=0) for A in outputs)
    return {
        "net": net,
        "params": result.params,
        "history": result.history,
        "train": float(np.mean(read == split.labels)),
        "test": float(np.mean(predicted == split.labels_test)),
        "predicted": predicted,
    }


def draw(found: dict):
    """The costs, the gradients' agreement, the confusion matrix and the misread digits of the first seed."""
    figure, split, run = plots.figure(11, 8.5), found["split"], found["first run"]
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2.1))
    costs, confusion = top.subplots(1, 2)
    jaxnet.plot.history(run["history"], ax=costs)
    costs.set(title="The first seed; validation: the test digits", ylabel="cross-entropy J (nats an example)")
    Y_test = jaxnet.one_hot(split.labels_test, CLASSES)
    jaxnet.plot.confusion(run["net"], run["params"], split.X_test, Y_test, ax=confusion)
    confusion.set(title=f"Test digits: {confusion.get_title()}", xlabel="read as", ylabel="true digit")
    left, right = bottom.subfigures(1, 2)
    draw_agreement(left.subplots(), found["reports"])
    draw_misread(right, split, run["predicted"])
    return figure


def draw_agreement(axes, reports) -> None:
    """Relative error of each gradient leaf, and from where on the check would have failed."""
    floor = min(np.finfo(dtype).eps for dtype in reports) / 100  # an exact agreement has no place on a log axis
    for offset, colour, marker, (dtype, report) in zip(
        (-0.12, 0.12), (BLUE, ORANGE), "os", reports.items(), strict=False
    ):
        leaves = list(report.leaves.values())
        places = np.arange(len(leaves)) + offset
        axes.plot(places, [max(leaf.relative_error, floor) for leaf in leaves], marker, color=colour, label=dtype)
        axes.plot(
            places, [leaf.resolution for leaf in leaves], "_", color=colour, markersize=16, label=f"limit, {dtype}"
        )
    names = [f"d{leaf.path[-1]}[{number // 2 + 1}]" for number, leaf in enumerate(leaves)]
    axes.set(
        title="Hand-written gradient against autodiff", yscale="log", ylabel="relative error", ylim=(floor / 3, 1e-2),
        xticks=range(len(names)), xticklabels=names, xlim=(-0.5, len(names) + 0.9),
    )  # fmt: skip
    axes.legend(loc="center right", fontsize="small")


def draw_misread(figure, split: datasets.Split, predicted) -> None:
    """Up to ten misread test digits with both labels."""
    wrong = np.flatnonzero(predicted != split.labels_test)
    figure.suptitle(f"Misread test digits ({min(len(wrong), 10)} of {len(wrong)})", fontsize="large")
    for position, axes in enumerate(figure.subplots(2, 5).flat):
        axes.axis("off")
        if position < len(wrong):
            i = wrong[position]
            axes.imshow(split.raw_test[:, i].reshape(8, 8), cmap="Greys")
            axes.set_title(f"{split.labels_test[i]}, read {predicted[i]}", fontsize="medium")


if __name__ == "__main__":
    experiment.main("digits")

"""Train a network with hand-written gradients on real handwritten digits, and prove the gradients first.

The notes' sections 5 and 8 as a job: 64-64-10, relu then softmax, on scikit-learn's 1,797 scanned digits.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt
from tqdm import tqdm

import jaxnet
from experiments import experiment
from experiments.experiment import BLUE, ORANGE, Result
from jaxnet import data, parallel, validation

CLASSES = 10
AGREEMENT = {"float64": 1e-12, "float32": 1e-5}  # relative error of a leaf that counts as equal to autodiff


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the digits experiment."""

    hidden: int = 64
    """Units of the hidden layer."""
    epochs: int = 40
    """Passes over the training digits."""
    batch_size: int = 32
    """Examples a step."""
    learning_rate: float = 5e-3
    """AdamW's first rate; it falls to 0 along a cosine."""
    weight_decay: float = 0.03
    """AdamW's weight decay."""
    seeds: int = 10
    """Runs, each with a split, a start and an order of its own; the mean accuracy counts."""
    target: float = 0.97
    """Least mean test accuracy."""


def run(config: Config) -> Result:
    """Check the gradients leaf by leaf, train once per seed, and measure."""
    net = jaxnet.MLP((64, config.hidden, CLASSES), ("relu", "softmax"))
    device = parallel.device(config.device)
    first = data.digits(config.seed)
    optimizer = adamw(config, first.X.shape[1])
    seeds = range(config.seed, config.seed + validation.count("seeds", config.seeds))

    with jax.default_device(device):
        errors = gradient_errors(net, first, config.seed)
    agrees = all(error <= AGREEMENT[dtype] for dtype, leaves in errors.items() for error in leaves.values())
    print_gradient_check(errors)

    runs = [train(config, net, optimizer, seed) for seed in tqdm(seeds, unit="seed", disable=None, leave=False)]
    train_accuracy, test_accuracy = (np.array([run[part] for run in runs]) for part in ("train", "test"))
    print(f"\n{len(seeds)} seeds, {config.epochs} epochs each")
    for name, accuracies in (("train", train_accuracy), ("test", test_accuracy)):
        print(f"{name:>5} accuracy {accuracies.mean():.2%}, from {accuracies.min():.2%} to {accuracies.max():.2%}")

    return Result(
        claim=f"Hand-written gradients equal autodiff's, and they train {net.sizes} to {config.target:.0%} on unseen"
        f" digits: {test_accuracy.mean():.2%} over {len(seeds)} seeds.",
        held=bool(agrees and test_accuracy.mean() >= config.target),
        metrics={
            "test_accuracy_mean": float(test_accuracy.mean()),
            "test_accuracy": test_accuracy.tolist(),
            "train_accuracy_mean": float(train_accuracy.mean()),
            "train_accuracy": train_accuracy.tolist(),
            "gradient_relative_error": errors,
            "history": {name: values.tolist() for name, values in runs[0]["history"].items()},
        },
        figure=draw(first, runs[0], errors),
    )


def gradient_errors(net: jaxnet.MLP, split: data.Split, seed: int) -> dict[str, dict[str, float]]:
    """Return ‖manual - autodiff‖ / ‖autodiff‖ for each leaf, in float64 and in float32, on a batch of 128 digits."""
    errors = {}
    for dtype in AGREEMENT:
        with jax.enable_x64(dtype == "float64"):
            params = jaxnet.init(net, jax.random.key(seed), dtype=dtype)
            X = jnp.asarray(split.X[:, :128], dtype)
            Y = jaxnet.one_hot(split.labels[:128], CLASSES, dtype)
            _, manual = jaxnet.value_and_grad(net, params, X, Y)
            autodiff = jax.grad(jaxnet.cost, argnums=1)(net, params, X, Y)
            relative = jax.tree.map(lambda g, r: float(jnp.linalg.norm(g - r) / jnp.linalg.norm(r)), manual, autodiff)
            errors[dtype] = {
                f"d{path[1].name}[{path[0].idx + 1}]": error
                for path, error in jax.tree_util.tree_leaves_with_path(relative)
            }
    return errors


def print_gradient_check(errors: dict[str, dict[str, float]]) -> None:
    """Print the gradient check, a line a leaf."""
    print("Gradient check: relative error of the hand-written gradient against jax.grad")
    print("leaf    " + "".join(f"{dtype:>12}" for dtype in errors))
    for leaf in errors["float64"]:
        print(f"{leaf:8}" + "".join(f"{errors[dtype][leaf]:12.1e}" for dtype in errors))
    print("limit   " + "".join(f"{AGREEMENT[dtype]:12.0e}" for dtype in errors))


def adamw(config: Config, m: int) -> optax.GradientTransformation:
    """Return AdamW whose rate falls to 0 along a cosine over the whole training."""
    steps = validation.count("epochs", config.epochs) * -(-m // validation.batches(config.batch_size, m))
    rate = optax.cosine_decay_schedule(validation.positive("learning_rate", config.learning_rate), steps)
    decay = config.weight_decay and validation.positive("weight_decay", config.weight_decay)
    return optax.adamw(rate, weight_decay=decay)


def train(config: Config, net: jaxnet.MLP, optimizer: optax.GradientTransformation, seed: int) -> dict:
    """Train on the split of that seed; return the history, both accuracies and the test predictions."""
    split = data.digits(seed)
    Y, Y_test = (jaxnet.one_hot(labels, CLASSES) for labels in (split.labels, split.labels_test))
    result = jaxnet.fit(
        net, split.X, Y, key=jax.random.key(seed), optimizer=optimizer, epochs=config.epochs,
        batch_size=config.batch_size, validation=(split.X_test, Y_test), progress=False, device=config.device,
    )  # fmt: skip
    A, A_test = (jaxnet.predict(net, result.params, X) for X in (split.X, split.X_test))
    return {
        "history": result.history,
        "train": float(jaxnet.accuracy(A, Y)),
        "test": float(jaxnet.accuracy(A_test, Y_test)),
        "predicted": np.asarray(A_test.argmax(axis=0)),
    }


def draw(split: data.Split, run: dict, errors: dict[str, dict[str, float]]) -> plt.Figure:
    """Draw the costs, the gradients' agreement, the confusion matrix and the misread digits of the first seed."""
    figure = plt.figure(figsize=(11, 8.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2.1))
    costs, confusion = top.subplots(1, 2)
    draw_costs(costs, run["history"])
    draw_confusion(confusion, split.labels_test, run["predicted"])
    left, right = bottom.subfigures(1, 2)
    draw_agreement(left.subplots(), errors)
    draw_misread(right, split, run["predicted"])
    return figure


def draw_costs(axes, history) -> None:
    """Cost against epoch, on a log axis."""
    epochs = np.arange(1, len(history["cost"]) + 1)
    axes.semilogy(epochs, history["cost"], color=BLUE, label="training")
    axes.semilogy(epochs, history["validation_cost"], color=ORANGE, linestyle="--", label="test")
    axes.set(title="Cost of the first seed", xlabel="epoch", ylabel="cross-entropy J (nats an example)")
    axes.legend()


def draw_confusion(axes, labels, predicted) -> None:
    """How often each digit was read as each."""
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, predicted), 1)
    axes.imshow(np.sqrt(counts), cmap="Blues")  # the root makes single errors visible
    for (true, read), n in np.ndenumerate(counts):
        if n:
            axes.text(read, true, n, ha="center", va="center", color="white" if n > counts.max() / 3 else "black")
    axes.set(
        title=f"Test digits: {np.trace(counts)} of {counts.sum()} read right", xlabel="read as", ylabel="true digit",
        xticks=range(CLASSES), yticks=range(CLASSES),
    )  # fmt: skip


def draw_agreement(axes, errors) -> None:
    """Relative error of each gradient leaf against autodiff, with the limit that counts as equal."""
    leaves = list(errors["float64"])
    floor = 1e-17  # an exact agreement has no place on a log axis
    for offset, colour, marker, (dtype, found) in zip((-0.1, 0.1), (BLUE, ORANGE), "os", errors.items(), strict=True):
        heights = [max(found[leaf], floor) for leaf in leaves]
        axes.plot(np.arange(len(leaves)) + offset, heights, marker, color=colour, label=dtype)
        axes.axhline(AGREEMENT[dtype], color=colour, linestyle=":", label=f"limit, {dtype}")
    axes.set(
        title="Hand-written gradient against jax.grad", yscale="log", ylabel="relative error", ylim=(floor / 3, 1e-2),
        xticks=range(len(leaves)), xticklabels=leaves, xlim=(-0.5, len(leaves) + 0.9),
    )  # fmt: skip
    axes.legend(loc="center right", fontsize="small")


def draw_misread(figure, split: data.Split, predicted) -> None:
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
    experiment.main("digits", run, Config)

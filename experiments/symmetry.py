"""Hidden units that start equal stay equal for ever, bit for bit; randn * 0.01 sets them apart.

The notes' section 10 on the flower, 2-4-1, gradient descent with rate 1.2: W = 0 against W = randn * 0.01, b = 0 in
both. With tanh, zero weights make every dW zero and nothing but b[2] can move, so both starts also run with sigmoid
hidden units, whose weights do move from zero: all four rows of W[1] together, as one unit would.

A fifth of one class is left out: with classes of equal size, and zero weights, even sigmoid's dW[2] is zero.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, below
from experiments.runner.options import Positive
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, GREEN, ORANGE, RED

NOTES = "section 10"
DATA = (datasets.flower,)
UNITS = 4
HIDDEN = ("tanh", "sigmoid")
STARTS = ("zeros", "randn")
BROKEN = 0.8  # an accuracy that a net with unequal units exceeds, and one unit does not reach


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the symmetry experiment."""

    QUICK: ClassVar = {"steps": 3000}

    steps: Positive[int] = 10_000
    """Steps of gradient descent on all points."""
    learning_rate: Positive[float] = 1.2
    """The rate of W -= rate * dW."""
    init_scale: Positive[float] = 0.01
    """The other start's W is randn times this."""


def measure(config: Config) -> dict:
    """Train both starts with both activations: the rows of W[1] after every step, and the accuracy before it."""
    X, Y = uneven_flower()
    traces = {activation: train(config, activation, X, Y) for activation in HIDDEN}
    runs = {f"{activation}, {start}": by[start] for activation, by in traces.items() for start in STARTS}
    found = {"config": config, "traces": runs, "runs": {name: summary(trace) for name, trace in runs.items()}}
    for name, run in found["runs"].items():
        print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.6g}" for key, value in run.items()))
    return found


def by_start(found: dict, start: str) -> list[dict]:
    """The runs from a start, with either activation."""
    return [run for name, run in found["runs"].items() if name.endswith(start)]


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Zero rows stay equal and learn nothing, though they move; random ones do not."""
    zeros, randn = (by_start(found, start) for start in STARTS)
    return {
        "zero_rows_are_bit_equal_after_every_step": all(
            run["steps_with_equal_rows"] == found["config"].steps for run in zeros
        ),
        "largest_weight_that_sigmoid_reaches_from_zero": above(found["runs"]["sigmoid, zeros"]["largest_weight"], 0),
        "random_rows_never_are": all(run["steps_with_equal_rows"] == 0 for run in randn),
        "accuracy_from_zero": below([run["accuracy"] for run in zeros], BROKEN),
        "accuracy_from_random_weights": above([run["accuracy"] for run in randn], BROKEN),
    }


def claim(found: dict) -> str:
    """The accuracies from both starts."""
    zeros, randn = (max(run["accuracy"] for run in by_start(found, start)) for start in STARTS)
    config = found["config"]
    return (
        f"From zero the {UNITS} rows of W[1] are bit-equal after each of {config.steps:,} steps and the accuracy is at"
        f" most {zeros:.1%}; randn * {config.init_scale:g} reaches {randn:.1%}."
    )


def metrics(found: dict) -> dict:
    """The summary of each run."""
    return found["runs"]


def uneven_flower():
    """The flower without every fifth point of class 1."""
    X, Y = datasets.flower()
    chosen = (Y[0] == 0) | (np.arange(Y.shape[1]) % 5 > 0)
    return jnp.asarray(X[:, chosen], jnp.float32), jnp.asarray(Y[:, chosen], jnp.float32)


def train(config: Config, activation: str, X, Y) -> dict[str, dict[str, np.ndarray]]:
    """Descend from each start; return after every step W[1], whether its rows are bit-equal, before it the accuracy."""
    net = jaxnet.MLP((2, UNITS, 1), (activation, "sigmoid"))
    optimizer = optax.sgd(config.learning_rate)
    step = jaxnet.train_step(net, optimizer)

    def traced_step(state, _):
        state, metrics = step(state, X, Y)
        W = state.params[0].W
        return state, {"W": W, "equal": rows_equal(W), "accuracy": metrics["accuracy"]}

    descent = jax.jit(functools.partial(jax.lax.scan, traced_step, length=config.steps))
    key, traces = jax.random.key(config.seed), {}
    for start, scheme in (("zeros", "zeros"), ("randn", config.init_scale)):
        params = jaxnet.init(net, key, scheme)
        _, trace = descent(jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), key), None)
        traces[start] = jax.device_get(trace)
    return traces


def rows_equal(W: jax.Array) -> jax.Array:
    """Whether all rows have the same bits; a comparison of numbers would take -0 for 0."""
    bits = jax.lax.bitcast_convert_type(W, jnp.uint32)
    return (bits == bits[:1]).all()


def summary(trace: dict[str, np.ndarray]) -> dict[str, float]:
    """The last accuracy and weights of a run, and how often its rows were equal."""
    last = trace["W"][-1]
    return {
        "accuracy": float(trace["accuracy"][-1]),
        "steps_with_equal_rows": int(trace["equal"].sum()),
        "largest_weight": float(np.abs(last).max()),
        "largest_difference_of_rows": float(np.ptp(last, axis=0).max()),
    }


def draw(found: dict):
    """The accuracies, and the first weight of each hidden unit from both starts."""
    figure, runs = plots.figure(12, 4.2), found["traces"]
    accuracies, *weights = figure.subplots(1, 3)
    styles = zip((RED, GREEN, ORANGE, BLUE), ("--", "-", "--", "-"), strict=True)
    for (name, trace), (colour, line) in zip(runs.items(), styles, strict=True):
        accuracies.plot(*subsample(100 * trace["accuracy"]), line, color=colour, label=name)
    accuracies.set(title="Accuracy", xlabel="step", ylabel="accuracy (%)", ylim=(40, 100))
    accuracies.legend(fontsize="small", loc="center right", bbox_to_anchor=(1, 0.65))
    titles = ("W = 0", f"W = randn * {found['config'].init_scale:g}")
    for axes, start, title, widths in zip(weights, STARTS, titles, ((8, 6, 4, 2), (2, 2, 2, 2)), strict=True):
        trace = runs[f"sigmoid, {start}"]["W"][:, :, 0]
        for unit, (colour, width) in enumerate(zip((BLUE, ORANGE, GREEN, RED), widths, strict=True)):
            axes.plot(*subsample(trace[:, unit]), color=colour, linewidth=width, label=f"unit {unit + 1}")
        axes.set(title=f"{title}: first weight of each", xlabel="step", ylabel="W[1][unit, 1], sigmoid units")
        axes.legend(fontsize="small", loc="upper right" if start == "zeros" else "upper left")
    return figure


def subsample(values: np.ndarray, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """The steps and their values, as many as a figure can show."""
    steps = np.unique(np.linspace(0, len(values) - 1, points).astype(int))
    return steps + 1, values[steps]


if __name__ == "__main__":
    experiment.main("symmetry")

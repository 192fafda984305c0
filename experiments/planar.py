"""On the flower the accuracy of a line is about one half, and that of four tanh units nine tenths.

The notes' section 8 as the public course exercise has it: 400 points of a flower of two classes, four petals
each (`jaxnet.datasets.flower`, made by NumPy's RandomState(1)), nets 2-n-1, tanh then sigmoid, W = randn * 0.01, and
10,000 steps of W -= 1.2 dW on all points. Logistic regression, a net without a hidden layer, comes first.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, below
from experiments.runner.options import Positive
from experiments.runner.results import packed
from jaxnet import datasets
from jaxnet.mlp import Params
from jaxnet.plot.colours import BLUE, ORANGE

NOTES = "section 8"
DATA = (datasets.flower,)
WIDTHS, WIDTHS_OF_QUICK = (1, 2, 3, 4, 5, 20, 50), (1, 2, 4, 20)  # the public exercise's, and some of them
SCALES = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)  # of the flower by hand: from the zero start to saturation
SMALL = SCALES.index(0.01)
STOPS = 60  # of its slider of steps
EVERY = 1000  # steps from one cost in the table to the next
NEAR_HALF = 0.15  # of the accuracy of a line on the flower
BENT = 0.85  # from MANY units on every net is better than this
FEW, MANY = 2, 4  # with at most FEW hidden units none is


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the planar experiment."""

    QUICK: ClassVar = {"hidden": (1, 4), "steps": 5000}

    hidden: tuple[Positive[int], ...] = WIDTHS
    """Hidden units, one net each."""
    steps: Positive[int] = 10_000
    """Steps of gradient descent on all points."""
    learning_rate: Positive[float] = 1.2
    """The rate of W -= rate * dW."""
    init_scale: Positive[float] = 0.01
    """W starts as randn times this."""

    def __post_init__(self):
        """Refuses options that leave out the net that the claim is about."""
        super().__post_init__()
        if max(self.hidden) < MANY:
            given = " ".join(map(str, self.hidden))
            raise ValueError(
                f"--hidden {given}: expected {MANY} units or more in one net, which the claim is about, such as"
                f" --hidden {given} {MANY}"
            )


def measure(config: Config) -> dict:
    """Train logistic regression and a net of each width."""
    X, Y = (part.astype(np.float32) for part in datasets.flower())
    nets = [jaxnet.MLP((2, 1), ("sigmoid",))]
    nets += [jaxnet.MLP((2, n, 1), ("tanh", "sigmoid")) for n in config.hidden]
    optimizer = optax.sgd(config.learning_rate)
    results = experiment.thread_map(lambda net: train(config, optimizer, net, X, Y), nets, "net")
    found = {
        "data": (X, Y),
        "steps": [*range(0, config.steps, EVERY), config.steps],
        "nets": {title(net): result for net, result in zip(nets, results, strict=True)},
    }
    print("\n".join(table(found)))
    return found


def title(net: jaxnet.MLP) -> str:
    """The name of a net, by its hidden units."""
    return "logistic regression" if len(net.sizes) == 2 else f"n = {net.sizes[1]}"


def explore(config: Config) -> dict:
    """Params, cost and accuracy along the descent, for each width and initial scale of the flower by hand."""
    X, Y = (part.astype(np.float32) for part in datasets.flower())
    steps = logarithmic(config.steps, STOPS)

    def descents(n: int) -> tuple:
        """Params, costs and accuracies of one width, with a leading axis of scales and one of steps."""
        net, key = jaxnet.MLP((2, n, 1), ("tanh", "sigmoid")), jax.random.key(config.seed)
        starts = [jaxnet.init(net, key, scale or "zeros") for scale in SCALES]
        found = [descent(net, start, config.learning_rate, np.diff(steps, prepend=0), X, Y) for start in starts]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *found)

    widths = WIDTHS_OF_QUICK if config.quick else WIDTHS
    nets = dict(zip(widths, experiment.thread_map(descents, widths, "width"), strict=True))
    shown = jax.tree.map(lambda leaf: leaf[SMALL, -1], nets[MANY][0])
    return {
        "still": still(shown, X, Y),
        "X": packed(X.T, "float32"),
        "y": Y[0].astype(int),
        "scales": SCALES,
        "rate": config.learning_rate,
        "steps": steps,
        "nets": [
            {
                "units": n,
                "params": [{"W": packed(W), "b": packed(b[..., 0])} for W, b in params],
                "cost": packed(costs, "float32"),
                "accuracy": packed(accuracies, "float32"),
            }
            for n, (params, costs, accuracies) in nets.items()
        ],
        "start": {"net": widths.index(MANY), "scale": SMALL, "step": len(steps) - 1},
    }


def logarithmic(last: int, most: int) -> np.ndarray:
    """0, 1, ..., last: at most so many whole numbers, on a logarithmic scale as far as whole numbers can be."""
    grids = (np.unique([0, *np.geomspace(1, last, n).round().astype(int)]) for n in range(2, 3 * most))
    return max((grid for grid in grids if len(grid) <= most), key=len)


@partial(jax.jit, static_argnums=0)
def descent(net: jaxnet.MLP, params: Params, rate: float, gaps: np.ndarray, X, Y) -> tuple:
    """The notes' W -= α dW, with params, cost and accuracy after each gap of so many steps.

    `jaxnet.sweep` trains many such nets, but keeps the last params alone.
    """

    def step(params: Params) -> Params:
        _, grads = jaxnet.value_and_grad(net, params, X, Y)
        return jax.tree.map(lambda leaf, derivative: leaf - rate * derivative, params, grads)

    def after(params: Params, gap) -> tuple:
        params = jax.lax.fori_loop(0, gap, lambda _, params: step(params), params)
        return params, (params, jaxnet.cost(net, params, X, Y), jaxnet.accuracy(jaxnet.predict(net, params, X), Y))

    return jax.lax.scan(after, params, gaps)[1]


def train(config: Config, optimizer, net: jaxnet.MLP, X, Y) -> dict:
    """Full-batch gradient descent; return the net, its params, its accuracy and its costs every 1,000 steps."""
    params = jaxnet.init(net, jax.random.key(config.seed), config.init_scale)
    result = experiment.fit(config, net, X, Y, params=params, optimizer=optimizer, steps=config.steps, batch_size=None)
    last, accuracy = map(float, experiment.cost_and_accuracy(net, result.params, X, Y))  # the history ends before it
    return {
        "net": net,
        "params": result.params,
        "accuracy": accuracy,
        "costs": [*result.history["cost"][::EVERY].tolist(), last],
    }


def accuracies(found: dict, least: float, most: float) -> list[float]:
    """The accuracies of the nets with so many hidden units; logistic regression has none."""
    by_units = {0 if len(net["net"].sizes) == 2 else net["net"].sizes[1]: net for net in found["nets"].values()}
    return [net["accuracy"] for n, net in by_units.items() if least <= n <= most]


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Few units leave it a line, many bend it."""
    (line,), few, many = accuracies(found, 0, 0), accuracies(found, 1, FEW), accuracies(found, MANY, np.inf)
    return {
        "distance_of_logistic_regression_from_one_half": below(abs(line - 0.5), NEAR_HALF),
        f"accuracy_of_{MANY}_units_or_more": above(many, BENT),
        f"accuracy_of_{FEW}_units_or_fewer": below(max(few, default=0), BENT),
        "last_cost_over_the_first": below([net["costs"][-1] / net["costs"][0] for net in found["nets"].values()], 1),
    }


def claim(found: dict) -> str:
    """The accuracies of the line and of the wide nets."""
    (line,), many = accuracies(found, 0, 0), accuracies(found, MANY, np.inf)
    return (
        f"On the flower the accuracy of logistic regression is {line:.1%}, that of {MANY} tanh units or more at least"
        f" {min(many):.1%}."
    )


def metrics(found: dict) -> dict:
    """The accuracy of each net, and its cost every 1,000 steps."""
    return {
        "accuracy_and_cost_after_steps": {
            name: {"accuracy": net["accuracy"], **dict(zip(found["steps"], net["costs"], strict=True))}
            for name, net in found["nets"].items()
        }
    }


def still(params: Params, X, Y) -> str:
    """The picture that the flower by hand starts with: shaded probability under the points of both classes."""
    from matplotlib.colors import to_rgba

    end = 1.1 * float(np.abs(X).max())
    side = np.linspace(-end, end, 90, dtype=np.float32)
    net = jaxnet.MLP((2, len(params[0].W), 1), ("tanh", "sigmoid"))
    A = np.asarray(jaxnet.predict(net, params, np.stack(np.meshgrid(side, side)).reshape(2, -1))).reshape(90, 90)
    shade = np.where(A[..., None] > 0.5, to_rgba(BLUE), to_rgba(ORANGE))
    shade[..., 3] = 0.7 * np.abs(2 * A - 1)
    figure = plots.figure(4.4, 4.4)
    axes = figure.subplots()
    axes.imshow(shade, extent=(-end, end, -end, end), origin="lower", interpolation="none")
    for y, colour, marker in ((0, ORANGE, "s"), (1, BLUE, "o")):
        axes.scatter(*X[:, Y[0] == y], s=14, color=colour, marker=marker, edgecolors="white", linewidths=0.6)
    axes.axis("off")
    return plots.svg(
        figure, "flower", f"The flower, two classes of points, and what {net.sizes[1]} hidden units say of it"
    )


def table(found: dict) -> list[str]:
    """The accuracies, and the cost every 1,000 steps, one line a net."""
    lines = [f"{'':20}{'accuracy':>9}" + "".join(f"{step:>8,}" for step in found["steps"])]
    for name, net in found["nets"].items():
        lines.append(f"{name:20}{net['accuracy']:>9.1%}" + "".join(f"{J:>8.4f}" for J in net["costs"]))
    return lines


def draw(found: dict):
    """The boundary of each network over the points, and its accuracy."""
    trained = found["nets"]
    columns = min(4, len(trained))
    rows = -(-len(trained) // columns)
    figure = plots.figure(11, 3.2 * rows)
    boundaries = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in boundaries.flat[len(trained) :]:
        axes.axis("off")
    for axes, (name, net) in zip(boundaries.flat, trained.items(), strict=False):
        jaxnet.plot.decision_boundary(net["net"], net["params"], *found["data"], ax=axes)
        axes.set(aspect="equal", title=f"{name}: {net['accuracy']:.1%}")
        if axes is not boundaries.flat[0]:
            axes.get_legend().remove()
    return figure


if __name__ == "__main__":
    experiment.main("planar")

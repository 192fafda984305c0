"""On the flower a line is right about half the time, and four tanh units nine times in ten.

The notes' section 8 as the public course exercise has it: 400 points of a flower of two classes, four petals
each (`jaxnet.datasets.flower`, made by NumPy's RandomState(1)), nets 2-n-1, tanh then sigmoid, W = randn * 0.01, and
10,000 steps of W -= 1.2 dW on all points. Logistic regression, a net without a hidden layer, comes first.
"""

import dataclasses
from typing import ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, ORANGE, Figure, Result
from jaxnet import checks, datasets

NOTES = "section 8"
DATA = (datasets.flower,)
EVERY = 1000  # steps from one cost in the table to the next
GRID = 160  # points along each side of a drawn boundary
LINE = (0.35, 0.65)  # a line on the flower: about half right
BENT = 0.85  # from MANY units on every net is better than this
FEW, MANY = 2, 4  # with at most FEW hidden units none is


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the planar experiment."""

    QUICK: ClassVar = {"hidden": (1, 4), "steps": 5000}

    hidden: tuple[int, ...] = (1, 2, 3, 4, 5, 20, 50)
    """Hidden units, one net each."""
    steps: int = 10_000
    """Steps of gradient descent on all points."""
    learning_rate: float = 1.2
    """The rate of W -= rate * dW."""
    init_scale: float = 0.01
    """W starts as randn times this."""


def run(config: Config) -> Result:
    """Train logistic regression and a net of each width; measure and draw their boundaries."""
    X, Y = (part.astype(np.float32) for part in datasets.flower())
    nets = [jaxnet.MLP((2, 1), ("sigmoid",))]
    nets += [jaxnet.MLP((2, n, 1), ("tanh", "sigmoid")) for n in config.hidden]
    if max(config.hidden) < MANY:
        raise ValueError(f"hidden is {config.hidden}; expected {MANY} units or more in one net, of which the claim is")
    optimizer = optax.sgd(checks.positive("learning_rate", config.learning_rate))
    results = experiment.side_by_side(lambda net: train(config, optimizer, net, X, Y), nets, "net")
    trained = {name_of(net): result for net, result in zip(nets, results, strict=True)}

    line, *curves = (net["accuracy"] for net in trained.values())
    many = [share for n, share in zip(config.hidden, curves, strict=True) if n >= MANY]
    few = [share for n, share in zip(config.hidden, curves, strict=True) if n <= FEW]
    steps = [*range(0, config.steps, EVERY), config.steps]
    print("\n".join(table(steps, trained)))
    clauses = {
        "a_line_is_half_right": LINE[0] < line < LINE[1],
        f"{MANY}_units_or_more_bend_it": min(many) > BENT,
        f"{FEW}_units_or_fewer_do_not": max(few, default=0) < BENT,
        "every_cost_falls": all(net["costs"][-1] < net["costs"][0] for net in trained.values()),
    }
    return Result(
        claim=f"On the flower logistic regression gets {line:.1%} right and nets of {MANY} tanh units or more from"
        f" {min(many):.1%} to {max(many):.1%}.",
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "accuracy_and_cost_after_steps": {
                name: {"accuracy": net["accuracy"], **dict(zip(steps, net["costs"], strict=True))}
                for name, net in trained.items()
            },
        },
        figure=draw(steps, trained, X, Y),
    )


def name_of(net: jaxnet.MLP) -> str:
    """What a net is called: by its hidden units."""
    return "logistic regression" if len(net.sizes) == 2 else f"n = {net.sizes[1]}"


def train(config: Config, optimizer, net: jaxnet.MLP, X, Y) -> dict:
    """Full-batch gradient descent; return the net, its params, its accuracy and its costs every 1,000 steps."""
    key = jax.random.key(config.seed)
    params = jaxnet.init(net, key, checks.positive("init_scale", config.init_scale))
    result = jaxnet.fit(
        net, X, Y, key=key, optimizer=optimizer, steps=config.steps, batch_size=None,
        params=params, progress=False, device=config.device,
    )  # fmt: skip
    last, accuracy = map(float, experiment.cost_and_accuracy(net, result.params, X, Y))  # the history ends before it
    return {
        "net": net,
        "params": result.params,
        "accuracy": accuracy,
        "costs": [*result.history["cost"][::EVERY].tolist(), last],
    }


def table(steps: list[int], trained: dict) -> list[str]:
    """The accuracies, and the cost every 1,000 steps, one line a net."""
    lines = [f"{'':20}{'accuracy':>9}" + "".join(f"{step:>8,}" for step in steps)]
    for name, net in trained.items():
        lines.append(f"{name:20}{net['accuracy']:>9.1%}" + "".join(f"{J:>8.4f}" for J in net["costs"]))
    return lines


def draw(steps: list[int], trained: dict, X, Y) -> Figure:
    """Draw every boundary over the points, and under them the table of accuracies and costs."""
    columns = 4
    rows = -(-len(trained) // columns)
    figure = Figure(figsize=(11, 2.9 * rows + 0.4 + 0.29 * len(trained)), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.9 * rows, 0.4 + 0.29 * len(trained)))
    boundaries = top.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in boundaries.flat[len(trained) :]:
        axes.axis("off")
    for axes, (name, net) in zip(boundaries.flat, trained.items(), strict=False):
        draw_boundary(axes, net, X, Y)
        axes.set_title(f"{name}: {net['accuracy']:.1%}", fontsize="medium")
    top.supxlabel("$x_1$")
    top.supylabel("$x_2$")
    draw_table(bottom.subplots(), steps, trained)
    return figure


def draw_boundary(axes, net: dict, X, Y) -> None:
    """The points in their classes' colours, and behind them what the net says of the plane."""
    low, high = X.min() - 0.5, X.max() + 0.5
    side = np.linspace(low, high, GRID, dtype=np.float32)
    plane = np.stack(np.meshgrid(side, side)).reshape(2, -1)
    A = np.asarray(jaxnet.predict(net["net"], net["params"], plane)).reshape(GRID, GRID)
    axes.contourf(side, side, A, levels=(0, 0.5, 1), colors=(BLUE, ORANGE), alpha=0.3)
    for label, colour, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
        axes.scatter(*X[:, Y[0] == label], s=5, color=colour, marker=marker)
    axes.set(aspect="equal", xlim=(low, high), ylim=(low, high))


def draw_table(axes, steps, trained: dict) -> None:
    """Accuracies, and the cost every 1,000 steps."""
    cells = [[f"{net['accuracy']:.1%}", *(f"{J:.3f}" for J in net["costs"])] for net in trained.values()]
    axes.axis("off")
    axes.set_title("Accuracy, and cross-entropy J (nats an example) after so many steps", fontsize="medium")
    drawn = axes.table(
        cells, rowLabels=list(trained), colLabels=["accuracy", *(f"{step:,}" for step in steps)], loc="center",
        edges="horizontal",
    )  # fmt: skip
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8.5)
    drawn.scale(1, 1.25)


if __name__ == "__main__":
    experiment.main("planar")

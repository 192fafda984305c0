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
from experiments.runner import experiment, plots
from experiments.runner.options import Positive
from jaxnet import datasets

NOTES = "section 8"
DATA = (datasets.flower,)
EVERY = 1000  # steps from one cost in the table to the next
LINE = (0.35, 0.65)  # a line on the flower: about half right
BENT = 0.85  # from MANY units on every net is better than this
FEW, MANY = 2, 4  # with at most FEW hidden units none is


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the planar experiment."""

    QUICK: ClassVar = {"hidden": (1, 4), "steps": 5000}

    hidden: tuple[Positive[int], ...] = (1, 2, 3, 4, 5, 20, 50)
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


def clauses(found: dict) -> dict[str, bool]:
    """Few units leave it a line, many bend it."""
    (line,), few, many = accuracies(found, 0, 0), accuracies(found, 1, FEW), accuracies(found, MANY, np.inf)
    return {
        "a_line_is_half_right": LINE[0] < line < LINE[1],
        f"{MANY}_units_or_more_bend_it": min(many) > BENT,
        f"{FEW}_units_or_fewer_do_not": max(few, default=0) < BENT,
        "every_cost_falls": all(net["costs"][-1] < net["costs"][0] for net in found["nets"].values()),
    }


def claim(found: dict) -> str:
    """The accuracies of the line and of the wide nets."""
    (line,), many = accuracies(found, 0, 0), accuracies(found, MANY, np.inf)
    return (
        f"On the flower logistic regression gets {line:.1%} right and nets of {MANY} tanh units or more from"
        f" {min(many):.1%} to {max(many):.1%}."
    )


def metrics(found: dict) -> dict:
    """The accuracy of each net, and its cost every 1,000 steps."""
    return {
        "accuracy_and_cost_after_steps": {
            name: {"accuracy": net["accuracy"], **dict(zip(found["steps"], net["costs"], strict=True))}
            for name, net in found["nets"].items()
        }
    }


def table(found: dict) -> list[str]:
    """The accuracies, and the cost every 1,000 steps, one line a net."""
    lines = [f"{'':20}{'accuracy':>9}" + "".join(f"{step:>8,}" for step in found["steps"])]
    for name, net in found["nets"].items():
        lines.append(f"{name:20}{net['accuracy']:>9.1%}" + "".join(f"{J:>8.4f}" for J in net["costs"]))
    return lines


def draw(found: dict):
    """Draw every boundary over the points, and under them the table of accuracies and costs."""
    trained = found["nets"]
    columns = min(4, len(trained))
    rows = -(-len(trained) // columns)
    figure = plots.figure(11, 3.2 * rows + 0.4 + 0.29 * len(trained))
    top, bottom = figure.subfigures(2, 1, height_ratios=(3.2 * rows, 0.4 + 0.29 * len(trained)))
    boundaries = top.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in boundaries.flat[len(trained) :]:
        axes.axis("off")
    for axes, (name, net) in zip(boundaries.flat, trained.items(), strict=False):
        jaxnet.plot.decision_boundary(net["net"], net["params"], *found["data"], ax=axes)
        axes.set(xlabel="", ylabel="", aspect="equal")
        axes.set_title(f"{name}: {net['accuracy']:.1%}", fontsize="medium")
        if axes is not boundaries.flat[0]:
            axes.get_legend().remove()
    top.supxlabel("$x_1$")
    top.supylabel("$x_2$")
    draw_table(bottom.subplots(), found["steps"], trained)
    return figure


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

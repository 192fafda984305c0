"""However deep, a network with identity activations is one linear layer, W'x + b', and no better than one.

The notes' section 6. On two half moons, networks 2-8-...-8-1 with identity hidden layers and a sigmoid output are
trained beside one with two tanh layers. Their layers multiplied out, W' = W[L] ... W[1], give the same z[L]. So no cost
of theirs, at any step, is below logistic regression's minimum, found here by scikit-learn; and none is right more often
than the best of all lines, found by trying them: more often than logistic regression a line may be, for least cost is
not most right.
"""

import dataclasses
import itertools
from typing import ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.planar import draw_boundary
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, Figure, Result
from jaxnet import checks, datasets

NOTES = "section 6"
DATA = (datasets.moons,)
WIDTH = 8
SAME = 1e-12  # the difference of a deep linear network from W'x + b', in float64, relative to the largest z[L]
ROUNDING = 1e-6  # of a cost in float32


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the linearity experiment."""

    QUICK: ClassVar = {"depths": (1, 4), "steps": 1000}

    depths: tuple[int, ...] = (1, 2, 4, 8)
    """Hidden layers of the identity networks."""
    steps: int = 2000
    """Steps on all points."""
    learning_rate: float = 0.01
    """Adam's rate."""


def run(config: Config) -> Result:
    """Train the networks, multiply the linear ones out, and compare with logistic regression."""
    depths = tuple(checks.count("depths", depth) for depth in config.depths)
    X, Y = (part.astype(np.float32) for part in datasets.moons(seed=config.seed))
    floor, line = logistic_regression(X, Y)
    most = best_line(X, Y)
    adam = optax.adam(checks.positive("learning_rate", config.learning_rate))
    nets = [("tanh", 2), *(("identity", depth) for depth in depths)]
    bent, *straight = experiment.side_by_side(lambda net: train(config, adam, *net, X, Y), nets, "net")
    linear = dict(zip(depths, straight, strict=True))
    differences = {depth: difference_from_one_layer(one["net"], one["params"], X) for depth, one in linear.items()}

    lowest = min(float(one["costs"].min()) for one in linear.values())
    accuracy = {depth: one["accuracy"] for depth, one in linear.items()}
    print(f"logistic regression: cost {floor:.6f}, {line:.1%} right; the best line for that: {most:.1%} right")
    print(f"the lowest cost of an identity network: {lowest:.6f}, the most right: {max(accuracy.values()):.1%}")
    clauses = {
        "identity_layers_are_one_layer": max(differences.values()) <= SAME,
        "their_cost_is_never_below_logistic_regressions": lowest >= floor - ROUNDING,
        "none_is_right_more_often_than_the_best_line": max(accuracy.values()) <= most,
        "tanh_separates": bent["accuracy"] == 1,
    }
    return Result(
        claim=f"Networks of {', '.join(map(str, depths))} identity layers equal W'x + b' to"
        f" {max(differences.values()):.0e}; their lowest cost is {lowest:.4f}, logistic regression's {floor:.4f}. They"
        f" are at most {max(accuracy.values()):.1%} right, the best of all lines {most:.1%}, logistic regression"
        f" {line:.1%}, two tanh layers {bent['accuracy']:.1%}.",
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "accuracy_of_the_best_line": most,
            "logistic_regression": {"cost": floor, "accuracy": line},
            "two_tanh_layers": {"cost": float(bent["costs"][-1]), "accuracy": bent["accuracy"]},
            "identity_layers": {
                depth: {
                    "relative_difference_from_one_layer": differences[depth],
                    "lowest_cost": float(one["costs"].min()),
                    "last_cost_above_logistic_regressions": float(one["costs"][-1]) - floor,
                    "accuracy": one["accuracy"],
                }
                for depth, one in linear.items()
            },
        },
        figure=draw(linear, bent, differences, floor, line, X, Y),
    )


def logistic_regression(X, Y) -> tuple[float, float]:
    """Scikit-learn's: the least cost that a line can have, and its accuracy."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X.T, Y[0])
    z = model.decision_function(X.T)
    return float(np.mean(np.logaddexp(0, z) - Y[0] * z)), float(np.mean((z > 0) == (Y[0] == 1)))


def best_line(X, Y) -> float:
    """The largest share of points that any line has right.

    A best line can be moved until it meets two points, and a nudge puts each of the two on its own side: so of every
    line through two points the others count as they lie, the two as right.
    """
    X, signs = X.astype(np.float64), np.where(Y[0] == 1, 1, -1)
    m, most = len(signs), 0
    for x in X.T:
        away = X - x[:, None]
        sides = np.sign(np.outer(away[0], away[1]) - np.outer(away[1], away[0]))  # of each point, by each second point
        most = max(most, int(np.abs(sides @ signs).max()))  # others right less others wrong, whichever side is whose
    return ((m - 2 + most) / 2 + 2) / m


def train(config: Config, optimizer, hidden: str, depth: int, X, Y) -> dict:
    """Train 2-8-...-8-1 on all points; return the net, its params, its costs and its accuracy."""
    net = jaxnet.MLP((2, *[WIDTH] * depth, 1), (*[hidden] * depth, "sigmoid"))
    result = jaxnet.fit(
        net, X, Y, key=jax.random.key(config.seed), optimizer=optimizer, steps=config.steps, batch_size=None,
        progress=False, device=config.device,
    )  # fmt: skip
    last, accuracy = map(float, experiment.cost_and_accuracy(net, result.params, X, Y))  # the history ends before it
    return {
        "net": net,
        "params": result.params,
        "costs": np.append(result.history["cost"], last),
        "accuracy": round(accuracy * Y.size) / Y.size,  # a float32 may round up
    }


def one_layer(params: tuple[jaxnet.Layer, ...]) -> jaxnet.Layer:
    """The layers multiplied out, in NumPy: W' = W[L] ... W[1], b' = W[L] (... (W[2] b[1] + b[2]) ...) + b[L]."""
    product, *others = params
    for W, b in others:
        product = jaxnet.Layer(W @ product.W, W @ product.b + b)
    return product


def difference_from_one_layer(net: jaxnet.MLP, params: tuple[jaxnet.Layer, ...], X) -> float:
    """The largest difference of z[L] from W'x + b', relative to the largest z[L]; in float64."""
    params, X = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, X))
    with jax.enable_x64(True):
        _, cache = jax.jit(jaxnet.forward, static_argnums=0)(net, params, X)
    Z, (W, b) = np.asarray(cache[-1].Z), one_layer(params)
    return float(np.abs(Z - (W @ X + b)).max() / np.abs(Z).max())


def draw(linear, bent, differences, floor: float, line: float, X, Y) -> Figure:
    """The deepest linear network's boundary beside tanh's, the costs, and the differences from one layer."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    (left, right), (costs, bars) = figure.subplots(2, 2)
    deepest = max(linear)
    for axes, net, name in ((left, linear[deepest], f"{deepest} identity"), (right, bent, "2 tanh")):
        draw_boundary(axes, net, X, Y)
        axes.set(title=f"{name} hidden layers: {net['accuracy']:.1%} right", xlabel="$x_1$", ylabel="$x_2$")
    styles = itertools.cycle(zip((SKY, GREEN, PURPLE, ORANGE), ("-", "--", "-.", (0, (1, 1))), strict=True))
    for (depth, net), (colour, style) in zip(linear.items(), styles, strict=False):
        costs.loglog(net["costs"], linestyle=style, color=colour, label=f"{depth} identity")
    costs.loglog(bent["costs"], color=BLUE, linewidth=2, label="2 tanh")
    costs.axhline(floor, color=RED, linestyle=":", linewidth=2, label=f"logistic regression: {floor:.4f}")
    costs.set(title="Cost, by hidden layers", xlabel="step", ylabel="cross-entropy J (nats an example)")
    costs.legend(loc="lower left", fontsize="small")
    places = np.arange(len(differences))
    bars.bar(places, list(differences.values()), color=GREY, width=0.5)
    bars.axhline(SAME, color=RED, linestyle="--", label="limit")
    bars.set(
        title="Difference of z[L] from W'x + b'", yscale="log", ylim=(1e-17, 1e-11), xticks=places,
        xticklabels=list(differences), xlabel="identity hidden layers", ylabel="relative difference (float64)",
    )  # fmt: skip
    bars.legend(loc="upper right", bbox_to_anchor=(1, 0.8), fontsize="small")
    return figure


if __name__ == "__main__":
    experiment.main("linearity")

"""However deep, a network with identity activations is one linear layer, W'x + b', and no better than one.

The notes' section 6. On two half moons, networks 2-8-...-8-1 with identity hidden layers and a sigmoid output are
trained beside one with two tanh layers. Their layers multiplied out, W' = W[L] ... W[1], give the same z[L]. So no cost
of theirs, at any step, is below logistic regression's minimum, found here by scikit-learn; and none is right more often
than the best of all lines, found by trying them: more often than logistic regression a line may be, for least cost is
not most right.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, at_least, at_most
from experiments.runner.options import Positive
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY

NOTES = "section 6"
DATA = (datasets.moons,)
WIDTH = 8
SAME = 1e-12  # the difference of a deep linear network from W'x + b', in float64, relative to the largest z[L]
ROUNDING = 1e-6  # of a cost in float32


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the linearity experiment."""

    QUICK: ClassVar = {"depths": (1, 2), "steps": 1000}

    depths: tuple[Positive[int], ...] = (1, 2, 4, 8)
    """Hidden layers of the identity networks."""
    steps: Positive[int] = 2000
    """Steps on all points."""
    learning_rate: Positive[float] = 0.01
    """Adam's rate."""


def measure(config: Config) -> dict:
    """Train the networks, multiply the linear ones out, and find the best lines."""
    X, Y = points(config)
    bent, *straight = trained(config, [("tanh", 2), *(("identity", depth) for depth in config.depths)])
    linear = dict(zip(config.depths, straight, strict=True))
    found = {
        "data": (X, Y),
        "logistic_regression": dict(zip(("cost", "accuracy"), logistic_regression(X, Y), strict=True)),
        "accuracy_of_the_best_line": best_line(X, Y),
        "tanh": bent,
        "identity": linear,
        "differences": {
            depth: difference_from_one_layer(net["net"], net["params"], X) for depth, net in linear.items()
        },
    }
    line, most = found["logistic_regression"], found["accuracy_of_the_best_line"]
    print(
        f"logistic regression: cost {line['cost']:.6f}, {line['accuracy']:.1%} right; the best line: {most:.1%} right"
    )
    print(f"the lowest cost of an identity network: {lowest_cost(found):.6f}, the most right: {most_right(found):.1%}")
    return found


def lowest_cost(found: dict) -> float:
    """The lowest cost of an identity network at any step."""
    return min(float(net["costs"].min()) for net in found["identity"].values())


def most_right(found: dict) -> float:
    """The largest accuracy of an identity network."""
    return max(net["accuracy"] for net in found["identity"].values())


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Identity networks are lines, and no better than the best of them."""
    return {
        "difference_of_identity_layers_from_one_layer": at_most(list(found["differences"].values()), SAME),
        "lowest_cost": at_least(lowest_cost(found), found["logistic_regression"]["cost"] - ROUNDING),
        "accuracy": at_most(most_right(found), found["accuracy_of_the_best_line"]),
        "accuracy_with_tanh": at_least(found["tanh"]["accuracy"], 1),
    }


def claim(found: dict) -> str:
    """How near the networks are to W'x + b', and what they come to."""
    line = found["logistic_regression"]
    return (
        f"Networks of {', '.join(map(str, found['identity']))} identity layers equal W'x + b' to"
        f" {max(found['differences'].values()):.0e}; their lowest cost is {lowest_cost(found):.4f}, logistic"
        f" regression's {line['cost']:.4f}. Their accuracy is at most {most_right(found):.1%}, that of the best"
        f" straight line {found['accuracy_of_the_best_line']:.1%}, of logistic regression {line['accuracy']:.1%}, of"
        f" two tanh layers {found['tanh']['accuracy']:.1%}."
    )


def metrics(found: dict) -> dict:
    """Costs, accuracies and differences."""
    line, bent = found["logistic_regression"], found["tanh"]
    return {
        "accuracy_of_the_best_line": found["accuracy_of_the_best_line"],
        "logistic_regression": line,
        "two_tanh_layers": {"cost": float(bent["costs"][-1]), "accuracy": bent["accuracy"]},
        "identity_layers": {
            depth: {
                "relative_difference_from_one_layer": found["differences"][depth],
                "lowest_cost": float(net["costs"].min()),
                "last_cost_above_logistic_regressions": float(net["costs"][-1]) - line["cost"],
                "accuracy": net["accuracy"],
            }
            for depth, net in found["identity"].items()
        },
    }


def explore(config: Config) -> dict:
    """Networks of each depth with identity and with tanh, on the same points, for the figure of section 6."""
    X, Y = points(config)
    names = list(itertools.product(("identity", "tanh"), config.depths))
    nets = dict(zip(names, trained(config, names), strict=True))
    return {
        "still": still(nets, X, Y),
        "X": X.T,
        "y": Y[0].astype(int),
        "nets": [
            {
                "hidden": hidden,
                "depth": depth,
                "activations": net["net"].activations,
                "params": [{"W": W, "b": b[:, 0]} for W, b in net["params"]],
                "one_layer": as_numbers(one_layer(exact(net["params"]))) if hidden == "identity" else None,
            }
            for (hidden, depth), net in nets.items()
        ],
        "accuracy_of_the_best_line": best_line(X, Y),
        "start": {"hidden": "identity", "depth": config.depths[-1], "x": [0.5, 0.75]},
    }


def as_numbers(layer: jaxnet.Layer) -> dict:
    """W' and b' of a layer of one unit."""
    return {"W": layer.W[0], "b": layer.b[0, 0]}


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


def points(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The two half moons, X (2, m) and Y (1, m)."""
    X, Y = (part.astype(np.float32) for part in datasets.moons(seed=config.seed))
    return X, Y


def trained(config: Config, nets: Sequence[tuple[str, int]]) -> list[dict]:
    """The networks with these hidden activations and depths, each trained once, for the claim and for the page."""
    return experiment.thread_map(lambda net: trained_once(config, *net), nets, "net")


@functools.cache
def trained_once(config: Config, hidden: str, depth: int) -> dict:
    """One of them, kept."""
    return train(config, optax.adam(config.learning_rate), hidden, depth, *points(config))


def train(config: Config, optimizer, hidden: str, depth: int, X, Y) -> dict:
    """Train 2-8-...-8-1 on all points; return the net, its params, its costs and its accuracy."""
    net = jaxnet.MLP((2, *[WIDTH] * depth, 1), (*[hidden] * depth, "sigmoid"))
    result = experiment.fit(config, net, X, Y, optimizer=optimizer, steps=config.steps, batch_size=None)
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


def exact(tree):
    """The same numbers in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def difference_from_one_layer(net: jaxnet.MLP, params: tuple[jaxnet.Layer, ...], X) -> float:
    """The largest difference of z[L] from W'x + b', relative to the largest z[L]; in float64."""
    params, X = exact((params, X))
    with jax.enable_x64(True):
        _, cache = jax.jit(jaxnet.forward, static_argnums=0)(net, params, X)
    Z, (W, b) = np.asarray(cache[-1].Z), one_layer(params)
    return float(np.abs(Z - (W @ X + b)).max() / np.abs(Z).max())


def draw(found: dict):
    """The deepest linear network's boundary beside tanh's, the costs, and the differences from one layer."""
    figure, linear, bent = plots.figure(11, 8), found["identity"], found["tanh"]
    floor, differences = found["logistic_regression"]["cost"], found["differences"]
    (left, right), (costs, bars) = figure.subplots(2, 2)
    deepest = max(linear)
    for axes, net, name in ((left, linear[deepest], f"{deepest} identity"), (right, bent, "2 tanh")):
        jaxnet.plot.decision_boundary(net["net"], net["params"], *found["data"], ax=axes)
        axes.set(title=f"{name} hidden layers: {net['accuracy']:.1%} right", aspect="equal")
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


def still(nets: dict, X, Y) -> str:
    """The still picture of the page's figure: the boundaries of the deepest networks, under half of the points."""
    from matplotlib.colors import to_rgba

    figure, deepest = plots.figure(4.8, 6.4), max(depth for _, depth in nets)
    left, right, bottom, top = ends = [end for x in X for end in (x.min() - np.ptp(x) / 10, x.max() + np.ptp(x) / 10)]
    plane = np.stack(np.meshgrid(np.linspace(left, right, 72), np.linspace(bottom, top, 48))).astype(X.dtype)
    for axes, hidden in zip(figure.subplots(2, 1), ("identity", "tanh"), strict=True):
        net = nets[hidden, deepest]
        A = np.asarray(jaxnet.predict(net["net"], net["params"], plane.reshape(2, -1))).reshape(48, 72)
        shade = np.where(A[..., None] > 0.5, to_rgba(BLUE), to_rgba(ORANGE))
        shade[..., 3] = 0.63 * np.abs(2 * A - 1)
        axes.imshow(shade, extent=ends, origin="lower")
        for y, colour, marker in ((0, ORANGE, "s"), (1, BLUE, "o")):
            axes.plot(*X[:, Y[0] == y][:, ::2], marker, color=colour, markersize=4, markeredgecolor="white")
        axes.set(title=f"{hidden}, {deepest} hidden layers: accuracy {net['accuracy']:.1%}")
        axes.axis("off")
    return plots.svg(figure, "linear", "The boundary of identity layers, a straight line, and of tanh layers, a curve")


if __name__ == "__main__":
    experiment.main("linearity")

"""Initial weights have a valley: too small they start slowly, too large they saturate and hardly learn at all.

The notes' section 10 on scikit-learn's digits: 64-32-10, tanh then softmax, W = randn * s for s from 1e-4 to 100, and
He's and Xavier's s beside them. Measured at the start: the share of hidden units with |a| > 0.99, the norm of the
gradient, and that norm relative to the params', which is how far a step gets. Then the cost after a fixed number of
steps of gradient descent.
"""

import dataclasses
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, below
from experiments.runner.options import Positive, Rising
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, GREEN, ORANGE, PURPLE

NOTES = "section 10"
DATA = (datasets.digits,)
NET = jaxnet.MLP((64, 32, 10), ("tanh", "softmax"))
SATURATED = 0.99
VALLEY = (0.01, 0.3)  # from the notes' randn * 0.01 to where the units begin to saturate
SCHEMES = {"he": ("He", ORANGE, "^"), "xavier": ("Xavier", PURPLE, "s")}
QUANTITIES = ("saturated", "gradient_norm", "relative_gradient_norm", "cost")


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the experiment on initial scales."""

    QUICK: ClassVar = {"scales": (1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0), "starts": 1}

    scales: Annotated[tuple[Positive[float], ...], Rising()] = (
        1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0,
    )  # fmt: skip
    """Standard deviations of W at the start, rising."""
    steps: Positive[int] = 300
    """Steps of gradient descent on all digits."""
    learning_rate: Positive[float] = 0.1
    """The rate of W -= rate * dW."""
    starts: Positive[int] = 5
    """Random starts of each scale; their median counts."""


def measure(config: Config) -> dict:
    """The medians over the random starts, for every scale and scheme."""
    split = datasets.digits(config.seed)
    X, Y = split.X, jaxnet.one_hot(split.labels, 10)
    optimizer = optax.sgd(config.learning_rate)
    schemes = experiment.progress((*config.scales, *SCHEMES), "scale")
    medians = {scheme: over_starts(config, optimizer, scheme, X, Y) for scheme in schemes}
    for scheme, by_name in medians.items():
        text = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in by_name.items())
        print(f"{scheme!s:>8}  {text}")
    key = jax.random.key(config.seed)
    return {
        "config": config,
        "scales": np.array(config.scales),
        **{name: np.array([medians[scale][name] for scale in config.scales]) for name in QUANTITIES},
        **{scheme: medians[scheme] for scheme in SCHEMES},
        "std": {scheme: float(np.std(jaxnet.init(NET, key, scheme)[0].W)) for scheme in SCHEMES},
    }


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Where the valley lies, and why training is slow on both sides of it."""
    scales, cost, saturated = found["scales"], found["cost"], found["saturated"]
    inside = (VALLEY[0] <= scales) & (scales <= VALLEY[1])
    beyond = scales >= VALLEY[1]
    lowest = cost.min()
    return {
        "the_lowest_cost_is_in_the_valley": bool(inside[cost.argmin()]),
        "cost_in_the_valley_over_the_lowest": below(cost[inside] / lowest, 2),
        "cost_of_he_and_xavier_over_the_lowest": below([found[scheme]["cost"] / lowest for scheme in SCHEMES], 1.2),
        "cost_from_the_smallest_scale_over_the_lowest": above(cost[0] / lowest, 2),
        "cost_from_the_largest_scale_over_the_lowest": above(cost[-1] / lowest, 100),
        "saturated_units_at_the_largest_scale": above(saturated[-1], 0.95),
        "larger_weights_saturate_more": bool((np.diff(saturated) >= 0).all() and saturated[0] == 0),
        "relative_gradient_falls_beyond_the_valley": below(np.diff(found["relative_gradient_norm"][beyond]), 0),
    }


def best_scale(found: dict) -> float:
    """The scale from which the cost ends lowest."""
    return float(found["scales"][found["cost"].argmin()])


def claim(found: dict) -> str:
    """The costs at the best scale and at both ends."""
    scales, cost = found["scales"], found["cost"]
    return (
        f"After {found['config'].steps} steps the cost is, of these scales, lowest from {best_scale(found):g}:"
        f" {cost.min():.3f}. From {scales[0]:g} it is {cost[0]:.3f}, and from {scales[-1]:g}, where"
        f" {found['saturated'][-1]:.1%} of the hidden units are saturated, {cost[-1]:.0f}."
    )


def metrics(found: dict) -> dict:
    """Every quantity, by scale and scheme."""
    return {"best_scale": best_scale(found)} | {name: found[name] for name in ("scales", *QUANTITIES, *SCHEMES)}


def over_starts(config: Config, optimizer, scheme: str | float, X, Y) -> dict[str, float]:
    """The median over the random starts of each quantity."""
    keys = jax.random.split(jax.random.key(config.seed), config.starts)
    runs = [one_start(config, optimizer, jaxnet.init(NET, key, scheme), key, X, Y) for key in keys]
    return {name: float(np.median([one[name] for one in runs])) for name in QUANTITIES}


def one_start(config: Config, optimizer, params, key, X, Y) -> dict[str, float]:
    """Saturation and gradient at the start, the cost after the steps."""
    before = jax.tree.map(float, at_start(params, X, Y))
    settings = {"params": params, "optimizer": optimizer, "steps": config.steps, "batch_size": None}
    result = experiment.fit(config, NET, X, Y, key=key, **settings)
    cost, _ = experiment.cost_and_accuracy(NET, result.params, X, Y)
    return before | {"cost": float(cost)}


@jax.jit
def at_start(params, X, Y) -> dict[str, jax.Array]:
    """How many hidden units are saturated, and the gradient's norm, also beside that of the params."""
    _, (_, hidden, _) = jaxnet.forward(NET, params, X)
    norm = optax.tree.norm(jaxnet.value_and_grad(NET, params, X, Y)[1])
    return {
        "saturated": (jnp.abs(hidden.A) > SATURATED).mean(),
        "gradient_norm": norm,
        "relative_gradient_norm": norm / optax.tree.norm(params),
    }


def draw(found: dict):
    """Saturation, gradient norms and cost against the scale; He and Xavier at the standard deviation of their W[1]."""
    figure = plots.figure(12, 4.4)
    saturation, gradient, cost = figure.subplots(1, 3)
    panels = (
        (saturation, "saturated", 100, "o-", BLUE, "randn * s"),
        (gradient, "gradient_norm", 1, "o-", BLUE, "‖gradient‖"),
        (gradient, "relative_gradient_norm", 1, "o--", GREEN, "‖gradient‖ / ‖params‖"),
        (cost, "cost", 1, "o-", BLUE, "randn * s"),
    )
    for axes in figure.axes:
        axes.axvspan(*VALLEY, color=GREEN, alpha=0.12, linewidth=0, label=f"{VALLEY[0]:g} to {VALLEY[1]:g}")
    for axes, name, factor, line, colour, label in panels:
        axes.plot(found["scales"], factor * found[name], line, color=colour, label=label)
        for scheme, (author, mark_colour, marker) in SCHEMES.items():
            known = author not in axes.get_legend_handles_labels()[1]
            axes.plot(
                found["std"][scheme], factor * found[scheme][name], marker, color=mark_colour, markersize=8,
                label=author if known else None,
            )  # fmt: skip
        axes.set(xscale="log", xlabel="scale s, the standard deviation of W at the start")
        axes.legend(fontsize="small", loc="lower left" if axes is gradient else "upper left")
    saturation.set(title="Saturation at the start", ylabel=f"hidden units with |a| > {SATURATED} (%)")
    gradient.set(title="Gradient at the start", ylabel="norm", yscale="log", ylim=(1e-5, 10))
    cost.set(title=f"After {found['config'].steps} steps", ylabel="cross-entropy J (nats an example)", yscale="log")
    return figure


if __name__ == "__main__":
    experiment.main("init_scale")

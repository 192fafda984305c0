"""Initial weights have a valley: too small they start slowly, too large they saturate and hardly learn at all.

The notes' section 10 on scikit-learn's digits: 64-32-10, tanh then softmax, W = randn * s for s from 1e-4 to 100, and
He's and Xavier's s beside them. Measured at the start: the share of hidden units with |a| > 0.99, the norm of the
gradient, and that norm relative to the params', which is how far a step gets. Then the cost after a fixed number of
steps of gradient descent.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, GREEN, ORANGE, PURPLE, Figure, Result
from jaxnet import checks, datasets

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

    scales: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    """Deviations of W at the start, rising."""
    steps: int = 300
    """Steps of gradient descent on all digits."""
    learning_rate: float = 0.1
    """The rate of W -= rate * dW."""
    starts: int = 5
    """Random starts of each scale; their median counts."""


def run(config: Config) -> Result:
    """Measure every scale and scheme, and see where the valley is."""
    for scale in config.scales:
        checks.positive("scales", scale)
    if list(config.scales) != sorted(config.scales):
        raise ValueError(f"scales are {config.scales}; expected them to rise")
    checks.count("starts", config.starts)
    split = datasets.digits(config.seed)
    X, Y = split.X, jaxnet.one_hot(split.labels, 10)
    optimizer = optax.sgd(checks.positive("learning_rate", config.learning_rate))
    schemes = experiment.watched((*config.scales, *SCHEMES), "scale")
    found = {scheme: measured(config, optimizer, scheme, X, Y) for scheme in schemes}
    for scheme, one in found.items():
        print(f"{scheme!s:>8}  " + ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in one.items()))

    curve = {name: np.array([found[scale][name] for scale in config.scales]) for name in QUANTITIES}
    lowest, best = curve["cost"].min(), config.scales[int(curve["cost"].argmin())]
    holds = clauses(config, curve, found)
    return Result(
        claim=f"After {config.steps} steps the cost is lowest from a scale of {best:g}: {lowest:.3f}. From"
        f" {config.scales[0]:g} it is {curve['cost'][0]:.3f}, and from {config.scales[-1]:g}, where"
        f" {curve['saturated'][-1]:.1%} of the hidden units are saturated, {curve['cost'][-1]:.0f}.",
        held=all(holds.values()),
        metrics={
            "best_scale": best,
            "clauses": holds,
            "scales": list(config.scales),
            **{name: values.tolist() for name, values in curve.items()},
            **{scheme: found[scheme] for scheme in SCHEMES},
        },
        figure=draw(config, curve, found),
    )


def measured(config: Config, optimizer, scheme: str | float, X, Y) -> dict[str, float]:
    """The medians over the random starts of all that is measured."""
    keys = jax.random.split(jax.random.key(config.seed), config.starts)
    runs = [one_start(config, optimizer, jaxnet.init(NET, key, scheme), key, X, Y) for key in keys]
    return {name: float(np.median([one[name] for one in runs])) for name in QUANTITIES}


def one_start(config: Config, optimizer, params, key, X, Y) -> dict[str, float]:
    """Saturation and gradient at the start, the cost after the steps."""
    before = jax.tree.map(float, at_start(params, X, Y))
    result = jaxnet.fit(
        NET, X, Y, key=key, params=params, optimizer=optimizer, steps=config.steps, batch_size=None, progress=False,
        device=config.device,
    )  # fmt: skip
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


def clauses(config: Config, curve: dict[str, np.ndarray], found: dict) -> dict[str, bool]:
    """What the notes say, clause by clause."""
    scales, cost, saturated = np.array(config.scales), curve["cost"], curve["saturated"]
    inside = (VALLEY[0] <= scales) & (scales <= VALLEY[1])
    above = scales >= VALLEY[1]
    holds = {
        "the_lowest_cost_is_in_the_valley": inside[cost.argmin()],
        "0.01_is_in_the_valley": (cost[inside] < 2 * cost.min()).all(),
        "he_and_xavier_are_in_the_valley": all(found[scheme]["cost"] < 1.2 * cost.min() for scheme in SCHEMES),
        "smaller_is_slower": cost[0] > 2 * cost.min(),
        "larger_is_far_slower": cost[-1] > 100 * cost.min(),
        "large_weights_saturate": saturated[-1] > 0.95 and (np.diff(saturated) >= 0).all() and saturated[0] == 0,
        "and_there_steps_get_nowhere": (np.diff(curve["relative_gradient_norm"][above]) < 0).all(),
    }
    return {name: bool(value) for name, value in holds.items()}


def draw(config: Config, curve: dict[str, np.ndarray], found: dict) -> Figure:
    """Saturation, gradient norms and cost against the scale; He and Xavier at the deviation of W[1] that they give."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    saturation, gradient, cost = figure.subplots(1, 3)
    key = jax.random.key(config.seed)
    deviation = {scheme: float(np.std(jaxnet.init(NET, key, scheme)[0].W)) for scheme in SCHEMES}
    panels = (
        (saturation, "saturated", 100, "o-", BLUE, "randn * s"),
        (gradient, "gradient_norm", 1, "o-", BLUE, "‖gradient‖"),
        (gradient, "relative_gradient_norm", 1, "o--", GREEN, "‖gradient‖ / ‖params‖"),
        (cost, "cost", 1, "o-", BLUE, "randn * s"),
    )
    for axes in figure.axes:
        axes.axvspan(*VALLEY, color=GREEN, alpha=0.12, linewidth=0, label=f"{VALLEY[0]:g} to {VALLEY[1]:g}")
    for axes, name, factor, line, colour, label in panels:
        axes.plot(config.scales, factor * curve[name], line, color=colour, label=label)
        for scheme, (author, mark_colour, marker) in SCHEMES.items():
            known = author not in axes.get_legend_handles_labels()[1]
            axes.plot(
                deviation[scheme], factor * found[scheme][name], marker, color=mark_colour, markersize=8,
                label=author if known else None,
            )  # fmt: skip
        axes.set(xscale="log", xlabel="scale s, the deviation of W at the start")
        axes.legend(fontsize="small", loc="lower left" if axes is gradient else "upper left")
    saturation.set(title="Saturation at the start", ylabel=f"hidden units with |a| > {SATURATED} (%)")
    gradient.set(title="Gradient at the start", ylabel="norm", yscale="log", ylim=(1e-5, 10))
    cost.set(title=f"After {config.steps} steps", ylabel="cross-entropy J (nats an example)", yscale="log")
    return figure


if __name__ == "__main__":
    experiment.main("init_scale")

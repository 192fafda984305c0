"""Slopes of activations are those of the notes; tanh trains ahead of sigmoid, on a deep network relu ahead of both.

The notes' sections 5 and 7. The slopes at z = -10, 0 and 10 are those of jaxnet's hand-written derivatives, compared
with the notes' values and with autodiff. Then the same networks, one hidden layer and many, are trained with sigmoid,
tanh and relu hidden layers on scikit-learn's digits, by plain gradient descent from He's start, over several seeds; the
gradient's norm by layer, at the start, shows why the deep sigmoid network stands still.
"""

import dataclasses
import functools
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, below
from experiments.runner.options import Positive, Range
from jaxnet import datasets
from jaxnet.activations import ACTIVATIONS, Activation
from jaxnet.plot.colours import BLUE, GREEN, ORANGE, RED

NOTES = "sections 5 and 7"
DATA = (datasets.digits,)
CLASSES, WIDTH = 10, 32
NAMES = [name for name in ACTIVATIONS if name != "softmax"]  # softmax has no slope unit by unit
Z = np.arange(-260, 261, dtype=np.float32) / 20  # from -13 to 13
POINTS = (-10.0, 0.0, 10.0)
MARKED = np.isin(Z, POINTS)
NOTED = {"sigmoid": (0, 1 / 4, 0), "tanh": (0, 1, 0), "relu": (0, 0, 1)}  # the notes' slopes; relu'(0) is jaxnet's
ABOUT = 1e-4  # the notes' "about": σ'(10) is 4.5e-5
VANISHED, ALIVE = 0.05, 0.1  # the first layer's share of the last layer's gradient: sigmoid below, tanh and relu above
COLOURS = {"sigmoid": RED, "tanh": ORANGE, "relu": BLUE}
START = ("sigmoid", 2.0)  # the activation and the z that the figure on the page starts with
LINES = {"sigmoid": "-.", "tanh": "--", "relu": "-"}


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the activations experiment."""

    QUICK: ClassVar = {"deep": 4, "seeds": 2}

    deep: Annotated[int, Range(2)] = 8
    """Hidden layers of the deep network."""
    epochs: Positive[int] = 20
    """Passes over the digits."""
    learning_rate: Positive[float] = 0.05
    """The rate of W -= rate * dW, the same for all."""
    batch_size: Positive[int] = 64
    """Examples a step."""
    seeds: Positive[int] = 4
    """Starts of each network; the median cost counts, for a relu cost may leap now and then."""


def measure(config: Config) -> dict:
    """The slopes of every activation, the costs of the networks, and their gradients by layer at the start."""
    evaluated = evaluate(tuple(ACTIVATIONS[name] for name in NAMES), Z)
    split = datasets.digits(config.seed)
    Y = jaxnet.one_hot(split.labels, CLASSES)
    depths = {"shallow": 1, "deep": config.deep}
    descent = optax.sgd(config.learning_rate)  # one object: one program a net
    nets = {(depth, name): network(name, hidden) for depth, hidden in depths.items() for name in NOTED}
    trained = experiment.thread_map(lambda net: costs(config, descent, net, split.X, Y), list(nets.values()), "net")
    by_net = dict(zip(nets, trained, strict=True))
    found = {
        "config": config,
        "curves": dict(zip(NAMES, jax.device_get(evaluated), strict=True)),
        "costs": {depth: {name: by_net[depth, name] for name in NOTED} for depth in depths},
        "gradient_norms_by_layer": {
            name: gradient_norms(config, network(name, config.deep), split.X, Y) for name in NOTED
        },
    }
    for depth, by_name in last_costs(found).items():
        print(f"{depth}: median cost after {config.epochs} epochs", {name: round(J, 4) for name, J in by_name.items()})
    return found


def last_costs(found: dict) -> dict[str, dict[str, float]]:
    """The median of the last costs over the seeds, by depth and hidden activation."""
    return {
        depth: {name: float(np.median(cost[:, -1])) for name, cost in by_name.items()}
        for depth, by_name in found["costs"].items()
    }


def first_over_last(found: dict) -> dict[str, float]:
    """The gradient's norm in the first layer over that in the last, at the start of the deep networks."""
    return {name: norms[0] / norms[-1] for name, norms in found["gradient_norms_by_layer"].items()}


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """The slopes, and which activation trains ahead of which."""
    curves, ratio = found["curves"], first_over_last(found)
    shallow, deep = last_costs(found).values()
    return {
        "slopes_equal_those_of_the_notes": below(
            [np.abs(curves[name].slope[MARKED] - NOTED[name]).max() for name in NOTED], ABOUT
        ),
        "slopes_equal_those_of_autodiff": all(
            np.allclose(curve.slope[MARKED], curve.autodiff[MARKED], rtol=1e-5, atol=1e-6) for curve in curves.values()
        ),
        "cost_of_tanh_over_that_of_sigmoid": below([cost["tanh"] / cost["sigmoid"] for cost in (shallow, deep)], 1),
        "cost_of_relu_on_the_deep_network": below(deep["relu"], min(deep["tanh"], deep["sigmoid"])),
        "share_of_the_gradient_left_by_sigmoid": below(ratio["sigmoid"], VANISHED),
        "share_left_by_tanh_and_relu": above([ratio["tanh"], ratio["relu"]], ALIVE),
    }


def claim(found: dict) -> str:
    """The last costs, and the ratio of sigmoid's gradients."""
    shallow, deep = last_costs(found).values()
    return (
        f"Slopes are the notes'; with one hidden layer tanh's cost ends at {shallow['tanh']:.3f}, sigmoid's at"
        f" {shallow['sigmoid']:.3f}; with {found['config'].deep} relu's at {deep['relu']:.3f}, tanh's at"
        f" {deep['tanh']:.3f}, sigmoid's at {deep['sigmoid']:.3f}: its first layer has"
        f" {first_over_last(found)['sigmoid']:.1e} of the last one's gradient."
    )


def metrics(found: dict) -> dict:
    """Slopes, last costs and gradients."""
    return {
        "slopes": {
            name: {f"z = {z:g}": float(slope) for z, slope in zip(POINTS, curve.slope[MARKED], strict=True)}
            for name, curve in found["curves"].items()
        },
        "last_cost": last_costs(found),
        "last_cost_by_seed": {
            depth: {name: cost[:, -1] for name, cost in by_name.items()} for depth, by_name in found["costs"].items()
        },
        "gradient_norms_by_layer": found["gradient_norms_by_layer"],
        "first_layer_gradient_over_last": first_over_last(found),
    }


def explore(config: Config) -> dict:
    """Every g and g' at the stops of the slider of z, for the figure of sections 5 and 7."""
    z = np.arange(-100, 101) / 10
    with jax.enable_x64(True):
        evaluated = jax.device_get(value_and_slope(tuple(ACTIVATIONS[name] for name in NAMES), z))
    curves = dict(zip(NAMES, (Curve(*pair) for pair in evaluated), strict=True))
    return {
        "still": still(z, curves),
        "z": z,
        "curves": {
            name: {"value": digits(curve.value), "slope": digits(curve.slope)} for name, curve in curves.items()
        },
        "start": {"activation": START[0], "z": START[1]},
    }


def digits(numbers: np.ndarray) -> list[float]:
    """The numbers with eight digits each."""
    return [float(f"{number:.8g}") for number in numbers]


class Curve(NamedTuple):
    """An activation at every z: its value, and its slope by hand and by autodiff."""

    value: np.ndarray
    slope: np.ndarray
    autodiff: np.ndarray | None = None


@functools.partial(jax.jit, static_argnums=0)
def value_and_slope(activations: tuple[Activation, ...], z) -> list[tuple]:
    """Each g and g' at the points z (n,): one program for all."""
    row = z[None, :]
    values = [g.apply(row) for g in activations]
    return [(A[0], g.derivative(row, A)[0]) for g, A in zip(activations, values, strict=True)]


@functools.partial(jax.jit, static_argnums=0)
def evaluate(activations: tuple[Activation, ...], z) -> list[Curve]:
    """The same, and g' by autodiff."""
    by_autodiff = [jax.vmap(jax.grad(lambda point, g=g: g.apply(point[None, None])[0, 0]))(z) for g in activations]
    return [Curve(*pair, own) for pair, own in zip(value_and_slope(activations, z), by_autodiff, strict=True)]


def network(hidden: str, layers: int) -> jaxnet.MLP:
    """64-32-...-32-10 with so many hidden layers of that activation."""
    return jaxnet.MLP((64, *[WIDTH] * layers, CLASSES), (*[hidden] * layers, "softmax"))


def costs(config: Config, optimizer, net: jaxnet.MLP, X, Y) -> np.ndarray:
    """The costs (seeds, epochs) of gradient descent from several starts."""
    settings = {"optimizer": optimizer, "epochs": config.epochs, "batch_size": config.batch_size}
    runs = [experiment.fit(config, net, X, Y, key=key, **settings) for key in starts(config)]
    return np.stack([run.history["cost"] for run in runs])


def starts(config: Config) -> jax.Array:
    """A key for every seed."""
    return jax.random.split(jax.random.key(config.seed), config.seeds)


def gradient_norms(config: Config, net: jaxnet.MLP, X, Y) -> list[float]:
    """‖dW[l]‖ of every layer at the start, the median over the seeds."""

    @jax.jit
    def norms(params, X, Y):
        grads = jaxnet.value_and_grad(net, params, X, Y)[1]
        return jnp.stack([jnp.linalg.norm(layer.W) for layer in grads])

    return np.median([norms(jaxnet.init(net, key), X, Y) for key in starts(config)], axis=0).tolist()


def draw(found: dict):
    """Every g with its slopes; under them the costs of both depths and the gradient by layer."""
    config, figure = found["config"], plots.figure(12, 10)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.45, 1))
    for number, (axes, name) in enumerate(zip(top.subplots(2, 4).flat, NAMES, strict=True)):
        draw_activation(axes, name, found["curves"][name])
        if number == 0:
            axes.legend(loc="upper left", fontsize="small")
    shallow, deep, layers = bottom.subplots(1, 3)
    for axes, (depth, by_name), hidden in zip((shallow, deep), found["costs"].items(), (1, config.deep), strict=True):
        for name, cost in by_name.items():
            epochs = np.arange(1, cost.shape[1] + 1)
            axes.semilogy(epochs, cost.T, color=COLOURS[name], linewidth=0.6, alpha=0.5)
            axes.semilogy(epochs, np.median(cost, axis=0), LINES[name], color=COLOURS[name], label=name, linewidth=2)
        axes.set(
            title=f"Digits, {depth}: {hidden} hidden layer{'s' * (hidden > 1)}", xlabel="epoch",
            ylabel="cost J (nats an example)",
        )  # fmt: skip
    shallow.legend(loc="lower left", fontsize="small", title=f"median of {config.seeds} seeds", title_fontsize="small")
    for name, norm in found["gradient_norms_by_layer"].items():
        numbers = np.arange(1, len(norm) + 1)
        layers.semilogy(numbers, norm, f"o{LINES[name]}", color=COLOURS[name], label=name, markersize=4)
    layers.set(title="Gradient by layer, at the start", xlabel="layer l", ylabel="‖dW[l]‖ (nats)", xticks=numbers)
    return figure


def draw_activation(axes, name: str, curve: Curve) -> None:
    """A function g with its derivative, and at z = -10, 0, 10 a tangent and its slope."""
    axes.plot(Z, curve.value, color=BLUE, label="g(z)")
    axes.plot(Z, curve.slope, "--", color=ORANGE, label="g'(z)")
    low, high = axes.get_ylim()
    for point, height, slope in zip(POINTS, curve.value[MARKED], curve.slope[MARKED], strict=True):
        run = np.array([-2.5, 2.5])
        axes.plot(point + run, height + slope * run, color=GREEN, linewidth=3, alpha=0.7)
        axes.plot(point, height, "o", color=GREEN, label="tangent: its slope" if point < 0 else None)
        text = f"{slope:.3g}" if abs(slope) >= 1e-2 or slope == 0 else f"{slope:.1e}"
        place = {"x": 1.6, "ha": "left"} if point == 0 else {"x": point, "ha": "center"}  # beside the curve, or below
        axes.text(y=height - 0.07 * (high - low), s=text, color=GREEN, va="top", fontsize=9, **place)
    axes.set(title=name, xlabel="z", ylabel="g(z), g'(z)", ylim=(low - 0.18 * (high - low), high + 0.1 * (high - low)))


def still(z: np.ndarray, curves: dict[str, Curve]) -> str:
    """The picture that the page's figure starts with: one g with its tangent, and every g' at that z."""
    name, point = START
    at = int(np.argmin(np.abs(z - point)))
    slopes = {each: float(curve.slope[at]) for each, curve in curves.items()}
    figure = plots.figure(4.8, 6.4)
    upper, lower = figure.subplots(2, 1)
    upper.plot(z, curves[name].value, color=BLUE, label="g(z)")
    upper.plot(z, curves[name].slope, "--", color=ORANGE, label="g'(z)")
    run = np.array([-3, 3])
    upper.plot(point + run, curves[name].value[at] + slopes[name] * run, color=GREEN, linewidth=4, alpha=0.8)
    upper.plot(point, curves[name].value[at], "o", color=GREEN, markersize=9)
    upper.set(title=f"{name}, and its tangent at z = {point:g}", xlabel="z")
    upper.legend(loc="upper left", frameon=False)
    places = np.arange(len(slopes))[::-1]
    bars = lower.barh(places, list(slopes.values()), color=GREEN)
    lower.bar_label(bars, [f"{slope:.4f}" for slope in slopes.values()], padding=3)
    lower.set(title=f"What passes of a gradient: g'({point:g})", yticks=places, yticklabels=list(slopes), xlim=(0, 1.4))
    return plots.svg(
        figure, "activation", f"{name} with its tangent at z = {point:g}, and the derivatives of all activations there"
    )


if __name__ == "__main__":
    experiment.main("activations")

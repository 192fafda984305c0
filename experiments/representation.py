"""One example through a 3-4-1 network: unit by unit, w_iᵀx + b_i, or all at once, W x + b, the numbers are the same.

The notes' sections 1 and 2. The network has 2 layers, for the input is not counted: a[0] = x, and z[l] = W[l] a[l-1] +
b[l], a[l] = σ(z[l]); a[2] = ŷ. Unit by unit it is a program of plain Python numbers, all at once `jaxnet.forward`. W, b
and x are random numbers.
"""

import dataclasses
import math

import jax
import numpy as np

import jaxnet
from experiments import notes
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, at_most
from experiments.runner.options import Positive

NOTES = "sections 1 and 2"
DATA = ()  # random numbers
NET = jaxnet.MLP((3, 4, 1), ("sigmoid", "sigmoid"))
SHAPES = [(4, 3), (4, 1), (1, 4), (1, 1)]  # W[1], b[1], W[2], b[2] in the notes
LAST_DIGITS = 4 * np.finfo(np.float64).eps  # what another order of summation may change, relative to the largest number


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the representation experiment."""

    scale: Positive[float] = 0.8
    """W, b and x are randn times this."""


def measure(config: Config) -> dict:
    """Every z and a, twice: (z, a) of each layer by plain numbers and by `jaxnet.forward`."""
    params, x = notes.random_point(np.random.default_rng(config.seed), NET.sizes, 1, *[config.scale] * 3)
    with jax.enable_x64(True):
        A, cache = jax.jit(jaxnet.forward, static_argnums=0)(NET, params, x)
        at_once = [(np.asarray(layer.Z)[:, 0], np.asarray(layer.A)[:, 0]) for layer in cache]
    layers = jax.eval_shape(lambda: jaxnet.init(NET, jax.random.key(config.seed)))
    by_units = unit_by_unit(params, x)
    for number, units in enumerate(by_units[1:], 1):
        for i, (z, a) in enumerate(zip(*units, strict=True), 1):
            print(f"z[{number}]_{i} = {z:+.6f}   a[{number}]_{i} = {a:.6f}")
    return {
        "params": params,
        "x": x[:, 0],
        "prediction": np.asarray(A)[:, 0],
        "unit by unit": by_units,
        "at once": at_once,
        "shapes": [leaf.shape for leaf in jax.tree.leaves(layers)],
    }


def difference(found: dict) -> float:
    """The largest difference between the two ways; NaN if any number is."""
    pairs = zip(found["unit by unit"], found["at once"], strict=True)
    return np.max([np.abs(np.subtract(*pair)).max() for pair in pairs]).item()


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """The two ways agree, and layers are counted and shaped as in the notes."""
    at_once = found["at once"]
    largest = np.max([np.abs(layer).max() for layer in found["unit by unit"]])
    return {
        "difference_of_unit_by_unit_from_the_matrix_form": at_most(difference(found), LAST_DIGITS * max(1, largest)),
        "input_is_layer_0": np.array_equal(at_once[0][1], found["x"]) and len(at_once) == len(found["params"]) + 1,
        "two_layers_shaped_as_in_the_notes": found["shapes"] == SHAPES,
        "last_activation_is_the_prediction": np.array_equal(at_once[-1][1], found["prediction"]),
    }


def claim(found: dict) -> str:
    """How far the two ways are apart."""
    return (
        f"Unit by unit or as W x + b, the {sum(NET.sizes[1:])} units of a 3-4-1 network hold the same numbers:"
        f" they differ by {difference(found):.2g} at most, and ŷ = {found['prediction'][0]:.4f}."
    )


def metrics(found: dict) -> dict:
    """The difference, and every number of the matrix form."""
    units = {f"layer_{l}": {"z": z, "a": a} for l, (z, a) in enumerate(found["at once"][1:], 1)}
    return {"largest_difference": difference(found), "x": found["x"], **units}


def explore(config: Config) -> dict:
    """The network and its example, for the figure of sections 1 and 2."""
    point = notes.random_point(np.random.default_rng(config.seed), NET.sizes, 1, *[config.scale] * 3)
    params, x = jax.tree.map(lambda numbers: numbers.round(2), point)  # as they are written there
    alt = "A network of 3, 4 and 1 units with its weights and numbers"
    return {
        "still": plots.svg(draw({"params": params, "x": x[:, 0]}), "representation", alt),
        "params": [{"W": W, "b": b[:, 0]} for W, b in params],
        "activations": NET.activations,
        "x": x[:, 0],
    }


def unit_by_unit(params: tuple[jaxnet.Layer, ...], x: np.ndarray) -> list[tuple[list[float], list[float]]]:
    """(z, a) of every layer, in plain numbers: z_i = w_iᵀ a_prev + b_i and a_i = σ(z_i); for layer 0 both are x."""
    a = x[:, 0].tolist()
    layers = [(a, a)]
    for W, b in params:
        z = [unit(w, a, b_i) for w, (b_i,) in zip(W.tolist(), b.tolist(), strict=True)]
        a = [(1 + math.tanh(z_i / 2)) / 2 for z_i in z]  # = 1 / (1 + e^-z), and no e^-z overflows
        layers.append((z, a))
    return layers


def unit(w: list[float], a_prev: list[float], b: float) -> float:
    """Return wᵀ a_prev + b, one product after the other."""
    z = 0.0
    for weight, a in zip(w, a_prev, strict=True):
        z += weight * a
    return z + b


def draw(found: dict):
    """The network with its weights, biases and activations."""
    figure = plots.figure(7, 5)
    jaxnet.plot.network(NET, found["params"], found["x"], ax=figure.subplots()).set_title("")
    return figure


if __name__ == "__main__":
    experiment.main("representation")

"""The history of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnet._arguments import type_name
from jaxnet.plot.axes import Axes, axes
from jaxnet.plot.colours import BLUE, GREEN, ORANGE, PURPLE
from jaxnet.train.summary import DECADES

CURVES = {  # colour and line
    "cost": (BLUE, "-"),
    "validation_cost": (ORANGE, "--"),
    "accuracy": (GREEN, "-."),
    "validation_accuracy": (PURPLE, ":"),
}


def history(result: Any, ax: Axes | None = None) -> Axes:
    """Draw the costs of the epochs, and on a second axis at the right the accuracies; return the Axes of the costs.

    The axis is logarithmic where the highest cost is more than 20 times the lowest.

    Args:
        result: what `fit` returns, or a history: a vector of an entry an epoch for each of "cost", "validation_cost",
            "accuracy" and "validation_accuracy" that it has. Other metrics are not drawn.
        ax: where to draw; None is a new figure.

    Raises:
        TypeError: result has no history, or ax is not an Axes.
        ValueError: the history has none of the four, or an entry that is not a vector.
        ImportError: matplotlib is not installed.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> result = jaxnet.fit(net, X, Y, key=jax.random.key(0), epochs=5)
    >>> jaxnet.plot.history(result).get_ylabel()
    'cost J'
    """
    curves = _curves(result)
    ax = axes(ax, (6.0, 4.0))
    costs = {name: curve for name, curve in curves.items() if name.endswith("cost")}
    right = {name: curve for name, curve in curves.items() if name.endswith("accuracy")}
    lines = _draw_curves(ax, costs)
    ax.set(title="Training", xlabel="epoch", ylabel="cost J")
    finite = np.concatenate([curve[np.isfinite(curve)] for curve in costs.values()] or [np.zeros(0)])
    if finite.size and finite.min() > 0 and finite.max() / finite.min() > DECADES:
        ax.set_yscale("log")
    if right:
        twin = ax.twinx()
        lines += _draw_curves(twin, right)
        twin.set(ylabel="accuracy", ylim=(0, 1.02))
    ax.locator_params(axis="x", integer=True)
    ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small", frameon=False)
    return ax


def _curves(result: Any) -> dict[str, np.ndarray]:
    """The curves of a history that are drawn."""
    given = getattr(result, "history", result)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"result is {type_name(result)}; expected what fit returns, or its history: a vector for each metric"
        )
    curves = {name: np.asarray(given[name], float) for name in CURVES if name in given}
    if not curves:
        raise ValueError(f"the history has {', '.join(map(repr, given)) or 'no metric'}; expected 'cost' among them")
    for name, curve in curves.items():
        if curve.ndim != 1:
            raise ValueError(
                f"history[{name!r}] has shape {curve.shape}; expected (epochs,), one network's: of a sweep, member i is"
                " {name: each[i] for name, each in history.items()}"
            )
    return curves


def _draw_curves(ax: Axes, curves: Mapping[str, np.ndarray]) -> list[Any]:
    """A line for each, from epoch 1; a single epoch is a point."""
    lines = []
    for name, curve in curves.items():
        colour, style = CURVES[name]
        marker = "o" if len(curve) == 1 else None
        epochs = np.arange(1, len(curve) + 1)
        lines += ax.plot(epochs, curve, style, color=colour, marker=marker, label=name.replace("_", " "))
    return lines

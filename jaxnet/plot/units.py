"""The network as its units and weights, with their numbers.

The unit of both axes is the height of a line of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnet import checks, values
from jaxnet.mlp import MLP, Params
from jaxnet.network import forward
from jaxnet.plot.axes import FONT, INCHES, LETTER, Axes, drawing, matplotlib, one_example
from jaxnet.plot.colours import BLUE, GREY, ORANGE
from jaxnet.plot.numbers import Shown, form_of, short

UNITS = Shown(10, 4, 3)  # of a layer
RADIUS, ROW, COLUMN = 1.9, 5.0, 13.0  # of a unit; from one unit to the next, and from one layer to the next
WIDEST = 3.0  # points, of a connection
SMALL = 0.85  # of the size of letters: on the lines, and in and below the units
CROWDED = 3  # units: of two layers that both have more there is no room for the weights' numbers
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # below a number on a line


def network(net: MLP, params: Params, x: Any = None, ax: Axes | None = None) -> Axes:
    """Draw the units as circles and the weights as lines, as wide as |w|, in a colour for each sign; return the Axes.

    The weights' numbers stand on the lines where there is room, the biases' below the units, and in the units, for an
    example x, the activations. Of a layer of more than 10 units the first 4 and the last 3 are shown.

    Args:
        net: any network.
        params: as `init` and `fit` return them.
        x: (n_x,) or (n_x, 1), one example; None leaves the units without numbers.
        ax: where to draw; None is a new figure, as large as the network.

    Raises:
        ValueError: x is not one example, or params hold NaN or an infinity; or as `forward` does.
        TypeError: ax is not an Axes; or as `forward` does.
        ImportError: matplotlib is not installed.

    >>> net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    >>> ax = jaxnet.plot.network(net, jaxnet.init(net, jax.random.key(0)), x=[0.5, -1.0])
    >>> [len(lines.get_linewidths()) for lines in ax.collections]  # a line for each weight of each layer
    [8, 4]
    """
    params = checks.params(net, params)
    for l, (W, b) in enumerate(params):
        for name, leaf in (("W", W), ("b", b)):
            leaf = np.asarray(leaf, float)
            values.refuse_first(f"params[{l}].{name}", leaf, ~np.isfinite(leaf), "expected finite numbers to draw")
    A = None
    if x is not None:
        column = one_example("x", x, net.sizes[0], "n_x", params)
        _, cache = jax.jit(forward, static_argnums=0)(net, params, column)
        A = [np.asarray(layer.A, float)[:, 0] for layer in cache]
    layers = [UNITS.of(n) for n in net.sizes]
    tallest = max(map(len, layers)) * ROW / 2
    kinds = ["layer 0: input", *(f"layer {l}: {short(g.name)}" for l, g in enumerate(net.g[1:], 1))]
    margin = max(RADIUS, LETTER / 2 * max(map(len, kinds))) + 0.5
    right = (len(layers) - 1) * COLUMN + margin
    ax, points = drawing(ax, -margin, right, -tallest - 6, tallest)
    _draw_weights(ax, points, [np.asarray(W, float) for W, _ in params], layers)
    for l, units in enumerate(layers):
        b = None if l == 0 else np.asarray(params[l - 1].b, float)[:, 0]
        _draw_units(ax, points, l, units, None if A is None else A[l], b)
        caption = f"{kinds[l]}\n{net.sizes[l]} unit{'s' * (net.sizes[l] != 1)}"
        ax.text(l * COLUMN, -tallest - 0.9, caption, ha="center", va="top", fontsize=points * FONT)
    one = matplotlib("lines").Line2D
    keys = [
        one([], [], color=BLUE, label="w > 0"),
        one([], [], color=ORANGE, linestyle="--", label="w < 0"),
        one([], [], linestyle="none", label="width: |w|"),
    ]
    ax.legend(handles=keys, loc="lower center", ncols=3, frameon=False, fontsize=points * FONT)
    ax.set_title("Weights, as wide as |w|" if A is None else "One example through the network")
    return ax


def _heights(units: Sequence[int | None]) -> np.ndarray:
    """Where they stand above each other, the first on top."""
    return ROW * ((len(units) - 1) / 2 - np.arange(len(units)))


def _draw_weights(
    ax: Any, points: float, weights: Sequence[np.ndarray], layers: Sequence[Sequence[int | None]]
) -> None:
    """A line for each weight between units that are shown, with its number where there is room for all of them."""
    collection = matplotlib("collections").LineCollection
    parts = []
    for W, before, after in zip(weights, layers[:-1], layers[1:], strict=True):
        parts.append(W[np.ix_(*([unit for unit in units if unit is not None] for units in (after, before)))])
    widest = max(float(np.abs(part).max()) for part in parts) or 1.0
    form = form_of(np.concatenate([part.ravel() for part in parts]))
    for l, (part, before, after) in enumerate(zip(parts, layers[:-1], layers[1:], strict=True)):
        starts, ends = (_heights(units)[[unit is not None for unit in units]] for units in (before, after))
        x = l * COLUMN, (l + 1) * COLUMN
        lines = [((x[0], start), (x[1], end)) for end in ends for start in starts]
        colours = [BLUE if w > 0 else ORANGE for w in part.flat]
        styles = ["-" if w > 0 else "--" for w in part.flat]
        widths = WIDEST * np.abs(part).ravel() / widest * points / (72 * INCHES)
        ax.add_collection(collection(lines, linewidths=widths, colors=colours, linestyles=styles, zorder=1))
        few = min(len(before), len(after))
        if few > CROWDED:
            continue
        along = 1 / (few + 1) if len(after) == few else few / (few + 1)  # where no two lines are near each other
        for w, (start, end) in zip(part.flat, lines, strict=True):
            at = [(1 - along) * a + along * b for a, b in zip(start, end, strict=True)]
            size = SMALL * points * FONT
            ax.text(*at, f"{w:{form}}", ha="center", va="center", fontsize=size, bbox=PAPER, zorder=2)


def _draw_units(
    ax: Any, points: float, l: int, units: Sequence[int | None], a: np.ndarray | None, b: np.ndarray | None
) -> None:
    """The units of a layer, with their names, their activations and below them their biases."""
    circle = matplotlib("patches").Circle
    centred = {"ha": "center", "va": "center", "fontsize": points * FONT, "zorder": 4}
    small = centred | {"fontsize": SMALL * points * FONT}
    for unit, y in zip(units, _heights(units), strict=True):
        if unit is None:
            ax.text(l * COLUMN, y, "⋮", **centred | {"fontsize": 2 * points})
            continue
        ax.add_patch(circle((l * COLUMN, y), RADIUS, facecolor="white", edgecolor="black", zorder=3))
        name = f"$x_{{{unit + 1}}}$" if l == 0 else f"$a^{{[{l}]}}_{{{unit + 1}}}$"
        ax.text(l * COLUMN, y if a is None else y + 0.6, name, **centred)
        if a is not None:
            ax.text(l * COLUMN, y - 0.75, f"{a[unit]:{form_of(a)}}", **small)
        if b is not None:
            text = f"b {b[unit]:{form_of(b)}}"
            ax.text(l * COLUMN, y - RADIUS - 0.6, text, **small | {"zorder": 2}, color=GREY, bbox=PAPER)

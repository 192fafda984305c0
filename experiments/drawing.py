"""Networks and computation graphs as the notes draw them: units in columns, values written inside.

Coordinates are the axes' own: one unit is the distance between two layers.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from experiments.experiment import BLUE, ORANGE

RADIUS = 0.21


def network(axes: Axes, layers: Sequence[Sequence[str]], weights: Sequence[np.ndarray]) -> None:
    """Draw a network: layers[l][i] is written in unit i of layer l; weights[l] (n, n_prev) leads from l to l + 1.

    A connection is as wide as its weight is large, and has a colour for each sign.
    """
    places = [[(column, height) for height in heights(len(units))] for column, units in enumerate(layers)]
    for W, before, after in zip(weights, places[:-1], places[1:], strict=True):
        for (unit, unit_before), w in np.ndenumerate(W):
            ends = np.transpose([before[unit_before], after[unit]])
            style = {"color": BLUE, "linestyle": "-"} if w > 0 else {"color": ORANGE, "linestyle": "--"}
            axes.plot(*ends, linewidth=0.5 + 2.5 * abs(w) / np.abs(W).max(), zorder=1, **style)
    for units, spots in zip(layers, places, strict=True):
        for text, spot in zip(units, spots, strict=True):
            axes.add_patch(Circle(spot, RADIUS, facecolor="white", edgecolor="black", zorder=2))
            axes.text(*spot, text, ha="center", va="center", fontsize=9, zorder=3)
    tallest = max(len(units) for units in layers)
    margin = 2 * RADIUS
    axes.set(xlim=(-margin, len(layers) - 1 + margin), ylim=(-tallest * 0.3 - margin, tallest * 0.3 + margin))
    axes.set_aspect("equal")
    axes.axis("off")


def heights(n: int) -> np.ndarray:
    """Where n units stand above each other, the first on top."""
    return 0.6 * ((n - 1) / 2 - np.arange(n))


def vector(values: np.ndarray) -> str:
    """A matrix as text, one line a row: two decimals, signs under each other."""
    return "\n".join(" ".join(f"{value:+.2f}" for value in row) for row in np.atleast_2d(values))

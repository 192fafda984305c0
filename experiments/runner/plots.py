"""Colours, figures, decision boundaries, and networks and computation graphs as the notes draw them.

matplotlib is imported where something is drawn, so that an experiment can be imported and measured without it. In the
drawings of networks and graphs one unit is the distance between two layers.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

import jaxnet
from jaxnet.mlp import Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

# Okabe and Ito's colours, which the colour-blind can tell apart as well
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#777777",
)  # fmt: skip

RADIUS = 0.21  # of a unit
LINE, WIDTH = 0.1, 0.8  # height of a line of text in a node, and a node's width
GRID = 160  # points along each side of a decision boundary


def figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, whose parts keep clear of each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(drawing: "Figure", dpi: int) -> bytes:
    """The figure as the content of a PNG file."""
    content = io.BytesIO()
    drawing.savefig(content, dpi=dpi)
    return content.getvalue()


def curves(series: Mapping[str, Sequence[float]], x: str, y: str) -> "Figure":
    """Each series against its position, from 1."""
    drawing = figure(6, 4)
    axes = drawing.subplots()
    styles = itertools.cycle(zip((BLUE, ORANGE, GREEN, RED), ("-", "--", "-.", ":"), strict=True))
    for (name, values), (colour, line) in zip(series.items(), styles, strict=False):
        axes.plot(np.arange(1, len(values) + 1), values, line, color=colour, label=name)
    axes.set(xlabel=x, ylabel=y)
    axes.legend()
    return drawing


def boundary(axes: "Axes", net: jaxnet.MLP, params: Params, X: np.ndarray, Y: np.ndarray) -> None:
    """The points (2, m) in the colours of their classes, and behind them the classes that a net gives to the plane."""
    low, high = X.min() - 0.5, X.max() + 0.5
    side = np.linspace(low, high, GRID, dtype=np.float32)
    plane = np.stack(np.meshgrid(side, side)).reshape(2, -1)
    A = np.asarray(jaxnet.predict(net, params, plane)).reshape(GRID, GRID)
    axes.contourf(side, side, A, levels=(0, 0.5, 1), colors=(BLUE, ORANGE), alpha=0.3)
    for label, colour, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
        axes.scatter(*X[:, Y[0] == label], s=5, color=colour, marker=marker)
    axes.set(aspect="equal", xlim=(low, high), ylim=(low, high))


def network(axes: "Axes", layers: Sequence[Sequence[str]], weights: Sequence[np.ndarray]) -> None:
    """Draw a network: layers[l][i] is written in unit i of layer l; weights[l] (n, n_prev) leads from l to l + 1.

    A connection is as wide as its weight is large, and has a colour for each sign.
    """
    from matplotlib.patches import Circle

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


def graph(
    axes: "Axes",
    places: Mapping[str, tuple[float, float]],
    edges: Sequence[Sequence[str]],
    titles: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    derivatives: Mapping[str, np.ndarray],
) -> None:
    """Draw a computation graph: in each node its value in blue and, where it has one, its derivative in red below.

    Blue arrows lead forwards along the edges; red dashed ones lead back to the nodes that have a derivative.
    """
    from matplotlib.patches import Rectangle

    boxes = {}
    for name, (column, row) in places.items():
        texts = [(titles[name], "black"), (vector(values[name]), BLUE)]
        if name in derivatives:
            texts.append((vector(derivatives[name]), RED))
        height = LINE * (sum(text.count("\n") + 1 for text, _ in texts) + 0.8)
        corner = (column - WIDTH / 2, row - height / 2)
        boxes[name] = axes.add_patch(Rectangle(corner, WIDTH, height, facecolor="white", edgecolor="black", zorder=2))
        top = row + height / 2 - 0.4 * LINE
        for text, colour in texts:
            style = {"color": colour, "family": "sans-serif" if colour == "black" else "monospace"}
            axes.text(
                column,
                top,
                text,
                ha="center",
                va="top",
                fontsize=8.5 if colour == "black" else 8.7,
                linespacing=1.25,
                zorder=3,
                **style,
            )
            top -= LINE * (text.count("\n") + 1)
    for start, end in edges:
        arrow(axes, places[start], places[end], boxes[start], boxes[end], BLUE, "-")
        if start in derivatives:
            arrow(axes, places[end], places[start], boxes[end], boxes[start], RED, "--")
    axes.plot([], [], color=BLUE, label="forwards: values")
    axes.plot([], [], color=RED, linestyle="--", label="backwards: derivatives")
    axes.legend(loc="upper right", fontsize="medium")
    columns, rows = zip(*places.values(), strict=True)
    axes.set(xlim=(min(columns) - 0.5, max(columns) + 0.5), ylim=(min(rows) - 0.5, max(rows) + 0.55))
    axes.axis("off")


def arrow(axes: "Axes", start, end, box_start: "Rectangle", box_end: "Rectangle", colour: str, line: str) -> None:
    """An arrow between two boxes, bent a little so that the one back lies beside it."""
    style = {"arrowstyle": "-|>", "color": colour, "linestyle": line, "connectionstyle": "arc3,rad=-0.16"}
    axes.annotate("", end, start, arrowprops={**style, "patchA": box_start, "patchB": box_end, "mutation_scale": 13})

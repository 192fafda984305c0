"""The computation graph of one example, with every value and derivative.

The unit of both axes is the height of a line of text.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import checks
from jaxnet.mlp import MLP, Cache, Layer, LayerCache, Params
from jaxnet.network import backward, forward
from jaxnet.plot.axes import FONT, LETTER, Axes, drawing, matplotlib, one_example
from jaxnet.plot.colours import BLUE, GREY, RED
from jaxnet.plot.numbers import Shown, form_of, short

ROWS, COLUMNS = Shown(10, 3, 2), Shown(5, 2, 1)  # of a matrix
GAP, PADDING = 3.0, 0.4  # between two boxes, and between two texts in a box


def computation_graph(net: MLP, params: Params, x: Any, y: Any, ax: Axes | None = None) -> Axes:
    """Draw what one example goes through: each value, and the derivative of ℓ with respect to it; return the Axes.

    From left to right x, z[1], a[1], ..., a[L] and ℓ(a[L], y), with W[l] above z[l] and b[l] below it; in each box the
    value in blue and ∂ℓ/∂ it in red. Values are those of `forward` and derivatives those of `backward`, at a[L] that of
    ℓ's formula; the penalty of `l2` is not in ℓ. Of more than 10 rows or 5 columns the first and the last are shown.

    Args:
        net: any network.
        params: as `init` and `fit` return them.
        x: (n_x,) or (n_x, 1), one example.
        y: (n_y,) or (n_y, 1), its target; a number where there is one output.
        ax: where to draw; None is a new figure, as large as the graph.

    Raises:
        ValueError: x or y is not one example, or as `cost` does.
        TypeError: ax is not an Axes; or as `cost` does.
        ImportError: matplotlib is not installed.

    >>> net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    >>> ax = jaxnet.plot.computation_graph(net, jaxnet.init(net, jax.random.key(0)), x=[0.5, -1.0], y=1)
    >>> ax.texts[0].get_text(), len(ax.patches)  # x, z, a, W and b of two layers, ℓ and y: boxes
    ('x', 11)
    """
    params = checks.params(net, params)
    X = jnp.asarray(one_example("x", x, net.sizes[0], "n_x", params))
    Y, _ = checks.targets(net, X, one_example("y", y, net.sizes[-1], "n_y", params), None)
    columns = _nodes(net, _host_passes(net, params, X, Y))
    places, limits = _places(columns)
    ax, points = drawing(ax, *limits)
    nodes = {name: node for column in columns for name, node in column.items()}
    boxes = {name: _draw_box(ax, points, nodes[name], *place) for name, place in places.items()}
    for start, end in _edges(len(net.sizes) - 1):
        _draw_arrow(ax, points, boxes[start], boxes[end], BLUE, "-")
        if nodes[start].derivative is not None:
            _draw_arrow(ax, points, boxes[end], boxes[start], RED, "--")
    one = matplotlib("lines").Line2D
    keys = [
        one([], [], color=BLUE, label="values, forwards"),
        one([], [], color=RED, linestyle="--", label="derivatives ∂ℓ/∂·, backwards"),
    ]
    ax.legend(handles=keys, loc="upper right", fontsize=points * FONT, frameon=False)
    ax.set_title("One example: values forwards, derivatives of ℓ backwards")
    return ax


class _Node(NamedTuple):
    """A box of the graph: 1 above the line of the layers, 0 on it or -1 below; its value, and ∂ℓ/∂ it if it has one."""

    row: int
    title: str
    value: str
    derivative: str | None

    @property
    def texts(self) -> list[tuple[str, str]]:
        """What stands in it, from above, and in which colour."""
        found = [(self.title, "black"), (self.value, BLUE)]
        return found if self.derivative is None else [*found, (self.derivative, RED)]

    @property
    def width(self) -> float:
        return 1.2 + LETTER * max(len(line) for text, _ in self.texts for line in text.split("\n"))

    @property
    def height(self) -> float:
        return PADDING + sum(_lines(text) + PADDING for text, _ in self.texts)


class _Example(NamedTuple):
    """What the passes find of one example: what is computed, and ∂ℓ/∂ it. dA[0] is ∂ℓ/∂x; db[l], a sum, is ∂ℓ/∂z[l]."""

    params: Params
    cache: Cache
    Y: Any
    loss: Any
    grads: Params
    dA: list[Any]  # noqa: N815 - as the notes have it


@partial(jax.jit, static_argnums=0)
def _passes(net, params, X, Y):
    """Forward and backward."""
    A, cache = forward(net, params, X)
    Z, loss = cache[-1].Z, net.loss_of_output
    grads, dX = backward(net, params, cache, loss.derivative(Z, A, Y))
    dA = [dX, *(_input_derivative(params[l], cache[l].A, cache[l + 1], grads[l].b) for l in range(1, len(params)))]
    return _Example(params, cache, Y, loss(Z, A, Y), grads, dA)


def _host_passes(net: MLP, params: Params, X: Any, Y: Any) -> _Example:
    """What they find as NumPy, and ∂ℓ/∂a[L]."""
    found = jax.tree.map(lambda leaf: np.asarray(leaf, float), _passes(net, params, X, Y))
    return found._replace(dA=[*found.dA, _output_derivative(net, found.cache[-1].A, found.Y)])


def _input_derivative(layer: Layer, A_prev: Any, after: LayerCache, dZ: Any) -> Any:
    """∂ℓ/∂a[l-1]: what backward says of the input of layer l alone."""
    n, n_prev = layer.W.shape
    return backward(MLP((n_prev, n), ("identity",)), (layer,), (LayerCache(A_prev, A_prev), after), dZ)[1]


def _output_derivative(net: MLP, A: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """∂ℓ/∂a[L], which the passes never form: they go from ℓ to z[L] at once, for in a it may be infinite."""
    if net.loss == "squared_error":
        return A - Y
    with np.errstate(divide="ignore"):
        ratio = lambda Y, A: np.divide(Y, A, out=np.zeros_like(A), where=Y != 0)
        return -ratio(Y, A) if net.activations[-1] == "softmax" else ratio(1 - Y, 1 - A) - ratio(Y, A)


def _nodes(net: MLP, found: _Example) -> list[dict[str, _Node]]:
    """The boxes by name, in columns from left to right."""
    columns = [{"x": _node(0, "x", found.cache[0].A, found.dA[0])}]
    for l in range(1, len(net.sizes)):
        (W, b), (Z, A, _), (dW, db) = found.params[l - 1], found.cache[l], found.grads[l - 1]
        before = "x" if l == 1 else f"a[{l - 1}]"
        columns.append(
            {
                f"W[{l}]": _node(1, f"W[{l}]", W, dW),
                f"z[{l}]": _node(0, f"z[{l}] = W[{l}]{before} + b[{l}]", Z, db),
                f"b[{l}]": _node(-1, f"b[{l}]", b, db),
            }
        )
        columns.append({f"a[{l}]": _node(0, f"a[{l}] = {short(net.g[l].name)}(z[{l}])", A, found.dA[l])})
    ell = _node(0, f"ℓ(a[{len(net.sizes) - 1}], y)", found.loss, np.ones((1, 1)))
    return [*columns, {"ℓ": ell, "y": _node(-1, "y", found.Y, None)}]


def _edges(L: int) -> list[tuple[str, str]]:
    """The arrows forwards, from what is read to what is computed."""
    inner = [("x" if l == 1 else f"a[{l - 1}]", f"z[{l}]") for l in range(1, L + 1)]
    layers = [(f"{start}[{l}]", f"{end}[{l}]") for l in range(1, L + 1) for start, end in ("Wz", "bz", "za")]
    return [*inner, *layers, (f"a[{L}]", "ℓ"), ("y", "ℓ")]


def _node(row: int, title: str, value: Any, derivative: Any) -> _Node:
    rows, columns = value.shape
    shape = f", {rows}×{columns}" if rows > ROWS.most or columns > COLUMNS.most else ""
    return _Node(row, title + shape, _text(value), None if derivative is None else _text(derivative))


def _text(matrix: np.ndarray) -> str:
    """A matrix as text, a line a row, signs under each other; of many rows or columns the first and the last."""
    matrix = matrix + 0.0  # which makes 0 of -0
    form = form_of(matrix)
    columns = COLUMNS.of(matrix.shape[1])
    lines = []
    for i in ROWS.of(matrix.shape[0]):
        numbers = [f"{matrix[i or 0, j or 0]:{form}}" for j in columns]
        cells = [number if i is not None else "⋮".center(len(number)) for number in numbers]
        lines.append(" ".join("…" if j is None else cell for j, cell in zip(columns, cells, strict=True)))
    return "\n".join(lines)


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _places(columns: list[dict[str, _Node]]) -> tuple[dict[str, tuple[float, float]], tuple[float, ...]]:
    """Where the middles of the boxes stand, and the limits of the drawing: left, right, bottom and top."""
    tallest = {row: max(n.height for column in columns for n in column.values() if n.row == row) for row in (-1, 0, 1)}
    places, x = {}, GAP / 3
    for column in columns:
        width = max(node.width for node in column.values())
        for name, node in column.items():
            places[name] = (x + width / 2, node.row * (tallest[0] / 2 + GAP + node.height / 2))
        x += width + GAP
    bottom, top = (tallest[0] / 2 + GAP + tallest[row] + 1 for row in (-1, 1))
    return places, (0.0, x - GAP * 2 / 3, -bottom, top)


def _draw_box(ax: Axes, points: float, node: _Node, x: float, y: float) -> Any:
    """A box with its texts below each other; returns its outline."""
    corner = (x - node.width / 2, y - node.height / 2)
    rectangle = matplotlib("patches").Rectangle
    box = ax.add_patch(rectangle(corner, node.width, node.height, facecolor="white", edgecolor="black", zorder=2))
    top = y + node.height / 2 - PADDING
    for text, colour in node.texts:
        middle = top - _lines(text) / 2
        style = {"color": colour, "family": ["monospace", "sans-serif"], "fontsize": points * FONT}
        ax.text(x, middle, text, ha="center", va="center", linespacing=1.2, zorder=3, **style)
        top -= _lines(text) + PADDING
        if text is not node.texts[-1][0]:
            ax.plot([corner[0], corner[0] + node.width], [top + PADDING / 2] * 2, color=GREY, linewidth=0.4, zorder=3)
    return box


def _draw_arrow(ax: Axes, points: float, start: Any, end: Any, colour: str, line: str) -> None:
    """An arrow between two boxes, bent a little so that the one back lies beside it."""
    style = {"arrowstyle": "-|>", "color": colour, "linestyle": line, "connectionstyle": "arc3,rad=-0.16"}
    ends = {"patchA": start, "patchB": end, "mutation_scale": points}
    middles = [(box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2) for box in (start, end)]
    ax.annotate("", middles[1], middles[0], arrowprops=style | ends)

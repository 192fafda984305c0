"""What a network says of examples: its decision boundary, and its confusion of classes.

Legend: X (n_x, m) and Y (n_y, m) hold examples as columns; A is what the network says of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnet import checks, values
from jaxnet._arguments import count, several
from jaxnet.mlp import MLP, Params
from jaxnet.network import Inputs, Outputs, predict
from jaxnet.plot.axes import Axes, axes, matplotlib
from jaxnet.plot.colours import BLUE, COLOURS, MARKERS, ORANGE


def decision_boundary(
    net: MLP, params: Params, X: Inputs, Y: Outputs, ax: Axes | None = None, resolution: int = 200
) -> Axes:
    """Draw what a network of two inputs says of the plane, as a shade, and the examples over it; return the Axes.

    One sigmoid: the probability of class 1, from orange to blue, and the line where it is 1/2. Softmax: the most
    probable class, the darker the more probable, and the lines where two are. Squared error, one output: ŷ, and y in
    the colour of the points.

    Args:
        net: of two inputs, x_1 to the right and x_2 upwards.
        params: as `init` and `fit` return them.
        X: (2, m), the examples; the plane ends a tenth of their range beyond them.
        Y: (n_y, m), their targets.
        ax: where to draw; None is a new figure.
        resolution: points along each side at which the network is asked.

    Raises:
        ValueError: net has not two inputs, or several outputs that are not classes; resolution is not a number from 2
            to 2000; the network's answers are not finite; or as `cost` does.
        TypeError: ax is not an Axes; or as `cost` does.
        ImportError: matplotlib is not installed.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> ax = jaxnet.plot.decision_boundary(net, jaxnet.init(net, jax.random.key(0)), X, Y, resolution=50)
    >>> ax.images[0].get_array().shape  # the probability at each point of the plane
    (50, 50)
    """
    checks.mlp(net)
    if net.sizes[0] != 2:
        raise ValueError(
            f"net has {net.sizes[0]} inputs; expected 2, the axes of the plane; of a classifier with more draw"
            " plot.confusion(net, params, X, Y)"
        )
    k = _classes(net)
    if k == 0 and net.sizes[-1] > 1:
        raise ValueError(
            f"net has {net.sizes[-1]} outputs that are not classes; expected softmax, or one output: draw them one by"
            " one, output i by the net of sizes (..., 1) with row i of the last W and b, and Y[[i]]"
        )
    count("resolution", resolution, 2, 2000)
    params, *examples = _examples(net, params, X, Y)
    X, Y = (np.asarray(part, float) for part in examples)  # matplotlib knows no bfloat16
    sides = [_side(coordinates, resolution) for coordinates in X]
    plane = np.stack(np.meshgrid(*sides)).reshape(2, -1).astype(params[0].W.dtype)
    A = _predictions(net, params, plane).reshape(-1, resolution, resolution)
    ax = axes(ax, (5.2, 4.4) if k == 0 else (4.6, 4.4))
    if k == 0:
        _draw_surface(ax, sides, A[0], X, Y[0])
    else:
        _draw_regions(ax, sides, A, X, _labels(net, Y))
    ax.set(title="-".join(map(str, net.sizes)), xlabel="$x_1$", ylabel="$x_2$")
    ax.set(xlim=sides[0][[0, -1]], ylim=sides[1][[0, -1]])
    return ax


def confusion(
    net: MLP, params: Params, X: Inputs, Y: Outputs, ax: Axes | None = None, labels: Sequence[Any] | None = None
) -> Axes:
    """Draw how many examples of each class the network takes for each; return the Axes.

    Args:
        net: a classifier: one sigmoid, of the classes 0 and 1, or softmax.
        params: as `init` and `fit` return them.
        X: (n_x, m), the examples.
        Y: (n_y, m), their targets, as `one_hot` makes them; the class of an example is the row of the largest.
        ax: where to draw; None is a new figure.
        labels: the classes' names; None numbers them from 0.

    Raises:
        ValueError: net does not end with one sigmoid or softmax under cross-entropy; there are not as many labels as
            classes; the network's answers are not finite; or as `cost` does.
        TypeError: labels are not names one after the other, or ax is not an Axes; or as `cost` does.
        ImportError: matplotlib is not installed.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> params = jaxnet.init(net, jax.random.key(0), "zeros")  # which tells nothing apart
    >>> ax = jaxnet.plot.confusion(net, params, X, Y, labels=("red", "blue"))
    >>> [text.get_text() for text in ax.texts]
    ['200', '200']
    """
    checks.mlp(net)
    k = _classes(net)
    if k == 0:
        raise ValueError(
            f"net ends with {net.sizes[-1]} outputs {net.activations[-1]!r} under {net.loss}, which are not classes;"
            " expected one 'sigmoid', or 'softmax', under cross_entropy"
        )
    labels = range(k) if labels is None else several("labels", labels, f"{k} names, one a class")
    if len(labels) != k:
        raise ValueError(f"labels has {len(labels)} names; expected {k}, one a class")
    params, X, Y = _examples(net, params, X, Y)
    counts = np.zeros((k, k), int)
    np.add.at(counts, (_labels(net, Y), _labels(net, _predictions(net, params, X))), 1)
    ax = axes(ax, (4.8, 4.6))
    ax.imshow(np.sqrt(counts), cmap="Blues", vmin=0)  # the root makes single errors visible
    size = float(np.clip(130 / k, 4, 11))
    for (true, predicted), n in np.ndenumerate(counts):
        if n:
            colour = "white" if n > counts.max() / 3 else "black"
            ax.text(predicted, true, str(n), ha="center", va="center", color=colour, fontsize=size)
    ax.set(
        title=f"{np.trace(counts)} of {counts.sum()} right", xlabel="predicted class", ylabel="true class",
        xticks=range(k), yticks=range(k),
    )  # fmt: skip
    names = [str(label) for label in labels]
    slope = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 3 and len("  ".join(names)) > 45 else {}
    ax.set_xticklabels(names, fontsize=max(size, 6) if k > 10 else None, **slope)
    ax.set_yticklabels(names, fontsize=max(size, 6) if k > 10 else None)
    return ax


def _examples(net: MLP, params: Any, X: Any, Y: Any) -> tuple[Params, np.ndarray, np.ndarray]:
    """Params, X and Y as `cost` reads them, X and Y on the host."""
    params, X = checks.inputs(net, params, X, "float32")
    Y, _ = checks.targets(net, X, Y, None)
    return params, np.asarray(X), np.asarray(Y)


def _predictions(net: MLP, params: Params, X: np.ndarray) -> np.ndarray:
    """What the network says of X, in numbers that can be drawn."""
    A = np.asarray(predict(net, params, X), float)
    values.refuse_first("predict(net, params, X)", A, ~np.isfinite(A), "expected finite numbers to draw")
    return A


def _classes(net: MLP) -> int:
    """How many classes the network tells apart; 0 where its outputs are numbers, or labels beside each other."""
    if net.activations[-1] == "softmax":
        return net.sizes[-1]
    return 2 if net.is_classifier and net.sizes[-1] == 1 else 0


def _labels(net: MLP, A: np.ndarray) -> np.ndarray:
    """The class of each column, as `accuracy` counts it."""
    return A.argmax(axis=0) if net.activations[-1] == "softmax" else (A[0] > 0.5).astype(int)


def _side(coordinates: np.ndarray, resolution: int) -> np.ndarray:
    """Points along one side of the plane, to a tenth of the examples' range beyond them."""
    low, high = float(coordinates.min()), float(coordinates.max())
    beyond = 0.1 * (high - low) or 0.5
    return np.linspace(low - beyond, high + beyond, resolution)


def _show(ax: Any, sides: Sequence[np.ndarray], image: np.ndarray, **style: Any) -> Any:
    """An image whose entries lie at the points of the plane."""
    half = [(side[1] - side[0]) / 2 for side in sides]
    extent = tuple(float(end) for side, by in zip(sides, half, strict=True) for end in (side[0] - by, side[-1] + by))
    return ax.imshow(image, extent=extent, origin="lower", aspect="auto", interpolation="bilinear", **style)


def _size(m: int) -> float:
    """How large m points are drawn."""
    return float(np.clip(6000 / m, 5, 30))


def _draw_surface(ax: Any, sides: Sequence[np.ndarray], A: np.ndarray, X: np.ndarray, y: np.ndarray) -> None:
    """The output at each point, and the examples in the colours of their targets."""
    colours = {"cmap": "cividis", "vmin": min(A.min(), y.min()), "vmax": max(A.max(), y.max())}
    surface = _show(ax, sides, A, **colours)
    ax.scatter(X[0], X[1], c=y, s=_size(y.size), edgecolors="white", linewidths=0.5, **colours)
    ax.get_figure().colorbar(surface, ax=ax, label="$\\hat{y}$, and y in the points")


def _draw_regions(ax: Axes, sides: Sequence[np.ndarray], A: np.ndarray, X: np.ndarray, labels: np.ndarray) -> None:
    """The probabilities at each point, the boundaries between classes, and the examples in their classes' colours."""
    k = max(len(A), 2)
    if len(A) == 1:
        towards = matplotlib("colors").LinearSegmentedColormap.from_list
        _show(ax, sides, A[0], cmap=towards("class 0 to 1", (ORANGE, "white", BLUE)), vmin=0, vmax=1, alpha=0.55)
        margins = [A[0] - 0.5]
    else:
        colours = np.array([matplotlib("colors").to_rgb(COLOURS[c % len(COLOURS)]) for c in range(k)])
        sure = ((A.max(axis=0) - 1 / k) / (1 - 1 / k))[..., None]  # from 0, where all are equal, to 1
        _show(ax, sides, np.clip(1 - 0.55 * sure * (1 - colours[A.argmax(axis=0)]), 0, 1))
        margins = [A[c] - np.delete(A, c, axis=0).max(axis=0) for c in range(k)]
    for margin in margins:
        if margin.min() < 0 < margin.max():
            ax.contour(*sides, margin, levels=[0], colors="black", linewidths=1)
    for c in range(k):
        colour, marker = COLOURS[c % len(COLOURS)], MARKERS[(c + c // len(COLOURS)) % len(MARKERS)]
        at = X[:, labels == c]
        ax.scatter(at[0], at[1], s=_size(labels.size), color=colour, marker=marker, edgecolors="white", linewidths=0.3,
                   label=f"class {c}")  # fmt: skip
    if k <= 10:
        ax.legend(loc="upper right", fontsize="small")

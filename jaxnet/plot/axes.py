"""What a drawing is given: the Axes of matplotlib, or none and it makes a figure, and for some one example."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jaxnet import checks
from jaxnet._arguments import type_name
from jaxnet.mlp import Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
else:
    Axes = Any  # for whoever reads the annotations at run time

INCHES = 0.16  # a line of text in a new drawing
FONT = 1 / 1.2  # the size of a letter, of a line's height
LETTER = 0.6 * FONT  # how wide it is in a monospaced font
TITLE = 0.45  # inches above a drawing


def matplotlib(module: str) -> Any:
    """A module of matplotlib."""
    try:
        return importlib.import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError(f"jaxnet.plot needs matplotlib ({error}); pip install 'jaxnet[plots]'") from error


def axes(ax: Any, inches: tuple[float, float]) -> Axes:
    """The axes that were given, or those of a new figure."""
    if ax is None:
        return matplotlib("pyplot").subplots(figsize=inches, layout="constrained")[1]
    if not isinstance(ax, matplotlib("axes").Axes):
        raise TypeError(f"ax is {type_name(ax)}; expected a matplotlib Axes, such as plt.subplots()[1], or None")
    return ax


def drawing(ax: Any, left: float, right: float, bottom: float, top: float) -> tuple[Axes, float]:
    """Axes without a frame and with these limits, and how many points a unit of theirs is."""
    width, height = (right - left) * INCHES, (top - bottom) * INCHES
    if ax is None:
        figure = matplotlib("pyplot").figure(figsize=(width, height + TITLE))
        ax = figure.add_axes((0, 0, 1, height / (height + TITLE)))
    ax = axes(ax, (width, height))
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.axis("off")
    figure = ax.get_figure().canvas.figure  # the whole one, of which the axes' own may be a part
    if figure.get_layout_engine() is not None:  # it places the axes where they are drawn
        figure.draw_without_rendering()
    box, dots = ax.get_window_extent(), figure.dpi
    return ax, 72 * min(box.width / (right - left), box.height / (top - bottom)) / dots


def one_example(argument: str, given: Any, rows: int, symbol: str, params: Params) -> Any:
    """One example as a matrix of one column, in the dtype of the params."""
    array = checks.read(argument, given, params[0].W.dtype, "the params are")
    if array.shape not in ((rows,), (rows, 1)) and not (array.shape == () and rows == 1):
        number = ", or a number" if rows == 1 else ""
        raise ValueError(
            f"{argument} has shape {array.shape}; expected one example, ({symbol}={rows},) or ({rows}, 1){number}: of a"
            f" matrix of examples {argument.upper()}[:, i]"
        )
    return array.reshape(rows, 1)

"""Figures, and the files that they become; `jaxnet.plot` draws networks, boundaries and confusions.

matplotlib is imported where something is drawn, so that an experiment can be imported and measured without it.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxnet.plot.colours import BLUE, GREEN, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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

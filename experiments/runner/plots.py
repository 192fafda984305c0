"""Figures, and the files that they become; `jaxnet.plot` draws networks, boundaries and confusions.

matplotlib is imported where something is drawn, so that an experiment can be imported and measured without it.
"""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE, RED

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


VARIABLES = {  # of the page's style, for what is drawn in these colours
    "#000000": "currentColor", "#ffffff": "var(--paper)", BLUE: "var(--blue)", ORANGE: "var(--orange)",
    GREEN: "var(--green)", RED: "var(--red)", GREY: "var(--soft)",
}  # fmt: skip


def svg(drawing: "Figure", name: str, alt: str) -> str:
    """The figure as an SVG element for the page: transparent, its text as text, in the colours of the page's style.

    `name` is unlike that of any other picture on the page, and begins the ids of its parts; `alt` says what it shows.
    """
    import matplotlib

    content = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawing.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    element = content.getvalue().partition("<svg ")[2]
    element = re.sub(r"<(metadata|defs)>\s*<(rdf:RDF.*?|style.*?</style>\s*)</\1>", "", element, flags=re.DOTALL)
    element = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", element)
    for colour, variable in VARIABLES.items():
        element = re.sub(colour, variable, element, flags=re.IGNORECASE)
    head, _, body = element.partition(">")
    box = re.search(r'viewBox="[^"]+"', head)[0]
    return f'<svg {box} role="img" aria-label="{escape(alt)}" fill="currentColor">{body}'


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

"""Figures, and the files that they become; `jaxnet.plot` draws networks, boundaries and confusions.

matplotlib is imported where something is drawn, so that an experiment can be imported and measured without it.
"""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from experiments.runner.notation import powers_of_ten
from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, whose parts keep clear of each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(drawing: "Figure", dpi: int) -> bytes:
    """The figure as the content of a PNG file; its parts keep the places that they have there.

    `savefig` would draw everything twice, and find the places each time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    drawing.set_dpi(dpi)
    FigureCanvasAgg(drawing).print_png(content)
    drawing.set_layout_engine("none")
    return content.getvalue()


SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
DIGITS = re.compile(r"\d+\.\d{3,}")  # more than can be seen
VARIABLES = {  # of the page's style, for what is drawn in these colours
    "#000000": "currentColor", "#ffffff": "var(--paper)", BLUE: "var(--blue)", ORANGE: "var(--orange)",
    GREEN: "var(--green)", RED: "var(--red)", GREY: "var(--soft)",
}  # fmt: skip


def svg(drawing: "Figure", name: str, alt: str) -> str:
    """The figure as an SVG element for the page: transparent, its text as text, in the colours of the page's style.

    `name` is unlike that of any other picture on the page, and begins the ids of its parts; `alt` says what it shows.
    """
    root = _rendered(drawing, name)
    return _element(root.findall("*"), (0, 0, *(72 * drawing.get_size_inches())), name, alt)


def panels(drawing: "Figure", name: str, alt: str) -> list[str]:
    """Each place of the figure's grids as an SVG element of its own, which can wrap where the screen is narrow.

    A colour bar belongs to its axes. A subfigure's title stands before its places, as a paragraph.
    """
    from matplotlib.transforms import Bbox

    parts: dict[Any, list] = {}
    beside = {
        artist.colorbar.ax: axes
        for axes in drawing.axes
        for artist in (*axes.images, *axes.collections)
        if artist.colorbar
    }
    for number, axes in enumerate(drawing.axes):
        axes.set_gid(f"axes-{number}")
        if axes.axison or axes.has_data() or axes.texts:
            parts.setdefault(beside.get(axes, axes).get_subplotspec(), []).append(axes)
        for text in axes.texts if axes.images else ():  # it is read on the image, which does not change with the page
            text.set_color({"black": "#010101", "white": "#fefefe"}.get(text.get_color(), text.get_color()))
    root = _rendered(drawing, name)
    groups = {group.get("id"): group for group in root.iter(f"{{{SVG}}}g")}
    shared = root.findall(f"{{{SVG}}}defs[{{{SVG}}}clipPath]")  # on the page found from any picture
    height, titled, found = drawing.get_size_inches()[1], set(), []
    for number, group in enumerate(parts.values()):
        owner = group[0].get_figure(root=False)
        if owner not in titled and owner.get_suptitle():
            found.append(f"<p>{escape(owner.get_suptitle())}</p>")
        titled.add(owner)
        box = Bbox.union([axes.get_tightbbox() for axes in group]).padded(0.04 * drawing.dpi)
        left, bottom, right, top = box.transformed(drawing.dpi_scale_trans.inverted()).extents
        view = tuple(72 * inches for inches in (left, height - top, right - left, top - bottom))
        title = " ".join(filter(None, (axes.get_title() for axes in group)))
        parts_of_it = [groups[axes.get_gid()] for axes in group]
        found.append(_element([*shared * (number == 0), *parts_of_it], view, name, title or alt))
    return found


def _rendered(drawing: "Figure", name: str) -> ElementTree.Element:
    """The figure as a tree of SVG, without its grounds."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    for part in (drawing, *drawing.axes):
        part.patch.set_visible(False)
    content, canvas = io.StringIO(), drawing.canvas
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(drawing).print_svg(content, metadata={"Date": None})
    drawing.set_canvas(canvas)  # which measures text as it is drawn
    return ElementTree.fromstring(content.getvalue())


def _element(parts: list[ElementTree.Element], view: tuple[float, ...], name: str, alt: str) -> str:
    """Parts of a figure as an SVG element, as wide as they are in print."""
    text = "".join(ElementTree.tostring(part, encoding="unicode") for part in parts)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"|<(metadata|style)[ >].*?</\2>', "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r">[^<]+<", lambda words: powers_of_ten(words[0]), text)
    text = re.sub(r"<[^<>]+>", lambda tag: DIGITS.sub(lambda number: f"{float(number[0]):.2f}", tag[0]), text)
    for colour, variable in VARIABLES.items():
        text = re.sub(colour, variable, text, flags=re.IGNORECASE)
    box, width = " ".join(f"{number:.1f}" for number in view), view[2] / 0.75  # points as CSS has them
    size = f'width="{width:.0f}" style="--width: {width:.0f}px"'
    head = f'viewBox="{box}" {size} role="img" aria-label="{escape(alt)}" fill="currentColor"'
    return f"<svg {head}>{text}</svg>"


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

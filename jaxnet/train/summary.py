"""How a result shows itself, in a shell by a few lines and in a notebook by a small picture of its costs.

Both are bounded, however wide the network and long the history. A result is a pytree, in which `jax.tree.map` may have
put anything: what is no number is left out, and nothing here raises.
"""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

MOST_WIDTHS, MOST_METRICS, MOST_LETTERS = 9, 8, 24
FIRST = ("cost", "validation_cost", "accuracy", "validation_accuracy")
WIDTH, HEIGHT, MARGIN = 360, 120, 18  # of the picture, in pixels
POINTS = 180  # of a curve; a longer history is thinned out
COLOURS = ("#1f77b4", "#d95f02")  # seen on white and on black
DECADES = 20  # how many times the lowest cost the highest is, from where the axis is logarithmic


class Text(str):
    """Lines that show themselves as they are, where a plain string has quotes and \\n."""

    def __repr__(self) -> str:
        """The lines."""
        return str(self)

    def _repr_html_(self) -> str:
        """The lines, for a notebook."""
        return f"<pre>{html.escape(self)}</pre>"


def network(params: Any) -> str:
    """The widths of a network and its dtype, as "2-4-1 in float32"."""
    try:
        sizes = [params[0].W.shape[-1], *(layer.W.shape[-2] for layer in params)]
        dtype = str(params[0].W.dtype)
    except (TypeError, AttributeError, LookupError):
        return "params of another kind"
    widths = [str(size)[:12] for size in sizes]
    if len(widths) > MOST_WIDTHS:
        widths = [*widths[:4], f"({len(widths) - 7} more)", *widths[-3:]]
    return f"{'-'.join(widths)} in {dtype}"


def curves(history: Any) -> dict[str, np.ndarray]:
    """The metrics that are vectors of real numbers, by name, as float64."""
    found = {}
    for name, values in history.items() if isinstance(history, Mapping) else ():
        if isinstance(values, np.ndarray) and values.ndim == 1 and values.size and values.dtype.kind in "fiu":
            found[str(name)[:MOST_LETTERS]] = values.astype(np.float64)
    names = [*(name for name in FIRST if name in found), *(name for name in found if name not in FIRST)]
    return {name: found[name] for name in names[:MOST_METRICS]}


def metrics(history: Any) -> list[str]:
    """A line for each metric: the first epoch's, the last one's, and the best of a cost or an accuracy."""
    found = curves(history)
    width, lines = max(map(len, found), default=0), []
    for name, values in found.items():
        line = f"  {name:{width}}  {values[0]:.4g} -> {values[-1]:.4g}"
        finite = np.flatnonzero(np.isfinite(values))
        if name.endswith(("cost", "accuracy")) and finite.size:
            lowest = name.endswith("cost")
            best = finite[(np.argmin if lowest else np.argmax)(values[finite])]
            line += f", {'lowest' if lowest else 'highest'} {values[best]:.4g} in epoch {best + 1}"
        lines.append(line)
    return lines


def picture(history: Any) -> str:
    """The costs of the epochs as SVG, on a logarithmic axis where they go far down; empty where there are none."""
    costs = {name: values for name, values in curves(history).items() if name in ("cost", "validation_cost")}
    finite = [values[np.isfinite(values)] for values in costs.values()]
    if not finite or not any(values.size for values in finite):
        return ""
    lowest, highest = (float(of(np.concatenate(finite))) for of in (np.min, np.max))
    scale = np.log if lowest > 0 and highest / lowest > DECADES else np.asarray
    span = float(scale(highest) - scale(lowest)) or 1.0
    epochs = max(map(len, costs.values()))
    lines, legend = [], []
    for (name, values), colour in zip(costs.items(), COLOURS, strict=False):
        at = np.flatnonzero(np.isfinite(values))
        at = at[np.unique(np.linspace(0, len(at) - 1, POINTS).astype(int))] if len(at) > POINTS else at
        x = MARGIN + (WIDTH - 2 * MARGIN) * at / max(epochs - 1, 1)
        y = MARGIN + (HEIGHT - 2 * MARGIN) * (scale(highest) - scale(values[at])) / span
        dots = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        if len(at) == 1:
            lines.append(f'<circle cx="{x[0]:.1f}" cy="{y[0]:.1f}" r="2" fill="{colour}"/>')
        else:
            lines.append(f'<polyline points="{dots}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        legend.append((name, colour))
    text = '<text x="{}" y="{}" text-anchor="{}"{}>{}</text>'
    labels = [
        text.format(MARGIN, MARGIN - 6, "start", "", f"{highest:.4g}"),
        text.format(MARGIN, HEIGHT - 4, "start", "", f"{lowest:.4g}"),
        text.format(WIDTH - MARGIN, HEIGHT - 4, "end", "", f"epoch {epochs}"),
    ]
    labels += [
        text.format(WIDTH - MARGIN, MARGIN - 6 + 13 * line, "end", f' fill="{colour}"', html.escape(name))
        for line, (name, colour) in enumerate(legend)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{HEIGHT}"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" font-size="11" fill="currentColor"><title>cost, epoch by epoch'
        f"{', logarithmic' if scale is np.log else ''}</title>{''.join(lines)}{''.join(labels)}</svg>"
    )


def as_html(text: str, history: Any) -> str:
    """The lines and the picture, for a notebook."""
    return f"<div><pre>{html.escape(text)}</pre>{picture(history)}</div>"

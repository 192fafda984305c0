"""Metrics as HTML tables, however they are nested: groups of groups of numbers make a table, and a list is a group too.

Groups with the same entries are the rows of one table; the longer side runs down, as a narrow screen has room there.
"""

import math
from collections.abc import Iterator
from html import escape
from typing import Any

LONG = 100  # cells; a longer table is folded
TOO_LONG = 5000  # cells; one longer still stays in metrics.json

Cell = bool | int | float | str | None
Rows = dict[str, dict[str, Cell]]


def tables(metrics: dict[str, Any]) -> str:
    """All the metrics: small tables side by side, then folded, by name, what is long or lies deeper."""
    alone = {name: value for name, value in metrics.items() if is_cell(value)}
    groups = {name: value for name, value in metrics.items() if not is_cell(value)}
    shown, folded = [], {}
    for place, rows in nested((), {"measured": alone} | groups):
        if len(place) > 1 or cells(rows) > LONG:
            folded.setdefault(place[:1] or tuple(rows), []).append(table(place[1:], rows))
        else:
            shown.append(table(place, rows))
    return side_by_side(shown) + "".join(
        f"<details><summary>{', '.join(map(in_words, names))}</summary>{side_by_side(inner)}</details>"
        for names, inner in folded.items()
    )


def side_by_side(drawn: list[str]) -> str:
    """Tables beside each other where there is room."""
    return f'<div class="tables">{"".join(drawn)}</div>' if drawn else ""


def nested(place: tuple[str, ...], groups: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Rows]]:
    """Every table among the groups and what they hold, with the names that lead to it."""
    inner = {name: entries(group) for name, group in groups.items()}
    rows = {name: {key: value for key, value in group.items() if is_cell(value)} for name, group in inner.items()}
    while rows := {name: row for name, row in rows.items() if row}:
        columns = list(next(iter(rows.values())))
        alike = {name: row for name, row in rows.items() if list(row) == columns}
        rows = {name: row for name, row in rows.items() if name not in alike}
        yield place, alike
    for name, group in inner.items():
        yield from nested((*place, name), {key: value for key, value in group.items() if not is_cell(value)})


def entries(group: dict | list) -> dict[str, Any]:
    """A group's entries by name; those of a list by position, from 1."""
    return group if isinstance(group, dict) else {str(position): value for position, value in enumerate(group, 1)}


def table(place: tuple[str, ...], rows: Rows) -> str:
    """Rows as a table in a box that scrolls by itself."""
    if cells(rows) > TOO_LONG:
        return f"<p>{cells(rows):,} numbers, in metrics.json.</p>"
    columns = list(next(iter(rows.values())))
    is_a_list = list(rows) == [str(position) for position in range(1, len(rows) + 1)]
    if len(rows) == 1 or (len(columns) > len(rows) and not is_a_list):
        rows, columns = {column: {name: row[column] for name, row in rows.items()} for column in columns}, list(rows)
    caption = f"<caption>{': '.join(map(in_words, place))}</caption>" if place else ""
    head = "".join(f'<th scope="col">{in_words(column)}</th>' for column in columns)
    lines = {name: "".join(map(cell, row.values())) for name, row in rows.items()}
    body = "".join(f'<tr><th scope="row">{in_words(name)}</th>{line}</tr>' for name, line in lines.items())
    return f'<div class="scroll"><table>{caption}<tr><td></td>{head}</tr>{body}</table></div>'


def cells(rows: Rows) -> int:
    """How many cells the rows have."""
    return sum(map(len, rows.values()))


def cell(value: Cell) -> str:
    """A value in its cell; words run from the left and wrap."""
    is_text = isinstance(value, str) and len(value) > 24
    return f"<td{' class=text' if is_text else ''}>{escape(shown(value))}</td>"


def is_cell(value: Any) -> bool:
    """Whether a value is no group."""
    return value is None or isinstance(value, Cell)


def in_words(name: str) -> str:
    """A name of Python as a reader sees it."""
    return escape(name.replace("_", " "))


def shown(value: Cell) -> str:
    """A value as people write it."""
    if value is None or isinstance(value, str | bool):
        return {None: "none", True: "yes", False: "no"}.get(value, str(value))
    return f"{value:,.0f}" if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1e4) else f"{value:.5g}"

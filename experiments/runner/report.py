"""What the page says of an experiment that ran: its report, to fold out, and its line in the table of claims.

Metrics become tables, however they are nested: groups of groups of numbers make a table, and a list is a group too.
Groups with the same entries are the rows of one table; the longer side runs down, as a narrow screen has room there.
"""

import base64
import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments.runner.notation import powers_of_ten
from experiments.runner.results import files, panels

COMPARED = ("measured", "limit", "margin")
TIMES = 10  # limits: a larger margin is said as a multiple
LONG = 100  # cells; a longer table is folded
TOO_LONG = 5000  # cells; one longer still stays in metrics.json

Cell = bool | int | float | str | None
Rows = dict[str, dict[str, Cell]]
Cards = Mapping[str, dict[str, Any] | None]  # every experiment's record, None where there is none


def status(cards: Cards, interrupted: Sequence[str] = (), seconds: float | None = None) -> str:
    """What made the page, and how long that took; an interrupt, claims that failed, and what is missing or old."""
    records = [record for record in cards.values() if record]
    made_by = next((f", by jax {r['jax']}, Python {r['python']}, {r['device']}" for r in records if "jax" in r), "")
    never = [name for name, record in cards.items() if not record]
    bad = [f"{link(record['experiment'])} {state(record)}" for record in records if not record["held"]]
    count, new = len(records), sum("earlier" not in record for record in records)
    sentences = [f"{count} experiment{'s' * (count != 1)}{escape(made_by)}."]
    if seconds is not None:
        sentences.append(f"This run performed {new} of them in {seconds:.0f} s.")
    if interrupted:
        left_out = escape(", ".join(interrupted))
        sentences.append(f'<strong class="failed">Interrupted before the end of: {left_out}.</strong>')
    if bad:
        sentences.append(f"What did not hold: {', '.join(bad)}.")
    if never:
        sentences.append(f"No results yet: {escape(', '.join(never))}.")
    if any("earlier" in record for record in records):
        sentences.append("Reports with a date are of an earlier run, the latest that this results directory holds.")
    return f'<p class="soft">{" ".join(sentences)}</p>'


def claims(cards: Cards) -> str:
    """The table of claims: of each experiment the comparison that comes nearest to its limit."""
    head = '<th scope="col" class="text">experiment</th><th scope="col" class="text">check</th>'
    head += "".join(f'<th scope="col">{name}</th>' for name in COMPARED)
    rows = "".join(f'<tr><th scope="row">{link(name)}</th>{nearest(record)}</tr>'
                   for name, record in cards.items() if record)  # fmt: skip
    return scrolling(f"<table><tr>{head}</tr>{rows}</table>", "Every experiment")


def nearest(record: dict[str, Any]) -> str:
    """The cells of the comparison that comes nearest to its limit; of one that failed or has none, a sentence."""
    compared = record.get("comparisons", {})
    margins = {name: margin(**numbers) for name, numbers in compared.items()}
    if not record["held"] or not margins:
        sentence = (
            f"{len(record['metrics'].get('clauses', {}))} checks of yes or no, all yes"
            if record["held"]
            else state(record)
        )
        return f'<td class="text" colspan="4">{sentence}</td>'
    name = min(margins, key=lambda name: math.inf if margins[name] is None else margins[name])
    return f'<td class="text">{words(name)}</td>{comparison(compared[name])}'


def checks(record: dict[str, Any]) -> str:
    """The table of all clauses: a number with its limit and margin, or yes or no."""
    compared = record.get("comparisons", {})
    head = '<th scope="col" class="text">check</th>'
    head += "".join(f'<th scope="col">{name}</th>' for name in COMPARED)
    rows = "".join(
        f'<tr><th scope="row">{words(name)}</th>'
        + (comparison(compared[name]) if name in compared else f"{cell(holds)}<td></td><td></td>")
        + "</tr>"
        for name, holds in record["metrics"].get("clauses", {}).items()
    )
    return scrolling(f"<table><tr>{head}</tr>{rows}</table>", "What was checked") if rows else ""


def comparison(numbers: dict[str, Any]) -> str:
    """Its cells: measured, limit and margin."""
    measured, relation, limit = numbers.values()
    apart = margin(measured, relation, limit)
    shown = "" if apart is None else f"{apart:.0%}" if apart < TIMES else f"{measured / limit:,.0f} times"
    return f"<td>{text(measured, 3)}</td><td>{escape(relation)} {text(limit, 3)}</td><td>{shown}</td>"


def margin(measured: Any, relation: str, limit: Any) -> float | None:
    """How far a number is from its limit, as a part of the limit, below 0 beyond it; None without such a part."""
    if isinstance(measured, str) or isinstance(limit, str) or limit == 0:
        return None
    return (limit - measured if relation in "<≤" else measured - limit) / abs(limit)


def link(name: str) -> str:
    """A link to an experiment's report."""
    return f'<a href="#report-{escape(name)}">{escape(name)}</a>'


def card(name: str, record: dict[str, Any] | None, results: Path) -> str:
    """One experiment's report, folded: claim, figure, numbers, data with licence, and the command."""
    if not record:
        return f'<p class="missing">No results yet: python -m experiments --only {escape(name)}</p>\n'
    if "error" in record:
        evidence = f"<pre>{escape(record['error'])}</pre>"
    else:
        numbers = {group: value for group, value in record["metrics"].items() if group != "clauses"}
        evidence = f"{figure(record, results)}\n{checks(record)}\n{tables(numbers)}"
    title = record["about"].split("\n")[0] or record["claim"]
    failed = "" if record["held"] else f" {state(record)}"
    ended = datetime.datetime.fromisoformat(record["ended"])
    when = f" · {ended:%d %B %Y, %H:%M} UTC" if "earlier" in record else ""
    return f"""<details class="report" id="report-{escape(name)}">
<summary><span class="name">{escape(name)}</span> {escape(title)}{failed}</summary>
<p>{powers_of_ten(escape(record["claim"]))}</p>
{evidence}
{origins(record["data"])}
{about(record["about"])}
<p class="soft">The notes' {escape(record["notes"])} · {record["seconds"]:.1f} s{when}</p>
<pre>{escape(record["command"])}</pre>
</details>
"""


def figure(record: dict[str, Any], results: Path) -> str:
    """The figure's panels, beside each other where there is room; of a run that left none, its picture."""
    name = record["experiment"]
    if own := panels(results, name):
        return f'<div class="panels" role="group" tabindex="0" aria-label="{escape(name)}: figure">{"".join(own)}</div>'
    picture = base64.b64encode(files(results, name)[1].read_bytes()).decode()
    return f'<div class="panels"><img src="data:image/png;base64,{picture}" alt="{escape(record["claim"])}"></div>'


def origins(data: dict[str, str]) -> str:
    """The sources and licences of the data."""
    lines = "<br>".join(f"Data, {words(name)}: {escape(source)}" for name, source in data.items())
    return f'<p class="soft">{lines}</p>' if data else ""


def about(docstring: str) -> str:
    """The module's docstring, to fold out."""
    paragraphs = "".join(f"<p>{powers_of_ten(escape(paragraph))}</p>" for paragraph in docstring.strip().split("\n\n"))
    return f"<details><summary>How it is done</summary>{paragraphs}</details>" if docstring else ""


def state(record: dict[str, Any] | None) -> str:
    """Held, failed or broken, in a word and a colour; or that there is no result."""
    if not record:
        return '<span class="soft">not run</span>'
    word = "held" if record["held"] else "broken" if "error" in record else "failed"
    return f'<span class="{"soft" if record["held"] else "failed"}">{word}</span>'


def tables(metrics: dict[str, Any]) -> str:
    """All the metrics: small tables side by side, then folded, by name, what is long or lies deeper."""
    alone = {name: value for name, value in metrics.items() if is_cell(value)}
    groups = {name: value for name, value in metrics.items() if not is_cell(value)}
    small, folded = [], {}
    for place, rows in nested((), {"measured": alone} | groups):
        if len(place) > 1 or cells(rows) > LONG:
            folded.setdefault(place[:1] or tuple(rows), []).append(table(place[1:], rows))
        else:
            small.append(table(place, rows))
    return abreast(small) + "".join(
        f"<details><summary>{', '.join(map(words, names))}</summary>{abreast(inner)}</details>"
        for names, inner in folded.items()
    )


def abreast(parts: list[str]) -> str:
    """Tables beside each other where there is room."""
    return f'<div class="tables">{"".join(parts)}</div>' if parts else ""


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
    title = ": ".join(map(words, place))
    caption = f"<caption>{title}</caption>" if place else ""
    head = "".join(f'<th scope="col">{words(column)}</th>' for column in columns)
    lines = {name: "".join(map(cell, row.values())) for name, row in rows.items()}
    body = "".join(f'<tr><th scope="row">{words(name)}</th>{line}</tr>' for name, line in lines.items())
    return scrolling(f"<table>{caption}<tr><td></td>{head}</tr>{body}</table>", title or "Measured")


def scrolling(content: str, title: str) -> str:
    """A box that scrolls by itself, by keys as well."""
    return f'<div class="scroll" role="group" tabindex="0" aria-label="{title}">{content}</div>'


def cells(rows: Rows) -> int:
    """How many cells the rows have."""
    return sum(map(len, rows.values()))


def cell(value: Cell) -> str:
    """A value in its cell; words run from the left and wrap."""
    is_text = isinstance(value, str) and len(value) > 24
    return f"<td{' class=text' if is_text else ''}>{escape(text(value))}</td>"


def is_cell(value: Any) -> bool:
    """Whether a value is a single one, and not a group."""
    return value is None or isinstance(value, Cell)


def words(name: str) -> str:
    """A name of Python in words."""
    return escape(name.replace("_", " "))


def text(value: Cell, digits: int = 5) -> str:
    """A value as text: so many digits, thousands apart."""
    if value is None or isinstance(value, str | bool):
        return {None: "none", True: "yes", False: "no"}.get(value, powers_of_ten(str(value)))
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1e4):
        return f"{value:,.0f}"
    return powers_of_ten(f"{value:.{digits}g}")

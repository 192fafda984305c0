"""The page of all experiments: one HTML file with pictures inline, in light and dark, that opens from disk.

Metrics become tables, however they are nested: groups of groups of numbers make a table, and a list is a group too.
Groups with the same entries are the rows of one table; the longer side runs down, as a narrow screen has room there.
"""

import base64
import datetime
import math
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from experiments.runner.results import files

LONG = 100  # cells; a longer table is folded
TOO_LONG = 5000  # cells; one longer still stays in metrics.json

Cell = bool | int | float | str | None
Rows = dict[str, dict[str, Cell]]

STYLE = """
:root { color-scheme: light dark; --back: #f6f6f4; --card: #fff; --ink: #1c1c1c; --soft: #5c5c5c; --line: #dcdcd8;
  --good: #00694e; --bad: #b34a00; --link: #005a94; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --card: #202327; --ink: #e8e8e6; --soft: #a5a8ac;
  --line: #383c42; --good: #35c79b; --bad: #ff9a52; --link: #6cbcf2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 0; }
a { color: var(--link); }
summary { cursor: pointer; color: var(--link); margin-top: .5rem; font-size: .9rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 1rem 0; }
header { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline; }
.soft { color: var(--soft); font-size: .9rem; }
.held { color: var(--good); font-weight: 600; } .failed, .broken { color: var(--bad); font-weight: 600; }
.figure { overflow-x: auto; margin: .5rem 0; background: #fff; border-radius: .4rem; }
img { display: block; width: 100%; min-width: 46rem; height: auto; }
pre { white-space: pre-wrap; background: var(--back); border: 1px solid var(--line); border-radius: .4rem;
  padding: .5rem; margin: .5rem 0; font-size: .85rem; }
.tables { display: flex; flex-wrap: wrap; gap: .6rem 2.5rem; align-items: flex-start; margin: .5rem 0; }
.scroll { overflow-x: auto; max-width: 100%; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .85rem; }
caption { text-align: left; color: var(--soft); font-weight: 600; }
th { font-weight: 400; text-align: left; vertical-align: top; }
th[scope=col] { color: var(--soft); text-align: right; padding: 0 0 0 1rem; }
th[scope=row] { position: sticky; left: 0; background: var(--card); border-top: 1px solid var(--line);
  min-width: 5rem; }
td { border-top: 1px solid var(--line); padding: .15rem 0 .15rem 1rem; vertical-align: top; text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
tr:first-child td { border: 0; }
td.text { text-align: left; white-space: normal; min-width: 14rem; max-width: 30rem; }
.narrow { display: none; }
@media (max-width: 46rem) { .narrow { display: inline; } }
nav ul { padding-left: 1.2rem; columns: 15rem; }
"""


def page(cards: dict[str, dict[str, Any] | None], results: Path, interrupted: list[str] | tuple = ()) -> str:
    """The whole page: every experiment's record, None where there is none, and those that an interrupt left out.

    `results` holds each experiment's picture as NAME/NAME.png.
    """
    records = [record for record in cards.values() if record]
    held = sum(record["held"] for record in records)
    seconds = sum(record["seconds"] for record in records)
    made_by = next((f"jax {r['jax']}, Python {r['python']}, {r['device']}" for r in records if "jax" in r), "")
    contents = "".join(f"<li>{link(name) if record else escape(name)} {state(record)}</li>"
                       for name, record in cards.items())  # fmt: skip
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>jaxnet: the claims of the notes</title>
<style>{STYLE}</style>
</head>
<body>
<h1>The claims of the lecture notes, measured</h1>
<p>{held} of {len(records)} claims held, in {seconds:.0f} s. <span class="soft">{escape(made_by)}
<span class="narrow">Slide figures and tables sideways.</span></span></p>
{gaps(cards, interrupted)}
<nav><ul>{contents}</ul></nav>
<main>
{"".join(card(record, results) for record in records)}
</main>
</body>
</html>
"""


def gaps(cards: dict[str, dict[str, Any] | None], interrupted: list[str] | tuple) -> str:
    """An interrupted run, experiments that were never run, and cards of earlier runs, if there are any."""
    never = [name for name, record in cards.items() if not record]
    sentences = []
    if interrupted:
        left_out = escape(", ".join(interrupted))
        sentences.append(f'<strong class="failed">Interrupted before the end of: {left_out}.</strong>')
    if never:
        sentences.append(f"No results yet: {escape(', '.join(never))}.")
    if any(record and "earlier" in record for record in cards.values()):
        sentences.append("Cards marked earlier are from an earlier run, the latest that this results directory holds.")
    return f"<p>{' '.join(sentences)}</p>" if sentences else ""


def link(name: str) -> str:
    """A link to an experiment's card."""
    return f'<a href="#{escape(name)}">{escape(name)}</a>'


def card(record: dict[str, Any], results: Path) -> str:
    """One experiment: notes' section, claim, whether it held, figure, numbers, data with licence, and the command."""
    name = escape(record["experiment"])
    if "error" in record:
        evidence = f"<pre>{escape(record['error'])}</pre>"
    else:
        picture = base64.b64encode(files(results, record["experiment"])[1].read_bytes()).decode()
        image = f'<img src="data:image/png;base64,{picture}" alt="Figure of {name}">'
        evidence = f'<div class="figure">{image}</div>\n{tables(record["metrics"])}'
    ended = datetime.datetime.fromisoformat(record["ended"])
    when = f" · {ended:%d %B %Y, %H:%M} UTC" if "earlier" in record else ""
    return f"""<article id="{name}">
<header><h2>{name}</h2> {state(record)}
<span class="soft">the notes' {escape(record["notes"])} · {record["seconds"]:.1f} s{when}</span></header>
<p>{escape(record["claim"])}</p>
{evidence}
{origins(record["data"])}
{about(record["about"])}
<pre>{escape(record["command"])}</pre>
</article>
"""


def origins(data: dict[str, str]) -> str:
    """The sources and licences of the data."""
    lines = "<br>".join(f"Data, {words(name)}: {escape(source)}" for name, source in data.items())
    return f'<p class="soft">{lines}</p>' if data else ""


def about(docstring: str) -> str:
    """The module's docstring, to fold out."""
    paragraphs = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in docstring.strip().split("\n\n"))
    return f"<details><summary>How it is done</summary>{paragraphs}</details>" if docstring else ""


def state(record: dict[str, Any] | None) -> str:
    """Held, failed or broken, in a word and a colour, and whether that was earlier; or that there is no result."""
    if not record:
        return '<span class="soft">not run</span>'
    word = "held" if record["held"] else "broken" if "error" in record else "failed"
    return f'<span class="{word}">{word}</span>' + ' <span class="soft">earlier</span>' * ("earlier" in record)


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
    caption = f"<caption>{': '.join(map(words, place))}</caption>" if place else ""
    head = "".join(f'<th scope="col">{words(column)}</th>' for column in columns)
    lines = {name: "".join(map(cell, row.values())) for name, row in rows.items()}
    body = "".join(f'<tr><th scope="row">{words(name)}</th>{line}</tr>' for name, line in lines.items())
    return f'<div class="scroll"><table>{caption}<tr><td></td>{head}</tr>{body}</table></div>'


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


def text(value: Cell) -> str:
    """A value as text: five digits, thousands apart."""
    if value is None or isinstance(value, str | bool):
        return {None: "none", True: "yes", False: "no"}.get(value, str(value))
    return f"{value:,.0f}" if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1e4) else f"{value:.5g}"

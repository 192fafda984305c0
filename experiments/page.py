"""The page of all experiments: one HTML file with pictures inline, in light and dark, that opens from disk."""

import base64
import math
from html import escape
from pathlib import Path
from typing import Any

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
pre { overflow-x: auto; background: var(--back); border: 1px solid var(--line); border-radius: .4rem;
  padding: .5rem; margin: .5rem 0; font-size: .85rem; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; }
th { text-align: left; color: var(--soft); padding: .5rem 0 .1rem; }
td { border-top: 1px solid var(--line); padding: .15rem 1rem .15rem 0; vertical-align: top; }
td + td { padding-right: 0; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.narrow { display: none; }
@media (max-width: 46rem) { .narrow { display: inline; } }
nav ul { padding-left: 1.2rem; columns: 15rem; }
"""


def page(records: list[dict[str, Any]], results: Path) -> str:
    """The whole page; `results` holds each experiment's picture as NAME/NAME.png."""
    held = sum(record["held"] for record in records)
    seconds = sum(record["seconds"] for record in records)
    made_by = next((f"jax {r['jax']}, Python {r['python']}, {r['device']}" for r in records if "jax" in r), "")
    contents = "".join(
        f'<li><a href="#{escape(r["experiment"])}">{escape(r["experiment"])}</a> {state(r)}</li>' for r in records
    )
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
<span class="narrow">Slide the figures sideways.</span></span></p>
<nav><ul>{contents}</ul></nav>
<main>
{"".join(card(record, results) for record in records)}
</main>
</body>
</html>
"""


def card(record: dict[str, Any], results: Path) -> str:
    """One experiment: the notes' section, the claim, whether it held, the figure, the numbers and the command."""
    name = escape(record["experiment"])
    if "error" in record:
        evidence = f"<pre>{escape(record['error'])}</pre>"
    else:
        picture = base64.b64encode(
            (results / record["experiment"] / f"{record['experiment']}.png").read_bytes()
        ).decode()
        image = f'<img src="data:image/png;base64,{picture}" alt="Figure of {name}">'
        evidence = f'<div class="figure">{image}</div>\n{table(record["metrics"])}'
    return f"""<article id="{name}">
<header><h2>{name}</h2> {state(record)}
<span class="soft">the notes' {escape(record["notes"])} · {record["seconds"]:.1f} s</span></header>
<p>{escape(record["claim"])}</p>
{evidence}
{about(record.get("about", ""))}
<pre>{escape(record["command"])}</pre>
</article>
"""


def about(docstring: str) -> str:
    """What the module says of itself, the data and their source among it, to fold out."""
    paragraphs = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in docstring.strip().split("\n\n"))
    return f"<details><summary>How, and on which data</summary>{paragraphs}</details>" if docstring else ""


def state(record: dict[str, Any]) -> str:
    """Held, failed or broken, in a word and a colour."""
    word = "held" if record["held"] else "broken" if "error" in record else "failed"
    return f'<span class="{word}">{word}</span>'


def table(metrics: dict[str, Any]) -> str:
    """The numbers of the metrics, then of each group in them; lists, texts and deeper groups stay in metrics.json."""
    groups = {"measured": metrics} | {name: value for name, value in metrics.items() if isinstance(value, dict)}
    rows = []
    for group, entries in groups.items():
        entries = {name: shown(value) for name, value in entries.items() if is_short(value)}
        if entries:
            rows.append(f'<tr><th colspan="2">{in_words(group)}</th></tr>')
            rows += [f"<tr><td>{in_words(name)}</td><td>{escape(value)}</td></tr>" for name, value in entries.items()]
    return f"<table>{''.join(rows)}</table>" if rows else ""


def in_words(name: str) -> str:
    """A name of Python as a reader sees it."""
    return escape(name.replace("_", " "))


def is_short(value: Any) -> bool:
    """Whether a value fits the table."""
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 24)


def shown(value: bool | int | float | str) -> str:
    """A value as people write it."""
    if isinstance(value, str | bool):
        return {True: "yes", False: "no"}.get(value, str(value))
    return f"{value:,.0f}" if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1e4) else f"{value:.5g}"

"""The page of all experiments: one HTML file with pictures inline, in light and dark, that opens from disk."""

import base64
import datetime
from html import escape
from pathlib import Path
from typing import Any

from experiments.runner.results import files
from experiments.runner.tables import in_words, tables

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
    """The whole page: every experiment's record, None where there is none; and what an interrupt kept from being run.

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
{whole(cards, interrupted)}
<nav><ul>{contents}</ul></nav>
<main>
{"".join(card(record, results) for record in records)}
</main>
</body>
</html>
"""


def whole(cards: dict[str, dict[str, Any] | None], interrupted: list[str] | tuple) -> str:
    """What the page lacks, if it lacks anything: an interrupted run, experiments never run, cards of earlier runs."""
    never = [name for name, record in cards.items() if not record]
    sentences = []
    if interrupted:
        missed = escape(", ".join(interrupted))
        sentences.append(f'<strong class="failed">Interrupted before the end of: {missed}.</strong>')
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
    """Where the data are from, and under which licence."""
    lines = "<br>".join(f"Data, {in_words(name)}: {escape(source)}" for name, source in data.items())
    return f'<p class="soft">{lines}</p>' if data else ""


def about(docstring: str) -> str:
    """What the module says of itself, to fold out."""
    paragraphs = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in docstring.strip().split("\n\n"))
    return f"<details><summary>How it is done</summary>{paragraphs}</details>" if docstring else ""


def state(record: dict[str, Any] | None) -> str:
    """Held, failed or broken, in a word and a colour, and whether that was earlier; or that there is no result."""
    if not record:
        return '<span class="soft">not run</span>'
    word = "held" if record["held"] else "broken" if "error" in record else "failed"
    return f'<span class="{word}">{word}</span>' + ' <span class="soft">earlier</span>' * ("earlier" in record)

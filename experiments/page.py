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
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 0; }
a { color: var(--link); }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 1rem 0; }
header { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline; }
.soft, caption { color: var(--soft); font-size: .9rem; }
.held { color: var(--good); font-weight: 600; } .failed, .broken { color: var(--bad); font-weight: 600; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: .4rem; margin: .5rem 0; }
pre { overflow-x: auto; background: var(--back); border: 1px solid var(--line); border-radius: .4rem; padding: .5rem;
  margin: .5rem 0; font-size: .85rem; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; }
caption { text-align: left; }
td { border-top: 1px solid var(--line); padding: .15rem .4rem .15rem 0; vertical-align: top; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
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
<p>{held} of {len(records)} claims held, in {seconds:.0f} s. <span class="soft">{escape(made_by)}</span></p>
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
        evidence = f'<img src="data:image/png;base64,{picture}" alt="Figure of {name}">\n{table(record["metrics"])}'
    return f"""<article id="{name}">
<header><h2>{name}</h2> {state(record)}
<span class="soft">the notes' {escape(record["notes"])} · {record["seconds"]:.1f} s</span></header>
<p>{escape(record["claim"])}</p>
{evidence}
<pre>{escape(record["command"])}</pre>
</article>
"""


def state(record: dict[str, Any]) -> str:
    """Held, failed or broken, in a word and a colour."""
    word = "held" if record["held"] else "broken" if "error" in record else "failed"
    return f'<span class="{word}">{word}</span>'


def table(metrics: dict[str, Any]) -> str:
    """The numbers of the metrics and of the groups in them; lists and what lies deeper stay in metrics.json."""
    rows = []
    for name, value in metrics.items():
        group = value.items() if isinstance(value, dict) else [("", value)]
        rows += [
            (f"{name} {inner}".strip(), entry) for inner, entry in group if isinstance(entry, bool | int | float | str)
        ]
    cells = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(shown(value))}</td></tr>" for name, value in rows
    )
    return f"<table><caption>Measured</caption>{cells}</table>" if rows else ""


def shown(value: bool | int | float | str) -> str:
    """A value as people write it, five digits at most of a number that is not whole."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else f"{value:.5g}" if math.isfinite(value) else str(value)

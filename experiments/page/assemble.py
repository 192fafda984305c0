"""page.html, its style, its modules of JavaScript, the figures' data and the experiments' reports, as one file.

The file needs no network and opens from disk. Modules are joined in the order of their imports, in one script: what is
shared stands first, then each figure's module in a scope of its own, and page.js, which mounts them.
"""

import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments.runner import report
from experiments.runner.report import Cards
from experiments.runner.results import explored

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent
SHARED = ("svg.js", "network.js", "shade.js", "play.js")  # in the order of their imports
IMPORT = re.compile(r"^import .* from .*;\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=function|const|class)", re.MULTILINE)
FIGURE = re.compile(r'<figure [^>]*data-figure="(\w+)"[^>]*>.*?</figure>', re.DOTALL)
REPORTS = re.compile(r"<!-- reports: (.+) -->")


def page(cards: Cards, results: Path, interrupted: Sequence[str] = (), seconds: float | None = None) -> str:
    """The whole page: every experiment's record, those that an interrupt left out, and the seconds of the run.

    `results` holds each experiment's picture, NAME/NAME.png, and its figure's data, NAME/explore.json.
    """
    document = (HERE / "page.html").read_text(encoding="utf-8")
    names = FIGURE.findall(document)
    data = {name: explored(results, name) for name in names if "metrics" in (cards.get(name) or {})}
    document = FIGURE.sub(lambda found: figure(found[0], data.get(found[1]), cards.get(found[1]), found[1]), document)
    placed = [name for names in REPORTS.findall(document) for name in names.split()]
    others = [name for name in cards if name not in placed]
    in_order = {name: cards[name] for name in [*placed, *others] if name in cards}
    reports = lambda found: "".join(
        report.card(name, cards[name], results)
        for name in (others if found[1] == "others" else found[1].split())
        if name in cards
    )
    parts = {
        "style": f"<style>\n{(HERE / 'style.css').read_text(encoding='utf-8')}</style>",
        "status": report.status(cards, interrupted, seconds),
        "claims": report.claims(in_order),
        "script": "".join(as_json(name, found) for name, found in data.items() if found) + script(names),
    }
    document = REPORTS.sub(reports, document)
    return re.sub(r"<!-- (style|status|claims|script) -->", lambda found: parts[found[1]], document)


def figure(html: str, data: dict[str, Any] | None, record: dict[str, Any] | None, name: str) -> str:
    """A figure with the still picture that its data holds, or with a sentence where there are no data."""
    if data:
        return html.replace("<!-- still -->", data["still"])
    reason = "ended with an error, which its report below shows" if "error" in (record or {}) else "has no results yet"
    head = re.match(r"<figure.*?</figcaption>", html, re.DOTALL)[0]
    command = f"python -m experiments --only {escape(name)}"
    return f'{head}\n<p class="missing">The experiment {escape(name)} {reason}: {command}</p>\n</figure>'


def as_json(name: str, data: dict[str, Any]) -> str:
    """A figure's data as a script that is not run; `<` is escaped, so that nothing in it ends the script."""
    rest = {key: value for key, value in data.items() if key != "still"}
    text = json.dumps(rest, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="data-{name}">{text}</script>\n'


def script(names: list[str]) -> str:
    """All modules as one: the shared ones, each figure's in a scope of its own, and page.js."""
    shared = "\n".join(module(HERE / name) for name in SHARED)
    figures = "\n".join(
        f"figures.{name} = (() => {{\n{module(script_of(name))}\nreturn mount;\n}})();\n" for name in names
    )
    return f'<script type="module">\n{shared}\nconst figures = {{}};\n\n{figures}\n{module(HERE / "page.js")}</script>'


def script_of(name: str) -> Path:
    """The module of an experiment's figure: NAME.js, or NAME/NAME.js beside a folder's __main__.py."""
    path = EXPERIMENTS / name / f"{name}.js"
    return path if path.is_file() else EXPERIMENTS / f"{name}.js"


def module(path: Path) -> str:
    """A module's text without its imports and the word export."""
    return EXPORT.sub("", IMPORT.sub("", path.read_text(encoding="utf-8")))

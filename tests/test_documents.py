"""What the README shows is run: its snippets, its commands' spelling, its links and its table."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.usefixtures("implicit_promotion", "untyped")
@pytest.mark.parametrize("snippet", SNIPPETS, ids=[snippet.split("\n")[0][:40] for snippet in SNIPPETS])
def test_snippet_runs(snippet):
    exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})


def test_the_two_commands_stand_word_for_word():
    assert [line for line in README.splitlines() if line.startswith("python3 -m venv")] == [
        'python3 -m venv .venv && .venv/bin/pip install -e ".[experiments]" && .venv/bin/python -m experiments.digits',
        'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest',
    ]


def test_links_and_paths_lead_somewhere():
    prose = re.sub(r"`[^`]*`", "", README)  # a formula such as g[l](Z) in code is no link
    targets = re.findall(r"\]\(([^)#]+)\)", prose)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), f"README.md links to {target}"

"""What the READMEs, the notes and the docstrings show is run: snippets, examples, commands, links, formulas."""

import ast
import doctest
import inspect
import re
import sys
import tomllib
from operator import attrgetter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from tests import user_script
from tests.marks import slow_but

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NOTES = ROOT / "jaxnet" / "NOTES.md"
FOLDERS = [ROOT / name for name in ("jaxnet", "experiments", "tests")]
READMES = [ROOT / "README.md", NOTES, *sorted(path for folder in FOLDERS for path in folder.rglob("README.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SNIPPETS = {
    f"{path.relative_to(ROOT)}:{number}": snippet
    for path in READMES
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
}


def imported(snippet):
    """The full names of the modules that a snippet imports."""
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.usefixtures("implicit_promotion", "untyped")
@pytest.mark.parametrize("place", SNIPPETS)
def test_snippet_runs(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a snippet may leave files
    exec(compile(SNIPPETS[place], place, "exec"), {"__name__": "readme"})


CORE = {re.match(r"[\w-]+", requirement)[0] for requirement in PROJECT["dependencies"]} | set(sys.stdlib_module_names)
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


@pytest.mark.parametrize("place", SNIPPETS)
def test_a_snippet_needs_what_pip_brings_or_its_page_names_the_extra(place):
    page = (ROOT / place.rsplit(":", 1)[0]).read_text()
    used = {name.split(".")[0] for name in imported(SNIPPETS[place])} - CORE - {"jaxnet", "experiments"}
    for package in used:
        extras = [
            extra
            for extra, needed in PROJECT["optional-dependencies"].items()
            if any(re.match(rf"{DISTRIBUTIONS.get(package, package)}\b", requirement) for requirement in needed)
        ]
        named = re.findall(r"pip install .*\[([\w,]+)\]", page)
        by_itself = re.search(rf"pip install [\w ]*\b{package}\b", page)
        extra_is_named = set(extras) & {extra for several in named for extra in several.split(",")}
        assert by_itself or extra_is_named, f"{place} needs {package}"


def test_data_that_pip_does_not_bring_name_their_extra(monkeypatch):
    """The first snippet of the front page, where jaxnet alone is installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "jaxnet\[experiments\]" brings it'):
        exec(SNIPPETS["README.md:0"], {})


def test_the_two_commands_stand_word_for_word():
    assert [line for line in README.splitlines() if line.startswith("python3 -m venv")] == [
        'python3 -m venv .venv && .venv/bin/pip install -e ".[experiments]" && .venv/bin/python -m experiments.digits',
        'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest',
    ]


def test_the_front_door_is_short():
    assert len(README.splitlines()) <= 115


@pytest.mark.parametrize("path", READMES, ids=[str(path.relative_to(ROOT)) for path in READMES])
def test_links_and_paths_lead_somewhere(path):
    prose = re.sub(r"`[^`]*`", "", path.read_text())  # a formula such as g[l](Z) in code is not a link
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_every_folder_of_the_map_has_a_readme():
    folders = re.findall(r"^\| \[(\S+)/\]\(\1/README\.md\)", README, re.MULTILINE)
    assert set(folders) == {
        "jaxnet", "jaxnet/train", "jaxnet/parallel", "jaxnet/verify", "experiments", "experiments/benchmarks", "tests",
    }  # fmt: skip


@pytest.mark.usefixtures("untyped")
def test_the_script_that_the_type_checker_reads_runs():
    assert user_script.main() > 0.8


# ---- docstrings ----

FUNCTIONS = [name for name in jaxnet.__all__ if inspect.isfunction(getattr(jaxnet, name))]
PICTURES = [f"plot.{name}" for name in jaxnet.plot.__all__]
EXAMPLES = [*FUNCTIONS, "MLP", "Privacy", *PICTURES]
DEAR = (  # programs of their own
    "Privacy",
    "sweep",
    "clipped_grads",
    "per_example_grads",
    "scale_learning_rate",
    "check_vjp",
)


def example(name):
    """The example in the docstring of a public function or class, with the imports that everybody has."""
    known = {"jax": jax, "jnp": jnp, "np": np, "optax": optax, "jaxnet": jaxnet}
    return doctest.DocTestParser().get_doctest(attrgetter(name)(jaxnet).__doc__, known, name, None, 0)


def runs(test):
    """Whether a docstring's example gives what it shows."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    return runner.run(test).failed == 0


@pytest.mark.usefixtures("implicit_promotion", "untyped")
@pytest.mark.parametrize("name", slow_but([name for name in EXAMPLES if name not in DEAR], EXAMPLES))
def test_the_example_of_a_docstring_gives_what_it_shows(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert example(name).examples, f"jaxnet.{name} has no example"
    assert runs(example(name))


def test_no_other_docstring_has_an_example_that_nothing_runs():
    in_files = sum(path.read_text().count(">>> ") for path in (ROOT / "jaxnet").rglob("*.py"))
    assert in_files == sum(attrgetter(name)(jaxnet).__doc__.count(">>> ") for name in EXAMPLES)


def test_an_example_that_is_wrong_is_seen(capsys):
    assert not runs(doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0))


# ---- the notes ----

FORMULA = re.compile(r"^\|[^|]+\|[^|]+\| `(.+)` \| \[[\w.]+\]\((\S+)\) \|$", re.MULTILINE)


def sections(text):
    """What NOTES.md says in each section, by its number."""
    numbers = [int(number) for number in re.findall(r"^## (\d+)\.", text, re.MULTILINE)]
    return dict(zip(numbers, re.split(r"^## \d+\.", text, flags=re.MULTILINE)[1:], strict=True))


def not_there(text):
    """The lines of code that stand beside a formula and not in the file that is named there."""
    for line, target in FORMULA.findall(text):
        if not any(line in own for own in (NOTES.parent / target).read_text().splitlines()):
            yield line


def test_each_formula_of_the_notes_stands_beside_the_line_that_computes_it():
    text = NOTES.read_text()
    assert list(sections(text)) == list(range(1, 11))
    assert list(not_there(text)) == []
    for number, section in sections(text).items():
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(FORMULA.findall(section)) == len(rows) - 2 > 0, f"section {number} has a row of another form"


def test_a_line_that_is_not_in_the_code_is_seen():
    text = NOTES.read_text()
    assert list(not_there(text.replace("`return A * (1 - A)`", "`return A * (1 + A)`"))) == ["return A * (1 + A)"]


def test_whoever_names_a_section_of_the_notes_says_where_they_are():
    """In docstrings of modules, which are read alone."""
    for path in (ROOT / "jaxnet").rglob("*.py"):
        module = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert not re.search(r"notes.*section", module) or "NOTES.md" in module, path.name
    for path in (ROOT / "README.md", ROOT / "jaxnet" / "README.md", ROOT / "experiments" / "README.md"):
        assert "NOTES.md" in path.read_text(), path

"""The command line of the benchmarks: which rows, where, and what becomes of a broken one."""

import ast
import dataclasses
import re
import sys
from pathlib import Path

import jax
import pytest
import tyro

from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks.workloads import BY_ROW, tiny

CONFIG = benchmarks.Config(quick=True, rounds=1)
FOLDER = Path(benchmarks.__file__).parent


def test_rounds_below_one_are_refused_at_the_start():
    with pytest.raises(SystemExit, match="--rounds 0: expected 1 or more"):
        benchmarks.main(dataclasses.replace(CONFIG, rounds=0))


def test_a_broken_row_is_named_in_the_results(monkeypatch, tmp_path, capsys):
    def broken(config):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.svm")

    monkeypatch.setattr(tiny, "benchmarks", broken)
    assert benchmarks.main(dataclasses.replace(CONFIG, rows="1", results=tmp_path)) == 1
    for text in (capsys.readouterr().err, (tmp_path / "benchmarks" / "RESULTS.md").read_text()):
        assert "ow 1 is broken: ModuleNotFoundError" in text and 'pip install -e ".[experiments]"' in text


def test_rows_that_need_a_gpu_are_listed_where_there_is_none(monkeypatch):
    (line,) = benchmarks.unmeasured(CONFIG)
    assert "--device gpu" in line and line.endswith(": 10 and 11.")
    assert benchmarks.unmeasured(dataclasses.replace(CONFIG, rows="10,11")) == [line]  # small ones on a CPU
    assert benchmarks.unmeasured(dataclasses.replace(CONFIG, rows="10", device="gpu"))[0].endswith(": 11.")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert benchmarks.unmeasured(CONFIG) == []


def test_rows_are_selected_by_number_and_name():
    assert benchmarks.selection(CONFIG) == [*range(1, 10), 12]
    assert benchmarks.selection(dataclasses.replace(CONFIG, device="gpu")) == [10, 11]
    assert benchmarks.selection(dataclasses.replace(CONFIG, rows="1,wide, 3")) == [1, 4, 3]
    with pytest.raises(SystemExit, match="--rows 99: expected numbers or names of 1 tiny, 2 planar"):
        benchmarks.selection(dataclasses.replace(CONFIG, rows="1,99"))


def test_every_workload_has_a_row_of_its_own():
    files = {path.stem for path in (FOLDER / "workloads").glob("[a-z]*.py")}
    assert {benchmarks.name(workload) for workload in BY_ROW.values()} == files
    assert [*BY_ROW] == [*range(1, len(files) + 1)]


def test_a_package_that_may_be_absent_is_imported_on_use():
    """So that importing a benchmark needs no peer, draws nothing and never ends the interpreter."""
    needed = {"jax", "numpy", "optax", "tqdm", "jaxnet"}
    scripts = FOLDER / "csv_job"  # run as they are, and imported by nobody
    files = [
        path for path in FOLDER.rglob("*.py") if path.stem not in ("__main__", "report") and path.parent != scripts
    ]
    assert len(files) > 20
    for path in files:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                for name in names:
                    standard = name.partition(".")[0] in sys.stdlib_module_names
                    assert standard or name.partition(".")[0] in needed or name.startswith("experiments.benchmarks"), (
                        f"{path.name} imports {name}"
                    )


def test_the_page_s_commands_and_links_are_right():
    text = (FOLDER / "README.md").read_text()
    commands = re.findall(r"^python -m experiments.benchmarks([^#\n]*)", text, re.MULTILINE)
    assert len(commands) == 4
    for words in commands:
        assert benchmarks.selection(tyro.cli(benchmarks.Config, args=words.split()))
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (FOLDER / target).exists(), target
    named = re.findall(r"^\| (\d+) (\w+) \|", text, re.MULTILINE)
    assert named == [(str(row), benchmarks.name(workload)) for row, workload in BY_ROW.items() if row < 10]

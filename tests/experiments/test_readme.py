"""experiments/README.md: its experiment runs as it stands, and its table is that of the experiments."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import experiments.__main__ as all_experiments
from experiments.runner import experiment

README = (Path(experiment.__file__).parents[1] / "README.md").read_text()
CODE = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]


@pytest.fixture
def momentum(tmp_path, monkeypatch):
    """The README's experiment, saved where the experiments are found."""
    (tmp_path / "momentum.py").write_text(CODE)
    monkeypatch.setattr("experiments.__path__", [*importlib.import_module("experiments").__path__, str(tmp_path)])
    yield
    sys.modules.pop("experiments.momentum", None)


def test_a_new_experiment_takes_about_thirty_lines():
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 30


def test_the_readmes_experiment_runs(momentum, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["momentum", "--results", str(tmp_path), "--steps", "200"])
    with pytest.raises(SystemExit) as caught:
        experiment.main("momentum")
    assert caught.value.code == 0 and "HELD: J ends at" in capsys.readouterr().out
    assert (tmp_path / "momentum" / "momentum.png").read_bytes()[:4] == b"\x89PNG"


def test_its_clause_can_fail_and_its_options_are_checked(momentum):
    module = experiment.load("momentum")
    assert module.clauses({"momentum": [1.0], "plain": [2.0]})["cost_with_momentum"]
    assert not module.clauses({"momentum": [2.0], "plain": [1.0]})["cost_with_momentum"]
    with pytest.raises(ValueError, match="--steps is 0; expected an integer of at least 1, such as --steps 500"):
        module.Config(steps=0)


def test_the_readmes_experiment_is_found_by_its_sections():
    assert all_experiments.NOTES.search(CODE)[1] == "section 8"


def test_every_experiment_stands_in_both_tables_with_its_claim():
    for name in all_experiments.sections():
        assert f"| `{name}` | {experiment.load(name).__doc__.splitlines()[0]} |" in README
        assert re.search(rf"\[{name}\]\({name}(\.py|/__main__\.py)\)", README), name


def test_no_name_of_the_table_is_left_behind():
    names = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert names == list(all_experiments.sections())

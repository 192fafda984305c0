"""The same job in several libraries: ours is the shortest, and each is run as its user would."""

import tomllib
from pathlib import Path

import pytest

from experiments.benchmarks.csv_job.__main__ import INSTALLATION, NEEDS, SCRIPTS, Outcome, lines, main, run


def test_ours_is_the_shortest_and_has_at_most_20_lines():
    of = {name: lines(name) for name in SCRIPTS}
    assert of["jaxnet"] == min(of.values()) <= 20, of


@pytest.mark.slow
@pytest.mark.parametrize("name, least", [("jaxnet", 0.97), ("scikit-learn", 0.85), ("Flax NNX", 0.97)])
def test_a_script_trains_saves_and_answers_in_another_process(name, least):
    outcome = run(name)
    assert least <= outcome.accuracy <= 1
    assert outcome.answers == "['Chinstrap' 'Chinstrap' 'Chinstrap']"


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch, capsys):
    monkeypatch.setattr("experiments.benchmarks.csv_job.__main__.find_spec", lambda package: None)
    monkeypatch.setattr("experiments.benchmarks.csv_job.__main__.run", lambda name: Outcome(0.9, "", 20, 1.0))
    main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [f"not installed: {INSTALLATION}" in row for row in rows] == [False, False, True, True]
    peers = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert all(any(each.startswith(package) for each in peers["peers"]) for package in NEEDS.values())


def test_a_script_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.csv_job.__main__.parts", lambda name: ("1 / 0", ""))
    with pytest.raises(RuntimeError, match=r"ours.py failed:\n(.*\n)*ZeroDivisionError"):
        run("jaxnet")

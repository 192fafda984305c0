"""What the READMEs show is run: their snippets, the commands' spelling, links and tables."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import user_script

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
READMES = sorted(ROOT.glob("README.md")) + sorted(
    path for folder in ("jaxnet", "experiments", "tests") for path in (ROOT / folder).rglob("README.md")
)
SNIPPETS = {
    f"{path.relative_to(ROOT)}:{number}": snippet
    for path in READMES
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
}


NEEDS = {"tensorboardX": "tensorboardX", ".serialize()": "flatbuffers"}  # what a snippet has, and the package for it


@pytest.mark.usefixtures("implicit_promotion", "untyped")
@pytest.mark.parametrize("place", SNIPPETS)
def test_snippet_runs(place, tmp_path, monkeypatch):
    for text, package in NEEDS.items():
        if text in SNIPPETS[place] and find_spec(package) is None:
            pytest.skip(f'{package} is not installed; pip install -e ".[test]" brings it')
    monkeypatch.chdir(tmp_path)  # where a snippet may leave files
    exec(compile(SNIPPETS[place], place, "exec"), {"__name__": "readme"})


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

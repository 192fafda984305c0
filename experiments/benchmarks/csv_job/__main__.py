"""Run each script as its user would, in two processes, and compare."""

import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

SCRIPTS = {"jaxnet": "ours.py", "scikit-learn": "scikit_learn.py", "Keras on JAX": "keras_.py", "Flax NNX": "flax_.py"}
NEEDS = {"Keras on JAX": "keras", "Flax NNX": "flax"}
INSTALLATION = 'pip install -e ".[peers]"'  # of both
ELSEWHERE = "# In another process.\n"


class Outcome(NamedTuple):
    """What a script came to: the share of unseen penguins that it knows, and its answers for the last three."""

    accuracy: float
    answers: str
    lines: int
    seconds: float


def parts(name: str) -> tuple[str, str]:
    """The two programs of a script: up to what it saves, and what another process does with that."""
    train, load = (Path(__file__).parent / SCRIPTS[name]).read_text().split(ELSEWHERE)
    return train, load


def lines(name: str) -> int:
    """Lines of code, without blank ones and the docstring."""
    return sum(bool(line.strip()) for part in parts(name) for line in part.splitlines()) - 1


def run(name: str) -> Outcome:
    """Run a script; RuntimeError with what it printed where it fails."""
    begin, outputs = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        table = files("palmerpenguins").joinpath("data/penguins.csv").read_bytes()
        (Path(folder) / "penguins.csv").write_bytes(table)
        for part in parts(name):
            done = subprocess.run([sys.executable, "-c", part], cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{SCRIPTS[name]} failed:\n{done.stderr}")
            outputs.append(done.stdout)
    accuracy = float(outputs[0].split("accuracy")[1])
    return Outcome(accuracy, outputs[1].strip(), lines(name), time.perf_counter() - begin)


def main() -> None:
    """Print the table."""
    print("| library | accuracy | lines of code | seconds, two processes |\n|---|---|---|---|")
    for name in SCRIPTS:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            print(f"| {name} | not installed: {INSTALLATION} | {lines(name)} | |")
        else:
            outcome = run(name)
            print(f"| {name} | {outcome.accuracy:.3f} | {outcome.lines} | {outcome.seconds:.1f} |")


if __name__ == "__main__":
    main()

"""Time jaxnet beside its peers, row by row of the scoreboard; a table, the numbers and a figure for each benchmark.

Everything goes to the directory benchmarks of --results; experiments/benchmarks/README.md is a shortened copy.
"""

import dataclasses
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax

from experiments.benchmarks import report
from experiments.benchmarks.benchmark import ROUNDS, installation, measure, without_goals
from experiments.benchmarks.workloads import BY_ROW
from experiments.runner import plots, program
from experiments.runner.results import only_run, require_writable, save
from jaxnet.atomic_files import NotSavedError
from jaxnet.parallel import meshes

ON_GPU = (10, 11)
PROGRAM = "python -m experiments.benchmarks"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmarks. Seeds are fixed, and compiled programs are cached only for row 8's warm start."""

    rows: str | None = None
    """Which rows, by number or name, such as 1,4 or tiny,wide; None is 1 to 9 and 12, or 10,11 with --device gpu."""
    rounds: int = ROUNDS
    """Counted runs of each implementation, after a warm-up."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where JAX computes; None is its default. One that is absent is an error. Torch goes along in rows 10 and 11."""
    results: Path = Path("results")
    """Directory for the tables and figures; they lie in its directory benchmarks."""
    quick: bool = False
    """Small versions, to see that they run: nothing is proved by their times."""


def name(workload: ModuleType) -> str:
    """A workload's name, which is its file's."""
    return workload.__name__.rpartition(".")[2]


def selection(config: Config) -> list[int]:
    """The numbers of the rows to run."""
    if config.rows is None:
        return [row for row in BY_ROW if (row in ON_GPU) == (config.device == "gpu")]
    numbers = {key: row for row, workload in BY_ROW.items() for key in (str(row), name(workload))}
    words = [word.strip() for word in config.rows.split(",")]
    if unknown := [word for word in words if word not in numbers]:
        known = ", ".join(f"{row} {name(workload)}" for row, workload in BY_ROW.items())
        sys.exit(f"--rows {','.join(unknown)}: expected numbers or names of {known}, such as --rows 1,wide")
    return [numbers[word] for word in words]


def records(workload: ModuleType, config: Config) -> list[dict[str, Any]]:
    """What the workload's benchmarks measured, a record each."""
    if hasattr(workload, "records"):
        return workload.records(config)
    return [measure(benchmark, config.rounds) for benchmark in workload.benchmarks(config)]


def main(config: Config) -> int:
    """Run the rows; the exit code says whether all ran, not whether goals were held: a time is no test."""
    rows = selection(config)
    if config.rounds < 1:
        sys.exit(f"--rounds {config.rounds}: expected 1 or more counted runs, such as {ROUNDS}")
    try:
        device = meshes.device(config.device)
    except ValueError as error:
        sys.exit(f"--device: {error}")
    with only_run(config.results):
        try:
            return run(rows, device, config)
        except NotSavedError as error:
            sys.exit(str(error))


def run(rows: list[int], device: jax.Device, config: Config) -> int:
    """Run these rows on a device and save after each what is measured so far."""
    directory = config.results / "benchmarks"
    require_writable(config.results, directory / "RESULTS.md", directory / "results.json")
    command = " ".join([PROGRAM, *sys.argv[1:]])
    measured, broken = [], {}
    for row in rows:
        workload = BY_ROW[row]
        try:
            with jax.default_device(device):
                new = records(workload, config)
        except Exception as error:  # one broken row does not stop the others
            remedy = f"; {installation(error.name)}" if isinstance(error, ModuleNotFoundError) and error.name else ""
            broken[row] = f"{type(error).__name__}: {error}{remedy}"
            print(f"row {row} is broken: {broken[row]}", file=sys.stderr)
            new = []
        if config.quick or (row in ON_GPU and config.device != "gpu"):
            new = [without_goals(record) for record in new]
        for part, record in enumerate(new):
            print("\n".join(report.table(record)), flush=True)
            save({directory / f"{row:02}_{name(workload)}_{part}.png": plots.png(report.figure(record), dpi=110)})
        measured += new
        report.write(directory, command, config.device, measured, broken, unmeasured(config))
    return 1 if broken else 0


def unmeasured(config: Config) -> list[str]:
    """A line on the rows that need a GPU, where there is none."""
    rows = [str(row) for row in ON_GPU if config.device != "gpu" or row not in selection(config)]
    if not rows or jax.default_backend() == "gpu":
        return []
    return [f"Not measured here, for want of a GPU (`{PROGRAM} --device gpu`): {' and '.join(rows)}."]


def command_line() -> Config:
    """The command line as a Config."""
    try:
        import tyro
    except ModuleNotFoundError:
        sys.exit('tyro is not installed; pip install -e ".[experiments,peers]" brings it, and the peers')
    return tyro.cli(Config, prog=PROGRAM, description=__doc__)


if __name__ == "__main__":
    with program.running():
        sys.exit(main(command_line()))

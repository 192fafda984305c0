"""Time jaxnet beside its peers, row by row of the scoreboard; a table, the numbers and a figure for each race.

Everything goes to the directory benchmarks of --results; the committed RESULTS.md is a copy of what it then holds.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Literal

import jax
import tyro

from experiments.benchmarks import benchmark as contest
from experiments.runner.results import require_writable
from jaxnet import parallel

ROWS = {
    1: "tiny",
    2: "planar",
    3: "medium",
    4: "wide",
    5: "sweep",
    6: "per_example",
    7: "accuracy",
    8: "startup",
    9: "memory",
    10: "gpu_wide",
    11: "gpu_narrow",
}
ON_GPU = (10, 11)
PACKAGES = ("jax", "jaxlib", "optax", "torch", "flax", "equinox", "scikit-learn", "keras", "opacus", "numpy")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmarks. Seeds are fixed, and what is compiled is kept nowhere but in row 8's warm cache."""

    rows: str | None = None
    """Which rows, such as 1,4; None is 1 to 9, or 10 and 11 with --device gpu."""
    rounds: int = contest.ROUNDS
    """Counted runs of each contestant, after a warm-up."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where JAX computes; None is its default. One that is absent is an error. Torch goes along in rows 10 and 11."""
    results: Path = Path("results")
    """Directory for the tables and figures; they lie in its directory benchmarks."""
    quick: bool = False
    """Small versions, to see that they run: nothing is proved by their times."""


def chosen(config: Config) -> list[int]:
    """The numbers of the rows to run."""
    if config.rows is None:
        return [n for n in ROWS if (n in ON_GPU) == (config.device == "gpu")]
    try:
        numbers = [int(part) for part in config.rows.split(",")]
        return [n for n in numbers if ROWS[n]]
    except (ValueError, KeyError):
        sys.exit(f"--rows {config.rows}: expected numbers of {', '.join(map(str, ROWS))}, such as 1,4")


def main(config: Config) -> int:
    """Run the rows; the exit code says whether all ran, not whether goals were held: a time is no test."""
    numbers = chosen(config)
    if config.rounds < 1:
        sys.exit(f"--rounds {config.rounds}: expected 1 or more counted runs, such as {contest.ROUNDS}")
    try:
        device = parallel.device(config.device)
    except ValueError as error:
        sys.exit(f"--device: {error}")
    directory = config.results / "benchmarks"
    require_writable(directory / "RESULTS.md", directory / "results.json")
    records, broken = [], {}
    for number in numbers:
        module = importlib.import_module(f"experiments.benchmarks.workloads.{ROWS[number]}")
        try:
            with jax.default_device(device):
                found = (
                    module.records(config)
                    if hasattr(module, "records")
                    else [contest.run(race, config.rounds) for race in module.races(config)]
                )
        except Exception as error:  # one broken row does not stop the others
            mend = '; pip install -e ".[experiments,peers]"' if isinstance(error, ModuleNotFoundError) else ""
            broken[number] = f"{type(error).__name__}: {error}{mend}"
            print(f"row {number} is broken: {broken[number]}", file=sys.stderr)
            found = []
        if config.quick or (number in ON_GPU and config.device != "gpu"):
            found = [contest.unjudged(record) for record in found]
        for part, record in enumerate(found):
            print("\n".join(contest.table(record)), flush=True)
            contest.figure(record).savefig(directory / f"{ROWS[number]}_{part}.png", dpi=110)
        records += found
        write(directory, config, records, broken)
    return 1 if broken else 0


def write(directory: Path, config: Config, records, broken) -> None:
    """RESULTS.md and results.json with where, when and how, and why a row is missing."""
    how = "python -m experiments.benchmarks" + "".join(f" {part}" for part in sys.argv[1:])
    versions = {name: version(name) for name in PACKAGES}
    head = [
        "# Benchmarks",
        "",
        f"{datetime.datetime.now(datetime.UTC):%d %B %Y}, {processor()} ({os.cpu_count()} cores), "
        f"{jax.devices(config.device)[0].device_kind}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {v}" for name, v in versions.items())
        + ".",
        "",
        f"`{how}`",
        "",
        '"times ours" is the median over rounds of a contestant\'s time over ours in the same round.',
        "",
    ]
    lines = [line for record in records for line in contest.table(record)]
    lines += [f"Row {number} is broken: {why}" for number, why in broken.items()] + unmeasured(config)
    (directory / "RESULTS.md").write_text("\n".join([*head, *lines]).rstrip() + "\n")
    content = {"command": how, "versions": versions, "processor": processor(), "records": records, "broken": broken}
    (directory / "results.json").write_text(json.dumps(content, indent=1, default=str) + "\n")


def unmeasured(config: Config) -> list[str]:
    """A line on the rows that need a GPU, where there is none."""
    rows = [str(n) for n in ON_GPU if config.device != "gpu" or n not in chosen(config)]
    if not rows or jax.default_backend() == "gpu":
        return []
    return [
        f"Not measured here, for want of a GPU (`python -m experiments.benchmarks --device gpu`): {' and '.join(rows)}."
    ]


def version(package: str) -> str:
    """A package's version, or that it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, prog="python -m experiments.benchmarks", description=__doc__)))

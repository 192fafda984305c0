"""The skeleton that every experiment shares: a frozen Config, `run(config) -> Result`, and `main`.

All effects live here: the command line, the results directory, the clock, the exit code.
"""

import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import matplotlib
import tyro
from matplotlib.figure import Figure

matplotlib.use("Agg")  # figures go to files; no window, no display needed

# Okabe and Ito's colours, told apart by the colour-blind as well
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#777777",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """What every experiment takes."""

    seed: int = 0
    """Seed of everything random; the same seed gives the same numbers."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where to compute; None is JAX's default. One that is absent is an error."""
    results: Path = Path("results")
    """Directory for the figure and the numbers; the experiment adds its own name."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What an experiment found: whether its claim held, the numbers behind it, and a picture of them."""

    claim: str
    held: bool
    metrics: dict[str, Any]
    figure: Figure


def writable(directory: Path) -> Path:
    """Return the directory, made if need be; one that can't be written ends the program before any work."""
    probe = directory / ".writable"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        sys.exit(f"--results: {directory} cannot be written ({error.strerror}); give another directory")
    return directory


def save(directory: Path, name: str, config: Config, result: Result, seconds: float) -> None:
    """Write metrics.json and NAME.png into the directory."""
    record = {
        "experiment": name,
        "claim": result.claim,
        "held": result.held,
        "metrics": result.metrics,
        "config": dataclasses.asdict(config),
        "seconds": round(seconds, 2),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices(config.device)[0].device_kind,
    }
    (directory / "metrics.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    result.figure.savefig(directory / f"{name}.png", dpi=120)


def main(name: str, run: Callable[[Any], Result], config_type: type[Config]) -> None:
    """Read the command line, run the experiment, save what it found; exit 1 if its claim did not hold."""
    config = tyro.cli(config_type, prog=f"python -m experiments.{name}", description=sys.modules["__main__"].__doc__)
    directory = writable(config.results / name)
    began = time.perf_counter()
    try:
        result = run(config)
    except (
        ValueError,
        FloatingPointError,
    ) as error:  # the message says what to do
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    save(directory, name, config, result, time.perf_counter() - began)
    print(f"\n{'HELD' if result.held else 'FAILED'}: {result.claim}")
    print(f"Saved {directory / 'metrics.json'} and {directory / f'{name}.png'}")
    sys.exit(0 if result.held else 1)

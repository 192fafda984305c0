"""What a run leaves in the results directory, NAME/metrics.json and NAME/NAME.png, and what is there from earlier runs.

metrics.json is strictly valid JSON, which knows no NaN and no infinity: they are the texts "NaN", "Infinity" and
"-Infinity" in it, and a claim with a NaN among its metrics has failed. A missing value is null.
"""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

REQUIRED = {"experiment", "notes", "about", "data", "claim", "held", "command", "seconds", "ended"}  # of every record


def files(results: Path, name: str) -> tuple[Path, Path]:
    """Where an experiment's numbers and its figure go."""
    return results / name / "metrics.json", results / name / f"{name}.png"


def require_writable(*wanted: Path) -> None:
    """Make the directories of these files; one that can't be written ends the program, before any work."""
    for file in wanted:
        tried = file.parent
        try:
            tried.mkdir(parents=True, exist_ok=True)
            tried, absent = file, not os.path.lexists(file)
            file.open("ab").close()  # what is in it stays
            if absent:
                file.unlink()
        except OSError as error:
            sys.exit(
                f"--results: {tried} cannot be written ({error.strerror}); move it away, or give another directory"
            )


def to_json(value: Any) -> Any:
    """The value as strict JSON: arrays as lists, numbers that are not finite as texts, all else as its text."""
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(to_json(name)): to_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def nan_paths(metrics: Any, place: str = "") -> list[str]:
    """Where NaN stands in metrics that are strict: names and positions, from the outside in."""
    if metrics == "NaN":
        return [place]
    inner = metrics.items() if isinstance(metrics, dict) else enumerate(metrics) if isinstance(metrics, list) else ()
    return [found for name, entry in inner for found in nan_paths(entry, f"{place}.{name}" if place else str(name))]


def write(record: dict[str, Any], results: Path) -> None:
    """Write metrics.json."""
    text = json.dumps(record, indent=2, allow_nan=False)
    files(results, record["experiment"])[0].write_text(text + "\n")


def earlier_record(results: Path, name: str) -> dict[str, Any] | None:
    """Return the record that an earlier run of the experiment left, None if there is none.

    Raises:
        ValueError: metrics.json is damaged or not a record of a run, or its figure is missing.
    """
    metrics, figure = files(results, name)
    if not metrics.is_file():
        return None
    try:
        found = json.loads(metrics.read_text())
    except ValueError as error:
        raise ValueError(f"{metrics} is damaged ({error}); run the experiment again") from error
    if not isinstance(found, dict) or not found.keys() >= REQUIRED or not {"metrics", "error"} & found.keys():
        raise ValueError(f"{metrics} is not a record of a run, or one of another version; run the experiment again")
    if "error" not in found and not figure.is_file():
        raise ValueError(f"{figure} is missing; run the experiment again")
    return found

"""What a run leaves in the results directory, and what is there from earlier runs.

NAME/metrics.json are an experiment's numbers, NAME/NAME.png its picture, NAME/panels.json the same picture as the page
has it, and NAME/explore.json the data of its figure to handle there, if it has one.

metrics.json is strictly valid JSON, which knows no NaN and no infinity: they are the texts "NaN", "Infinity" and
"-Infinity" in it, and a claim with a NaN among its metrics has failed. A missing value is null.

One run at a time uses a results directory. Files are replaced and never written in place: whatever happens in between,
the earlier ones are whole.
"""

import base64
import contextlib
import errno
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet import atomic_files
from jaxnet.lock import LockedError, only_user

REQUIRED = {  # of every record
    "experiment": str, "notes": str, "about": str, "data": dict, "claim": str, "held": bool, "command": str,
    "seconds": int | float, "ended": str,
}  # fmt: skip


def files(results: Path, name: str) -> tuple[Path, Path]:
    """Where an experiment's numbers and its figure go."""
    return results / name / "metrics.json", results / name / f"{name}.png"


def panels_file(results: Path, name: str) -> Path:
    """Where the parts of an experiment's figure go, as the page has them."""
    return results / name / "panels.json"


def explore_file(results: Path, name: str) -> Path:
    """Where the data of an experiment's figure to handle go, if it has one."""
    return results / name / "explore.json"


@contextlib.contextmanager
def only_run(results: Path) -> Iterator[None]:
    """Keep other runs out of the results directory, which is made; if one is in it, the program ends before any work.

    The lock is the system's, on a file in the directory, and goes with the process however that ends. On Windows there
    is none.
    """
    with contextlib.ExitStack() as opened:
        with _named(results):
            results.mkdir(parents=True, exist_ok=True)
            try:
                opened.enter_context(only_user(results))
            except LockedError:
                sys.exit(f"--results: another run is at work in {results}; wait for its end, or give another directory")
        yield


def require_writable(results: Path, *wanted: Path) -> None:
    """Make the directories of these files; one that can't be written ends the program, before any work.

    A directory below `results` that is a symbolic link is refused: it could lead out of it.
    """
    for file in wanted:
        with _named(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.parent != results and file.parent.is_symlink():
                raise OSError(errno.ELOOP, "it is a symbolic link")
        with _named(file):
            if file.is_dir() and not file.is_symlink():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if file.exists() and not os.access(file, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            part = part_of(file)
            part.unlink(missing_ok=True)
            part.touch(exist_ok=False)
            part.unlink()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """End the program if the path cannot be used."""
    try:
        yield
    except OSError as error:
        sys.exit(f"--results: {path} cannot be written ({error.strerror}); move it away, or give another directory")


def save(contents: Mapping[Path, bytes | str]) -> None:
    """Write all of these files or none; a path in a text can hold bytes that are not UTF-8.

    Raises:
        NotSavedError: names the file.
    """
    encoded = {
        file: content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
        for file, content in contents.items()
    }
    atomic_files.save(encoded, part_of, "make room, or give another directory with --results")


def part_of(file: Path) -> Path:
    """Where a file is written before it takes its name; one run at a time, one name is enough."""
    return file.with_name(f".{file.name}.part")


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


def packed(array: Any, dtype: str = "float16") -> dict[str, Any]:
    """An array as JSON in few bytes, for network.js: its shape, and its numbers in that dtype, by rows, in base64."""
    numbers = np.asarray(array).astype(np.dtype(dtype).newbyteorder("<"))
    return {"shape": list(numbers.shape), dtype: base64.b64encode(numbers.tobytes()).decode()}


def save_record(
    record: dict[str, Any],
    results: Path,
    picture: bytes | None = None,
    explore: dict[str, Any] | None = None,
    panels: list[str] | None = None,
) -> None:
    """Save metrics.json, and what belongs to it: the picture, the data of a figure to handle, the picture's panels.

    Raises:
        NotSavedError: one cannot be saved; all are then as they were.
    """
    metrics, figure = files(results, record["experiment"])
    contents: dict[Path, bytes | str] = {}
    if picture is not None:
        contents[figure] = picture
    if panels is not None:
        contents[panels_file(results, record["experiment"])] = json.dumps(panels) + "\n"
    if explore is not None:
        contents[explore_file(results, record["experiment"])] = json.dumps(explore, allow_nan=False) + "\n"
    save(contents | {metrics: json.dumps(record, indent=2, allow_nan=False) + "\n"})


def explored(results: Path, name: str) -> dict[str, Any] | None:
    """The data of an experiment's figure to handle, of the latest run that left any; None if none can be read."""
    found = _json(explore_file(results, name))
    return found if isinstance(found, dict) and isinstance(found.get("still"), str) else None


def panels(results: Path, name: str) -> list[str]:
    """The parts of an experiment's figure as SVG, of the latest run that left any; none if none can be read."""
    found = _json(panels_file(results, name))
    return found if isinstance(found, list) and all(isinstance(panel, str) for panel in found) else []


def _json(file: Path) -> Any:
    """What a file of JSON holds; None if it is missing or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def earlier_record(results: Path, name: str) -> dict[str, Any] | None:
    """Return the record that an earlier run of the experiment left, None if there is none.

    Raises:
        ValueError: metrics.json is damaged or not a record of a run, or its figure is missing.
    """
    metrics, figure = files(results, name)
    if not metrics.is_file():
        return None
    try:
        found = json.loads(metrics.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{metrics} is damaged ({error}); run the experiment again") from error
    if (
        not isinstance(found, dict)
        or not all(isinstance(found.get(name), kind) for name, kind in REQUIRED.items())
        or not (isinstance(found.get("metrics"), dict) or isinstance(found.get("error"), str))
    ):
        raise ValueError(f"{metrics} is not a record of a run, or one of another version; run the experiment again")
    if "error" not in found and not figure.is_file():
        raise ValueError(f"{figure} is missing; run the experiment again")
    return found

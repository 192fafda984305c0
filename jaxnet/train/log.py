"""The history on disk while training goes on: a line for each epoch, as JSON or as a table."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet import atomic_files
from jaxnet.atomic_files import NotSavedError
from jaxnet.train.callbacks import Callback
from jaxnet.train.state import LoopState

SUFFIXES = (".jsonl", ".csv")
REMEDY = "give the path of a new or writable file, in a directory that exists, can be written and has room"
PART = ".part"  # what a file's name ends with while it is written


def log_to(path: str | os.PathLike) -> Callback:
    """Return a callback that writes the history to a file, one line an epoch: JSON (.jsonl) or a table (.csv).

    A line holds the number of the epoch, from 1, and the metrics of the history; NaN is null in JSON. A training that
    begins overwrites the file, as a second run of a script does, and one that is resumed goes on in it: it replaces the
    lines of epochs that it trains again, so that none is there twice. Of several processes the first writes.

    Raises:
        ValueError: the path ends otherwise; of the callback: the training is resumed, and the file holds the log of
            another.
        TypeError: path is not a path.
        OSError: the directory is not there; of the callback: the file cannot be written.

    >>> net, (X, Y) = jaxnet.MLP((2, 1), ("sigmoid",)), jaxnet.datasets.flower()
    >>> result = jaxnet.fit(net, X, Y, key=jax.random.key(0), epochs=2, callbacks=jaxnet.log_to("costs.csv"))
    >>> np.loadtxt("costs.csv", delimiter=",", skiprows=1).shape  # the epoch, accuracy and cost
    (2, 3)
    """
    file = _file(path)
    as_lines = _csv_lines if file.suffix == ".csv" else _json_lines
    done, last = 0, b""  # the epochs that are written, and the line of the last one

    def log(loop: LoopState, history: dict[str, np.ndarray]) -> None:
        nonlocal done, last
        epochs, lines = _epochs(history), lambda first, last: [*as_lines(history, first, last)]
        if epochs == 0 or jax.process_index() != 0:
            return
        if not (0 < done <= epochs and file.exists() and [last] == lines(done - 1, done)):
            done = epochs - 1
            _begin(file, [*_header(file, history), *lines(0, done)], is_resumed=done > 0)
        new = lines(done, epochs)
        _append(file, b"".join(new))
        done, last = epochs, new[-1] if new else last

    return log


def _epochs(history: dict[str, np.ndarray]) -> int:
    return min((values.shape[-1] for values in history.values()), default=0)


def _file(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path is {path!r}; expected the path of a file, such as 'history.jsonl'")
    file = Path(path)
    if file.suffix not in SUFFIXES or "\0" in os.fspath(path):
        raise ValueError(f"path is {path!r}; expected the path of a file that ends with {' or '.join(SUFFIXES)}")
    if file.is_dir() or not file.parent.is_dir():
        reason = "it is a directory" if file.is_dir() else f"there is no directory {file.parent}"
        raise NotSavedError(f"{file} cannot be written ({reason}); {REMEDY}")
    return file


def _json_lines(history: dict[str, np.ndarray], first: int, last: int) -> Iterator[bytes]:
    for epoch in range(first, last):
        metrics = {name: _plain(values[..., epoch]) for name, values in history.items()}
        yield json.dumps({"epoch": epoch + 1, **metrics}, allow_nan=False).encode() + b"\n"


def _csv_lines(history: dict[str, np.ndarray], first: int, last: int) -> Iterator[bytes]:
    for epoch in range(first, last):
        numbers = (str(number) for values in history.values() for number in np.ravel(values[..., epoch]))
        yield ",".join((str(epoch + 1), *numbers)).encode() + b"\n"


def _header(file: Path, history: dict[str, np.ndarray]) -> list[bytes]:
    """The names of a table's columns; a metric of many nets has one for each."""
    if file.suffix != ".csv":
        return []
    places = ((name, *place) for name, values in history.items() for place in np.ndindex(values.shape[:-1]))
    return [",".join(("epoch", *("_".join(map(str, place)) for place in places))).encode() + b"\n"]


def _plain(value: Any) -> Any:
    """A number of the history for JSON, with the digits that its dtype has; a list of many nets' numbers."""
    if np.ndim(value):
        return [_plain(each) for each in value]
    if np.issubdtype(value.dtype, np.integer):
        return int(value)
    return float(str(value)) if np.isfinite(value) else None


def _begin(file: Path, lines: list[bytes], is_resumed: bool) -> None:
    """Begin with the lines of the epochs before this one, in place of what is there; refuse to go on in another log."""
    for one, expected in zip(_whole_lines(file) if is_resumed else [], lines, strict=False):
        if one != expected:
            raise ValueError(
                f"{file} holds the log of another training than the resumed one, with the line {_short(one)}; expected"
                f" {_short(expected)}: give log_to another path, or remove the file"
            )
    atomic_files.save({file: b"".join(lines)}, lambda file: file.with_name(file.name + PART), REMEDY)


def _whole_lines(file: Path) -> list[bytes]:
    """The lines that are there, but for one that a program did not live to finish."""
    try:
        return [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except FileNotFoundError:
        return []


def _append(file: Path, text: bytes) -> None:
    try:
        with file.open("ab") as stream:
            stream.write(text)
    except OSError as error:
        raise NotSavedError(f"{file} cannot be written ({error.strerror}); {REMEDY}") from error


def _short(line: bytes) -> str:
    return repr(line.decode(errors="replace").rstrip()[:60])

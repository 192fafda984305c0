"""Files that are replaced and never written in place: whatever happens in between, the earlier ones are whole."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


class NotSavedError(OSError):
    """A file that could not be saved: the message names it, why, and what to do."""


def save(contents: Mapping[Path, bytes], part_of: Callable[[Path], Path], remedy: str) -> None:
    """Write all of these files or none: each under another name beside its own first; then they are renamed at once.

    So a full disk or a signal leaves the earlier files as they were, and a symbolic link is replaced, not followed.

    Args:
        contents: the bytes of each file.
        part_of: the name, in the same directory, under which a file is written; what is there already is lost.
        remedy: what to do about a file that cannot be saved.

    Raises:
        NotSavedError: names the file.
    """
    parts = {file: part_of(file) for file in contents}
    try:
        for file, part in parts.items():
            with _saving(file, remedy):
                _write(part, contents[file])
        for file, part in parts.items():
            with _saving(file, remedy):
                part.replace(file)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):  # whatever was in the way is told already
                part.unlink(missing_ok=True)


def _write(part: Path, content: bytes) -> None:
    """Write a new file, down to the disk."""
    part.unlink(missing_ok=True)  # a program that was killed has left it
    with part.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _saving(file: Path, remedy: str) -> Iterator[None]:
    """Name the file that cannot be saved."""
    try:
        yield
    except OSError as error:
        left = ", the earlier one is as it was" * os.path.lexists(file)
        why = error.strerror if file.parent.exists() else f"there is no directory {file.parent}"
        raise NotSavedError(f"{file} cannot be saved ({why}){left}; {remedy}") from error

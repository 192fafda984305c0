"""One program at a time in a directory, by a lock that ends with the program that holds it, however that ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where directories are not locked
    fcntl = None

LOCK = ".lock"  # an empty file in the directory; that it is there says nothing, a program holds it or not


class LockedError(OSError):
    """Another program is at work in the directory."""


@contextlib.contextmanager
def only_user(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory.

    Raises:
        LockedError: another program, or another part of this one, holds it.
        OSError: its file cannot be opened, or is a symbolic link.
    """
    with contextlib.ExitStack() as opened:
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        opened.callback(os.close, lock)
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"another program is at work in {directory}") from error
        yield

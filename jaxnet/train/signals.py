"""Deferring SIGINT: Ctrl-C is noted while a chunk runs, and raised once its results are recorded."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done, then raise KeyboardInterrupt. In other threads: nothing to hold."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = []
    former = signal.signal(signal.SIGINT, lambda signum, frame: pressed.append(signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if pressed:
        raise KeyboardInterrupt

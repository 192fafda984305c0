"""Deferring SIGINT: Ctrl-C is noted while a chunk runs, and handled once its results are recorded."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the block is done, then do what it would have done: the former handler is called.

    Python's raises KeyboardInterrupt; one of the caller's own may return, and the program goes on. Where nothing of
    Python's handles the signal (in other threads, or where it is ignored) there is nothing to hold back. Within the
    block, a call of what this yields does the same for what has come so far.
    """
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or former in (signal.SIG_IGN, None):
        yield lambda: None
        return
    received = []

    def deliver() -> None:
        while received:
            signum, frame = received.pop(0)
            if callable(former):
                former(signum, frame)
            else:  # SIG_DFL
                signal.signal(signal.SIGINT, former)
                signal.raise_signal(signum)

    signal.signal(signal.SIGINT, lambda *signum_and_frame: received.append(signum_and_frame))
    try:
        yield deliver
    finally:
        signal.signal(signal.SIGINT, former)
        deliver()

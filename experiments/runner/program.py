"""The edges of a program: what a signal does to it, and what becomes of its output where nobody can take it.

Nothing but the standard library: `experiments/__init__.py` imports this before JAX, whose import takes a second.
"""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a program in the way of Ctrl-C: whatever handles the one handles the other."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a program that a signal ended, as shells have it: 130 or 143."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def end_at_once_on_interrupt() -> None:
    """Let Ctrl-C end the process with 130 and no traceback, while nothing has begun.

    An exception would do worse during imports: JAX's compiled modules abort the process when one passes through them.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)


def _end_at_once(signum: int, frame: Any) -> None:
    os._exit(128 + signum)


def _terminate(signum: int, frame: Any) -> None:
    raise Terminated


def begin_worker() -> None:
    """Begin a process that works for another: that one hears Ctrl-C for both, and draws the progress bar."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.stderr is not None:
        sys.stderr = NoTerminal(sys.stderr.buffer, line_buffering=True, errors="backslashreplace")


class NoTerminal(io.TextIOWrapper):
    """A text stream on which nothing is drawn over and over."""

    def isatty(self) -> bool:
        """Never, whatever is behind it."""
        return False


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Run a program: Ctrl-C and SIGTERM raise and end it with 130 and 143, and its output never stops it.

    A signal that the caller has set to be ignored, as nohup does, stays ignored.
    """
    with _handled(signal.SIGINT, signal.default_int_handler), _handled(signal.SIGTERM, _terminate), _output():
        try:
            yield
        except KeyboardInterrupt as interrupt:
            sys.exit(exit_code(interrupt))


@contextlib.contextmanager
def _handled(signum: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle a signal that has its default action, or our own for imports; in other threads: as it is handled."""
    former = signal.getsignal(signum)
    ours = former in (signal.SIG_DFL, signal.default_int_handler, _end_at_once)
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, former)


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Standard output that takes every character and outlives its reader."""
    if sys.stdout is None:  # it was closed before the start, and print() knows it
        yield
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an ASCII terminal shows \u2265 for ≥
    output = Output(sys.stdout)
    try:
        with contextlib.redirect_stdout(output):
            yield
    finally:
        output.flush()
        if output.error and not isinstance(output.error, BrokenPipeError):  # whom nobody reads, nobody misses
            print(f"standard output: {output.error.strerror}; what was printed is lost", file=sys.stderr)


class Output:
    """A text stream that goes silent where writing fails: a pipe closed by `head`, a full disk. The work goes on."""

    def __init__(self, stream: TextIO):
        """Write to this stream as long as it takes it."""
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Pass on what is in the buffer."""
        self._try(self.stream.flush)

    def _try(self, action, *arguments) -> None:
        if self.error:
            return
        try:
            action(*arguments)
        except OSError as error:
            self.error = error
            with open(os.devnull, "wb") as nowhere:  # so that Python's own flush at the exit does not fail again
                os.dup2(nowhere.fileno(), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        """Be the stream in all else."""
        return getattr(self.stream, name)

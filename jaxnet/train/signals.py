"""Signals: noted while a chunk runs, and handled once its results are recorded."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxnet.parallel.processes import ALONE, Team

HELD = (signal.SIGINT, signal.SIGTERM)
POLL = 0.02  # of the time waited so far: what waiting may add to it


@contextlib.contextmanager
def deferred(team: Team = ALONE) -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the block is done, then do what it would have done: the former handler is called.

    Python's raises KeyboardInterrupt; one of the caller's own may return, and the program goes on. Within the block, a
    call of what this yields does the same for what has come so far. So is SIGTERM held back, where something of
    Python's handles it. Where nothing does (in other threads, or where a signal is ignored) there is nothing to hold
    back.

    A second Ctrl-C waits for nothing. It ends a program as the system would: KeyboardInterrupt would end it only after
    the chunk, which JAX waits for at the exit. In an interactive session, and with a handler of the caller's own, that
    handler is called.

    What has come to one process of a team is done in all, at the same step.
    """
    held = _Held(team)
    for signum in held.formers:
        signal.signal(signum, held.hold)
    try:
        yield held.deliver
    except BaseException:
        held.let_go()
        held.deliver_own()
        raise
    if team.number > 1:
        held.carry_over()
    held.let_go()
    held.deliver_own()


class _Held:
    """The signals that are held back: their former handlers, and what has come."""

    def __init__(self, team: Team):
        """Look at the handlers of now; where this thread is not the main one, nothing is held back."""
        self._team = team
        handlers = {signum: signal.getsignal(signum) for signum in HELD}
        main = threading.current_thread() is threading.main_thread()
        self.formers: dict[int, Any] = {
            signum: former
            for signum, former in handlers.items()
            if main and (callable(former) or _is_default_ctrl_c(signum, former))
        }
        self._received: list[tuple[int, Any]] = team.held_back
        team.held_back = []

    def hold(self, signum: int, frame: Any) -> None:
        """Note the first of its kind; the second ends the waiting."""
        again = any(signum == earlier for earlier, _ in self._received)
        self._received.append((signum, frame))
        if again and self.formers[signum] is signal.default_int_handler and not hasattr(sys, "ps1"):
            _take_default_action(signum)
        if again:
            self.deliver_own()

    def let_go(self) -> None:
        """Give the signals back."""
        for signum, former in self.formers.items():
            signal.signal(signum, former)

    def deliver(self) -> None:
        """Do what the former handlers do, for what has come to any process."""
        received, self._received = self._received, []  # what comes while the others are asked is for the next time
        here = {signum for signum, _ in received}
        come = self._team.gathered(*(signum in here for signum in HELD)).max(axis=0).tolist()
        elsewhere = [signum for signum, has in zip(HELD, come, strict=True) if has and signum not in here]
        try:
            self._act(received + [(signum, None) for signum in elsewhere if signum in self.formers])
        except BaseException as error:
            raise self._team.raises_in_all(error)  # noqa: B904 - the same

    def deliver_own(self) -> None:
        """Do what the former handlers do, for what has come to this process."""
        received, self._received = self._received, []
        self._act(received)

    def carry_over(self) -> None:
        """Leave what has not been told to the others to the next that holds signals back."""
        self._team.held_back, self._received = self._received, []

    def _act(self, received: list[tuple[int, Any]]) -> None:
        for signum, frame in received:
            if callable(self.formers[signum]):
                self.formers[signum](signum, frame)
            else:
                _take_default_action(signum)


def _is_default_ctrl_c(signum: int, former: Any) -> bool:
    """Whether it is Ctrl-C with the system's action. A SIGTERM that has it ends the program: nobody asked for more."""
    return signum == signal.SIGINT and former is signal.SIG_DFL


def _take_default_action(signum: int) -> None:
    """End the program as the system would."""
    signal.signal(signum, signal.SIG_DFL)
    signal.raise_signal(signum)


@contextlib.contextmanager
def exit_at_sigterm(team: Team = ALONE) -> Iterator[Callable[[], None]]:
    """Note a SIGTERM that would end the program at once; a call of what this yields exits for it, with status 0.

    And so does the end of the block. In other threads, and where something handles SIGTERM already, nothing is done.
    """
    asked = []

    def exit_if_asked() -> None:
        if team.any(asked):
            raise team.raises_in_all(SystemExit(0))

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, lambda signum, frame: asked.append(signum))
    try:
        yield exit_if_asked
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    exit_if_asked()


def wait(array: Any) -> Any:
    """Block until an array is computed, and let Python handle signals meanwhile, which it cannot while JAX blocks."""
    began = time.perf_counter()
    while not array.is_ready():
        time.sleep(min(1e-4 + POLL * (time.perf_counter() - began), 0.1))
    return jax.block_until_ready(array)

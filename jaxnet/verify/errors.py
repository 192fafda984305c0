"""Whose error is it? Our own mistakes must not look like an honest "cannot", nor like the user's.

An exception is told by where it was raised. Of the calls that led to it the innermost that is not a library's decides:

    the user's        a function of the user's refuses, or a library that it called
    the verifier's    a mistake, made there or in what a library was given; unless it was raised on purpose, by us
                      (DeliberateError) or by a library that lists what it refuses (REFUSALS)
"""

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from jaxnet.verify.journal import first_line

P = ParamSpec("P")
T = TypeVar("T")
HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
PACKAGE = __name__.rpartition(".")[0]
LIBRARIES = {"jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy", "threadpoolctl", "beartype", "jaxtyping"}
LIBRARIES |= sys.stdlib_module_names
# Whether a library refuses on purpose, by the error and the calls below ours. The module that knows it adds it.
REFUSALS: list[Callable[[Exception, list], bool]] = [lambda error, calls: isinstance(error, MemoryError)]


class DeliberateError(Exception):
    """What the verifier raises on purpose: no mistake."""


class RefusedError(DeliberateError, TypeError):
    """What the verifier refuses: an argument, or what a function of the user's returns."""


class NotFiniteError(DeliberateError, ValueError):
    """A loss that is NaN or infinite where it is to be differentiated."""


class UnreadableError(DeliberateError):
    """A program holds an operation that a reading cannot follow; the text names it."""


def call_user(function, *arguments):
    """function(*arguments), a function of the user's: all that it raises is the user's, also from within a library."""
    return function(*arguments)


def mistake(error: Exception, what: str) -> str | None:
    """ "crashed: ..." if an error is a mistake of ours; None if the user's functions or a library refuse."""
    calls = list(traceback.walk_tb(error.__traceback__))
    frame, line = next(((frame, line) for frame, line in calls[::-1] if not _is_of_a_library(frame)), (None, 0))
    if frame is None or isinstance(error, DeliberateError) or _is_the_users(frame):
        return None
    below = [other for other, _ in calls[[other for other, _ in calls].index(frame) + 1 :]]
    if any(refuses(error, below) for refuses in REFUSALS):
        return None
    place = f"{os.path.basename(frame.f_code.co_filename)}:{line}"
    return f"crashed: {what} ({first_line(error)} at {place}); a fault of the verifier itself"


def note(journal, error: Exception, what: str):
    """Puts a mistake of ours into the journal's troubles, hence into the report."""
    text = mistake(error, what)
    if text:
        journal.troubles.append(text)


@contextlib.contextmanager
def tolerated(journal, what: str):
    """Lets a piece of evidence be missing, and says so if that is our own mistake."""
    try:
        yield
    except Exception as error:  # whatever the user's functions raise on inputs that we made up
        note(journal, error, what)


def exits_refused(check: Callable[P, T]) -> Callable[P, T]:
    """RuntimeError where the user's functions end the interpreter: an exit status of theirs is not a verdict."""

    @functools.wraps(check)
    def checked(*arguments: P.args, **options: P.kwargs) -> T:
        __tracebackhide__ = True
        try:
            return check(*arguments, **options)
        except SystemExit as error:
            raise RuntimeError(f"{whose_exit(error)}: nothing was judged; loss and gradient have to return.") from error

    return checked


def whose_exit(error: SystemExit) -> str:
    """The exit, and the function of the user's that called it."""
    calls = [(f, line) for f, line in traceback.walk_tb(error.__traceback__) if not _is_of_a_library(f)]
    theirs = [(f.f_code, line) for f, line in calls if not f.f_code.co_filename.startswith(HERE)]
    if not theirs:
        return f"{error!r} was raised"
    code, line = theirs[-1]
    return f"{error!r} was raised by {code.co_name} ({os.path.basename(code.co_filename)}:{line})"


def _is_of_a_library(frame) -> bool:
    """Whether a call is of a package that the verifier stands on, or of Python's own modules."""
    return frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES


def _is_the_users(frame) -> bool:
    """Whether a call, not of a library, is none of ours, or is the one by which we call what is not."""
    code = frame.f_code
    ours = code.co_filename.startswith(HERE) or frame.f_globals.get("__name__", "").startswith(f"{PACKAGE}.")
    return not ours or code.co_name == call_user.__name__

"""Telling "this witness cannot" from "this witness crashed": our own mistakes must not look like honest refusals."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

from jaxnet.verify.report import first_line

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
LIBRARIES = {"jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy", "beartype", "jaxtyping"}
LIBRARIES |= sys.stdlib_module_names
MISTAKES = (TypeError, AttributeError, NameError, LookupError, AssertionError)


class RefusedError(TypeError):
    """What the verifier refuses on purpose: an argument, or what a function of the user's returns."""


def mistake(error: Exception, what: str) -> str | None:
    """ "crashed: ..." if an error is a mistake of ours; None if the user's functions or JAX refuse."""
    if isinstance(error, RefusedError) or not isinstance(error, MISTAKES):
        return None
    calls = list(traceback.walk_tb(error.__traceback__))
    ours = [k for k, (frame, _) in enumerate(calls) if frame.f_code.co_filename.startswith(HERE)]
    if not ours:
        return None
    within = [frame for frame, _ in calls[ours[-1] + 1 :]]
    if not all(map(_is_of_a_library, within)):
        return None
    # JAX raises TypeError for what it has no rule for, at a call of ours: that is a refusal.
    if isinstance(error, TypeError) and within and type(error).__name__ != "TypeCheckError":
        return None
    frame, line = calls[ours[-1]]
    place = f"{os.path.basename(frame.f_code.co_filename)}:{line}"
    return f"crashed: {what} ({first_line(error)} at {place}); a fault of the verifier itself"


def note(problem, error: Exception, what: str):
    """Puts a mistake of ours into the problem's troubles, hence into the report."""
    text = mistake(error, what)
    if text:
        problem.troubles.append(text)


@contextlib.contextmanager
def tolerated(problem, what: str):
    """Lets a piece of evidence be missing, and says so if that is our own mistake."""
    try:
        yield
    except Exception as error:  # whatever the user's functions raise on inputs that we made up
        note(problem, error, what)


@contextlib.contextmanager
def exits_refused() -> Iterator[None]:
    """RuntimeError where the user's functions end the interpreter: an exit status of theirs is not a verdict."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"{whose_exit(error)}: nothing was judged; loss and gradient have to return.") from error


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

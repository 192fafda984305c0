"""Telling "this witness cannot" from "this witness crashed": our own mistakes must not look like honest refusals."""

import contextlib
import os
import traceback

from jaxnet.verify.report import first_line

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
MISTAKES = (TypeError, AttributeError, NameError, LookupError, AssertionError)


def mistake(error: Exception, what: str) -> str | None:
    """ "crashed: ..." if an error is a mistake of ours; None if the user's functions or JAX refuse."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith("<")]
    if not ours or not ours[-1].filename.startswith(HERE) or not isinstance(error, MISTAKES):
        return None
    # JAX raises TypeError for what it has no rule for, at a call of ours: that is a refusal.
    if isinstance(error, TypeError) and frames[-1] is not ours[-1] and type(error).__name__ != "TypeCheckError":
        return None
    if (ours[-1].line or "").startswith("raise "):  # what we refuse ourselves, on purpose
        return None
    place = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}"
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

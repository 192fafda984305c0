"""Telling "this witness cannot" from "this witness crashed": our own mistakes must not look like honest refusals."""

import contextlib
import os
import traceback

from jaxnet.verify.report import first_line

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
MISTAKES = (TypeError, AttributeError, NameError, LookupError, AssertionError)


def note(problem, error: Exception, what: str):
    """Puts "crashed: ..." into the problem's troubles, hence into the report, if the error is a mistake of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith("<")]
    if not ours or not ours[-1].filename.startswith(HERE) or not isinstance(error, MISTAKES):
        return
    # JAX raises TypeError for what it has no rule for, at a call of ours: that is a refusal.
    refused = isinstance(error, TypeError) and frames[-1] is not ours[-1] and type(error).__name__ != "TypeCheckError"
    if not refused:
        place = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}"
        problem.troubles.append(f"crashed: {what} ({first_line(error)} at {place}); a fault of the verifier itself")


@contextlib.contextmanager
def tolerated(problem, what: str):
    """Lets a piece of evidence be missing, and says so if that is our own mistake."""
    try:
        yield
    except Exception as error:  # whatever the user's functions raise on inputs that we made up
        note(problem, error, what)

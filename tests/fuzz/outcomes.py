"""What came back from a call, in six classes.

RIGHT    the answer of the reference, or the non-finite one that is documented
OURS     refused by a `raise` of jaxnet whose text names an argument that is wrong
REFUSED  refused by a `raise` of jaxnet, though the contract takes it
FOREIGN  refused by JAX, NumPy or another library, in their words
BARE     an error that names nothing: of an attribute, an index, an assertion; a text of ours without the
         argument's name; a hang, a crash
SILENT   an answer to what should have been refused, or a wrong one
"""

import ast
import re
import traceback
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxnet
from tests.fuzz.arguments import FINE, WRONG
from tests.fuzz.cases import Case

CLASSES = ("RIGHT", "OURS", "REFUSED", "FOREIGN", "BARE", "SILENT")
HOUSE = Path(jaxnet.__file__).parent
NAMELESS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, StopIteration)


class Outcome(NamedTuple):
    """The class of a call's outcome, and what was seen."""

    function: str
    name: str
    text: str


def outcome(case: Case) -> Outcome:
    """Call, and judge what comes back."""
    wrong = [name for name, given in case.arguments.items() if given.status == WRONG]
    doubtful = [name for name, given in case.arguments.items() if given.status != FINE]
    try:
        answer = case.call(**{name: given.value for name, given in case.arguments.items()})
    except jaxnet.NotFiniteError as error:
        answer = error  # documented: for the case to judge
    except Exception as error:  # of any kind: that is the question
        return Outcome(case.function, *_refusal(error, doubtful, list(case.arguments)))
    if wrong:
        return Outcome(case.function, "SILENT", f"taken; the answer is {_short(answer)}")
    with np.errstate(all="ignore"):
        complaint = case.complaint(answer)
    return Outcome(case.function, "SILENT" if complaint else "RIGHT", complaint or "")


def _refusal(error: Exception, doubtful: list[str], arguments: list[str]) -> tuple[str, str]:
    text = f"{type(error).__name__}: {_short(error)}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = Path(last.filename)
    text += f"  [{where.name}:{last.lineno}]"
    if HOUSE not in where.parents:
        return ("BARE" if isinstance(error, NAMELESS) else "FOREIGN"), text
    if not any(first <= last.lineno <= final for first, final in raises(where)):
        return ("BARE" if isinstance(error, (*NAMELESS, TypeError)) else "FOREIGN"), text
    if any(named(name, str(error)) for name in doubtful):
        return "OURS", text
    return ("REFUSED" if any(named(name, str(error)) for name in arguments) else "BARE"), text


@cache
def raises(path: Path) -> tuple[tuple[int, int], ...]:
    """The first and last line of each `raise` of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return tuple((node.lineno, node.end_lineno or node.lineno) for node in nodes if isinstance(node, ast.Raise))


def named(argument: str, text: str) -> bool:
    """Whether a message names an argument, one of several names that are joined by a bar."""
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) for name in argument.split("|"))


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 220 else text[:217] + "..."

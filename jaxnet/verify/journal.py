"""What the stages of a check have to say, for the report; no code reads it. It alone grows while a check runs."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Statement:
    """One witness: what it is called, what it said, and the seconds it took."""

    name: str
    said: str
    seconds: float


@dataclass
class Journal:
    """The statements and notes of one check, in their order.

    troubles  mistakes of the verifier itself, told first in the report
    spoilt    inputs that the loss, called as a plain function, has written into
    """

    statements: list[Statement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    spoilt: dict[str, None] = field(default_factory=dict)

    @contextlib.contextmanager
    def stated(self, name: str) -> Iterator[Callable[[str], None]]:
        """Give the block a function that takes what a witness has to say; its seconds are those of the block."""
        begun, said = time.perf_counter(), []
        yield said.append
        if said:
            self.statements.append(Statement(name, said[-1], time.perf_counter() - begun))


def first_line(error) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120] if lines else ''}"

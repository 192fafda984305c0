"""What a case is, and which functions have cases."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.fuzz.arguments import FINE, WRONG, Given


class Case(NamedTuple):
    """One call: what is given, and what is right."""

    function: str
    arguments: dict[str, Given]  # by name; a|b where a message may call it a or b
    call: Callable[..., Any]  # takes their values, by name
    complaint: Callable[[Any], str | None]  # what is wrong with an answer
    usual: dict[str, Any] | None = None  # right values, of the same shapes, to be called with first

    @property
    def text(self) -> str:
        """The arguments in words; ! are wrong, ? may be."""
        marks = {FINE: "", WRONG: "!"}
        return ", ".join(f"{marks.get(given.status, '?')}{name}={given.note}" for name, given in self.arguments.items())


DRAWN: dict[
    str, tuple[int, Callable[[Any], Case]]
] = {}  # how often each function is called, and how its cases are drawn


def draws(function: str, weight: int):
    """Enter a function that draws cases of `function` from a random generator."""

    def enter(draw):
        DRAWN[function] = weight, draw
        return draw

    return enter


def function_of(rng, drawn=DRAWN) -> str:
    """Which function the next case is of."""
    names = sorted(drawn)
    weights = np.array([drawn[name][0] for name in names])
    return names[rng.choice(len(names), p=weights / weights.sum())]


def case(seed: int, index: int) -> Case:
    """The case of that number: the same each time."""
    rng = np.random.default_rng([seed, index])
    return DRAWN[function_of(rng)][1](rng)

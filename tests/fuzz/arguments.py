"""Arguments, and whether they must be taken.

FINE    must be taken, and the answer be that of its values
EITHER  may be taken, or refused by name
WRONG   must be refused by name
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

FINE, EITHER, WRONG = "fine", "either", "wrong"


class Given(NamedTuple):
    """An argument: its value, whether it must be taken, what it is in words, and what it means.

    An array means its numbers in float64, params a list of (W, b) and their dtype. Those of JAX arrays, which may be
    traced, are not read by most functions: on_host is False.
    """

    value: Any
    status: str
    note: str
    meaning: Any = None
    on_host: bool = True
    dtype: Any = None  # of an array

    @property
    def of_integers(self) -> bool:
        """Whether it is an array of integers; booleans are none."""
        return self.dtype is not None and jnp.issubdtype(self.dtype, jnp.integer)

    def refused_if(self, condition: Any, status: str = WRONG) -> "Given":
        """The same, with this status where the condition holds, unless it has a worse one."""
        worst = max(self.status, status, key=(FINE, EITHER, WRONG).index)
        return self._replace(status=worst) if condition else self


def fine(value: Any, note: str = "") -> Given:
    """An argument that is right."""
    return Given(value, FINE, note or _short(value), value)


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:60]


def pick(rng, names) -> Any:
    """One of the names."""
    names = list(names)
    return names[rng.integers(len(names))]


def changed(rng, *names: str) -> set[str]:
    """Which arguments are not given as usual: mostly one; a name that stands twice is drawn twice as often."""
    count = rng.choice((0, 1, 2), p=(0.1, 0.75, 0.15))
    return {pick(rng, names) for _ in range(count)}


class Class:
    """A class, in the place of a value."""


def function(*arguments):
    """A function, in the place of a value."""
    return 0


JUNK: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "'a'": lambda: "a",
    "b'a'": lambda: b"a",
    "object()": object,
    "{}": dict,
    "{'W': 1}": lambda: {"W": 1.0},
    "a set": lambda: {1.0, 2.0},
    "a function": lambda: function,
    "a class": lambda: Class,
    "...": lambda: ...,
    "3": lambda: 3,
    "-1": lambda: -1,
    "0": lambda: 0,
    "2.5": lambda: 2.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1j": lambda: 1j,
    "True": lambda: True,
    "10**30": lambda: 10**30,
    "[]": list,
    "()": tuple,
    "[None]": lambda: [None],
    "['a', 'b']": lambda: ["a", "b"],
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "a list of dicts": lambda: [{"a": 1.0}],
    "float32 0-d": lambda: np.float32(1),
    "jax 0-d": lambda: jnp.float32(1),
    "a key": lambda: jax.random.key(0),
    "ShapeDtypeStruct": lambda: jax.ShapeDtypeStruct((3, 3), np.float32),
    "frame of text": lambda: pd.DataFrame({"a": ["x", "y", "z"]}),
    "frame with NA": lambda: pd.DataFrame({"a": pd.array([1.0, None, 2.0], dtype="Float64")}),
    "an exception": lambda: ValueError("a"),
    "generator": lambda: (row for row in [[1.0], [2.0]]),
}
EMPTY = ("[]", "()", "{}")
FUNCTIONS = ("a function", "a class")
POSITIVE = ("3", "2.5", "10**30", "float32 0-d", "jax 0-d")
NUMBERS = (*POSITIVE, "nan", "inf", "1j")
COUNTS = ("3", "10**30", "jax 0-d")  # 3 is a right one, of which the answer is not known; others run for ever


def junk(rng, *leave_out: str) -> Given:
    """Something that an argument does not want; what it may want is left out."""
    name = pick(rng, [name for name in JUNK if name not in leave_out])
    return Given(JUNK[name](), WRONG, name)


class Setting(NamedTuple):
    """What may be given for an argument that is no array; None is right where it is `optional`."""

    right: tuple = ()
    wrong: tuple = ()
    either: tuple = ()
    leave_out: tuple[str, ...] = ()  # of the junk; all of it where it is ("all",)
    optional: bool = False

    def drawn(self, rng) -> Given:
        """One of those values, or junk."""
        statuses = ((self.right, FINE), (self.wrong, WRONG), (self.either, EITHER))
        known = [Given(value, status, _short(value), value) for values, status in statuses for value in values]
        if self.leave_out != ("all",) and (not known or rng.random() < 0.5):
            given = junk(rng, *self.leave_out)
            return given._replace(status=FINE) if given.value is None and self.optional else given
        return known[rng.integers(len(known))]

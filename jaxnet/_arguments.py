"""Checks of one argument, a name or a number: messages tell the argument, what it is and what was expected."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def choice(argument: str, name: Any, choices: Iterable[str]) -> str:
    """Return the name if it is one of the choices; else raise with the choices and the nearest of them."""
    choices = tuple(choices)
    if isinstance(name, str) and name in choices:
        return name
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{argument} is {name!r}; expected one of {', '.join(map(repr, choices))}{hint}")


def positive(argument: str, value: Any, otherwise: str = "") -> Any:
    """Return the value as a float if it is a finite number above zero: a scalar of Python, NumPy or JAX.

    A traced scalar, which has no value yet, is returned unchanged. The message adds what else would do.
    """
    scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and value.shape == ()
    if scalar and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        if isinstance(value, Tracer):
            return value
        value = np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < float("inf"):
        raise ValueError(f"{argument} is {value!r}; expected a finite number above 0{otherwise}")
    return float(value)


def count(argument: str, value: Any, least: int = 1, otherwise: str = "") -> int:
    """Return the value as an int if it is a whole number of at least `least`; the message adds what else would do."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{argument} is {value!r}; expected an integer of at least {least}{otherwise}")
    return int(value)


def type_name(value: Any) -> str:
    """The value's type with its article, such as "a list" or "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

"""Checks of one argument, a name or a number: messages tell the argument, what it is and what was expected.

And how many arguments look in help().
"""

import contextlib
import difflib
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Function = TypeVar("Function", bound=Callable)
NOTHING: Mapping[str, str] = MappingProxyType({})


def shown_without_types(function: Function) -> Function:
    """Have help() and inspect.signature show the names and defaults of many arguments alone, which fit a few lines.

    Checkers read the types in the source; in words they stand under Args.
    """
    shown, nothing = inspect.signature(function), inspect.Parameter.empty
    parameters = [parameter.replace(annotation=nothing) for parameter in shown.parameters.values()]
    function.__signature__ = shown.replace(parameters=parameters, return_annotation=nothing)  # type: ignore[attr-defined]
    return function


def choice(
    argument: str, name: Any, choices: Iterable[str], otherwise: str = "", elsewhere: Mapping[str, str] = NOTHING
) -> str:
    """Return the name if it is one of the choices; else raise with the choices, what else would do, and the nearest.

    elsewhere: what other libraries call a choice.
    """
    choices = tuple(choices)
    if isinstance(name, str) and name in choices:
        return name
    lower = {each.lower(): each for each in choices}  # so that the nearest to "ReLU" is "relu"
    lower |= {each: meant for each, meant in elsewhere.items() if meant in choices}
    called = getattr(name, "__name__", str(name)).lower()  # such as jax.nn.relu
    near = difflib.get_close_matches(called, lower, n=1)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    raise ValueError(f"{argument} is {name!r}; expected one of {', '.join(map(repr, choices))}{otherwise}{hint}")


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


def from_zero(argument: str, value: Any) -> float:
    """Return the value as a float if it is 0 or a finite number above it."""
    return 0.0 if _is_zero(value) else positive(argument, value, otherwise=", or 0")


def _is_zero(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == 0


def count(argument: str, value: Any, least: int = 1, most: int | None = None, otherwise: str = "") -> int:
    """Return the value as an int if it is a whole number in that range; the message adds what else would do."""
    number = int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None
    if number is None or number < least or (most is not None and number > most):
        expected = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
        raise ValueError(f"{argument} is {value!r}; expected {expected}{otherwise}")
    return number


def share(argument: str, value: Any, otherwise: str = "", example: str = "0.2") -> float:
    """Return the value as a float if it is a number between 0 and 1, neither of them."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < 1:
        raise ValueError(
            f"{argument} is {value!r}; expected a number above 0 and below 1, such as {example}{otherwise}"
        )
    return float(value)


def share_from_zero(argument: str, value: Any) -> float:
    """Return the value as a float if it is 0 or a number between 0 and 1."""
    return 0.0 if _is_zero(value) else share(argument, value, otherwise=", or 0")


def several(argument: str, given: Any, expected: str) -> tuple:
    """Return what was given one after the other, such as a list or a generator, as a tuple."""
    if not isinstance(given, str):
        with contextlib.suppress(TypeError):
            return tuple(given)
    raise TypeError(f"{argument} is {given!r}; expected {expected}")


def in_short(leaf: Any) -> str:
    """An array by its dtype and shape, as JAX writes it; what else may stand there (a tracer, a sharding) as it is."""
    if isinstance(leaf, jax.Array | np.ndarray) and not isinstance(leaf, Tracer):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return repr(leaf)


def fields_in_short(record: Any) -> str:
    """A NamedTuple of arrays as it reads at a glance, without the fields that have their default."""
    own = {
        name: leaf for name, leaf in record._asdict().items() if record._field_defaults.get(name, record) is not leaf
    }
    return f"{type(record).__name__}({', '.join(f'{name}={in_short(leaf)}' for name, leaf in own.items())})"


def shown(value: Any) -> str:
    """The value's repr; of what would fill lines, such as an array, its type."""
    text = repr(value)
    return text if len(text) <= 80 else type_name(value)


def type_name(value: Any) -> str:
    """The value's type with its article, such as "a list" or "an int"; None is None."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

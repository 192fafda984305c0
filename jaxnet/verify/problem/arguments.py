"""The arguments of a function: their names, and which of them vary."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnet.verify.errors import RefusedError
from jaxnet.verify.program.rules import wrapped_by


def argument_names(function, arguments: Sequence, keywords: Mapping | None = None) -> tuple[str, ...] | None:
    """What a function calls its positional arguments, `x` or `args[0]`; None where its signature does not say."""
    try:
        signature = inspect.signature(wrapped_by(function))
        signature.bind(*arguments, **(keywords or {}))
    except (TypeError, ValueError):  # no signature, or another one than it is called by
        return None
    parameters = signature.parameters.values()
    single = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    more = (f"{name}[{k}]" for name in rest for k in range(len(arguments)))
    return (*single, *more)[: len(arguments)]


def require_taken(name: str, function, arguments: Sequence, keywords: Mapping | None = None):
    """Raises TypeError where a function's signature does not take the arguments that it will be called with."""
    try:
        inspect.signature(function).bind(*arguments, **(keywords or {}))
    except TypeError as error:
        given = ", ".join([f"{len(arguments)} positional arguments", *(keywords or {})])
        raise RefusedError(
            f"{name}= does not take what it is called with, {given}, as the function under test: {error}."
        ) from None
    except ValueError:  # no signature that could be read
        return


def positions(argnums, n: int, given: str) -> int | tuple[int, ...]:
    """argnums counted from the front of n arguments, as jax.grad takes them from either end.

    Raises TypeError for what is not an integer or some of them, ValueError where they do not name arguments, at least
    one and each once.
    """
    several = isinstance(argnums, Sequence) and not isinstance(argnums, str)
    chosen: tuple[Any, ...] = tuple(argnums) if several else (argnums,)
    if not all(map(is_integer, chosen)):
        raise RefusedError(f"argnums={shown(argnums)}: expected an integer or a tuple of integers, as in jax.grad.")
    if not chosen:
        raise ValueError(f"argnums={argnums!r} chooses nothing: {given}; expected one of them or more.")
    if not all(-n <= i < n for i in chosen):
        raise ValueError(f"argnums={argnums!r}: {given}.")
    counted = tuple(int(i) % n for i in chosen)
    if len(set(counted)) < len(counted):
        raise ValueError(f"argnums={argnums!r} names an argument twice; expected each once.")
    return counted if several else counted[0]


def is_integer(x) -> bool:
    """Whether it is Python's or NumPy's; True and False are none."""
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def shown(value) -> str:
    """A value as it was given, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

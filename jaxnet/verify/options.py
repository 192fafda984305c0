"""The arguments of check_gradients and check_vjp: a message names one, what was given and what was expected."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.trouble import RefusedError

WITNESSES = ("auto", "fast", "full")
VARIANTS = ("eager", "jit", "vmap")
KINKS = ("subgradient", "strict")


def require_options(witnesses, variants, kinks, directions, has_aux):
    """Raises TypeError or ValueError for an option that is not one."""
    _require_choice("witnesses", witnesses, WITNESSES)
    _require_choice("kinks", kinks, KINKS)
    if isinstance(variants, str) or not isinstance(variants, (tuple, list, set, frozenset)):
        error = ValueError if isinstance(variants, str) else RefusedError
        raise error(f"variants={variants!r}: expected a tuple of any of {_listed(VARIANTS)}, such as ('eager', 'jit').")
    for variant in variants:
        if not (isinstance(variant, str) and variant in VARIANTS):
            raise ValueError(f"variants={variants!r}: expected any of {_listed(VARIANTS)}.")
    require_count("directions", directions)
    if not isinstance(has_aux, (bool, np.bool_)):
        raise RefusedError(f"has_aux={has_aux!r}: expected True, where the loss returns (value, auxiliary), or False.")


def require_function(name: str, function):
    """Raises TypeError for what cannot be called."""
    if not callable(function):
        raise RefusedError(f"{name} is {_shown(function)}; expected a function.")


def require_count(name: str, number):
    """Raises TypeError for what is not an integer, ValueError below 1."""
    if not _is_integer(number):
        raise RefusedError(f"{name}={_shown(number)}: expected an integer of 1 or more.")
    if number < 1:
        raise ValueError(f"{name}={number}: expected 1 or more.")


def positions(argnums, n: int, given: str) -> int | tuple[int, ...]:
    """argnums counted from the front of n arguments, as jax.grad takes them from either end.

    Raises TypeError for what is not an integer or some of them, ValueError where they do not name arguments, each once.
    """
    several = isinstance(argnums, Sequence) and not isinstance(argnums, str)
    chosen: tuple[Any, ...] = tuple(argnums) if several else (argnums,)
    if not all(map(_is_integer, chosen)):
        raise RefusedError(f"argnums={_shown(argnums)}: expected an integer or a tuple of integers, as in jax.grad.")
    if not all(-n <= i < n for i in chosen):
        raise ValueError(f"argnums={argnums!r}: {given}.")
    counted = tuple(int(i) % n for i in chosen)
    if len(set(counted)) < len(counted):
        raise ValueError(f"argnums={argnums!r} names an argument twice; expected each once.")
    return counted if several else counted[0]


def seed_of(key) -> int:
    """An integer or PRNG key as a seed for NumPy; raises TypeError for anything else."""
    if key is None:
        return 0
    if isinstance(key, (int, np.integer)):
        return int(key) % 2**31
    dtype: Any = getattr(key, "dtype", None)
    if isinstance(key, jax.Array) and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    elif dtype is None or not jnp.issubdtype(dtype, jnp.integer):
        raise RefusedError(f"key={_shown(key)}: expected an integer, a PRNG key such as jax.random.key(0), or None.")
    return int(np.random.SeedSequence([int(k) for k in np.asarray(key).ravel()]).generate_state(1)[0] % 2**31)


def _require_choice(name: str, value, allowed: tuple[str, ...]):
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name}={_shown(value)}: expected one of {_listed(allowed)}.")


def _is_integer(x) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def _listed(names) -> str:
    return ", ".join(map(repr, names))


def _shown(value) -> str:
    """A value as it was given, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

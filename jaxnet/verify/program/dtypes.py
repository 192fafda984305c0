"""Kinds of numbers: what is floating, how it is widened, how finely it is rounded."""

from typing import Any

import jax.numpy as jnp
import numpy as np

WIDE = frozenset({"float64", "complex128", "int64", "uint64"})  # what JAX narrows where x64 is off


def is_float(dtype) -> bool:
    """Whether a dtype is a real floating one (float8 to float64; not complex, not a PRNG key)."""
    return jnp.issubdtype(dtype, jnp.floating)


def is_wide(dtype) -> bool:
    """Whether JAX has a dtype only where x64 is on."""
    return getattr(dtype, "name", None) in WIDE


def in_float64(dtype) -> Any:
    """The double precision of a floating or complex dtype; any other as it is."""
    if is_float(dtype):
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if jnp.issubdtype(dtype, jnp.complexfloating) else dtype


def unit_roundoff(dtype) -> float:
    """u: half the distance from 1 to the next number of the dtype (2^-24 in float32, 2^-8 in bfloat16)."""
    return float(jnp.finfo(dtype).eps) / 2


def dtype_of(atom) -> Any:
    """The dtype of a variable or of a literal of a program."""
    return atom.aval.dtype

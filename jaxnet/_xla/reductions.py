"""Sums over whole trees, in the forms that XLA compiles to fast code."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x in float32 or more, to be squared: float16 holds no square above 256²."""
    return x.astype(np.promote_types(x.dtype, np.float32))


def norm(tree: Any) -> Float[Array, ""]:
    """√Σ x² over all leaves.

    Down the columns first, side by side: a CPU takes a sum of everything one addition after the other.
    """
    leaves = map(at_least_float32, jax.tree.leaves(tree))
    return jnp.sqrt(sum(jax.lax.optimization_barrier((x * x).sum(axis=0)).sum() for x in leaves))


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number of the floating arrays is finite: 0 * inf and 0 * NaN are NaN, and sums are fast.

    Scalars are left out: in an optimizer's state they are counters and records, which may begin at infinity.
    """
    arrays = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating) and x.ndim > 0]
    return functools.reduce(operator.and_, (jnp.isfinite(jnp.sum(0 * x)) for x in arrays), jnp.array(True))

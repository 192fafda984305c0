"""Random initialisation: W = randn * s and b = 0.

With zeros all hidden units of a layer stay equal for ever; a random start breaks the symmetry. The scale s keeps the
activations of a wide layer from saturating.

Source: the lecture notes (NOTES.md), section 10.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, PRNGKeyArray

from jaxnet import checks
from jaxnet._xla import memory
from jaxnet._xla.compile import jit_quickly
from jaxnet.mlp import MLP, Layer, Params

SCHEMES = {  # s, the standard deviation of W's entries, from n and n_prev
    "he": lambda n, n_prev: (2 / n_prev) ** 0.5,  # He et al. 2015, arXiv 1502.01852
    "xavier": lambda n, n_prev: (2 / (n + n_prev)) ** 0.5,  # Glorot and Bengio 2010
    "lecun": lambda n, n_prev: (1 / n_prev) ** 0.5,  # LeCun et al. 1998
    "zeros": lambda n, n_prev: 0.0,  # the notes' counter-example: all hidden units stay equal
}


def init(net: MLP, key: PRNGKeyArray | Array, scheme: str | float = "he", dtype: DTypeLike = jnp.float32) -> Params:
    """Return params with W = randn * s and b = 0 (the notes' section 10).

    Args:
        net: the network.
        key: a JAX random key; consumed here.
        scheme: where s comes from: "he" √(2/n_prev), "xavier" √(2/(n + n_prev)), "lecun" √(1/n_prev), "zeros",
            or s itself, a positive float such as the notes' 0.01.
        dtype: the params' floating dtype.

    Raises:
        ValueError: an unknown scheme, a scale that is not positive or that dtype cannot hold, or float64 while JAX's
            64-bit is off.
        TypeError: key is not a single random key, or dtype not a floating one.
        MemoryError: the device cannot hold the params.

    >>> jaxnet.init(jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jax.random.key(0))
    (Layer(W=float32[4,2], b=float32[4,1]), Layer(W=float32[1,4], b=float32[1,1]))
    """
    checks.mlp(net)
    checks.random_key(key)
    dtype = checks.float_dtype("dtype", dtype)
    scheme = checks.init_scheme(scheme, SCHEMES, dtype)
    scale = SCHEMES[scheme] if isinstance(scheme, str) else lambda n, n_prev: scheme
    keys = _keys(len(net.sizes) - 1, key)
    with memory.out_of_memory(lambda: _needs(net, dtype)):
        return jax.block_until_ready(
            tuple(
                _layer(_Shape(n, n_prev, dtype, zeros=scheme == "zeros"), layer_key, scale(n, n_prev))
                for layer_key, n_prev, n in zip(keys, net.sizes[:-1], net.sizes[1:], strict=True)
            )
        )


def shapes(net: MLP, dtype: np.dtype) -> Params:
    """The params as shapes alone."""
    shape: Any = lambda *lengths: jax.ShapeDtypeStruct(lengths, dtype)
    return tuple(Layer(shape(n, n_prev), shape(n, 1)) for n_prev, n in itertools.pairwise(net.sizes))


def _needs(net: MLP, dtype: np.dtype) -> str:
    return f"the params of sizes {net.sizes} take {memory.size(shapes(net, dtype))} in {dtype}; narrow the network"


@partial(jax.jit, static_argnums=0)
def _keys(count, key) -> tuple[PRNGKeyArray, ...]:
    """One key a layer, in one program: taking an array of keys apart would be a second one."""
    return tuple(jax.random.split(key, count))


class _Shape(NamedTuple):
    """What is static of a layer: layers alike share a compiled program, whatever their network."""

    n: int
    n_prev: int
    dtype: np.dtype
    zeros: bool


@jit_quickly
def _layer(shape: _Shape, key, scale) -> Layer:
    """W = randn * scale, b = 0. Zeros are not drawn: randn * 0 would leave every other entry at -0.0."""
    n, n_prev, dtype, zeros = shape
    b = jnp.zeros((n, 1), dtype)
    if zeros:
        return Layer(jnp.zeros((n, n_prev), dtype), b)
    return Layer(jax.random.normal(key, (n, n_prev), dtype) * jnp.asarray(scale, dtype), b)

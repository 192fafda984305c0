"""How the three matrix products of a layer are computed.

    Z = W A_prev      dW = dZ A_prevᵀ      dA_prev = Wᵀ dZ

Legend: W (n, n_prev), A_prev (n_prev, m), Z and dZ (n, m). A policy is a triple of functions behind these plain forms:

    "float32", "float64"   in the operands' own dtype, never a lower one ("float64" is refused for others)
    "tf32"                 float32, with operands that a GPU's tensor cores may round to TF32 (elsewhere: float32)
    "bfloat16"             operands rounded to bfloat16, sums in float32; params, biases and updates stay float32

What "bfloat16" buys: matrix units (tensor cores, AMX, AVX-512 BF16). On two cores with AVX-512 BF16 a product of
1024 x 1024 by 1024 x 512 took 3.6 ms instead of 9.5. jax.grad leaves them again, for it multiplies bfloat16 by float32
cotangents; a backward pass by hand rounds dZ too. On a CPU, XLA takes its fast path only for operands laid out as A B,
and folds a plain transpose back into the product; `_turned` lays the operand out in a way that it cannot fold.
A compiler that knows no such product is found out by asking it once; it gets the rounded operands in float32.

Squares, of which norms are made, are taken in float32 or more whatever the policy: `roomy`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, BFloat16, Float

EXACT = jax.lax.Precision.HIGHEST  # without it a GPU rounds float32 operands to TF32, a TPU to bfloat16
FEW = 16  # entries of dW that are better summed one by one: 2-4-1 on 400 examples takes 3.1 µs a step instead of 5.2
PLATFORMS = {"cpu": ("cpu",), "gpu": ("cuda", "rocm"), "tpu": ("tpu",)}  # and what JAX lowers their programs for
BLOCK = 16  # rows that a turned operand is cut into; any number that divides would keep XLA from folding it


class Products(NamedTuple):
    """The three products of a layer: Z = forward(W, A_prev), dW = weights(dZ, A_prev), dA_prev = inputs(W, dZ)."""

    forward: Callable[[Array, Array], Array]
    weights: Callable[[Array, Array], Array]
    inputs: Callable[[Array, Array], Array]


def plain(precision: jax.lax.Precision) -> Products:
    """The products as they stand in the notes, in the operands' own dtype."""
    return Products(
        forward=lambda W, A_prev: jnp.matmul(W, A_prev, precision=precision),
        weights=lambda dZ, A_prev: (
            _few_sums(dZ, A_prev)
            if dZ.shape[0] * A_prev.shape[0] <= FEW
            else jnp.matmul(dZ, A_prev.T, precision=precision)
        ),
        inputs=lambda W, dZ: jnp.matmul(_written_out(W), dZ, precision=precision),
    )


def _written_out(W):
    """Wᵀ; on a CPU as an array of its own, for XLA hands a product that reads W across to a slower library."""
    return jax.lax.platform_dependent(W, cpu=lambda W: jax.lax.optimization_barrier(W.T), default=jnp.transpose)


def _few_sums(dZ, A_prev):
    """dZ A_prevᵀ entry by entry. XLA does a product with few results and many terms one by one, a sum by lanes."""
    return (dZ[:, None, :] * A_prev[None, :, :]).sum(axis=2)


def roomy(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x in float32 or more, to be squared: float16 holds no square above 256²."""
    return x.astype(np.promote_types(x.dtype, np.float32))


def _narrow(A: Float[Array, "n k"]) -> BFloat16[Array, "n k"]:
    return A.astype(jnp.bfloat16)


def _product(A: BFloat16[Array, "n k"], B: BFloat16[Array, "k m"], dtype) -> Float[Array, "n m"]:
    sums = np.promote_types(dtype, np.float32)
    narrow = partial(jnp.matmul, preferred_element_type=sums)
    widened = dict.fromkeys(_refusing(), partial(_widened_product, dtype=sums))
    C = jax.lax.platform_dependent(A, B, default=narrow, **widened) if widened else narrow(A, B)
    return C.astype(dtype)


def _widened_product(A, B, dtype):
    """The same numbers, slower: float32 holds the product of two bfloat16 exactly."""
    return jnp.matmul(A.astype(dtype), B.astype(dtype), precision=EXACT)


@cache
def _refusing() -> tuple[str, ...]:
    """The platforms at hand whose compiler refuses a product of bfloat16 that sums in float32; asked once."""
    return tuple(lowered for name in PLATFORMS for lowered in PLATFORMS[name] if not _multiplies_bfloat16(name))


def _multiplies_bfloat16(platform: str) -> bool:
    """Whether it does, as far as can be told; a platform that is not at hand need not."""
    try:
        device = jax.devices(platform)[0]
    except RuntimeError:
        return True
    A = jax.ShapeDtypeStruct((BLOCK, BLOCK), jnp.bfloat16, sharding=jax.sharding.SingleDeviceSharding(device))
    try:
        jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32)).lower(A, A).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _turned(A: BFloat16[Array, "n k"]) -> BFloat16[Array, "k n"]:
    """Aᵀ; on a CPU in an order of its own, block by block, that the product cannot undo."""
    return jax.lax.platform_dependent(A, cpu=_turned_by_blocks, default=jnp.transpose)


def _turned_by_blocks(A):
    n, k = A.shape
    filled = jnp.pad(A, ((0, -n % BLOCK), (0, 0)))
    blocks = filled.reshape(-1, BLOCK, k).transpose(2, 0, 1)  # (k, blocks, BLOCK)
    return blocks.reshape(k, -1)[:, :n]


NARROW = Products(
    forward=lambda W, A_prev: _product(_narrow(W), _narrow(A_prev), W.dtype),
    weights=lambda dZ, A_prev: _product(_narrow(dZ), _turned(_narrow(A_prev)), dZ.dtype),
    inputs=lambda W, dZ: _product(_turned(_narrow(W)), _narrow(dZ), W.dtype),
)

PRECISIONS = {
    "float32": plain(EXACT),
    "float64": plain(EXACT),
    "tf32": plain(jax.lax.Precision.HIGH),
    "bfloat16": NARROW,
}

"""How the three matrix products of a layer are computed: the policies of `precision=`.

    dot(W, A_prev) = W A_prev      dot.nt(dZ, A_prev, W) = dZ A_prevᵀ      dot.tn(W, dZ) = Wᵀ dZ

Legend: W (n, n_prev), A_prev (n_prev, m), Z and dZ (n, m); n and t as in BLAS: as it is, transposed. dW comes out split
over a mesh as W is; what moves between devices is in split.py.

    "float32", "float64"   in the operands' own dtype, never a lower one ("float64" is refused for others)
    "tf32"                 float32, with operands that a GPU's tensor cores may round to TF32 (elsewhere: float32)
    "bfloat16"             operands rounded to bfloat16, sums in float32; params, biases and updates stay float32

"bfloat16" buys matrix units (tensor cores, AMX, AVX-512 BF16). jax.grad leaves them again, for it multiplies bfloat16
by float32 cotangents; a backward pass by hand rounds dZ too. On a CPU with such units, XLA takes its fast path only for
operands laid out as A B, and folds a plain transpose back into the product: `_transposed` lays the operand out in a way
that it cannot fold. On a CPU without them, and for a compiler that refuses the product, the rounded operands are
multiplied in float32: the same numbers at float32's speed.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnet._xla.split import over_mesh

EXACT = jax.lax.Precision.HIGHEST  # without it a GPU rounds float32 operands to TF32, a TPU to bfloat16
SMALL_PRODUCT = 16  # entries of dW, up to which they are summed one by one
PLATFORMS = {"cpu": ("cpu",), "gpu": ("cuda", "rocm"), "tpu": ("tpu",)}  # and what JAX lowers their programs for
BLOCK = 16  # rows that a transposed operand is cut into; any number that divides would keep XLA from folding it
BFLOAT16_UNITS = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them in a processor's flags (x86, ARM)


class Dot(NamedTuple):
    """The three products of a layer, `dot(A, B)` = A B, `dot.nt(A, B, like)` = A Bᵀ and `dot.tn(A, B)` = Aᵀ B.

    `dot.rounded(A)` is an operand as the products round it: what has to move between devices moves so.
    """

    nn: Callable[[Array, Array], Array]
    nt: Callable[..., Array]
    tn: Callable[[Array, Array], Array]
    rounded: Callable[[Array], Array] = lambda A: A

    def __call__(self, A: Float[Array, "n k"], B: Float[Array, "k m"]) -> Float[Array, "n m"]:
        """A B."""
        return self.nn(A, B)


def policy(precision: str) -> Dot:
    """The products of a name of `POLICIES`, on one device or on those of a mesh."""
    return over_mesh(POLICIES[precision])


def _plain(precision: jax.lax.Precision) -> Dot:
    """The products as they stand in the notes, in the operands' own dtype."""
    matmul = partial(jnp.matmul, precision=precision)

    def nt(A, B):
        return _entry_by_entry(A, B) if A.shape[0] * B.shape[0] <= SMALL_PRODUCT else matmul(A, B.T)

    return Dot(matmul, nt, lambda A, B: matmul(_materialised_transpose(A), B))


def _materialised_transpose(A):
    """Aᵀ; on a CPU as an array of its own, for XLA hands a product that reads A across to a slower library."""
    return jax.lax.platform_dependent(A, cpu=lambda A: jax.lax.optimization_barrier(A.T), default=jnp.transpose)


def _entry_by_entry(A, B):
    """A Bᵀ as a sum over products of rows: XLA adds the terms of a small matmul one by one, those of a sum by lanes."""
    return (A[:, None, :] * B[None, :, :]).sum(axis=2)


def _bfloat16() -> Dot:
    """The products of operands rounded to bfloat16."""

    def nn(A, B):
        return _product(A, B, B.dtype)  # A may be rounded already

    def nt(A, B):
        return _product(A, B, A.dtype, transpose_b=True)

    def tn(A, B):
        return _product(A, B, A.dtype, transpose_a=True)

    return Dot(nn, nt, tn, lambda A: _rounded(A, jnp.bfloat16))


def _product(A, B, dtype, transpose_a=False, transpose_b=False) -> Float[Array, "n m"]:
    """The product by the platform's matrix units, or in float32 where it has none."""
    sums = np.promote_types(dtype, np.float32)

    def by_units(A, B):
        A, B = A.astype(jnp.bfloat16), B.astype(jnp.bfloat16)
        A, B = _transposed(A) if transpose_a else A, _transposed(B) if transpose_b else B
        return jnp.matmul(A, B, preferred_element_type=sums)

    def in_float32(A, B):
        dot = POLICIES["float32"]
        dot = dot.tn if transpose_a else dot.nt if transpose_b else dot
        return dot(_rounded(A, sums), _rounded(B, sums))

    slow = dict.fromkeys(_without_units(), in_float32)
    C = jax.lax.platform_dependent(A, B, default=by_units, **slow) if slow else by_units(A, B)
    return C.astype(dtype)


def _rounded(A, dtype):
    """A rounded to bfloat16 and kept in that dtype; float32 holds the product of two such numbers exactly."""
    return jax.lax.reduce_precision(A, exponent_bits=8, mantissa_bits=7).astype(dtype)


@cache
def _without_units() -> tuple[str, ...]:
    """The platforms here that multiply bfloat16 no faster than float32, or refuse to; found out once."""
    return tuple(lowered for name in PLATFORMS for lowered in PLATFORMS[name] if not _multiplies_bfloat16(name))


def _multiplies_bfloat16(platform: str) -> bool:
    """Whether it does, as far as can be found out; for a platform that is absent it is assumed."""
    try:
        device = jax.local_devices(backend=platform)[0]
    except RuntimeError:
        return True
    if platform == "cpu" and not cpu_has_bfloat16_units():
        return False
    A = jax.ShapeDtypeStruct((BLOCK, BLOCK), jnp.bfloat16, sharding=jax.sharding.SingleDeviceSharding(device))
    try:
        jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32)).lower(A, A).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def cpu_has_bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor's flags name units for bfloat16; True where they cannot be read, as outside Linux."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return True
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return not flags or bool(flags & BFLOAT16_UNITS)


def _transposed(A):
    """Aᵀ of bfloat16; on a CPU laid out block by block, in an order that the product cannot undo."""
    return jax.lax.platform_dependent(A, cpu=_transposed_by_blocks, default=jnp.transpose)


def _transposed_by_blocks(A):
    n, k = A.shape
    padded = jnp.pad(A, ((0, -n % BLOCK), (0, 0)))
    blocks = padded.reshape(-1, BLOCK, k).transpose(2, 0, 1)  # (k, blocks, BLOCK)
    return blocks.reshape(k, -1)[:, :n]


POLICIES = {
    "float32": _plain(EXACT),
    "float64": _plain(EXACT),
    "tf32": _plain(jax.lax.Precision.HIGH),
    "bfloat16": _bfloat16(),
}

"""How the three matrix products of a layer are computed.

    Z = W A_prev      dW = dZ A_prevᵀ      dA_prev = Wᵀ dZ

Legend: W (n, n_prev), A_prev (n_prev, m), Z and dZ (n, m). A policy is a triple of functions behind these plain
forms; "float32" and "float64" multiply in the operands' own dtype and never in a lower one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

EXACT = jax.lax.Precision.HIGHEST  # without it a GPU rounds float32 operands to TF32, a TPU to bfloat16


class Products(NamedTuple):
    """The three products of a layer: Z = forward(W, A_prev), dW = weights(dZ, A_prev), dA_prev = inputs(W, dZ)."""

    forward: Callable[[Array, Array], Array]
    weights: Callable[[Array, Array], Array]
    inputs: Callable[[Array, Array], Array]


PLAIN = Products(
    forward=lambda W, A_prev: jnp.matmul(W, A_prev, precision=EXACT),
    weights=lambda dZ, A_prev: jnp.matmul(dZ, A_prev.T, precision=EXACT),
    inputs=lambda W, dZ: jnp.matmul(W.T, dZ, precision=EXACT),
)

PRECISIONS = {"float32": PLAIN, "float64": PLAIN}

"""Dropout: in each training step a layer's units stay out at random, and those that are left count for them.

    D[l] is 0 with probability p, else 1/(1 - p), drawn anew for each unit and example: its mean is 1
    Z[l+1] = W[l+1] (D[l] * A[l]) + b[l+1],    dW[l+1] = dZ[l+1] (D[l] * A[l])ᵀ,    dA[l] = D[l] * (W[l+1]ᵀ dZ[l+1])

Prediction drops nothing. Legend: A[l], its mask D[l] and dA[l] are (n, m); p is the rate of layer l in net.dropout.

Source: N. Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 15 (2014); with
the factor 1/(1 - p) in training in place of 1 - p in prediction ("inverted").
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnet.mlp import MLP

Mask = Float[Array, "n m"] | None  # None: nothing is dropped


def masks(net: MLP, key: PRNGKeyArray | Array | None, X: Float[Array, "n_x m"]) -> tuple[Mask, ...]:
    """Return D[0], ..., D[L] for the m examples of X: None without a key, and where the layer's rate is 0."""
    if key is None or not net.drops:
        return (None,) * len(net.sizes)
    layers = zip(jax.random.split(key, len(net.rates)), net.rates, net.sizes[1:], strict=True)
    return (None, *(_mask(key, rate, (n, X.shape[1]), X.dtype) if rate else None for key, rate, n in layers))


def _mask(key, rate, shape, dtype):
    return jnp.where(jax.random.bernoulli(key, 1 - rate, shape), 1 / (1 - rate), 0).astype(dtype)


def dropped(A: Float[Array, "n m"], D: Mask) -> Float[Array, "n m"]:
    """D * A; its own derivative, for dA = D * d(D * A)."""
    return A if D is None else D * A

"""What an example costs, beside its derivative with respect to Z[L].

Legend: Z = Z[L], A = A[L] = ŷ, Y the targets, all (n_y, m); ℓ is a row (1, m), one number an example.

    J = 1/m Σ_i ℓ_i,  or with example weights  J = Σ_i w_i ℓ_i / Σ_i w_i

The factor 1/m, the weights and the masks of padded examples enter in one place, `share`. Cross-entropies are
computed from Z, never from the logarithm of a probability, so that they stay finite where A rounds to 0 or 1.

Source: the lecture notes, section 8 (J, and dZ[2] = A[2] - Y).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.activations import ACTIVATIONS, softplus

LOSSES = ("cross_entropy", "squared_error")


class Loss(NamedTuple):
    """ℓ of every example and its derivative: ℓ = apply(Z, A, Y), ∂ℓ/∂Z = derivative(Z, A, Y)."""

    apply: Callable[[Array, Array, Array], Array]
    derivative: Callable[[Array, Array, Array], Array]


def binary_cross_entropy(
    Z: Float[Array, "n_y m"], A: Float[Array, "n_y m"], Y: Float[Array, "n_y m"]
) -> Float[Array, "1 m"]:
    """ℓ = -Σ (Y ln A + (1 - Y) ln(1 - A)) for A = σ(Z), by ln A = -softplus(-Z) and ln(1 - A) = -softplus(Z)."""
    return (Y * softplus(-Z) + (1 - Y) * softplus(Z)).sum(axis=0, keepdims=True)


def binary_cross_entropy_derivative(
    Z: Float[Array, "n_y m"], A: Float[Array, "n_y m"], Y: Float[Array, "n_y m"]
) -> Float[Array, "n_y m"]:
    """∂ℓ/∂Z = A - Y."""
    return A - Y


def softmax_cross_entropy(
    Z: Float[Array, "n_y m"], A: Float[Array, "n_y m"], Y: Float[Array, "n_y m"]
) -> Float[Array, "1 m"]:
    """ℓ = -Σ_k Y_k ln A_k for A = softmax(Z); every column of Y sums to one.

    ln A = Z - ln Σ e^Z, and shifting a column of Z by its largest entry changes neither A nor ℓ.
    """
    Z = Z - jax.lax.stop_gradient(Z.max(axis=0, keepdims=True))
    return jnp.log(jnp.exp(Z).sum(axis=0, keepdims=True)) - (Y * Z).sum(axis=0, keepdims=True)


def softmax_cross_entropy_derivative(
    Z: Float[Array, "n_y m"], A: Float[Array, "n_y m"], Y: Float[Array, "n_y m"]
) -> Float[Array, "n_y m"]:
    """∂ℓ/∂Z = A - Y."""
    return A - Y


def squared_error(Z: Float[Array, "n_y m"], A: Float[Array, "n_y m"], Y: Float[Array, "n_y m"]) -> Float[Array, "1 m"]:
    """ℓ = 1/2 Σ_k (A_k - Y_k)²."""
    return 0.5 * ((A - Y) ** 2).sum(axis=0, keepdims=True)


def squared_error_derivative(output: str) -> Callable[[Array, Array, Array], Array]:
    """∂ℓ/∂Z = (A - Y) g'(Z), for the output activation g of that name."""
    g = ACTIVATIONS[output]
    return lambda Z, A, Y: (A - Y) * g.derivative(Z, A)


def loss_of(loss: str, output: str) -> Loss:
    """Return the loss of that name for an output activation; validation.py has let only these pairs pass."""
    match loss, output:
        case "cross_entropy", "sigmoid":
            return Loss(binary_cross_entropy, binary_cross_entropy_derivative)
        case "cross_entropy", "softmax":
            return Loss(softmax_cross_entropy, softmax_cross_entropy_derivative)
        case _:
            return Loss(squared_error, squared_error_derivative(output))


def share(values: Float[Array, "n m"], weights: Float[Array, " m"] | None = None) -> Float[Array, "n m"]:
    """Scale every example's column to its share of the mean: by 1/m, or by w_i / Σ w (0 if all weights are 0).

    The cost is the sum of the shares of ℓ; its derivative with respect to Z[L] is the share of ∂ℓ/∂Z.
    """
    if weights is None:
        return values * (1 / values.shape[1])
    total = weights.sum()
    return values * (weights / jnp.where(total > 0, total, 1)).astype(values.dtype)[None, :]

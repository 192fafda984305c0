"""What an example costs, beside its derivative with respect to Z[L].

Legend: Z = Z[L], A = A[L] = ŷ, Y the targets, all (n_y, m); ℓ is a row (1, m), one number an example.

    J = 1/m Σ_i ℓ_i,  or with example weights  J = Σ_i w_i ℓ_i / Σ_i w_i

and with `MLP(l2=λ)` a penalty on large weights, λ/2 Σ_l ‖W[l]‖², is in J beside it. The factor 1/m, the weights and the
masks of padded examples enter in one place, `mean_weights`. Cross-entropies are
computed from Z, never from the logarithm of a probability, so that they stay finite where A rounds to 0 or 1.

Source: the lecture notes (NOTES.md), section 8 (J, and dZ[2] = A[2] - Y).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet._xla.reductions import at_least_float32
from jaxnet.activations import Activation, named, softplus

Outputs = Float[Array, "n_y m"]
Row = Float[Array, "1 m"]
LOSSES = ("cross_entropy", "squared_error")
ELSEWHERE = {"mse": "squared_error", "log_loss": "cross_entropy", "bce": "cross_entropy"}  # what others call them


class Loss(NamedTuple):
    """ℓ of every example and its derivative: ℓ = loss(Z, A, Y), ∂ℓ/∂Z = loss.derivative(Z, A, Y)."""

    apply: Callable[[Array, Array, Array], Array]
    derivative: Callable[[Array, Array, Array], Array]

    def __call__(self, Z: Outputs, A: Outputs, Y: Outputs) -> Row:
        """ℓ, one number an example."""
        return self.apply(Z, A, Y)


def binary_cross_entropy(Z: Outputs, A: Outputs, Y: Outputs) -> Row:
    """ℓ = -Σ (Y ln A + (1 - Y) ln(1 - A)) for A = σ(Z), by ln A = -softplus(-Z) and ln(1 - A) = -softplus(Z)."""
    return (Y * softplus(-Z) + (1 - Y) * softplus(Z)).sum(axis=0, keepdims=True)


def binary_cross_entropy_derivative(Z: Outputs, A: Outputs, Y: Outputs) -> Outputs:
    """∂ℓ/∂Z = A - Y."""
    return A - Y


def softmax_cross_entropy(Z: Outputs, A: Outputs, Y: Outputs) -> Row:
    """ℓ = -Σ_k Y_k ln A_k for A = softmax(Z); every column of Y sums to one.

    ln A = Z - ln Σ e^Z, and shifting a column of Z by its largest entry changes neither A nor ℓ.
    """
    Z = Z - jax.lax.stop_gradient(Z.max(axis=0, keepdims=True))
    return jnp.log(jnp.exp(Z).sum(axis=0, keepdims=True)) - (Y * Z).sum(axis=0, keepdims=True)


def softmax_cross_entropy_derivative(Z: Outputs, A: Outputs, Y: Outputs) -> Outputs:
    """∂ℓ/∂Z = A - Y."""
    return A - Y


def squared_error(Z: Outputs, A: Outputs, Y: Outputs) -> Row:
    """ℓ = 1/2 Σ_k (A_k - Y_k)²."""
    return 0.5 * ((A - Y) ** 2).sum(axis=0, keepdims=True)


def squared_error_derivative(Z: Outputs, A: Outputs, Y: Outputs, g: Activation) -> Outputs:
    """∂ℓ/∂Z = (A - Y) g'(Z), for the output activation g."""
    return (A - Y) * g.derivative(Z, A)


def loss_of(loss: str, output: str | Activation) -> Loss:
    """Return the loss of that name for an output activation; `MLP` lets only these pairs pass."""
    match loss, output:
        case "cross_entropy", "sigmoid":
            return Loss(binary_cross_entropy, binary_cross_entropy_derivative)
        case "cross_entropy", "softmax":
            return Loss(softmax_cross_entropy, softmax_cross_entropy_derivative)
        case _:
            return Loss(squared_error, partial(squared_error_derivative, g=named(output)))


def penalty(l2: float, params: Any) -> Float[Array, ""]:
    """λ/2 Σ_l ‖W[l]‖²: the biases are free."""
    squares = [(at_least_float32(W) ** 2).sum().astype(W.dtype) for W, _ in params]
    return 0.5 * l2 * jnp.stack(squares).sum()


def penalty_derivative(l2: float, W: Float[Array, "n n_prev"]) -> Float[Array, "n n_prev"]:
    """∂/∂W[l] = λ W[l]."""
    return l2 * W


def mean_weights(weights: Float[Array, " m"] | None, Y: Outputs) -> Row | float:
    """What each example counts in a mean over the m of Y: 1/m, or the row w_i / Σ w.

    It is 0 if all weights are 0, and NaN if their sum is so large that it has no inverse.
    """
    if weights is None:
        return 1 / Y.shape[1]
    weights = at_least_float32(weights)
    total = weights.sum()
    total = jnp.where(total > 1 / jnp.finfo(total.dtype).tiny, jnp.nan, jnp.where(total == 0, 1, total))
    return (weights / total).astype(Y.dtype)[None, :]

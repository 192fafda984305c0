"""One correct backward pass cut into named steps, so that a mutant can replace one of them.

Legend (l = 1..L counts layers, the input is not counted, columns are examples):

    X = A[0] (n_x, m)    Y (n_y, m), one-hot    W[l] (n, n_prev)    b[l] (n, 1)
    Z[l] = W[l] A[l-1] + b[l] (n, m)    A[l] = tanh(Z[l])    A[L] = softmax(Z[L])
    J = 1/m Σ_i -log A[L] at the label of example i
    dZ[L] = A[L] - Y    dW[l] = 1/m dZ[l] A[l-1]ᵀ    db[l] = 1/m Σ_i dZ[l]
    dZ[l] = W[l+1]ᵀ dZ[l+1] * g[l]'(Z[l])

Written from section 8 of the lecture notes, 1/m where the notes have it. Nothing of jaxnet is imported: the pass
also tests checkers that are not ours.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

WEIGHT_DECAY = 0.1
LEAKY_SLOPE = 0.1
KEEP = 0.8  # the share of units that dropout leaves


class LayerContext(NamedTuple):
    """What a step may use in layer l: the lists Z and A are indexed by layer, Z[0] = A[0] = X."""

    layer: int
    L: int
    m: int
    W: jax.Array
    Z: list
    A: list


# ---------------------------------------------------------------- the steps


def tanh(layer, Z):
    """A[l] = tanh(Z[l])."""
    return jnp.tanh(Z)


def tanh_derivative(here, Z, A):
    """g[l]'(Z[l]) = 1 - A[l]²."""
    return 1 - A * A


def delta(A, Y):
    """dZ[L] = A[L] - Y."""
    return A - Y


def dW(here, dZ):
    """dW[l] = 1/m dZ[l] A[l-1]ᵀ."""
    return dZ @ here.A[here.layer - 1].T / here.m


def db(here, dZ):
    """db[l] = 1/m Σ_i dZ[l]."""
    return jnp.sum(dZ, axis=1, keepdims=True) / here.m


def dA(here, dZ):
    """dA[l-1] = W[l]ᵀ dZ[l]."""
    return here.W.T @ dZ


def finish(params, gradients):
    """The gradients as they are, a list dW[1], db[1], dW[2], ... that a mutant may change at the end."""
    return gradients


@dataclasses.dataclass(frozen=True)
class Steps:
    """The replaceable steps of the backward pass (and the activation, which its derivative must match)."""

    activation: Callable = tanh
    activation_derivative: Callable = tanh_derivative
    delta: Callable = delta
    dW: Callable = dW  # noqa: N815 - the notes' names
    db: Callable = db
    dA: Callable = dA  # noqa: N815
    finish: Callable = finish


def forward(params, X, activation=tanh):
    """Z[0..L] and A[0..L]; the output stays linear in Z[L], its softmax is A[L]."""
    Z, A = [X], [X]
    for layer, (W, b) in enumerate(params, start=1):
        Z.append(W @ A[-1] + b)
        A.append(activation(layer, Z[-1]) if layer < len(params) else jax.nn.softmax(Z[-1], axis=0))
    return Z, A


def backward(steps: Steps, params, X, Y):
    """The notes' six formulas, layer by layer from L down; the gradients have params' own tree."""
    Z, A = forward(params, X, steps.activation)
    L, m = len(params), X.shape[1]
    dZ = steps.delta(A[L], Y)
    gradients = []
    for layer in range(L, 0, -1):
        here = LayerContext(layer, L, m, params[layer - 1][0], Z, A)
        gradients = [steps.dW(here, dZ), steps.db(here, dZ), *gradients]
        if layer > 1:
            below = here._replace(layer=layer - 1)
            dA_prev = steps.dA(here, dZ)
            dZ = dA_prev * steps.activation_derivative(below, Z[layer - 1], A[layer - 1])
    gradients = steps.finish(jax.tree.leaves(params), gradients)
    return jax.tree.unflatten(jax.tree.structure(params), gradients)


def gradient_of(steps: Steps = Steps()):
    """The function (params, X, Y) -> gradients that these steps make."""
    return lambda params, X, Y: backward(steps, params, X, Y)


CORRECT = gradient_of()


# ---------------------------------------------------------------- losses


def example_losses(params, X, Y, activation=tanh):
    """ℓ_i = log Σ exp Z[L]_i - Z[L]_i at the label, (m,)."""
    Z, _ = forward(params, X, activation)
    return jax.nn.logsumexp(Z[-1], axis=0) - jnp.sum(Y * Z[-1], axis=0)


def plain_loss(params, X, Y):
    """J = 1/m Σ ℓ_i."""
    return jnp.mean(example_losses(params, X, Y))


def sum_loss(params, X, Y):
    """Σ ℓ_i, without the 1/m."""
    return jnp.sum(example_losses(params, X, Y))


def decayed_loss(params, X, Y):
    """J + λ/2 Σ_l ||W[l]||²."""
    return plain_loss(params, X, Y) + WEIGHT_DECAY / 2 * sum(jnp.sum(W * W) for W, _ in params)


def padded_loss(params, X, Y):
    """The mean over the real examples; a padded one is a column of zeros in Y."""
    real = jnp.sum(Y, axis=0)
    return jnp.sum(real * example_losses(params, X, Y)) / jnp.sum(real)


def padded_delta(A, Y):
    """(A - Y) on the real examples, 0 on the padded ones; m/m_real turns the steps' 1/m into 1/m_real."""
    real = jnp.sum(Y, axis=0, keepdims=True)
    return (A - Y) * real * (Y.shape[1] / jnp.sum(real))


def dropout_mask(Z):
    """One mask for all calls, 0 or 1/keep: a dropped unit neither fires nor learns."""
    return jax.random.bernoulli(jax.random.key(7), KEEP, Z.shape).astype(Z.dtype) / KEEP


def dropout(layer, Z):
    """A[l] = tanh(Z[l]) * mask."""
    return jnp.tanh(Z) * dropout_mask(Z)


def dropout_derivative(here, Z, A):
    """tanh'(Z[l]) * mask."""
    return (1 - jnp.tanh(Z) ** 2) * dropout_mask(Z)


def leaky_relu(layer, Z):
    """Z where positive, slope * Z elsewhere."""
    return jnp.where(Z > 0, Z, LEAKY_SLOPE * Z)


def leaky_derivative(here, Z, A):
    """1 where positive, the slope elsewhere."""
    return jnp.where(Z > 0, jnp.ones_like(Z), jnp.full_like(Z, LEAKY_SLOPE))


def dropout_loss(params, X, Y):
    """J with the fixed dropout mask."""
    return jnp.mean(example_losses(params, X, Y, dropout))


def leaky_loss(params, X, Y):
    """J with leaky relu hidden layers."""
    return jnp.mean(example_losses(params, X, Y, leaky_relu))

"""The network in NumPy and float64, whole batches at once, stable far out where tests/oracle.py's loops overflow.

Legend: params is a list of (W, b); X (n_x, m), Y (n_y, m); w (m,) example weights. `error` is how far a computation
that rounds to `eps` may be off, entry by entry: rounding errors of each product, carried forward.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, ndtr

G = {  # g, g' as functions of Z
    "identity": (lambda Z: Z, np.ones_like),
    "sigmoid": (expit, lambda Z: expit(Z) * expit(-Z)),
    "tanh": (np.tanh, lambda Z: 4 * expit(2 * Z) * expit(-2 * Z)),
    "relu": (lambda Z: np.maximum(Z, 0), lambda Z: np.where(np.isnan(Z), Z, Z > 0)),
    "leaky_relu": (
        lambda Z: np.where(Z >= 0, Z, 0.01 * Z),
        lambda Z: np.where(np.isnan(Z), Z, np.where(Z >= 0, 1, 0.01)),
    ),
    "softplus": (lambda Z: np.logaddexp(Z, 0), expit),
    "gelu": (lambda Z: Z * ndtr(Z), lambda Z: ndtr(Z) + Z * np.exp(-Z * Z / 2) / np.sqrt(2 * np.pi)),
    "silu": (lambda Z: Z * expit(Z), lambda Z: expit(Z) * (1 + Z * expit(-Z))),
}


class Pass(NamedTuple):
    """Z and A of every layer, the input's first, and the error of each A."""

    Z: list
    A: list
    error: list


def softmax(Z):
    powers = np.exp(Z - Z.max(axis=0))
    return powers / powers.sum(axis=0)


def forward(net, params, X, eps) -> Pass:
    Zs, As, errors = [X], [X], [eps * np.abs(X)]
    for (W, b), name in zip(params, net.activations, strict=True):
        Z = W @ As[-1] + b
        error = np.abs(W) @ errors[-1] + eps * (np.abs(W) @ np.abs(As[-1]) + np.abs(b))
        if name == "softmax":
            A, error = softmax(Z), np.minimum(1, error.max(axis=0) + eps) * np.ones_like(Z)
        else:
            A = G[name][0](Z)
            error = 1.2 * error + eps * (1 + np.abs(A))  # no slope exceeds 1.2
        Zs.append(Z)
        As.append(A)
        errors.append(error)
    return Pass(Zs, As, errors)


def losses(net, run: Pass, Y, eps):
    """ℓ of each example, and its error."""
    Z, A = run.Z[-1], run.A[-1]
    if net.loss == "squared_error":
        each = 0.5 * ((A - Y) ** 2).sum(axis=0)
    elif net.activations[-1] == "sigmoid":
        each = (Y * np.logaddexp(0, -Z) + (1 - Y) * np.logaddexp(0, Z)).sum(axis=0)
    else:
        top = Z.max(axis=0)
        each = np.log(np.exp(Z - top).sum(axis=0)) - (Y * (Z - top)).sum(axis=0)
    rough = run.error[-1] + run.error[-2].sum(axis=0) + eps * (1 + np.abs(Z))
    return each, (rough * (2 + np.abs(A) + np.abs(Y))).sum(axis=0) + eps * np.abs(each)


def mean_weights(weights, m):
    if weights is None:
        return np.full(m, 1 / m)
    total = weights.sum()
    return weights / (total if total > 0 else 1)


def output_dZ(net, run: Pass, Y):
    """∂ℓ/∂Z[L] of each example, without 1/m."""
    dZ = run.A[-1] - Y
    return dZ * G[net.activations[-1]][1](run.Z[-1]) if net.loss == "squared_error" else dZ


class Gradients(NamedTuple):
    """Of params, (dW, db) of every layer, and of X; or their errors."""

    params: list
    X: np.ndarray


def output_error(net, run: Pass, Y):
    """The error of `output_dZ`; no second derivative exceeds 1."""
    return run.error[-1] * (2 + np.abs(run.A[-1] - Y)) if net.loss == "squared_error" else run.error[-1]


def backward(net, params, run: Pass, dZ, error, eps) -> tuple[Gradients, Gradients]:
    """Gradients summed over the examples, and their errors, for a dZ[L] that may be off by `error`."""
    grads, errors = [], []
    for l in range(len(params), 0, -1):
        (W, _), A_prev, A_error = params[l - 1], run.A[l - 1], run.error[l - 1]
        rough = error + eps * np.abs(dZ)
        grads.append((dZ @ A_prev.T, dZ.sum(axis=1, keepdims=True)))
        errors.append((rough @ np.abs(A_prev).T + np.abs(dZ) @ A_error.T, rough.sum(axis=1, keepdims=True)))
        dA, error = W.T @ dZ, np.abs(W).T @ rough
        if l > 1:
            dZ = dA * G[net.activations[l - 2]][1](run.Z[l - 1])
            error = 1.2 * error + np.abs(dA) * A_error
    return Gradients(grads[::-1], dA), Gradients(errors[::-1], error)


def accuracies(A, Y, weights):
    """The answers that may be given: with several labels an example, a NaN may spoil its label or its example."""
    w = mean_weights(weights, A.shape[1])
    spoilt = np.isnan(A)
    if A.shape[0] == 1 or not np.allclose(Y.sum(axis=0), 1, atol=1e-3):
        right = (A > 0.5) == (Y > 0.5)
        return [(w * (right & ~mask).mean(axis=0)).sum() for mask in (spoilt, spoilt | spoilt.any(axis=0))]
    return [(w * ((A.argmax(axis=0) == Y.argmax(axis=0)) & ~spoilt.any(axis=0))).sum()]

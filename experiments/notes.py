"""The notes' network of two layers, n_x-n-1, as the notes write it down, for NumPy and for jax.numpy alike.

Section 8's six formulas stand here once, with 1/m in dW and db where the notes have it. Legend: X (n_x, m), Y (1, m)
hold examples as columns; W[1] (n, n_x), b[1] (n, 1), W[2] (1, n), b[2] (1, 1); g[1] = tanh, g[2] = σ. `xp` is the
module that computes, numpy or jax.numpy.
"""

import itertools
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np

import jaxnet


def sigmoid(Z, xp: ModuleType = np):
    """σ(Z) = 1 / (1 + e^-Z)."""
    return 1 / (1 + xp.exp(-Z))


def tanh_derivative(Z, A, xp: ModuleType = np):
    """g[1]'(Z) = 1 - tanh²(Z)."""
    return 1 - A * A


def sigmoid_derivative(Z, A, xp: ModuleType = np):
    """g[2]'(Z) = σ(Z) (1 - σ(Z)); taken of Z, for where the notes misprint it A is tanh(Z)."""
    return sigmoid(Z, xp) * (1 - sigmoid(Z, xp))


def gradient(params, X, Y, xp: ModuleType = np, g1_derivative: Callable = tanh_derivative) -> tuple[jaxnet.Layer, ...]:
    """∂J/∂params by the six formulas, line by line; g1_derivative(Z[1], A[1]) stands where the notes have g[1]'."""
    (W1, b1), (W2, b2) = params
    m = X.shape[1]
    Z1 = W1 @ X + b1
    A1 = xp.tanh(Z1)
    Z2 = W2 @ A1 + b2
    A2 = sigmoid(Z2, xp)

    dZ2 = A2 - Y
    dW2 = 1 / m * dZ2 @ A1.T
    db2 = 1 / m * xp.sum(dZ2, axis=1, keepdims=True)
    dZ1 = W2.T @ dZ2 * g1_derivative(Z1, A1, xp)
    dW1 = 1 / m * dZ1 @ X.T
    db1 = 1 / m * xp.sum(dZ1, axis=1, keepdims=True)
    return jaxnet.Layer(dW1, db1), jaxnet.Layer(dW2, db2)


def random_point(
    random: np.random.Generator, sizes: Sequence[int], m: int = 1, W: float = 1.0, b: float = 1.0, X: float = 1.0
) -> tuple[tuple[jaxnet.Layer, ...], np.ndarray]:
    """Params of a network whose biases are not 0, and X (n_x, m): normal numbers in float64 with these std."""
    randn = random.standard_normal
    pairs = itertools.pairwise(sizes)
    params = tuple(jaxnet.Layer(W * randn((n, n_prev)), b * randn((n, 1))) for n_prev, n in pairs)
    return params, X * randn((sizes[0], m))

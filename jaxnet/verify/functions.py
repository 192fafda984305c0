"""What layers compute: g and g' side by side, to recognise what a layer has and what was put in its place."""

import math

import numpy as np


def sigmoid(z):
    """σ, safe from overflow."""
    return 0.5 * (1 + np.tanh(z / 2))


def _normal(z):
    """The standard normal distribution and its density."""
    return (1 + np.vectorize(math.erf, otypes=[float])(z / np.sqrt(2))) / 2, np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def _inner(z):
    """What tanh is taken of in the approximation of gelu, and its derivative."""
    c = np.sqrt(2 / np.pi)
    return c * (z + 0.044715 * z**3), c * (1 + 3 * 0.044715 * z**2)


def softmax(z):
    """Of the entries of a vector."""
    e = np.exp(z - z.max())
    return e / e.sum()


# g and g'
ACTIVATIONS = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "softplus": (lambda z: np.logaddexp(z, 0), sigmoid),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z)))),
    "gelu": (lambda z: z * _normal(z)[0], lambda z: _normal(z)[0] + z * _normal(z)[1]),
    "approximate gelu": (
        lambda z: z / 2 * (1 + np.tanh(_inner(z)[0])),
        lambda z: (1 + np.tanh(_inner(z)[0])) / 2 + z / 2 * (1 - np.tanh(_inner(z)[0]) ** 2) * _inner(z)[1],
    ),
}

# g' written with A = g(Z)
BY_A = {"sigmoid": ("A(1 - A)", lambda A: A * (1 - A)), "tanh": ("1 - A²", lambda A: 1 - A * A)}

"""Four implementations of the predictions and the gradient of J for m examples, from plain numbers to the matrix form.

The notes' sections 3 and 4, for the network 8-16-1, tanh then sigmoid. Legend: X (8, m) and Y (1, m) hold examples as
columns, x and y are one of them.
"""

import functools
import math

import jax
import numpy as np

import jaxnet

NET = jaxnet.MLP((8, 16, 1), ("tanh", "sigmoid"))
NAMES = ("units and examples", "examples", "vmap", "matrix form")
LOOPS = NAMES[:2]


# The loop over units and examples


def unit_by_unit(params, x: list[float]) -> tuple[list[float], list[float]]:
    """a[1] and a[2] of one example."""
    (W1, b1), (W2, b2) = params
    a1 = [math.tanh(sum(map(float.__mul__, w, x)) + b) for w, (b,) in zip(W1, b1, strict=True)]
    a2 = [1 / (1 + math.exp(-sum(map(float.__mul__, w, a1)) - b)) for w, (b,) in zip(W2, b2, strict=True)]
    return a1, a2


def predictions_by_units(params, X) -> np.ndarray:
    """A[2], for i = 1..m."""
    numbers = jax.tree.map(lambda leaf: leaf.tolist(), params)
    return np.array([unit_by_unit(numbers, x)[1] for x in X.T.tolist()]).T


def gradient_by_units(params, X, Y) -> tuple[jaxnet.Layer, ...]:
    """The six formulas, unit by unit, added up for i = 1..m and divided by m."""
    numbers = jax.tree.map(lambda leaf: leaf.tolist(), params)
    (w2,) = numbers[1].W
    dW1, db1, dW2, db2 = ([[0.0] * len(row) for row in leaf] for leaf in jax.tree.leaves(numbers, is_leaf=is_matrix))
    for x, (y,) in zip(X.T.tolist(), Y.T.tolist(), strict=True):
        a1, (a2,) = unit_by_unit(numbers, x)
        dz2 = a2 - y
        db2[0][0] += dz2
        for j, a in enumerate(a1):
            dW2[0][j] += dz2 * a
            dz1 = w2[j] * dz2 * (1 - a * a)
            db1[j][0] += dz1
            for k, x_k in enumerate(x):
                dW1[j][k] += dz1 * x_k
    m = X.shape[1]
    mean = [np.array(leaf) / m for leaf in (dW1, db1, dW2, db2)]
    return jaxnet.Layer(*mean[:2]), jaxnet.Layer(*mean[2:])


def is_matrix(node) -> bool:
    """Whether a node of a tree is a list of rows."""
    return isinstance(node, list)


# The functions of one example, in a loop and lifted


def prediction(params, x):
    """Return ŷ of one example x (n_x,)."""
    return jaxnet.forward(NET, params, x[:, None])[0][:, 0]


def gradient(params, x, y):
    """Return ∂ℓ/∂params of one example."""
    return jaxnet.value_and_grad(NET, params, x[:, None], y[:, None])[1]


def predictions_by_examples(params, X):
    """The compiled function of one example, for i = 1..m."""
    return np.stack([one_prediction(params, x) for x in X.T], axis=1)


def gradient_by_examples(params, X, Y):
    """The mean of the gradients, for i = 1..m."""
    total = jax.tree.map(np.zeros_like, params)
    for x, y in zip(X.T, Y.T, strict=True):
        total = jax.tree.map(np.add, total, one_gradient(params, x, y))
    return jax.tree.map(lambda leaf: leaf / X.shape[1], total)


def gradient_by_vmap(params, X, Y):
    """The mean of the gradients, by vmap."""
    each = jax.vmap(gradient, in_axes=(None, 1, 1))(params, X, Y)
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), each)


def predictions_by_matrices(params, X):
    """All examples as columns."""
    return jaxnet.forward(NET, params, X)[0]


def gradient_by_matrices(params, X, Y):
    """All examples as columns."""
    return jaxnet.value_and_grad(NET, params, X, Y)[1]


one_prediction, one_gradient = jax.jit(prediction), jax.jit(gradient)
EACH_GRADIENT = jax.jit(functools.partial(jaxnet.per_example_grads, NET))
FORWARDS = {
    "units and examples": predictions_by_units,
    "examples": predictions_by_examples,
    "vmap": jax.jit(jax.vmap(prediction, in_axes=(None, 1), out_axes=1)),
    "matrix form": jax.jit(predictions_by_matrices),
}
GRADIENTS = {
    "units and examples": gradient_by_units,
    "examples": gradient_by_examples,
    "vmap": jax.jit(gradient_by_vmap),
    "matrix form": jax.jit(gradient_by_matrices),
}


def sums(net: jaxnet.MLP, params, X) -> dict[str, np.ndarray]:
    """Z[1] (n, m) of a network by each of the four ways."""
    (W, b), *_ = jax.tree.map(lambda leaf: leaf.tolist(), params)
    first_layer = jax.jit(lambda params, X: jaxnet.forward(net, params, X)[1][1].Z)
    of_one = jax.jit(lambda params, x: first_layer(params, x[:, None])[:, 0])
    by_units = [[sum(map(float.__mul__, w, x)) + b_j for w, (b_j,) in zip(W, b, strict=True)] for x in X.T.tolist()]
    by_examples = np.stack([of_one(params, x) for x in X.T], axis=1)
    by_vmap = jax.vmap(of_one, in_axes=(None, 1), out_axes=1)(params, X)
    ways = (np.transpose(by_units), by_examples, by_vmap, first_layer(params, X))
    return dict(zip(NAMES, map(np.asarray, ways), strict=True))

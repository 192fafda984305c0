"""How good predictions are: accuracy, of classes or of labels.

Legend: A (n_y, m) predictions and Y (n_y, m) targets, one example a column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Shaped

from jaxnet import checks, values
from jaxnet._xla.reductions import at_least_float32
from jaxnet.mlp import MLP
from jaxnet.values import ArrayLike

Outputs = Float[Array, "n_y m"]


def accuracy(
    A: Shaped[ArrayLike, "n_y m"], Y: Shaped[ArrayLike, "n_y m"], weights: Shaped[ArrayLike, " m"] | None = None
) -> Float[Array, ""]:
    """Return the (weighted) proportion of what is predicted right, from 0 to 1: of examples, or of labels.

    One row: a class is A > 1/2. Several rows: if every column of Y sums to 1, an example has one class, the row of the
    largest entry; else it has n_y labels of its own, each there where A > 1/2, and the mean goes over them too. A NaN
    in a JAX array is never right.

    Raises:
        ValueError: A and Y differ in shape, weights are not (m,), Y holds what is not from 0 to 1, or a weight is
            negative, or all are 0. The values of traced arrays are not read.
        TypeError: an argument is not of real numbers.

    >>> float(jaxnet.accuracy([[0.9, 0.2, 0.6, 0.7]], [[1, 0, 0, 1]]))
    0.75
    """
    A, Y = _floats("A", A), _floats("Y", Y)
    given, weights = weights, None if weights is None else _floats("weights", weights)
    _check(A, Y, weights, given)
    if Y.shape[0] == 1:
        return proportion(right_labels, A, Y, weights)
    one_class = (jnp.abs(at_least_float32(Y).sum(axis=0) - 1) < 1e-2).all()  # so near do columns of 16 bits sum
    return jnp.where(one_class, proportion(right_classes, A, Y, weights), proportion(right_labels, A, Y, weights))


def right_classes(A: Outputs, Y: Outputs) -> Bool[Array, "1 m"]:
    """Whether the row of the largest entry is the true one."""
    return ((A.argmax(axis=0) == Y.argmax(axis=0)) & ~jnp.isnan(A).any(axis=0))[None]


def right_labels(A: Outputs, Y: Outputs) -> Bool[Array, "n_y m"]:
    """Whether A > 1/2 is true, label by label."""
    return ((A > 0.5) == (Y > 0.5)) & ~jnp.isnan(A)


def accuracy_of(net: MLP, A: Outputs, Y: Outputs, weights: Float[Array, " m"] | None = None) -> Float[Array, ""]:
    """Return the accuracy that a network's output means: of classes after softmax, else of labels."""
    return proportion(right_classes if net.activations[-1] == "softmax" else right_labels, A, Y, weights)


def proportion(right: Callable, A: Outputs, Y: Outputs, weights: Float[Array, " m"] | None) -> Float[Array, ""]:
    """The weighted proportion of what is right, a function above; 0 if all weights are 0."""
    found = right(A, Y)
    weights = jnp.ones(A.shape[1], A.dtype) if weights is None else weights
    each = jnp.broadcast_to(at_least_float32(weights)[None], found.shape)
    total = each.sum()
    return jnp.where(found, each, 0).sum() / jnp.where(total > 0, total, 1)


def _floats(name: str, given) -> Array:
    """What was given as floats: in its own dtype if it is a JAX array of them."""
    own = isinstance(given, jax.Array) and jnp.issubdtype(given.dtype, jnp.floating)
    return jnp.asarray(checks.read(name, given, given.dtype if own else np.float32, ""))


def _check(A: Array, Y: Array, weights: Array | None, given: Any) -> None:
    """Refuse shapes that do not go together, and values that cannot be where there are any."""
    for name, array in (("A", A), ("Y", Y)):
        if array.ndim != 2 or array.size == 0:
            raise ValueError(
                f"{name} has shape {array.shape}; expected (n_y, m), one example a column, as predict returns; of"
                " labels make one_hot(labels, n_classes), or of two classes labels.reshape(1, -1)"
            )
    if A.shape != Y.shape:
        raise ValueError(f"A has shape {A.shape} but Y has {Y.shape}; expected the same (n_y, m)")
    if not isinstance(Y, Tracer):
        host = np.asarray(Y)
        values.refuse_first("Y", host, ~((host >= 0) & (host <= 1)), "expected classes or labels, from 0 to 1")
    if weights is not None:
        checks.weights_shape(weights, A.shape[1])
        if not isinstance(weights, Tracer):
            values.example_weights(np.asarray(weights), given)

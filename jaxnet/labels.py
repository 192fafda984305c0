"""Class labels as columns: one-hot targets, and how often the most probable class is the right one."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float
from numpy.typing import ArrayLike

from jaxnet import checks as check


def one_hot(labels: ArrayLike, n_classes: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "n_classes m"]:
    """Return Y with Y[k, i] = 1 where labels[i] = k, else 0.

    Args:
        labels: m integers from 0 to n_classes - 1. They are read on the host: call this outside `jit`.
        n_classes: the number of rows.
        dtype: the dtype of the result.

    Raises:
        ValueError: a label is out of range (JAX's own indexing would wrap or drop it in silence), or labels is
            not one-dimensional; or n_classes is no positive integer.
        TypeError: the labels are not integers.
    """
    check.count("n_classes", n_classes)
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}; expected (m,), one integer an example")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels has dtype {labels.dtype}; expected integers: number the classes from 0")
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if outside.size:
        i = outside[0]
        raise ValueError(
            f"labels[{i}] is {labels[i]}; expected 0 to {n_classes - 1} for n_classes={n_classes}"
            f" ({outside.size} of {labels.size} labels are outside): number the classes from 0"
        )
    return jnp.asarray(np.arange(n_classes)[:, None] == labels[None, :], dtype)


def accuracy(
    A: Float[Array, "n_y m"], Y: Float[Array, "n_y m"], weights: Float[Array, " m"] | None = None
) -> Float[Array, ""]:
    """Return the (weighted) share of examples whose predicted class is the true one, from 0 to 1.

    With one row a class is A > 1/2; with several rows it is the row of the largest entry. A NaN is never right.

    Raises:
        ValueError: A and Y differ in shape, or weights are not (m,).
    """
    if A.shape != Y.shape:
        raise ValueError(f"A has shape {A.shape} but Y has {Y.shape}; expected the same (n_y, m)")
    if weights is None:
        weights = jnp.ones(A.shape[1], np.promote_types(A.dtype, np.float32))
    elif weights.shape != A.shape[1:]:
        raise ValueError(f"weights has shape {weights.shape}; expected {A.shape[1:]}, one number an example")
    right = ((A > 0.5) == (Y > 0.5))[0] if A.shape[0] == 1 else A.argmax(axis=0) == Y.argmax(axis=0)
    right &= ~jnp.isnan(A).any(axis=0)
    total = weights.sum()
    return jnp.where(right, weights, 0).sum() / jnp.where(total > 0, total, 1)

"""Class labels as columns of targets."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float
from numpy.typing import ArrayLike

from jaxnet._arguments import count


def one_hot(labels: ArrayLike, n_classes: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "n_classes m"]:
    """Return Y with Y[k, i] = 1 where labels[i] = k, else 0.

    Args:
        labels: m integers from 0 to n_classes - 1. They are read on the host: call this outside `jit`.
        n_classes: the number of rows.
        dtype: the dtype of the result.

    Raises:
        ValueError: a label is out of range (JAX's own indexing would wrap or drop it silently), or labels is
            not one-dimensional; or n_classes is not a positive integer.
        TypeError: the labels are not integers.
    """
    count("n_classes", n_classes)
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

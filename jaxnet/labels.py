"""Class labels as columns of targets."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Shaped
from numpy.typing import ArrayLike

from jaxnet import checks, values
from jaxnet._arguments import count

NUMBERED = "number the classes from 0, as np.unique(labels, return_inverse=True)[1] does"
MOST_ENTRIES = 2**31 - 1  # 8 GiB in float32


def one_hot(labels: ArrayLike, n_classes: int, dtype: DTypeLike = jnp.float32) -> Shaped[Array, "n_classes m"]:
    """Return Y with Y[k, i] = 1 where labels[i] = k, else 0.

    Args:
        labels: m integers from 0 to n_classes - 1. They are read on the host: call this outside `jit`.
        n_classes: the number of rows.
        dtype: the dtype of the result.

    Raises:
        ValueError: a label is out of range (JAX's own indexing would wrap or drop it silently), or labels is
            not one-dimensional; or n_classes is not a positive integer, or too large.
        TypeError: the labels are not integers, or some are masked; or dtype is not one of real numbers.

    >>> jaxnet.one_hot([0, 2, 1], 3).astype(int)
    Array([[1, 0, 0],
           [0, 0, 1],
           [0, 1, 0]], dtype=int32)
    """
    count("n_classes", n_classes)
    dtype = checks.real_dtype("dtype", dtype)
    labels = values.host_integers("labels", labels, NUMBERED)
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}; expected (m,), one integer an example")
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if outside.size:
        i = outside[0]
        raise ValueError(
            f"labels[{i}] is {labels[i]}; expected 0 to {n_classes - 1} for n_classes={n_classes}"
            f" ({outside.size} of {labels.size} labels are outside): {NUMBERED}"
        )
    if n_classes * labels.size > MOST_ENTRIES:
        raise ValueError(
            f"n_classes is {n_classes}; one_hot of {labels.size} labels would hold {n_classes * labels.size} numbers;"
            f" expected at most {MOST_ENTRIES}"
        )
    Y = np.zeros((n_classes, labels.size), dtype)
    Y[labels, np.arange(labels.size)] = 1
    return jnp.asarray(Y)

"""Widths that few batches differ in, so that batches of any number of examples share few compiled programs.

Legend: X (n, m), m examples as columns.
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

SMALL = 256  # columns, up to which twice as many cost less than the compilation of another program


def within_an_eighth(m: int) -> int:
    """The width for m columns: at most an eighth more, and eight from each power of two to the next.

    The width, on which rounding depends, is told by the batch alone: a resumed training may begin with another one.
    """
    unit = 1 << max(0, m.bit_length() - 4)
    return -(-m // unit) * unit


def bucket(m: int) -> int:
    """The width for m columns that are computed once: a power of two where that is small, else within an eighth."""
    return 1 << (m - 1).bit_length() if 0 < m <= SMALL else within_an_eighth(m)


def on_one_device(tree: Any) -> bool:
    """Whether all arrays of a tree have values, none is traced, and lie on one device each."""
    leaves = jax.tree.leaves(tree)
    return not any(isinstance(leaf, Tracer) for leaf in leaves) and all(len(leaf.devices()) == 1 for leaf in leaves)


def padded_columns(X: np.ndarray, width: int) -> np.ndarray:
    """X with its last column repeated up to that width: no numbers that it has not."""
    missing = width - X.shape[1]
    return np.concatenate([X, np.repeat(X[:, -1:], missing, axis=1)], axis=1) if missing else X


def first_columns(A: jax.Array, m: int) -> jax.Array:
    """The first m columns of an array on one device, by way of the host: to slice it would be a program for each m."""
    if A.shape[1] == m:
        return A
    if isinstance(A, Tracer):  # inside a function that is traced, of which X is no argument
        return A[:, :m]
    columns = np.ascontiguousarray(jax.device_get(A)[:, :m])
    return jax.device_put(columns, A.sharding if A.committed else None)

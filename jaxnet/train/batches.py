"""The examples that a network is trained on, as they lie in device memory.

A full batch is columns, as everywhere else; a mini-batch is gathered from rows, (m, n_x), and turned: three times
faster than gathering columns.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

TURNED = 1024  # columns that are turned into rows at a time
LINE = 64  # bytes of a line of the cache, and XLA's own alignment


class Data(NamedTuple):
    """Examples in device memory: by columns for full batches, by rows for mini-batches."""

    X: Float[Array, "..."]
    Y: Float[Array, "..."]
    weights: Float[Array, " m"] | None

    @classmethod
    def by_columns(cls, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None) -> "Data":
        """Columns as they are, in copies: JAX on a CPU may work on the caller's own memory."""
        return cls(X.copy(), Y.copy(), weights)

    @classmethod
    def by_rows(cls, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None) -> "Data":
        """Columns turned into rows, on the host."""
        return cls(_turned(X), _turned(Y), weights)


def _turned(A: np.ndarray) -> np.ndarray:
    """A copy of Aᵀ, a line of the cache by some columns at a time: three times as fast as all at once.

    It lies where JAX on a CPU takes it as it is, without one more copy.
    """
    rows = _aligned(A.shape[::-1], A.dtype)
    entries = LINE // A.dtype.itemsize
    for column in range(0, A.shape[1], TURNED):
        for row in range(0, A.shape[0], entries):
            block = A[row : row + entries, column : column + TURNED]
            rows[column : column + TURNED, row : row + entries] = block.T
    return rows


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that begins where a line of the cache does."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    return memory[first : first + size].view(dtype).reshape(shape)

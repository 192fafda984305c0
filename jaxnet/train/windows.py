"""A stream of arrays that are read in windows: mapped from a file, or one process's part of what several have."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxnet import checks
from jaxnet._xla.permutation import random_permutation
from jaxnet.mlp import MLP
from jaxnet.train import inputs
from jaxnet.train.streams import Columns, DtypeFor

SMALL_FILE = 256 * 2**20  # bytes; what is mapped and not larger is read as any array, for its epochs are one program
WINDOW = 64 * 2**20  # bytes that are in memory at once, in the dtype of training, and shuffled


def is_mapped(X: Any) -> bool:
    """Whether X is mapped from a file of a size that is better not read at once."""
    return isinstance(X, np.memmap) and X.filename is not None and X.nbytes > SMALL_FILE


class Windows:
    """X and Y in mini-batches of windows.

    An epoch takes all examples, window by window: the windows come in a random order, and the examples of one are
    shuffled. So the file is read in long runs, and what is in memory does not grow with it; a file that is sorted, by
    class or by time, should be shuffled once when it is written.
    """

    position: str | None = None  # the key tells the order of each epoch

    def __init__(
        self,
        net: MLP,
        X: np.ndarray,
        Y: Any,
        weights: Any,
        batch_size: Any,
        of: str = "",
        part=(0, 1),
        is_part: bool = False,
    ):
        """Look at shapes alone; part: which of how many parts of each batch to give; is_part: of X there are others."""
        self._part, self._parts = part
        checks.columns(f"{of}X", X, net.sizes[0], "n_x")
        self._net, self._of, self._X = net, of, X
        self._Y = Y if isinstance(Y, np.ndarray) else np.asarray(Y)
        if weights is not None:
            check = partial(inputs.batch_weights, dtype=np.dtype(np.float64)) if is_part else inputs.example_weights
            weights = check(f"{of}weights", weights)
        self._weights = weights
        checks.target_shapes(net, X, self._Y, self._weights, of)
        self._batch_size = inputs.batch_size(batch_size, X.shape[1]) or X.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole X."""
        return self._X.shape

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor, undoes: bool = False) -> Columns:
        """The first examples of the file; the key tells the order of each epoch, and no position does."""
        self._dtype = dtype_for(self._X)
        sizes = (max(array.itemsize, self._dtype.itemsize) * array.shape[0] for array in (self._X, self._Y))
        self._window = max(1, WINDOW // sum(sizes) // self._batch_size) * self._batch_size
        X, Y, weights = self._read(0, self._batch_size)
        return X.T, Y.T, weights

    def epoch(self, key: PRNGKeyArray | Array) -> Iterator[Columns]:
        """All examples, in an order that the key tells."""
        m = self._X.shape[1]
        keys = jax.random.split(key, 2)
        for window in np.asarray(_permutation(keys[0], -(-m // self._window))).tolist():
            start, stop = window * self._window, min((window + 1) * self._window, m)
            X, Y, weights = self._read(start, stop)
            order = np.asarray(_permutation(jax.random.fold_in(keys[1], window), stop - start))
            for first in range(0, stop - start, self._batch_size):
                chosen = np.array_split(order[first : first + self._batch_size], self._parts)[self._part]
                yield X[chosen].T, Y[chosen].T, None if weights is None else weights[chosen]

    def undo(self) -> None:
        """Nothing: the state before the epoch has its key."""

    def _read(self, start: int, stop: int) -> Columns:
        """Examples of the file, checked, as rows: of which a batch is gathered faster."""
        part = slice(start, stop)
        of = f"{self._of}columns {start} to {stop - 1} of "
        X, Y = (np.ascontiguousarray(array[:, part].T) for array in (self._X, self._Y))
        X, Y, _ = inputs.examples(self._net, X.T, Y.T, None, self._dtype, of)
        return X.T, Y.T, None if self._weights is None else self._weights[part].astype(self._dtype)


_permutation = jax.jit(random_permutation, static_argnums=1)

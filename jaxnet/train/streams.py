"""What a stream of batches is: read and checked one by one while the network trains.

A stream holds one batch, or one window of a file, whatever its length. There are two kinds: an iterable of the caller's
(`iterables`), and arrays that are read in windows (`windows`).

Legend: X (n_x, m), Y (n_y, m), weights (m,): examples as columns, m of them in a batch.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, PRNGKeyArray

Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # X, Y, weights
DtypeFor = Callable[[Any], np.dtype]  # of the X that comes first, the dtype to train in


@runtime_checkable
class Stream(Protocol):
    """A source of batches.

    position: where it stands between two epochs, as text; None where it cannot tell.
    """

    position: str | None

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor, undoes: bool = False) -> Columns:
        """Go to where an earlier stream stood, and read the first of so many epochs' batches, which is still to come.

        All are cast to the dtype for its X. undoes: whether epochs may be undone; ValueError where they cannot be.
        """
        ...

    def epoch(self, key: PRNGKeyArray | Array) -> Iterator[Columns]:
        """The batches of the next epoch; its order is the key's to say, where it is not the iterable's."""
        ...

    def undo(self) -> None:
        """Go back to where the last epoch began."""
        ...

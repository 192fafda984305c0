"""What was measured, epoch by epoch."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike


class History:
    """The metrics of each epoch as they come, in chunks of epochs; the last axis of every array is the epoch."""

    def __init__(self, earlier: Mapping[str, np.ndarray] | None = None):
        """Begin with the history of an earlier training, or with none."""
        self._chunks: dict[str, list[np.ndarray]] = {name: [values] for name, values in (earlier or {}).items()}

    def extend(self, log: Mapping[str, ArrayLike], epochs: int) -> None:
        """Add the first so many epochs of a log."""
        for name, values in log.items():  # cut on the host: on the device each length would be compiled anew
            self._chunks.setdefault(name, []).append(np.asarray(values)[..., :epochs])

    def last(self, name: str) -> np.ndarray:
        """The metric in the last epoch."""
        return self._chunks[name][-1][..., -1]

    def arrays(self) -> dict[str, np.ndarray]:
        """Each metric as one array of its own."""
        return {name: np.concatenate(chunks, axis=-1) for name, chunks in self._chunks.items()}

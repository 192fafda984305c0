"""What training returns, and the error that keeps it where numbers were not finite."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxnet.mlp import Params
from jaxnet.parallel import meshes
from jaxnet.train import summary
from jaxnet.train.config import MONITORS
from jaxnet.train.state import LoopState, TrainState


class FitResult(NamedTuple):
    """What `fit` returns.

    params: the best by the monitored metric where patience was given, else the last.
    history: NumPy vectors, one entry an epoch: the metrics that were asked for, as seen by the steps before each update
        ("cost" and "accuracy" are the epoch's mean over examples, "gradient_norm" its largest), and with validation
        data "validation_cost" and, beside "accuracy", "validation_accuracy" (after the epoch). "skipped" counts the
        steps that on_nonfinite="skip" has left out, and the others are of the steps taken.
    loop: all that `fit(..., resume=result)` needs to go on.
    position: where a stream of batches stood after the last whole epoch, as its iterable tells it; None where it
        cannot, and of arrays, whose order the key tells.
    """

    params: Params
    history: dict[str, np.ndarray]
    loop: LoopState
    position: str | None = None

    def __repr__(self) -> str:
        """The network, the number of epochs and, of each metric, where it began, ended and was best."""
        epochs = max(map(len, summary.curves(self.history).values()), default=0)
        head = f"FitResult: {summary.network(self.params)}, {epochs} epoch{'s' * (epochs != 1)} in the history"
        return "\n".join([head, *summary.metrics(self.history)])

    def _repr_html_(self) -> str:
        """The same for a notebook, with a picture of the costs."""
        return summary.as_html(repr(self), self.history)

    @property
    def best_epoch(self) -> int:
        """The number, from 1, of the epoch that ended with these params: with patience the best, else the last."""
        loop = self.loop
        if loop.best_params is None or int(loop.epochs_since_best) < 0:
            return int(loop.epoch)
        monitored = (np.flatnonzero(self.history.get(name, ()) == np.asarray(loop.best_score)) for name in MONITORS)
        return 1 + int(next((epochs[0] for epochs in monitored if epochs.size), int(loop.epoch) - 1))

    @property
    def state(self) -> TrainState:
        """The last params, optimizer state, step and key, as `train_step` takes them."""
        return self.loop.state


class NotFiniteError(FloatingPointError):
    """Cost, metrics, new params or the validation cost were not finite; `.result` holds the last good state.

    What `fit` does instead, `on_nonfinite` says.
    """

    result: FitResult


def result_of(loop: LoopState, history: dict[str, np.ndarray], position: str | None) -> FitResult:
    """The result of a training that stands there."""
    loop = meshes.ordinary(loop)
    best = loop.best_params
    return FitResult(loop.params if best is None else best, history, loop, position)


def set_result(error: BaseException, result: Any) -> None:
    """Make it the error's `.result`; where the class of the error refuses that, a note says so."""
    try:
        setattr(error, "result", result)  # noqa: B010 - no attribute of every exception
    except (AttributeError, TypeError) as refusal:
        error.add_note(f"jaxnet: this error has no .result, for {type(error).__name__} lets none be set ({refusal})")


@contextlib.contextmanager
def result_kept() -> Iterator[Callable[[FitResult], None]]:
    """What this yields takes the result of a training that is done: an error behind it then has it."""
    results = []
    try:
        yield results.append
    except BaseException as error:
        for result in results:
            set_result(error, result)
        raise

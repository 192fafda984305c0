"""The loop of training: the only part of it that is not a pure function.

It runs epochs in chunks, records what they measured, moves the progress bar, calls the callbacks and saves checkpoints
between them, and holds Ctrl-C back meanwhile, so that state and history always belong together, and what is saved or
resumed is what training would have gone on from.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from jaxnet.parallel.processes import Team
from jaxnet.train import signals
from jaxnet.train.callbacks import Callback, call_all
from jaxnet.train.checkpoint import NoCheckpoints, noted_in
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import Chunk, is_stopped
from jaxnet.train.history import History
from jaxnet.train.progress import ProgressBar, progress_bar
from jaxnet.train.result import FitResult, NotFiniteError, result_of, set_result
from jaxnet.train.state import LoopState

MOST_ROLLBACKS = 10  # of one epoch: ten rates, each half the last, are a thousandth


@runtime_checkable
class Epochs(Protocol):
    """Where epochs come from: data in memory, or a stream of batches.

    unit: what the progress bar counts.
    """

    unit: str

    @property
    def position(self) -> str | None:
        """Where a stream stands between two epochs, as text; None where there is nothing to tell."""
        ...

    def run(self, loop: LoopState, last: int, between_steps: Callable[[int], None]) -> Chunk:
        """Train for one epoch or more, at most to number `last`; the loop that is given may be used up.

        between_steps is called with the number of steps taken where the host has a moment; it may raise.
        """
        ...

    def undo(self) -> None:
        """After an epoch that was not finite: have the next one be of the same data."""
        ...

    def failure(self, loop: LoopState) -> tuple[LoopState, str]:
        """After an epoch that was not finite: the last good state, and what was not finite, in words."""
        ...


def train(
    config: FitConfig,
    source: Epochs,
    loop: LoopState,
    history: History,
    epochs: int,
    progress: bool | str,
    callbacks: tuple[Callback, ...],
    checkpoints: NoCheckpoints,
    enough_memory: Callable[[], AbstractContextManager[None]],
    team: Team,
    step_taken: Callable[[], None],
) -> FitResult:
    """Run chunk after chunk, up to that number of epochs or until training stops by itself."""
    epoch, position, failed = int(loop.epoch), source.position, None
    try:
        with progress_bar(team.is_first and progress, epochs, source.unit, initial=epoch) as bar:
            while epoch < epochs and not is_stopped(config, loop):
                # a chunk takes the old loop, and callbacks may change the new one: no stop before both are done
                with signals.deferred(team) as deliver:
                    with enough_memory():
                        between_steps = partial(_between_steps, deliver, checkpoints, step_taken, bar)
                        loop, log, finite = source.run(loop, checkpoints.next_stop(epoch, epochs), between_steps)
                    done = int(loop.epoch) - epoch
                    step_taken()
                    if finite:
                        position = source.position
                    history.extend(log, done)
                    bar.update(done)
                    epoch += done
                    if finite and "cost" in config.metrics:
                        bar.set_postfix(cost=f"{history.last('cost'):.4g}", refresh=False)
                    goes_on, stops = bool(finite), False
                    if finite:
                        loop, stops = call_all(callbacks, loop, history, team)
                        checkpoints.save_if_due(loop, history, position)
                    elif config.on_nonfinite == "rollback" and loop.rollbacks < MOST_ROLLBACKS:
                        undone = loop._replace(rollbacks=loop.rollbacks + 1)
                        loop, stops = call_all(callbacks, undone, history, team)
                        goes_on = loop is not undone
                        with team.together():
                            source.undo()
                    deliver()
                    checkpoints.exit_if_asked()
                if stops:
                    break
                if not goes_on:
                    # whoever resumes from it has new rollbacks
                    loop = loop._replace(rollbacks=jnp.zeros_like(loop.rollbacks))
                    failed, message = source.failure(loop)
                    raise team.raises_in_all(NotFiniteError(message))
        checkpoints.save(loop, history, position)
    except BaseException as error:
        set_result(error, result_of(failed or loop, history.arrays(), position))
        if team.know(error):  # where others do not, they would not help to save
            with noted_in(error):
                checkpoints.save(loop, history, position)
        raise
    return result_of(loop, history.arrays(), position)


def _between_steps(
    deliver: Callable[[], None],
    checkpoints: NoCheckpoints,
    step_taken: Callable[[], None],
    bar: ProgressBar,
    number: int,
) -> None:
    """Take what signals have come, which may raise, and show the number of steps."""
    step_taken()
    deliver()
    checkpoints.exit_if_asked()
    bar.set_postfix(step=number, refresh=False)
    bar.update(0)

"""Epochs over a data set in device memory: chunks of epochs, each one call of a compiled program."""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnet._xla import memory, small_call
from jaxnet._xla.compile import checks_numbers
from jaxnet.initialisers import shapes
from jaxnet.parallel import meshes, placing
from jaxnet.parallel.processes import ALONE, Team
from jaxnet.train import failure, inputs, signals
from jaxnet.train.batches import Data, Place, padded_to, parts_on_mesh
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import (
    Chunk,
    jit_validation,
    replay_chunk,
    run_chunk,
    run_chunk_again,
    run_small_chunk,
)  # fmt: skip
from jaxnet.train.privacy import sampling_rate
from jaxnet.train.state import LoopState

CHUNK_STEPS = 10_000  # at most this many steps (or one epoch) between two synchronisations with the host
CHUNK_SECONDS = 0.2  # ... and about this long, so that the bar moves and Ctrl-C takes effect
SMALL_STEPS = 1_000  # in the first chunk of a small network, some 10 ms; others begin with one epoch


class InMemory:
    """The epochs of one training.

    A chunk holds twice as many epochs as the one before while it takes less than `CHUNK_SECONDS`.
    """

    position: str | None = None

    def __init__(
        self, config: FitConfig, data: Data, validation_data: Data | None, one_by_one: bool, team: Team = ALONE
    ):
        """Begin with one epoch, or with some steps of a small network; stay with one where callbacks are called."""
        m = data.X.shape[1 if config.batch_size is None else 0]
        steps_per_epoch = 1 if config.batch_size is None else -(-m // config.batch_size)
        platform = next(iter(data.X.devices())).platform
        small = config.mesh is None and small_call.fits(platform, config.net.sizes, m, config.batch_size)
        self.unit = "step" if config.batch_size is None else "epoch"
        self._config, self._data, self._validation_data, self._team = config, data, validation_data, team
        self._m, self._steps_per_epoch = m, steps_per_epoch
        self._run = run_small_chunk if small else run_chunk_again if checks_numbers() else run_chunk
        self._capacity = 1 if one_by_one else max(1, CHUNK_STEPS // steps_per_epoch)
        self._epochs = min(self._capacity, SMALL_STEPS // steps_per_epoch or 1) if small else 1
        self._slow = not small  # where it is, signals have to be heard meanwhile
        self._began = time.perf_counter()

    def run(self, loop: LoopState, last: int, between_steps: Callable[[int], None]) -> Chunk:
        """Train for a chunk, at most to epoch number `last`; the loop that is given is used up."""
        first = int(loop.epoch)
        last = min(first + self._epochs, last)
        chunk = self._run(self._config, loop, self._data, self._validation_data, jnp.int32(last), self._capacity)
        (signals.wait if self._slow else jax.block_until_ready)(chunk.finite)
        now = time.perf_counter()
        self._slow = self._team.of_first(now - self._began >= CHUNK_SECONDS)  # one program for all
        if not self._slow:
            self._epochs = min(2 * self._epochs, self._capacity)
        self._began = now
        if (privacy := self._config.privacy) is not None:
            steps = int(chunk.loop.state.step) - self._steps_per_epoch * np.arange(int(chunk.loop.epoch) - first)[::-1]
            rate = sampling_rate(self._config.batch_size, self._m)
            chunk.log["epsilon"] = np.array([privacy.epsilon(int(number), rate) for number in steps])
        return chunk

    def undo(self) -> None:
        """Nothing: the key tells the order of each epoch."""

    def failure(self, loop: LoopState) -> tuple[LoopState, str]:
        """The last good state of an epoch that was not finite, and what was not, in words."""
        config, data, validation_data = self._config, self._data, self._validation_data
        state, measured, steps_are_finite = replay_chunk(config, loop.state, data)
        if steps_are_finite and validation_data is not None:
            J = jit_validation(config, state.params, validation_data)["validation_cost"]
            if not jnp.isfinite(J):
                return loop, failure.of_validation(loop, J, measured["cost"], validation_data[:2], data[:2])
        all_skipped = config.on_nonfinite == "skip" and config.batch_size is not None
        return loop._replace(state=state), failure.of_a_step(loop, state, measured, *data[:2], all_skipped)


def full_batch(X, Y, weights, mesh: Mesh | None, place: Place, team: Team = ALONE, is_part: bool = False) -> Data:
    """All examples as columns; on a mesh split over its devices, padded with examples of weight 0.

    is_part: whether these are of this process alone, and others have theirs.
    """
    if mesh is None:
        return Data.by_columns(X, Y, weights, place)
    widths = team.gathered(X.shape[1])[:, 0] if is_part else np.array([X.shape[1]])
    width = int(widths.max())
    width += placing.padding_of_a_part(width, mesh) if is_part else meshes.padding(width, mesh)
    if weights is None and (widths < width).any():
        weights = np.ones(X.shape[1], X.dtype)
    if is_part:
        return Data(*parts_on_mesh(mesh, *padded_to(width, X, Y, weights)))
    layout = (meshes.columns(mesh), meshes.columns(mesh), meshes.replicated(mesh))
    if width > X.shape[1]:
        X, Y, weights = padded_to(width, X, Y, weights)
    return Data.by_columns(X, Y, weights, partial(placing.put, where=layout))


def memory_needs(config: FitConfig, host: inputs.HostData, members: int = 1) -> str:
    """What training takes in memory, part by part, and what would take less."""
    params = shapes(config.net, host.X.dtype)
    examples = max(config.batch_size or host.X.shape[1], host.validation[0].shape[1] if host.validation else 0)
    cache = 2 * sum(config.net.sizes[1:]) * examples * host.X.dtype.itemsize
    return (
        f"{'training' if members == 1 else f'each of {members} members'} with sizes {config.net.sizes}"
        f" takes {memory.size(params)} for the params,"
        f" {memory.size(jax.eval_shape(config.optimizer.init, params))} for the optimizer's state, and"
        f" {memory.in_units(cache)} for Z and A of {examples} examples, beside {memory.size(host)} of data; narrow the"
        " network, or lower batch_size or the number of validation examples"
    )

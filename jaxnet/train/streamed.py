"""Epochs over a stream: step by step, one batch read, checked and sent to the device while the last is computed.

A compiled step returns before it is done, and the host reads on meanwhile; it looks at a step once the next one has
been sent, and waits there, so that no more than three batches are ever held. A step that is not finite is undone on the
device, and those behind it change nothing. An epoch is the unit: what interrupts one leaves the loop as it was before.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxnet._xla.buckets import within_an_eighth
from jaxnet._xla.compile import BoundedJit, checks_numbers
from jaxnet.parallel import placing
from jaxnet.parallel.processes import ALONE, Team
from jaxnet.train import failure, inputs, signals
from jaxnet.train.batches import Batch, Data, Place, padded_to, parts_on_mesh
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import Chunk, Measured, end_of_epoch, jit_validation, measured_step
from jaxnet.train.state import LoopState, TrainState, select
from jaxnet.train.step import step_is_finite
from jaxnet.train.streams import Columns, Stream


class Streamed:
    """The epochs of one training."""

    unit = "epoch"

    def __init__(
        self, config: FitConfig, stream: Stream, validation: Data | Stream | None, place: Place, team: Team = ALONE
    ):
        """Take validation data that are in device memory already, or a stream of their own."""
        self._config, self._stream, self._validation, self._team = config, stream, validation, team
        self._to_device = ToDevice(config, place)
        self._step = _jit_step_again if checks_numbers() else _jit_step
        self.classes, self.validation_classes = inputs.Classes(config.net), inputs.Classes(config.net)
        if isinstance(validation, Data):
            self.validation_classes.note(np.asarray(validation.Y))
        self._failure: Callable[[LoopState], tuple[LoopState, str]]

    @property
    def position(self) -> str | None:
        """Where the stream stands between two epochs."""
        return self._stream.position

    def run(self, loop: LoopState, last: int, between_steps: Callable[[int], None]) -> Chunk:
        """Train for one epoch, and measure."""
        key, epoch_key = jax.random.split(loop.state.key)
        state, good = _jit_copy((loop.state._replace(key=key), jnp.array(True)))
        batches: Iterator[Any] = self._sent(self._stream.epoch(epoch_key), self.classes, state.params[0].W.dtype)
        steps, means = 0, Means()
        sent: list[tuple[Batch, Bool[Array, ""], Measured]] = []
        batch = latest = next(batches)  # an epoch has one, or its stream has raised
        while batch is not None or sent:
            if batch is not None:
                state, good, measured = self._step(self._config, state, good, batch)
                sent.append((batch, good, measured))
                batch = next(batches, None)  # while the device computes
            if len(sent) < 2 and batch is not None:
                continue
            latest, finite, measured = sent.pop(0)
            if not signals.wait(finite):
                self._failure = partial(self._step_failure, state, latest)
                return Chunk(loop, {}, finite)
            steps += 1
            means.add_step(measured)
            between_steps(steps)
        assert latest is not None
        if not means.weight and not means.excused:
            text = "batches of a whole epoch have weights that are all 0; expected an example that counts"
            raise self._team.raises_in_all(ValueError(text))
        if not means.weight and means.excused == means.skipped:
            self._failure = partial(self._step_failure, loop.state, latest)
            return Chunk(loop, {}, jnp.array(False))
        validated = {} if self._validation is None else self._validate(state, latest)
        dtype = state.params[0].W.dtype
        measured = means.metrics(dtype) | {"skipped": jnp.int32(means.skipped)}
        return _jit_end(self._config, loop, state, measured, validated)

    def undo(self) -> None:
        """Have the stream stand where the last epoch began."""
        self._stream.undo()

    def failure(self, loop: LoopState) -> tuple[LoopState, str]:
        """The last good state of an epoch that was not finite, and what was not, in words."""
        return self._failure(loop)

    def _step_failure(self, state: TrainState, batch: Batch, loop: LoopState) -> tuple[LoopState, str]:
        measured = self._measured(state, batch)
        all_skipped = self._config.on_nonfinite == "skip"
        return loop._replace(state=state), failure.of_a_step(loop, state, measured, batch.X, batch.Y, all_skipped)

    def _validation_failure(self, J, data: Data, state: TrainState, batch: Batch, loop: LoopState):
        cost = self._measured(state, batch)["cost"]
        return loop, failure.of_validation(loop, J, cost, (data.X, data.Y), (batch.X, batch.Y))

    def _measured(self, state: TrainState, batch: Batch) -> dict[str, Array]:
        """What a step measures, with the gradient's norm."""
        metrics = ("cost", *self._config.metrics, "gradient_norm")
        config = replace(self._config, metrics=tuple(dict.fromkeys(metrics)), on_nonfinite="raise")
        return _jit_measured(config, state, batch)

    def _validate(self, state: TrainState, latest: Batch) -> dict[str, Array]:
        """What is measured on the validation data, of a stream batch by batch."""
        means = Means()
        for data in self._validation_batches(state.params[0].W.dtype):
            measured = jax.block_until_ready(jit_validation(self._config, state.params, data))
            means.add(measured, float(data.X.shape[1] if data.weights is None else data.weights.sum()))
            if not np.isfinite(J := measured["validation_cost"]):
                self._failure = partial(self._validation_failure, J, data, state, latest)
                break
        if not means.weight:
            text = "validation batches have weights that are all 0; expected an example that counts"
            raise self._team.raises_in_all(ValueError(text))
        return means.metrics(state.params[0].W.dtype)

    def _validation_batches(self, dtype: Any) -> Iterable[Data]:
        if isinstance(self._validation, Data):
            return [self._validation]
        stream: Any = self._validation
        epoch = stream.epoch(jax.random.key(0))  # in any order
        return (Data(*batch) for batch in self._sent(epoch, self.validation_classes, dtype))

    def _sent(self, batches: Iterator[Columns], classes: inputs.Classes, dtype: Any) -> Iterator[Batch]:
        """The batches on the device, their classes noted; of several processes while any has one."""
        while True:
            with self._team.together(0, 0, 0) as told:
                columns = next(batches, None)
                if columns is None:
                    n = self._config.net.sizes
                    columns = np.zeros((n[0], 0), dtype), np.zeros((n[-1], 0), dtype), None
                else:
                    classes.note(columns[1])
                told.numbers = columns[0].shape[1], *self._to_device.mark(columns, self._team)
            widths, parts, marks = told.of_all.T.tolist()
            if not any(widths):
                return
            if len({*zip(parts, marks, strict=True)}) > len({*parts}):
                raise self._team.raises_in_all(
                    ValueError(
                        "batches differ between processes whose devices hold the same examples of each; give them the"
                        " same batches"
                    )
                )
            yield self._to_device(columns, max(widths))


class ToDevice:
    """Sends batches to the device, with examples of weight 0 up to a width that few batches differ in."""

    def __init__(self, config: FitConfig, place: Place):
        """Split the columns over the mesh, or place all on one device."""
        self._mesh, self._place = config.mesh, place

    def mark(self, columns: Columns, team: Team) -> tuple[int, int]:
        """Which part of a batch these are, and, where other processes have to give the same, what tells it apart."""
        part, parts = placing.part(self._mesh)
        if parts == team.number:
            return part, 0
        return part, zlib.crc32(b"".join(each.tobytes() for each in columns if each is not None)) >> 1

    def __call__(self, columns: Columns, widest: int) -> Batch:
        """The batch on the device, in memory that is not the caller's; widest: of the parts of all processes."""
        X, Y, weights = columns
        weights = np.ones(X.shape[1], X.dtype) if weights is None else weights
        width = within_an_eighth(widest)
        if self._mesh is None:
            return Batch(*self._place(padded_to(width, X, Y, weights)))
        width += placing.padding_of_a_part(width, self._mesh)
        return Batch(*parts_on_mesh(self._mesh, *padded_to(width, X, Y, weights)))


class Means:
    """The means of metrics over the examples of many batches, in double precision; of the gradient's norm the largest.

    weight: of all batches that count; a step that was skipped, or that optax.apply_if_finite refused, does not.
    skipped, excused: the number of skipped steps, and of these and refused ones.
    """

    def __init__(self):
        """Begin with no batch."""
        self.weight, self.skipped, self.excused = 0.0, 0, 0
        self._sums: dict[str, float] = {}
        self._largest: dict[str, float] = {}

    def add_step(self, measured: Measured) -> None:
        """Add what a step of training has measured."""
        skipped, excused = measured.skipped is not None and bool(measured.skipped), measured.excused
        self.skipped += skipped
        if excused is None or not excused:
            self.add(measured.metrics, float(measured.weight))
        else:
            self.excused += 1
            self.add(dict.fromkeys(measured.metrics, 0.0), 0.0)

    def add(self, metrics: Mapping[str, Any], weight: float) -> None:
        """Add the metrics of a batch of that weight."""
        self.weight += weight
        for name, value in metrics.items():
            if name == "gradient_norm":
                self._largest[name] = max(float(value), self._largest.get(name, 0.0))
            else:
                self._sums[name] = self._sums.get(name, 0.0) + float(value) * weight

    def metrics(self, dtype: np.dtype) -> dict[str, Array]:
        """The means, as they are recorded; NaN where no step counts."""
        if self.weight:
            metrics = {name: total / self.weight for name, total in self._sums.items()} | self._largest
        else:
            metrics = dict.fromkeys([*self._sums, *self._largest], np.nan)
        return {name: jnp.asarray(value, dtype) for name, value in metrics.items()}


def step(config: FitConfig, state: TrainState, good: Bool[Array, ""], batch: Batch):
    """A step, if all before it were finite and it is too: the state, whether so, and what was measured."""
    new, measured = measured_step(config, state, batch)
    good &= step_is_finite(new, measured.metrics, measured.excused)
    return select(good & (measured.weight > 0), new, state), good, measured


def measured(config: FitConfig, state: TrainState, batch: Batch) -> dict[str, Array]:
    """What a step measures."""
    return measured_step(config, state, batch)[1].metrics


def end(config: FitConfig, loop: LoopState, state: TrainState, metrics, validated) -> Chunk:
    """The epoch that ends with this state, as a chunk of one."""
    after, metrics, finite = end_of_epoch(config, loop, state, metrics, validated, jnp.array(True))
    return Chunk(select(finite, after, loop), {name: value[None] for name, value in metrics.items()}, finite)


_jit_step, _jit_step_again = BoundedJit(step, donate_argnames="state"), BoundedJit(step)
_jit_measured, _jit_end = BoundedJit(measured), BoundedJit(end)
_jit_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

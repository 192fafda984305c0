"""Epochs as pure functions: one as a scan over mini-batches, and many as one compiled program.

`run_epochs` is that program. It runs epochs until a limit that the host sets, or until training has to stop:
convergence (tol), no better validation (patience), numbers that are not finite. All of that is decided inside the
program, so the result does not depend on how epochs are cut into chunks. The loop's state is donated to each chunk and
lives in one copy.

An epoch does not undo anything: it reports whether it is finite, and `run_epochs` returns the state after the last
epoch that is. `replay` walks the failed one step by step to find the step. Only where steps are to be skipped does each
judge itself, and is undone by itself; an epoch is then finite if one of its steps was. What an optimizer refuses
by optax.apply_if_finite is its own affair: such a step is judged by the state alone, and not measured.

Legend: X (n_x, m), Y (n_y, m); `data` holds them by columns or by rows, see batches.py.

Source: the lecture notes (NOTES.md), section 8 (gradient descent).
"""

import functools
import operator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxnet._xla.compile import BoundedJit, with_fallback
from jaxnet._xla.small_call import OPTIONS, single_call
from jaxnet.metrics import accuracy_of
from jaxnet.mlp import Params
from jaxnet.network import cost_and_output
from jaxnet.train import optimizers
from jaxnet.train.batches import Batch, Data, gather, poisson_batches, random_batches, usual_widths
from jaxnet.train.config import FitConfig
from jaxnet.train.state import LoopState, TrainState, select
from jaxnet.train.step import step_is_finite, unguarded_step

WORTH_A_PROGRAM = 500_000  # multiply-adds of padding in a pass, from which a program without it is compiled
N_ITER_NO_CHANGE = 10  # epochs in a row whose cost changes by less than tol before training counts as converged


class Chunk(NamedTuple):
    """What some epochs give: the loop's state after the last finite one, their metrics, and whether all were finite."""

    loop: LoopState
    log: dict[str, Array]
    finite: Bool[Array, ""]


class Measured(NamedTuple):
    """What steps on mini-batches measure.

    metrics, weight: of the batch, and the sum of its weights.
    refused: whether the optimizer's optax.apply_if_finite refused the gradient; None where it has none.
    skipped: whether it was not finite, and undone; None where steps are not skipped.
    """

    metrics: dict[str, Array]
    weight: Array
    refused: Array | None
    skipped: Array | None

    @property
    def excused(self) -> Array | None:
        """Which steps may have metrics that are not finite; None where none may."""
        reasons = [reason for reason in (self.refused, self.skipped) if reason is not None]
        return functools.reduce(operator.or_, reasons) if reasons else None


def full_batch_epoch(config: FitConfig, state: TrainState, data: Data):
    """One step on all examples: the notes' "repeat { predict, dW, db, W -= α dW }"."""
    state, metrics = _step(config)(state, data.X, data.Y, data.weights)
    finite = step_is_finite(state, metrics, optimizers.refused_update(state.opt_state))
    if config.on_nonfinite == "skip":
        metrics["skipped"] = jnp.int32(0)  # the next step would be this one again
    return state, metrics, finite


def mini_batch_epoch(config: FitConfig, state: TrainState, data: Data):
    """One step on each mini-batch, in an order drawn from state.key.

    A last partial batch, and on a mesh each batch that does not divide by its devices, is padded with examples of
    weight 0: a batch counts for exactly the examples that it has.
    """
    state, batches = _shuffle(config, state, data)
    step = _batch_step(config, data, padded=batches.examples.size > data.X.shape[0])

    state, steps = jax.lax.scan(lambda state, batch: step(state, *batch), state, batches)
    finite = step_is_finite(state, steps.metrics, steps.excused)
    epoch = _over_the_epoch(steps)
    if steps.skipped is not None:
        epoch["skipped"] = steps.skipped.sum(dtype=jnp.int32)
        finite &= (~steps.skipped & (steps.weight > 0)).any()
    return state, epoch, finite


def _over_the_epoch(steps: Measured) -> dict[str, Array]:
    """The mean of each metric over the examples, and the largest norm: NaN where all steps are excused."""
    metrics, weights, excused = steps.metrics, steps.weight, steps.excused
    if excused is not None:
        metrics, weights = select(excused, jax.tree.map(jnp.zeros_like, (metrics, weights)), (metrics, weights))
    epoch = {name: (values * weights).sum() / weights.sum() for name, values in metrics.items()}
    if "gradient_norm" in metrics:
        largest = metrics["gradient_norm"].max()
        epoch["gradient_norm"] = largest if excused is None else jnp.where(excused.all(), jnp.nan, largest)
    return epoch


def _step(config: FitConfig):
    static = config.net, config.optimizer, config.gradient, config.precision, config.metrics
    return unguarded_step(*static, config.privacy, config.batch_size)


def _shuffle(config: FitConfig, state: TrainState, data: Data):
    """The state with its next key, and the epoch's batches."""
    key, batches_key = jax.random.split(state.key)
    if config.privacy is not None:
        return state._replace(key=key), poisson_batches(batches_key, data, config.batch_size)
    return state._replace(key=key), random_batches(batches_key, data, config.batch_size, config.mesh)


def _batch_step(config: FitConfig, data: Data, padded: bool):
    """A function (state, examples, counts) -> (state, measured): a step on one mini-batch."""
    if config.privacy is not None:
        return partial(_private_step, config, data)
    weighted = padded or data.weights is not None

    def batch_step(state: TrainState, examples, counts) -> tuple[TrainState, Measured]:
        new, measured = measured_step(config, state, gather(data, examples, counts, config.mesh), weighted)
        if data.weights is not None:
            new = select(measured.weight > 0, new, state)
        return new, measured

    return batch_step


def _private_step(config: FitConfig, data: Data, state: TrainState, examples, counts) -> tuple[TrainState, Measured]:
    """A step on a Poisson batch, in the narrowest of a few widths that holds it."""
    widths, entries = [examples.size], sum(layer.W.size for layer in state.params)
    for width in usual_widths(data.X.shape[0], config.batch_size):
        if (widths[-1] - width) * entries >= WORTH_A_PROGRAM:
            widths.append(width)

    def step(width: int):
        return measured_step(config, state, gather(data, examples[:width], counts[:width], config.mesh))

    holds_it = [jnp.int32(counts[width] == 0) for width in widths[1:]]  # those drawn stand first
    return jax.lax.switch(sum(holds_it, jnp.int32(0)), [partial(step, width) for width in widths])


def measured_step(
    config: FitConfig, state: TrainState, batch: Batch, weighted: bool = True
) -> tuple[TrainState, Measured]:
    """A step on one mini-batch, undone where it is to be skipped, and what it measures."""
    X, Y, weights = batch
    total = weights.sum()
    new, metrics = _step(config)(state, X, Y, weights if weighted else None)
    refused, skipped = optimizers.refused_update(new.opt_state), None
    if config.on_nonfinite == "skip":
        skipped = ~step_is_finite(new, metrics, refused)
        new = select(skipped, state, new)
    return new, Measured(metrics, total, refused, skipped)


def next_epoch(config: FitConfig, loop: LoopState, data: Data, validation_data: Data | None):
    """Train for an epoch and measure. Return the loop's state, the metrics, and whether all is finite."""
    epoch = full_batch_epoch if config.batch_size is None else mini_batch_epoch
    state, metrics, finite = epoch(config, loop.state, data)
    validated = {} if validation_data is None else validation(config, state.params, validation_data)
    return end_of_epoch(config, loop, state, metrics, validated, finite)


def validation(config: FitConfig, params: Params, data: Data) -> dict[str, Array]:
    """What is measured on the validation data after an epoch."""
    J, A = cost_and_output(config.net, params, data.X, data.Y, data.weights, config.precision)
    metrics = {"validation_cost": J}
    if "accuracy" in config.metrics:
        metrics["validation_accuracy"] = accuracy_of(config.net, A, data.Y, data.weights)
    return metrics


def end_of_epoch(config: FitConfig, loop: LoopState, state: TrainState, metrics, validated, finite):
    """The loop after an epoch that ends with this state, what was measured, and whether all is finite.

    The validation cost too: one that is not can't be compared with the best.
    """
    loop = loop._replace(state=state, epoch=loop.epoch + 1, rollbacks=jnp.zeros_like(loop.rollbacks))
    if config.tol is not None:
        loop = _compare_with_last(config.tol, loop, metrics["cost"])
    names = (*config.metrics, "skipped") if config.on_nonfinite == "skip" else config.metrics
    metrics = {name: metrics[name] for name in names} | validated
    if validated:
        finite &= jnp.isfinite(metrics["validation_cost"])
    if config.patience is not None:
        loop = _compare_with_best(config, loop, metrics[config.monitor])
    return loop, metrics, finite


def _compare_with_last(tol: float, loop: LoopState, J) -> LoopState:
    begun = loop.epochs_without_change >= 0
    unchanged = begun & (jnp.abs(J - loop.last_cost) <= tol * jnp.abs(loop.last_cost))
    return loop._replace(last_cost=J, epochs_without_change=jnp.where(unchanged, loop.epochs_without_change + 1, 0))


def _compare_with_best(config: FitConfig, loop: LoopState, score) -> LoopState:
    """The lowest is the best, by however little; but patience begins anew with one that is lower by min_delta alone."""
    first = loop.epochs_since_best < 0
    lower, higher = (loop.best_score, score) if config.monitor.endswith("accuracy") else (score, loop.best_score)
    best, better = first | (higher > lower), first | (higher > lower + config.min_delta)
    return loop._replace(
        best_params=select(best, loop.params, loop.best_params),
        best_score=jnp.where(best, score, loop.best_score),
        epochs_since_best=jnp.where(better, 0, loop.epochs_since_best + 1),
    )


def is_stopped(config: FitConfig, loop: LoopState) -> Bool[Array, ""] | bool:
    """Whether tol or patience has ended training."""
    converged = config.tol is not None and loop.epochs_without_change >= N_ITER_NO_CHANGE
    out_of_patience = config.patience is not None and loop.epochs_since_best >= config.patience
    return converged | out_of_patience


def run_epochs(
    config: FitConfig, loop: LoopState, data: Data, validation_data: Data | None, last: Int[Array, ""], capacity: int
) -> Chunk:
    """Run epochs up to number `last` of the whole training, at most `capacity` of them."""
    first = loop.epoch
    shapes = jax.eval_shape(lambda loop: next_epoch(config, loop, data, validation_data)[1], loop)
    log = jax.tree.map(lambda s: jnp.zeros((capacity, *s.shape), s.dtype), shapes)

    def body(chunk):
        loop, metrics, finite = next_epoch(config, chunk.loop, data, validation_data)
        place = chunk.loop.epoch - first
        log = jax.tree.map(lambda buffer, value: buffer.at[place].set(value), chunk.log, metrics)
        return Chunk(select(finite, loop, chunk.loop), log, finite)

    def more(chunk):
        return chunk.finite & jnp.logical_not(is_stopped(config, chunk.loop)) & (chunk.loop.epoch < last)

    return jax.lax.while_loop(more, body, Chunk(loop, log, jnp.array(True)))


def run_epochs_in_a_single_call(config, loop, data, validation_data, last, capacity) -> Chunk:
    """`run_epochs` for small networks on a CPU."""
    run = single_call(lambda loop, data, validation, last: run_epochs(config, loop, data, validation, last, capacity))
    return run(loop, data, validation_data, last)


jit_chunk = partial(BoundedJit, static_argnames="capacity", donate_argnames="loop")
run_chunk = jit_chunk(run_epochs)
run_small_chunk = with_fallback(jit_chunk(run_epochs_in_a_single_call, compiler_options=OPTIONS), run_chunk)
run_chunk_again = BoundedJit(run_epochs, static_argnames="capacity")  # where JAX may: it keeps its arguments


def replay(config: FitConfig, state: TrainState, data: Data) -> tuple[TrainState, dict[str, Array], Bool[Array, ""]]:
    """Walk an epoch that is not finite step by step, to the first such step.

    Return the state before it, its metrics with the gradient's norm, and False; or, where all are finite, the state
    after the last step, its metrics, and True. Where steps are skipped, False is that all of them were. A step by
    itself may be rounded otherwise than in a scan.
    """
    judged = {"cost", *config.metrics}  # as in the epoch: the norm of a finite gradient can overflow
    skips = config.on_nonfinite == "skip"
    config = replace(config, metrics=(*judged, "gradient_norm"), on_nonfinite="raise")
    if config.batch_size is None:
        step, batches = _step(config), None

        def take(state, i):
            state, metrics = step(state, data.X, data.Y, data.weights)
            return state, Measured(metrics, jnp.ones(()), optimizers.refused_update(state.opt_state), None)

        steps = 1
    else:
        state, batches = _shuffle(config, state, data)
        step = _batch_step(config, data, padded=batches.examples.size > data.X.shape[0])
        take = lambda state, i: step(state, batches.examples[i], batches.counts[i])
        steps = len(batches.examples)

    def body(carry):
        state, i, _, any_before = carry
        new, (metrics, weight, refused, _) = take(state, i)
        finite = step_is_finite(new, {name: metrics[name] for name in judged}, refused)
        good = any_before | (finite & (weight > 0)) if skips else finite
        return select(finite, new, state), i + 1, metrics, good

    def more(carry):
        _, i, _, good = carry
        return (i < steps) & (skips | good)

    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(take, state, 0)[1].metrics)
    state, _, metrics, finite = jax.lax.while_loop(more, body, (state, 0, nothing, jnp.array(not skips)))
    return state, metrics, finite


replay_chunk, jit_validation = BoundedJit(replay), BoundedJit(validation)

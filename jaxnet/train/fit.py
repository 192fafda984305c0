"""`fit`: check what comes in, put it where it belongs, and run compiled chunks of epochs until training is done.

A thin loop, the only part of training with effects: it reads the metrics between chunks, moves the progress bar, calls
the callbacks, and holds Ctrl-C back while a chunk runs, so that state and history always belong together.
"""

import time
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import ArrayLike
from tqdm import tqdm

from jaxnet import checks, parallel
from jaxnet._arguments import choice, type_name
from jaxnet._xla import memory, small_call
from jaxnet._xla.compile import BoundedJit, checks_numbers
from jaxnet.initialisers import init, shapes
from jaxnet.mlp import MLP, Params
from jaxnet.train import config as settings
from jaxnet.train import inputs, optimizers, signals
from jaxnet.train.batches import Data, Place
from jaxnet.train.callbacks import Callback, call_all
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import (
    is_stopped,
    jit_validation_cost,
    replay_chunk,
    run_chunk,
    run_chunk_again,
    run_small_chunk,
)  # fmt: skip
from jaxnet.train.history import History
from jaxnet.train.state import LoopState, TrainState, loop_start
from jaxnet.train.step import GRADIENTS
from jaxnet.train.warnings import warn_of_a_cost_that_never_fell, warn_of_dead_relus, warn_of_unscaled_inputs

CHUNK_STEPS = 10_000  # at most this many steps (or one epoch) between two synchronisations with the host
CHUNK_SECONDS = 0.2  # ... and about this long, so that the bar moves and Ctrl-C takes effect
SMALL_STEPS = 1_000  # in the first chunk of a small network, some 10 ms; others begin with one epoch
MOST_ROLLBACKS = 10  # of one epoch: ten rates, each half the last, are a thousandth
LARGE = 10  # of a feature or target that has not been scaled: of a million normal numbers none is beyond 5
DEFAULT_OPTIMIZER = optax.adam(1e-3)  # one object, so that every fit without an optimizer shares its compiled program


class FitResult(NamedTuple):
    """What `fit` returns.

    params: the best by the monitored metric where patience was given, else the last.
    history: NumPy vectors, one entry an epoch: the metrics that were asked for, as seen by the steps before each update
        ("cost" and "accuracy" are the epoch's mean over examples, "gradient_norm" its largest), and with validation
        data "validation_cost" and, beside "accuracy", "validation_accuracy" (after the epoch). "skipped" counts the
        steps that on_nonfinite="skip" has left out, and the others are of the steps taken.
    loop: all that `fit(..., resume=result)` needs to go on.
    """

    params: Params
    history: dict[str, np.ndarray]
    loop: LoopState

    @property
    def state(self) -> TrainState:
        """The last params, optimizer state, step and key, as `train_step` takes them."""
        return self.loop.state


class NotFiniteError(FloatingPointError):
    """Cost, metrics, new params or the validation cost were not finite; `.result` holds the last good state.

    What `fit` does instead, `on_nonfinite` says.
    """

    result: FitResult


def fit(
    net: MLP,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    key: PRNGKeyArray | Array | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 20,
    steps: int | None = None,
    batch_size: int | str | None = "auto",
    params: Params | None = None,
    weights: ArrayLike | None = None,
    validation: inputs.Validation | None = None,
    patience: int | None = None,
    monitor: str = "validation_cost",
    min_delta: float = 0.0,
    tol: float | None = None,
    metrics: Iterable[str] | None = None,
    on_nonfinite: str = "raise",
    gradient: str = "manual",
    precision: str = "float32",
    progress: bool = True,
    callbacks: Callback | Iterable[Callback] = (),
    device: str | None = None,
    mesh: Mesh | None = None,
    resume: FitResult | None = None,
) -> FitResult:
    """Train a network on arrays in memory; return its params, the history and the last state.

    Whatever interrupts training (a cost that is not finite, Ctrl-C, a callback that raises) is raised with a
    `.result`: the FitResult of this fit up to the last good state, also where the error had a result before, such as
    that of a fit inside a callback. An error whose class lets no attribute be set says so in a note.

    Args:
        net: the network.
        X: (n_x, m), examples as columns; its values are checked once, on the host.
        Y: (n_y, m): 0 or 1 for a sigmoid, columns that sum to 1 (`one_hot`) for softmax, numbers otherwise.
        key: a JAX random key for the initial weights and the order of the examples: same key, same bits. Left out
            where a fit is resumed.
        optimizer: an optax optimizer; None is optax.adam(1e-3). optax.sgd(rate) is W -= rate * dW. Give the same
            object to several fits, and they share one compiled program; those of the last 16 objects are kept. Its
            learning rate is seen, and refused where it is not above 0, with optax.inject_hyperparams only. What
            optax.MultiSteps has gathered and not applied when training ends changes no param; a warning says so.
        epochs: passes over the data, those before a resume included; with batch_size=None an epoch is one step.
        steps: the same as epochs for full-batch gradient descent, by its usual name.
        batch_size: examples a step; "auto" is 128, or all where there are fewer; None is all of them in one step,
            as in the notes. A last partial batch counts for what it has.
        params: where to start; None is init(net, key) with the "he" scheme.
        weights: (m,), what each example counts beside the others of its batch (J = Σ w ℓ / Σ w); None is 1 each.
        validation: (X, Y), or (X, Y, weights), to measure after each epoch.
        patience: stop after so many epochs in a row in which the monitored metric has not become better, and return
            the best params.
        monitor: what patience watches: "validation_cost", or "validation_accuracy", of which more is better.
        min_delta: by how much a metric has to be better than the best so far to count as better.
        tol: stop when the cost has changed by at most tol, relatively, for 10 epochs in a row: the notes' "until
            convergence".
        metrics: what to measure: "cost", "accuracy" (of classifiers), "gradient_norm"; None is the cost and, of
            classifiers, the accuracy. What is not named is not computed, but for the cost, which is guarded: numbers
            that are not finite stop training whatever is measured.
        on_nonfinite: what follows a step whose numbers are not finite, which is undone in any case. "raise": a
            NotFiniteError. "skip": the next mini-batch; an epoch of which no step is left raises. "rollback": the
            whole epoch is undone, the callbacks are called with the `LoopState` before it, whose `rollbacks` is not 0,
            and it is tried again from the one that they return; where they return none, or after ten in a row, it
            raises. A gradient that optax.apply_if_finite refuses is left to that, and such a step is not measured.
        gradient: "manual" (our backward) or "autodiff" (jax.grad), to compare.
        precision: a name of the table in _xla/matmul.py. Params are float64 with "float64", or where those given, else
            X, are and JAX's 64-bit is on; else they are float32, and training too, whatever the data.
        progress: show a progress bar, if standard error is a terminal.
        callbacks: functions (loop_state, history), or one, called after each epoch with the `LoopState` and the
            history so far. One that returns True stops training; one that returns a LoopState, such as
            `scale_learning_rate` makes, has it go on from that; no other answer counts.
        device: "cpu", "gpu" or "tpu"; None is JAX's default.
        mesh: train on several devices at once, `jaxnet.parallel.mesh()`; the result is one device's, to rounding. A
            full batch is split over them; for mini-batches each holds all examples, of which it computes its share.
        resume: a FitResult to go on from, to the epoch number `epochs` of the whole training: with the same data and
            settings, 4 epochs and then 12 give the bits of 12 at once, history included. The result of a
            NotFiniteError goes on from the step before the one that failed, with a new epoch.

    Raises:
        ValueError, TypeError: an argument does not fit; the message says which, what it is and what to do.
        NotFiniteError: the cost, a metric, the params, the optimizer's state or the validation cost became NaN or
            infinite. Under jax_debug_nans and jax_debug_infs it is JAX's FloatingPointError, of the operation.
        MemoryError: the device cannot hold the params, the optimizer's state, the data or a batch's pass.
    """
    epochs = settings.epochs(epochs, steps, batch_size)
    if params is not None:
        params = checks.params(net, params)
    start = params if resume is None else _checked_result(net, resume, key, params, precision).loop.params
    dtype = inputs.working_dtype(X, start, checks.policy(precision))
    host = inputs.dataset(net, X, Y, weights, validation, dtype)
    metrics = settings.metrics(net, metrics)
    min_delta = settings.stopping(patience, monitor, min_delta, tol, validation, metrics)
    settings.placement(device, mesh)
    callbacks = settings.callbacks(callbacks)
    on_nonfinite = settings.on_nonfinite(on_nonfinite, callbacks)
    config = FitConfig(
        net=net,
        optimizer=optimizers.hashable(optimizers.optimizer(DEFAULT_OPTIMIZER if optimizer is None else optimizer)),
        gradient=choice("gradient", gradient, GRADIENTS),
        precision=precision,
        batch_size=inputs.batch_size(batch_size, host.X.shape[1]),
        patience=patience,
        monitor=monitor,
        min_delta=min_delta,
        tol=tol,
        metrics=metrics,
        mesh=mesh,
        on_nonfinite=on_nonfinite,
    )
    if resume is not None and on_nonfinite == "skip":  # epochs trained without it have skipped nothing
        skipped = {"skipped": np.zeros(int(resume.loop.epoch), np.int32)}
        resume = resume._replace(history=skipped | resume.history)
    if resume is None:
        checks.key(key)

    place = partial(jax.device_put, device=parallel.replicated(mesh) if mesh else parallel.device(device))
    enough_memory = partial(memory.out_of_memory, lambda: memory_needs(config, host))
    with enough_memory():
        if resume is None:
            key, params = place((key, params))
            loop = _begin(config, key, params, dtype)
        else:
            loop = _resume(config, resume.loop, resume.history, epochs, validated=host.validation is not None)
        data = Data.by_rows(*host[:3], place) if config.batch_size else _full_batch(*host[:3], mesh, place)
        validation_data = None if host.validation is None else Data.by_columns(*host.validation, place)
        loop = jax.device_put(loop, parallel.replicated(mesh) if mesh else data.X.sharding)  # wherever it was before
        jax.block_until_ready((loop, data, validation_data))
    optimizers.check_learning_rate(loop.state.opt_state)
    history = History(None if resume is None else resume.history)
    result = _train(config, loop, history, data, validation_data, epochs, progress, callbacks, enough_memory)
    optimizers.warn_of_unapplied_gradients(result.loop.state.opt_state)
    if resume is None:
        warn_of_a_cost_that_never_fell(result.history)
        warn_of_unscaled_inputs(net, host.X, host.Y, host.weights, result.history)
    warn_of_dead_relus(net, result.params, host.X, host.Y)
    return result


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


def _begin(config: FitConfig, key, params: Params | None, dtype) -> LoopState:
    """The loop at its start, made by programs that all fits share: layers of one shape are drawn by one."""
    init_key, loop_key = jax.random.split(key)
    if params is None:
        params = init(config.net, init_key, dtype=dtype)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
    return _jit_loop_start((config.optimizer, config.patience is not None), params, loop_key)


def _loop_start(static: tuple[optax.GradientTransformation, bool], params: Params, key) -> LoopState:
    """In buffers of its own: a chunk takes them, the caller keeps its params and key."""
    optimizer, tracks_best = static
    state = TrainState(params, optimizer.init(params), jnp.int32(0), key)
    return jax.tree.map(jnp.copy, loop_start(state, tracks_best))


_jit_loop_start = BoundedJit(_loop_start)


def _checked_result(net: MLP, resume: FitResult, key, params, precision: str) -> FitResult:
    """Refuse what is not the result of a fit of this network, and a start beside it."""
    if not isinstance(resume, FitResult):
        raise TypeError(f"resume is {type_name(resume)}; expected the FitResult of an earlier fit")
    for name, given in (("key", key), ("params", params)):
        if given is not None:
            raise ValueError(f"{name} is given beside resume, which brings its own; leave out {name}")
    checks.params(net, resume.loop.params, "resume.loop.params")
    trained = resume.loop.params[0].W.dtype
    if trained == jnp.float64 != jax.dtypes.canonicalize_dtype(trained):
        raise ValueError("resume was trained in float64, but 64-bit is off in JAX; resume under jax.enable_x64(True)")
    if precision == "float64" != trained.name:
        raise ValueError(f"precision is 'float64' but resume was trained in {trained}; resume with its precision")
    return resume


def _resume(config: FitConfig, loop: LoopState, history: dict, epochs: int, validated: bool) -> LoopState:
    """The loop to go on with, in buffers of its own; refuse one that another optimizer, or other metrics, have made."""
    done = int(loop.epoch)
    if epochs < done:
        raise ValueError(
            f"epochs (or steps) is {epochs} but resume has done {done}; give the number for the whole training"
        )
    optimizers.check_state(
        "resume.loop.state.opt_state", loop.state.opt_state, config.optimizer, loop.params,
        "resume with that of the earlier fit",
    )  # fmt: skip
    names = {*config.metrics} | ({"validation_cost"} if validated else set())
    names |= {"validation_accuracy"} if validated and "accuracy" in config.metrics else set()
    names |= {"skipped"} if config.on_nonfinite == "skip" else set()
    if done and set(history) != names:
        has, wants = (", ".join(sorted(each)) or "nothing" for each in (history, names))
        raise ValueError(
            f"resume.history has {has}; expected {wants}, which metrics, validation and on_nonfinite ask for: resume"
            " with those of the earlier fit"
        )
    fresh = loop_start(loop.state, tracks_best=config.patience is not None)
    if config.patience is None or not _has_best(config.monitor, loop, history):
        loop = loop._replace(
            best_params=fresh.best_params, best_score=fresh.best_score, epochs_since_best=fresh.epochs_since_best
        )
    if config.tol is None:
        loop = loop._replace(last_cost=fresh.last_cost, epochs_without_change=fresh.epochs_without_change)
    return jax.tree.map(jnp.copy, loop)


def _has_best(monitor: str, loop: LoopState, history: dict) -> bool:
    """Whether the loop's best is of this metric: the history of that epoch tells it from another's."""
    since = int(loop.epochs_since_best)
    if loop.best_params is None or since < 0:
        return False
    return bool(np.isclose(history[monitor][int(loop.epoch) - 1 - since], loop.best_score, rtol=1e-5))


def _full_batch(X, Y, weights, mesh: Mesh | None, place: Place) -> Data:
    """All examples as columns; on a mesh split over its devices, padded with examples of weight 0."""
    if mesh is None:
        return Data.by_columns(X, Y, weights, place)
    padding = parallel.padding(X.shape[1], mesh)
    if padding:
        weights = np.ones(X.shape[1], X.dtype) if weights is None else weights
        X, Y, weights = (np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, padding)]) for array in (X, Y, weights))
    layout = (parallel.columns(mesh), parallel.columns(mesh), parallel.replicated(mesh))
    return Data.by_columns(X, Y, weights, partial(jax.device_put, device=layout))


class _Pace:
    """How many epochs a chunk holds: doubled while it takes less than `CHUNK_SECONDS`."""

    def __init__(self, steps_per_epoch: int, small: bool, one_by_one: bool):
        """Begin with one epoch, or with some steps of a small network."""
        self.capacity = 1 if one_by_one else max(1, CHUNK_STEPS // steps_per_epoch)
        self.epochs = min(self.capacity, SMALL_STEPS // steps_per_epoch or 1) if small else 1
        self._began = time.perf_counter()

    def adapt(self) -> None:
        """Look at the clock after a chunk."""
        now = time.perf_counter()
        if now - self._began < CHUNK_SECONDS:
            self.epochs = min(2 * self.epochs, self.capacity)
        self._began = now


def _train(config, loop, history, data, validation_data, epochs, progress, callbacks, enough_memory) -> FitResult:
    """Run chunk after chunk: the only part of training that is not a pure function."""
    m = data.X.shape[1 if config.batch_size is None else 0]
    steps_per_epoch = 1 if config.batch_size is None else -(-m // config.batch_size)
    platform = next(iter(data.X.devices())).platform
    small = config.mesh is None and small_call.fits(platform, config.net.sizes, m, config.batch_size)
    run = run_small_chunk if small else run_chunk_again if checks_numbers() else run_chunk
    pace = _Pace(steps_per_epoch, small, one_by_one=bool(callbacks))
    unit = "step" if config.batch_size is None else "epoch"
    epoch = int(loop.epoch)
    try:
        with tqdm(initial=epoch, total=epochs, unit=unit, disable=None if progress else True) as bar:
            while epoch < epochs and not is_stopped(config, loop):
                last = jnp.int32(min(epoch + pace.epochs, epochs))
                # a chunk takes the old loop: no stop before the new one is recorded
                with signals.deferred(), enough_memory():
                    loop, log, finite = run(config, loop, data, validation_data, last, pace.capacity)
                    history.extend(log, int(loop.epoch) - epoch)
                    bar.update(int(loop.epoch) - epoch)
                    epoch = int(loop.epoch)
                if finite and "cost" in config.metrics:
                    bar.set_postfix(cost=f"{history.last('cost'):.4g}", refresh=False)
                pace.adapt()
                if finite or (config.on_nonfinite == "rollback" and loop.rollbacks < MOST_ROLLBACKS):
                    before = loop if finite else loop._replace(rollbacks=loop.rollbacks + 1)
                    loop, stops = call_all(callbacks, before, history)
                    if stops:
                        break
                    if finite or loop is not before:
                        continue
                loop, message = _not_finite(config, loop, data, validation_data)
                raise NotFiniteError(message)
    except BaseException as error:
        set_result(error, _result(loop, history))
        raise
    return _result(loop, history)


def set_result(error: BaseException, result: Any) -> None:
    """Make it the error's `.result`; where the class of the error refuses that, a note says so."""
    try:
        setattr(error, "result", result)  # noqa: B010 - no attribute of every exception
    except (AttributeError, TypeError) as refusal:
        error.add_note(f"jaxnet: this error has no .result, for {type(error).__name__} lets none be set ({refusal})")


def _result(loop: LoopState, history: History) -> FitResult:
    best = loop.best_params
    return FitResult(loop.params if best is None else best, history.arrays(), loop)


def _not_finite(config: FitConfig, loop: LoopState, data: Data, validation_data: Data | None) -> tuple[LoopState, str]:
    """The last good state of an epoch that was not finite, and in words what was not, where, and what helps."""
    loop = loop._replace(rollbacks=jnp.zeros_like(loop.rollbacks))  # whoever resumes from it has new ones
    state, measured, steps_are_finite = replay_chunk(config, loop.state, data)
    epoch, largest = int(loop.epoch) + 1, _largest(data)
    if steps_are_finite and validation_data is not None:
        J = jit_validation_cost(config, state, validation_data)
        if not jnp.isfinite(J):
            of = _largest(validation_data)
            return loop, (
                f"the validation cost is {J:.3g} after epoch {epoch}, where the last batch of training costs"
                f" {measured['cost']:.3g}; largest validation |X| {of['X']:.3g}, |Y| {of['Y']:.3g}, in training"
                f" {largest['X']:.3g}, {largest['Y']:.3g}. The epoch was undone and the state before it is in this"
                " error's .result; scale the validation data as those of training, or lower the learning rate"
            )
    rate = optimizers.learning_rate(state.opt_state)
    norm = measured["gradient_norm"]
    most = float(np.finfo(norm.dtype).max) ** 0.5
    numbers = ", ".join(f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in measured.items())
    beyond = f" (above {most:.2g} its square overflows)" if np.isposinf(norm) else ""
    at_rate = "" if rate is None else f", learning rate {rate:.3g}"
    wide = [np.asarray(layer.W, np.float64) for layer in state.params]  # where squares of float32 do not overflow
    norms = ", ".join(f"|W[{number}]| = {np.linalg.norm(W):.3g}" for number, W in enumerate(wide, 1))
    others = " and at all others of that epoch" if config.on_nonfinite == "skip" and config.batch_size else ""
    return loop._replace(state=state), (
        "the cost, a metric, the new params or the optimizer's state are not finite"
        f" at step {int(state.step) + 1} (epoch {epoch}){others}: {numbers}{beyond}{at_rate}; {norms};"
        f" largest |X| {largest['X']:.3g}, |Y| {largest['Y']:.3g}."
        f" The step was undone and the state before it is in this error's .result; {_remedy(measured, largest)}"
    )


def _largest(data: Data) -> dict[str, float]:
    """The largest absolute value in X and in Y."""
    return {name: float(jnp.maximum(array.max(), -array.min())) for name, array in (("X", data.X), ("Y", data.Y))}


def _remedy(measured: dict, largest: dict[str, float]) -> str:
    unscaled = " and ".join(name for name, value in largest.items() if value > LARGE)
    rescale = f"rescale {unscaled}, " if unscaled else ""
    if all(np.isfinite(measured[name]) for name in ("cost", "gradient_norm")):
        return (
            f"the gradient is finite and the update is not: {rescale}give the optimizer a lower, finite learning rate"
        )
    return f"{rescale}lower the learning rate or clip the gradient (optax.clip_by_global_norm)"

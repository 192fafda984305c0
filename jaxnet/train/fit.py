"""`fit`: check what comes in, put it where it belongs, and run compiled chunks of epochs until training is done.

A thin loop, the only part of training with effects: it reads the metrics between chunks, moves the progress bar, calls
the callbacks, and holds Ctrl-C back while a chunk runs, so that state and history always belong together.
"""

import time
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

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
from jaxnet._xla import small_call
from jaxnet.initialisers import init
from jaxnet.mlp import MLP, Params
from jaxnet.train import config as settings
from jaxnet.train import inputs, signals
from jaxnet.train.batches import Data, Place
from jaxnet.train.callbacks import Callback, any_stops
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import is_stopped, replay_chunk, run_chunk, run_small_chunk
from jaxnet.train.history import History
from jaxnet.train.state import LoopState, TrainState, loop_start
from jaxnet.train.step import GRADIENTS

CHUNK_STEPS = 10_000  # at most this many steps (or one epoch) between two synchronisations with the host
CHUNK_SECONDS = 0.2  # ... and about this long, so that the bar moves and Ctrl-C takes effect
SMALL_STEPS = 1_000  # in the first chunk of a small network, some 10 ms; others begin with one epoch
DEFAULT_OPTIMIZER = optax.adam(1e-3)  # one object, so that every fit without an optimizer shares its compiled program


class FitResult(NamedTuple):
    """What `fit` returns.

    params: the best by validation cost where patience was given, else the last.
    history: NumPy vectors, one entry an epoch: the metrics that were asked for, as seen by the steps before each update
        ("cost" and "accuracy" are the epoch's mean over examples, "gradient_norm" its largest), and with validation
        data "validation_cost" and, beside "accuracy", "validation_accuracy" (after the epoch).
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
    """Cost, metrics or new params were not finite; the step was undone, `.result` holds the last good state."""

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
    batch_size: int | None = 128,
    params: Params | None = None,
    weights: ArrayLike | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    patience: int | None = None,
    tol: float | None = None,
    metrics: Iterable[str] | None = None,
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
    `.result`: the FitResult up to the last good state.

    Args:
        net: the network.
        X: (n_x, m), examples as columns; its values are checked once, on the host.
        Y: (n_y, m): 0 or 1 for a sigmoid, columns that sum to 1 (`one_hot`) for softmax, numbers otherwise.
        key: a JAX random key for the initial weights and the order of the examples: same key, same bits. Left out
            where a fit is resumed.
        optimizer: an optax optimizer; None is optax.adam(1e-3). optax.sgd(rate) is W -= rate * dW. Give the same
            object to several fits, and they share one compiled program.
        epochs: passes over the data, those before a resume included; with batch_size=None an epoch is one step.
        steps: the same as epochs for full-batch gradient descent, by its usual name.
        batch_size: examples a step; None is all of them, as in the notes. A last partial batch counts for what
            it has.
        params: where to start; None is init(net, key) with the "he" scheme.
        weights: (m,), what each example counts beside the others of its batch (J = Σ w ℓ / Σ w); None is 1 each.
        validation: (X, Y) to measure after each epoch.
        patience: stop after so many epochs without a lower validation cost, and return the best params.
        tol: stop when the cost has changed by at most tol, relatively, for 10 epochs in a row: the notes' "until
            convergence".
        metrics: what to measure: "cost", "accuracy" (of classifiers), "gradient_norm"; None is the cost and, of
            classifiers, the accuracy. What is not named is not computed, but for the cost, which is guarded: numbers
            that are not finite stop training whatever is measured.
        gradient: "manual" (our backward) or "autodiff" (jax.grad), to compare.
        precision: a name of the table in _xla/matmul.py. Params are float64 with "float64", or where those given, else
            X, are and JAX's 64-bit is on; else they are float32, and training too, whatever the data.
        progress: show a progress bar, if standard error is a terminal.
        callbacks: functions (loop_state, history), or one, called after each epoch with the `LoopState` and the
            history so far; one that returns True stops training.
        device: "cpu", "gpu" or "tpu"; None is JAX's default.
        mesh: train on several devices at once, `jaxnet.parallel.mesh()`; the result is one device's, to rounding. A
            full batch is split over them; for mini-batches each holds all examples, of which it computes its share.
        resume: a FitResult to go on from, to the epoch number `epochs` of the whole training: with the same data and
            settings, 4 epochs and then 12 give the bits of 12 at once, history included. The result of a
            NotFiniteError goes on from the step before the one that failed, with a new epoch.

    Raises:
        ValueError, TypeError: an argument does not fit; the message says which, what it is and what to do.
        NotFiniteError: the cost, a metric, the params or the optimizer's state became NaN or infinite.
    """
    epochs = settings.epochs(epochs, steps, batch_size)
    if params is not None:
        params = checks.params(net, params)
    start = params if resume is None else _checked_result(net, resume, key, params, precision).loop.params
    dtype = inputs.working_dtype(X, start, checks.policy(precision))
    host = inputs.dataset(net, X, Y, weights, validation, dtype)
    settings.stopping(patience, tol, validation)
    settings.placement(device, mesh)
    config = FitConfig(
        net=net,
        optimizer=settings.optimizer(DEFAULT_OPTIMIZER if optimizer is None else optimizer),
        gradient=choice("gradient", gradient, GRADIENTS),
        precision=precision,
        batch_size=inputs.batch_size(batch_size, host.X.shape[1]),
        patience=patience,
        tol=tol,
        metrics=settings.metrics(net, metrics),
        mesh=mesh,
    )
    callbacks = settings.callbacks(callbacks)

    place = partial(jax.device_put, device=parallel.replicated(mesh) if mesh else parallel.device(device))
    if resume is None:
        checks.key(key)
        key, params = place((key, params))
        loop = _begin(config, key, params, dtype)
    else:
        loop = _resume(config, resume.loop, resume.history, epochs, validated=host.validation is not None)
    data = Data.by_rows(*host[:3], place) if config.batch_size else _full_batch(*host[:3], mesh, place)
    validation_data = None if host.validation is None else Data.by_columns(*host.validation, None, place)
    history = History(None if resume is None else resume.history)
    loop = jax.device_put(loop, parallel.replicated(mesh) if mesh else data.X.sharding)  # wherever it was before
    return _train(config, loop, history, data, validation_data, epochs, progress, callbacks)


def _begin(config: FitConfig, key, params: Params | None, dtype) -> LoopState:
    """The loop at its start, made by programs that all fits share: layers of one shape are drawn by one."""
    init_key, loop_key = jax.random.split(key)
    if params is None:
        params = init(config.net, init_key, dtype=dtype)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
    return _loop_start(config.optimizer, config.patience is not None, params, loop_key)


@partial(jax.jit, static_argnums=(0, 1))
def _loop_start(optimizer: optax.GradientTransformation, tracks_best: bool, params: Params, key) -> LoopState:
    """In buffers of its own: a chunk takes them, the caller keeps its params and key."""
    state = TrainState(params, optimizer.init(params), jnp.int32(0), key)
    return jax.tree.map(jnp.copy, loop_start(state, tracks_best))


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
    expected = jax.eval_shape(config.optimizer.init, loop.params)
    difference = _first_difference(loop.state.opt_state, expected)
    if difference:
        raise ValueError(
            f"resume.loop.state.opt_state is another optimizer's: {difference}; resume with that of the earlier fit"
        )
    names = {*config.metrics} | ({"validation_cost"} if validated else set())
    names |= {"validation_accuracy"} if validated and "accuracy" in config.metrics else set()
    if done and set(history) != names:
        has, wants = (", ".join(sorted(each)) or "nothing" for each in (history, names))
        raise ValueError(
            f"resume.history has {has}; expected {wants}, which metrics and validation ask for: resume with those of"
            " the earlier fit"
        )
    fresh = loop_start(loop.state, tracks_best=config.patience is not None)
    if config.patience is None or loop.best_params is None:  # not tracked until now, or no longer
        loop = loop._replace(
            best_params=fresh.best_params, best_cost=fresh.best_cost, epochs_since_best=fresh.epochs_since_best
        )
    if config.tol is None:
        loop = loop._replace(last_cost=fresh.last_cost, epochs_without_change=fresh.epochs_without_change)
    return jax.tree.map(jnp.copy, loop)


def _first_difference(tree, expected) -> str | None:
    """Where two trees first differ in structure, shape or dtype, in words; None where they do not."""
    got = dict(jax.tree_util.tree_leaves_with_path(tree))
    want = dict(jax.tree_util.tree_leaves_with_path(expected))
    for path in [*want, *(path for path in got if path not in want)]:
        name = jax.tree_util.keystr(path)
        if path not in got or path not in want:
            return f"{name} is {'missing' if path in want else 'too many'}"
        has, wants = ((leaf.dtype, leaf.shape) for leaf in (got[path], want[path]))
        if has != wants:
            return f"{name} is {has[0]}{list(has[1])}; expected {wants[0]}{list(wants[1])}"
    return None


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


def _train(config, loop, history, data, validation_data, epochs, progress, callbacks) -> FitResult:
    """Run chunk after chunk: the only part of training that is not a pure function."""
    m = data.X.shape[1 if config.batch_size is None else 0]
    steps_per_epoch = 1 if config.batch_size is None else -(-m // config.batch_size)
    platform = next(iter(data.X.devices())).platform
    small = config.mesh is None and small_call.fits(platform, config.net.sizes, m, config.batch_size)
    run = run_small_chunk if small else run_chunk
    pace = _Pace(steps_per_epoch, small, one_by_one=bool(callbacks))
    unit = "step" if config.batch_size is None else "epoch"
    epoch = int(loop.epoch)
    try:
        with tqdm(initial=epoch, total=epochs, unit=unit, disable=None if progress else True) as bar:
            while epoch < epochs and not is_stopped(config, loop):
                last = jnp.int32(min(epoch + pace.epochs, epochs))
                with signals.deferred():  # a chunk takes the old loop: no stop before the new one is recorded
                    loop, log, finite = run(config, loop, data, validation_data, last, pace.capacity)
                    history.extend(log, int(loop.epoch) - epoch)
                    bar.update(int(loop.epoch) - epoch)
                    epoch = int(loop.epoch)
                if not finite:
                    state, measured = replay_chunk(config, loop.state, data)
                    loop = loop._replace(state=state)
                    raise NotFiniteError(_not_finite_message(state, measured, epoch))
                if "cost" in config.metrics:
                    bar.set_postfix(cost=f"{history.last('cost'):.4g}", refresh=False)
                pace.adapt()
                if any_stops(callbacks, loop, history):
                    break
    except BaseException as error:
        if not hasattr(error, "result"):  # a fit inside a callback has set its own
            setattr(error, "result", _result(loop, history))  # noqa: B010 - no attribute of every exception
        raise
    return _result(loop, history)


def _result(loop: LoopState, history: History) -> FitResult:
    best = loop.best_params
    return FitResult(loop.params if best is None else best, history.arrays(), loop)


def _not_finite_message(state: TrainState, metrics, epoch: int) -> str:
    wide = [np.asarray(layer.W, np.float64) for layer in state.params]  # where squares of float32 do not overflow
    norms = ", ".join(f"|W[{number}]| = {np.linalg.norm(W):.3g}" for number, W in enumerate(wide, 1))
    measured = ", ".join(f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in metrics.items())
    norm = metrics.get("gradient_norm", np.zeros(()))
    most = float(np.finfo(norm.dtype).max) ** 0.5
    beyond = f" (above {most:.2g} its square overflows)" if np.isposinf(norm) else ""
    rate = getattr(state.opt_state, "hyperparams", {}).get("learning_rate")
    at_rate = "" if rate is None else f", learning rate {float(rate):.3g}"
    return (
        "the cost, a metric, the new params or the optimizer's state are not finite"
        f" at step {int(state.step) + 1} (epoch {epoch + 1}): {measured}{beyond}{at_rate}; {norms}."
        " The step was undone and the state before it is in this error's .result; lower the learning rate, clip the"
        " gradient (optax.clip_by_global_norm) or rescale X"
    )

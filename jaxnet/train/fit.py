"""`fit`: check what comes in, put it where it belongs, and run compiled chunks of epochs until training is done.

A thin loop, the only part of training with effects: it reads the costs between chunks, moves the progress bar, calls
the callbacks, and holds Ctrl-C back while a chunk runs, so that state and history always belong together.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
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

from jaxnet import checks as check
from jaxnet import parallel
from jaxnet._xla.small_call import is_small
from jaxnet.network import MLP, Params, init
from jaxnet.train import signals
from jaxnet.train.batches import Data
from jaxnet.train.epochs import GRADIENTS, Plan, Run, TrainState, chunk, resumed, small_chunk, start

CHUNK_STEPS = 10_000  # at most this many steps (or one epoch) between two looks from the host
CHUNK_SECONDS = 0.2  # ... and about this long, so that the bar moves and Ctrl-C is heard
SMALL_STEPS = 1_000  # in the first chunk of a small network, some 10 ms; others begin with one epoch
DEFAULT_OPTIMIZER = optax.adam(1e-3)  # one object, so that every fit without an optimizer shares its compiled program

Callback = Callable[[int, TrainState, dict[str, np.ndarray]], Any]


class FitResult(NamedTuple):
    """What `fit` returns.

    params: the best by validation cost where patience was given, else the last.
    history: NumPy vectors, one entry an epoch: "cost" and "gradient_norm" (the epoch's mean over examples, and its
        largest), "accuracy" for classifiers (both as seen by the steps, before each update), and with validation
        data "validation_cost" and "validation_accuracy" (after the epoch).
    state: the last state: params, optimizer state, step and key, as `train_step` takes it.
    """

    params: Params
    history: dict[str, np.ndarray]
    state: TrainState


class NotFiniteError(FloatingPointError):
    """Cost, gradient's norm or new params were not finite; the step was undone, `.result` holds the last good state."""

    result: FitResult


def fit(
    net: MLP,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    key: PRNGKeyArray | Array,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 20,
    steps: int | None = None,
    batch_size: int | None = 128,
    params: Params | None = None,
    weights: ArrayLike | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    patience: int | None = None,
    tol: float | None = None,
    gradient: str = "manual",
    precision: str = "float32",
    progress: bool = True,
    callbacks: Callback | Iterable[Callback] = (),
    device: str | None = None,
    mesh: Mesh | None = None,
) -> FitResult:
    """Train a network on arrays in memory; return its params, the history and the last state.

    Whatever interrupts training (a cost that is not finite, Ctrl-C, a callback that raises) is raised with a
    `.result`: the FitResult up to the last good state.

    Args:
        net: the network.
        X: (n_x, m), examples as columns; its values are checked once, on the host.
        Y: (n_y, m): 0 or 1 for a sigmoid, columns that sum to 1 (`one_hot`) for softmax, numbers otherwise.
        key: a JAX random key for the initial weights and the order of the examples: same key, same bits.
        optimizer: an optax optimizer; None is optax.adam(1e-3). optax.sgd(rate) is W -= rate * dW. Give the same
            object to several fits, and they share one compiled program.
        epochs: passes over the data; with batch_size=None an epoch is one step.
        steps: the same as epochs for full-batch gradient descent, by its usual name.
        batch_size: examples a step; None is all of them, as in the notes. A last partial batch counts for what
            it has.
        params: where to start; None is init(net, key) with the "he" scheme.
        weights: (m,), what each example counts beside the others of its batch (J = Σ w ℓ / Σ w); None is 1 each.
        validation: (X, Y) to measure after each epoch.
        patience: stop after so many epochs without a lower validation cost, and return the best params.
        tol: stop when the cost has changed by at most tol, relatively, for 10 epochs in a row: the notes' "until
            convergence".
        gradient: "manual" (our backward) or "autodiff" (jax.grad), to compare.
        precision: a name of the table in precision.py. Params are float64 with "float64", or where those given, else
            X, are and JAX's 64-bit is on; else they are float32, and training too, whatever the data.
        progress: show a progress bar, if standard error is a terminal.
        callbacks: functions (epoch, state, history), or one, called after each epoch (the first is 1); one that
            returns True stops training.
        device: "cpu", "gpu" or "tpu"; None is JAX's default.
        mesh: train on several devices at once, `jaxnet.parallel.mesh()`; the result is one device's, to rounding. A
            full batch is split over them; for mini-batches each holds all examples, of which it computes its share.

    Raises:
        ValueError, TypeError: an argument does not fit; the message says which, what came and what to do.
        NotFiniteError: the cost, the gradient's norm or the params became NaN or infinite.
    """
    optimizer = check.gradient_transformation(DEFAULT_OPTIMIZER if optimizer is None else optimizer)
    epochs = check.epochs(epochs, steps, batch_size)
    if params is not None:
        check.params_of(net, params)
    dtype = check.working_dtype(X, params, check.precision(precision))
    X, Y, weights, validation = check.dataset(net, X, Y, weights, validation, dtype)
    batch_size = check.batches(batch_size, X.shape[1])
    check.stopping(patience, tol, validation)
    check.key(key)
    check.placement(device, mesh)
    callbacks = check.callbacks(callbacks)
    gradient = check.choice("gradient", gradient, GRADIENTS)

    guard = "epoch" if batch_size else "step"
    plan = Plan(net, optimizer, gradient, precision, batch_size, patience, tol, mesh, guard)
    place = partial(jax.device_put, device=parallel.replicated(mesh) if mesh else parallel.device(device))
    data = place(Data.by_rows(X, Y, weights)) if batch_size else _full_batch(X, Y, weights, mesh, place)
    validation_data = None if validation is None else place(Data.by_columns(*validation, weights=None))
    run = _begin(plan, *place((key, params)), dtype)
    return _train(plan, run if mesh is None else place(run), data, validation_data, epochs, progress, callbacks)


def _begin(plan: Plan, key, params: Params | None, dtype) -> Run:
    """The run at its start, of programs that plans share: layers of one shape are drawn by one, whatever their net."""
    init_key, run_key = jax.random.split(key)
    if params is None:
        params = init(plan.net, init_key, dtype=dtype)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
    return _started(plan.optimizer, plan.patience is not None, params, run_key)


@partial(jax.jit, static_argnums=(0, 1))
def _started(optimizer: optax.GradientTransformation, keeps_best: bool, params: Params, key) -> Run:
    """In buffers of its own: a chunk takes them, the caller keeps its params and key."""
    state = TrainState(params, optimizer.init(params), jnp.int32(0), key)
    return jax.tree.map(jnp.copy, start(state, keeps_best))


def _full_batch(X, Y, weights, mesh: Mesh | None, place) -> Data:
    """All examples as columns; on a mesh split over its devices, filled up with examples of weight 0."""
    if mesh is None:
        return place(Data.by_columns(X, Y, weights))
    lacking = parallel.filling(X.shape[1], mesh)
    if lacking:
        weights = np.ones(X.shape[1], X.dtype) if weights is None else weights
        X, Y, weights = (np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, lacking)]) for array in (X, Y, weights))
    else:
        X, Y, weights = Data.by_columns(X, Y, weights)
    X, Y = jax.device_put((X, Y), parallel.columns(mesh))
    return Data(X, Y, place(weights))


def _train(plan, run, data, validation_data, epochs, progress, callbacks) -> FitResult:
    """Run chunk after chunk: the only part of training that is not a pure function."""
    m = data.X.shape[1 if plan.batch_size is None else 0]
    steps_per_epoch = 1 if plan.batch_size is None else -(-m // plan.batch_size)
    capacity = 1 if callbacks else max(1, CHUNK_STEPS // steps_per_epoch)
    history: dict[str, np.ndarray] = {}
    on_cpu = plan.mesh is None and next(iter(data.X.devices())).platform == "cpu"
    small = on_cpu and is_small(plan.net.sizes, m, plan.batch_size)
    run_chunk = small_chunk if small else chunk
    done, span = 0, min(capacity, SMALL_STEPS // steps_per_epoch or 1) if small else 1

    def result() -> FitResult:
        params = run.state.params if plan.patience is None else run.best_params
        return FitResult(params, {name: values[:done].copy() for name, values in history.items()}, run.state)

    unit = "step" if plan.batch_size is None else "epoch"
    try:
        with tqdm(total=epochs, unit=unit, disable=None if progress else True) as bar:
            while done < epochs and run.running:
                began = time.perf_counter()
                allowed = jnp.int32(min(span, epochs - done))
                with signals.deferred():  # the chunk takes the old run: no stop before the new one is in the books
                    run, ran, log = run_chunk(plan, run, data, validation_data, allowed, capacity)
                    ran = int(ran)
                    history = {name: _append(history.get(name), done, ran, values) for name, values in log.items()}
                    done += ran
                    if not run.finite and plan.guard == "epoch":  # again, to the step that was not finite
                        run, _, log = run_chunk(
                            replace(plan, guard="step"), resumed(run), data, validation_data, jnp.int32(1), capacity
                        )
                        history = {name: _append(history[name], done - 1, 1, values) for name, values in log.items()}
                if not run.finite:
                    done -= 1
                    raise NotFiniteError(_not_finite_message(run.state, history, done))
                bar.update(ran)
                bar.set_postfix(cost=f"{history['cost'][done - 1]:.4g}", refresh=False)
                if time.perf_counter() - began < CHUNK_SECONDS:
                    span = min(2 * span, capacity)
                if _stopped_by(callbacks, done, run.state, history):
                    break
    except BaseException as error:
        if not hasattr(error, "result"):  # a fit inside a callback has set its own
            error.result = result()
        raise
    return result()


def _append(buffer: np.ndarray | None, used: int, ran: int, values: Array) -> np.ndarray:
    """The buffer with the first `ran` values behind its first `used`; it doubles where it is too short."""
    values = np.asarray(values)[:ran]  # cut on the host: on the device each length would be compiled anew
    buffer = np.zeros(len(values), values.dtype) if buffer is None else buffer
    if used + len(values) > len(buffer):
        buffer = np.concatenate([buffer, np.zeros(max(len(buffer), len(values)), buffer.dtype)])
    buffer[used : used + len(values)] = values
    return buffer


def _stopped_by(callbacks, epoch, state, history) -> bool:
    """Call every callback on copies of its own, for the next chunk takes the state; whether one returned True."""
    answers = [
        callback(
            epoch,
            jax.tree.map(jnp.copy, state),
            {name: values[:epoch].copy() for name, values in history.items()},
        )
        for callback in callbacks
    ]
    return any(map(bool, answers))


def _not_finite_message(state: TrainState, history, epoch: int) -> str:
    wide = [np.asarray(layer.W, np.float64) for layer in state.params]  # where squares of float32 do not overflow
    norms = ", ".join(f"|W[{number}]| = {np.linalg.norm(W):.3g}" for number, W in enumerate(wide, 1))
    gradient_norm = history["gradient_norm"][epoch]
    most = float(np.finfo(gradient_norm.dtype).max) ** 0.5
    beyond = f" (above {most:.2g} its square overflows)" if np.isposinf(gradient_norm) else ""
    rate = getattr(state.opt_state, "hyperparams", {}).get("learning_rate")
    at_rate = "" if rate is None else f", learning rate {float(rate):.3g}"
    return (
        "the cost, the gradient's norm or the new params are not finite"
        f" at step {int(state.step) + 1} (epoch {epoch + 1}):"
        f" cost {history['cost'][epoch]:.3g}, gradient norm {gradient_norm:.3g}{beyond}{at_rate}; {norms}."
        " The step was undone and the state before it is in this error's .result; lower the learning rate, clip the"
        " gradient (optax.clip_by_global_norm) or rescale X"
    )

"""Training: one pure step, an epoch as one scan over mini-batches, and `fit`, a thin loop over chunks of epochs.

A chunk is one compiled program. It runs epochs until a limit that the host sets, or until training has to stop:
convergence (tol), no better validation cost (patience), a cost or gradient that is not finite. All of that is
decided inside the program, so what comes out does not depend on how epochs are cut into chunks; the host only
reads the costs between chunks, moves the progress bar, and calls the callbacks. The bookkeeping of a run is
donated to each chunk and lives in one copy.

Legend: X (n_x, m), Y (n_y, m); a mini-batch is gathered from rows, (m, n_x), and turned: three times faster than
gathering columns.

Source: the lecture notes, section 8 (gradient descent).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy.typing import ArrayLike
from tqdm import tqdm

from jaxnet import parallel
from jaxnet import validation as check
from jaxnet.labels import accuracy
from jaxnet.network import MLP, Params, cost_and_output, init, value_output_and_grad

GRADIENTS = {
    "manual": value_output_and_grad,
    "autodiff": jax.value_and_grad(cost_and_output, argnums=1, has_aux=True),
}
CALM_EPOCHS = 10  # epochs in a row whose cost changes by less than tol before training counts as converged
CHUNK_STEPS = 1000  # at most this many steps (or one epoch) between two looks from the host
CHUNK_SECONDS = 0.2  # ... and about this long, so that the bar moves and Ctrl-C is heard


class TrainState(NamedTuple):
    """All that a step needs and changes; a pytree."""

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]
    key: PRNGKeyArray | Array


class FitResult(NamedTuple):
    """What `fit` returns.

    params: the best by validation cost where patience was given, else the last.
    history: NumPy vectors, one entry an epoch: "cost" and "gradient_norm" (the epoch's mean over examples, and its
        largest), "accuracy" for classifiers (both as seen by the steps, before each update), and with validation
        data "validation_cost" and "validation_accuracy" (after the epoch).
    state: the last state, to go on from.
    """

    params: Params
    history: dict[str, np.ndarray]
    state: TrainState


class NotFiniteError(FloatingPointError):
    """The cost or the gradient was NaN or infinite; the step was undone and `.result` holds the last good state."""

    result: FitResult


def train_step(net: MLP, optimizer: optax.GradientTransformation, gradient: str = "manual", precision="float32"):
    """Return a pure function (state, X, Y, weights=None) -> (state, metrics): one step of gradient descent.

    With optax.sgd(rate) the update is W -= rate * dW, as in the notes. Metrics are scalars: "cost" and
    "gradient_norm" at the incoming state, "accuracy" for classifiers, and "finite". Where cost or gradient is not
    finite the state comes back as it was.

    Args:
        net: the network.
        optimizer: an optax optimizer.
        gradient: "manual" for the hand-written backward pass, "autodiff" for jax.grad.
        precision: a name of the table in precision.py.

    Raises:
        ValueError: an unknown gradient or precision.
        TypeError: the optimizer is not optax's.
    """
    value_and_grad = GRADIENTS[check.choice("gradient", gradient, GRADIENTS)]
    check.precision(precision)
    check.gradient_transformation(optimizer)

    def step(state: TrainState, X, Y, weights=None) -> tuple[TrainState, dict[str, Array]]:
        (J, A), grads = value_and_grad(net, state.params, X, Y, weights, precision)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(J + norm + optax.tree.norm(params))
        metrics = {"cost": J, "gradient_norm": norm, "finite": finite}
        if is_classifier(net):
            metrics["accuracy"] = accuracy(A, Y, weights)
        return _select(finite, TrainState(params, opt_state, state.step + 1, state.key), state), metrics

    return step


def is_classifier(net: MLP) -> bool:
    """Whether accuracy applies: cross-entropy on a softmax, or on one sigmoid."""
    return net.loss == "cross_entropy" and (net.activations[-1] == "softmax" or net.sizes[-1] == 1)


class Data(NamedTuple):
    """Examples in device memory: by columns for full batches, by rows for mini-batches."""

    X: Float[Array, "..."]
    Y: Float[Array, "..."]
    weights: Float[Array, " m"] | None


class Run(NamedTuple):
    """The bookkeeping of a training run, carried from epoch to epoch inside the compiled program."""

    state: TrainState
    best_params: Params | None  # by validation cost, if there is patience
    best_cost: Float[Array, ""]
    since_best: Int[Array, ""]  # epochs
    last_cost: Float[Array, ""]
    calm: Int[Array, ""]  # epochs in a row with a relative change of the cost below tol
    finite: Array
    running: Array


@dataclass(frozen=True)
class Plan:
    """What is static of a training run; hashable, so that equal plans share their compiled program."""

    net: MLP
    optimizer: optax.GradientTransformation
    gradient: str
    precision: str
    batch_size: int | None
    patience: int | None
    tol: float | None
    mesh: Mesh | None = None


def _select(condition, new, old):
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def full_batch_epoch(plan: Plan, state: TrainState, data: Data):
    """One step on all examples: the notes' "repeat { predict, dW, db, W -= α dW }"."""
    return train_step(plan.net, plan.optimizer, plan.gradient, plan.precision)(state, *data)


def mini_batch_epoch(plan: Plan, state: TrainState, data: Data):
    """One step on each mini-batch, in an order shuffled from state.key.

    A last partial batch, and on a mesh each batch that does not divide by its devices, is filled up with examples
    of weight 0: a batch counts for exactly the examples that it has.
    After a step that is not finite the state stays what it was, to the end of the epoch.
    """
    step = train_step(plan.net, plan.optimizer, plan.gradient, plan.precision)
    m, batch_size = data.X.shape[0], plan.batch_size
    key, shuffle_key = jax.random.split(state.key)
    order = _batches(jax.random.permutation(shuffle_key, m), batch_size, plan.mesh)
    counted = _batches(jnp.ones(m, np.promote_types(data.X.dtype, np.float32)), batch_size, plan.mesh)
    weighted = data.weights is not None or order.size > m

    def one_batch(carry, batch):
        state, finite = carry
        examples, weights = batch
        if data.weights is not None:
            weights = weights * data.weights[examples]
        X, Y = (parallel.split_columns(rows[examples].T, plan.mesh) for rows in (data.X, data.Y))
        new, metrics = step(state, X, Y, weights if weighted else None)
        finite &= metrics.pop("finite")
        return (_select(finite, new, state), finite), (metrics, weights.sum())

    start = state._replace(key=key), jnp.array(True)
    (state, finite), (metrics, totals) = jax.lax.scan(one_batch, start, (order, counted))
    epoch = {name: (v.astype(totals.dtype) * totals).sum() / totals.sum() for name, v in metrics.items()}
    return state, epoch | {"gradient_norm": metrics["gradient_norm"].max(), "finite": finite}


def _batches(vector, batch_size, mesh):
    """The vector cut into rows of batch_size, each filled up with zeros to what the mesh divides."""
    rows = jnp.pad(vector, (0, -vector.size % batch_size)).reshape(-1, batch_size)
    return jnp.pad(rows, ((0, 0), (0, parallel.filling(batch_size, mesh))))


def one_epoch(plan: Plan, run: Run, data: Data, validation_data: Data | None) -> tuple[Run, dict[str, Array]]:
    """Train for an epoch, measure, and decide whether to go on."""
    epoch = full_batch_epoch if plan.batch_size is None else mini_batch_epoch
    state, metrics = epoch(plan, run.state, data)
    run = run._replace(state=state, finite=metrics.pop("finite"))
    stop = ~run.finite
    if plan.tol is not None:
        change = jnp.abs(run.last_cost - metrics["cost"])
        calm = jnp.where(change <= plan.tol * jnp.abs(run.last_cost), run.calm + 1, 0)
        run = run._replace(calm=calm, last_cost=metrics["cost"])
        stop |= calm >= CALM_EPOCHS
    if validation_data is not None:
        J, A = cost_and_output(plan.net, state.params, *validation_data, plan.precision)
        metrics["validation_cost"] = J
        if is_classifier(plan.net):
            metrics["validation_accuracy"] = accuracy(A, validation_data.Y)
        if plan.patience is not None:
            better = run.best_cost > J
            run = run._replace(
                best_params=_select(better, state.params, run.best_params),
                best_cost=jnp.where(better, J, run.best_cost),
                since_best=jnp.where(better, 0, run.since_best + 1),
            )
            stop |= run.since_best >= plan.patience
    return run._replace(running=~stop), metrics


@partial(jax.jit, static_argnames=("plan", "capacity"), donate_argnames="run")
def chunk(plan: Plan, run: Run, data: Data, validation_data: Data | None, epochs, capacity: int):
    """Run at most `epochs` epochs (traced, <= capacity); return the run, how many it did, and their metrics."""
    shapes = jax.eval_shape(lambda r: one_epoch(plan, r, data, validation_data)[1], run)
    log = jax.tree.map(lambda s: jnp.zeros((capacity, *s.shape), s.dtype), shapes)

    def body(carry):
        run, done, log = carry
        run, metrics = one_epoch(plan, run, data, validation_data)
        return run, done + 1, jax.tree.map(lambda buffer, value: buffer.at[done].set(value), log, metrics)

    def go_on(carry):
        run, done, _ = carry
        return run.running & (done < epochs)

    return jax.lax.while_loop(go_on, body, (run, jnp.int32(0), log))


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
    callbacks: Sequence[Callable[[int, TrainState, dict[str, np.ndarray]], Any]] = (),
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
        optimizer: an optax optimizer; None is optax.adam(1e-3). optax.sgd(rate) is W -= rate * dW.
        epochs: passes over the data; with batch_size=None an epoch is one step.
        steps: the same as epochs for full-batch gradient descent, by its usual name.
        batch_size: examples a step; None is all of them, as in the notes. A last partial batch counts for what
            it has.
        params: where to start; None is init(net, key) with the "he" scheme.
        weights: (m,), what each example counts; None is 1 each.
        validation: (X, Y) to measure after each epoch.
        patience: stop after so many epochs without a lower validation cost, and return the best params.
        tol: stop when the cost has changed by at most tol, relatively, for 10 epochs in a row: the notes' "until
            convergence".
        gradient: "manual" (our backward) or "autodiff" (jax.grad), to compare.
        precision: a name of the table in precision.py.
        progress: show a progress bar, if standard error is a terminal.
        callbacks: functions (epoch, state, history), called after each epoch (the first is 1); one that returns
            True stops training.
        device: "cpu", "gpu" or "tpu"; None is JAX's default.
        mesh: train on several devices at once, `jaxnet.parallel.mesh()`; the result is one device's, to rounding.

    Raises:
        ValueError, TypeError: an argument does not fit; the message says which, what came and what to do.
        NotFiniteError: the cost or the gradient became NaN or infinite.
    """
    optimizer = check.gradient_transformation(optax.adam(1e-3) if optimizer is None else optimizer)
    epochs = check.epochs(epochs, steps, batch_size)
    dtype = check.working_dtype(X, params, check.precision(precision))
    X, Y, weights, validation = check.dataset(net, X, Y, weights, validation, dtype)
    batch_size = check.batches(batch_size, X.shape[1])
    check.stopping(patience, tol, validation)
    check.key(key)
    check.placement(device, mesh)
    gradient = check.choice("gradient", gradient, GRADIENTS)

    plan = Plan(net, optimizer, gradient, precision, batch_size, patience, tol, mesh)
    place = partial(jax.device_put, device=parallel.replicated(mesh) if mesh else parallel.device(device))
    data = place(Data(X.T.copy(), Y.T.copy(), weights)) if batch_size else _full_batch(X, Y, weights, mesh, place)
    validation_data = None if validation is None else place(Data(*validation, weights=None))
    init_key, run_key = jax.random.split(place(key))
    if params is None:
        params = init(net, init_key, dtype=dtype)
    else:
        check.params_of(net.sizes, params)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), place(params))
    state = TrainState(params, optimizer.init(params), jnp.int32(0), run_key)
    return _train(plan, place(_start(plan, state, dtype)), data, validation_data, epochs, progress, callbacks)


def _full_batch(X, Y, weights, mesh: Mesh | None, place) -> Data:
    """All examples as columns; on a mesh split over its devices, filled up with examples of weight 0."""
    if mesh is None:
        return place(Data(X, Y, weights))
    lacking = parallel.filling(X.shape[1], mesh)
    if lacking:
        weights = np.ones(X.shape[1], np.promote_types(X.dtype, np.float32)) if weights is None else weights
        X, Y, weights = (np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, lacking)]) for array in (X, Y, weights))
    X, Y = jax.device_put((X, Y), parallel.columns(mesh))
    return Data(X, Y, place(weights))


def _start(plan: Plan, state: TrainState, dtype) -> Run:
    unknown, zero, yes = jnp.array(jnp.inf, dtype), jnp.int32(0), jnp.array(True)
    best_params = None if plan.patience is None else state.params
    run = Run(state, best_params, unknown, zero, unknown, zero, finite=yes, running=yes)
    return jax.tree.map(jnp.copy, run)  # buffers of its own: a chunk takes them all, and the caller keeps its params


def _train(plan, run, data, validation_data, epochs, progress, callbacks) -> FitResult:
    """Run chunk after chunk: the only part of training that is not a pure function."""
    m = data.X.shape[1 if plan.batch_size is None else 0]
    steps_per_epoch = 1 if plan.batch_size is None else -(-m // plan.batch_size)
    capacity = 1 if callbacks else min(epochs, max(1, CHUNK_STEPS // steps_per_epoch))
    history: dict[str, np.ndarray] = {}
    done, span = 0, 1

    def result() -> FitResult:
        params = run.state.params if plan.patience is None else run.best_params
        return FitResult(params, {name: values[:done].copy() for name, values in history.items()}, run.state)

    unit = "step" if plan.batch_size is None else "epoch"
    try:
        with tqdm(total=epochs, unit=unit, disable=None if progress else True) as bar:
            while done < epochs and run.running:
                began = time.perf_counter()
                allowed = jnp.int32(min(span, epochs - done))
                run, ran, log = chunk(plan, run, data, validation_data, allowed, capacity)
                ran = int(ran)
                for name, values in log.items():
                    history.setdefault(name, np.zeros(epochs, values.dtype))[done : done + ran] = values[:ran]
                done += ran
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
        error.result = result()
        raise
    return result()


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
    return any(answer is True for answer in answers)


def _not_finite_message(state: TrainState, history, epoch: int) -> str:
    norms = ", ".join(
        f"|W[{number}]| = {float(jnp.linalg.norm(layer.W)):.3g}" for number, layer in enumerate(state.params, 1)
    )
    rate = getattr(state.opt_state, "hyperparams", {}).get("learning_rate")
    at_rate = "" if rate is None else f", learning rate {float(rate):.3g}"
    return (
        f"the cost or the gradient is not finite at step {int(state.step) + 1} (epoch {epoch + 1}): cost"
        f" {history['cost'][epoch]:.3g}, gradient norm {history['gradient_norm'][epoch]:.3g}{at_rate}; {norms}. The"
        " step was undone and the state before it is in this error's .result; lower the learning rate, clip the"
        " gradient (optax.clip_by_global_norm) or rescale X"
    )

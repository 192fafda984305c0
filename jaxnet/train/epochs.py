"""Training as pure functions: a step, an epoch as one scan over mini-batches, and chunks of epochs as one program.

A chunk is one compiled program. It runs epochs until a limit that the host sets, or until training has to stop:
convergence (tol), no better validation cost (patience), a cost or gradient that is not finite. All of that is
decided inside the program, so what comes out does not depend on how epochs are cut into chunks. The bookkeeping of a
run is donated to each chunk and lives in one copy.

Legend: X (n_x, m), Y (n_y, m); `data` holds them by columns or by rows, see examples.py.

Source: the lecture notes, section 8 (gradient descent).
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxnet import checks as check
from jaxnet import parallel
from jaxnet._xla.matmul import roomy
from jaxnet._xla.permutation import shuffled
from jaxnet._xla.small_call import OPTIONS, one_kernel, where_possible
from jaxnet.labels import accuracy
from jaxnet.network import MLP, Params, cost, cost_and_output, value_output_and_grad
from jaxnet.train.batches import Data

GRADIENTS = {
    "manual": value_output_and_grad,
    "autodiff": jax.value_and_grad(cost_and_output, argnums=1, has_aux=True),
}
CALM_EPOCHS = 10  # epochs in a row whose cost changes by less than tol before training counts as converged


class TrainState(NamedTuple):
    """All that a step needs and changes; a pytree."""

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]
    key: PRNGKeyArray | Array


def train_step(net: MLP, optimizer: optax.GradientTransformation, gradient: str = "manual", precision="float32"):
    """Return a pure function (state, X, Y, weights=None) -> (state, metrics): one step of gradient descent.

    With optax.sgd(rate) the update is W -= rate * dW, as in the notes. Metrics are scalars: "cost" and
    "gradient_norm" at the incoming state, "accuracy" for classifiers, and "finite". Where cost, gradient_norm
    or the new params are not finite, or all weights are 0, the state comes back as it was. It keeps its dtype: in
    float16 Adam's eps=1e-8 is 0, and no step of it is finite; make float32 params (`fit` does).

    Args:
        net: the network.
        optimizer: an optax optimizer.
        gradient: "manual" for the hand-written backward pass, "autodiff" for jax.grad.
        precision: a name of the table in precision.py.

    Raises:
        ValueError: an unknown gradient or precision.
        TypeError: the optimizer is not optax's.
    """
    tried = _tried_step(net, optimizer, gradient, precision)

    def step(state: TrainState, X, Y, weights=None) -> tuple[TrainState, dict[str, Array]]:
        new, metrics = tried(state, X, Y, weights)
        finite = metrics["finite"] & _all_finite(new.params)
        counts = finite if weights is None else finite & (weights.sum() > 0)
        return select(counts, new, state), metrics | {"finite": finite}

    return step


def _tried_step(net, optimizer, gradient, precision):
    """(state, X, Y, weights) -> the new state as it comes, and the metrics; "finite" speaks of cost and gradient."""
    value_and_grad = GRADIENTS[check.choice("gradient", gradient, GRADIENTS)]
    check.precision(precision)
    optimizer = optax.with_extra_args_support(check.gradient_transformation(optimizer))

    def step(state: TrainState, X, Y, weights) -> tuple[TrainState, dict[str, Array]]:
        check.train_state(state)
        (J, A), grads = value_and_grad(net, state.params, X, Y, weights, precision)
        updates, opt_state = optimizer.update(
            grads, state.opt_state, state.params, value=J, grad=grads,  # for those that search along a line
            value_fn=lambda params: cost(net, params, X, Y, weights, precision),
        )  # fmt: skip
        params = optax.apply_updates(state.params, updates)
        norm = _norm(grads)
        metrics = {"cost": J, "gradient_norm": norm, "finite": jnp.isfinite(J.astype(norm.dtype) + norm)}
        if is_classifier(net):
            metrics["accuracy"] = accuracy(A, Y, weights)
        return TrainState(params, opt_state, state.step + 1, state.key), metrics

    return step


def _norm(grads: Params) -> Float[Array, ""]:
    """√Σ g²; down the columns first, side by side, for a sum of everything is one addition after the other on a CPU."""
    wide = map(roomy, jax.tree.leaves(grads))
    return jnp.sqrt(sum(jax.lax.optimization_barrier((g * g).sum(axis=0)).sum() for g in wide))


def _all_finite(params: Params) -> Bool[Array, ""]:
    """Whether every number is: 0 * inf and 0 * NaN are NaN, and a sum is faster than a conjunction."""
    return jnp.isfinite(sum(jnp.sum(0 * p) for p in jax.tree.leaves(params)))


def is_classifier(net: MLP) -> bool:
    """Whether accuracy applies: cross-entropy on a softmax, or on one sigmoid."""
    return net.loss == "cross_entropy" and (net.activations[-1] == "softmax" or net.sizes[-1] == 1)


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
    guard: str = "step"  # what comes back as it was where a step is not finite: that "step", or its whole "epoch"


def start(state: TrainState, keeps_best: bool) -> Run:
    """The bookkeeping of a run that begins at a state."""
    dtype = state.params[0].W.dtype
    zero, yes = jnp.int32(0), jnp.array(True)
    best_params = state.params if keeps_best else None
    nothing_yet, never_better = jnp.array(jnp.nan, dtype), jnp.array(jnp.inf, dtype)
    return Run(state, best_params, never_better, zero, nothing_yet, zero, finite=yes, running=yes)


def resumed(run: Run) -> Run:
    """A run that was stopped, ready to go on from its state."""
    return run._replace(finite=jnp.ones_like(run.finite), running=jnp.ones_like(run.running))


def select(condition, new, old):
    """`new` where the condition holds, else `old`: two trees alike."""
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def full_batch_epoch(plan: Plan, state: TrainState, data: Data):
    """One step on all examples: the notes' "repeat { predict, dW, db, W -= α dW }"."""
    return train_step(plan.net, plan.optimizer, plan.gradient, plan.precision)(state, *data)


def mini_batch_epoch(plan: Plan, state: TrainState, data: Data):
    """One step on each mini-batch, in an order shuffled from state.key.

    A last partial batch, and on a mesh each batch that does not divide by its devices, is filled up with examples
    of weight 0: a batch counts for exactly the examples that it has.
    After a step that is not finite the state stays what it was, to the end of the epoch. With plan.guard "epoch" it
    does not, and is of no use: no step has to read and write all of its state once more.
    """
    guarded = plan.guard == "step"
    step = (train_step if guarded else _tried_step)(plan.net, plan.optimizer, plan.gradient, plan.precision)
    m, batch_size = data.X.shape[0], plan.batch_size
    key, shuffle_key = jax.random.split(state.key)
    order = _batches(shuffled(shuffle_key, m), batch_size, plan.mesh)
    counted = _batches(jnp.ones(m, data.X.dtype), batch_size, plan.mesh)
    weighted = data.weights is not None or order.size > m

    def one_batch(carry, batch):
        state, finite = carry
        examples, weights = batch
        if data.weights is not None:
            weights = weights * data.weights[examples]
        X, Y = (parallel.split_columns(rows[examples].T, plan.mesh) for rows in (data.X, data.Y))
        new, metrics = step(state, X, Y, weights if weighted else None)
        if guarded:
            new = select(finite, new, state)
        elif data.weights is not None:
            new = select(weights.sum() > 0, new, state)
        return (new, finite & metrics.pop("finite")), (metrics, weights.sum())

    start = state._replace(key=key), jnp.array(True)
    (state, finite), (metrics, totals) = jax.lax.scan(one_batch, start, (order, counted))
    if not guarded:
        finite &= _all_finite(state.params)  # once not finite, they have stayed so
    epoch = {name: (v * totals).sum() / totals.sum() for name, v in metrics.items()}
    return state, epoch | {"gradient_norm": metrics["gradient_norm"].max(), "finite": finite}


def _batches(vector, batch_size, mesh):
    """The vector cut into rows of batch_size, each filled up with zeros to what the mesh divides."""
    rows = jnp.pad(vector, (0, -vector.size % batch_size)).reshape(-1, batch_size)
    return jnp.pad(rows, ((0, 0), (0, parallel.filling(batch_size, mesh))))


def one_epoch(plan: Plan, run: Run, data: Data, validation_data: Data | None) -> tuple[Run, dict[str, Array]]:
    """Train for an epoch, measure, and decide whether to go on.

    With plan.guard "epoch" one with a step that is not finite leaves the run as it was, but for `finite` and `running`.
    """
    before = run
    epoch = full_batch_epoch if plan.batch_size is None else mini_batch_epoch
    state, metrics = epoch(plan, run.state, data)
    run = run._replace(state=state, finite=metrics.pop("finite"))
    stop = ~run.finite
    if plan.tol is not None:
        change = jnp.abs(metrics["cost"] - run.last_cost)
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
                best_params=select(better, state.params, run.best_params),
                best_cost=jnp.where(better, J, run.best_cost),
                since_best=jnp.where(better, 0, run.since_best + 1),
            )
            stop |= run.since_best >= plan.patience
    run = run._replace(running=~stop)
    if plan.guard == "epoch":
        run = select(run.finite, run, before._replace(finite=run.finite, running=run.finite))
    return run, metrics


def several_epochs(plan: Plan, run: Run, data: Data, validation_data: Data | None, epochs, capacity: int):
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


def several_epochs_in_one_kernel(plan, run, data, validation_data, epochs, capacity):
    """`several_epochs` for small networks on a CPU."""
    return one_kernel(lambda *arrays: several_epochs(plan, *arrays, capacity))(run, data, validation_data, epochs)


compiled = partial(jax.jit, static_argnames=("plan", "capacity"), donate_argnames="run")
chunk = compiled(several_epochs)
small_chunk = where_possible(compiled(several_epochs_in_one_kernel, compiler_options=OPTIONS), chunk)

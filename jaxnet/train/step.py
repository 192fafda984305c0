"""A step of gradient descent as a pure function.

Source: the lecture notes (NOTES.md), section 8.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from jaxnet import checks
from jaxnet._arguments import choice, type_name
from jaxnet._xla.reductions import all_finite, norm
from jaxnet._xla.split import split_alike
from jaxnet.metrics import accuracy_of
from jaxnet.mlp import MLP
from jaxnet.network import cost, cost_and_output, value_output_and_grad
from jaxnet.train import config, optimizers
from jaxnet.train.privacy import Privacy, private_value_output_and_grad
from jaxnet.train.state import TrainState, select

GRADIENTS = {
    "manual": value_output_and_grad,
    "autodiff": jax.value_and_grad(cost_and_output, argnums=1, has_aux=True),
}


def train_step(
    net: MLP,
    optimizer: optax.GradientTransformation,
    gradient: str = "manual",
    precision: str = "float32",
    metrics: Iterable[str] | None = None,
):
    """Return a pure function (state, X, Y, weights=None) -> (state, metrics): one step of gradient descent.

    With optax.sgd(rate) the update is W -= rate * dW, as in the notes. Metrics are scalars at the incoming state, and
    "finite". Where the cost, a metric or the new state is not finite, or all weights are 0, the state comes back
    unchanged; a gradient that is not finite is left to optax.apply_if_finite where that is in the optimizer, and what
    it counts is kept. The state keeps its dtype: in float16 Adam's eps=1e-8 is 0, and no step of it is finite; make
    float32 params (`fit` does). Dropout draws its masks from state.key, which then moves on.

    Args:
        net: the network.
        optimizer: an optax optimizer.
        gradient: "manual" for the hand-written backward pass, "autodiff" for jax.grad.
        precision: a name of the table in _xla/matmul.py.
        metrics: what to measure: "cost", "accuracy" (of classifiers), "gradient_norm"; None is the cost and, of
            classifiers, the accuracy. What is not named is not computed, but for the cost, which is guarded.

    Raises:
        ValueError: an unknown gradient, precision or metric; of the step: state.opt_state is another optimizer's.
        TypeError: the optimizer is not optax's; of the step: state is not a TrainState.

    >>> net, optimizer = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), optax.sgd(0.1)
    >>> params, step = jaxnet.init(net, jax.random.key(0)), jax.jit(jaxnet.train_step(net, optimizer))
    >>> state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(1))
    >>> state, metrics = step(state, *(jnp.asarray(part, "float32") for part in jaxnet.datasets.flower()))
    >>> int(state.step), sorted(metrics)
    (1, ['accuracy', 'cost', 'finite'])
    """
    checks.mlp(net)
    named = config.metrics(net, metrics)
    step = unguarded_step(net, optimizer, gradient, precision, named)

    def guarded_step(state: TrainState, X, Y, weights=None) -> tuple[TrainState, dict[str, Array]]:
        if not isinstance(state, TrainState):
            raise TypeError(
                f"state is {type_name(state)}; expected a TrainState(params, opt_state, step, key), such as"
                " TrainState(params, optimizer.init(params), jnp.int32(0), key)"
            )
        params, X = checks.inputs(net, checks.params(net, state.params, "state.params"), X, precision)
        Y, weights = checks.targets(net, X, Y, weights)
        optimizers.check_state(
            "state.opt_state", state.opt_state, optimizer, params, "make it with optimizer.init(state.params)"
        )
        state = state._replace(params=params)
        new, metrics = step(state, X, Y, weights)
        finite = step_is_finite(new, metrics)
        counts = step_is_finite(new, metrics, optimizers.refused_update(new.opt_state))
        counts = counts if weights is None else counts & (weights.sum() > 0)
        return select(counts, new, state), {name: metrics[name] for name in named} | {"finite": finite}

    return guarded_step


def unguarded_step(net, optimizer, gradient, precision, metrics, privacy: Privacy | None = None, batch_size=None):
    """A function (state, X, Y, weights) -> the new state, finite or not, and its metrics: those named, and the cost.

    With privacy a batch is expected to have batch_size examples, or all columns, and the optimizer is not offered the
    cost, which is not private.
    """
    value_and_grad = GRADIENTS[choice("gradient", gradient, GRADIENTS)]
    checks.policy(precision)
    extra = optimizers.extra_arguments(optimizers.optimizer(optimizer))

    def step(state: TrainState, X, Y, weights) -> tuple[TrainState, dict[str, Array]]:
        state, key = _with_key(state) if net.drops or privacy else (state, None)

        def value_fn(params):  # a line search may ask in another dtype, float64 where 64-bit is on
            params = jax.tree.map(lambda leaf, own: leaf.astype(own.dtype), params, state.params)
            return cost(net, params, X, Y, weights, precision, key)

        arguments = net, state.params, X, Y, weights, precision, key
        if privacy is None:
            (J, A), grads = value_and_grad(*arguments)
            offered = {"value": J, "grad": grads, "value_fn": value_fn}
        else:
            (J, A), grads = private_value_output_and_grad(privacy, batch_size or X.shape[1], *arguments)
            offered = {"grad": grads}
        with optimizers.refused_where_split(grads):
            updates, opt_state = optimizer.update(
                grads, state.opt_state, state.params, **{name: offered[name] for name in extra if name in offered}
            )
        params = optax.apply_updates(state.params, updates)
        params, opt_state = split_alike((params, opt_state), (state.params, state.opt_state))
        measured = {"cost": J}
        if "accuracy" in metrics:
            measured["accuracy"] = accuracy_of(net, A, Y, weights)
        if "gradient_norm" in metrics:
            measured["gradient_norm"] = norm(grads)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), measured

    return step


def _with_key(state: TrainState) -> tuple[TrainState, Array]:
    """The state with its next key, and a key for what is random in this step."""
    key, step_key = jax.random.split(state.key)
    return state._replace(key=key), step_key


def step_is_finite(state: TrainState, metrics: dict[str, Array], excused: Array | None = None) -> Bool[Array, ""]:
    """Whether all metrics, params and what the optimizer accumulates are; once they are not, they stay so.

    The metrics may be of one step or of many. Those of a step that is excused are not judged.
    """
    finite = all_finite((state.params, state.opt_state))
    for values in metrics.values():
        is_finite = jnp.isfinite(values)
        finite &= (is_finite if excused is None else is_finite | excused).all()
    return finite

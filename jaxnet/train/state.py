"""What training carries: the state of a step, and the state of the whole loop.

`LoopState` is everything that training needs to go on. What is saved, resumed, laid out over devices and handed to
callbacks is that one pytree.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxnet.mlp import Params


class TrainState(NamedTuple):
    """All that a step needs and changes; a pytree."""

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]
    key: PRNGKeyArray | Array


class LoopState(NamedTuple):
    """All that training needs to go on; a pytree.

    state: params, optimizer state, step and key.
    epoch: epochs done.
    best_params: those of the best monitored metric, best_score; None without patience.
    epochs_since_best: epochs in a row without a better one; -1 while there is no best.
    last_cost: of the last epoch, where there is a tol.
    epochs_without_change: epochs in a row whose cost changed relatively by at most tol; -1 while there is no last cost.
    rollbacks: how often, in a row, the epoch to come has been tried and undone, where fit is asked to roll back.
    """

    state: TrainState
    epoch: Int[Array, ""]
    best_params: Params | None
    best_score: Float[Array, ""]
    epochs_since_best: Int[Array, ""]
    last_cost: Float[Array, ""]
    epochs_without_change: Int[Array, ""]
    rollbacks: Int[Array, ""]

    @property
    def params(self) -> Params:
        """The last params."""
        return self.state.params


def loop_start(state: TrainState, tracks_best: bool) -> LoopState:
    """The loop before its first epoch: counters at -1 say that there is no cost to compare with yet."""
    none, zero = jnp.int32(-1), jnp.zeros((), state.params[0].W.dtype)
    best = state.params if tracks_best else None
    return LoopState(state, jnp.int32(0), best, zero, none, zero, none, rollbacks=jnp.int32(0))


def select(condition, new, old):
    """`new` where the condition holds, else `old`: two trees alike."""
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)

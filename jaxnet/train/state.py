"""What training carries: the state of a step, and the state of the whole loop.

`LoopState` is everything that training needs to go on. What is saved, resumed, laid out over devices and handed to
callbacks is that one pytree.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxnet import digests
from jaxnet._arguments import type_name
from jaxnet.mlp import Params
from jaxnet.parallel import placing


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
    epochs_since_best: epochs in a row that were not better than the best before by min_delta; -1 while there is none.
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


def checked_loop(argument: str, answer: LoopState, loop: LoopState) -> LoopState:
    """Return the answer in buffers of its own, where the loop lies; refuse one that cannot stand for the loop."""
    own = dict(jax.tree_util.tree_leaves_with_path(loop))
    answer = jax.tree_util.tree_map_with_path(lambda path, leaf: _array(argument, path, leaf, own.get(path)), answer)
    difference = first_difference(answer, loop)
    if difference:
        raise ValueError(f"{argument} is unlike the one it was given: {difference}; change values alone")
    if not np.array_equal(answer.epoch, loop.epoch):
        raise ValueError(
            f"{argument} has epoch {answer.epoch}; expected {loop.epoch}, of which the history tells: change it back"
            " with ._replace(epoch=...)"
        )
    return jax.tree.map(lambda leaf, old: placing.put(jnp.copy(leaf), old.sharding), answer, loop)


def digest_of(tree: Any) -> str:
    """The digest of all numbers of a tree that this process has whole; of keys their bits."""
    leaves = (leaf for leaf in jax.tree.leaves(tree) if not placing.spans_processes(leaf))
    is_key = lambda leaf: jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)
    arrays = (np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in leaves)
    return digests.of_record({"leaves": [digests.of_array(array) for array in arrays]})


def _array(argument: str, path: tuple[Any, ...], leaf: Any, old: Any) -> Any:
    """A number of Python or NumPy, such as a new rate, in the dtype that the loop has there."""
    if isinstance(leaf, jax.Array):
        return leaf
    is_key = old is not None and jnp.issubdtype(old.dtype, jax.dtypes.extended)
    if old is None or is_key or not np.can_cast(np.asarray(leaf).dtype, old.dtype, "same_kind"):
        expected = "nothing" if old is None else f"{old.dtype}{list(old.shape)}"
        raise TypeError(f"{argument} has {type_name(leaf)} at {jax.tree_util.keystr(path)}; expected {expected}")
    return jnp.asarray(leaf, old.dtype)


def first_difference(tree: Any, expected: Any) -> str | None:
    """Where two trees of arrays first differ in structure, shape or dtype, in words; None where they do not."""
    tree = jax.eval_shape(lambda tree: tree, tree)
    got = dict(jax.tree_util.tree_leaves_with_path(tree))
    want = dict(jax.tree_util.tree_leaves_with_path(expected))
    for path in [*want, *(path for path in got if path not in want)]:
        name = jax.tree_util.keystr(path)
        if path not in got or path not in want:
            return f"{name} is {'missing' if path in want else 'too many'}"
        has, wants = ((leaf.dtype, leaf.shape) for leaf in (got[path], want[path]))
        if has != wants:
            return f"{name} is {has[0]}{list(has[1])}; expected {wants[0]}{list(wants[1])}"
    structures = [jax.tree.structure(each) for each in (tree, expected)]
    return None if structures[0] == structures[1] else "it is {}; expected {}".format(*structures)

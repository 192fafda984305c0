"""Callbacks: functions (loop_state, history) that are called after each epoch, and may stop training or change it.

One that returns True stops it; one that returns a `LoopState` has training go on from that. No other answer counts.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._arguments import choice, count, from_zero, positive, share, type_name
from jaxnet.parallel import meshes
from jaxnet.parallel.processes import ALONE, Team
from jaxnet.train import optimizers
from jaxnet.train.history import History
from jaxnet.train.state import LoopState, checked_loop, digest_of

PLATEAU_METRICS = ("validation_cost", "validation_accuracy", "cost", "accuracy")
Callback = Callable[[LoopState, dict[str, np.ndarray]], Any]


def call_all(
    callbacks: Iterable[Callback], loop: LoopState, history: History, team: Team = ALONE
) -> tuple[LoopState, bool]:
    """Call one after the other on copies of its own, for the next chunk takes the state.

    Return the loop to go on from, the same object where no callback has returned one, and whether one returned True.
    In several processes each calls its own: training stops where one of any process says so, and goes on from a
    LoopState that all have returned.
    """
    stops = False
    for position, callback in enumerate(callbacks):
        with team.together(False, False) as told:
            answer = callback(meshes.ordinary(jax.tree.map(jnp.copy, loop)), history.arrays())
            changes = isinstance(answer, LoopState)
            if changes:
                argument = f"the LoopState that callbacks[{position}] returned"
                loop = checked_loop(argument, answer, loop)
                optimizers.check_learning_rate(loop.state.opt_state, argument)
            told.numbers = _is_true(answer), changes
        stops |= bool(told.of_all[:, 0].any())
        if told.of_all[:, 1].any():
            team.same({f"the answer of callbacks[{position}]": _in_words(answer)})
    return loop, stops


def _in_words(answer: Any) -> str:
    """What tells one answer from another."""
    if not isinstance(answer, LoopState):
        return "no LoopState"
    return f"a LoopState of digest {digest_of(answer)}"


def scale_learning_rate(loop: LoopState, factor: float) -> LoopState:
    """Return the loop with factor times its learning rate, for a callback to return.

    Raises:
        ValueError: the optimizer's state shows no learning rate that can be set, for which there is
            optax.inject_hyperparams(optax.sgd)(learning_rate=0.1); or factor is not a finite number above 0.
        TypeError: loop is not a LoopState.

    >>> slower = lambda loop, history: jaxnet.scale_learning_rate(loop, 0.9)  # after each epoch
    >>> adjustable = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> result = jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=adjustable, epochs=2, callbacks=slower)
    >>> round(float(result.state.opt_state.hyperparams["learning_rate"]), 2)
    0.81
    """
    _require_loop(loop)
    opt_state = optimizers.with_scaled_rate(loop.state.opt_state, positive("factor", factor))
    return loop._replace(state=loop.state._replace(opt_state=opt_state))


def reduce_on_plateau(
    factor: float = 0.5, patience: int = 5, min_delta: float = 0.0, metric: str = "validation_cost"
) -> Callback:
    """Return a callback that multiplies the learning rate by factor where training has come to a plateau.

    That is after every `patience` epochs in a row in which a metric of the history has not become better, by more than
    min_delta, than its best so far, as `fit` counts. It counts in the history, so that a resumed training has the same
    rates.

    Raises:
        ValueError: factor is not between 0 and 1, or another argument out of range; of the callback: the history has
            no such metric, or the optimizer's state shows no learning rate, as of `scale_learning_rate`.

    >>> halve = jaxnet.reduce_on_plateau(0.5, patience=3, metric="cost")  # for fit(..., callbacks=halve)
    """
    share("factor", factor)
    count("patience", patience)
    min_delta = from_zero("min_delta", min_delta)
    choice("metric", metric, PLATEAU_METRICS)

    def reduce(loop: LoopState, history: dict[str, np.ndarray]) -> LoopState | None:
        if metric not in history:
            raise ValueError(
                f"reduce_on_plateau has metric {metric!r}, but fit measures {', '.join(history) or 'nothing'}; give fit"
                " validation=(X, Y), or name one of those"
            )
        reduced = scale_learning_rate(loop, factor)  # at every epoch, so that one that cannot is told at the first
        epochs = _epochs_since_best(history[metric], min_delta, higher_is_better=metric.endswith("accuracy"))
        return reduced if epochs and epochs % patience == 0 else None

    return reduce


def _require_loop(loop: Any) -> None:
    if not isinstance(loop, LoopState):
        raise TypeError(f"loop is {type_name(loop)}; expected the LoopState that a callback is given")


def _epochs_since_best(values: np.ndarray, min_delta: float, higher_is_better: bool) -> int:
    best, epochs = np.inf, 0
    for value in (-values if higher_is_better else values).tolist():
        epochs = 0 if best > value + min_delta else epochs + 1
        best = min(best, value)
    return epochs


def _is_true(answer: Any) -> bool:
    """Whether it is the True of Python, NumPy or JAX: no other answer, such as a metric or a path, stops training."""
    return answer is True or (
        getattr(answer, "dtype", None) == np.dtype(bool) and np.shape(answer) == () and bool(answer)
    )

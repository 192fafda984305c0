"""Callbacks: functions (loop_state, history) that are called after each epoch; one that returns True stops training."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.train.history import History
from jaxnet.train.state import LoopState

Callback = Callable[[LoopState, dict[str, np.ndarray]], Any]


def any_stops(callbacks: Iterable[Callback], loop: LoopState, history: History) -> bool:
    """Call every callback on copies of its own, for the next chunk takes the state; whether one returned True."""
    answers = [callback(jax.tree.map(jnp.copy, loop), history.arrays()) for callback in callbacks]
    return any(map(_is_true, answers))


def _is_true(answer: Any) -> bool:
    """Whether it is the True of Python, NumPy or JAX: no other answer, such as a metric or a path, stops training."""
    return answer is True or (
        getattr(answer, "dtype", None) == np.dtype(bool) and np.shape(answer) == () and bool(answer)
    )

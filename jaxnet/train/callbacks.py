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
    return any(map(bool, answers))

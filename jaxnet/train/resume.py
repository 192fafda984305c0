"""Going on from the result of an earlier fit: bit for bit as without the break, or refused where that cannot be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import checks
from jaxnet._arguments import type_name
from jaxnet.mlp import MLP
from jaxnet.train import optimizers
from jaxnet.train.config import FitConfig
from jaxnet.train.privacy import Privacy, sampling_rate
from jaxnet.train.result import FitResult
from jaxnet.train.state import LoopState, loop_start


def checked_result(net: MLP, resume: Any, key: Any, params: Any, precision: str) -> FitResult:
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


def resumed_loop(config: FitConfig, loop: LoopState, history: dict, epochs: int, validated: bool, m: int) -> LoopState:
    """The loop to go on with, in buffers of its own; refuse one that another optimizer, or other metrics, have made."""
    done = int(loop.epoch)
    if epochs < done:
        raise ValueError(
            f"epochs (or steps) is {epochs} but resume has done {done}; give the number for the whole training"
        )
    optimizers.check_state(
        "resume.loop.state.opt_state", loop.state.opt_state, config.optimizer, loop.params,
        "resume with that of the earlier fit",
    )  # fmt: skip
    names = {*config.metrics} | ({"validation_cost"} if validated else set())
    names |= {"validation_accuracy"} if validated and "accuracy" in config.metrics else set()
    names |= {"skipped"} if config.on_nonfinite == "skip" else set()
    names |= {"epsilon"} if config.privacy is not None else set()
    if done and set(history) != names:
        has, wants = (", ".join(sorted(each)) or "nothing" for each in (history, names))
        raise ValueError(
            f"resume.history has {has}; expected {wants}, which metrics, validation, privacy and on_nonfinite ask for:"
            " resume with those of the earlier fit"
        )
    if config.privacy is not None:
        spent = float(history["epsilon"][-1]) if done else None
        _check_privacy(config.privacy, sampling_rate(config.batch_size, m), int(loop.state.step), spent)
    fresh = loop_start(loop.state, tracks_best=config.patience is not None)
    if config.patience is None or not _has_best(config.monitor, loop, history):
        loop = loop._replace(
            best_params=fresh.best_params, best_score=fresh.best_score, epochs_since_best=fresh.epochs_since_best
        )
    if config.tol is None:
        loop = loop._replace(last_cost=fresh.last_cost, epochs_without_change=fresh.epochs_without_change)
    return jax.tree.map(jnp.copy, loop)


def _check_privacy(privacy: Privacy, rate: float, steps: int, spent: float | None) -> None:
    """Refuse what was trained with another noise or sampling, for ε is that of as many steps with this one.

    The last ε in the history tells; after it there may have been steps of epochs that failed.
    """
    if spent is None and steps:
        raise ValueError(
            f"resume has taken {steps} steps of an epoch that failed, and the history has no epsilon to tell with what"
            " privacy; train anew, with another key"
        )
    if spent is not None and not privacy.epsilon_is_after(spent, steps, rate):
        raise ValueError(
            f"resume.history ends with epsilon {spent:.6g}, which no number of steps up to {steps} with"
            f" {privacy}, each on a share of {rate:.4g} of the examples, has; resume with the privacy, the data and the"
            " batch_size of the earlier fit"
        )


def _has_best(monitor: str, loop: LoopState, history: dict) -> bool:
    """Whether the loop's best is of this metric: it is the best of the epochs since patience began anew."""
    since = int(loop.epochs_since_best)
    if loop.best_params is None or since < 0:
        return False
    scores = history[monitor][int(loop.epoch) - 1 - since :]
    best = np.fmax.reduce(scores) if monitor.endswith("accuracy") else np.fmin.reduce(scores)
    return bool(np.isclose(best, loop.best_score, rtol=1e-5))

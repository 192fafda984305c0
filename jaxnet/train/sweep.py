"""Many networks at once: the same data, one net per member, each with its own key, learning rate and initial scale.

A member is a pure function of its settings. On CPU members run one after the other inside a compiled program, one
program per core, since batched small products do not fuse there; on GPU and TPU they run as one batch (`jax.vmap`).
Either way a member that diverges stops by itself and leaves the others alone.

Legend: n members; X (n_x, m), Y (n_y, m).
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike
from tqdm import tqdm

from jaxnet import checks as check
from jaxnet import parallel
from jaxnet._xla.small_call import OPTIONS, is_small, one_kernel, where_possible
from jaxnet._xla.threads import with_current_settings
from jaxnet.network import MLP, SCHEMES, Layer, Params, init
from jaxnet.train import epochs as training
from jaxnet.train.batches import Data
from jaxnet.train.epochs import Plan, Run, TrainState

UNKNOWN_YET = optax.identity()  # each member's optimizer depends on its rate; one object, so that equal plans are equal
TASKS_PER_CORE = 8  # programs handed to each core, so that the bar moves and no core waits long for the others


class SweepResult(NamedTuple):
    """What `sweep` returns; every array has a leading axis of n members.

    params: the last params, of a member that failed those before the step that failed.
    history: NumPy arrays (n, epochs), as in `fit`; NaN after a failure.
    failed: whether the member's cost, gradient's norm or params were not finite.
    learning_rate, init_scale: the settings; init_scale NaN stands for the "he" scheme.
    """

    params: Params
    history: dict[str, np.ndarray]
    failed: Bool[np.ndarray, " n"]
    learning_rate: Float[np.ndarray, " n"]
    init_scale: Float[np.ndarray, " n"]

    @property
    def score(self) -> Float[np.ndarray, " n"]:
        """The last cost of each member, on the validation data where there are any; infinite where it failed."""
        last = self.history.get("validation_cost", self.history["cost"])[:, -1]
        return np.where(self.failed | ~np.isfinite(last), np.inf, last)

    @property
    def best(self) -> int:
        """The member of the lowest score. Raises ValueError where all have failed."""
        if self.failed.all():
            raise ValueError(f"failed is True of all {len(self.failed)} members: none is best; lower learning_rate")
        return int(np.argmin(self.score))

    def table(self) -> str:
        """One line for each setting: members, best and median score over its keys, failures."""
        lines = ["learning rate  init scale  members        best      median  failed"]
        scales = np.where(np.isnan(self.init_scale), -1, self.init_scale)  # no NaN is another's equal
        for rate, scale in np.unique(np.stack([self.learning_rate, scales], axis=1), axis=0):
            own = (self.learning_rate == rate) & (scales == scale)
            scores, named = self.score[own], "he" if scale == -1 else f"{scale:.4g}"
            lines.append(
                f"{rate:13.4g}  {named:>10}  {own.sum():7d}  {scores.min():10.4g}  {np.median(scores):10.4g}"
                f"  {self.failed[own].sum():6d}"
            )
        return "\n".join(lines)


def sweep(
    net: MLP,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    keys: Array,
    learning_rate: ArrayLike | float,
    init_scale: ArrayLike | float | None = None,
    optimizer: Callable[[Array], optax.GradientTransformation] = optax.sgd,
    epochs: int = 20,
    batch_size: int | None = 128,
    weights: ArrayLike | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    gradient: str = "manual",
    precision: str = "float32",
    progress: bool = True,
    device: str | None = None,
) -> SweepResult:
    """Train n nets on the same data; member i is `fit` with keys[i] and optimizer(learning_rate[i]).

    Args:
        net: the network.
        X: (n_x, m), as in `fit`.
        Y: (n_y, m), as in `fit`.
        keys: n random keys, such as jax.random.split(key, n), or one for all members.
        learning_rate: n rates, or one for all members; not checked for size, for a sweep may look for the limit.
        init_scale: n scales s of W = randn * s, or one for all; None, and NaN among them, is the "he" scheme.
        optimizer: a function of the rate, such as optax.sgd or optax.adam.
        epochs: passes over the data.
        batch_size: examples a step; None is all.
        weights: (m,), as in `fit`.
        validation: (X, Y), as in `fit`.
        gradient: "manual" or "autodiff".
        precision: a name of the table in precision.py, as in `fit`.
        progress: show a progress bar, if standard error is a terminal.
        device: "cpu", "gpu" or "tpu"; None is JAX's default.

    Raises:
        ValueError, TypeError: an argument does not fit, or the settings' lengths do not go together.
    """
    epochs = check.count("epochs", epochs)
    dtype = check.working_dtype(X, None, check.precision(precision))
    X, Y, weights, validation = check.dataset(net, X, Y, weights, validation, dtype)
    batch_size = check.batches(batch_size, X.shape[1])
    check.choice("gradient", gradient, training.GRADIENTS)
    check.function_of_rate(optimizer)
    keys, rates, scales = _members(keys, learning_rate, init_scale, dtype)

    place = partial(jax.device_put, device=parallel.device(device))
    data = place((Data.by_rows if batch_size else Data.by_columns)(X, Y, weights))
    validation_data = None if validation is None else place(Data.by_columns(*validation, weights=None))
    guard = "epoch" if batch_size else "step"
    plan = Plan(net, UNKNOWN_YET, gradient, precision, batch_size, patience=None, tol=None, guard=guard)

    n = len(keys)
    on_cpu = jax.tree.leaves(data)[0].devices().pop().platform == "cpu"
    small = on_cpu and is_small(net.sizes, X.shape[1], batch_size)
    train = _in_one_kernel if small else _in_turn if on_cpu else _as_one_batch
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    task = math.ceil(n / min(n, cores * TASKS_PER_CORE)) if on_cpu else n
    filled = np.arange(-(-n // task) * task) % n  # tasks of one size share one program; what is filled up is dropped
    tasks = [place((keys[i], rates[i], scales[i])) for i in filled.reshape(-1, task)]

    def run(task):
        runs, rates = _start_members((plan, optimizer), *task)
        runs, history = train((plan, optimizer, epochs), (runs, rates), data, validation_data)
        failed = ~runs.finite
        if plan.guard == "epoch" and failed.any():  # they are at that epoch's start: again, to the step that failed
            again = (replace(plan, guard="step"), optimizer, 1), (training.resumed(runs), rates)
            runs = _where(failed, train(*again, data, validation_data)[0], runs)
        return jax.block_until_ready((runs.state.params, history, failed))

    parts = []
    with ThreadPoolExecutor(cores) as pool, tqdm(total=n, unit="net", disable=None if progress else True) as bar:
        for part in pool.map(with_current_settings(run), tasks):
            parts.append(part)
            bar.update(min(task, n - bar.n))
    params, history, failed = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:n], *parts)
    history = {name: np.asarray(values) for name, values in history.items()}
    return SweepResult(params, history, np.asarray(failed), np.asarray(rates), np.asarray(scales))


@partial(jax.jit, static_argnums=0)
def _start_members(static, keys, rates, scales):
    """The members at their start, each with its rate: apart, for drawing normal numbers is no work for one kernel."""
    plan, optimizer = static

    def begin(key, rate, scale):
        init_key, run_key = jax.random.split(key)
        unit = init(plan.net, init_key, 1.0, scale.dtype)
        params = tuple(Layer(W * jnp.where(jnp.isnan(scale), SCHEMES["he"](*W.shape), scale), b) for W, b in unit)
        transformation = check.gradient_transformation(optimizer(rate), "optimizer(learning_rate)")
        state = TrainState(params, transformation.init(params), jnp.int32(0), run_key)
        return training.start(state, keeps_best=False), rate

    return jax.vmap(begin)(keys, rates, scales)


def _train_members(over, static, members, data, validation_data):
    """Train each (run, rate); `over` lifts the training of one: jax.vmap as one batch, jax.lax.map in turn."""
    return over(lambda member: _train_member(static, *member, data, validation_data))(members)


def _train_members_in_one_kernel(static, *arrays):
    return one_kernel(partial(_train_members, IN_TURN, static))(*arrays)


IN_TURN = partial(partial, jax.lax.map)
_where = jax.jit(jax.vmap(training.select))
_compiled = partial(jax.jit, static_argnums=0)
_as_one_batch, _in_turn = (_compiled(partial(_train_members, over)) for over in (jax.vmap, IN_TURN))
_in_one_kernel = where_possible(_compiled(_train_members_in_one_kernel, compiler_options=OPTIONS), _in_turn)


def _train_member(static, run: Run, rate, data: Data, validation_data: Data | None):
    """One member: (run, history)."""
    plan, optimizer, epochs = static
    plan = replace(plan, optimizer=optimizer(rate))

    def epoch(run, _):
        after, metrics = training.one_epoch(plan, run, data, validation_data)
        ran = run.running & after.finite
        kept = jax.tree.map(lambda new, old: jnp.where(run.running, new, old), after, run)
        return kept, {name: jnp.where(ran, value, jnp.nan) for name, value in metrics.items()}

    return jax.lax.scan(epoch, run, length=epochs)


def _no_scale(scales):
    return (scales < 0) | np.isinf(scales)


def _members(keys, learning_rate, init_scale, dtype):
    """The settings as arrays of one length."""
    keys = check.keys(keys)
    rates = check.settings("learning_rate", learning_rate, dtype, np.isnan, "expected numbers")
    scales = check.settings("init_scale", init_scale, dtype, _no_scale, "expected scales from 0 up, None for 'he'")
    lengths = {"keys": len(keys), "learning_rate": rates.size, "init_scale": scales.size}
    n = max(lengths.values())
    for name, length in lengths.items():
        if length not in (1, n):
            raise ValueError(f"{name} has {length} members but there are {n}; give {n} or one for all")
    if rates.ndim > 1 or scales.ndim > 1:
        raise ValueError(f"learning_rate has shape {rates.shape}, init_scale {scales.shape}; expected one axis of {n}")
    everyone = np.zeros(n, int)
    return (a if len(a) == n else a[everyone] for a in (keys, rates, scales))

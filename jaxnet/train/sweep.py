"""Many networks at once: the same data, one net per member, each with its own key, learning rate and initial scale.

A member is a pure function of its settings. On CPU members run one after the other inside a compiled program, one
program per core, since batched small products do not fuse there; on GPU and TPU they run as one batch (`jax.vmap`).
Either way a member that diverges stops by itself and leaves the others alone.

Legend: n members; X (n_x, m), Y (n_y, m).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike

from jaxnet import checks
from jaxnet._arguments import choice, count, shown_without_types, type_name
from jaxnet._xla import small_call
from jaxnet._xla.compile import BoundedJit, with_fallback
from jaxnet._xla.memory import out_of_memory
from jaxnet._xla.threads import with_current_settings
from jaxnet.initialisers import SCHEMES, init
from jaxnet.mlp import MLP, Layer, Params
from jaxnet.parallel import meshes
from jaxnet.parallel.processes import Team
from jaxnet.train import config as settings
from jaxnet.train import inputs, optimizers, signals, summary
from jaxnet.train.batches import Data
from jaxnet.train.callbacks import Callback, call_all
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import next_epoch, replay
from jaxnet.train.history import History
from jaxnet.train.in_memory import memory_needs
from jaxnet.train.progress import progress_bar
from jaxnet.train.result import set_result
from jaxnet.train.state import LoopState, TrainState, loop_start, select
from jaxnet.train.step import GRADIENTS
from jaxnet.values import real_numbers, refuse_first

PLACEHOLDER = optax.identity()  # each member makes its own; one object, so that equal configs are equal
TASKS_PER_CORE = 8  # programs handed to each core, so that the bar moves and no core waits long for the others


class Members(NamedTuple):
    """The state of n members; every leaf has a leading axis of n."""

    loop: LoopState
    failed: Bool[Array, " n"]
    rate: Float[Array, " n"]


class SweepResult(NamedTuple):
    """What `sweep` returns; every array has a leading axis of n members.

    params: the last params, of a member that failed those before the step that failed.
    history: NumPy arrays (n, epochs), as in `fit`; NaN from a failure on, and where an interruption came first.
    failed: whether the member's cost, a metric, its params, its optimizer's state or its validation cost were not
        finite; False of a member that was interrupted.
    learning_rate, init_scale: the settings; init_scale NaN stands for the "he" scheme.
    """

    params: Params
    history: dict[str, np.ndarray]
    failed: Bool[np.ndarray, " n"]
    learning_rate: Float[np.ndarray, " n"]
    init_scale: Float[np.ndarray, " n"]

    def __repr__(self) -> str:
        """The network, the number of members and epochs, and which member is best."""
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        """The same in a notebook, with the costs of the best member."""
        lines = self._lines()
        best = {name: values[self.best] for name, values in self.history.items()} if len(lines) == 3 else {}
        return summary.as_html("\n".join(lines), best)

    def _lines(self) -> list[str]:
        found = self.history.get("cost") if isinstance(self.history, dict) else None
        arrays = (self.failed, self.learning_rate, self.init_scale)  # in a tree that was mapped they may be anything
        if not (isinstance(found, np.ndarray) and found.ndim == 2 and found.size) or not all(
            isinstance(array, np.ndarray) for array in arrays
        ):
            return [f"SweepResult: {summary.network(self.params)}"]
        n, epochs = found.shape
        head = f"SweepResult: {n} nets {summary.network(self.params)}, {epochs} epochs, {int(self.failed.sum())} failed"
        if not np.isfinite(self.score).any():
            return [head, "  none is best"]
        best, scale = self.best, self.init_scale[self.best]
        return [
            head,
            f"  best is member {best}: cost {self.score[best]:.4g} at learning rate {self.learning_rate[best]:.4g},"
            f" init scale {'he' if np.isnan(scale) else f'{scale:.4g}'}",
            "  table() has a line for each setting",
        ]

    @property
    def score(self) -> Float[np.ndarray, " n"]:
        """The last cost of each member, on the validation data where there are any; infinite where it has none."""
        last = self.history.get("validation_cost", self.history["cost"])[:, -1]
        return np.where(self.failed | ~np.isfinite(last), np.inf, last)

    @property
    def best(self) -> int:
        """The member of the lowest score. Raises ValueError where all have failed, or were interrupted."""
        if self.failed.all():
            raise ValueError(f"failed is True of all {len(self.failed)} members: none is best; lower learning_rate")
        if np.isinf(self.score).all():
            raise ValueError(f"none of {len(self.failed)} members is best: all that did not fail were interrupted")
        return int(np.argmin(self.score))

    def table(self) -> summary.Text:
        """One line for each setting: members, best and median score over its keys, failures; shown as it is."""
        lines = ["learning rate  init scale  members        best      median  failed"]
        scales = np.where(np.isnan(self.init_scale), -1, self.init_scale)  # no NaN is another's equal
        for rate, scale in np.unique(np.stack([self.learning_rate, scales], axis=1), axis=0):
            own = (self.learning_rate == rate) & (scales == scale)
            scores, named = self.score[own], "he" if scale == -1 else f"{scale:.4g}"
            lines.append(
                f"{rate:13.4g}  {named:>10}  {own.sum():7d}  {scores.min():10.4g}  {np.median(scores):10.4g}"
                f"  {self.failed[own].sum():6d}"
            )
        return summary.Text("\n".join(lines))


@shown_without_types
def sweep(
    net: MLP,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    keys: Array,
    learning_rate: ArrayLike | float,
    init_scale: ArrayLike | float | None = None,
    optimizer: str | Callable[[Array], optax.GradientTransformation] = "sgd",
    epochs: int = 20,
    batch_size: int | str | None = "auto",
    weights: ArrayLike | None = None,
    validation: inputs.Validation | None = None,
    metrics: Iterable[str] | None = None,
    gradient: str = "manual",
    precision: str = "float32",
    progress: bool | str = True,
    callbacks: Callback | Iterable[Callback] = (),
    device: str | None = None,
    mesh: Mesh | None = None,
) -> SweepResult:
    """Train n nets on the same data; member i is `fit` with keys[i], the optimizer and learning_rate[i].

    Ctrl-C, and a callback that raises, end it once the members in work are done, with a `.result`: the SweepResult of
    what was trained. Members that were not are at their start there, or at the end of the epoch before, and have NaN
    in the history from then on.

    Args:
        net: the network.
        X: (n_x, m), as in `fit`.
        Y: (n_y, m), as in `fit`.
        keys: n random keys, such as jax.random.split(key, n), or one for all members.
        learning_rate: n rates above 0, or one for all members; large ones are taken, for a sweep may look for the
            limit.
        init_scale: n scales s of W = randn * s, or one for all; None, and NaN among them, is the "he" scheme.
        optimizer: a name, as in `fit`, or a function of the rate, such as optax.sgd; the rate is traced, so that one
            program serves all members, and can't be compared. The programs of the last 16 functions are kept.
        epochs: passes over the data.
        batch_size: examples a step, as in `fit`.
        weights: (m,), as in `fit`.
        validation: (X, Y) or (X, Y, weights), as in `fit`.
        metrics: as in `fit`; the cost is always measured.
        gradient: "manual" or "autodiff".
        precision: a name of the table in _xla/matmul.py, as in `fit`.
        progress: show a progress bar, on a terminal and in a notebook; "always" elsewhere too, as text.
        callbacks: functions (loop_state, history), or one, called after each epoch of all members, as in `fit`; every
            array has a leading axis of n. One that returns True stops the sweep.
        device: "cpu", "gpu" or "tpu"; None is JAX's default.
        mesh: share the members out among several devices, `jaxnet.parallel.mesh()`; each trains its own, and nothing
            moves between them. All hold the data.

    Raises:
        ValueError, TypeError: an argument does not fit, or the settings' lengths do not go together.
        MemoryError: the device cannot hold the members, the data or a batch's pass.
        FloatingPointError: JAX's, under jax_debug_nans, where a member fails.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> jaxnet.sweep(net, X, Y, keys=jax.random.key(0), learning_rate=[0.01, 0.1, 1.0], epochs=5)
    SweepResult: 3 nets 2-4-1 in float32, 5 epochs, 0 failed
      best is member 2: cost 0... at learning rate 1, init scale he
      table() has a line for each setting
    """
    epochs = count("epochs", epochs)
    dtype = inputs.working_dtype(X, None, checks.policy(precision))
    host = inputs.dataset(net, X, Y, weights, validation, dtype)
    m = host.X.shape[1]
    batch_size = inputs.batch_size(batch_size, m)
    choice("gradient", gradient, GRADIENTS)
    callbacks = settings.callbacks(callbacks)
    settings.placement(device, mesh, "data")
    if Team(mesh).number > 1:
        raise ValueError(
            "mesh has devices of several processes; expected those of one, for a sweep's members share nothing: give"
            " each process its own keys, and no mesh, or one of its jax.local_devices()"
        )
    metrics = tuple(dict.fromkeys(("cost", *settings.metrics(net, metrics))))
    optimizer_at = optimizers.function_of_rate(optimizer)
    member_keys, rates, scales = _members(keys, learning_rate, init_scale, dtype)

    config = FitConfig(net, PLACEHOLDER, gradient, precision, batch_size, metrics=metrics)
    static = config, optimizer_at
    n = len(member_keys)
    place = partial(jax.device_put, device=meshes.device(device) if mesh is None else meshes.replicated(mesh))
    place_members = place if mesh is None else partial(jax.device_put, device=meshes.over_all(mesh))
    enough_memory = partial(
        out_of_memory, lambda: memory_needs(replace(config, optimizer=optimizer_at(jnp.float32(0.1))), host, n)
    )
    with enough_memory():
        data = (Data.by_rows if batch_size else Data.by_columns)(*host[:3], place)
        validation_data = None if host.validation is None else Data.by_columns(*host.validation, place)

    platform = next(iter(data.X.devices())).platform
    small = mesh is None and small_call.fits(platform, net.sizes, m, batch_size)
    lift = SEQUENTIAL if platform == "cpu" else jax.vmap
    start, train, walk = _start_members, _train[lift], _replay[lift]
    if small:
        train = _train_in_a_single_call
    elif mesh is not None:
        start, train, walk = _start_split, _train_split[lift], _replay_split[lift]
    of = (lambda static: static) if mesh is None else (lambda static: (mesh, static))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if mesh is not None:
        size = -(-n // mesh.size) * mesh.size
    else:
        size = math.ceil(n / min(n, cores * TASKS_PER_CORE)) if platform == "cpu" else n
    padded = np.arange(-(-n // size) * size) % n  # tasks of one size share one program; the padding is dropped
    tasks = [place_members((member_keys[i], rates[i], scales[i])) for i in padded.reshape(-1, size)]

    span = 1 if callbacks else epochs  # epochs between two looks
    program = (*static, span)
    members: list[Members] = []  # of each task
    trained: dict[int, tuple[Members, dict]] = {}  # tasks done of the span at hand: their members, and their log
    history = History()

    def train_task(task: int) -> None:
        trained[task] = jax.block_until_ready(train(of(program), members[task], data, validation_data))

    def record() -> None:
        """Take over what is trained; where an interruption came first the other tasks stay, NaN in the history."""
        missing = {}
        if len(trained) < len(members):
            shapes = jax.eval_shape(partial(_train[SEQUENTIAL], program), members[0], data, validation_data)[1]
            missing = jax.tree.map(lambda shape: np.full(shape.shape, np.nan, shape.dtype), shapes)
        parts = [trained.get(task, (part, missing)) for task, part in enumerate(members)]
        with signals.deferred():
            history.extend(jax.tree.map(lambda *logs: np.concatenate(logs)[:n], *[log for _, log in parts]), span)
            members[:] = [part for part, _ in parts]
            trained.clear()

    def last_good_params(members: Members) -> Params:
        if not members.failed.any():
            return members.loop.state.params
        failed = walk(of(static), members, data).params
        return _where(members.failed, failed, members.loop.state.params)

    def result(run: Callable) -> SweepResult:
        params = _joined(list(run(last_good_params, members)), n)
        failed = _joined([part.failed for part in members], n)
        return SweepResult(params, history.arrays(), np.asarray(failed), np.asarray(rates), np.asarray(scales))

    with (
        ThreadPoolExecutor(cores) as pool,
        progress_bar(progress, n * epochs // span, "net") as bar,
    ):
        in_threads = lambda function, tasks: pool.map(with_current_settings(function), tasks)
        with enough_memory():
            members += in_threads(lambda task: jax.block_until_ready(start(of(static), task)), tasks)
        try:
            for _ in range(0, epochs, span):
                with enough_memory():
                    for _ in in_threads(train_task, range(len(members))):
                        bar.update(min(size, n * (1 + bar.n // n) - bar.n))
                record()
                if callbacks:
                    loop = _joined([part.loop for part in members], n)
                    answered, stops = call_all(callbacks, loop, history)
                    if answered is not loop:
                        raise TypeError("callbacks returned a LoopState; expected none, which `fit` alone goes on from")
                    if stops:
                        break
            whole = result(in_threads)
        except BaseException as error:
            pool.shutdown(cancel_futures=True)  # waits for the tasks in work
            if trained or not history.arrays():
                record()
            set_result(error, result(map))
            raise
    optimizers.warn_of_unapplied_gradients([part.loop.state.opt_state for part in members])
    return whole


def _joined(parts: list, n: int) -> Any:
    """Trees of the tasks' members as one tree of all n."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:n], *parts)


def _begin_members(static, settings: tuple[Array, Array, Array]) -> Members:
    """The members at their start, from their keys, rates and scales.

    A program of its own, for drawing normal numbers does not fit a single call.
    """
    config, optimizer = static

    def begin(key, rate, scale):
        init_key, loop_key = jax.random.split(key)
        unit = init(config.net, init_key, 1.0, scale.dtype)
        params = tuple(Layer(W * jnp.where(jnp.isnan(scale), SCHEMES["he"](*W.shape), scale), b) for W, b in unit)
        transformation = optimizers.optimizer(_optimizer_at(optimizer, rate), "optimizer(learning_rate)")
        state = TrainState(params, transformation.init(params), jnp.int32(0), loop_key)
        return Members(loop_start(state, tracks_best=False), jnp.array(False), rate)

    return jax.vmap(begin)(*settings)


def _optimizer_at(optimizer: Callable, rate: Array) -> optax.GradientTransformation:
    """The optimizer of one member; its rate is traced, and has no number that Python could compare."""
    try:
        return optimizer(rate)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            "optimizer(learning_rate) asks for the number of its rate, as optax.warmup_cosine_decay_schedule does;"
            " expected a function of a traced rate, which has none: one program serves all members. Scale the updates"
            " of a schedule up to 1 instead, lambda rate: optax.chain(optax.adam(schedule), optax.scale(rate)), or call"
            " fit in a loop"
        ) from error


def _train_member(static, member: Members, data: Data, validation_data: Data | None):
    """Train one member for some epochs, or until it fails: the member and its log."""
    config, optimizer, epochs = static
    config = replace(config, optimizer=_optimizer_at(optimizer, member.rate))

    def epoch(member, _):
        loop, metrics, finite = next_epoch(config, member.loop, data, validation_data)
        succeeds = finite & ~member.failed
        after = Members(select(succeeds, loop, member.loop), ~succeeds, member.rate)
        return after, {name: jnp.where(succeeds, value, jnp.nan) for name, value in metrics.items()}

    return jax.lax.scan(epoch, member, length=epochs)


def _replay_member(static, member: Members, data: Data) -> TrainState:
    """The state of a failed member before the step that failed, or before the epoch where no single step does."""
    config, optimizer = static
    config = replace(config, optimizer=_optimizer_at(optimizer, member.rate))
    state, _, steps_are_finite = replay(config, member.loop.state, data)
    return select(steps_are_finite, member.loop.state, state)


def _lifted(one, lift, static, members: Members, *data):
    """A function of one member lifted to all: by jax.vmap as one batch, by jax.lax.map one after the other."""
    return lift(lambda member: one(static, member, *data))(members)


def _in_a_single_call(function, static, *arrays):
    return small_call.single_call(partial(function, static))(*arrays)


def _on_each_device(function, static, members, *data):
    """A function of members that are split over all devices of a mesh, by each device of its own."""
    mesh, static = static
    split, whole = P(mesh.axis_names), P()
    specs = (split, *[whole] * len(data))
    own = partial(function, static)  # which reduces nothing over devices, so that no types need to tell what varies
    return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(members, *data)


def _split(function) -> BoundedJit:
    """The program of ((mesh, static), members, *data), with members that are split over the mesh."""
    return BoundedJit(partial(_on_each_device, function))


def _programs(one) -> tuple[dict, dict]:
    """A function of one member, compiled for members one after the other and as one batch: here, and on a mesh."""
    lifted = {lift: partial(_lifted, one, lift) for lift in (SEQUENTIAL, jax.vmap)}
    here = {lift: BoundedJit(function) for lift, function in lifted.items()}
    return here, {lift: _split(function) for lift, function in lifted.items()}


SEQUENTIAL = partial(partial, jax.lax.map)
_start_members, _start_split = BoundedJit(_begin_members), _split(_begin_members)
_where = jax.jit(jax.vmap(select))
_train, _train_split = _programs(_train_member)
_replay, _replay_split = _programs(_replay_member)
_train_in_a_single_call = with_fallback(
    BoundedJit(
        partial(_in_a_single_call, partial(_lifted, _train_member, SEQUENTIAL)), compiler_options=small_call.OPTIONS
    ),
    _train[SEQUENTIAL],
)


def _no_scale(scales):
    return (scales < 0) | np.isinf(scales)


def _members(keys, learning_rate, init_scale, dtype):
    """The settings as arrays of one length."""
    keys = _keys(keys)
    no_rate = lambda rates: ~np.isfinite(rates) | (rates <= 0)
    rates = _setting("learning_rate", learning_rate, dtype, no_rate, "expected finite numbers above 0")
    if isinstance(init_scale, list | tuple):
        init_scale = [np.nan if scale is None else scale for scale in init_scale]
    elif init_scale is None:
        init_scale = np.nan
    scales = _setting("init_scale", init_scale, dtype, _no_scale, "expected scales from 0 up, None for 'he'")
    lengths = {"keys": len(keys), "learning_rate": rates.size, "init_scale": scales.size}
    n = max(lengths.values())
    for name, length in lengths.items():
        if length not in (1, n):
            raise ValueError(f"{name} has {length} members but there are {n}; give {n} or one for all")
    if rates.ndim > 1 or scales.ndim > 1:
        raise ValueError(f"learning_rate has shape {rates.shape}, init_scale {scales.shape}; expected one axis of {n}")
    everyone = np.zeros(n, int)
    return (a if len(a) == n else a[everyone] for a in (keys, rates, scales))


def _keys(keys: Any) -> Any:
    """Return one or several JAX random keys as a vector of them."""
    shape, own = getattr(keys, "shape", ()), checks.raw_key_shape()
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    raw = getattr(keys, "dtype", None) == np.uint32 and shape[-1:] == own
    if not (typed or raw) or 0 in shape:
        got = type_name(keys) + (f" of shape {shape}" if shape else "")
        raise TypeError(f"keys is {got}; expected JAX random keys, such as jax.random.split(jax.random.key(0), 8)")
    return keys.reshape(-1) if typed else keys.reshape(-1, *own)


def _setting(argument: str, values: Any, dtype: np.dtype, bad: Callable, remedy: str) -> np.ndarray:
    """Return a number, or one for each member, as a vector of that dtype; too large ones become infinite."""
    numbers = np.atleast_1d(real_numbers(argument, values).astype(np.float64))
    with np.errstate(over="ignore", under="ignore"):
        refuse_first(argument, numbers, bad(numbers), remedy)
        cast = numbers.astype(dtype)
        refuse_first(argument, numbers, (cast == 0) & (numbers != 0), f"it is 0 in {dtype}: give a larger one")
        return cast

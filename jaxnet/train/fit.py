"""`fit`: check what comes in, put it where it belongs, and train."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import ArrayLike

from jaxnet import checks
from jaxnet._arguments import choice, shown_without_types
from jaxnet._xla import memory
from jaxnet._xla.compile import BoundedJit
from jaxnet.initialisers import init
from jaxnet.mlp import MLP, Params
from jaxnet.parallel import layouts, meshes, placing
from jaxnet.parallel.processes import Team
from jaxnet.train import config as settings
from jaxnet.train import inputs, optimizers
from jaxnet.train.callbacks import Callback
from jaxnet.train.checkpoint import EVERY, KEEP, checkpoints_in
from jaxnet.train.config import FitConfig
from jaxnet.train.history import History
from jaxnet.train.in_memory import memory_needs
from jaxnet.train.loop import train
from jaxnet.train.privacy import Privacy
from jaxnet.train.result import FitResult, result_kept
from jaxnet.train.resume import checked_result, resumed_loop
from jaxnet.train.sources import Examples
from jaxnet.train.state import LoopState, TrainState, loop_start
from jaxnet.train.step import GRADIENTS
from jaxnet.train.streamed import Streamed
from jaxnet.train.warnings import (
    SAMPLE,
    warn_of_a_cost_beyond_the_targets,
    warn_of_a_cost_that_never_fell,
    warn_of_a_large_delta,
    warn_of_classes,
    warn_of_dead_relus,
)  # fmt: skip


@shown_without_types
def fit(
    net: MLP,
    X: ArrayLike | Iterable,
    Y: ArrayLike | None = None,
    *,
    key: PRNGKeyArray | Array | None = None,
    optimizer: str | optax.GradientTransformation | optimizers.Named | None = None,
    learning_rate: float | None = None,
    epochs: int = 20,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
    batch_size: int | str | None = "auto",
    params: Params | None = None,
    weights: ArrayLike | None = None,
    validation: inputs.Validation | None = None,
    patience: int | None = None,
    monitor: str = "validation_cost",
    min_delta: float = 0.0,
    tol: float | None = None,
    metrics: Iterable[str] | None = None,
    on_nonfinite: str = "raise",
    gradient: str = "manual",
    precision: str = "float32",
    progress: bool | str = True,
    callbacks: Callback | Iterable[Callback] = (),
    device: str | None = None,
    mesh: Mesh | None = None,
    layout: str = "data",
    privacy: Privacy | None = None,
    checkpoint: str | os.PathLike | None = None,
    every: int | str = EVERY,
    keep: int = KEEP,
    resume: FitResult | bool | None = None,
) -> FitResult:
    """Train a network on arrays or on a stream of batches; return its params, the history and the last state.

    Whatever interrupts training (a cost that is not finite, Ctrl-C, a callback that raises), or comes at its end (a
    save that failed, a warning raised as an error), is raised with a `.result`: the FitResult of this fit up to the
    last good state, also where the error had a result before, such as that of a fit inside a callback. An error whose
    class lets no attribute be set says so in a note.

    Args:
        net: the network.
        X: (n_x, m), examples as columns, of which a square X of rows cannot be told (the estimator takes rows); its
            values are checked once, on the host. An np.memmap of more than 256 MiB
            is read in windows of 64 MiB, in a random order, and not copied. Or, without Y, an iterable of batches
            (X, Y) or (X, Y, weights), each by columns: a list, a generator, a loader. They are checked as they come,
            and the next is read while one is computed; what is held does not grow with their number.
        Y: (n_y, m): 0 or 1 for a sigmoid, columns that sum to 1 (`one_hot`) for softmax, numbers otherwise.
        key: a JAX random key for the initial weights and the order of the examples: same key, same bits. Left out
            where a fit is resumed.
        optimizer: a name, such as "adam" (None), "sgd" (W -= rate * dW), "nesterov" or "adamw", in which W alone
            decays: `optimizers.NAMES` in train/optimizers.py is the table. Or any optimizer of optax. Give the same
            object to several fits, and they share one compiled program; those of the last 16 objects are kept. Its
            learning rate is seen, and refused where it is not above 0, with optax.inject_hyperparams only. What
            optax.MultiSteps has gathered and not applied when training ends changes no param; a warning says so.
        learning_rate: of an optimizer by name; None is 1e-3. It is data: fits at any rates share one program, and a
            callback can change it (`scale_learning_rate`, `reduce_on_plateau`). A training that is resumed goes on
            with the rate that it has.
        epochs: passes over the data, those before a resume included; with batch_size=None an epoch is one step.
        steps: the same as epochs for full-batch gradient descent, by its usual name.
        steps_per_epoch: with batches, how many are an epoch, after which there is a history entry, validation and
            callbacks; the next epoch reads on, from the start where they end. None is a pass over them.
        batch_size: examples a step; "auto" is 128, or all where there are fewer; None is all of them in one step,
            as in the notes. A last partial batch counts for what it has.
        params: where to start; None is init(net, key) with the "he" scheme.
        weights: (m,), what each example counts beside the others of its batch (J = Σ w ℓ / Σ w); None is 1 each. One
            of weight 0 is in no mini-batch of data in memory, as if it were not there.
        validation: (X, Y), or (X, Y, weights), to measure after each epoch; beside batches also an iterable of such.
        patience: stop after so many epochs in a row in which the monitored metric has not become better by
            min_delta, and return the best params.
        monitor: what patience watches: "validation_cost", "validation_accuracy", of which more is better, or "cost",
            that of training, which needs no validation data.
        min_delta: by how much a metric has to be better than the best so far for patience to begin anew. The best is
            the lowest cost (the highest accuracy), by however little, so that steps smaller than min_delta end
            training, as in scikit-learn; Keras lets them add up.
        tol: stop when the cost has changed by at most tol, relatively, for 10 epochs in a row: the notes' "until
            convergence".
        metrics: what to measure: "cost", "accuracy" (of classifiers), "gradient_norm"; None is the cost and, of
            classifiers, the accuracy. What is not named is not computed, but for the cost, which is guarded: numbers
            that are not finite stop training whatever is measured.
        on_nonfinite: what follows a step whose numbers are not finite, which is undone in any case. "raise": a
            NotFiniteError. "skip": the next mini-batch; an epoch of which no step is left raises. "rollback": the
            whole epoch is undone, the callbacks are called with the `LoopState` before it, whose `rollbacks` is not 0,
            and it is tried again from the one that they return; where they return none, or after ten in a row, it
            raises. Batches are then read again from where the epoch began: by their position if they tell it, else by a
            new pass; a generator has neither, and is refused. A gradient that optax.apply_if_finite refuses is left to
            that, and such a step is not measured.
        gradient: "manual" (our backward) or "autodiff" (jax.grad), to compare.
        precision: a name of the table in _xla/matmul.py. Params are float64 with "float64", or where those given, else
            X, are and JAX's 64-bit is on; else they are float32, and training too, whatever the data.
        progress: show a progress bar, on a terminal and in a notebook; "always" elsewhere too, as text.
        callbacks: functions (loop_state, history), or one, called after each epoch with the `LoopState` and the
            history so far. One that returns True stops training; one that returns a LoopState, such as
            `scale_learning_rate` makes, has it go on from that; no other answer counts.
        device: "cpu", "gpu" or "tpu"; None is JAX's default.
        mesh: train on several devices at once, `jaxnet.parallel.mesh()`; the result is one device's, to rounding. A
            full batch is split over them; for mini-batches each holds all examples, of which it computes its share.
            Where they are those of several processes (`jaxnet.parallel.start`), each calls fit, with the same arguments
            but for the parts of the data that are its own: parallel/README.md.
        layout: how the mesh's devices share the params and the optimizer's state: "data" (each holds all), "fsdp",
            "tensor" or "fsdp+tensor", see `parallel.layout`.
        privacy: train so that the params tell little of any one example: `jaxnet.Privacy(max_norm, noise_multiplier,
            delta)`, where the price is explained. Each example enters a step's batch by chance, batch_size of them on
            average and all with None, and history has "epsilon" after each epoch. Needs the extra "privacy".
        checkpoint: a directory in which to save the whole state while training goes on, and where it ends or is
            interrupted: Ctrl-C, SIGTERM (which then ends the program with status 0), an error, a kill lose only what
            came after the last. One program at a time uses it. Needs the extra "checkpoint".
        every: save after each so many epochs, or so many seconds, as "60s".
        keep: how many of the last checkpoints to keep, beside the best: by monitor, or by the cost where there are no
            validation data.
        resume: True, to go on from the newest checkpoint that is whole, if there is one, to the epoch number `epochs`
            of the whole training, bit for bit as if nothing had stopped it; key and params are for the start. Or a
            FitResult to go on from, to the epoch number `epochs` of the whole training: with the same data and
            settings, 4 epochs and then 12 give the bits of 12 at once, history included. The result of a
            NotFiniteError goes on from the step before the one that failed, with a new epoch. Batches go on where
            they stood after the last whole epoch, if their iterable can tell and set that (get_state and set_state of
            its iterator, as Grain's; or its own state_dict and load_state_dict); others begin with what they then give.

    Raises:
        ValueError, TypeError: an argument does not fit; the message says which, what it is and what to do.
        NotFiniteError: the cost, a metric, the params, the optimizer's state or the validation cost became NaN or
            infinite. Under jax_debug_nans and jax_debug_infs it is JAX's FloatingPointError, of the operation.
        OSError: the checkpoint's directory cannot be made or written, another program uses it, or a save failed, which
            is raised at the next or at the end; those before are as they were.
        ImportError: checkpoint is given, and Orbax is not installed; or privacy, and dp-accounting is not.
        OtherProcessError: another process of the mesh has failed, as its own error says.
        MemoryError: the device cannot hold the params, the optimizer's state, the data or a batch's pass.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=optax.adam(0.05), epochs=40, batch_size=50)
    FitResult: 2-4-1 in float32, 40 epochs in the history
      cost      ... -> ..., lowest ... in epoch ...
      accuracy  ... -> 0.8..., highest ... in epoch ...
    """
    team = Team(mesh if isinstance(mesh, Mesh) else None)
    kinds = {"checkpoint": checkpoint is None, "every": every, "resume": type(resume), "batch_size": batch_size}
    kinds |= {"steps_per_epoch": steps_per_epoch, "validation": type(validation), "weights": type(weights)}
    kinds |= {"X": (type(X), Y is None, placing.spans_processes(X))}
    with (
        team.watched() as step_taken,
        result_kept() as keep_result,
        _placed(team, device, mesh, layout, kinds) as mesh,
        checkpoints_in(checkpoint, every, keep, resume, team) as checkpoints,
    ):
        with team.together():
            epochs = settings.epochs(epochs, steps, batch_size)
            chosen = optimizers.chosen(optimizer, learning_rate)
            settings.refuse_two_penalties(net, chosen)
            if params is not None:
                params = checks.params(net, params)
            if resume is True:
                earlier = checkpoints.restored(net, chosen.transformation)
                key, params = (key, params) if earlier is None else (None, None)  # of a start that is behind us
            else:
                earlier = None if resume is False else resume
            if earlier is not None:
                earlier = checked_result(net, earlier, key, params, precision)
            start = params if earlier is None else earlier.loop.params
            dtype_for = partial(inputs.working_dtype, params=start, precision=checks.policy(precision))
            callbacks = settings.callbacks(callbacks)
            on_nonfinite = settings.on_nonfinite(on_nonfinite, callbacks)
            examples = Examples.checked(
                net, X, Y, weights, validation, dtype_for,
                batch_size=batch_size, steps_per_epoch=steps_per_epoch, epochs=epochs, earlier=earlier, mesh=mesh,
                undoes=on_nonfinite == "rollback",
            )  # fmt: skip
            host, is_stream = examples.host, examples.stream is not None
            metrics = settings.metrics(net, metrics)
            min_delta = settings.stopping(patience, monitor, min_delta, tol, validation, metrics)
            config = FitConfig(
                net=net,
                optimizer=chosen.transformation,
                gradient=choice("gradient", gradient, GRADIENTS),
                precision=precision,
                batch_size=None if is_stream else inputs.batch_size(batch_size, host.X.shape[1]),
                patience=patience,
                monitor=monitor,
                min_delta=min_delta,
                tol=tol,
                metrics=metrics,
                mesh=mesh,
                on_nonfinite=on_nonfinite,
                privacy=privacy,
            )
            settings.refuse_beside_privacy(config, weights, is_stream)
            if privacy is not None:
                warn_of_a_large_delta(privacy.delta, host.X.shape[1])
            if earlier is not None and on_nonfinite == "skip":  # epochs trained without it have skipped nothing
                skipped = {"skipped": np.zeros(int(earlier.loop.epoch), np.int32)}
                earlier = earlier._replace(history=skipped | earlier.history)
            if earlier is None:
                checks.random_key(key)
        if team.number > 1:
            words = {"layout": layout, "epochs": repr(epochs), "callbacks": f"a number of {len(callbacks)}"}
            words["the numbers of the optimizer"] = repr(dict(chosen.numbers))
            team.same(words | examples.in_words() | settings.in_words(config, params, key, earlier))
        checkpoints.begin(config, chosen, steps_per_epoch, layout)

        if mesh:
            place = partial(placing.put, where=meshes.replicated(mesh))
        else:
            place = partial(jax.device_put, device=meshes.device(device))
        enough_memory = partial(memory.out_of_memory, lambda: memory_needs(config, host))
        with enough_memory():
            if earlier is None:
                start = place(key), params if mesh else place(params)
                loop = _begin(config, chosen.numbers, *start, host.X.dtype, mesh and layout)
            else:
                validated, m = validation is not None, host.X.shape[1]
                loop = resumed_loop(config, earlier.loop, earlier.history, epochs, validated, m)
            source = examples.source(config, place, team, one_by_one=bool(callbacks))
            loop = placing.put(loop, _places(config, loop, layout) if mesh else place(0.0).sharding)
            jax.block_until_ready(loop)
        optimizers.check_learning_rate(loop.state.opt_state)
        if learning_rate is not None and isinstance(resume, FitResult) and not callbacks:
            optimizers.warn_of_a_rate_without_effect(loop.state.opt_state, chosen.numbers["learning_rate"])
        history = History(None if earlier is None else earlier.history)
        result = train(
            config, source, loop, history, epochs, progress, callbacks, checkpoints, enough_memory, team, step_taken
        )
        keep_result(result)
        optimizers.warn_of_unapplied_gradients(result.loop.state.opt_state)
        if isinstance(source, Streamed):
            warn_of_classes(team.union(source.classes.seen), team.union(source.validation_classes.seen))
        if earlier is None and privacy is None:  # of examples drawn by chance it rises by chance
            warn_of_a_cost_that_never_fell(result.history)
        if earlier is None and team.number == 1:
            warn_of_a_cost_beyond_the_targets(net, host.X, host.Y, host.weights, result.history, params is None)
        if (not is_stream or host.X.shape[1] >= SAMPLE) and team.number == 1:  # of a stream there is the first batch
            warn_of_dead_relus(net, result.params, host.X, host.Y)
    return result


@contextlib.contextmanager
def _placed(team: Team, device: str | None, mesh: Any, layout: Any, kinds: Any) -> Iterator[Mesh | None]:
    """The mesh as the programs take it, where all processes agree on what they will tell each other."""
    with team.together():
        mesh = settings.placement(device, mesh, layout)
    team.same({name: repr(kind) for name, kind in kinds.items()})
    yield mesh


def _begin(
    config: FitConfig, numbers: Mapping[str, float], key, params: Params | None, dtype, layout: str | None
) -> LoopState:
    """The loop at its start, made by programs that all fits share: layers of one shape are drawn by one.

    numbers: of an optimizer by name. On a mesh, which has a layout, all is made where it belongs: no device need hold
    it whole.
    """
    init_key, loop_key = jax.random.split(key)
    draw = partial(init, config.net, dtype=dtype)
    static = config.optimizer, config.patience is not None
    if layout is None or config.mesh is None:
        params = draw(init_key) if params is None else params
        return _jit_loop_start(static, jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params), loop_key, numbers)

    if params is not None:  # which may lie on other devices
        params = placing.put(params, layouts.shardings(config.net, config.mesh, layout))

    def begin(params, init_key, loop_key, numbers):
        params = draw(init_key) if params is None else jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        return _loop_start(static, params, loop_key, numbers)

    given = params, init_key, loop_key, numbers
    return jax.jit(begin, out_shardings=_places(config, jax.eval_shape(begin, *given), layout))(*given)


def _places(config: FitConfig, loop: LoopState, layout: str) -> LoopState:
    """Where each array of the loop belongs on the mesh."""
    assert config.mesh is not None
    where = layouts.shardings(config.net, config.mesh, layout)
    return layouts.places(loop, loop.params, where, config.mesh)


def _loop_start(static: tuple[optax.GradientTransformation, bool], params: Params, key, numbers) -> LoopState:
    """In buffers of its own: a chunk takes them, the caller keeps its params and key."""
    optimizer, tracks_best = static
    opt_state = optimizers.with_numbers(optimizer.init(params), numbers)
    state = TrainState(params, opt_state, jnp.int32(0), key)
    return jax.tree.map(jnp.copy, loop_start(state, tracks_best))


_jit_loop_start = BoundedJit(_loop_start)

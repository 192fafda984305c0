"""Training as pure functions: an epoch is a loop of steps, decided inside one compiled program however it is cut."""

from itertools import product

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet import network
from jaxnet._xla.permutation import random_permutation
from jaxnet.train import batches
from jaxnet.train.config import MONITORS, FitConfig
from jaxnet.train.epochs import N_ITER_NO_CHANGE, run_chunk
from jaxnet.train.state import loop_start
from tests.comparison import assert_trees_close
from tests.marks import slow_but
from tests.train.flower import NET, OPTIMIZER, X, Y, fit


def python_loop(key, epochs, batch_size, weights=None):
    """What fit promises, as a loop in Python: partial batches are shorter, and examples of weight 0 are in none.

    In float64 and with a small rate, for a wild descent is chaotic: it makes a last digit a thousand times larger.
    """
    wide, optimizer = [array.astype(np.float64) for array in (X, Y)], optax.sgd(0.02, momentum=0.9)
    result_of = fit(*wide, key=key, epochs=epochs, batch_size=batch_size, weights=weights, optimizer=optimizer)
    init_key, key = jax.random.split(key)
    params = jaxnet.init(NET, init_key, dtype=jnp.float64)
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), key)
    step, costs = jax.jit(jaxnet.train_step(NET, optimizer)), []
    counting = np.flatnonzero(np.ones(X.shape[1]) if weights is None else weights)
    for _ in range(epochs):
        key, shuffle_key = jax.random.split(state.key)
        state, total, count = state._replace(key=key), 0.0, 0.0
        order = counting[random_permutation(shuffle_key, len(counting))]
        for start in range(0, len(counting), batch_size):
            batch = order[start : start + batch_size]
            w = None if weights is None else jnp.asarray(weights[batch])
            state, metrics = step(state, *(jnp.asarray(array[:, batch]) for array in wide), w)
            share = len(batch) if w is None else w.sum()
            total, count = total + metrics["cost"] * share, count + share
        costs.append(total / count)
    assert_trees_close(result_of.params, state.params, rtol=1e-12)
    np.testing.assert_allclose(result_of.history["cost"], costs, rtol=1e-12)
    assert int(result_of.state.step) == int(state.step)


@pytest.mark.parametrize("batch_size", slow_but([16], [15, 16, 60, 1]))  # divides, partial, one batch, single examples
def test_an_epoch_is_a_loop_of_steps(batch_size, x64):
    """Above all: a last partial batch counts for the examples that it has."""
    python_loop(jax.random.key(3), 3, batch_size)


def test_an_epoch_with_weights_is_a_loop_of_steps(x64):
    python_loop(jax.random.key(3), 3, 16, np.random.default_rng(0).choice([0.0, 1.0, 2.5], 60))


def test_a_batch_without_weight_changes_nothing():
    """Not even by weight decay or momentum, and it is no NaN."""
    optimizer = optax.chain(optax.add_decayed_weights(0.1), OPTIMIZER)
    params = jaxnet.init(NET, jax.random.key(0))
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(7), jax.random.key(0))
    after, _ = jaxnet.train_step(NET, optimizer)(state, jnp.asarray(X), jnp.asarray(Y), jnp.zeros(60))
    chex.assert_trees_all_equal(after._replace(key=0), state._replace(key=0))

    weights = np.zeros(60)
    weights[7] = 1.0
    result = fit(weights=weights, batch_size=4, epochs=2)
    assert np.isfinite(result.history["cost"]).all() and (result.history["cost"] > 0).all()
    assert int(result.state.step) == 2  # of 30 batches, two hold the one example that counts


@pytest.mark.parametrize("batch_size", slow_but([16], [16, 60, None]))
def test_an_example_of_weight_0_is_as_none(batch_size):
    """Wherever it stands, whatever it holds: the same batches of the others, and the same params."""
    places = np.r_[0, 7, 59, np.full(13, 60)]  # before the first, among them, behind the last
    weights = np.random.default_rng(0).uniform(1, 2, 60)
    own = fit(weights=weights, batch_size=batch_size, epochs=3)
    X_more, Y_more = (np.insert(array, places, 1, axis=1) for array in (X, Y))
    padded = fit(X_more, Y_more, weights=np.insert(weights, places, 0), batch_size=batch_size, epochs=3)
    assert_trees_close(padded.params, own.params, rtol=1e-5)
    np.testing.assert_allclose(padded.history["cost"], own.history["cost"], rtol=1e-5)
    assert int(padded.state.step) == int(own.state.step)


@pytest.mark.parametrize("scale", [1e37, 1e-40])
def test_only_the_ratio_of_weights_counts(scale):
    weights = np.random.default_rng(0).choice([1.0, 2.0], 60)
    assert_trees_close(fit(weights=scale * weights).params, fit(weights=weights).params, 1e-5)


def test_accuracy_in_the_history_is_weighted_and_leaves_padding_out():
    """Rate 0, so that every step sees the same net: the epoch's accuracy is that of the whole set."""
    weights = np.random.default_rng(0).choice([1.0, 5.0], 60).astype(np.float32)
    params = jaxnet.init(NET, jax.random.key(1))
    result = fit(weights=weights, params=params, optimizer=optax.sgd(0.0), epochs=1, batch_size=16)
    A = jaxnet.predict(NET, params, X)
    want = jaxnet.accuracy(A, jnp.asarray(Y), jnp.asarray(weights))
    np.testing.assert_allclose(result.history["accuracy"], [want], rtol=1e-5)


def test_gradient_norm_in_the_history_is_the_largest_of_the_epoch():
    params = jaxnet.init(NET, jax.random.key(1))
    result = fit(params=params, optimizer=optax.sgd(0.0), epochs=1, batch_size=1, metrics=["gradient_norm"])
    norms = jaxnet.per_example_norms(NET, params, jnp.asarray(X), jnp.asarray(Y))
    np.testing.assert_allclose(result.history["gradient_norm"], [norms.max()], rtol=1e-5)


def test_an_exploding_gradient_is_seen_in_the_history():
    """A rate at which each step is twice too long, and more: the norm grows before anything is infinite."""
    net, settings = jaxnet.MLP((2, 1), ("identity",)), {"batch_size": None, "steps": 6, "metrics": ["gradient_norm"]}
    norms = jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=optax.sgd(10.0), **settings).history["gradient_norm"]
    assert np.isfinite(norms).all() and (norms[2:] > 2 * norms[1:-1]).all()


@pytest.mark.parametrize("settings", [{}, {"batch_size": None, "epochs": 30}], ids=["mini-batch", "full batch"])
def test_manual_and_autodiff_train_alike(settings):
    manual, autodiff = fit(**settings), fit(**settings, gradient="autodiff")
    assert_trees_close(manual.params, autodiff.params, rtol=1e-4)
    np.testing.assert_allclose(manual.history["cost"], autodiff.history["cost"], rtol=1e-5)


def test_each_gradient_is_the_one_it_says(monkeypatch):
    """With a backward pass that returns 0, "manual" does not move and "autodiff" does."""
    right, start = fit(epochs=1), fit(epochs=1, optimizer=optax.sgd(0.0))
    fresh = optax.sgd(0.5, momentum=0.9)  # no other fit has this object, so this one is traced here
    monkeypatch.setattr(network, "backward", lambda *args: (jax.tree.map(jnp.zeros_like, args[1]), None))
    zero, autodiff = (fit(epochs=1, optimizer=fresh, gradient=gradient) for gradient in ("manual", "autodiff"))
    assert_trees_close(autodiff.params, right.params, rtol=1e-4)
    chex.assert_trees_all_equal(zero.params, start.params)


OPTIMIZERS = {
    "lbfgs": optax.lbfgs(),
    "plateau": optax.chain(OPTIMIZER, optax.contrib.reduce_on_plateau()),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), OPTIMIZER),
    "accumulated": optax.MultiSteps(OPTIMIZER, 2).gradient_transformation(),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("implicit_promotion")
def test_any_optimizer_of_optax(name):
    """Those too that ask for the cost, or for the cost as a function."""
    history = fit(optimizer=OPTIMIZERS[name], batch_size=None, epochs=24).history
    assert history["cost"][-1] < history["cost"][0]


def test_low_precision_data_is_counted_right():
    """600 examples of bfloat16: their count, 1 by 1, would stop at 256 in bfloat16 itself; it is trained in float32."""
    tile = [np.tile(array, 10).astype(jnp.bfloat16) for array in (X, Y)]
    result = jaxnet.fit(NET, *tile, key=jax.random.key(0), optimizer=optax.sgd(0.0), epochs=1, batch_size=16)
    assert result.params[0].W.dtype == jnp.float32
    stopping = {"tol": 1e-3, "validation": tuple(tile), "patience": 2}
    jaxnet.fit(NET, *tile, key=jax.random.key(0), optimizer=optax.sgd(0.1), batch_size=16, epochs=2, **stopping)
    cost = jaxnet.cost(NET, result.params, *(jnp.asarray(array, jnp.float32) for array in tile))
    np.testing.assert_allclose(result.history["cost"], cost, rtol=1e-5)


def test_nothing_is_trained_after_a_step_that_is_not_finite():
    """One example of the shuffled epoch overflows: the steps before it count, those after it do not run."""
    net = jaxnet.MLP((2, 1), ("identity",))
    spoilt = X.copy()
    spoilt[0, 11] = 3e38
    with pytest.raises(jaxnet.NotFiniteError) as caught:
        jaxnet.fit(net, spoilt, Y, key=jax.random.key(0), optimizer=optax.sgd(0.1), batch_size=4, epochs=1)
    _, shuffle_key = jax.random.split(jax.random.split(jax.random.key(0))[1])
    position = np.flatnonzero(np.asarray(random_permutation(shuffle_key, 60)) == 11)[0]
    assert int(caught.value.result.state.step) == position // 4


INFINITE_AT_37 = optax.GradientTransformation(
    lambda params: jnp.int32(0),
    lambda grads, count, params: (
        jax.tree.map(lambda g: jnp.where(count == 37, g * jnp.inf, g), grads),
        count + 1,
    ),
)
FAILURES = {  # how step 38, the second of epoch 10, fails: by an update, or by a gradient that the optimizer mends
    "new params": optax.chain(optax.sgd(0.02), INFINITE_AT_37),
    "gradient": optax.chain(optax.scale_by_sign(), optax.sgd(0.02)),
}


@pytest.mark.parametrize(
    ("cause", "weighted"), slow_but([("new params", True), ("gradient", False)], product(FAILURES, [False, True]))
)
def test_a_failing_epoch_ends_at_its_failing_step(cause, weighted):
    """The reference is a loop of guarded steps: the same last good state, the same epochs in the history."""
    weights = np.arange(60) % 3 if weighted else None
    counting = np.flatnonzero(weights) if weighted else np.arange(60)
    net, optimizer, spoilt = jaxnet.MLP((2, 3, 1), ("identity", "identity")), FAILURES[cause], X.copy()
    if cause == "gradient":
        spoilt[0, 11] = 3e38
    init_key, run_key = jax.random.split(jax.random.key(3))
    params = jaxnet.init(net, init_key)
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), run_key)
    step, metrics = jax.jit(jaxnet.train_step(net, optimizer)), {"finite": True}
    steps = -(-len(counting) // 16)
    while metrics["finite"]:
        if state.step % steps == 0:
            key, shuffle_key = jax.random.split(state.key)
            state, order = state._replace(key=key), counting[random_permutation(shuffle_key, len(counting))]
        batch = order[16 * (int(state.step) % steps) :][:16]
        w = None if weights is None else jnp.asarray(weights[batch], jnp.float32)
        state, metrics = step(state, jnp.asarray(spoilt[:, batch]), jnp.asarray(Y[:, batch]), w)
    with pytest.raises(jaxnet.NotFiniteError, match=f"step {int(state.step) + 1} ") as caught:
        jaxnet.fit(
            net, spoilt, Y, key=jax.random.key(3), optimizer=optimizer, batch_size=16, epochs=50, weights=weights
        )
    result = caught.value.result
    assert_trees_close(result.params, state.params, rtol=1e-5)
    assert len(result.history["cost"]) == int(state.step) // steps == (37 // steps if cause == "new params" else 0)
    assert np.isfinite(result.history["cost"]).all()


def test_tol_stops_when_the_cost_stays():
    result = fit(batch_size=None, steps=5000, tol=1e-4, optimizer=optax.sgd(1.2))
    cost = result.history["cost"]
    unchanged = np.abs(np.diff(cost)) <= 1e-4 * cost[:-1]
    assert len(cost) < 5000 and unchanged[-N_ITER_NO_CHANGE:].all()
    runs = "".join("x" if c else "." for c in unchanged[:-1])
    assert "x" * N_ITER_NO_CHANGE not in runs  # and not one epoch later


def test_tol_counts_changes_not_epochs():
    assert len(fit(batch_size=None, steps=100, tol=1e9).history["cost"]) == N_ITER_NO_CHANGE + 1


def test_patience_restores_the_best():
    """A validation set with the opposite labels: it can only get worse, so the first epochs are the best."""
    result = fit(validation=(X, 1 - Y), patience=3, epochs=50)
    costs = result.history["validation_cost"]
    assert len(costs) == np.argmin(costs) + 1 + 3 < 50
    best = jaxnet.cost(NET, result.params, jnp.asarray(X), jnp.asarray(1 - Y))
    np.testing.assert_allclose(best, costs.min(), rtol=1e-6)
    last = jaxnet.cost(NET, result.state.params, jnp.asarray(X), jnp.asarray(1 - Y))
    np.testing.assert_allclose(last, costs[-1], rtol=1e-6)


def test_patience_that_never_runs_out_still_gives_the_best():
    result = fit(validation=(X, 1 - Y), patience=50, epochs=10)
    best = jaxnet.cost(NET, result.params, jnp.asarray(X), jnp.asarray(1 - Y))
    np.testing.assert_allclose(best, result.history["validation_cost"].min(), rtol=1e-6)


def patience_by_hand(scores, patience, min_delta, higher_is_better):
    """The epochs trained and the one whose params come back, from the monitored metric alone."""
    scores = (-1 if higher_is_better else 1) * np.asarray(scores)
    for epoch in range(patience, len(scores)):
        before, last = scores[: epoch - patience + 1], scores[epoch - patience + 1 : epoch + 1]
        lowest_before = np.minimum.accumulate(np.concatenate([before.min(keepdims=True), last]))[:-1]
        if not (lowest_before > last + np.float32(min_delta)).any():
            return epoch + 1, int(np.argmin(scores[: epoch + 1])) + 1
    return len(scores), int(np.argmin(scores)) + 1


@pytest.mark.parametrize("min_delta", [0.0, 0.02])
@pytest.mark.parametrize("monitor", MONITORS)
def test_patience_watches_the_monitored_metric(monitor, min_delta):
    """A small min_delta ends a slow descent early, and a metric of which more is better is not taken for a cost."""
    settings = {"validation": (X[:, :20], Y[:, :20]), "epochs": 60}
    scores = fit(**settings).history[monitor]
    epochs, best = patience_by_hand(scores, 3, min_delta, monitor == "validation_accuracy")
    result = fit(**settings, patience=3, monitor=monitor, min_delta=min_delta)
    assert len(result.history[monitor]) == epochs < 60
    assert_trees_close(result.params, fit(**settings | {"epochs": best}).params, 1e-5)
    np.testing.assert_allclose(result.loop.best_score, scores[best - 1], rtol=1e-5)
    assert result.best_epoch == best
    assert fit(**settings | {"epochs": 4}).best_epoch == 4  # without patience params are the last


@pytest.mark.parametrize("chunk", [1, 7])
def test_chunks_do_not_change_the_result(chunk, monkeypatch):
    whole = fit(batch_size=None, epochs=50, tol=1e-3, validation=(X, Y), patience=30)
    monkeypatch.setattr("jaxnet.train.in_memory.CHUNK_STEPS", chunk)
    chex.assert_trees_all_equal(fit(batch_size=None, epochs=50, tol=1e-3, validation=(X, Y), patience=30), whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (17, 1025), (40, 3000)])
def test_columns_are_turned_into_rows(shape, dtype):
    columns = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    rows = batches.Data.by_rows(columns, columns[:1], None, place=lambda arrays: arrays).X
    assert (rows == columns.T).all() and rows.dtype == dtype
    on_cpu = jax.device_put(rows, jax.devices("cpu")[0])  # without one more copy
    assert dtype is np.float64 or on_cpu.unsafe_buffer_pointer() == rows.ctypes.data


def test_states_are_donated():
    """The loop's state lives in one copy: every buffer that goes into a chunk comes out of it."""
    start = jaxnet.init(NET, jax.random.key(1))
    config = FitConfig(NET, OPTIMIZER)
    state = jaxnet.TrainState(start, OPTIMIZER.init(start), jnp.int32(0), jax.random.key(0))
    loop, again = (jax.tree.map(jnp.copy, loop_start(state, tracks_best=False)) for _ in range(2))
    data = batches.Data(jnp.asarray(X), jnp.asarray(Y), None)
    run_chunk(config, loop, data, None, jnp.int32(1), 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(loop.state.params))
    memory = run_chunk.lower(config, again, data, None, jnp.int32(1), 1).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= sum(leaf.nbytes for leaf in jax.tree.leaves((start, state.opt_state)))


def test_one_compilation_for_all_chunks_and_runs(compiled):
    fit(batch_size=None, epochs=901, patience=9, validation=(X, Y))
    fit(batch_size=None, epochs=7, patience=9, validation=(X, Y), key=jax.random.key(9))
    assert compiled.count("jit(run_epochs_in_a_single_call)") == 1

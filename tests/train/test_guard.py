"""`on_nonfinite`: what follows a step whose numbers are not finite, and what optax.apply_if_finite does about it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet._xla.permutation import random_permutation
from tests.comparison import assert_trees_close
from tests.train.flower import X, Y, fit
from tests.train.test_callbacks import rate
from tests.train.test_resume import bits

LINEAR = jaxnet.MLP((2, 1), ("identity",))
SPOILT = X.copy()
SPOILT[0, 11] = 3e38  # the cost of a batch with this example overflows
RATE = optax.sgd(0.02, momentum=0.9)


def linear(X=SPOILT, **changes):
    settings = {"key": jax.random.key(0), "optimizer": RATE, "batch_size": 16, "epochs": 3}
    return jaxnet.fit(LINEAR, X, Y, **settings | changes)


def guarded_steps(X, optimizer, weights=None, epochs=3):
    """A loop of `train_step`, which undoes what is not finite: the state, and of each step whether it was finite."""
    init_key, key = jax.random.split(jax.random.key(0))
    params = jaxnet.init(LINEAR, init_key)
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), key)
    step, finite, costs = jax.jit(jaxnet.train_step(LINEAR, optimizer)), [], []
    for _ in range(epochs):
        key, shuffle_key = jax.random.split(state.key)
        state, order = state._replace(key=key), np.asarray(random_permutation(shuffle_key, 60))
        for batch in np.split(order, (16, 32, 48)):
            w = None if weights is None else jnp.asarray(weights[batch])
            state, metrics = step(state, jnp.asarray(X[:, batch]), jnp.asarray(Y[:, batch]), w)
            finite.append(bool(metrics["finite"]))
            costs.append(float(metrics["cost"]) * (len(batch) if w is None else w.sum()))
    return state, np.reshape(finite, (epochs, 4)), np.reshape(costs, (epochs, 4))


@pytest.mark.parametrize("weighted", [False, True])
def test_skipped_steps_are_undone_and_counted(weighted):
    """The reference is a loop of guarded steps: one batch of each epoch holds the example that overflows."""
    weights = np.linspace(1, 2, 60, dtype=np.float32) if weighted else None
    state, finite, costs = guarded_steps(SPOILT, RATE, weights)
    result = linear(on_nonfinite="skip", weights=weights)
    assert result.history["skipped"].tolist() == (~finite).sum(axis=1).tolist() == [1, 1, 1]
    assert_trees_close(result.params, state.params, rtol=1e-5)
    assert int(result.state.step) == int(state.step) == 9
    assert np.isfinite(result.history["cost"]).all()
    if not weighted:
        counts = np.where(finite, [16, 16, 16, 12], 0).sum(axis=1)
        np.testing.assert_allclose(result.history["cost"], np.where(finite, costs, 0).sum(axis=1) / counts, rtol=1e-5)


def test_where_nothing_fails_skip_trains_as_ever_and_raise_can_become_skip():
    whole = fit(on_nonfinite="skip")
    assert whole.history["skipped"].tolist() == [0] * 5 and whole.history["skipped"].dtype == np.int32
    chex.assert_trees_all_close(whole.params, fit().params, rtol=1e-6)
    resumed = fit(on_nonfinite="skip", resume=fit(epochs=3), key=None)
    assert resumed.history["skipped"].tolist() == [0] * 5
    again = fit(on_nonfinite="skip", resume=fit(on_nonfinite="skip", epochs=3), key=None)
    chex.assert_trees_all_equal(jax.tree.map(bits, again), jax.tree.map(bits, whole))


@pytest.mark.parametrize(("batch_size", "others"), [(16, " and at all others of that epoch"), (None, "")])
def test_an_epoch_of_which_no_step_is_left_raises(batch_size, others):
    """Skipping on would be no training; of full batches the next step is the same again."""
    with pytest.raises(jaxnet.NotFiniteError, match=rf"at step 1 \(epoch 1\){others}: cost") as caught:
        linear(on_nonfinite="skip", optimizer=optax.sgd(jnp.inf), batch_size=batch_size)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(caught.value.result.params))
    assert caught.value.result.history["skipped"].size == 0


def test_a_validation_cost_that_is_not_finite_raises_whatever_is_skipped():
    """No step is to blame, and it cannot be compared with the best; the epoch before it skipped a step."""
    far = np.full((2, 4), 1e30, np.float32), np.zeros((1, 4), np.float32)
    with pytest.raises(jaxnet.NotFiniteError, match="the validation cost is inf after epoch 1"):
        linear(on_nonfinite="skip", validation=far)


def halve_after_a_rollback(loop, history):
    return jaxnet.scale_learning_rate(loop, 0.5) if loop.rollbacks else None


def test_an_epoch_is_tried_again_at_the_rate_that_a_callback_sets():
    """From the state before it: the result is that of a training that had that rate from the start of the epoch."""
    steep = optax.inject_hyperparams(optax.sgd)(learning_rate=1e38)
    seen = []

    def divide(loop, history):
        seen.append((int(loop.epoch), int(loop.rollbacks), len(history["cost"])))
        return jaxnet.scale_learning_rate(loop, 1e-20) if loop.rollbacks else None

    result = linear(X, optimizer=steep, on_nonfinite="rollback", callbacks=divide)
    assert seen == [(0, 1, 0), (0, 2, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3)]
    gentle = optax.inject_hyperparams(optax.sgd)(learning_rate=rate(result.loop))
    chex.assert_trees_all_equal(jax.tree.map(bits, result), jax.tree.map(bits, linear(X, optimizer=gentle)))


@pytest.mark.parametrize(("halves", "expected"), [(True, [*range(1, 11)]), (False, [1])])
def test_rollbacks_end(halves, expected):
    """After ten in a row, or where no callback changes anything: the error of the step, with the state before it."""
    calls = []

    def watch(loop, history):
        calls.append(int(loop.rollbacks))
        return halve_after_a_rollback(loop, history) if halves else None

    steep = optax.inject_hyperparams(optax.sgd)(learning_rate=1e38)
    with pytest.raises(jaxnet.NotFiniteError, match=r"at step [12] \(epoch 1\): .*learning rate") as caught:
        linear(X, optimizer=steep, on_nonfinite="rollback", callbacks=watch)
    assert calls == expected and int(caught.value.result.loop.rollbacks) == 0
    assert np.isfinite(caught.value.result.params[0].W).all()


@pytest.mark.parametrize("answer", [True, "raises"])
def test_a_rollback_may_be_stopped_or_interrupted(answer):
    """The state is the one before the epoch, and history has no entry of it."""
    steep = optax.inject_hyperparams(optax.sgd)(learning_rate=1e38)

    def stop(loop, history):
        if answer == "raises":
            raise RuntimeError("enough")
        return answer

    if answer is True:
        result = linear(X, optimizer=steep, on_nonfinite="rollback", callbacks=stop)
    else:
        with pytest.raises(RuntimeError) as caught:
            linear(X, optimizer=steep, on_nonfinite="rollback", callbacks=stop)
        result = caught.value.result
    assert int(result.loop.epoch) == int(result.state.step) == result.history["cost"].size == 0


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_nonfinite": "ignore"}, "on_nonfinite is 'ignore'; expected one of 'raise', 'skip', 'rollback'"),
        ({"on_nonfinite": "rollback"}, "on_nonfinite is 'rollback' without callbacks, .*scale_learning_rate"),
    ],
)
def test_on_nonfinite_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        fit(**changes)


def test_a_training_that_skipped_goes_on_as_such():
    with pytest.raises(ValueError, match=r"resume\.history has .*skipped; expected .* on_nonfinite ask for"):
        fit(resume=fit(on_nonfinite="skip", epochs=3), key=None)


LENIENT = optax.apply_if_finite(RATE, 2)


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_apply_if_finite_is_not_overruled(on_nonfinite):
    """It refuses a gradient an epoch and counts it, and the guard lets it: the params of skipping, without a skip."""
    result = linear(optimizer=LENIENT, on_nonfinite=on_nonfinite, metrics=["cost", "gradient_norm"])
    state, finite, _ = guarded_steps(SPOILT, LENIENT)
    assert int(result.state.opt_state.total_notfinite) == int(state.opt_state.total_notfinite) == 3 == (~finite).sum()
    assert int(result.state.step) == int(state.step) == 12  # the optimizer has taken them all
    assert_trees_close(result.params, state.params, rtol=1e-5)
    skipping = linear(on_nonfinite="skip", metrics=["cost", "gradient_norm"])
    assert_trees_close(result.params, skipping.params, rtol=1e-5)
    for name in ("cost", "gradient_norm"):
        np.testing.assert_allclose(result.history[name], skipping.history[name], rtol=1e-5)
    assert on_nonfinite == "raise" or result.history["skipped"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("batch_size", [4, None])
def test_apply_if_finite_that_gives_up_is_the_guards_affair(batch_size):
    """After two refusals it applies the third gradient that is not finite: that step is undone and named."""
    wild = np.full_like(X, 3e38)
    with pytest.raises(jaxnet.NotFiniteError, match="not finite at step 3 ") as caught:
        linear(wild, optimizer=LENIENT, batch_size=batch_size, epochs=5)
    assert int(caught.value.result.state.opt_state.total_notfinite) == 2
    assert np.isfinite(caught.value.result.params[0].W).all()
    assert not np.isfinite(caught.value.result.history["cost"]).any()  # where there is none to tell

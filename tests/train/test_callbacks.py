"""What a callback may answer: a state to go on from, such as one with another learning rate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.train.callbacks import _epochs_since_best
from tests.train.flower import OPTIMIZER, X, Y, fit
from tests.train.test_resume import bits

ADJUSTABLE = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
AGAINST = {"validation": (X[:, :20], 1 - Y[:, :20]), "optimizer": ADJUSTABLE}  # its cost only rises


def rate(loop):
    return float(loop.state.opt_state.hyperparams["learning_rate"])


def with_rate(loop, rate):
    state = loop.state.opt_state
    state = state._replace(hyperparams={**state.hyperparams, "learning_rate": rate})
    return loop._replace(state=loop.state._replace(opt_state=state))


@pytest.mark.parametrize("lower", [0.05, np.float64(0.05), jnp.float32(0.05)], ids=["Python", "NumPy", "JAX"])
def test_training_goes_on_from_the_state_that_a_callback_returns(lower, compiled):
    """Three epochs at a rate and two at another: those of two trainings, the second resumed with the other rate."""
    result = fit(optimizer=ADJUSTABLE, callbacks=lambda loop, _: with_rate(loop, lower) if loop.epoch == 3 else None)
    assert compiled.count("jit(run_epochs_in_a_single_call)") <= 1
    first = fit(optimizer=ADJUSTABLE, epochs=3)
    first = first._replace(loop=with_rate(first.loop, jnp.float32(0.05)))
    second = fit(optimizer=ADJUSTABLE, epochs=5, resume=first, key=None)
    chex.assert_trees_all_equal(jax.tree.map(bits, result), jax.tree.map(bits, second))
    assert rate(result.loop) == np.float32(0.05)


def test_callbacks_see_what_those_before_them_returned_and_may_keep_it():
    kept, seen = [], []

    def halve(loop, history):
        kept.append(jaxnet.scale_learning_rate(loop, 0.5))
        return kept[-1]

    fit(optimizer=ADJUSTABLE, callbacks=[halve, lambda loop, history: seen.append(rate(loop))], epochs=3)
    assert seen == [0.25, 0.125, 0.0625] == [rate(loop) for loop in kept]  # no chunk has taken their buffers
    assert all(np.isfinite(loop.params[0].W).all() for loop in kept)


def with_params(loop, params):
    return loop._replace(state=loop.state._replace(params=params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loop: loop._replace(epoch=loop.epoch + 1), r"has epoch 2; expected 1, .*_replace\(epoch="),
        (lambda loop: with_rate(loop, -0.1), r"has learning_rate -0\.1; expected a finite number above 0"),
        (
            lambda loop: with_rate(loop, "low"),
            r"has a str at \.state\.opt_state\.hyperparams.*; expected float32",
        ),
        (
            lambda loop: with_rate(loop, jnp.ones(2)),
            r"is float32\[2\]; expected float32\[\]; change",
        ),
        (lambda loop: with_params(loop, loop.params[:1]), r"\.state\.params\[1\]\.W is missing; change values alone"),
        (lambda loop: loop._replace(best_params=loop.params), r"\.best_params\[0\]\.W is too many; change values"),
        (lambda loop: loop._replace(best_params=3.0), r"has a float at \.best_params; expected nothing"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_a_state_that_training_cannot_go_on_from_is_refused(change, message):
    with pytest.raises((ValueError, TypeError), match=r"LoopState that callbacks\[1\] returned.*" + message) as caught:
        fit(optimizer=ADJUSTABLE, callbacks=[lambda loop, history: None, lambda loop, history: change(loop)])
    assert len(caught.value.result.history["cost"]) == 1


def test_a_sweep_takes_no_state_back():
    with pytest.raises(TypeError, match="callbacks returned a LoopState; expected none"):
        jaxnet.sweep(
            jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), X, Y, keys=jax.random.split(jax.random.key(0), 5),
            learning_rate=0.1, batch_size=16, epochs=2, callbacks=lambda loop, history: loop,
        )  # fmt: skip


def test_the_rate_falls_on_a_plateau():
    """The validation cost only rises: the rate is halved after each two epochs, however training is cut."""
    rates = []
    settings = AGAINST | {"callbacks": [jaxnet.reduce_on_plateau(patience=2), lambda loop, _: rates.append(rate(loop))]}
    whole = fit(**settings, epochs=6)
    assert np.argmin(whole.history["validation_cost"]) == 0
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    resumed = fit(**settings, epochs=6, resume=fit(**settings, epochs=3), key=None)
    chex.assert_trees_all_equal(jax.tree.map(bits, resumed), jax.tree.map(bits, whole))


@pytest.mark.parametrize(
    ("values", "min_delta", "higher", "epochs"),
    [
        ([], 0.0, False, 0),
        ([3.0, 2.0, 2.0, 2.5], 0.0, False, 2),
        ([3.0, 2.0, 2.0, 2.5], 0.0, True, 3),
        ([3.0, 2.8, 2.6, 2.4], 0.5, False, 3),  # together they are more
        ([3.0, 2.8, 2.2], 0.5, False, 0),
        ([0.5, 0.75, 0.7], 0.1, True, 1),
    ],
)
def test_epochs_since_the_best(values, min_delta, higher, epochs):
    assert _epochs_since_best(np.array(values, np.float32), min_delta, higher) == epochs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": OPTIMIZER}, "optimizer shows no learning rate to be changed; .* optax.inject_hyperparams"),
        (
            {"optimizer": optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(0.5, 0.1, 9))},
            "optimizer has a learning_rate that its schedule sets",
        ),
        ({"validation": None}, "has metric 'validation_cost', but fit measures accuracy, cost; give fit validation"),
    ],
)
def test_a_rate_that_cannot_fall_is_told_at_the_first_epoch(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit(**AGAINST | changes, callbacks=jaxnet.reduce_on_plateau())
    assert int(caught.value.result.loop.epoch) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, "factor is 1.0; expected a number above 0 and below 1"),
        ({"patience": 0}, "patience is 0; expected an integer of at least 1"),
        ({"min_delta": -1.0}, "min_delta is -1.0; expected a finite number above 0, or 0"),
        ({"metric": "validation"}, "metric is 'validation'; expected one of 'validation_cost'"),
    ],
)
def test_arguments_of_reduce_on_plateau(arguments, message):
    with pytest.raises(ValueError, match=message):
        jaxnet.reduce_on_plateau(**arguments)

"""Optimizers by name: optax's, with a rate that is data, that callbacks change and that no program is compiled for."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.train import checkpoint
from jaxnet.train.optimizers import NAMES, Named, chosen, with_numbers
from tests.comparison import assert_trees_close
from tests.marks import slow_but
from tests.train.flower import NET, X, Y, fit
from tests.train.test_resume import bits

pytestmark = pytest.mark.usefixtures("implicit_promotion")
RATE = 0.03
EXPECTED = {
    "sgd": optax.sgd(RATE),
    "momentum": optax.sgd(RATE, 0.9),
    "nesterov": optax.sgd(RATE, 0.9, nesterov=True),
    "rmsprop": optax.rmsprop(RATE),
    "adagrad": optax.adagrad(RATE),
    "adadelta": optax.adadelta(RATE),
    "adam": optax.adam(RATE),
    "nadam": optax.nadam(RATE),
    "adamax": optax.adamax(RATE),
    "radam": optax.radam(RATE),
    "adamw": optax.adamw(RATE, mask=jaxnet.weights_only),
    "lion": optax.lion(RATE, mask=jaxnet.weights_only),
}


def by_name(name="adam", rate=RATE, **changes):
    return fit(optimizer=name, learning_rate=rate, **changes)


def rate_of(result):
    return float(result.state.opt_state.hyperparams["learning_rate"])


def steps(transformation, state, params, number=3):
    """The params after so many steps down a bowl."""
    for _ in range(number):
        updates, state = transformation.update(jax.tree.map(lambda leaf: 2 * leaf + 1, params), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_optax_s(name):
    params = jaxnet.init(NET, jax.random.key(0))
    transformation, _, numbers = chosen(name, RATE)
    state = with_numbers(transformation.init(params), numbers)
    expected = steps(EXPECTED[name], EXPECTED[name].init(params), params)
    assert_trees_close(steps(transformation, state, params), expected, 1e-7)


def test_the_table_is_the_one_that_is_tested():
    assert set(NAMES) == set(EXPECTED)


def test_no_optimizer_is_adam_with_the_bits_of_optax_s():
    default, named, own = fit(optimizer=None), by_name("adam", 1e-3), fit(optimizer=optax.adam(1e-3))
    chex.assert_trees_all_equal(jax.tree.map(bits, default), jax.tree.map(bits, named))
    chex.assert_trees_all_equal((named.params, named.history), (own.params, own.history))


def test_forty_rates_share_a_program(compiled):
    by_name(rate=0.1)
    compiled.clear()
    costs = {by_name(rate=rate).history["cost"][-1] for rate in np.linspace(0.001, 0.2, 40)}
    assert compiled == [] and len(costs) == 40


def test_the_rate_is_what_is_trained_with():
    net, params = jaxnet.MLP((2, 1), ("sigmoid",)), (jaxnet.Layer(jnp.ones((1, 2)), jnp.zeros((1, 1))),)
    _, dW = jaxnet.value_and_grad(net, params, X, Y)
    common = {"key": jax.random.key(0), "params": params, "epochs": 1, "batch_size": None}
    for rate in (0.5, 0.25):
        result = jaxnet.fit(net, X, Y, optimizer="sgd", learning_rate=rate, **common)
        np.testing.assert_allclose(result.params[0].W, params[0].W - rate * dW[0].W, rtol=1e-6)


def test_a_penalty_is_the_gradient_of_half_l2_times_the_squared_weights():
    net, params = jaxnet.MLP((2, 1), ("sigmoid",)), (jaxnet.Layer(jnp.ones((1, 2)), jnp.ones((1, 1))),)
    penalised = lambda params: jaxnet.cost(net, params, X, Y) + 0.3 / 2 * (params[0].W ** 2).sum()
    grads = jax.grad(penalised)(params)
    common = {"key": jax.random.key(0), "params": params, "epochs": 1, "batch_size": None}
    result = jaxnet.fit(net, X, Y, optimizer=Named("sgd", 0.5, l2=0.3), **common)
    expected = jax.tree.map(lambda leaf, gradient: leaf - 0.5 * gradient, params, grads)
    assert_trees_close(result.params, expected, 1e-6)
    with pytest.raises(ValueError, match=r"l2 is -1\.0; expected a finite number above 0, or 0"):
        Named("sgd", l2=-1.0)


def test_numbers_hash_and_say_which_are_equal():
    assert Named("adam", 0.1) == Named("adam", np.float64(0.1)) != Named("adam", 0.2)
    assert len({Named("adam", 0.1), Named("adam", np.float64(0.1)), Named("adam", 0.2), Named("sgd", 0.1)}) == 3
    assert chosen("adam", 0.1).transformation is chosen(None, 0.2).transformation


def test_callbacks_change_the_rate():
    plateau = jaxnet.reduce_on_plateau(0.5, patience=1, metric="validation_cost")
    result = by_name(rate=0.5, name="sgd", validation=(X, 1 - Y), callbacks=plateau, epochs=4)  # whose cost only rises
    assert rate_of(result) == pytest.approx(0.5**4)
    halved = by_name(callbacks=lambda loop, history: jaxnet.scale_learning_rate(loop, 0.5), epochs=3)
    assert rate_of(halved) == pytest.approx(RATE / 8)


def test_a_training_goes_on_by_name_bit_for_bit():
    whole, first = by_name(epochs=6), by_name(epochs=2)
    second = by_name(epochs=6, resume=first, key=None)
    chex.assert_trees_all_equal(jax.tree.map(bits, whole), jax.tree.map(bits, second))
    with pytest.warns(
        jaxnet.TrainingWarning, match=r"learning_rate is 0\.5 but resume goes on with .* 0\.03; to change"
    ):
        other = by_name(rate=0.5, epochs=6, resume=first, key=None)
    chex.assert_trees_all_equal(whole.params, other.params)
    assert rate_of(fit(optimizer="adam", epochs=6, resume=first, key=None)) == pytest.approx(RATE)  # not asked for
    with pytest.raises(ValueError, match="opt_state is another optimizer's"):
        by_name("momentum", epochs=6, resume=first, key=None)


def test_a_checkpoint_tells_the_name_and_its_numbers(tmp_path):
    run = {"checkpoint": tmp_path, "resume": True}
    by_name(epochs=1, **run)
    restored = checkpoint.restore(tmp_path, NET, "adam")
    assert rate_of(restored) == pytest.approx(RATE)
    chex.assert_trees_all_equal(by_name(epochs=3).params, by_name(epochs=3, **run).params)  # warnings are errors
    begun = r"another learning rate \({'learning_rate': 0.03}, now {'learning_rate': 0.5}\): training goes on with"
    with pytest.warns(jaxnet.TrainingWarning, match=begun) as told:
        assert rate_of(by_name(rate=0.5, epochs=4, **run)) == pytest.approx(RATE)
    assert len(told) == 1
    with pytest.warns(jaxnet.TrainingWarning, match=r"other settings \(optimizer_name 'adam', now 'nadam'\)"):
        by_name("nadam", rate=0.5, epochs=5, **run)


@pytest.mark.parametrize("name", slow_but(["adam"], ["sgd", "adam"]))
def test_a_sweep_by_name_is_fit_by_name(name):
    keys, rates = jax.random.split(jax.random.key(0), 3), [0.01, 0.1, 0.3]
    many = jaxnet.sweep(NET, X, Y, keys=keys, optimizer=name, learning_rate=rates, epochs=3, batch_size=16)
    one = by_name(name, rates[1], key=keys[1], epochs=3)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[1], many.params), one.params, 1e-5)

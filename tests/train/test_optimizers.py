"""Any optimizer of optax: what its update takes, what its state shows, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import normalize, reduce_on_plateau, sam

import jaxnet
from jaxnet.train.optimizers import extra_arguments
from tests.train.flower import NET, OPTIMIZER, X, Y, fit

PLATEAU = optax.chain(OPTIMIZER, reduce_on_plateau(patience=2))
SAM = sam(optax.sgd(0.1), optax.chain(normalize(), optax.sgd(0.05)), opaque_mode=False)


@dataclasses.dataclass
class Own:
    """An optimizer of the user's, which has no hash."""

    rate: float

    def init(self, params):
        return ()

    def update(self, grad, value, params=None):
        return jax.tree.map(lambda g: -self.rate * g, grad), value


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        (optax.MultiSteps(PLATEAU, 2), ("value", "grad", "value_fn")),
        (optax.MultiSteps(PLATEAU, 2).gradient_transformation(), ("value", "grad", "value_fn")),
        (optax.lbfgs(), ("value", "grad", "value_fn")),
        (SAM, ()),
        (optax.GradientTransformation(lambda p: (), lambda g, s, p=None, *, value: (g, s)), ("value",)),
        (Own(0.1), ()),  # names of its own for what stands first
    ],
)
def test_an_update_is_given_what_its_signature_takes(optimizer, names):
    assert extra_arguments(optimizer) == names


@pytest.mark.parametrize("optimizer", [optax.MultiSteps(PLATEAU, 2), SAM], ids=["accumulated plateau", "sam"])
@pytest.mark.usefixtures("implicit_promotion", "untyped")
def test_such_optimizers_train(optimizer):
    cost = fit(optimizer=optimizer, batch_size=None, epochs=24).history["cost"]
    assert cost[-1] < cost[0]


@pytest.mark.usefixtures("x64", "implicit_promotion")
def test_a_line_search_may_ask_for_the_cost_in_another_dtype():
    """optax.lbfgs asks at float64 params where 64-bit is on; the data and the params are float32."""
    result = fit(optimizer=optax.lbfgs(), batch_size=None, epochs=6)
    assert result.params[0].W.dtype == jnp.float32 and result.history["cost"][-1] < result.history["cost"][0]


@pytest.mark.usefixtures("untyped")
def test_an_optimizer_without_a_hash():
    with pytest.raises(TypeError, match=r"optimizer is an Own without a hash, .*; make a dataclass frozen"):
        fit(optimizer=Own(0.1))
    frozen = dataclasses.make_dataclass("Frozen", [], bases=(Own,), frozen=False, eq=False)
    frozen.__hash__ = object.__hash__
    assert int(fit(optimizer=frozen(0.1), epochs=1).state.step) == 4


def injected(rate):
    return optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.sgd)(learning_rate=rate))


@pytest.mark.parametrize("rate", [0.0, -0.1, np.nan, np.inf])
def test_a_rate_that_the_state_shows_is_refused(rate):
    with pytest.raises(ValueError, match=f"optimizer has learning_rate {rate:g}; expected a finite number above 0"):
        fit(optimizer=injected(rate))


def test_a_schedule_may_begin_at_zero():
    assert int(fit(optimizer=injected(optax.linear_schedule(0.0, 0.1, 4)), epochs=1).state.step) == 4


def test_a_scheduled_rate_is_named_wherever_it_stands():
    bad = injected(lambda count: jnp.where(count < 2, 0.1, jnp.nan))
    with pytest.raises(jaxnet.NotFiniteError, match=r"at step 3 .*learning rate 0\.1; .*the update is not"):
        fit(optimizer=bad)


@pytest.mark.usefixtures("untyped", "implicit_promotion")
def test_gradients_that_are_accumulated_and_not_applied_are_said():
    start = jaxnet.init(NET, jax.random.key(1))
    accumulating = optax.MultiSteps(OPTIMIZER, 8)
    with pytest.warns(UserWarning, match="MultiSteps, has made 0 updates and holds gradients .*, 4 so far"):
        result = fit(optimizer=accumulating, epochs=1, params=start)
    assert (result.params[0].W == start[0].W).all()
    assert int(fit(optimizer=accumulating, epochs=2, params=start).state.opt_state.gradient_step) == 1


@pytest.mark.parametrize(
    ("made_by", "message"),
    [
        (optax.sgd(0.1), r"\[0\]\.count is missing"),
        (optax.adamw(0.1), r"it is PyTreeDef.*EmptyState.*; expected PyTreeDef"),
    ],
)
def test_a_step_refuses_the_state_of_another_optimizer(made_by, message):
    params = jaxnet.init(NET, jax.random.key(0))
    state = jaxnet.TrainState(params, made_by.init(params), jnp.int32(0), jax.random.key(0))
    with pytest.raises(ValueError, match=f"state.opt_state is another optimizer's: {message}.*; make it with"):
        jaxnet.train_step(NET, optax.adam(0.1))(state, jnp.asarray(X), jnp.asarray(Y))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda mask: optax.chain(optax.set_to_zero(), optax.add_decayed_weights(1.0, mask), optax.scale(-0.1)),
        lambda mask: optax.adamw(0.1, weight_decay=1.0, mask=mask),
    ],
    ids=["decay alone", "adamw"],
)
@pytest.mark.usefixtures("implicit_promotion")
def test_weights_only_is_a_mask_that_leaves_biases_alone(optimizer):
    """With a gradient of 0 only what the mask says decays."""
    params = tuple(layer._replace(b=layer.b + 1) for layer in jaxnet.init(NET, jax.random.key(0)))
    transformation = optimizer(jaxnet.weights_only)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transformation.update(zero, transformation.init(params), params)
    for layer, update in zip(params, updates, strict=True):
        np.testing.assert_allclose(update.W, -0.1 * layer.W, rtol=1e-5)
        assert not update.b.any()

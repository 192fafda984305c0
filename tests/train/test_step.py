"""`train_step`: what is not finite is undone, norms are true, and only what is asked for is computed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from tests.train.flower import NET, OPTIMIZER, X, Y


def test_train_step_undoes_a_step_that_is_not_finite():
    params = jaxnet.init(NET, jax.random.key(0))
    state = jaxnet.TrainState(params, OPTIMIZER.init(params), jnp.int32(7), jax.random.key(0))
    after, metrics = jaxnet.train_step(NET, OPTIMIZER)(state, jnp.asarray(X).at[0, 0].set(jnp.nan), jnp.asarray(Y))
    assert not metrics["finite"]
    chex.assert_trees_all_equal(after._replace(key=0), state._replace(key=0))


@pytest.mark.parametrize("size", [200.0, 2e-4])
def test_a_step_s_norm_is_squared_in_float32(size):
    """In float16 two squares of 200 are infinite and 2e-4 has hardly any: the step counts, by its true norm."""
    net = jaxnet.MLP((4, 1), ("identity",))
    params = jaxnet.init(net, jax.random.key(0), "zeros", jnp.float16)  # predicts 0: ∂J/∂z is the size
    state = jaxnet.TrainState(params, OPTIMIZER.init(params), jnp.int32(0), jax.random.key(0))
    X, Y = jnp.ones((4, 8), jnp.float16), jnp.full((1, 8), -size, jnp.float16)
    after, metrics = jaxnet.train_step(net, OPTIMIZER, metrics=["gradient_norm"])(state, X, Y)
    np.testing.assert_allclose(metrics["gradient_norm"], size * np.sqrt(5), rtol=2e-3)
    assert metrics["finite"] and int(after.step) == 1 and after.params[0].W.dtype == jnp.float16


def test_a_state_of_another_network_is_told_by_its_name():
    params = jaxnet.init(jaxnet.MLP((2, 5, 1), ("tanh", "sigmoid")), jax.random.key(0))
    state = jaxnet.TrainState(params, OPTIMIZER.init(params), jnp.int32(0), jax.random.key(0))
    with pytest.raises(ValueError, match=r"^state\.params\[0\]\.W has shape \(5, 2\); expected \(4, 2\)"):
        jaxnet.train_step(NET, OPTIMIZER)(state, X, Y)


def test_what_is_not_measured_is_not_computed():
    """The norm's square root and the accuracy's comparison are in the step that measures them, and in no other."""
    net = jaxnet.MLP((2, 4, 3), ("tanh", "softmax"))
    params = jaxnet.init(net, jax.random.key(0))
    state = jaxnet.TrainState(params, OPTIMIZER.init(params), jnp.int32(0), jax.random.key(0))
    Y3 = jaxnet.one_hot(np.arange(60) % 3, 3)

    def primitives(metrics):
        step = jaxnet.train_step(net, OPTIMIZER, metrics=metrics)
        jaxpr = jax.make_jaxpr(step)(state, jnp.asarray(X), Y3)
        return {name for name in ("sqrt", "argmax") if f" {name}[" in str(jaxpr) or f" {name} " in str(jaxpr)}

    assert primitives(["cost"]) == set()
    assert primitives(["accuracy"]) == {"argmax"}
    assert primitives(["gradient_norm"]) == {"sqrt"}

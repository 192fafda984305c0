"""Each cost beside its derivative: finite and right where probabilities round to 0 and 1, and averaged once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet import losses
from jaxnet.activations import ACTIVATIONS
from tests import cases
from tests.comparison import assert_trees_close


def cost_of_logits(output, loss, Z, Y):
    """J and ∂J/∂Z by hand for given Z[L]."""
    loss, A, w = losses.loss_of(loss, output), ACTIVATIONS[output](Z), losses.mean_weights(None, Y)
    return (w * loss(Z, A, Y)).sum(), w * loss.derivative(Z, A, Y)


@pytest.mark.parametrize(("output", "loss"), cases.OUTPUTS)
def test_derivative_is_the_cost_s(output, loss, key, x64):
    Z = 3 * jax.random.normal(key, (3, 5), jnp.float64)
    Y = jaxnet.one_hot(jnp.arange(5) % 3, 3, jnp.float64)
    want = jax.grad(lambda Z: cost_of_logits(output, loss, Z, Y)[0])(Z)
    assert_trees_close(cost_of_logits(output, loss, Z, Y)[1], want, rtol=1e-13)


def test_cross_entropy_far_out():
    """|Z| = 1e4 in float32: no NaN or Inf; a confident right answer costs 0, a wrong one |Z|; slopes 0 and ±1."""
    Z, Y = jnp.array([[1e4, 1e4, -1e4, -1e4]]), jnp.array([[1.0, 0.0, 1.0, 0.0]])
    sigmoid = losses.loss_of("cross_entropy", "sigmoid")
    np.testing.assert_array_equal(sigmoid(Z, ACTIVATIONS["sigmoid"](Z), Y), [[0, 1e4, 1e4, 0]])
    np.testing.assert_array_equal(cost_of_logits("sigmoid", "cross_entropy", Z, Y)[1] * 4, [[0, 1, -1, 0]])

    Z, Y = jnp.array([[1e4, 1e4], [-1e4, -1e4]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    softmax = losses.loss_of("cross_entropy", "softmax")
    np.testing.assert_array_equal(softmax(Z, ACTIVATIONS["softmax"](Z), Y), [[0, 2e4]])
    np.testing.assert_array_equal(cost_of_logits("softmax", "cross_entropy", Z, Y)[1] * 2, [[0, 1], [0, -1]])


@pytest.mark.parametrize(("output", "loss"), cases.OUTPUTS)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_gradient_far_out_is_finite_and_autodiff_s(output, loss, scale, key):
    Z = jnp.full((3, 4), scale).at[0].multiply(-1)
    Y = jaxnet.one_hot(jnp.arange(4) % 3, 3)
    J, dZ = cost_of_logits(output, loss, Z, Y)
    want = jax.grad(lambda Z: cost_of_logits(output, loss, Z, Y)[0])(Z)
    assert jnp.isfinite(J) and jnp.isfinite(dZ).all()
    np.testing.assert_allclose(dZ, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_a_saturated_network_has_a_finite_cost_and_gradient(output):
    """Z = ±1e4: the first example is right and costs nothing, the second is wrong and costs 2 |Z|."""
    net, params = jaxnet.MLP((1, 2), (output,)), (jaxnet.Layer(jnp.array([[1e4], [-1e4]]), jnp.zeros((2, 1))),)
    J, grads = jaxnet.value_and_grad(net, params, np.array([[1, -1]]), np.array([[1, 1], [0, 0]]))
    assert J == 1e4
    np.testing.assert_array_equal(grads[0].W, [[0.5], [-0.5]])
    np.testing.assert_array_equal(grads[0].b, [[-0.5], [0.5]])


def test_small_costs_keep_their_digits():
    """A probability that misses 1 by less than float32 can tell still has its cost: -ln σ(20) = 2.06e-9."""
    J, _ = cost_of_logits("sigmoid", "cross_entropy", jnp.array([[20.0]]), jnp.array([[1.0]]))
    np.testing.assert_allclose(J, np.log1p(np.exp(-20)), rtol=1e-5)


def test_mean_weights_make_the_mean_or_the_weighted_mean(key, x64):
    values = jax.random.normal(key, (2, 5), jnp.float64)
    weights = jnp.array([1.0, 0.0, 2.0, 3.0, 0.5])
    mean = (losses.mean_weights(None, values) * values).sum(axis=1)
    np.testing.assert_allclose(mean, values.mean(axis=1), rtol=1e-14)
    weighted = losses.mean_weights(weights, values) * values
    np.testing.assert_allclose(weighted.sum(axis=1), np.average(values, axis=1, weights=weights), rtol=1e-14)
    assert (weighted[:, 1] == 0).all()
    assert (losses.mean_weights(0 * weights, values) == 0).all()  # no example counts: nothing, not NaN
    assert jnp.isnan(losses.mean_weights(jnp.full(5, 1e308), values)).all()  # and not a cost of 0


def test_padding_with_weight_zero_changes_nothing(key, x64):
    net = cases.NETS["square"]
    params, X, Y, weights = cases.point(net, key)
    padded = [jnp.pad(array, ((0, 0), (0, 3)), constant_values=7.0) for array in (X, Y)]
    got = jaxnet.value_and_grad(net, params, *padded, jnp.pad(weights, (0, 3)))
    assert_trees_close(got, jaxnet.value_and_grad(net, params, X, Y, weights), rtol=1e-13)

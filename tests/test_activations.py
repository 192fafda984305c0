"""Section 5 and 7 of the notes: every g and g' against the oracle, at the points that the notes work out, far out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.activations import ACTIVATIONS
from tests import cases, oracle

EACH = pytest.mark.parametrize("name", cases.HIDDEN)


def at(name, z, dtype=jnp.float64):
    """(g(z), g'(z)) of numbers z."""
    Z = jnp.asarray(z, dtype)[None, :]
    g = ACTIVATIONS[name]
    A = g.apply(Z)
    return A[0], g.derivative(Z, A)[0]


@EACH
def test_function_and_derivative_follow_the_notes(name, x64):
    z = np.linspace(-6, 6, 49)  # 0 included
    A, slopes = at(name, z)
    np.testing.assert_allclose(A, [oracle.G[name](value) for value in z], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slopes, [oracle.SLOPE[name](value) for value in z], rtol=1e-12, atol=1e-15)


@EACH
def test_derivative_is_autodiff_s_even_at_the_kink(name, x64):
    z = jnp.array([-1e4, -30.0, -2.0, 0.0, 3.0, 30.0, 1e4])
    autodiff = jax.vmap(jax.grad(lambda z: ACTIVATIONS[name].apply(z[None, None])[0, 0]))(z)
    np.testing.assert_allclose(at(name, z)[1], autodiff, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(("name", "slope"), [("sigmoid", 0.25), ("tanh", 1.0), ("relu", 0.0), ("leaky_relu", 1.0)])
def test_slope_at_zero(name, slope):
    assert at(name, [0.0], jnp.float32)[1][0] == slope


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_saturated_slopes_vanish(name, x64):
    _, slopes = at(name, [-10.0, 10.0])
    assert (slopes > 0).all() and (slopes < 5e-5).all()


@EACH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_far_out_nothing_is_infinite(name, dtype):
    """At |Z| = 1e4 every g is 0, 1 or linear, and its slope 0, 1 or the leak."""
    A, slopes = at(name, [-1e4, 1e4], jnp.dtype(dtype))
    low = {"identity": -1e4, "tanh": -1, "leaky_relu": -100}.get(name, 0)
    high = 1 if name in ("sigmoid", "tanh") else 1e4
    np.testing.assert_allclose(A.astype(jnp.float32), [low, high], rtol=1e-2)
    slope_low = {"identity": 1, "leaky_relu": 0.01}.get(name, 0)
    slope_high = 0 if name in ("sigmoid", "tanh") else 1
    np.testing.assert_allclose(slopes.astype(jnp.float32), [slope_low, slope_high], rtol=1e-2, atol=1e-30)
    assert A.dtype == slopes.dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_is_never_hidden(name):
    assert jnp.isnan(ACTIVATIONS[name].apply(jnp.array([[jnp.nan]]))).all()


def test_softmax_columns_are_probabilities_and_ignore_a_shift(key, x64):
    Z = 5 * jax.random.normal(key, (4, 7), jnp.float64)
    A = ACTIVATIONS["softmax"].apply(Z)
    np.testing.assert_allclose(A.sum(axis=0), 1, rtol=1e-14)
    np.testing.assert_allclose(ACTIVATIONS["softmax"].apply(Z + 1e4), A, rtol=1e-10)
    np.testing.assert_allclose(A, np.exp(Z) / np.exp(Z).sum(axis=0), rtol=1e-12)

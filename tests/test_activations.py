"""Section 5 and 7 of the notes: every g and g' against the oracle, at the points that the notes work out, far out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import TypeCheckError

import jaxnet
from jaxnet.activations import ACTIVATIONS, Activation
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


# ---- one's own -------------------------------------------------------------------------------------------------------
def mish(Z):
    return Z * jnp.tanh(jax.nn.softplus(Z))


def mish_derivative(Z, A):
    T = jnp.tanh(jax.nn.softplus(Z))
    return T + Z * (1 - T * T) * jax.nn.sigmoid(Z)


MISH = Activation(mish, mish_derivative)


@pytest.mark.parametrize("activations", [(MISH, "sigmoid"), ("tanh", MISH)], ids=["hidden", "output"])
def test_an_own_activation_is_trained_with_as_the_known_ones(activations, key, x64):
    net = jaxnet.MLP((3, 4, 1), activations)
    params, X = jaxnet.init(net, key, dtype=jnp.float64), jax.random.normal(key, (3, 5), jnp.float64)
    Y = jnp.ones((1, 5))
    J, grads = jaxnet.value_and_grad(net, params, X, Y)
    expected = jax.value_and_grad(jaxnet.cost, argnums=1)(net, params, X, Y)
    for ours, autodiff in zip(jax.tree.leaves((J, grads)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, autodiff, rtol=1e-12, atol=1e-14)
    result = jaxnet.fit(net, X, Y / 2, key=key, optimizer=optax.sgd(0.1), steps=3, batch_size=None, progress=False)
    assert result.history["cost"][-1] < result.history["cost"][0]


def test_a_dead_relu_layer_is_told_behind_an_own_activation(key):
    net = jaxnet.MLP((3, 4, 5, 1), (MISH, "relu", "identity"))
    first, (W, b), last = jaxnet.init(net, key)
    dead = (first, jaxnet.Layer(0 * W, b - 1), last)
    X, Y = jax.random.normal(key, (3, 8)), jnp.arange(8.0)[None]
    with pytest.warns(jaxnet.TrainingWarning, match="layer 2 is dead"):
        jaxnet.fit(net, X, Y, key=key, optimizer=optax.sgd(0.1), params=dead, epochs=1, progress=False)


def test_one_is_known_by_its_functions():
    net = jaxnet.MLP((2, 3, 1), (MISH, "sigmoid"))
    assert net == jaxnet.MLP((2, 3, 1), (Activation(mish, mish_derivative), "sigmoid"))
    assert hash(net) != hash(jaxnet.MLP((2, 3, 1), ("relu", "sigmoid")))
    assert "Activation(mish)" in repr(net) and len(repr(net)) < 120
    sizes = jax.jit(lambda x: x + len(jaxnet.MLP((2, 3, 1), (Activation(mish, mish_derivative), "sigmoid")).sizes))(1)
    assert sizes == 4  # made while something is traced


@pytest.mark.parametrize(
    ("g", "derivative", "message"),
    [
        (mish, lambda Z, A: 1.001 * mish_derivative(Z, A), "a factor 1.001 on every entry"),
        (mish, lambda Z, A: jax.nn.sigmoid(Z), "the verifier says of its derivative"),
        (lambda Z: jax.nn.softmax(Z, axis=0), lambda Z, A: A * (1 - A), "the verifier says of its derivative"),
        (jnp.sum, lambda Z, A: Z, r"g\(Z\) is float32\[\]; expected the same shape and dtype"),
        (mish, lambda Z, A: jnp.float16(1) * Z.astype("float16"), "its derivative is float16"),
        (mish, mish, "it raises TypeError: .* positional argument"),
        (lambda Z: np.tanh(Z), lambda Z, A: 1 - A * A, "JAX cannot trace it, .*; write it with jax.numpy"),
        (jnp.tanh, lambda Z, A: 1 - np.square(A), "JAX cannot trace it, .*; write it with jax.numpy"),
    ],
    ids=["a factor", "another's", "not entry by entry", "a sum", "another dtype", "one argument", "NumPy's", "in part"],
)
def test_a_pair_that_is_none_is_refused(g, derivative, message):
    with pytest.raises(ValueError, match=r"(?s)activations\[0\] is Activation\(.*\), and cannot be used: .*" + message):
        jaxnet.MLP((2, 3, 1), (Activation(g, derivative), "sigmoid"))


def test_an_activation_without_its_tuple_is_refused():
    with pytest.raises((ValueError, TypeCheckError), match=r"expected one name per layer|parameter 'activations'"):
        jaxnet.MLP((2, 1), MISH)

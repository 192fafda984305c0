"""The three products, and what the policies promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.precision import PRECISIONS
from tests import cases


@pytest.mark.parametrize("name", PRECISIONS)
def test_products_are_the_plain_ones(name, key, x64):
    k = jax.random.split(key, 3)
    W, A_prev, dZ = (jax.random.normal(k, s, jnp.float64) for k, s in zip(k, ((3, 5), (5, 7), (3, 7)), strict=True))
    product = PRECISIONS[name]
    np.testing.assert_allclose(product.forward(W, A_prev), np.asarray(W) @ np.asarray(A_prev), rtol=1e-13)
    np.testing.assert_allclose(product.weights(dZ, A_prev), np.asarray(dZ) @ np.asarray(A_prev).T, rtol=1e-13)
    np.testing.assert_allclose(product.inputs(W, dZ), np.asarray(W).T @ np.asarray(dZ), rtol=1e-13)


def test_float32_is_never_rounded_further():
    """Every product of a step asks the backend for full precision: no TF32 on a GPU, no bfloat16 on a TPU."""
    net = cases.NETS["square"]
    params, X, Y, _ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    text = jax.jit(jaxnet.value_and_grad, static_argnums=0).lower(net, params, X, Y).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 8  # Z, dW and dA of three layers, less dX
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_float64_is_refused_where_jax_would_round(untyped):
    net = cases.NETS["binary"]
    params, X, Y, _ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    with pytest.raises(ValueError, match="precision is float64, but 64-bit is off"):
        jaxnet.cost(net, params, X, Y, precision="float64")


def test_unknown_precision_names_the_nearest(untyped):
    net = cases.NETS["binary"]
    params, X, Y, _ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"precision is 'float23'; .*did you mean 'float32'"):
        jaxnet.cost(net, params, X, Y, precision="float23")

"""What a compiled step holds while it runs: exact, hence a test (row 9 of the benchmarks)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softplus", "tanh", "sigmoid", "gelu", "silu"])
def test_a_step_keeps_one_array_a_layer(activation):
    """A or Z of each layer and four more at work; jax.grad keeps two for relu, three for silu, four for gelu."""
    layers, n, m = 12, 64, 512
    net = jaxnet.MLP((n,) * (layers + 1), (activation,) * (layers - 1) + ("identity",))
    params = jax.eval_shape(lambda: jaxnet.init(net, jax.random.key(0)))
    X = jax.ShapeDtypeStruct((n, m), jnp.float32)

    def step(params, X, Y):
        J, grads = jaxnet.value_and_grad(net, params, X, Y)
        return J, jax.tree.map(lambda p, g: p - np.float32(0.1) * g, params, grads)

    memory = jax.jit(step, donate_argnums=0).lower(params, X, X).compile().memory_analysis()
    weights = layers * n * n * 4
    assert memory.temp_size_in_bytes <= (layers + 4) * n * m * 4 + weights

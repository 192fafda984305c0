"""What networks and their params show of themselves: enough to see which they are, and no numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet


@pytest.mark.parametrize(
    "text",
    [
        "MLP((2, 4, 1), ('tanh', 'sigmoid'))",
        "MLP((2, 4, 1), ('tanh', 'sigmoid'), 'squared_error')",
        "MLP((4, 1), ('identity',))",
    ],
)
def test_a_network_shows_how_it_is_made(text):
    net = eval(f"jaxnet.{text}")
    assert repr(net) == text
    assert repr(jaxnet.MLP([*net.sizes], [*net.activations], net.loss)) == text


def test_networks_of_other_losses_differ():
    """Processes compare their networks by this text."""
    usual, other = (jaxnet.MLP((2, 1), ("sigmoid",), loss) for loss in (None, "squared_error"))
    assert repr(usual) != repr(other) and repr(usual) == repr(jaxnet.MLP((2, 1), ("sigmoid",), "cross_entropy"))


def test_params_show_shapes_and_dtypes():
    layer = jaxnet.Layer(jnp.ones((4, 2)), np.ones((4, 1), np.float64))
    assert repr((layer,)) == "(Layer(W=float32[4,2], b=float64[4,1]),)"


def test_what_else_may_stand_in_a_layer_is_shown_as_it_is():
    assert repr(jaxnet.Layer(True, None)) == "Layer(W=True, b=None)"
    layer = jaxnet.Layer(jnp.ones((4, 2)), jnp.ones((4, 1)))
    assert "ShapeDtypeStruct(shape=(4, 2), dtype=float32)" in repr(jax.eval_shape(lambda layer: layer, layer))
    shown = []
    jax.make_jaxpr(lambda layer: shown.append(repr(layer)) or layer)(layer)
    assert "Tracer" in shown[0], shown


def test_a_cache_reads_at_a_glance(key):
    net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"), dropout=0.5)
    params = jaxnet.init(net, key)
    _, cache = jaxnet.forward(net, params, jnp.zeros((2, 5)), key=key)
    assert repr(cache[1]) == "LayerCache(Z=float32[4,5], A=float32[4,5], D=float32[4,5])"
    assert repr(cache[2]) == "LayerCache(Z=float32[1,5], A=float32[1,5])"

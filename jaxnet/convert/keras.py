"""To and from Keras: a keras.Sequential, on whatever backend."""

from collections.abc import Iterator
from typing import Any

from jaxnet.convert.parts import Dense, Function, function, layers_of, library, network, require, typed
from jaxnet.mlp import MLP, Params


def from_keras(model: Any, output: str | None = None) -> tuple[MLP, Params]:
    """Return the network and params of a keras.Sequential of Dense layers and activations, that is built.

    Args:
        model: the Sequential; others may stand in it.
        output: the activation that its loss applies, for from_logits=True; None is as it stands.

    Raises:
        ValueError: a part of it, which is named, has no place in an MLP; or output is unknown.
        TypeError: it is another model.
        ImportError: keras, or its backend, is not installed.
    """
    keras = _keras()
    require("model", model, keras.Sequential, "a keras.Sequential")
    return network("model", _of_keras(keras, model, "model"), output)


def _of_keras(keras, model, place) -> Iterator[Dense | Function]:
    array, tensor = keras.ops.convert_to_numpy, keras.ops.convert_to_tensor
    for i, layer in enumerate(model.layers):
        at = f"{place}.layers[{i}]"
        if isinstance(layer, keras.Sequential):
            yield from _of_keras(keras, layer, at)
        elif type(layer) is keras.layers.Dense:
            if not layer.built:
                raise ValueError(f"{at} has no weights yet; build the model: begin it with keras.Input((n_x,))")
            yield Dense(array(layer.kernel).T, array(layer.bias) if layer.use_bias else None, typed(at, layer))
            yield function(at, layer.activation, lambda rows, g=layer.activation: array(g(tensor(rows))))
        elif not isinstance(layer, keras.layers.Dropout | keras.layers.AlphaDropout | keras.layers.GaussianDropout):
            yield function(at, layer, lambda rows, layer=layer: array(layer(tensor(rows))))


def to_keras(net: MLP, params: Params, logits: bool = False) -> Any:
    """Return a keras.Sequential with these params, of the backend that Keras runs on.

    Raises:
        ValueError, TypeError: params are not those of the net.
        ImportError: keras, or its backend, is not installed.
    """
    keras = _keras()
    found, weights = [], []
    for W, b, name in layers_of(net, params, logits):
        slope = name == "leaky_relu"  # that of Keras' own function is 0.2
        names = {"identity": "linear", "leaky_relu": "linear"}
        found.append(keras.layers.Dense(len(W), names.get(name, name), dtype=W.dtype.name))
        found += [keras.layers.LeakyReLU(0.01, dtype=W.dtype.name)] * slope
        weights += [W.T, b]
    model = keras.Sequential([keras.Input((net.sizes[0],), dtype=weights[0].dtype.name), *found])
    model.set_weights(weights)
    return model


def _keras() -> Any:
    return library("keras", "; it needs a backend, and runs on JAX where the environment has KERAS_BACKEND=jax")

"""To and from Flax NNX: a flax.nnx.Sequential."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnet.convert.parts import Dense, Function, function, functions, layers_of, library, network, require, typed
from jaxnet.mlp import MLP, Params


def from_nnx(module: Any, output: str | None = None) -> tuple[MLP, Params]:
    """Return the network and params of a flax.nnx.Sequential of Linear layers and activations.

    Args:
        module: the Sequential; others may stand in it.
        output: the activation that its loss applies; None is as it stands.

    Raises:
        ValueError: a part of it, which is named, has no place in an MLP; or output is unknown.
        TypeError: it is another module.
        ImportError: flax is not installed.
    """
    nnx = library("flax.nnx")
    require("module", module, nnx.Sequential, "a flax.nnx.Sequential")
    return network("module", _of_nnx(nnx, module, "module"), output)


def _of_nnx(nnx, module, place) -> Iterator[Dense | Function]:
    for i, layer in enumerate(module.layers):
        at = f"{place}.layers[{i}]"
        if isinstance(layer, nnx.Sequential):
            yield from _of_nnx(nnx, layer, at)
        elif type(layer) is nnx.Linear:
            yield Dense(
                np.asarray(layer.kernel[...]).T,
                np.asarray(layer.bias[...]) if layer.use_bias else None,
                typed(at, layer),
            )
        elif not isinstance(layer, nnx.Dropout):
            yield function(at, layer, layer)


def to_nnx(net: MLP, params: Params, logits: bool = False) -> Any:
    """Return a flax.nnx.Sequential with these params: module(X.T) is predict(net, params, X).T.

    Raises:
        ValueError, TypeError: params are not those of the net.
        ImportError: flax is not installed.
    """
    nnx = library("flax.nnx")
    layers, zeros = [], nnx.initializers.zeros_init()
    for W, b, name in layers_of(net, params, logits):
        linear = nnx.Linear(*W.T.shape, param_dtype=W.dtype, kernel_init=zeros, rngs=nnx.Rngs(0))
        linear.kernel[...], linear.bias[...] = jnp.asarray(W.T), jnp.asarray(b)
        layers += [linear, *functions(name)]
    return nnx.Sequential(*layers)

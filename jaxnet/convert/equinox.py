"""To and from Equinox: an equinox.nn.MLP, which is a function of one example."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.convert.parts import OF_JAX, Dense, Function, function, layers_of, library, network, require, shared, typed
from jaxnet.mlp import MLP, Params


def from_equinox(module: Any, output: str | None = None) -> tuple[MLP, Params]:
    """Return the network and params of an equinox.nn.MLP, whose activations are functions of one unit.

    Args:
        module: the MLP.
        output: the activation that its loss applies; None is as it stands.

    Raises:
        ValueError: one of its activations has no place here; or output is unknown.
        TypeError: it is another module.
        ImportError: equinox is not installed.
    """
    nn = library("equinox").nn
    require("module", module, nn.MLP, "an equinox.nn.MLP")
    return network("module", _of_equinox(module), output)


def _of_equinox(module) -> Iterator[Dense | Function]:
    of_units = lambda g: jax.vmap(jax.vmap(g))
    if getattr(module, "scan", False) and module.depth > 1:
        raise ValueError("module has scan=True, which stacks its hidden layers; convert one of scan=False")
    for l, layer in enumerate(module.layers):
        at, g = f"module.layers[{l}]", module.activation if l < module.depth else module.final_activation
        yield Dense(np.asarray(layer.weight), None if layer.bias is None else np.asarray(layer.bias), typed(at, layer))
        if module.depth > 0:  # a single layer applies no activation
            yield function(f"the activation of {at}", g, of_units(g))


def to_equinox(net: MLP, params: Params, logits: bool = False) -> Any:
    """Return an equinox.nn.MLP with these params: jax.vmap(module)(X.T) is predict(net, params, X).T.

    Raises:
        ValueError: the hidden layers have not one width and one activation; the output's activation is softmax, or the
            only one, which an equinox.nn.MLP does not apply; or params are not those of the net.
        TypeError: params are not those of the net.
        ImportError: equinox is not installed.
    """
    equinox = library("equinox")
    layers = layers_of(net, params, logits)
    output = layers[-1][-1]
    if output == "softmax" or (len(layers) == 1 and output != "identity"):
        raise ValueError(
            f"net has the output {output!r}; equinox.nn.MLP applies an activation to one unit at a time, and none to a"
            " single layer: convert with logits=True, and apply it to what the module returns"
        )
    hidden = shared("equinox.nn.MLP", "activation", net.activations[:-1], "identity")
    width = shared("equinox.nn.MLP", "width", net.sizes[1:-1], 1)
    n_x, n_y, depth = net.sizes[0], net.sizes[-1], len(net.sizes) - 2
    key, dtype = jax.random.key(0), layers[0][0].dtype
    build = lambda key: equinox.nn.MLP(n_x, n_y, width, depth, OF_JAX[hidden], OF_JAX[output], dtype=dtype, key=key)
    module = equinox.filter_eval_shape(build, key)  # nothing is drawn
    leaves = lambda module: [leaf for layer in module.layers for leaf in (layer.weight, layer.bias)]
    return equinox.tree_at(leaves, module, [jnp.asarray(leaf) for W, b, _ in layers for leaf in (W, b)])

"""To and from Flax linen: a flax.linen.Sequential and its variables."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnet._arguments import type_name
from jaxnet.convert.parts import Dense, Function, function, functions, layers_of, library, network, require, typed
from jaxnet.mlp import MLP, Params


def from_linen(module: Any, variables: Mapping[str, Any], output: str | None = None) -> tuple[MLP, Params]:
    """Return the network and params of a flax.linen.Sequential of Dense layers and activations.

    Args:
        module: the Sequential; others may stand in it.
        variables: what its init returned, or training made of that: {"params": {"layers_0": {"kernel": ...}, ...}}.
        output: the activation that its loss applies; None is as it stands.

    Raises:
        ValueError: a part of it, which is named, has no place in an MLP; or output is unknown.
        TypeError: it is another module, or variables are not those of one.
        ImportError: flax is not installed.
    """
    nn = library("flax.linen")
    require("module", module, nn.Sequential, "a flax.linen.Sequential")
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise TypeError(f"variables is {type_name(variables)}; expected {{'params': ...}}, as module.init returns")
    return network("module", _of_linen(nn, module, variables["params"], "module"), output)


def _of_linen(nn, module, params, place) -> Iterator[Dense | Function]:
    for i, layer in enumerate(module.layers):
        at = f"{place}.layers[{i}]"
        name = f"layers_{i}"  # whatever name a layer was given
        if isinstance(layer, nn.Sequential):
            yield from _of_linen(nn, layer, _own(params, name, at, layer), at)
        elif type(layer) is nn.Dense:
            own = _own(params, name, at, layer)
            if "kernel" not in own:
                raise ValueError(f"the params of {typed(at, layer)} have no 'kernel'; give what module.init returns")
            yield Dense(
                np.asarray(own["kernel"]).T, np.asarray(own["bias"]) if "bias" in own else None, typed(at, layer)
            )
        elif not isinstance(layer, nn.Dropout):
            yield function(at, layer, layer)


def _own(params: Any, name: str, at: str, layer: Any) -> Any:
    """The params of a layer."""
    if not isinstance(params, Mapping) or not isinstance(params.get(name), Mapping):
        raise ValueError(
            f"variables['params'] has no {name!r}, the params of {typed(at, layer)}; give what module.init returns"
        )
    return params[name]


def to_linen(net: MLP, params: Params, logits: bool = False) -> tuple[Any, dict[str, Any]]:
    """Return a flax.linen.Sequential and its variables: module.apply(variables, X.T) is predict(net, params, X).T.

    Raises:
        ValueError, TypeError: params are not those of the net.
        ImportError: flax is not installed.
    """
    nn = library("flax.linen")
    layers, own = [], {}
    for W, b, name in layers_of(net, params, logits):
        own[f"layers_{len(layers)}"] = {"kernel": jnp.asarray(W.T), "bias": jnp.asarray(b)}
        layers += [nn.Dense(len(W), param_dtype=W.dtype), *functions(name)]
    return nn.Sequential(layers), {"params": own}

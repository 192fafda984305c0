"""To and from PyTorch: a torch.nn.Sequential, or its state dict."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnet import checks
from jaxnet._arguments import type_name
from jaxnet.convert.parts import Dense, Function, function, layers_of, library, network, params_of, require, typed
from jaxnet.mlp import MLP, Params

OF_TORCH = {
    "identity": "Identity",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "softplus": "Softplus",
    "gelu": "GELU",
    "silu": "SiLU",
}


def from_torch(module: Any, output: str | None = None) -> tuple[MLP, Params]:
    """Return the network and params of a torch.nn.Sequential of Linear layers and activations.

    Args:
        module: the Sequential; others may stand in it.
        output: the activation that its loss applies, such as "softmax" for CrossEntropyLoss; None is as it stands.

    Raises:
        ValueError: a part of it, which is named, has no place in an MLP; or output is unknown.
        TypeError: it is another module.
        ImportError: torch is not installed.
    """
    nn = library("torch").nn
    expected = "a torch.nn.Sequential" + "; a state dict is for from_torch_state" * isinstance(module, Mapping)
    require("module", module, nn.Sequential, expected)
    return network("module", _of_torch(nn, module, "module"), output)


def _of_torch(nn, module, place) -> Iterator[Dense | Function]:
    for i, layer in enumerate(module):
        at = f"{place}[{i}]"
        if isinstance(layer, nn.Sequential):
            yield from _of_torch(nn, layer, at)
        elif type(layer) is nn.Linear:  # of another class, or with a parametrisation, it might compute otherwise
            yield Dense(
                _of_tensor(layer.weight), None if layer.bias is None else _of_tensor(layer.bias), typed(at, layer)
            )
        elif not isinstance(layer, nn.Dropout | nn.AlphaDropout):
            yield function(at, layer, lambda rows, layer=layer: _of_tensor(layer(_tensor(rows))))


def from_torch_state(net: MLP, state: Mapping[str, Any]) -> Params:
    """Return the params of a state dict of torch, which tells no activations, for a network that has them.

    Args:
        net: the network.
        state: a weight (n, n_prev) and a bias (n,) for each layer, in order, such as "0.weight", "0.bias", "2.weight";
            tensors, or arrays as safetensors loads them.

    Raises:
        ValueError, TypeError: it holds something else, or other shapes.
    """
    checks.mlp(net)
    if not isinstance(state, Mapping):
        raise TypeError(f"state is {type_name(state)}; expected a state dict, such as module.state_dict()")
    weights = [name for name in state if name.endswith("weight")]
    other = set(state) - {*weights, *(name.removesuffix("weight") + "bias" for name in weights)}
    if other:
        raise ValueError(
            f"state has {min(other)!r}; expected a weight and a bias for each linear layer and nothing else"
        )
    if len(weights) != len(net.sizes) - 1:
        raise ValueError(
            f"state has {len(weights)} weights; expected {len(net.sizes) - 1}, of the layers of sizes {net.sizes}"
        )
    layers = []
    for l, name in enumerate(weights, start=1):
        bias_name, n_prev, n = name.removesuffix("weight") + "bias", *net.sizes[l - 1 : l + 1]
        W, b = _of_tensor(state[name]), _of_tensor(state[bias_name]) if bias_name in state else None
        for place, leaf, expected in ((name, W, (n, n_prev)), (bias_name, b, (n,))):
            if leaf is not None and leaf.shape != expected:
                remedy = ": give its transpose" if leaf.T.shape == expected else ""
                raise ValueError(
                    f"state[{place!r}] has shape {leaf.shape}; expected {expected}, of layer {l} of sizes {net.sizes}"
                    f"{remedy}"
                )
        layers.append(Dense(W, b, f"state[{name!r}]"))
    return checks.params(net, params_of(layers), "state")


def to_torch(net: MLP, params: Params, logits: bool = False) -> Any:
    """Return a torch.nn.Sequential, on the CPU, with these params; its state_dict() is that of the Linear layers.

    Raises:
        ValueError, TypeError: params are not those of the net.
        ImportError: torch is not installed.
    """
    torch = library("torch")
    layers = []
    for W, b, name in layers_of(net, params, logits):
        linear = torch.nn.Linear(W.shape[1], W.shape[0], device="meta")  # where nothing is drawn
        linear.weight, linear.bias = (torch.nn.Parameter(_tensor(a)) for a in (W, b))
        layers.append(linear)
        if name == "softmax":
            layers.append(torch.nn.Softmax(dim=-1))
        elif name != "identity":
            layers.append(getattr(torch.nn, OF_TORCH[name])())
    return torch.nn.Sequential(*layers)


def _of_tensor(tensor: Any) -> np.ndarray:
    """The values in the host's memory; NumPy has no bfloat16 of torch's own."""
    if not hasattr(tensor, "detach"):
        return np.array(tensor)
    tensor = tensor.detach().cpu()
    narrow = str(tensor.dtype) == "torch.bfloat16"
    return tensor.float().numpy().astype(jnp.bfloat16) if narrow else tensor.numpy().copy()


def _tensor(array: np.ndarray) -> Any:
    torch = library("torch")
    narrow = array.dtype == jnp.bfloat16
    return torch.tensor(array.astype(np.float32)).bfloat16() if narrow else torch.tensor(np.ascontiguousarray(array))

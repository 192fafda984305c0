"""Params as other libraries hold them, and back: W (n, n_prev) and b (n, 1) here, most often the transposes there.

Every library's pair stands together, `to_NAME` and `from_NAME`; what the library has no name for (its activations, its
random start) is left as its model has it. Outputs are logits: the last activation belongs to the loss.
"""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import Layer

Params = tuple[Layer, ...]  # params[l - 1] is layer l

# ---------------------------------------------------------------- examples as rows


def to_rows(params: Params) -> list[tuple[jax.Array, jax.Array]]:
    """W (n_prev, n) and b (1, n) of each layer, for Z = A W + b with examples as rows; in memory of their own."""
    return [(jnp.asarray(W).T.copy(), jnp.asarray(b).T.copy()) for W, b in params]


def from_rows(pairs: Iterable[tuple]) -> Params:
    """The params of layers W (n_prev, n), b (1, n)."""
    return tuple(Layer(W.T, b.T) for W, b in pairs)


# ---------------------------------------------------------------- Keras


def to_keras(params: Params) -> list[np.ndarray]:
    """The weights of a Sequential of Dense layers: kernel (n_prev, n), bias (n,), kernel, ..."""
    return [np.asarray(p) for W, b in params for p in (W.T, b[:, 0])]


def from_keras(weights: Sequence[np.ndarray]) -> Params:
    """The params of `model.get_weights()`, which is to alternate kernels and biases."""
    return tuple(Layer(W.T, b[:, None]) for W, b in zip(weights[::2], weights[1::2], strict=True))


# ---------------------------------------------------------------- scikit-learn


def to_sklearn(params: Params) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """`coefs_` (n_prev, n) and `intercepts_` (n,) of a multi-layer perceptron.

    Of two softmax outputs it holds one, the second's logit less the first's.
    """
    *hidden, (W, b) = ((np.asarray(W), np.asarray(b)) for W, b in params)
    if len(W) == 2:
        W, b = W[1:] - W[:1], b[1:] - b[:1]
    layers = [*hidden, (W, b)]
    return [W.T for W, _ in layers], [b[:, 0] for _, b in layers]


def from_sklearn(coefs: Sequence[np.ndarray], intercepts: Sequence[np.ndarray], n_y: int) -> Params:
    """The params of `coefs_` and `intercepts_` for n_y outputs; of two softmax outputs the first's logit is 0."""
    *hidden, last = (Layer(W.T, b[:, None]) for W, b in zip(coefs, intercepts, strict=True))
    if n_y == 2:
        last = Layer(*(np.vstack([np.zeros_like(leaf), leaf]) for leaf in last))
    return *hidden, last


# ---------------------------------------------------------------- PyTorch


def to_torch(params: Params, hidden: str, device="cpu"):
    """A torch.nn.Sequential of Linear layers (n, n_prev) with the hidden activation between them."""
    import torch

    functions = torch.nn.ReLU, torch.nn.Tanh, torch.nn.Sigmoid, torch.nn.Softplus, torch.nn.GELU, torch.nn.SiLU
    kinds = {kind.__name__.lower(): kind for kind in functions}
    if hidden not in kinds:
        raise ValueError(f"hidden is {hidden!r}; expected one of {', '.join(kinds)}")
    layers = []
    for W, b in params:
        linear = torch.nn.Linear(W.shape[1], W.shape[0], device=device)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.array(W)))
            linear.bias.copy_(torch.tensor(np.array(b)[:, 0]))
        layers += [linear, kinds[hidden]()]
    return torch.nn.Sequential(*layers[:-1])


def from_torch(model) -> Params:
    """The params of the Linear layers of a torch.nn.Sequential, copied to the host."""
    import torch

    linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    pairs = [[p.detach().cpu().numpy().copy() for p in (layer.weight, layer.bias)] for layer in linear]
    return tuple(Layer(W, b[:, None]) for W, b in pairs)


# ---------------------------------------------------------------- Equinox


def to_equinox(params: Params, model):
    """The eqx.nn.MLP with these params in its layers: weight (n, n_prev), bias (n,)."""
    import equinox

    shapes = [layer.weight.shape for layer in model.layers]
    if shapes != [W.shape for W, _ in params]:
        raise ValueError(
            f"params have W of shapes {[W.shape for W, _ in params]}, the model {shapes}; build it with those widths"
        )
    leaves = lambda model: [p for layer in model.layers for p in (layer.weight, layer.bias)]
    return equinox.tree_at(leaves, model, [p for W, b in params for p in (jnp.asarray(W), jnp.asarray(b)[:, 0])])


def from_equinox(model) -> Params:
    """The params of an eqx.nn.MLP."""
    return tuple(Layer(layer.weight, layer.bias[:, None]) for layer in model.layers)


# ---------------------------------------------------------------- Flax NNX


def to_nnx(params: Params, layers: Iterable) -> None:
    """Write the params into nnx.Linear layers: kernel (n_prev, n), bias (n,)."""
    for layer, (W, b) in zip(layers, params, strict=True):
        layer.kernel[...], layer.bias[...] = jnp.asarray(W).T, jnp.asarray(b)[:, 0]


def from_nnx(layers: Iterable) -> Params:
    """The params of nnx.Linear layers."""
    return tuple(Layer(layer.kernel[...].T, layer.bias[...][:, None]) for layer in layers)

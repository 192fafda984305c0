"""The lattice of networks that the laws run over, and points that keep every leaf of their gradients alive."""

import jax
import jax.numpy as jnp

import jaxnet
from jaxnet.activations import ACTIVATIONS

HIDDEN = tuple(name for name in ACTIVATIONS if name != "softmax")
OUTPUTS = (("sigmoid", "cross_entropy"), ("softmax", "cross_entropy"), *((name, "squared_error") for name in HIDDEN))
WIDTHS = (5, 4, 3, 4, 3)  # distinct neighbours: a transposed product fails by its shape


def deep(hidden, output, loss, depth=2, widths=WIDTHS):
    """A net of that depth whose hidden layers share one activation."""
    return jaxnet.MLP((*widths[:depth], 3), (hidden,) * (depth - 1) + (output,), loss)


NETS = {
    f"{hidden}-{output}-{loss}": deep(hidden, output, loss) for hidden in HIDDEN for output, loss in OUTPUTS
} | {
    f"depth{depth}-{output}": deep(hidden, output, loss, depth)
    for depth in (1, 3, 4)
    for hidden, (output, loss) in zip(("tanh", "silu", "sigmoid", "gelu"), OUTPUTS, strict=False)
} | {
    "square": jaxnet.MLP((4, 4, 4, 4), ("tanh", "gelu", "softmax")),  # a transposed product fails by its value
    "binary": jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")),  # the notes' own
    "price": jaxnet.MLP((4, 5, 1), ("relu", "relu")),
}  # fmt: skip


def point(net, key, m=6, dtype=jnp.float64):
    """Params with biases that are not 0, X, targets that fit the loss, and example weights, at random."""
    k = jax.random.split(key, 5)
    params = tuple(
        layer._replace(b=0.3 * jax.random.normal(bias_key, layer.b.shape, dtype))
        for layer, bias_key in zip(
            jaxnet.init(net, k[0], 0.7, dtype), jax.random.split(k[1], len(net.activations)), strict=True
        )
    )
    X = jax.random.normal(k[2], (net.sizes[0], m), dtype)
    if net.activations[-1] == "softmax":
        Y = jaxnet.one_hot(jnp.arange(m) % net.sizes[-1], net.sizes[-1], dtype)
    elif net.loss == "cross_entropy":
        Y = jax.random.bernoulli(k[3], 0.5, (net.sizes[-1], m)).astype(dtype)
    else:
        Y = jax.random.normal(k[3], (net.sizes[-1], m), dtype)
    return params, X, Y, jax.random.uniform(k[4], (m,), dtype, 0.2, 2.0)

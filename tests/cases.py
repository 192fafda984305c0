"""The lattice of networks that the laws run over, and points that keep every leaf of their gradients alive."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

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
    "penalised": jaxnet.MLP((5, 4, 3), ("tanh", "softmax"), l2=0.3),
}  # fmt: skip


def point(net, key, m=6, dtype=jnp.float64):
    """Params with biases that are not 0, X, targets that fit the loss, and example weights, at random.

    Drawn by NumPy: JAX compiles a program for each shape that it draws.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    normal = lambda *shape, scale=1.0: jnp.asarray(scale * rng.normal(size=shape), dtype)
    params = tuple(
        jaxnet.Layer(normal(n, n_prev, scale=0.7), normal(n, 1, scale=0.3))
        for n_prev, n in itertools.pairwise(net.sizes)
    )
    n = net.sizes[-1]
    if net.activations[-1] == "softmax":
        Y = jnp.asarray(np.eye(n)[:, np.arange(m) % n], dtype)
    elif net.loss == "cross_entropy":
        Y = jnp.asarray(rng.random((n, m)) < 0.5, dtype)
    else:
        Y = normal(n, m)
    return params, normal(net.sizes[0], m), Y, jnp.asarray(rng.uniform(0.2, 2.0, m), dtype)

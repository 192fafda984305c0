"""The network of the lecture notes and its two passes: three lines out, five lines home.

| notes                    | code              | shape                | remark                                        |
|--------------------------|-------------------|----------------------|-----------------------------------------------|
| X, Y                     | X, Y              | (n_x, m), (n_y, m)   | examples are columns; the batch axis is last  |
| W[l], b[l]               | Layer.W, Layer.b  | (n, n_prev), (n, 1)  | b is a column                                 |
| Z[l] = W[l] A[l-1] + b[l]| Z, A, A_prev      | (n, m)               | A[0] = X; the input is not counted in L       |
| A[l] = g[l](Z[l])        | Activation        | elementwise          | chosen per layer                              |
| J = 1/m Σ ℓ(ŷ, y)        | cost              | scalar               | with example weights Σ w ℓ / Σ w              |
| dZ, dW, db, dA           | the same          | as their parent      | dX always means ∂J/∂X exactly                 |

1/m stands once, in the cost's own derivative: dZ[L] here is the notes' over m, and every later line is a pure
vector-Jacobian product. (The notes print g[2]'(z[1]) once; it is g[1]'(z[1]).)

Every function is pure and takes the frozen, hashable `MLP` first: static under `jit`, so that `jax.jit(f,
static_argnums=0)`, `jax.grad` and `jax.vmap` are all one needs. dtypes follow the params and X.

Source: the lecture notes, sections 1 to 4 (forward), 8 and 9 (backward), 10 (initialisation).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float, PRNGKeyArray

from jaxnet import checks as check
from jaxnet import losses
from jaxnet._xla.compile import once
from jaxnet._xla.matmul import PRECISIONS
from jaxnet.activations import ACTIVATIONS, IDENTITY, Activation

SCHEMES = {  # the standard deviation of W's entries, from n and n_prev
    "he": lambda n, n_prev: (2 / n_prev) ** 0.5,  # He et al. 2015, arXiv 1502.01852
    "xavier": lambda n, n_prev: (2 / (n + n_prev)) ** 0.5,  # Glorot and Bengio 2010
    "lecun": lambda n, n_prev: (1 / n_prev) ** 0.5,  # LeCun et al. 1998
    "zeros": lambda n, n_prev: 0.0,  # the notes' counter-example: all hidden units stay equal
}


class Layer(NamedTuple):
    """One layer's parameters, or their gradients: W (n, n_prev) and b (n, 1)."""

    W: Float[Array, "n n_prev"]
    b: Float[Array, "n 1"]


class Activity(NamedTuple):
    """What one layer's units hold for every example: Z (n, m) and A = g(Z)."""

    Z: Float[Array, "n m"]
    A: Float[Array, "n m"]


Params = tuple[Layer, ...]  # Params[l - 1] is layer l
Cache = tuple[Activity, ...]  # Cache[l] is layer l; Cache[0] is the input, where Z = A = X


@dataclass(frozen=True)
class MLP:
    """What is static of a network: widths, activations and loss. Holds no arrays.

    Args:
        sizes: (n_x, n[1], ..., n[L]); one layer (logistic regression) is (n_x, n_y).
        activations: a name of `ACTIVATIONS` per layer, L in all; softmax only as the last.
        loss: "cross_entropy" or "squared_error"; None is cross-entropy after sigmoid or softmax, else squared error.

    Raises:
        ValueError: a width is no positive integer, a name is unknown, or the names do not go together.
    """

    sizes: Sequence[int]
    activations: Sequence[str]
    loss: str | None = None

    def __post_init__(self):
        """Check, and keep lists as tuples and the loss by its name."""
        sizes, activations, loss = check.network(self.sizes, self.activations, self.loss)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "activations", activations)
        object.__setattr__(self, "loss", loss)

    @property
    def g(self) -> tuple[Activation, ...]:
        """The activation functions g[0], ..., g[L]; the input layer's is the identity, A[0] = Z[0] = X."""
        return (IDENTITY, *(ACTIVATIONS[name] for name in self.activations))

    @property
    def loss_of_output(self) -> losses.Loss:
        """ℓ and ∂ℓ/∂Z[L] for this loss and output activation."""
        return losses.loss_of(self.loss, self.activations[-1])


def init(net: MLP, key: PRNGKeyArray | Array, scheme: str | float = "he", dtype: DTypeLike = jnp.float32) -> Params:
    """Return params with W = randn * s and b = 0 (the notes' section 10).

    Args:
        net: the network.
        key: a JAX random key; consumed here.
        scheme: where s comes from: "he" √(2/n_prev), "xavier" √(2/(n + n_prev)), "lecun" √(1/n_prev), "zeros",
            or s itself, a positive float such as the notes' 0.01.
        dtype: the params' floating dtype.

    Raises:
        ValueError: an unknown scheme, a scale that is not positive, or float64 while JAX's 64-bit is off.
        TypeError: key is no single random key, or dtype no floating one.
    """
    check.mlp(net)
    check.key(key)
    scheme = check.init_scheme(scheme, SCHEMES)
    dtype = check.float_dtype("dtype", dtype)
    scale = SCHEMES[scheme] if isinstance(scheme, str) else lambda n, n_prev: scheme
    return tuple(
        _layer((n, n_prev, dtype, scheme == "zeros"), k, scale(n, n_prev))
        for k, n_prev, n in zip(_keys(len(net.sizes) - 1, key), net.sizes[:-1], net.sizes[1:], strict=True)
    )


@partial(jax.jit, static_argnums=0)
def _keys(count, key) -> tuple[PRNGKeyArray, ...]:
    """One key a layer, by one program: an array of keys taken apart would be a second one."""
    return tuple(jax.random.split(key, count))


@once
def _layer(static, key, scale) -> Layer:
    """W = randn * scale, b = 0; jitted by itself, for layers of one shape share a program, whatever their network.

    Zeros are plain: randn * 0 would leave every other entry at -0.0.
    """
    n, n_prev, dtype, zeros = static
    b = jnp.zeros((n, 1), dtype)
    if zeros:
        return Layer(jnp.zeros((n, n_prev), dtype), b)
    return Layer(jax.random.normal(key, (n, n_prev), dtype) * jnp.asarray(scale, dtype), b)


def forward(
    net: MLP, params: Params, X: Float[Array, "n_x m"], precision: str = "float32"
) -> tuple[Float[Array, "n_y m"], Cache]:
    """Return A[L] and what backward needs: Z[l] = W[l] A[l-1] + b[l], A[l] = g[l](Z[l]), from A[0] = X.

    Raises:
        ValueError: params or X do not have the shapes of net.sizes.
        TypeError: X and params differ in dtype, precision is "float64" and theirs is another, or net is no MLP.
    """
    check.inputs(net, params, X)
    product = PRECISIONS[check.precision(precision, params)]
    A = X
    cache = [Activity(X, X)]
    for (W, b), g in zip(params, net.g[1:], strict=True):
        Z = product.forward(W, A) + b
        A = g.apply(Z)
        cache.append(Activity(Z, A))
    return A, tuple(cache)


def backward(
    net: MLP, params: Params, cache: Cache, dZ: Float[Array, "n_y m"], precision: str = "float32"
) -> tuple[Params, Float[Array, "n_x m"]]:
    """Return ∂J/∂params, in params' own tree, and ∂J/∂X, from dZ = ∂J/∂Z[L].

    dW[l] = dZ[l] A[l-1]ᵀ,  db[l] = Σ_i dZ[l],  dA[l-1] = W[l]ᵀ dZ[l],  dZ[l-1] = dA[l-1] * g[l-1]'(Z[l-1]);
    for the input layer g is the identity, so the last dZ is dX.

    Raises:
        ValueError: params, cache or dZ do not have the shapes of net.sizes.
    """
    check.output_derivative(net, params, cache, dZ)
    product = PRECISIONS[check.precision(precision, params)]
    grads = []
    for (W, _), (Z_prev, A_prev), g_prev in reversed(tuple(zip(params, cache[:-1], net.g[:-1], strict=True))):
        dA_prev = product.inputs(W, dZ)
        Z_prev, A_prev = g_prev.recall(Z_prev, A_prev, dA_prev)
        dW, db = product.weights(dZ, A_prev), dZ.sum(axis=1, keepdims=True)
        grads.append(Layer(dW, db))
        dZ = dA_prev * g_prev.derivative(Z_prev, A_prev)
    return tuple(reversed(grads)), dZ


def cost(
    net: MLP,
    params: Params,
    X: Float[Array, "n_x m"],
    Y: Float[Array, "n_y m"],
    weights: Float[Array, " m"] | None = None,
    precision: str = "float32",
) -> Float[Array, ""]:
    """Return J = 1/m Σ_i ℓ(ŷ_i, y_i), or Σ_i w_i ℓ_i / Σ_i w_i with example weights.

    For softmax each column of Y sums to one. Raises as `forward` does, and where Y or weights do not fit X.
    """
    return cost_and_output(net, params, X, Y, weights, precision)[0]


def value_and_grad(
    net: MLP,
    params: Params,
    X: Float[Array, "n_x m"],
    Y: Float[Array, "n_y m"],
    weights: Float[Array, " m"] | None = None,
    precision: str = "float32",
) -> tuple[Float[Array, ""], Params]:
    """Return J and ∂J/∂params by the hand-written backward pass.

    Equals `jax.value_and_grad(cost, argnums=1)` with the same arguments. Raises as `cost` does.
    """
    (J, _), grads = value_output_and_grad(net, params, X, Y, weights, precision)
    return J, grads


@partial(jax.jit, static_argnames=("net", "precision"))
def predict(
    net: MLP, params: Params, X: Float[ArrayLike, "n_x m"], precision: str = "float32"
) -> Float[Array, "n_y m"]:
    """Return A[L], jitted: probabilities after sigmoid or softmax, numbers after the others."""
    return forward(net, params, X, precision)[0]


def cost_and_output(net, params, X, Y, weights=None, precision="float32"):
    """Return (J, A[L]) of one forward pass."""
    A, cache = forward(net, params, X, precision)
    check.targets(net, X, Y, weights)
    example_losses = net.loss_of_output.apply(*cache[-1], Y)
    return losses.share(example_losses, weights).sum(), A


def value_output_and_grad(net, params, X, Y, weights=None, precision="float32"):
    """Return ((J, A[L]), ∂J/∂params): by hand what `jax.value_and_grad(cost_and_output, 1, has_aux=True)` gives."""
    A, cache = forward(net, params, X, precision)
    check.targets(net, X, Y, weights)
    loss = net.loss_of_output
    J = losses.share(loss.apply(*cache[-1], Y), weights).sum()
    dZ = losses.share(loss.derivative(*cache[-1], Y), weights)
    grads, _ = backward(net, params, cache, dZ, precision)
    return (J, A), grads

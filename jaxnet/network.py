"""The two passes of the lecture notes: forward, and backward by hand.

| notes                    | code              | shape                | remark                                        |
|--------------------------|-------------------|----------------------|-----------------------------------------------|
| X, Y                     | X, Y              | (n_x, m), (n_y, m)   | examples are columns; the batch axis is last  |
| W[l], b[l]               | Layer.W, Layer.b  | (n, n_prev), (n, 1)  | b is a column; params[l - 1] is layer l       |
| Z[l] = W[l] A[l-1] + b[l]| Z, A, A_prev      | (n, m)               | A[0] = X; the input is not counted in L       |
| A[l] = g[l](Z[l])        | net.g[l]          | elementwise          | chosen per layer                              |
| J = 1/m Σ ℓ(ŷ, y)        | cost              | scalar               | with example weights Σ w ℓ / Σ w; + penalty   |
| dZ, dW, db, dA           | the same          | as their parent      | dX always means ∂J/∂X exactly                 |

Source: the lecture notes (NOTES.md), sections 1 to 4 (forward), 8 and 9 (backward).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from jaxnet import checks, losses
from jaxnet._xla import buckets, matmul
from jaxnet._xla.remat import remat
from jaxnet.dropout import dropped, masks
from jaxnet.mlp import MLP, Cache, Layer, LayerCache, Params
from jaxnet.values import ArrayLike

Inputs = Shaped[ArrayLike, "n_x m"]  # of any real dtype; computed in that of the params
Outputs = Shaped[ArrayLike, "n_y m"]
Weights = Shaped[ArrayLike, " m"]
Key = PRNGKeyArray | Array | None


def forward(
    net: MLP, params: Params, X: Inputs, precision: str = "float32", key: Key = None
) -> tuple[Float[Array, "n_y m"], Cache]:
    """Return A[L] and the cache. For l = 1..L:  Z[l] = W[l] A[l-1] + b[l],  A[l] = g[l](Z[l]);  A[0] = X.

    X is (n_x, m), one example a column, and A[L] (n_y, m). With a key, units of a net with dropout stay out, and
    D[l] * A[l] goes into the next layer (dropout.py); without one nothing is dropped, as in prediction.

    Raises:
        ValueError: params or X do not have the shapes of net.sizes, or X holds NaN or an infinity (unless it is a JAX
            array, whose values are not read).
        TypeError: X is not of real numbers, or a JAX array of more bits than the params; precision is "float64" and
            the params' dtype another; net is not an MLP; or key is not a JAX random key.

    >>> net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    >>> A, cache = jaxnet.forward(net, jaxnet.init(net, jax.random.key(0)), np.ones((2, 50)))
    >>> A.shape, [layer.Z.shape for layer in cache]
    ((1, 50), [(2, 50), (4, 50), (1, 50)])
    """
    params, X = checks.inputs(net, params, X, precision, key=key)
    dot, D = matmul.policy(precision), masks(net, key, X)
    A, cache = X, [LayerCache(X, X)]
    for l, (W, b) in enumerate(params, start=1):
        Z = dot(W, A) + b
        A = net.g[l](Z)
        cache.append(LayerCache(Z, A, D[l]))
        A = dropped(A, D[l])
    return A, tuple(cache)


def backward(
    net: MLP, params: Params, cache: Cache, dZ: Outputs, precision: str = "float32"
) -> tuple[Params, Float[Array, "n_x m"]]:
    """Return ∂J/∂params and ∂J/∂X from dZ = ∂J/∂Z[L]. For l = L..1 the chain rule, one line a formula.

    dW[l] = dZ[l] A[l-1]ᵀ,  db[l] = Σ_i dZ[l],  dA[l-1] = W[l]ᵀ dZ[l],  dZ[l-1] = dA[l-1] * g[l-1]'(Z[l-1]): pure
    vector-Jacobian products, for 1/m is already in dZ[L]. g[0] is the identity, so the last dZ is dX. What forward
    dropped is dropped again, by the masks D in the cache. (The notes print g[2]'(z[1]) once; it is g[1]'(z[1]).)

    Raises:
        ValueError: params, cache or dZ do not have the shapes of net.sizes.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower(50)
    >>> params = jaxnet.init(net, jax.random.key(0))
    >>> A, cache = jaxnet.forward(net, params, X)
    >>> grads, dX = jaxnet.backward(net, params, cache, (A - Y) / 50)
    >>> grads, dX.shape
    ((Layer(W=float32[4,2], b=float32[4,1]), Layer(W=float32[1,4], b=float32[1,1])), (2, 50))
    """
    params, cache, dZ = checks.output_derivative(net, params, cache, dZ, precision)
    dot, grads = matmul.policy(precision), []
    for l in range(len(params), 0, -1):
        W, (Z_prev, A_prev, D_prev), g_prev = params[l - 1].W, cache[l - 1], net.g[l - 1]
        dA_prev = dropped(dot.tn(W, dZ), D_prev)  # Wᵀ dZ
        Z_prev, A_prev = remat(g_prev, Z_prev, A_prev, dA_prev)  # to store less; the same numbers
        dW = dot.nt(dZ, dropped(A_prev, D_prev), W)  # dZ A_prevᵀ, laid out as W
        db = dZ.sum(axis=1, keepdims=True)
        grads.append(Layer(dW, db))
        dZ = dA_prev * g_prev.derivative(Z_prev, A_prev)
    return tuple(reversed(grads)), dZ


def cost_and_output(
    net: MLP,
    params: Params,
    X: Inputs,
    Y: Outputs,
    weights: Weights | None = None,
    precision: str = "float32",
    key: Key = None,
) -> tuple[Float[Array, ""], Float[Array, "n_y m"]]:
    """Return (J, A[L]) of one forward pass. Raises as `cost` does."""
    A, cache = forward(net, params, X, precision, key)
    Y, weights = checks.targets(net, A, Y, weights)
    Z, loss, w = cache[-1].Z, net.loss_of_output, losses.mean_weights(weights, Y)  # 1/m
    J = (w * loss(Z, A, Y)).sum()
    if net.l2:
        J += losses.penalty(net.l2, checks.params(net, params))
    return J, A


def value_output_and_grad(
    net: MLP,
    params: Params,
    X: Inputs,
    Y: Outputs,
    weights: Weights | None = None,
    precision: str = "float32",
    key: Key = None,
) -> tuple[tuple[Float[Array, ""], Float[Array, "n_y m"]], Params]:
    """Return ((J, A[L]), ∂J/∂params): by hand what `jax.value_and_grad(cost_and_output, 1, has_aux=True)` gives."""
    A, cache = forward(net, params, X, precision, key)
    Y, weights = checks.targets(net, A, Y, weights)
    Z, loss, w = cache[-1].Z, net.loss_of_output, losses.mean_weights(weights, Y)  # 1/m: the only place where m divides
    J = (w * loss(Z, A, Y)).sum()
    dZ = w * loss.derivative(Z, A, Y)  # w (A - Y) after sigmoid and softmax
    grads, _ = backward(net, params, cache, dZ, precision)
    if net.l2:
        params = checks.params(net, params)
        J += losses.penalty(net.l2, params)
        decay = [losses.penalty_derivative(net.l2, W) for W, _ in params]
        grads = tuple(grad._replace(W=grad.W + dW) for grad, dW in zip(grads, decay, strict=True))
    return (J, A), grads


def cost(
    net: MLP,
    params: Params,
    X: Inputs,
    Y: Outputs,
    weights: Weights | None = None,
    precision: str = "float32",
    key: Key = None,
) -> Float[Array, ""]:
    """Return J = 1/m Σ_i ℓ(ŷ_i, y_i), or Σ_i w_i ℓ_i / Σ_i w_i with example weights; + λ/2 Σ_l ‖W[l]‖² with net.l2 = λ.

    X is (n_x, m), Y (n_y, m), weights (m,); for softmax each column of Y sums to one; a key draws what dropout drops.
    Raises as `forward` does, and where Y or weights do not fit X.

    >>> net = jaxnet.MLP((2, 1), ("sigmoid",))
    >>> zeros = jaxnet.init(net, jax.random.key(0), "zeros")
    >>> float(jaxnet.cost(net, zeros, *jaxnet.datasets.flower()))  # ln 2, of a coin
    0.693...
    """
    return cost_and_output(net, params, X, Y, weights, precision, key)[0]


def value_and_grad(
    net: MLP,
    params: Params,
    X: Inputs,
    Y: Outputs,
    weights: Weights | None = None,
    precision: str = "float32",
    key: Key = None,
) -> tuple[Float[Array, ""], Params]:
    """Return J and ∂J/∂params by the hand-written backward pass.

    Equals `jax.value_and_grad(cost, argnums=1)` with the same arguments. Raises as `cost` does.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> J, grads = jaxnet.value_and_grad(net, jaxnet.init(net, jax.random.key(0)), X, Y)
    >>> grads
    (Layer(W=float32[4,2], b=float32[4,1]), Layer(W=float32[1,4], b=float32[1,1]))
    """
    (J, _), grads = value_output_and_grad(net, params, X, Y, weights, precision, key)
    return J, grads


def predict(net: MLP, params: Params, X: Inputs, precision: str = "float32") -> Float[Array, "n_y m"]:
    """Return A[L], jitted: probabilities after sigmoid or softmax, else numbers. Raises as `forward` does.

    X is (n_x, m) and A[L] (n_y, m), one example a column. An X of the host is padded to one of few widths, so that
    requests of any size share few programs: nine up to 256 examples, and eight more for each doubling, where the
    padding is at most an eighth.

    >>> net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    >>> jaxnet.predict(net, jaxnet.init(net, jax.random.key(0)), [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]).shape
    (1, 3)
    """
    params, X = checks.inputs_as_read(net, params, X, precision)
    if isinstance(X, np.ndarray) and buckets.on_one_device(params):  # a JAX array stays as it is, split or traced
        m = X.shape[1]
        A = _predict(net, params, jnp.asarray(buckets.padded_columns(X, buckets.bucket(m))), precision)
        return buckets.first_columns(A, m)
    return _predict(net, params, jnp.asarray(X), precision)


@partial(jax.jit, static_argnames=("net", "precision"))
def _predict(net, params, X, precision):
    return forward(net, params, X, precision)[0]

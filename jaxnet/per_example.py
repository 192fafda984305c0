"""What each example contributes: its gradient, the gradient's norm without forming it, and clipped sums.

(Of the losses alone, with every unit: the penalty of `MLP(l2=)` is no example's; its gradient, λ W, is added to a mean
of these. Dropout belongs to a training step.)

For a dense layer the gradient of example i is an outer product, dW_i = dz_i a_iᵀ and db_i = dz_i, so that

    ‖dW_i‖² + ‖db_i‖² = ‖dz_i‖² (‖a_i‖² + 1)        Σ_i c_i dW_i = (c * dZ) A_prevᵀ

Norms cost no product that the batch gradient does not have, and a clipped sum is the ordinary product with the
columns of dZ scaled. Nothing of size m x n x n_prev is ever held, except by `per_example_grads`, which returns it.

Legend: ℓ_i is the loss of example i, without 1/m; dZ (n, m) holds ∂ℓ_i/∂z of each example in its column.

Source: I. Goodfellow, Efficient Per-Example Gradient Computations, arXiv 1510.01799; Z. Bu et al., Differentially
Private Optimization on Large Model at Small Cost, ICML 2023; M. Abadi et al., Deep Learning with Differential
Privacy, arXiv 1607.00133 (the clipped, noisy sum).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from jaxnet import checks
from jaxnet._arguments import positive
from jaxnet._xla import matmul
from jaxnet._xla.normal import normal_like
from jaxnet._xla.reductions import at_least_float32
from jaxnet.mlp import MLP, Layer, Params
from jaxnet.network import Inputs, Outputs, Weights, forward, value_and_grad


def one_example_grads(
    net: MLP, params: Params, x: Float[Array, " n_x"], y: Float[Array, " n_y"], precision: str = "float32"
) -> Params:
    """Return ∂ℓ/∂params of one example, in params' own tree."""
    without_penalty = dataclasses.replace(net, l2=0.0)
    return value_and_grad(without_penalty, params, x[:, None], y[:, None], precision=precision)[1]


def per_example_grads(net: MLP, params: Params, X: Inputs, Y: Outputs, precision: str = "float32") -> Params:
    """Return ∂ℓ_i/∂params of every example: `one_example_grads` lifted, each leaf with a leading axis of m.

    X is (n_x, m) and Y (n_y, m). Their mean is the gradient of the cost. Raises as `cost` does.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower(50)
    >>> jaxnet.per_example_grads(net, jaxnet.init(net, jax.random.key(0)), X, Y)[0]
    Layer(W=float32[50,4,2], b=float32[50,4,1])

    Their mean is the gradient of the cost without penalty. Raises as `cost` does.
    """
    params, X = checks.inputs(net, params, X, precision)
    Y, _ = checks.targets(net, X, Y, None)
    return jax.vmap(one_example_grads, in_axes=(None, None, 1, 1, None))(net, params, X, Y, precision)


def per_example_norms(
    net: MLP, params: Params, X: Inputs, Y: Outputs, precision: str = "float32"
) -> Float[Array, " m"]:
    """Return the norm of each example's gradient over all params, √Σ_l ‖dz[l]_i‖² (‖a[l-1]_i‖² + 1), forming none.

    X is (n_x, m) and Y (n_y, m). Raises as `cost` does.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower(50)
    >>> jaxnet.per_example_norms(net, jaxnet.init(net, jax.random.key(0)), X, Y).shape
    (50,)
    """
    params, X = checks.inputs(net, params, X, precision)
    return _norms(_deltas(net, params, X, Y, precision))[0].astype(X.dtype)


def clipped_grads(
    net: MLP,
    params: Params,
    X: Inputs,
    Y: Outputs,
    max_norm: Real[ArrayLike, ""],
    key: PRNGKeyArray | Array | None = None,
    noise_multiplier: Real[ArrayLike, ""] = 0.0,
    precision: str = "float32",
    weights: Weights | None = None,
) -> Params:
    """Return the DP-SGD sum Σ_i min(1, max_norm / ‖g_i‖) g_i + max_norm noise_multiplier N(0, 1), in params' own tree.

    It is a sum: divide by m (or by the expected batch size) for a step of gradient descent. Where Poisson sampling
    drew nobody, m = 0, it is the noise alone.

    Args:
        net: the network.
        params: its params.
        X: (n_x, m); m may be 0.
        Y: (n_y, m).
        max_norm: the clipping norm C, above 0; its value is checked unless it is traced.
        key: a JAX random key for the noise; needed where noise_multiplier is not 0.
        noise_multiplier: σ, the noise's standard deviation in units of max_norm; where it is traced, a key is needed.
        precision: a name of the table in _xla/matmul.py.
        weights: (m,), what each clipped gradient counts: 1 an example, 0 padding; above 1, max_norm bounds no longer
            what one example adds.

    Raises:
        ValueError, TypeError: max_norm is not positive, or there is noise without a key; otherwise as `cost` does.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower(50)
    >>> init_key, noise_key = jax.random.split(jax.random.key(0))
    >>> jaxnet.clipped_grads(net, jaxnet.init(net, init_key), X, Y, 1.0, noise_key, noise_multiplier=0.5)[0]
    Layer(W=float32[4,2], b=float32[4,1])
    """
    max_norm = positive("max_norm", max_norm)
    noisy = isinstance(noise_multiplier, Tracer) or not np.array_equal(noise_multiplier, 0)
    if noisy:
        noise_multiplier = positive("noise_multiplier", noise_multiplier, ", or 0 for no noise")
        if key is None:
            raise ValueError(f"noise_multiplier is {noise_multiplier} but key is None; give a JAX random key")
        checks.random_key(key)
    params, X = checks.inputs(net, params, X, precision, empty=True)
    Y, weights = checks.targets(net, X, Y, weights)
    dot = matmul.policy(precision)
    most = _representable(max_norm, np.promote_types(X.dtype, np.float32))
    if X.shape[1] == 0:
        nothing = jax.tree.map(jnp.zeros_like, params)
        return nothing if not noisy else _noisy(nothing, key, most * jnp.asarray(noise_multiplier, most.dtype))
    layers = tuple(_deltas(net, params, X, Y, precision))
    clip = most / jnp.maximum(_norms(layers), most)
    if weights is not None:
        clip *= weights.astype(clip.dtype)[None]
    clipped = (((at_least_float32(dZ) * clip).astype(dZ.dtype), A_prev) for dZ, A_prev in layers)
    grads = tuple(
        Layer(dot.nt(dZ, A_prev, W), dZ.sum(axis=1, keepdims=True))
        for (W, _), (dZ, A_prev) in zip(reversed(params), clipped, strict=True)
    )[::-1]
    return grads if not noisy else _noisy(grads, key, most * jnp.asarray(noise_multiplier, most.dtype))


def _deltas(net, params, X, Y, precision) -> Iterator[tuple[Array, Array]]:
    """dZ[l] of unreduced losses beside A[l-1], from the last layer to the first: backward without its products."""
    _, cache = forward(net, params, X, precision)
    Y, _ = checks.targets(net, cache[0].A, Y, None)
    dot = matmul.policy(precision)
    dZ = net.loss_of_output.derivative(cache[-1].Z, cache[-1].A, Y)
    yield dZ, cache[-2].A
    for l in range(len(params) - 1, 0, -1):
        dA = dot.tn(params[l].W, dZ)
        dZ = dA * net.g[l].derivative(cache[l].Z, cache[l].A)
        yield dZ, cache[l - 1].A


def _norms(layers):
    """A row (1, m): √Σ_l ‖dz[l]_i‖² (‖a[l-1]_i‖² + 1)."""
    return _column_norms(jnp.concatenate([_column_norms(dZ) * jnp.hypot(_column_norms(A), 1.0) for dZ, A in layers]))


def _column_norms(columns):
    """The norms of the columns, as a row: of parts of the largest entry, whose squares do not overflow."""
    columns = at_least_float32(columns)
    largest = jnp.abs(columns).max(axis=0, keepdims=True)
    parts = (columns / 16) / jnp.where(largest > 0, largest / 16, 1)  # XLA takes inverses, and that of 1e38 is 0
    return largest * jnp.sqrt((parts * parts).sum(axis=0, keepdims=True))


def _representable(number, dtype):
    """The number in this dtype, neither 0 nor infinite there."""
    least, most = float(jnp.finfo(dtype).tiny), float(jnp.finfo(dtype).max)
    if isinstance(number, float):
        return np.clip(number, least, most).astype(dtype)
    return jnp.clip(number.astype(dtype), least, most)


def _noisy(grads, key, std):
    add = lambda total, number: total + std.astype(total.dtype) * number
    return jax.tree.map(add, grads, normal_like(key, grads))

"""A network as one differentiable function inside other people's programs: `apply(net)` is (params, X) -> A[L].

Reverse mode is our own `backward`; forward mode, and whatever is of higher order, is autodiff's of `forward`.

JAX has no rule that takes both: a `custom_vjp` refuses forward mode, and of a `custom_jvp` JAX transposes the tangent
map t -> J t by itself. Of a linear solve it asks for the transpose, so J t is given to it as one. For tangents t of
params and X, and y of A[L], the block matrix and its inverse are known in closed form, and so are their transposes:

    [  1  0 ] [ t ]   [ t ]                    y = J t            reversed:  dparams, dX = Jᵀ dA  by `backward`
    [ -J  1 ] [ y ] = [ 0 ]

Nothing is solved: `jax.lax.custom_linear_solve` runs the solution that it is given, and of the matrix, in plain JAX, it
takes derivatives of higher order. It knows vmap, jit and both modes, over and under each other.

Legend: J is the Jacobian of A[L] (n_y, m) with respect to (params, X); dA = ∂cost/∂A[L], dZ = ∂cost/∂Z[L].
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet import checks
from jaxnet.mlp import MLP, LayerCache
from jaxnet.network import backward, forward


def apply(net: MLP, precision: str = "float32") -> Callable[..., Float[Array, "n_y m"]]:
    """Return the pure function (params, X) -> A[L] of a network, whose gradient is the hand-written backward pass.

    It stands in any program of JAX: inside a larger loss under `jax.grad`, `vmap` and `jit`, in a module of Equinox or
    Flax. Equal networks have the same function, so that what was compiled for it is found again. Nothing is dropped by
    dropout, as in prediction.

    Raises:
        ValueError: precision is unknown; of the function: as `forward` does.
        TypeError: net is not an MLP; of the function: as `forward` does.

    >>> net = jaxnet.MLP((2, 1), ("identity",))
    >>> params, X = jaxnet.init(net, jax.random.key(0)), jnp.ones((2, 3))
    >>> jax.grad(lambda params: jaxnet.apply(net)(params, X).sum())(params)[0].b.tolist()
    [[3.0]]
    """
    checks.mlp(net)
    checks.policy(precision)
    return _applied(net, precision)


@lru_cache(maxsize=256)
def _applied(net: MLP, precision: str) -> Callable[..., Float[Array, "n_y m"]]:
    def output(params: Any, X: Any) -> Array:
        """A[L], with a gradient by hand."""
        params, X = _varying_alike(checks.inputs(net, params, X, precision))
        return _output(net, precision, params, X)

    return output


def _varying_alike(leaves: Any) -> Any:
    """The leaves, each varying over the mesh axes of any: in a shard_map with params that all devices share.

    The transpose of that is the sum over those axes, which autodiff of `forward` would put there too.
    """
    varying = lambda leaf: jax.typeof(leaf).manual_axis_type.varying
    axes = frozenset().union(*map(varying, jax.tree.leaves(leaves)))

    def cast(leaf):
        missing = tuple(axes - varying(leaf))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, leaves)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _output(net, precision, params, X):
    return forward(net, params, X, precision)[0]


@_output.defjvp
def _output_jvp(net: MLP, precision: str, point: Any, tangents: Any) -> tuple[Array, Array]:
    """A[L] and J t."""
    params, X = point
    A, cache = forward(net, params, X, precision)

    def pushforward(tangents):  # J t, by autodiff
        return jax.jvp(lambda params, X: forward(net, params, X, precision)[0], point, tangents)[1]

    def pullback(dA):  # Jᵀ dA, by hand
        return backward(net, params, cache, output_dZ(net, cache[-1], dA), precision)

    return A, _linear(pushforward, pullback, tangents, jnp.zeros_like(A))


def output_dZ(net: MLP, output: LayerCache, dA: Float[Array, "n_y m"]) -> Float[Array, "n_y m"]:
    """Return dZ[L] = dA * g'(Z[L]), or of softmax, whose units hang together, A (dA - Σ_k A_k dA_k) in each column."""
    Z, A, _ = output
    if net.activations[-1] == "softmax":
        return A * (dA - (A * dA).sum(axis=0, keepdims=True))
    return dA * net.g[-1].derivative(Z, A)


def _linear(pushforward: Callable, pullback: Callable, t: Any, zeros: Array) -> Array:
    """J t, of which JAX takes the pullback for the transpose."""

    def matrix(unknowns):
        t, y = _together(unknowns)
        return _together((t, y - pushforward(t)))

    def solution(_, right_hand_side):
        t, y = right_hand_side
        return t, y + pushforward(t)

    def transpose_solution(_, right_hand_side):
        ct, dA = right_hand_side
        return jax.tree.map(jnp.add, ct, pullback(dA)), dA

    return jax.lax.custom_linear_solve(matrix, _together((t, zeros)), solution, transpose_solution)[1]


def _together(leaves: Any) -> Any:
    """The same leaves, which JAX finds to depend on each other: it transposes a linear solve for all of them or not."""
    total = sum(leaf.sum() for leaf in jax.tree.leaves(leaves))
    return jax.tree.map(lambda leaf: jnp.where(False, total, leaf), leaves)

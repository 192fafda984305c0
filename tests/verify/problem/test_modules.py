"""Equinox and Flax NNX: a hand-written gradient of a module, through the library's own split function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxnet.verify import check_gradients

X, T = jax.random.normal(jax.random.key(0), (9, 5)), jax.random.normal(jax.random.key(1), (9, 3))


def squared_error(P):
    """J = 1/2m Σ (P - T)²."""
    return jnp.sum((P - T) ** 2) / (2 * len(X))


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (1.001, "FAIL")])
def test_an_equinox_module_through_partition(factor, verdict):
    arrays, static = eqx.partition(eqx.nn.Linear(5, 3, key=jax.random.key(2)), eqx.is_inexact_array)

    def loss(arrays, X):
        return squared_error(jax.vmap(eqx.combine(arrays, static))(X))

    def gradient(arrays, X):
        dP = (jax.vmap(eqx.combine(arrays, static))(X) - T) / len(X)
        return eqx.tree_at(lambda m: (m.weight, m.bias), arrays, (factor * dP.T @ X, jnp.sum(dP, axis=0)))

    report = check_gradients(loss, gradient, arrays, X, raise_=False)
    assert report.verdict == verdict, str(report)
    assert [p for p, leaf in report.leaves.items() if leaf.verdict == "FAIL"] == [".weight"] * (factor != 1)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (1.001, "FAIL")])
def test_a_flax_module_through_split(factor, verdict):
    graph, state = nnx.split(nnx.Linear(5, 3, rngs=nnx.Rngs(0)))

    def loss(state, X):
        return squared_error(nnx.merge(graph, state)(X))

    def gradient(state, X):
        dP = (nnx.merge(graph, state)(X) - T) / len(X)
        made = {"kernel": factor * X.T @ dP, "bias": jnp.sum(dP, axis=0)}
        return jax.tree_util.tree_map_with_path(lambda path, _: made[path[0].key], state)

    report = check_gradients(loss, gradient, state, X, raise_=False)
    assert report.verdict == verdict, str(report)
    assert ["kernel" in p for p, leaf in report.leaves.items() if leaf.verdict == "FAIL"] == [True] * (factor != 1)

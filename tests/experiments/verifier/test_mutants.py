"""The catalogue itself: the correct pass is right, every visible mutant is wrong exactly where it says."""

import jax
import jax.numpy as jnp
import pytest

from experiments.verifier.mutants import MUTANTS


def wrong_leaves(gradient, reference):
    """The leaf paths (layer index, name) whose shape or value is off by more than rounding."""
    found = set()
    for index, (layer, reference_layer) in enumerate(zip(gradient, reference, strict=True)):
        for name, g, r in zip("Wb", layer, reference_layer, strict=True):
            right = g.shape == r.shape and bool(jnp.linalg.norm(g - r) <= 1e-9 * jnp.linalg.norm(r))
            if not right:
                found.add((index, name))
    return found


def called(mutant, params, X, Y):
    """The gradient in the way of calling that shows the bug."""
    gradient = mutant.gradient
    if "jit" in mutant.needs:
        gradient = jax.jit(gradient)
    if "second call" in mutant.needs:
        gradient(params, X, Y)
    if "vmap" in mutant.needs:
        lifted = jax.vmap(gradient)(*jax.tree.map(lambda x: jnp.stack([x, x]), (params, X, Y)))
        return jax.tree.map(lambda g: g[1], lifted)
    return gradient(params, X, Y)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_wrong_exactly_where_it_says(name):
    mutant = MUTANTS[name]
    with jax.enable_x64(True):
        params, X, Y = mutant.point(jax.random.key(0), jnp.float64)
        reference = jax.grad(mutant.loss)(params, X, Y)
        assert wrong_leaves(mutant.right(params, X, Y), reference) == set()
        wrong = called(mutant, params, X, Y)
        assert jax.tree.structure(wrong) == jax.tree.structure(params)
        assert wrong_leaves(wrong, reference) == set(mutant.wrong)
        assert mutant.visible == bool(mutant.wrong)


@pytest.mark.parametrize("name", ["wrong_only_under_jit", "wrong_only_under_vmap", "second_call_differs"])
def test_a_conditional_mutant_is_right_when_called_once_and_plainly(name):
    mutant = MUTANTS[name]
    params, X, Y = mutant.point(jax.random.key(0), jnp.float32)
    plain, right = mutant.gradient(params, X, Y), mutant.right(params, X, Y)
    assert jax.tree.all(jax.tree.map(lambda g, r: bool((g == r).all()), plain, right))


def test_every_mutant_runs_in_every_dtype():
    for mutant in MUTANTS.values():
        params, X, Y = mutant.point(jax.random.key(1), jnp.bfloat16)
        shapes = jax.eval_shape(mutant.gradient, params, X, Y)
        assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(shapes))

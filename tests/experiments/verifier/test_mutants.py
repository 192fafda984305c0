"""The catalogue itself: the correct pass is right, every visible mutant is wrong exactly in the leaves it names."""

import functools

import jax
import jax.numpy as jnp
import pytest

from experiments.verifier.mutants import MUTANTS

# Points or losses of their own: each compiles all of its operations anew.
SLOW = (
    "float32_running_sum",
    "dropout_mask_forgotten",
    "leaky_slope_on_wrong_side",
    "padded_examples_contribute",
    "nan_for_saturated_example",
    "sum_loss_mean_gradient",
    "wrong_only_under_vmap",
)


def wrong_leaves(gradient, reference):
    """The leaf paths (layer index, name) whose shape or value is off by more than rounding."""
    found = set()
    for index, (layer, reference_layer) in enumerate(zip(gradient, reference, strict=True)):
        for name, g, r in zip("Wb", layer, reference_layer, strict=True):
            right = g.shape == r.shape and bool(jnp.linalg.norm(g - r) <= 1e-9 * jnp.linalg.norm(r))
            if not right:
                found.add((index, name))
    return found


@functools.cache
def problem(point, loss):
    """A float64 point and autodiff's gradient of the loss there: one for all mutants that share them."""
    params, X, Y = point(jax.random.key(0), jnp.float64)
    return params, X, Y, jax.grad(loss)(params, X, Y)


def wrong_gradient(mutant, params, X, Y):
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


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in MUTANTS])
def test_a_mutant_is_wrong_exactly_where_it_says(name):
    mutant = MUTANTS[name]
    with jax.enable_x64(True):
        params, X, Y, reference = problem(mutant.point, mutant.loss)
        assert wrong_leaves(mutant.right(params, X, Y), reference) == set()
        wrong = wrong_gradient(mutant, params, X, Y)
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
        gradient = mutant.gradient
        point = functools.partial(mutant.point, dtype=jnp.bfloat16)
        shapes = jax.eval_shape(lambda key, g=gradient, p=point: g(*p(key)), jax.random.key(1))
        assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(shapes))

"""The tricky cases themselves: where a plain comparison can tell, their gradients agree with autodiff."""

import jax
import jax.numpy as jnp
import pytest

from experiments.verifier.correct import TRICKY

# At a kink autodiff has its own convention; below the noise, and inside a trace, there is nothing to compare.
INCOMPARABLE = {
    "relu_at_zero_slope_0.5",
    "relu_at_zero_slope_1.0",
    "max_with_ties",
    "absolute_value_at_zero",
    "many_equal_maxima_share_alike",
    "max_pooling_with_ties",
    "relu_at_zero_in_every_layer",
    "caller_under_jit",
    "float32_master_bfloat16_compute",
} | {name for name, case in TRICKY.items() if "INCONCLUSIVE" in case.expected}

# Shapes, dtypes or settings of their own: each compiles all of its operations anew.
SLOW = {
    "caller_under_disable_jit",
    "caller_under_x64",
    "caller_with_debug_nans",
    "float32_under_x64",
    "float16_leaves",
    "bfloat16_leaves",
    "float32_master_bfloat16_compute",
    "deep_net_with_large_weights",
    "relu_at_zero_in_every_layer",
    "sharded_inputs",
    "one_example",
    "frozen_leaf",
    "relu_1e5_units",
    "sum_of_1e6_terms",
    "sum_of_1e6_squares",
    "sigmoid_prime_of_z",
    "max_with_ties",
    "max_pooling_with_ties",
    "saturated_softmax",
    "saturated_sigmoid",
    "dead_relu_layer",
    "many_equal_maxima_share_alike",
    "empty_batch",
}


def marked(names):
    """The names as parameters, slow ones marked."""
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(names)]


def agrees(loss, gradient, params, *args, has_aux=False, trainable=None):
    """Whether every trainable floating leaf is as near to jax.grad's as its precision allows."""
    reference = jax.jit(jax.grad(loss, has_aux=has_aux, allow_int=True))(params, *args)
    reference = reference[0] if has_aux else reference
    manual = dict(jax.tree.flatten_with_path(jax.jit(gradient)(params, *args))[0])
    for path, r in jax.tree.flatten_with_path(reference)[0]:
        if r.dtype == jax.dtypes.float0 or (trainable is not None and not trainable[path[0].key]):
            continue
        g, near = manual[path], 16 * float(jnp.finfo(r.dtype).eps) ** 0.9
        if not jnp.linalg.norm((g - r).astype(float)) <= near * jnp.linalg.norm(r.astype(float)):
            return False
    return True


@pytest.mark.parametrize("name", marked(set(TRICKY) - INCOMPARABLE))
def test_a_tricky_gradient_is_right(name):
    assert TRICKY[name].run(agrees, 0)


@pytest.mark.parametrize("name", marked(INCOMPARABLE))
def test_a_gradient_that_cannot_be_compared_has_its_parameters_shapes(name):
    def same_shapes(loss, gradient, params, *args):
        return jax.tree.map(jnp.shape, gradient(params, *args)) == jax.tree.map(jnp.shape, params)

    assert TRICKY[name].run(same_shapes, 0)


def test_the_slow_cases_are_cases():
    assert set(TRICKY) > SLOW

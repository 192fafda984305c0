"""Entries far below their leaf's largest: a wrong one is refused, a right one that only loses digits is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.verifier.correct import TRICKY
from jaxnet.verify import check_gradients

RNG = np.random.default_rng(0)
UNITS = np.array([[1.0], [1e3], [1e-5], [1.0]], np.float32)  # of the features
W, X, Y = RNG.normal(size=(3, 4)) / UNITS.T, RNG.normal(size=(4, 20)) * UNITS, RNG.normal(size=(3, 20))
W, X, Y = (v.astype(np.float32) for v in (W, X, Y))


def loss(W, X, Y):
    return jnp.mean((jnp.tanh(W @ X) - Y) ** 2)


def gradient(W, X, Y):
    A = jnp.tanh(W @ X)
    return 2 / Y.size * ((A - Y) * (1 - A * A)) @ X.T


def test_a_right_gradient_of_features_in_all_units_passes():
    assert check_gradients(loss, gradient, W, X, Y).passed


@pytest.mark.parametrize("factor", [0.0, 0.9])
def test_a_column_too_small_for_the_norm_of_its_leaf_is_refused(factor):
    report = check_gradients(loss, lambda *a: gradient(*a).at[:, 2].multiply(factor), W, X, Y, raise_=False)
    assert report.leaves[""].relative_error < 1e-6  # the norm shows nothing
    assert report.verdict == "FAIL" and "column 2" in report.cause, str(report)


def test_a_gradient_in_numpy_that_cannot_be_read_again_is_only_warned_of():
    def in_numpy(W, X, Y):
        g = np.array(gradient(W, X, Y))
        g[:, 2] = 0
        return g

    report = check_gradients(loss, in_numpy, W, X, Y, raise_=False)
    assert report.passed and "far below the largest" in report.leaves[""].note


def test_rounding_of_the_formula_as_written_is_no_error():
    """exp(x) - 1 of a small x has two digits in float32, expm1 has them all."""
    x = np.array([1e-6, 1.0, 2.0], np.float32)
    report = check_gradients(lambda c: jnp.sum(c * jnp.expm1(x)), lambda c: jnp.exp(x) - 1, np.ones(3, np.float32))
    assert report.passed and any(w.name == "small entries" for w in report.witnesses), str(report)


def test_a_convention_at_a_kink_is_no_error():
    x = np.array([0.0, 1.0, 2.0], np.float32)
    scale = np.array([1e-8, 1.0, 1.0], np.float32)
    assert check_gradients(lambda x: jnp.sum(jax.nn.relu(x) * scale + 1e-9 * x), lambda x: (x >= 0) * scale + 1e-9, x)


@pytest.mark.parametrize("seed", [1175, 1321, 1330])
def test_a_tie_far_below_the_largest_entry_is_a_kink_and_no_error(seed):
    report = TRICKY["max_pooling_with_ties"].run(check_gradients, seed, raise_=False)
    assert report.verdict != "FAIL", str(report)

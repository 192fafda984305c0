"""A loss that compares floating numbers for equality is not what autodiff differentiates where they are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnet.verify import check_gradients

C = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
X = np.array([1.0, 0.0, -2.0, 3.0], np.float32)


@jax.custom_vjp
def ruled(x):
    return jnp.where(x == 0, 0, 5 * x)


ruled.defvjp(lambda x: (ruled(x), None), lambda _, g: (5 * g,))


def scanned(x):
    return lax.scan(lambda carry, y: (carry, jnp.where(y == 0, 0, 5 * y)), 0.0, x)[1]


FIVES = {
    "where": lambda x: jnp.where(x == 0, 0, 5 * x),
    "not equal": lambda x: jnp.where(x != 0, 5 * x, 0),
    "jit": jax.jit(lambda x: jnp.where(x == 0, 0, 5 * x)),
    "scan": scanned,
    "rule": ruled,
}


@pytest.mark.parametrize("name", FIVES)
def test_autodiffs_own_error_does_not_pass(name):
    """The true derivative is 5 c everywhere; autodiff has 0 where x is 0."""
    loss = lambda x: C @ FIVES[name](x)
    flat_at_zero = lambda x: 5 * C * (x != 0)
    report = check_gradients(loss, flat_at_zero, X, raise_=False)
    assert report.verdict != "PASS" and any("witnesses disagree" in note for note in report.notes), str(report)
    assert check_gradients(loss, lambda x: 5 * C, X, raise_=False).verdict != "FAIL"


@pytest.mark.parametrize("name", FIVES)
def test_where_no_numbers_are_equal_autodiff_is_right(name):
    assert check_gradients(lambda x: C @ FIVES[name](x), lambda x: 5 * C, X + 0.25)


def test_one_zero_among_many_numbers():
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(2, 20_000)).astype(np.float32)
    x[7] = 0
    report = check_gradients(lambda x: c @ jnp.where(x == 0, 0, 5 * x), lambda x: 5 * c * (x != 0), x, raise_=False)
    assert report.verdict != "PASS"


@pytest.mark.parametrize("loss", [lambda x: jnp.sum(jnp.sinc(x)), lambda x: C @ jnp.where(jnp.isnan(x), 0, x)])
def test_equalities_that_do_no_harm(loss):
    assert check_gradients(loss, jax.grad(loss), X)


def test_equalities_of_data_are_no_matter_of_the_parameters():
    y = np.array([1.0, 0.0, 1.0, 0.0], np.float32)
    loss = lambda x: jnp.sum(jnp.where(y == 1, jax.nn.softplus(-x), jax.nn.softplus(x)))
    assert check_gradients(loss, jax.grad(loss), X)


def test_the_derivative_of_a_maximum_is_not_asked_about():
    report = check_gradients(jnp.max, jax.grad(jnp.max), X)
    assert report and not any(s.name.startswith("4") for s in report.witnesses)

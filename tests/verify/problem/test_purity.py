"""A loss that is no function, as it draws or counts, is named: neither a right nor a wrong gradient is judged by it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from jaxnet.verify import check_gradients, check_vjp

RNG = np.random.default_rng(0)
W, X = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 12)))
ONE = jax.ShapeDtypeStruct((), np.float32)


def loss(W, X):
    return jnp.mean(jnp.tanh(W @ X) ** 2)


gradient = jax.jit(jax.grad(loss))


def factor():
    return np.float32(1 + 0.1 * RNG.uniform(1, 2))


COUNT, KEYS = itertools.count(1), [jax.random.key(0)]


def with_a_stored_key(W, X):
    KEYS[0], key = jax.random.split(KEYS[0])
    return loss(W, X * jax.random.bernoulli(key, 0.5, X.shape).astype(X.dtype))


IMPURE = {
    "NumPy's random numbers": lambda W, X: float(np.mean(np.tanh(np.asarray(W) @ X) ** 2)) * float(factor()),
    "a random callback": lambda W, X: loss(W, X) * jax.pure_callback(factor, ONE),
    "a counting callback": lambda W, X: loss(W, X) + jax.pure_callback(lambda: np.float32(next(COUNT)), ONE),
    "a random ordered callback": lambda W, X: loss(W, X) * io_callback(factor, ONE),
    "a factor drawn by Python": lambda W, X: loss(W, X) * factor(),
    "a mask drawn by Python": lambda W, X: loss(W, X * np.float32(RNG.random(X.shape) < 0.5)),
    "a counter in Python": lambda W, X: loss(W, X) + next(COUNT),
}


@pytest.mark.parametrize("how", IMPURE)
def test_a_loss_of_two_values_is_named(how):
    for g in (gradient, lambda *a: 2 * gradient(*a)):
        report = check_gradients(IMPURE[how], g, W, X, raise_=False)
        assert report.verdict == "INCONCLUSIVE" and not report, str(report)
        assert "the loss itself gives two values for the same input: " in report.cause
        assert "gives two values" in " ".join(str(report).split())


def test_a_loss_that_cannot_be_called_twice_is_named():
    KEYS[0] = jax.random.key(0)
    report = check_gradients(with_a_stored_key, gradient, W, X, raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "cannot be called twice" in report.cause, str(report)


def test_a_random_loss_with_a_reference_is_judged_by_that():
    noisy = lambda W, X: loss(W, X) * factor()
    report = check_gradients(noisy, gradient, W, X, reference=loss)
    assert report.passed and any("gives two values" in note for note in report.notes), str(report)


def test_a_random_rule_s_function_is_named():
    @jax.custom_vjp
    def noisy(x):
        return jnp.sin(x) * factor()

    noisy.defvjp(lambda x: (noisy(x), x), lambda x, c: (c * jnp.cos(x),))
    report = check_vjp(noisy, X, raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "gives two values" in report.cause, str(report)


def test_a_key_a_constant_and_a_pure_callback_are_no_chance():
    mask = np.float32(RNG.random(X.shape) < 0.5)

    def dropped(W, X, key):
        kept = jax.random.bernoulli(key, 0.5, X.shape).astype(X.dtype) * mask
        return loss(W, X * kept) * jax.pure_callback(lambda: np.float32(2), ONE)

    right = lambda W, X, key: 2 * gradient(W, X * jax.random.bernoulli(key, 0.5, X.shape).astype(X.dtype) * mask)
    assert check_gradients(dropped, right, W, X, jax.random.key(1))

"""At a kink any value between the one-sided derivatives is right; beyond it, and away from it, nothing is."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients

X = np.array([0.0, 1.0, -1.0, 0.0, 2.0], np.float32)


def at_zero(value):
    return lambda x: jnp.where(x > 0, 1.0, jnp.where(x == 0, value, 0.0)).astype(x.dtype)


LOSSES = {
    "maximum": lambda x: jnp.sum(jnp.maximum(x, 0.0)),
    "where": lambda x: jnp.sum(jnp.where(x > 0, x, 0.0)),
    "clip": lambda x: jnp.sum(jnp.clip(x, 0.0, 9.0)),
    "abs": lambda x: jnp.sum((jnp.abs(x) + x) / 2),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_value_between_is_a_subgradient(loss, value):
    assert check_gradients(LOSSES[loss], at_zero(value), X)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_value_beyond_is_wrong(loss, value):
    assert check_gradients(LOSSES[loss], at_zero(value), X, raise_=False).verdict == "FAIL"


def test_the_convention_is_reported():
    note = check_gradients(LOSSES["maximum"], at_zero(0.0), X).leaves[""].note
    assert "subgradient" in note and "[0, 1]" in note


def test_strict_insists_on_autodiffs_value():
    assert check_gradients(LOSSES["maximum"], at_zero(0.0), X, kinks="strict", raise_=False).verdict == "FAIL"
    assert check_gradients(LOSSES["maximum"], at_zero(0.5), X, kinks="strict")


def test_a_bug_away_from_the_kink_is_not_excused_by_it():
    wrong = lambda x: at_zero(0.0)(x).at[4].set(1.01)  # noqa: E731
    assert check_gradients(LOSSES["maximum"], wrong, X, raise_=False).verdict == "FAIL"


def test_ties_of_a_maximum_may_be_broken_any_way():
    x = np.ones((4,), np.float32)
    for g in ([1, 0, 0, 0], [0.25] * 4, [0, 0.5, 0.5, 0]):
        assert check_gradients(jnp.max, lambda x, g=g: jnp.asarray(g, x.dtype), x)
    assert check_gradients(jnp.max, lambda x: 2 * jnp.ones_like(x), x, raise_=False).verdict != "PASS"


def test_a_norm_at_zero_is_the_witnesss_fault():
    report = check_gradients(jnp.linalg.norm, jnp.zeros_like, np.zeros((3,), np.float32), raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "autodiff" in report.leaves[""].note

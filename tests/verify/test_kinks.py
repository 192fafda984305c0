"""At a kink any value between the one-sided derivatives is right; beyond it, and away from it, nothing is."""

import jax
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


@pytest.mark.parametrize("g", [[0, 0, 0, 0], [1, 1, 0, 0], [0.5, 0.25, 0, 0]])
def test_entries_that_lie_between_may_be_wrong_together(g):
    report = check_gradients(jnp.max, lambda x: jnp.asarray(g, x.dtype), np.ones((4,), np.float32), raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "at once" in report.leaves[""].note


def test_slopes_drawn_for_each_tie_are_a_subgradient():
    """A padded example and no biases: every unit of both layers is at its kink there."""
    rng = np.random.default_rng(0)
    sizes = [(7, 5), (6, 7), (3, 6)]
    W = [rng.normal(size=s).astype(np.float32) for s in sizes]
    b = [np.zeros((s[0], 1), np.float32) for s in sizes]
    X = rng.normal(size=(5, 4)).astype(np.float32) * np.array([1, 1, 1, 0], np.float32)
    slopes = [rng.uniform(size=(s[0], 4)).astype(np.float32) for s in sizes[:2]]

    def forward(params, X, relu):
        (W1, W2, W3), (b1, b2, b3) = params
        return jnp.mean((W3 @ relu(W2 @ relu(W1 @ X + b1, 0) + b2, 1) + b3 - 1) ** 2)

    def sloped(Z, layer):
        return jnp.where(Z == 0, slopes[layer] * Z, jnp.maximum(Z, 0))

    loss = lambda params, X: forward(params, X, lambda Z, layer: jnp.maximum(Z, 0))  # noqa: E731
    grad = lambda params, X: jax.grad(forward)(params, X, sloped)  # noqa: E731
    report = check_gradients(loss, grad, (W, b), X, raise_=False)
    assert report.verdict != "FAIL", str(report)
    assert report.leaves["[1][1]"].verdict == "PASS"  # one tie a unit; below, six of them add up
    wrong = lambda params, X: jax.tree.map(lambda g: g * 1.5, grad(params, X))  # noqa: E731
    assert check_gradients(loss, wrong, (W, b), X, raise_=False).verdict == "FAIL"

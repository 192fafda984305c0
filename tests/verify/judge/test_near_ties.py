"""Beside a kink: a unit that a rounding puts on the other side hides no wrong formula, and fails no right one."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from jaxnet.verify.problem.gradient import Manual, Run
from jaxnet.verify.problem.loss import Problem
from tests.marks import slow_but
from tests.verify.judge.test_terms import FORMULAS, WRONG, at_its_optimum, by_slopes, quantile_loss
from tests.verify.verdicts import verdict


def wide_net_beside_a_kink(hair, seed=0):
    """A net of 70,000 parameters, a unit of which is a hair from its kink for one example; its gradient by relu'(0)."""
    keys = jax.random.split(jax.random.key(seed), 4)
    W1, W2 = jax.random.normal(keys[0], (256, 256)) / 16, jax.random.normal(keys[1], (10, 256)) / 16
    X, labels = jax.random.normal(keys[2], (256, 32)), jax.random.randint(keys[3], (32,), 0, 10)
    Z = np.asarray(W1, np.float64) @ np.asarray(X, np.float64)
    b1 = np.zeros((256, 1), np.float32)
    b1[0] = -Z[0, 0] * (1 - hair)

    def loss(params):
        W1, b1, W2 = params
        Z = W2 @ jnp.maximum(W1 @ X + b1, 0.0)
        return jnp.mean(jax.nn.logsumexp(Z, axis=0) - Z[labels, jnp.arange(32)])

    def gradient(params, at_zero=0.0):
        W1, b1, W2 = params
        Z1 = W1 @ X + b1
        A1 = jnp.maximum(Z1, 0.0)
        dZ2 = (jax.nn.softmax(W2 @ A1, axis=0) - jax.nn.one_hot(labels, 10, axis=0)) / 32
        dZ1 = W2.T @ dZ2 * jnp.where(Z1 == 0, at_zero, Z1 > 0)
        return (dZ1 @ X.T, dZ1.sum(axis=1, keepdims=True), dZ2 @ A1.T)

    return loss, gradient, (W1, jnp.asarray(b1), W2)


@pytest.mark.slow  # the formula of an error of 1.001 is found in as few
def test_an_error_that_dwarfs_what_ties_do_is_found_in_a_few_gradients(monkeypatch):
    loss, gradient, params = wide_net_beside_a_kink(hair=4e-7, seed=1)  # of these the first look shows the kink
    taken, double = [], Problem.double
    monkeypatch.setattr(Problem, "double", lambda self, *at: taken.append(1) or double(self, *at))
    wrong = lambda p: tuple(g * 1.5 if i == 0 else g for i, g in enumerate(gradient(p)))
    report = check_gradients(loss, wrong, params, raise_=False)
    assert [x.verdict for x in report.leaves.values()] == ["FAIL", "PASS", "PASS"]
    assert len(taken) <= 12  # all that could be drawn were 70


@pytest.mark.slow
@pytest.mark.parametrize("value", slow_but([0.5], [0.0, 0.5, 1.0]))
def test_a_convention_of_a_large_net_is_in_reach(value):
    """One dead layer: every unit is at its kink for every example."""
    loss, gradient, (W1, b1, W2) = wide_net_beside_a_kink(hair=0.0)
    dead = (0 * W1, 0 * b1, W2)
    assert check_gradients(loss, lambda p: gradient(p, value), dead, raise_=False).verdict != "FAIL"


def scaled(leaf, grads, factor=1.001):
    return tuple(factor * g if k == leaf else g for k, g in enumerate(grads))


@pytest.mark.slow
@pytest.mark.parametrize("seed", slow_but([0], range(6)))
def test_a_step_over_a_near_tie_does_not_hide_a_wrong_formula(seed):
    """One of 32 examples is a rounding away from a unit's kink: where rounding falls is noise, 1.001 is not."""
    loss, gradient, params = wide_net_beside_a_kink(hair=0.0, seed=seed)
    assert verdict(loss, gradient, params) == "PASS"
    assert verdict(loss, lambda p: gradient(p, 1.0), params) == "PASS"
    for leaf in range(3):
        assert verdict(loss, lambda p, leaf=leaf: scaled(leaf, gradient(p)), params) == "FAIL"


@pytest.mark.slow
def test_a_formula_that_is_wrong_beside_the_kink_too_is_found_in_a_few_gradients(monkeypatch):
    loss, gradient, params = wide_net_beside_a_kink(hair=4e-7, seed=1)
    taken, double = [], Problem.double
    monkeypatch.setattr(Problem, "double", lambda self, *at: taken.append(1) or double(self, *at))
    report = check_gradients(loss, lambda p: scaled(0, gradient(p)), params, raise_=False)
    assert [x.verdict for x in report.leaves.values()] == ["FAIL", "PASS", "PASS"]
    assert "a factor 1.001" in report.cause and len(taken) <= 12


def test_a_right_formula_beside_a_kink_is_known_by_one_gradient(monkeypatch):
    loss, gradient, params = wide_net_beside_a_kink(hair=0.0, seed=4)
    taken, double = [], Problem.double
    monkeypatch.setattr(Problem, "double", lambda self, *at: taken.append(1) or double(self, *at))
    report = check_gradients(loss, gradient, params)
    assert max(leaf.relative_error for leaf in report.leaves.values()) > 1e-3  # the step over it, which is noise
    assert len(taken) == 1


def test_a_constant_rounded_otherwise_may_fall_to_the_other_side():
    """(1/3) x and x / 3 differ by a rounding; at equal entries a maximum takes one or the other, in float64 as well."""
    third, w = np.float32(1 / 3), np.random.default_rng(0).normal(size=40).astype(np.float32)
    x = np.random.default_rng(1).uniform(1, 2, size=(2, 40)).astype(np.float32)
    x[1] = np.float32(x[0] / 3)
    loss = lambda x: jnp.sum(w * jnp.maximum(x[0] / 3, x[1]))
    right = lambda x: w * jnp.where(x[0] * third > x[1], jnp.array([[1 / 3], [0]]), jnp.array([[0], [1]]))
    assert verdict(loss, right, x) != "FAIL"


def test_compiled_it_may_fall_to_the_other_side(monkeypatch):
    """Compiled, sums are taken in another order: here as if the bias were a few roundings less."""
    loss, gradient, (W1, b1, W2) = wide_net_beside_a_kink(hair=5e-7)
    with jax.numpy_dtype_promotion("standard"):
        here, there = gradient((W1, b1, W2)), gradient((W1, b1 - 1e-6 * jnp.abs(b1), W2))
    assert np.abs(there[0] - here[0])[0].max() > 1e3 * np.abs(there[0] - here[0])[1:].max()
    compiled = lambda leaves: lambda self: Run("jit", tuple(map(np.asarray, leaves)))
    monkeypatch.setattr(Manual, "jitted", compiled(there))
    assert verdict(loss, gradient, (W1, b1, W2)) == "PASS"
    monkeypatch.setattr(Manual, "jitted", compiled(scaled(2, there, 1.5)))
    assert verdict(loss, gradient, (W1, b1, W2)) == "FAIL"
    monkeypatch.undo()
    traced = lambda p: scaled(0, gradient(p), 1.001 if isinstance(p[0], jax.core.Tracer) else 1.0)
    assert verdict(loss, traced, (W1, b1, W2)) == "FAIL"


@pytest.mark.parametrize("seed", slow_but([1], range(8)))
def test_a_near_tie_refuses_no_right_formula(seed):
    """Near the optimum rounding alone may move a leaf by all of itself, where one example is at its kink."""
    rng = np.random.default_rng(seed)
    X, W, b = rng.normal(size=(10, 3)).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32), np.zeros(2)
    b[0] = -(np.float64(X[0]) @ np.float64(W[:, 0]))
    b = b.astype(np.float32)
    Y = (np.maximum(X @ W + b, 0) + 1e-3 * rng.normal(size=(10, 2))).astype(np.float32)

    def loss(p):
        return jnp.mean(jnp.sum((jax.nn.relu(X @ p[0] + p[1]) - Y) ** 2, axis=1))

    def gradient(p):
        z = X @ p[0] + p[1]
        d = jnp.float32(0.2) * (jax.nn.relu(z) - Y) * (z > 0).astype(z.dtype)
        return X.T @ d, d.sum(axis=0)

    assert verdict(loss, gradient, (W, b)) != "FAIL"
    assert verdict(loss, lambda p: scaled(0, gradient(p), 1.5), (W, b)) != "PASS"


def with_rounded_ties(seed):
    """z = w x + b of two units at 40 examples, y their sum's target: z is 0 by rounding in one of the first unit.

    Of the second, whose feature is padding, it is 0 in all of them.
    """
    rng = np.random.default_rng(seed)
    x, w, b = (rng.normal(size=size).astype(np.float32) for size in ((40, 2), 2, 2))
    y = rng.normal(size=40).astype(np.float32)
    b[0], b[1], x[:, 1] = -(x[0, 0] * w[0]), 0, 0

    def loss(p):
        return jnp.mean((jnp.sum(jnp.maximum(p[0] * x + p[1], 0), axis=1) - y) ** 2)

    def by(z):
        d = jnp.float32(2 / 40) * (jnp.sum(jnp.maximum(z, 0), axis=1) - y)
        dz = d[:, None] * (z > 0).astype(z.dtype)
        return (dz * x).sum(axis=0), dz.sum(axis=0)

    fused = np.float32(np.float64(w) * x + b)  # with one rounding, as where a product and a sum are one operation
    return loss, lambda p: by(p[0] * x + p[1]), by(fused), (w, b)


@pytest.mark.parametrize("seed", slow_but([0], [0, 1, 4, 5, 8, 9, 88]))
def test_compiled_it_may_step_where_another_convention_holds_too(seed):
    """z = 0 by rounding in one example, and compiled it is not; a padded feature puts all others at exact ties."""
    loss, gradient, _, params = with_rounded_ties(seed)
    assert verdict(loss, gradient, params) != "FAIL"


@pytest.mark.parametrize("seed", slow_but([2], [2, 5, 8, 13, 26, 43, 92]))
def test_a_step_that_the_compiled_gradient_alone_takes_is_no_fault_of_it(monkeypatch, seed):
    """No rounding of the inputs that was drawn takes it, so it is not within the noise."""
    loss, gradient, fused, params = with_rounded_ties(seed)
    compiled = lambda leaves: lambda self: Run("jit", tuple(map(np.asarray, leaves)))
    monkeypatch.setattr(Manual, "jitted", compiled(fused))
    assert verdict(loss, gradient, params, whole=False) == "PASS"
    far = [x + 4 * (y - x) for x, y in zip(gradient(params), fused, strict=True)]  # four times the step
    monkeypatch.setattr(Manual, "jitted", compiled(far))
    assert verdict(loss, gradient, params, whole=False) == "FAIL"


def on_a_grid(seed, m, q):
    """Data of a linear model, its bias at the quantile q of the residuals; all are multiples of 1/64 or 1/4096.

    Sums of them are exact in whatever order, so that one residual is 0 on every processor.
    """
    rng = np.random.default_rng(seed)
    grid = lambda *shape: np.float32(np.round(64 * rng.normal(size=shape)) / 64)
    x, w = grid(m, 3), grid(3)
    y = x @ w + grid(m)
    return {"w": w, "b": np.quantile(y - x @ w, q, method="nearest")}, x, y


@pytest.mark.parametrize(("seed", "q"), slow_but([(3, 0.9)], product([3, 7], [0.9, 0.3])))
def test_a_convention_at_the_only_tie_passes_though_its_leaf_is_below_the_noise(seed, q):
    """At the optimum db is nothing but the tie's own step, and the noise is that step; sign(0) takes half of it."""
    p, x, y = on_a_grid(seed, 400, q)
    assert verdict(quantile_loss(q), by_slopes(FORMULAS["signed"](q)), p, x, y) == "PASS"


@pytest.mark.parametrize(("seed", "name"), slow_but([(5, "a factor")], [(5, "a factor"), (6, "a sign")]))
def test_a_wrong_formula_fails_where_its_leaf_is_below_the_noise_of_a_tie(seed, name):
    p, x, y = at_its_optimum(seed, 400, 0.9)
    assert verdict(quantile_loss(0.9), by_slopes(WRONG[name](0.9)), p, x, y) == "FAIL"

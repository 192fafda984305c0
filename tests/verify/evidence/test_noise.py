"""The tolerance follows the problem: no absolute floor, no dtype table, and nothing green that was not seen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from jaxnet.verify.evidence.noise import Noise, noise_of, resolution, score, ulps
from jaxnet.verify.problem.formula import Formula, Rounding
from jaxnet.verify.sizes import largest, norm, ratio
from tests.marks import slow_but

X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def test_the_three_terms_and_the_score():
    r, a = np.array([3.0, 4.0]), np.array([3.0, 4.1])
    noise = noise_of(r, a, [(0.3, 0.2)], 2.0**-24)
    assert noise.norm == 0.3 and noise.entry == 0.2
    assert score(r + np.array([0.6, 0.0]), r, noise) == pytest.approx(3.0)
    assert resolution(r, noise) == pytest.approx(16 * 0.3 / 5)


def test_zero_over_zero_is_agreement_and_anything_over_zero_is_not():
    assert ratio(0.0, 0.0) == 0.0
    assert ratio(1e-30, 0.0) == np.inf
    assert ratio(np.nan, 1.0) == np.inf


def test_norms_neither_overflow_nor_vanish():
    assert norm(np.full(4, 1e300)) == pytest.approx(2e300)
    assert norm(np.full(4, 1e-300)) == pytest.approx(2e-300)
    assert norm(np.zeros(0)) == 0.0
    assert norm(np.array([1e-60, 3e-120])) == pytest.approx(1e-60)
    assert np.isnan(norm(np.array([1.0, np.nan]))) and norm(np.array([1.0, -np.inf])) == np.inf
    assert np.isnan(largest(np.array([1.0, np.nan])))


def test_ulps_count_units_in_the_last_place():
    r = np.array([1.0, 1.5, 3.0])
    g = r + np.array([1, 0, 4]) * 2.0**-23
    assert ulps(g, r, np.float32) == pytest.approx((1.0, 2.0, 2.0), rel=0.05)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("wrong", [1.0, 1.001])
def test_the_verdict_does_not_depend_on_the_losss_scale(scale, wrong):
    report = check_gradients(
        lambda x: scale * jnp.sum(jnp.sin(x)), lambda x: wrong * scale * jnp.cos(x), X, raise_=False
    )
    assert report.verdict == ("PASS" if wrong == 1.0 else "FAIL"), str(report)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_correct_gradients_of_every_width_score_low(dtype):
    report = check_gradients(
        lambda x: jnp.mean(jnp.tanh(x) ** 2),
        lambda x: 2 * jnp.tanh(x) * (1 - jnp.tanh(x) ** 2) / x.size,
        jnp.asarray(X, dtype),
    )
    assert report.leaves[""].score < 8


def test_an_error_just_above_the_resolution_fails_and_one_well_below_passes():
    report = check_gradients(lambda x: jnp.sum(jnp.sin(x)), jnp.cos, X)
    limit = report.leaves[""].resolution
    for factor, verdict in ((4.0, "FAIL"), (0.1, "PASS")):
        slip = np.float32(1 + factor * limit)
        again = check_gradients(lambda x: jnp.sum(jnp.sin(x)), lambda x, s=slip: jnp.cos(x) * s, X, raise_=False)
        assert again.verdict == verdict


def test_a_leaf_below_the_noise_is_inconclusive_even_if_the_gradient_is_zero():
    x = np.full((3,), 30.0, np.float32)
    for g in (jnp.zeros_like, lambda x: jax.nn.sigmoid(x) * (1 - jax.nn.sigmoid(x))):
        report = check_gradients(lambda x: jnp.sum(jax.nn.sigmoid(x)), g, x, raise_=False)
        assert report.verdict == "INCONCLUSIVE" and not report
        assert report.leaves[""].note


def test_a_leaf_the_loss_does_not_use_is_proved_zero():
    params = {"x": X, "spare": X}
    loss = lambda p: jnp.sum(jnp.sin(p["x"]))
    assert check_gradients(loss, lambda p: {"x": jnp.cos(p["x"]), "spare": 0 * p["spare"]}, params)
    report = check_gradients(
        loss, lambda p: {"x": jnp.cos(p["x"]), "spare": 1e-30 + 0 * p["spare"]}, params, raise_=False
    )
    assert report.leaves["['spare']"].verdict == "FAIL"


def test_a_formula_that_cancels_is_excused_and_named():
    z = np.linspace(-9, 9, 6).astype(np.float32)
    y = (z > 0).astype(np.float32)

    def stable(z, y):
        return jnp.sum(jnp.log1p(jnp.exp(-jnp.abs(z))) + jnp.maximum(z, 0) - y * z)

    hard = check_gradients(stable, lambda z, y: jnp.exp(z) / (1 + jnp.exp(z)) - y, z, y, raise_=False)
    assert hard.verdict != "FAIL", str(hard)
    wrong = check_gradients(stable, lambda z, y: 1.001 * (jnp.exp(z) / (1 + jnp.exp(z)) - y), z, y, raise_=False)
    assert wrong.verdict == "FAIL"


def normalised_pairs(W, X):
    """x̂ = (z - mean)/σ of pairs z = W X, and 1/σ: x̂ is nearly ±1, and what reaches z nearly cancels."""
    Z = (X @ W).reshape(len(X), -1, 2)
    inverse = 1 / jnp.sqrt(jnp.var(Z, 2, keepdims=True) + 1e-5)
    return (Z - jnp.mean(Z, 2, keepdims=True)) * inverse, inverse


def through_pairs(W, X, Y):
    return jnp.mean((jnp.tanh(normalised_pairs(W, X)[0]).reshape(Y.shape) - Y) ** 2)


def backward_through_pairs(W, X, Y, factor=1.0):
    x, inverse = normalised_pairs(W, X)
    dx = 2 * (jnp.tanh(x) - Y.reshape(x.shape)) / Y.size * (1 - jnp.tanh(x) ** 2)
    dZ = inverse * (dx - jnp.mean(dx, 2, keepdims=True) - factor * x * jnp.mean(dx * x, 2, keepdims=True))
    return X.T @ dZ.reshape(Y.shape)


@pytest.mark.slow
@pytest.mark.parametrize("seed", slow_but([0], [0, 2, 3, 6]))
def test_a_formula_that_cancels_in_float64_is_excused_by_its_own_rounding(seed):
    """Nothing more exact than float64 tells that it is right; what it loses grows as the unit of rounding does."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        inputs = rng.normal(size=(3, 4)), rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
        true = jax.grad(through_pairs)(*inputs)
        assert norm(backward_through_pairs(*inputs) - true) < 1e-11 * norm(true)
        report = check_gradients(through_pairs, backward_through_pairs, *inputs, raise_=False)
        assert report.verdict == "PASS" and report.leaves[""].resolution < 1e-9, str(report)
        slip = partial(backward_through_pairs, factor=1 + 1e-8)
        error = norm(slip(*inputs) - true) / norm(true)
        assert error > report.leaves[""].resolution
        assert check_gradients(through_pairs, slip, *inputs, raise_=False).verdict == "FAIL"


def over_devices(gradient):
    mesh, whole = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,)), jax.P()
    return jax.shard_map(gradient, mesh=mesh, in_specs=whole, out_specs=whole)


def with_a_rule(gradient):
    ruled = jax.custom_jvp(gradient)
    ruled.defjvps(lambda t, out, x: t)
    return ruled


@pytest.mark.parametrize("apart", [jax.checkpoint, over_devices, with_a_rule])
def test_a_formula_that_is_traced_by_itself_can_be_rounded_too(apart):
    with jax.enable_x64(True):
        x = X.astype(np.float64)
        for factor, verdict in ((1.0, "PASS"), (1.01, "FAIL")):
            gradient = apart(lambda x, c=factor: c * (2 * x - jnp.sin(x)))
            report = check_gradients(lambda x: jnp.sum(x**2 + jnp.cos(x)), gradient, x, raise_=False)
            assert report.verdict == verdict, str(report)


def test_an_error_that_no_rounding_makes_in_float64_is_not_asked_about_it(monkeypatch):
    asked = []
    monkeypatch.setattr(Formula, "noise", lambda self: asked.append(self) or Rounding(((np.inf, np.inf),)))
    with jax.enable_x64(True):
        loss, x = lambda x: jnp.sum(jnp.sin(x)), np.linspace(-1.0, 1.0, 9)
        for factor, times in ((1.001, 0), (1 + 1e-12, 1)):
            check_gradients(loss, lambda x, c=factor: c * jnp.cos(x), x, raise_=False)
            assert len(asked) == times


def test_a_step_over_a_kink_in_float64_is_no_rounding():
    """relu at 0 turns with every rounding of its input, and hides no factor of 1.001."""
    with jax.enable_x64(True):
        x = np.linspace(-1.0, 1.0, 9)
        loss = lambda x: jnp.sum(jax.nn.relu(x * 3.0) * jnp.arange(9.0))
        for factor, verdict in ((1.0, "PASS"), (1.001, "FAIL")):
            manual = lambda x, c=factor: c * jnp.where(x * 3.0 > 0, 3.0, 0.0) * jnp.arange(9.0)
            assert check_gradients(loss, manual, x, raise_=False).verdict == verdict


def test_widening_keeps_the_terms():
    assert Noise(1.0, 1.0, (1.0,)).widened(2.0, 0.5) == Noise(2.0, 1.0, (1.0, 2.0))


@pytest.mark.slow
def test_labels_in_floating_point_are_not_shaken_into_others():
    W = jax.random.normal(jax.random.key(0), (3, 5))
    X, labels = jax.random.normal(jax.random.key(1), (5, 8)), jnp.arange(8.0) % 3

    def loss(W, X, labels):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(W @ X, 0), labels.astype(int)[None], 0))

    def gradient(W, X, labels):
        return (jax.nn.softmax(W @ X, 0) - (jnp.arange(3.0)[:, None] == labels)) @ X.T / 8

    assert check_gradients(loss, gradient, W, X, labels).passed
    inside = check_gradients(jax.jit(loss), gradient, W, X, labels)
    assert inside.passed and inside.leaves[""].resolution < 1e-4
    closed_over = check_gradients(lambda W: loss(W, X, labels), lambda W: gradient(W, X, labels), W)
    assert closed_over.passed and closed_over.leaves[""].resolution < 1e-4

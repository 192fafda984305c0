"""The six witnesses: each agrees with the truth by itself, is named in the report, and says when it cannot speak."""

import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from jaxnet.verify.evidence import differences
from jaxnet.verify.problem.loss import Problem, direction, quiet
from tests.marks import slow_but

W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)


def loss(W, X):
    Z = W @ X
    return jnp.mean(jax.nn.logsumexp(Z, axis=0) - Z[0] * jax.nn.sigmoid(Z[1]))


def gradient(W, X):
    return jax.jacfwd(loss)(W, X)


@pytest.fixture
def problem():
    with quiet():
        yield Problem.of(loss, W, (X,), 0, False).traced()


def exact():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.grad(loss)(W.astype(np.float64), X.astype(np.float64)))


def test_float64_reads_the_float32_trace_to_full_precision(problem):
    np.testing.assert_allclose(problem.double()[1][0], exact(), rtol=1e-13)


def test_reverse_is_jaxs_own_gradient(problem):
    np.testing.assert_allclose(problem.reverse()[1][0], jax.grad(loss)(W, X), rtol=2e-6)


def test_forward_complex_step_and_differences_agree_along_a_direction(problem):
    v = direction(np.random.default_rng(2), W.astype(np.float64))
    expected = np.sum(exact() * v)
    assert problem.slope([v]) == pytest.approx(expected, rel=1e-12)
    assert problem.complex_slope([v]) == pytest.approx(expected, rel=1e-12)
    x = [W.astype(np.float64)]
    found = differences.slope(problem.value, x, {0: v}, problem.value(x))
    assert found.central == pytest.approx(expected, rel=1e-9)
    assert not found.kinked


def test_the_taylor_rate_is_two_when_right_and_one_when_wrong(problem):
    x, v = [W.astype(np.float64)], direction(np.random.default_rng(2), W.astype(np.float64))
    found = differences.slope(problem.value, x, {0: v}, problem.value(x))
    right = np.sum(exact() * v)
    assert found.rate(right) == pytest.approx(2, abs=0.1)
    assert found.rate(1.01 * right) == pytest.approx(1, abs=0.1)


def test_directions_see_single_coordinates_and_opposite_pairs():
    rng, missed = np.random.default_rng(0), 0
    for _ in range(500):
        v = direction(rng, np.ones(8))
        assert 0.5 <= abs(v[0]) <= 1.5
        missed += abs(v[0] - v[1]) < 0.1 * np.sqrt(2)
    assert missed < 0.2 * 500


def test_the_full_check_names_six_estimators_with_their_cost():
    report = check_gradients(loss, gradient, W, X, witnesses="full")
    assert {w.name[0] for w in report.witnesses} >= set("123456")
    assert all(w.seconds >= 0 and w.said for w in report.witnesses)
    assert "permuted examples" in next(w.said for w in report.witnesses if w.name.startswith("6"))


def test_complex_step_says_what_is_in_its_way():
    report = check_gradients(
        lambda x: jnp.sum(jax.lax.erf(x)), lambda x: 2 / np.pi**0.5 * jnp.exp(-x * x), X, witnesses="full"
    )
    assert "erf" in next(w.said for w in report.witnesses if w.name.startswith("5"))


def host_loss(w, x):
    return float(np.sum(np.tanh(np.asarray(w) @ np.asarray(x))))


def host_gradient(w, x):
    return ((1 - np.tanh(w @ x) ** 2) @ x.T).astype(np.float32)


def test_a_loss_in_numpy_is_checked_by_differences():
    report = check_gradients(host_loss, host_gradient, W, X)
    assert any(w.name.startswith("4") and "Taylor rate 2.0" in w.said for w in report.witnesses)


def test_a_wrong_coordinate_of_a_black_box_is_found_by_halving():
    def wrong(w, x):
        g = host_gradient(w, x)
        g[2, 1] *= 1.01
        return g

    report = check_gradients(host_loss, wrong, W, X, raise_=False)
    assert report.verdict == "FAIL" and report.leaves[""].worst_index == (2, 1)
    assert "[2,1]" in report.cause


def test_a_black_box_that_is_wrong_everywhere_is_refused():
    report = check_gradients(host_loss, lambda w, x: 1.01 * host_gradient(w, x), W, X, raise_=False)
    assert report.verdict == "FAIL" and report.leaves[""].relative_error == pytest.approx(0.01, rel=1e-2)


def log_sum(np_, p):
    return np_.log(np_.exp(p).sum())


def quadratic(np_, p):
    return p.sum() + p @ p


def kinked(np_, p):
    return np_.where(p > 0, p, 0).sum() + 0.1 * p @ p  # autodiff takes an end of the interval of slopes at 0


@pytest.mark.parametrize(
    ("jax_callback", "f"),
    slow_but(
        [(True, log_sum), *product([False], [log_sum, quadratic, kinked])],
        product([True, False], [log_sum, quadratic, kinked]),
    ),
)
def test_a_black_box_that_answers_in_float32_tells_no_more_than_float32_holds(jax_callback, f):
    """Two quotients of quantised values agree by luck on some rung, which proves neither."""

    def host(p):
        return np.float32(f(np, np.float64(p)))

    def loss(p):
        return jax.pure_callback(host, jax.ShapeDtypeStruct((), np.float32), p) if jax_callback else host(p)

    gradient = jax.jit(jax.grad(lambda p: f(jnp, p)))
    for seed in range(12):
        p = np.random.default_rng(seed).normal(size=6).astype(np.float32)
        p[1] = 0
        right = check_gradients(loss, gradient, p, raise_=False, key=seed)
        assert right.verdict == ("INCONCLUSIVE" if f is kinked else "PASS"), (seed, str(right))
    wrong = check_gradients(loss, lambda p: (2 if f is kinked else 1.02) * gradient(p), p, raise_=False)
    assert wrong.verdict == "FAIL"


@pytest.mark.slow
@pytest.mark.parametrize("f", slow_but([log_sum], [log_sum, quadratic]))
def test_a_callback_in_float32_inside_a_larger_program_is_known_by_its_roundings(f):
    """Its float32 result times 3.1 in float64 is no float32 number; the finer quotients show the rounding."""

    def loss(p):
        host = lambda p: np.float32(f(np, np.float64(p)))
        return 3.1 * jax.pure_callback(host, jax.ShapeDtypeStruct((), np.float32), p)

    gradient = jax.jit(jax.grad(lambda p: 3.1 * f(jnp, p)))
    for seed in range(12):
        p = np.random.default_rng(seed).normal(size=6).astype(np.float32)
        assert check_gradients(loss, gradient, p, raise_=False, key=seed).verdict == "PASS", seed
    assert check_gradients(loss, lambda p: 1.02 * gradient(p), p, raise_=False).verdict == "FAIL"


@pytest.mark.slow
@pytest.mark.parametrize("in_jax", [True, False])
def test_a_part_in_float32_that_saturates_is_no_flat_function(in_jax):
    """Its answers are ±1 all along: quotients of exactly 0 agree with each other, and with nothing else."""

    def host(Z):
        return np.tanh(np.asarray(Z).astype(np.float32))

    def loss(W, X):
        Z = W @ X
        if in_jax:
            return 1e4 * jnp.sum((jax.pure_callback(host, jax.ShapeDtypeStruct(Z.shape, np.float32), Z) - 0.3) ** 2)
        return 1e4 * np.sum((np.float64(host(np.asarray(Z))) - 0.3) ** 2)

    gradient = jax.jit(jax.grad(lambda W, X: 1e4 * jnp.sum((jnp.tanh(W @ X) - 0.3) ** 2)))
    for seed in range(10, 24):
        rng = np.random.default_rng(seed)
        W, X = rng.normal(size=(1, 3)).astype(np.float32), 6 * rng.normal(size=(3, 1)).astype(np.float32)
        right = check_gradients(loss, gradient, W, X, raise_=False, key=seed)
        assert right.verdict != "FAIL", (seed, str(right))


def test_a_black_box_s_gradient_that_cancels_as_written_is_excused():
    """1 - tanh² is 0 in float32 where the slope is 1e-9: the formula is right, its digits are lost."""

    def host_loss(w):
        return 1e4 * float(np.sum(np.tanh(np.asarray(w, np.float64))))

    w = np.array([10.0, 9.5, 11.0], np.float32)
    report = check_gradients(host_loss, lambda w: 1e4 * (1 - jnp.tanh(w) ** 2), w, raise_=False)
    assert report.verdict == "INCONCLUSIVE", str(report)
    assert not check_gradients(host_loss, lambda w: 1e4 * (2 - jnp.tanh(w) ** 2), w, raise_=False)


@pytest.mark.parametrize("factor", [1.0, 1.03])
def test_one_entry_is_blamed_only_if_it_accounts_for_the_whole_error(factor):
    """Every entry of this gradient is off; few of them are above the noise of a host in float32."""
    Y = np.random.default_rng(3).normal(size=(4, 6))

    def host_loss(w):
        return float(np.float32(np.sum((np.asarray(w, np.float64) @ X - Y) ** 2) / 12))

    for seed in range(6):
        report = check_gradients(
            host_loss, lambda w: np.float32(factor) * ((w @ X - Y) @ X.T / 6), W, key=seed, raise_=False
        )
        assert report.verdict == ("PASS" if factor == 1 else "FAIL"), str(report)
        assert "one coordinate" not in str(report), str(report)


def test_the_precision_of_values_is_measured():
    values = np.random.default_rng(0).normal(size=7)
    for dtype, unit in (
        (np.float64, 2.0**-53),
        (np.float32, 2.0**-24),
        (np.float16, 2.0**-11),
        (jnp.bfloat16, 2.0**-8),
    ):
        assert differences.unit_of([float(v) for v in values.astype(dtype)]) == unit
    assert differences.unit_of([1.0] * 7) == 2.0**-24  # a constant is a short number in any precision


def test_a_loss_that_writes_into_its_inputs_is_named():
    def centred(w, x):
        x -= x.mean()  # in place
        return host_loss(w, x)

    kept = X.copy()
    report = check_gradients(centred, lambda w, x: host_gradient(w, x - x.mean()), W, X)
    assert any("the loss changes its inputs in place: [1]" in note for note in report.notes), report.notes
    assert np.array_equal(X, kept)


def test_the_taylor_rate_is_left_out_where_it_says_nothing():
    """No curvature, or values of few digits: a remainder that is rounding has no rate."""
    flat = check_gradients(lambda x: jnp.sum(3 * x), lambda x: 3 * jnp.ones_like(x), W, witnesses="full")
    coarse = check_gradients(
        lambda w: float(np.float32(np.sum(np.tanh(w), dtype=np.float32))),
        lambda w: 1 - np.tanh(w) ** 2,
        W,
        raise_=False,
    )
    for report in (flat, coarse):
        said = next(w.said for w in report.witnesses if w.name.startswith("4"))
        rate = re.search(r"Taylor rate (\S+)", said)
        assert rate is None or abs(float(rate[1]) - 2) < 0.1, said


def test_a_wrong_autodiff_is_blamed_and_not_the_gradient():
    """A loss whose own JAX rule lies: linear_call-like, by a custom rule that is hidden in the jax package's name."""

    def cliff(x):  # autodiff of a difference of nearly equal branches loses the slope of the rounding, not of the maths
        return jnp.sum(jnp.sqrt(jnp.where(x > 0, x, 0.0)))

    x = np.array([0.0, 1.0, 4.0], np.float32)
    report = check_gradients(
        cliff, lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0), x, raise_=False
    )
    assert report.verdict != "FAIL", str(report)


def test_random_draws_in_the_loss_stay_the_same_in_float64():
    key = jax.random.key(3)

    def noisy(x, key):
        return jnp.sum(jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype) * x**2)

    assert check_gradients(noisy, lambda x, k: 2 * x * jax.random.bernoulli(k, 0.5, x.shape).astype(x.dtype), X, key)


def test_closed_over_float32_constants_are_widened_too():
    constant = jnp.asarray(X) + np.float32(1 / 3)
    assert check_gradients(
        lambda W: jnp.sum(jnp.tanh(W @ constant)), lambda W: (1 - jnp.tanh(W @ constant) ** 2) @ constant.T, W
    )


def test_estimators_that_disagree_never_pass():
    """A solve of JAX's own that was stopped early: autodiff takes it for the solution, its values are another's."""
    A = np.array([[2.0, 1.0], [1.0, 3.0]], np.float32)

    def loss(b):
        return jnp.sum(jax.scipy.sparse.linalg.cg(lambda x: A @ x, b, maxiter=1)[0] ** 2)

    b = np.array([1.0, -2.0], np.float32)
    report = check_gradients(loss, jax.grad(loss), b, witnesses="full", raise_=False)
    assert report.verdict == "INCONCLUSIVE" and any("witnesses disagree" in note for note in report.notes), str(report)


@pytest.mark.parametrize("third", [14.0, 15.1, 15.0])
def test_a_gradient_that_errs_elsewhere_than_autodiff_is_not_vindicated(third):
    """Autodiff misses the first entry of (5, 10, 15), by more than the manual gradient misses the third."""
    c = np.array([1, 2, 3], np.float32)
    report = check_gradients(
        lambda x: c @ jnp.where(x == 0, 0, 5 * x),
        lambda x: jnp.array([5, 10, third], jnp.float32),
        np.array([0, 1, -1], np.float32),
        raise_=False,
    )
    assert report.verdict == ("PASS" if third == 15 else "FAIL"), str(report)
    assert any("autodiff of the loss is wrong on params" in note for note in report.notes)
    assert report.leaves[""].worst_index == (None if third == 15 else (2,))


def test_a_solve_with_a_wrong_transposed_rule_is_refused():
    """Reverse mode errs, forward mode and differences do not."""
    A = np.array([[2.0, 1.0], [0.0, 3.0]], np.float32)

    def loss(b):
        solve = lambda matvec, y: jnp.linalg.solve(jnp.asarray(A), y)
        return jnp.sum(jax.lax.custom_linear_solve(lambda x: A @ x, b, solve, transpose_solve=solve) ** 2)

    b = np.array([1.0, -2.0], np.float32)
    for witnesses in ("auto", "full"):
        assert check_gradients(loss, jax.grad(loss), b, witnesses=witnesses, raise_=False).verdict == "FAIL"


def emissions(W, b, X):
    return jax.nn.log_softmax(X @ W.T + b, axis=1)


def alphas(L):
    """log of what all paths to state k at time t emit, which start in state 0 and stay or go one further."""
    rows = [jnp.where(jnp.arange(L.shape[1]) == 0, L[0], -jnp.inf)]
    for l in L[1:]:
        rows.append(jnp.logaddexp(rows[-1], jnp.concatenate([jnp.array([-jnp.inf], L.dtype), rows[-1][:-1]])) + l)
    return jnp.stack(rows)


def left_to_right(p, X):
    return -alphas(emissions(*p, X))[-1, -1]


def by_posteriors(p, X):
    """dZ[t, k] = softmax - the chance of state k at time t, forwards and backwards."""
    L = emissions(*p, X)
    ahead = alphas(L)
    behind = alphas(L[::-1, ::-1])[::-1, ::-1]
    dZ = jnp.exp(L) - jnp.exp(ahead + behind - L - ahead[-1, -1])
    return dZ.T @ X, jnp.sum(dZ, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", slow_but([0], range(20)))
def test_what_a_formula_loses_as_written_is_noise_where_autodiff_is_not_finite(seed):
    """logaddexp(-inf, -inf) has no derivative, the path's probability has: differences tell."""
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    X = rng.normal(size=(6, 3)).astype(np.float32)
    report = check_gradients(left_to_right, by_posteriors, p, X, raise_=False)
    assert report.verdict == "PASS", str(report)
    if seed < 4:
        off = lambda p, X: jax.tree.map(lambda g: 1.001 * g, by_posteriors(p, X))
        assert check_gradients(left_to_right, off, p, X, raise_=False).verdict == "FAIL"

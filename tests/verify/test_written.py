"""What people write by hand: state, implicit rules, norms at zero, low precision. One kind of fault a section."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients, check_vjp
from tests.marks import slow_but

RNG = np.random.default_rng(0)

# ---- a gradient that keeps state, where only values judge -----------------------------------------------------------


def numpy_loss(w):
    return float(np.sum(np.sin(np.asarray(w))))


def callback_loss(w):
    value = jax.pure_callback(lambda w: np.sum(np.sin(w)).astype(w.dtype), jax.ShapeDtypeStruct((), w.dtype), w)
    return value


def counting():
    """A cache that is not cleared: right once for each w."""
    kept = {}

    def gradient(w):
        key = np.asarray(w).tobytes()
        kept[key] = kept.get(key, 0) + 1
        return kept[key] * np.cos(np.asarray(w))

    return gradient


@pytest.mark.parametrize("loss", [numpy_loss, callback_loss])
def test_a_second_call_that_differs_is_refused_by_values_too(loss):
    w = np.linspace(0.1, 1.0, 6).astype(np.float32)
    report = check_gradients(loss, counting(), w, raise_=False)
    assert report.verdict == "FAIL" and "the second call differs from the first" in report.cause, str(report)
    noisy = lambda w: np.cos(np.asarray(w)) * (1 + 0.05 * RNG.normal())
    report = check_gradients(loss, noisy, w, raise_=False)
    assert report.verdict == "FAIL" and "chance" in report.cause, str(report)
    assert check_gradients(loss, lambda w: np.cos(np.asarray(w)), w)


def test_an_array_that_is_written_over_in_the_next_call_is_judged_as_it_was():
    kept, calls = np.zeros(6, np.float32), []

    def gradient(w):
        calls.append(w)
        kept[:] = len(calls) * np.cos(np.asarray(w))
        return kept

    w = np.linspace(0.1, 1.0, 6).astype(np.float32)
    report = check_gradients(lambda w: jnp.sum(jnp.sin(w)), gradient, w, raise_=False)
    assert report.verdict == "FAIL" and "the second call differs from the first" in report.cause, str(report)
    at = report.leaves[""].worst_index
    assert report.leaves[""].manual == pytest.approx(np.cos(w[at]))  # and not a later call's


def test_where_nothing_moves_no_gradient_is_said_to_be_constant():
    """1 − tanh² rounds to 1 at such numbers, however they move."""
    w = np.float32([1e-5, -2e-5])
    report = check_gradients(lambda w: jnp.sum(jnp.tanh(w)), lambda w: 1 - np.tanh(np.asarray(w)) ** 2, w)
    assert not any("the same whatever" in note for note in report.notes), report.notes


@pytest.mark.parametrize("xp", [jnp, np], ids=["traced", "values"])
@pytest.mark.parametrize("of", ["numbers", "a first answer", "a function of the parameters", "a linear loss"])
def test_of_a_gradient_that_is_the_same_everywhere_the_report_says_so(of, xp):
    w, kept = np.linspace(0.1, 1.0, 6).astype(np.float32), []

    def once(w):
        kept.append(np.cos(np.asarray(w)))
        return kept[0]

    gradient = {"numbers": lambda w: np.cos(W), "a first answer": once, "a linear loss": lambda w: np.arange(6.0)}
    loss = (lambda w: xp.arange(6.0) @ xp.asarray(w)) if of == "a linear loss" else lambda w: xp.sum(xp.sin(w))
    W = w
    report = check_gradients(loss, gradient.get(of, jnp.cos), w)
    assert (report.leaves[""].reference is None) == (xp is np)
    assert any("the same whatever it is given" in note for note in report.notes) == (
        of in ("numbers", "a first answer")
    )


# ---- implicit rules over solvers without a derivative ---------------------------------------------------------------


def bisected(a):
    """x with x³ + x = a."""

    def step(_, ends):
        low, high = ends
        middle = (low + high) / 2
        below = middle**3 + middle < a
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, 60, step, (jnp.zeros_like(a), jnp.full_like(a, 2)))
    return (low + high) / 2


def ternary_search(a):
    """The minimum of x⁴/4 + x²/2 − a x, which is the same x."""
    f = lambda x: x**4 / 4 + x**2 / 2 - a * x

    def step(_, ends):
        low, high = ends
        first, second = low + (high - low) / 3, high - (high - low) / 3
        left = f(first) < f(second)
        return jnp.where(left, low, first), jnp.where(left, second, high)

    low, high = jax.lax.fori_loop(0, 80, step, (jnp.zeros_like(a), jnp.full_like(a, 2)))
    return (low + high) / 2


def implicit(solver, factor=1.0):
    f = jax.custom_vjp(solver)
    f.defvjp(lambda a: (x := solver(a), x), lambda x, c: (factor * c / (3 * x**2 + 1),))
    return f


@pytest.mark.parametrize(("solver", "dtype"), [(bisected, "float32"), (bisected, "float64")])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_an_implicit_rule_is_judged_by_values(solver, dtype, shape):
    with jax.enable_x64(dtype == "float64"):
        a = jnp.asarray(np.linspace(0.7, 2.0, 5)[0 if shape == () else slice(None)], dtype)
        report = check_vjp(implicit(solver), a, raise_=False)
        assert report.verdict == "PASS" and any("searches for a value" in note for note in report.notes), str(report)
        assert check_vjp(implicit(solver, 1.1), a, raise_=False).verdict == "FAIL"


def test_a_search_by_comparisons_of_values_is_no_better_than_they_are():
    """Near its minimum a function does not tell x from x + 1e-4 in float32: the search is coarse, the rule is right."""
    with jax.enable_x64(True):
        a = jnp.float64(0.7)
        assert check_vjp(implicit(ternary_search), a, raise_=False).verdict != "FAIL"
        assert check_vjp(implicit(ternary_search, 1.5), a, raise_=False).verdict != "PASS"


def test_of_two_leaves_the_one_with_a_right_rule_is_confirmed():
    f = jax.custom_vjp(lambda a, b: bisected(a) + bisected(b))
    f.defvjp(
        lambda a, b: (bisected(a) + bisected(b), (bisected(a), bisected(b))),
        lambda xs, c: (c / (3 * xs[0] ** 2 + 1), 2 * c / (3 * xs[1] ** 2 + 1)),
    )
    report = check_vjp(f, jnp.float32(0.7), jnp.float32(1.1), raise_=False)
    assert [leaf.verdict for leaf in report.leaves.values()] == ["PASS", "FAIL"], str(report)


# ---- where autodiff is NaN ------------------------------------------------------------------------------------------

ROWS = jax.random.normal(jax.random.key(0), (4, 3)).at[2].set(0)


def norms(X):
    return jnp.sum(jnp.sin(jnp.linalg.norm(X, axis=1)))


def norms_by_hand(k=1.0, at_zero=0.0):
    def gradient(X):
        n = jnp.sqrt(jnp.sum(X**2, axis=1, keepdims=True))
        return jnp.where(n > 0, k * jnp.cos(n) * X / jnp.where(n > 0, n, 1), at_zero)

    return gradient


@pytest.mark.parametrize(
    ("k", "at_zero", "verdict"),
    [
        (1.0, 0.0, "PASS"),  # the commonest safe norm
        (1.0, 0.5, "PASS"),  # three entries of 1/2: inside the unit ball
        (2.0, 0.0, "FAIL"),  # every other row doubled
        (1.0, 2.0, "FAIL"),  # no subgradient at the row of zeros
        (1.0, 0.8, "FAIL"),  # each entry is one, all three together are not
    ],
)
def test_a_norm_at_zero_is_judged_there_by_one_sided_slopes_and_elsewhere_as_always(k, at_zero, verdict):
    report = check_gradients(norms, norms_by_hand(k, at_zero), ROWS, raise_=False)
    assert report.verdict == verdict, str(report)
    assert "[2,0]" in str(report) or k == 2.0


def test_where_nothing_can_be_told_the_double_where_is_shown():
    """To one side of 0 the loss is not defined, and to the other it rises without bound."""
    loss = lambda x: jnp.sum(jnp.sqrt(x)) + jnp.sum(x**2)
    gradient = lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1)), 0) + 2 * x
    report = check_gradients(loss, gradient, jnp.array([0.0, 1.0, 4.0]), raise_=False)
    said = report.leaves["params" if "params" in report.leaves else ""].note
    assert report.verdict == "INCONCLUSIVE" and "double where" in said and "at [0]" in said, str(report)


@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_that_is_nan_is_refused_for_that(seed):
    f = jax.custom_vjp(lambda X: jnp.sqrt(jnp.sum(X**2, axis=1)))
    backward = lambda X, c: (c[:, None] * X / jnp.sqrt(jnp.sum(X**2, axis=1, keepdims=True)),)
    f.defvjp(lambda X: (f(X), X), backward)
    X = jnp.asarray(np.random.default_rng(seed).normal(size=(4, 3)), jnp.float32).at[2].set(0)
    report = check_vjp(f, X, raise_=False)
    assert report.verdict == "FAIL" and "NaN" in report.cause and "2,0" in report.cause, str(report)
    assert "state" not in report.cause and "only under" not in report.cause


# ---- a kink that has a continuum of subgradients --------------------------------------------------------------------


def safe_norms(X):
    s = jnp.sum(X**2, axis=1)
    return jnp.where(s > 0, jnp.sqrt(jnp.where(s > 0, s, 1)), 0)


@pytest.mark.parametrize(("value", "verdict"), [(0.6, "PASS"), (1.6, "FAIL")])
def test_any_vector_of_the_unit_ball_is_a_subgradient_of_a_norm(value, verdict):
    def backward(X, c):
        n = safe_norms(X)[:, None]
        at_zero = jnp.zeros_like(X).at[:, 0].set(value)
        return (c[:, None] * jnp.where(n > 0, X / jnp.where(n > 0, n, 1), at_zero),)

    f = jax.custom_vjp(safe_norms)
    f.defvjp(lambda X: (f(X), X), backward)
    report = check_vjp(f, ROWS, raise_=False)
    assert report.verdict == verdict and not any("not examined" in note for note in report.notes), str(report)


# ---- low precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "verdict"), [(1.1, "FAIL"), (1.0, "PASS")])
@pytest.mark.parametrize("seed", slow_but([0], range(3)))
def test_a_float32_leaf_beside_bfloat16_weights_is_known_by_its_formula(factor, verdict, seed):
    f = jax.custom_vjp(lambda w, x: (w.astype(jnp.float32) * x).sum())
    backward = lambda r, c: ((c * r[1]).astype(jnp.bfloat16), factor * c * r[0].astype(jnp.float32))
    f.defvjp(lambda w, x: (f(w, x), (w, x)), backward)
    w, x = jax.random.normal(jax.random.key(seed), (2, 4))
    report = check_vjp(f, w.astype(jnp.bfloat16), x, raise_=False)
    assert report.verdict == verdict, str(report)
    assert verdict == "PASS" or "a factor 1.1" in report.cause


@pytest.mark.parametrize(("factor", "verdict"), [(1.2, "FAIL"), (1.0, "PASS")])
def test_a_factor_that_bfloat16_hides_is_seen_in_the_formula(factor, verdict):
    """Two large terms cancel: a rounding of the inputs moves the gradient by more than a fifth of it."""

    def loss(w, x):
        return (jnp.sum(w * x, dtype=jnp.float32) ** 2).astype(jnp.float32)

    def by_hand(w, x):
        return (factor * 2 * jnp.sum(w * x, dtype=jnp.float32) * x.astype(jnp.float32)).astype(w.dtype)

    x = jnp.array([1.0, -1.0, 0.5, 0.25], jnp.bfloat16)
    w = jnp.array([8.0, 8.0, 0.75, 0.25], jnp.bfloat16)
    report = check_gradients(loss, by_hand, w, x, raise_=False)
    assert report.verdict == verdict or (verdict == "PASS" and report.verdict == "INCONCLUSIVE"), str(report)

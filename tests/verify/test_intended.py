"""Rules that differ from the derivative on purpose are stated by intended=, or by a reference= of f's signature."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import GradientMismatch, check_gradients, check_vjp

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=24), RNG.normal(size=(4, 3))


def ruled(primal, backward, **options):
    """primal with the rule that bwd is `backward(*primals, cotangent)`."""
    f = jax.custom_vjp(primal, **options)
    f.defvjp(lambda *a: (primal(*a), a), lambda a, c: (backward(*a, c),))
    return f


def window(x, c):
    return jnp.where(jnp.abs(x) < 1, c, 0)


def clipped(x, c):
    return c * jnp.minimum(1, 0.5 / jnp.linalg.norm(c))


# function, what is meant, and rules that depart from it
RULES = {
    "straight-through": (lambda x: jnp.round(x), lambda x, c: c, {"2c": lambda x, c: 2 * c, "window": window}),
    "window": (lambda x: (x > 0).astype(x.dtype), window, {"no window": lambda x, c: c, "zero": lambda x, c: 0 * c}),
    "surrogate": (
        lambda x: (x > 0).astype(x.dtype),
        lambda x, c: c / (1 + jnp.abs(x)) ** 2,
        {"first power": lambda x, c: c / (1 + jnp.abs(x)), "steeper": lambda x, c: c / (1 + 1.01 * jnp.abs(x)) ** 2},
    ),
    "reversal": (lambda x: x * 1, lambda x, c: -0.3 * c, {"sign": lambda x, c: 0.3 * c, "none": lambda x, c: c}),
    "clip entries": (
        lambda x: jnp.sin(x),
        lambda x, c: jnp.clip(c * jnp.cos(x), -0.5, 0.5),
        {"none": lambda x, c: c * jnp.cos(x)},
    ),
    "clip the norm": (
        lambda x: x * 1,
        clipped,
        {"none": lambda x, c: c, "by another": lambda x, c: 1.1 * clipped(x, c)},
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_the_rule_that_is_meant_passes_and_others_fail(name, dtype):
    f, intended, wrong = RULES[name]
    x = X.astype(dtype)
    report = check_vjp(ruled(f, intended), x, intended=intended)
    assert report.leaves["x"].score < 8
    assert report.notes[0].startswith("the rule is compared with intended=") and len(report.notes) == 1, report.notes
    for rule in wrong.values():
        report = check_vjp(ruled(f, rule), x, intended=intended, raise_=False)
        assert report.verdict == "FAIL" and [leaf.verdict for leaf in report.leaves.values()] == ["FAIL"], str(report)


@pytest.mark.parametrize("name", ["window", "clip the norm"])
def test_every_estimator_agrees_with_what_is_meant(name):
    f, intended, _ = RULES[name]
    variants = ("eager", "jit", "vmap")
    report = check_vjp(ruled(f, intended), X.astype("f4"), intended=intended, witnesses="full", variants=variants)
    assert report.passed and not any("disagree" in note for note in report.notes), str(report)
    said = {witness.name[0]: witness.said for witness in report.witnesses}
    assert "agrees" in said["3"] and "autodiff agrees" in said["4"] and "agrees" in said["5"], said


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("reversal", "in x by 1.3 of it"),
        ("straight-through", "where that is 0"),
        ("clip entries", r"in x by 0.\d+ of it"),
    ],
)
def test_the_report_says_how_far_it_is_from_the_derivative(name, differs):
    f, intended, _ = RULES[name]
    note = check_vjp(ruled(f, intended), X, intended=intended).notes[0]
    assert note.startswith("the rule is compared with intended=, which differs from the derivative of f: ")
    assert re.search(differs, note), note


def test_what_is_meant_may_be_the_derivative():
    right = lambda x, c: c * jnp.cos(x)
    assert check_vjp(ruled(jnp.sin, right), X, intended=right).notes[0].endswith("in x not at all")


@pytest.mark.parametrize(
    ("name", "rule", "cause"),
    [
        ("straight-through", lambda x, c: 2 * c, "a factor 2 on every entry"),
        ("reversal", lambda x, c: 0.3 * c, "the sign is wrong"),
        ("reversal", lambda x, c: c, "it is the derivative of f, and not what intended= says"),
        ("window", lambda x, c: c, "it should be zero and is not at"),
        ("window", lambda x, c: jnp.where(jnp.abs(x) < 0.5, c, 0), "it is zero and should not be at"),
        ("straight-through", lambda x, c: c[::-1], "in another order along axis 0: reversed"),
        ("straight-through", lambda x, c: jnp.cumsum(c), None),
    ],
)
def test_the_cause_is_named_where_a_test_confirms_it(name, rule, cause):
    f, intended, _ = RULES[name]
    report = check_vjp(ruled(f, rule), X.astype("f4"), intended=intended, raise_=False)
    assert report.verdict == "FAIL" and (cause or "") in (report.cause or ""), str(report)
    assert cause or report.cause is None


def test_a_rule_that_depends_on_its_point_is_not_said_to_see_through_a_stop():
    """⟨stop(c x), x⟩ without its stop would have the gradient 2 c x."""
    report = check_vjp(ruled(jnp.sign, lambda x, c: 2 * c * x), X, intended=lambda x, c: c * x, raise_=False)
    assert "a factor 2 on every entry" in report.cause and "stop" not in str(report), str(report)


def test_a_rule_that_has_to_bend_its_cotangent_is_not_blamed_for_it_and_another_is():
    intended = lambda x, c: jnp.clip(c, -0.5, 0.5)
    report = check_vjp(
        ruled(lambda x: x * 1, lambda x, c: jnp.clip(c, -0.25, 0.25)), X, intended=intended, raise_=False
    )
    assert report.verdict == "FAIL" and "linear" not in (report.cause or ""), str(report)
    report = check_vjp(ruled(lambda x: x * 1, intended), X, intended=lambda x, c: -c, raise_=False)
    assert "is not linear in its cotangent" in report.cause


def test_without_it_the_report_says_that_there_is_no_derivative_and_how_to_state_the_rule():
    report = check_vjp(ruled(lambda x: jnp.round(x), lambda x, c: c), X, raise_=False)
    said = r"the function is constant around the point.*: its derivative is 0"
    assert report.verdict == "FAIL" and re.search(said, report.cause) and "intended=" in str(report), str(report)
    level = check_vjp(ruled(lambda x: x**2, lambda x, c: c), 0 * X, raise_=False)
    assert "exactly 0 here" in level.cause and "constant" not in level.cause  # x² is not, at 0 either
    assert "can be stated: intended=" in check_vjp(ruled(lambda x: x * 1, clipped), X, raise_=False).cause


# ---- what it is called with, and what it returns -------------------------------------------------------------------
spike = jax.custom_vjp(lambda W, limit, sharp: (limit < W).astype(W.dtype), nondiff_argnums=(2,))
spike.defvjp(
    lambda W, limit, sharp: (spike(W, limit, sharp), (W, limit)),
    lambda sharp, saved, c: (c * jnp.exp(-sharp * jnp.abs(saved[0] - saved[1])), jnp.zeros_like(saved[1])),
)


def test_all_arguments_are_handed_over_and_none_stands_for_no_gradient():
    def intended(W, limit, sharp, c):
        assert sharp == 2 and c.shape == W.shape
        return c * jnp.exp(-sharp * jnp.abs(W - limit)), None

    report = check_vjp(spike, W, np.float64(0.3), 2, intended=intended)
    assert list(report.leaves) == ["W", "limit"] and report.skipped == {"sharp": "int"}
    swapped = lambda W, limit, sharp, c: (None, jnp.sum(c * W))
    report = check_vjp(spike, W, np.float64(0.3), 2, intended=swapped, raise_=False)
    assert [leaf.verdict for leaf in report.leaves.values()] == ["FAIL", "FAIL"], str(report)


def test_of_one_primal_its_tree_will_do_and_keyword_arguments_come_along():
    def scaled(p, *, scale):
        return {"y": ruled(lambda a: jnp.round(a) * scale, lambda a, c: c * scale)(p["a"]), "n": 3}

    def intended(p, c, *, scale):
        assert set(c) == {"y", "n"}
        return {"a": c["y"] * scale, "k": None}

    kwargs = {"scale": 3.0}
    p = {"a": X, "k": 1}
    assert check_vjp(scaled, p, kwargs=kwargs, intended=intended)
    assert check_vjp(
        scaled, p, kwargs=kwargs, argnums=0, intended=lambda p, c, scale: ({"a": c["y"] * scale, "k": None})
    )
    with pytest.raises(GradientMismatch, match=r"p\['a'\]"):
        check_vjp(scaled, p, kwargs=kwargs, intended=lambda p, c, scale: {"a": c["y"], "k": None})


@pytest.mark.parametrize(
    ("intended", "message"),
    [
        (lambda x, c: {"a": c}, "intended= has to return the cotangents of the primals that vary, x, .* has no leaf"),
        (lambda x, c: c[:2], r"intended= returns shape \(2,\) for x; expected \(24,\)"),
        (lambda x: x, "intended= cannot be traced .*: it is called with x and the cotangent"),
        (lambda x, c: np.asarray(c), "intended= cannot be traced .* has to be written in jax.numpy"),
    ],
)
def test_what_is_no_rule_is_refused_in_words(intended, message):
    with pytest.raises(TypeError, match=message):
        check_vjp(ruled(lambda x: jnp.round(x), lambda x, c: c), X, intended=intended)


def test_a_function_that_states_it_by_stop_gradient_needs_no_rule_of_its_own():
    through = lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x)
    assert check_vjp(through, X, intended=lambda x, c: c)
    assert check_vjp(through, X, raise_=False).verdict == "INCONCLUSIVE"  # compared with itself
    assert check_vjp(through, X, intended=lambda x, c: 2 * c, raise_=False).verdict == "FAIL"


@pytest.mark.parametrize("witnesses", ["auto", "full"])
def test_a_primal_with_stop_gradient_states_its_rule(witnesses):
    """Gradient reversal: the value is x, what is stopped counts as constant."""
    reversed_ = lambda x: 1.3 * jax.lax.stop_gradient(x) - 0.3 * x
    assert check_vjp(ruled(reversed_, lambda x, c: -0.3 * c), X, witnesses=witnesses)
    report = check_vjp(ruled(reversed_, lambda x, c: c), X, witnesses=witnesses, raise_=False)
    assert report.verdict == "FAIL" and "differentiates through stop_gradient" in report.cause, str(report)


# ---- reference= --------------------------------------------------------------------------------------------------
def by_host(factor, function=np.sin):
    """A sine that JAX does not see into, with a rule of its own."""
    call = lambda x: jax.pure_callback(function, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    return ruled(call, lambda x, c: factor * c * jnp.cos(x))


def test_a_reference_is_a_function_of_the_same_arguments():
    assert check_vjp(by_host(1.0), X, reference=jnp.sin).leaves["x"].resolution < 1e-5
    report = check_vjp(by_host(1.001), X, reference=jnp.sin, raise_=False)
    assert report.verdict == "FAIL" and report.cause == "x: a factor 1.001 on every entry."
    assert report.stripped and "no custom rule" not in str(report)


def test_a_reference_takes_held_and_keyword_arguments_and_returns_an_auxiliary():
    two = lambda k, x, power=1: ((x**power, k * jnp.sin(x)), "done")
    f = lambda k, x, power=1: ((x**power, k * by_host(1.0)(x)), "done")
    options = {"kwargs": {"power": 2}, "has_aux": True, "argnums": 1}
    report = check_vjp(f, 3, X, reference=two, **options)
    assert list(report.leaves) == ["x"] and "power" in report.skipped
    wrong = lambda k, x, power=1: ((x**power, k * by_host(2.0)(x)), "done")
    report = check_vjp(wrong, 3, X, reference=two, raise_=False, **options)
    assert "x: the cotangent of output 1 enters with a factor 2" in report.cause, str(report)


@pytest.mark.parametrize(
    ("reference", "kind", "message"),
    [
        (jnp.cos, ValueError, r"reference= is another function: its value, \[\d+\], is"),
        (jnp.sum, TypeError, r"reference= returns outputs of shapes \(\); f returns \(24,\)"),
        (lambda x: (jnp.sin(x), x), TypeError, r"reference= returns outputs of shapes \(24,\), \(24,\); f returns"),
    ],
)
def test_another_function_is_no_reference(reference, kind, message):
    with pytest.raises(kind, match=message):
        check_vjp(by_host(1.0), X, reference=reference)


def test_a_reference_tells_the_derivative_of_what_hides_its_inside_from_what_is_meant():
    f = by_host(-0.5)
    intended = lambda x, c: -0.5 * c * jnp.cos(x)
    assert "hides its inside" in check_vjp(f, X, intended=intended).notes[0]
    assert "in x by 1.5 of it" in check_vjp(f, X, intended=intended, reference=jnp.sin).notes[0]


def test_a_loss_with_a_straight_through_reference():
    """The same for a gradient function: the reference has the loss's value, and the gradient that is meant."""
    loss = lambda w: jnp.sum(jnp.round(w) ** 2)
    stated = lambda w: jnp.sum((w + jax.lax.stop_gradient(jnp.round(w) - w)) ** 2)
    assert check_gradients(loss, lambda w: 2 * jnp.round(w), W, reference=stated)
    wrong = functools.partial(check_gradients, loss, lambda w: 2 * w, W, reference=stated, raise_=False)
    assert wrong().verdict == "FAIL"


@pytest.mark.parametrize("x", [[0.3, 1.5, -0.2, 1.0], [1.5, 1.0], [-1.0, 1.5]])
def test_an_input_on_an_edge_of_what_is_meant_hides_no_other(x):
    """Saturated beyond 1: at 1 itself either is right, and beside it a wider window is seen, and none at all."""
    for width, refused in ((1, False), (2, True)):
        ruled = jax.custom_vjp(jnp.sign)
        ruled.defvjp(lambda x: (jnp.sign(x), x), lambda x, c, width=width: (c * (jnp.abs(x) <= width),))
        for meant in (lambda x, c: c * (jnp.abs(x) <= 1), lambda x, c: c * (jnp.abs(x) < 1)):
            report = check_vjp(ruled, np.float32(x), intended=meant, raise_=False)
            assert report.verdict == ("FAIL" if refused else "PASS"), str(report)
    through = jax.custom_vjp(jnp.sign)
    through.defvjp(lambda x: (jnp.sign(x), None), lambda _, c: (c,))
    assert check_vjp(through, np.float32(x), intended=meant, raise_=False).verdict == "FAIL"


def test_a_convention_of_what_is_meant_is_one_among_others():
    relu = jax.custom_vjp(lambda x: jnp.maximum(x, 0))
    relu.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, c: (jnp.where(x > 0, c, 0),))
    x, meant = np.float32([-1, 0, 2]), lambda x, c: jnp.where(x >= 0, c, 0)
    assert "a convention, no error" in str(check_vjp(relu, x, intended=meant))
    assert check_vjp(relu, x, intended=meant, kinks="strict", raise_=False).verdict == "FAIL"

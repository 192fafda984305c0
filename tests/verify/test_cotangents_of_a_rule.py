"""What a rule does to its cotangents: those of several outputs, and linearity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_vjp
from tests.verify.rules import W, X, product


# ---- the cotangents of several outputs -----------------------------------------------------------------------------
def both(backward):
    f = jax.custom_vjp(lambda x: (jnp.sin(x), jnp.cos(x)))
    f.defvjp(lambda x: (f(x), x), lambda x, c: (backward(x, *c),))
    return f


def one(backward):
    f = jax.custom_vjp(lambda x: jnp.sin(x) @ x.T)
    value = lambda x: jnp.sin(x) @ x.T
    f.defvjp(lambda x: (f(x), x), lambda x, c: jax.vjp(value, x)[1](jnp.asarray(backward(c))))
    return f


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (both(lambda x, a, b: a * jnp.cos(x)), "the cotangent of output 1 is dropped"),
        (both(lambda x, a, b: -b * jnp.sin(x)), "the cotangent of output 0 is dropped"),
        (both(lambda x, a, b: b * jnp.cos(x) - a * jnp.sin(x)), "the cotangents of outputs 0 and 1 are swapped"),
        (both(lambda x, a, b: a * jnp.cos(x) - a * jnp.sin(x)), "the cotangent of output 0 is used for output 1 too"),
        (both(lambda x, a, b: a * jnp.cos(x) + b * jnp.sin(x)), "the cotangent of output 1 enters with a factor -1"),
        (
            both(lambda x, a, b: a[0, 0] * jnp.cos(x) - b * jnp.sin(x)),
            "entry 0 of the cotangent of output 0 is used for",
        ),
        (one(lambda c: jnp.full_like(c, c[0, 0])), "entry 0 of the cotangent is used for all of it"),
        (
            one(lambda c: jnp.broadcast_to(c[:1], c.shape)),
            "entry 0 of the cotangent along axis 0 is used for all of it",
        ),
        (one(lambda c: jnp.full_like(c, c.sum())), "the sum of the cotangent is used for each of its entries"),
        (one(lambda c: jnp.full_like(c, c.mean())), "the mean of the cotangent is used for each of its entries"),
        (one(lambda c: c.T), "the cotangent is transposed"),
    ],
)
def test_what_a_rule_does_to_its_cotangents_is_named(f, said):
    report = check_vjp(f, X[:4], raise_=False)
    assert report.verdict == "FAIL" and said in report.cause and said in report.leaves["x"].cause, str(report)


@pytest.mark.parametrize(
    "backward", [lambda x, a, b: a * jnp.cos(x) - b * jnp.cos(x), lambda x, a, b: (a + b) * jnp.sin(x)]
)
def test_what_no_other_cotangent_explains_is_not_said_of_it(backward):
    report = check_vjp(both(backward), X, raise_=False)
    assert report.verdict == "FAIL" and "cotangent" not in (report.cause or ""), str(report)


def test_right_rules_of_several_outputs_pass():
    assert check_vjp(both(lambda x, a, b: a * jnp.cos(x) - b * jnp.sin(x)), X).passed and check_vjp(one(lambda c: c), X)


def test_a_conjugated_jacobian_is_named():
    f = jax.custom_vjp(lambda z: z * z)
    f.defvjp(lambda z: (z * z, z), lambda z, c: (2 * jnp.conj(z) * c,))
    assert "the Jacobian is conjugated" in check_vjp(f, (X + 1j * X[::-1]).astype("complex64"), raise_=False).cause


# ---- linearity ---------------------------------------------------------------------------------------------------


def fused_loss(ignores):
    @jax.custom_vjp
    def loss(z):
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[:, 0])

    def backward(z, c):
        d = (jax.nn.softmax(z, axis=1) - jnp.eye(z.shape[1])[0]) / len(z)
        return (d if ignores else c * d,)

    loss.defvjp(lambda z: (loss(z), z), backward)
    return loss


@pytest.mark.parametrize("key", range(4))
def test_a_loss_that_ignores_its_cotangent_has_no_factor(key):
    assert check_vjp(fused_loss(False), X, key=key).passed
    report = check_vjp(fused_loss(True), X, key=key, raise_=False)
    assert report.cause.startswith("The rule ignores its cotangent") and "factor" not in str(report), str(report)


def test_one_leaf_ignores_its_cotangent_and_another_has_a_factor():
    f = product(lambda a, b, c: (2 * c @ b.T, a.T @ jnp.ones_like(c)))
    report = check_vjp(f, X, W, raise_=False)
    assert report.cause.startswith("The rule in b ignores its cotangent"), str(report)
    assert "a: a factor 2 on every entry." in report.cause


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda d, b: jnp.abs(d), None),
        (lambda d, b: jnp.clip(d, -0.5, 0.5), "clipped"),
        (lambda d, b: d + 1e-2 * b, "0.01 times the parameter too much"),
    ],
)
def test_a_rule_that_is_not_linear_in_its_cotangent_is_named(bend, said):
    report = check_vjp(product(lambda a, b, c: (c @ b.T, bend(a.T @ c, b))), X, W, raise_=False)
    assert report.cause.startswith("The rule is not linear in its cotangent"), str(report)
    assert said is None or f"For the cotangent drawn here, b: {said}" in report.cause


def test_a_wrong_rule_that_is_linear_is_not_called_nonlinear():
    report = check_vjp(product(lambda a, b, c: (c @ b.T, 2 * a.T @ c)), X, W, raise_=False)
    assert report.cause == "b: a factor 2 on every entry."


@pytest.mark.parametrize(("x", "value"), [([-1.0, 2.0], "nan"), ([0.0, 2.0], "-?inf")])
def test_a_function_that_is_not_finite_is_called_by_its_name(x, value):
    log = jax.custom_vjp(lambda x: jnp.log(x))
    log.defvjp(lambda x: (log(x), x), lambda x, c: (c / x,))
    with pytest.raises(ValueError, match=f"^f is {value} at the test point, seen by witness 1"):
        check_vjp(log, np.float32(x))

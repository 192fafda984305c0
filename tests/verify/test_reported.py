"""Misses, false alarms and wrong names that users of the verifier reported: each stays found."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients, check_vjp
from tests.marks import slow_but

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
X = ROWS[0]


@pytest.mark.parametrize("factor", [1.01, 0.5])
def test_a_rule_by_custom_gradient_is_stripped_too(factor):
    @jax.custom_gradient
    def square(x):
        return x**2, lambda g: g * 2 * x * factor

    def loss(p):
        return jnp.sum(square(p))

    assert check_vjp(square, X, raise_=False).verdict == "FAIL"
    assert check_gradients(loss, jax.grad(loss), X, raise_=False).verdict == "FAIL"
    assert check_gradients(loss, lambda p: 2.1 * p, X, raise_=False).verdict == "FAIL"
    assert check_gradients(loss, lambda p: 2 * p, X).passed


def test_a_function_without_a_rule_is_no_green_pass():
    report = check_vjp(jnp.sin, X, raise_="fail")
    assert report.verdict == "INCONCLUSIVE" and "no custom rule" in str(report)


def autoencoder(p, x):
    h = jnp.tanh(x @ p["enc"]["kernel"] + p["enc"]["bias"])
    return h @ p["dec"]["kernel"] + p["dec"]["bias"] - x


def test_layers_without_numbers_are_put_in_the_order_of_the_program():
    """Alphabetically "dec" comes before "enc": the error of the output must not be put at the wrong layer."""
    k = jax.random.split(jax.random.key(0), 2)
    params = {
        "enc": {"kernel": jax.random.normal(k[0], (4, 3)), "bias": jnp.zeros(3)},
        "dec": {"kernel": jax.random.normal(k[1], (3, 4)), "bias": jnp.zeros(4)},
    }

    def loss(p, x):
        return jnp.mean(autoencoder(p, x) ** 2)

    def wrong(p, x):
        scale = jnp.broadcast_to(jnp.arange(1.0, 5), x.shape)
        return jax.grad(lambda p: jnp.mean(autoencoder(p, x) ** 2 * scale))(p)

    report = check_gradients(loss, wrong, params, ROWS, raise_=False)
    assert report.verdict == "FAIL" and report.starts_at == "dZ[2]"
    assert "inherits" in report.leaves["['enc']['kernel']"].note and not report.leaves["['dec']['kernel']"].note
    assert all(len(line) <= 80 for line in str(report).splitlines())
    assert sum(line.endswith("FAIL") for line in str(report).splitlines()) == 4  # the verdict is never cut off


def test_arguments_of_a_function_are_no_layers():
    @jax.custom_vjp
    def attend(q, k, v):
        return jax.nn.softmax(q @ k.T, axis=-1) @ v

    def forward(q, k, v):
        return attend(q, k, v), (q, k, v)

    def backward(res, c):
        dq, dk, dv = jax.vjp(lambda q, k, v: jax.nn.softmax(q @ k.T, axis=-1) @ v, *res)[1](c)
        return dq, dk, dv * jnp.abs(dv)

    attend.defvjp(forward, backward)
    q, k, v = (jax.random.normal(key, (4, 4)) for key in jax.random.split(jax.random.key(1), 3))
    report = check_vjp(attend, q, k, v, raise_=False)
    assert [leaf.verdict for leaf in report.leaves.values()] == ["PASS", "PASS", "FAIL"]
    assert report.starts_at is None and "dW" not in str(report)


def test_a_wrong_gradient_of_a_loop_that_cannot_be_reversed():
    def loss(p):
        def body(carry):
            return jnp.sin(carry[0]) * p, carry[1] + 1

        return jnp.sum(jax.lax.while_loop(lambda carry: carry[1] < 3, body, (p, 0))[0])

    right = jax.jacfwd(loss)
    assert check_gradients(loss, right, X).passed
    assert check_gradients(loss, lambda p: 2 * right(p), X, raise_=False).verdict == "FAIL"


def test_what_is_wrong_in_float64_is_not_called_exact_there():
    p, x = (jnp.asarray(ROWS[i], jnp.float16) for i in (1, 2))

    def loss(p, x):
        return jnp.sum(jnp.sin(x * p).astype(jnp.float32)) * 1e-6

    def right(p, x):
        return (jnp.cos(x * p) * x * jnp.float16(1e-6)).astype(p.dtype)

    report = check_gradients(loss, lambda p, x: right(p, x) * jnp.float16(1.5), p, x, raise_=False)
    assert "exact in float64" not in str(report)


def test_argnums_from_the_back():
    def loss(a, b):
        return jnp.sum(jnp.sin(a) * b)

    assert check_gradients(loss, jax.grad(loss, -1), X, ROWS[1], argnums=-1).passed
    with pytest.raises(ValueError, match="argnums=2: loss was given 2 arguments"):
        check_gradients(loss, jax.grad(loss), X, X, argnums=2)


def test_an_empty_array_that_takes_no_part_hides_nothing():
    def loss(p, extra):
        return jnp.sum(p**2)

    assert check_gradients(loss, lambda p, extra: 4 * p, X, jnp.zeros(0), raise_=False).verdict == "FAIL"


def test_a_name_in_trainable_that_is_no_leaf():
    params = {"W": X, "b": X}
    with pytest.raises(ValueError, match=r"trainable names 'b', but the leaves are \['W'\], \['b'\]"):
        check_gradients(
            lambda p: jnp.sum(p["W"]), jax.grad(lambda p: jnp.sum(p["W"])), params, trainable=["['W']", "b"]
        )


def test_a_loss_that_spoils_its_inputs_leaves_the_caller_s_alone():
    x = np.ones(3)

    def loss(p, x):
        x *= 2
        return float(np.sum(p["w"] ** 2 * x))

    check_gradients(loss, lambda p, x: {"w": 2 * p["w"] * x}, {"w": np.arange(3.0)}, x, raise_=False)
    np.testing.assert_array_equal(x, np.ones(3))


def test_a_bare_array_has_a_name():
    with pytest.raises(AssertionError, match="the gradient has no leaf params; it has"):
        check_gradients(lambda p: jnp.sum(p**2), jax.value_and_grad(lambda p: jnp.sum(p**2)), X)


def test_a_leaf_without_entries_is_not_judged():
    params = {"W": X, "none": jnp.zeros((0, 2))}
    report = check_gradients(lambda p: jnp.sum(p["W"] ** 2), lambda p: {"W": 2 * p["W"], "none": p["none"]}, params)
    assert report.passed and report.leaves["['none']"].verdict == "EMPTY"
    empty = {"none": jnp.zeros((0, 2))}
    report = check_gradients(lambda p: jnp.sum(p["none"]), lambda p: p, empty, raise_="fail")
    assert report.verdict == "INCONCLUSIVE"


doubled = jax.custom_vjp(lambda x: x * 2)
doubled.defvjp(lambda x: (x * 2, None), lambda _, c: (c * 3,))


def test_the_code_that_repeats_a_check_of_a_rule_runs(capsys):
    doubled.__name__ = doubled.__qualname__ = "doubled"
    doubled.__module__ = __name__
    report = check_vjp(doubled, X, raise_=False)
    exec(compile(report.reproduce(), "again", "exec"), {})
    said = capsys.readouterr().out
    assert said.startswith("FAIL") and "x: a factor 1.5 on every entry" in said


LABELS = np.arange(6) % 3  # NumPy's int64: in JAX's programs int32


def classified(W, X, labels):
    """Loss and accuracy."""
    Z = W @ X
    kept = jax.nn.one_hot(labels, 3, axis=0)
    return -jnp.mean(jnp.sum(kept * jax.nn.log_softmax(Z, 0), 0)), jnp.mean(
        (jnp.argmax(Z, 0) == labels).astype(Z.dtype)
    )


@pytest.mark.parametrize(
    ("witnesses", "wrap"),
    slow_but([("full", "plain"), ("auto", "jit")], product(["auto", "full"], ["plain", "jit"])),
)
def test_an_accuracy_beside_the_loss_and_labels_of_numpy_are_no_trouble(witnesses, wrap):
    W = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    right = jax.grad(classified, has_aux=True)
    loss = jax.jit(classified) if wrap == "jit" else classified
    for factor in (np.float32(1), np.float32(2)):
        report = check_gradients(
            loss,
            lambda *a, k=factor: k * right(*a)[0],
            W,
            ROWS.T,
            LABELS,
            has_aux=True,
            witnesses=witnesses,
            raise_=False,
        )
        assert report.verdict == ("PASS" if factor == 1 else "FAIL"), str(report)
        assert not any("crashed" in note for note in report.notes), report.notes

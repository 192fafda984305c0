"""order=2: the derivative of a gradient or of a rule, beside differences of jax.grad in float64."""

import functools
import inspect
import json
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnet
from jaxnet.verify import GradientInconclusive, GradientMismatch, check_gradients, check_vjp
from tests.marks import DTYPES, float64_is_slow, slow_but

RNG = np.random.default_rng(0)
X = np.linspace(-1.5, 2.0, 6)


def with_rule(f, forward, backward):
    ruled = jax.custom_vjp(f)
    ruled.defvjp(forward, backward)
    return ruled


def with_jvp(f, slope):
    ruled = jax.custom_jvp(f)
    ruled.defjvp(lambda primals, tangents: (f(*primals), slope(*primals) * tangents[0]))
    return ruled


# ---- the oracle ------------------------------------------------------------------------------------------------------
@functools.cache
def wrong_derivatives(name):
    """For which primals, or the cotangent, the rule's derivative is not that of the gradient, by differences."""
    f, plain = RULES[name]
    with jax.enable_x64(True):
        primals = primals_of(plain, np.float64)
        inputs = [*map(jnp.asarray, primals), jnp.asarray(RNG.normal(size=np.shape(plain(*primals))))]
        steps = [RNG.normal(size=np.shape(x)) for x in primals]
        varied = tuple(range(len(primals)))

        def slope(function, *inputs):
            *x, c = inputs
            gradient = jax.grad(lambda *x: jnp.sum(c * function(*x)), varied)(*x)
            return sum(jnp.sum(v * g) for v, g in zip(steps, gradient, strict=True))

        names = [*"xyz"[: len(primals)], "cotangent"]
        found = jax.grad(lambda *inputs: slope(f, *inputs), tuple(range(len(inputs))))(*inputs)
        true = [differences(lambda *inputs: slope(plain, *inputs), inputs, k) for k in range(len(inputs))]
        return {f"{name}, order 2" for name, d, t in zip(names, found, true, strict=True) if not close(d, t)}


def primals_of(plain, dtype):
    return [X.astype(dtype), np.cos(3 * X).astype(dtype)][: len(inspect.signature(plain).parameters)]


def differences(slope, inputs, k, step=1e-5):
    """The central differences of a slope for each entry of an input."""
    steps = step * jnp.eye(inputs[k].size).reshape(-1, *inputs[k].shape)
    run = jax.jit(jax.vmap(lambda h: slope(*inputs[:k], inputs[k] + h, *inputs[k + 1 :])))
    return ((run(steps) - run(-steps)) / (2 * step)).reshape(inputs[k].shape)


def close(one, other):
    return np.linalg.norm(one - other) <= 1e-7 * (1 + np.linalg.norm(other))


# ---- rules, all of them right at the first order ------------------------------------------------------------------
def swish(x):
    return x / (1 + jnp.exp(-x))


def slope_of_swish(x, by=lambda s: s):
    s = by(1 / (1 + jnp.exp(-x)))
    return s * (1 + x * (1 - s))


doubled = with_rule(jnp.cos, lambda x: (jnp.cos(x), x), lambda x, c: (-2 * c * jnp.sin(x),))
RULES = {
    "plain": (with_rule(swish, lambda x: (swish(x), x), lambda x, c: (c * slope_of_swish(x),)), swish),
    "a saved output": (with_rule(jnp.exp, lambda x: (y := jnp.exp(x), y), lambda y, c: (c * y,)), jnp.exp),
    "a linear function": (with_rule(lambda x: 3 * x, lambda x: (3 * x, None), lambda _, c: (3 * c,)), lambda x: 3 * x),
    "relu": (
        with_rule(jax.nn.relu, lambda x: (jax.nn.relu(x), x > 0), lambda on, c: (jnp.where(on, c, 0),)),
        jax.nn.relu,
    ),
    "a product": (
        with_rule(
            lambda x, y: x * y**2, lambda x, y: (x * y**2, (x, y)), lambda p, c: (c * p[1] ** 2, c * 2 * p[0] * p[1])
        ),
        lambda x, y: x * y**2,
    ),
    "custom_jvp": (with_jvp(jnp.sin, jnp.cos), jnp.sin),
    "a residual is stopped": (
        with_rule(jnp.sin, lambda x: (jnp.sin(x), lax.stop_gradient(x)), lambda x, c: (c * jnp.cos(x),)),
        jnp.sin,
    ),
    "half of bwd is stopped": (
        with_rule(swish, lambda x: (swish(x), x), lambda x, c: (c * slope_of_swish(x, lax.stop_gradient),)),
        swish,
    ),
    "the cotangent is stopped": (
        with_rule(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, c: (lax.stop_gradient(c) * jnp.cos(x),)),
        jnp.sin,
    ),
    "numbers for a residual": (
        with_rule(jnp.sin, lambda x: (jnp.sin(x), None), lambda _, c: (c * np.cos(X).astype(c.dtype),)),
        jnp.sin,
    ),
    "a wrong rule in bwd": (with_rule(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, c: (c * doubled(x),)), jnp.sin),
    "one primal of two": (
        with_rule(
            lambda x, y: x * y**2,
            lambda x, y: (x * y**2, (x, lax.stop_gradient(y))),
            lambda p, c: (c * p[1] ** 2, c * 2 * p[0] * p[1]),
        ),
        lambda x, y: x * y**2,
    ),
    "custom_jvp, stopped": (with_jvp(jnp.sin, lambda x: lax.stop_gradient(jnp.cos(x))), jnp.sin),
    "a kinked zero that is none": (
        with_rule(lambda x: 3 * x, lambda x: (3 * x, x), lambda x, c: (3 * c * x / lax.stop_gradient(x),)),
        lambda x: 3 * x,
    ),
}
WRONG = list(RULES)[6:]


IN_FLOAT64 = ("plain", "relu", "a residual is stopped", "one primal of two")


@pytest.mark.parametrize(
    ("dtype", "name"),
    slow_but([*(("float32", n) for n in RULES), *(("float64", n) for n in IN_FLOAT64)], product(DTYPES, RULES)),
    indirect=["dtype"],
)
def test_a_rule_is_refused_where_its_derivative_is_another_than_the_gradients(name, dtype):
    f, plain = RULES[name]
    primals, expected = primals_of(plain, dtype), wrong_derivatives(name)
    assert bool(expected) == (name in WRONG)
    report = check_vjp(f, *primals, order=2, raise_=False)
    failed = {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"}
    assert failed == expected and report.verdict == ("FAIL" if expected else "PASS"), str(report)


# ---- gradients of a network ----------------------------------------------------------------------------------------
def loss(params, A, Y):
    (W1, b1), (W2, b2) = params
    return jnp.mean((W2 @ jnp.tanh(W1 @ A + b1) + b2 - Y) ** 2)


def backward(params, A, Y, keep=lambda x: x, lib=jnp):
    (W1, b1), (W2, b2) = params
    A1 = lib.tanh(W1 @ A + b1)
    dZ2 = 2 * (W2 @ A1 + b2 - Y) / Y.size
    dZ1 = W2.T @ dZ2 * keep(1 - A1**2)
    return [(dZ1 @ A.T, dZ1.sum(axis=1, keepdims=True)), (dZ2 @ A1.T, dZ2.sum(axis=1, keepdims=True))]


def network(dtype=np.float32):
    shapes = (4, 3), (4, 1), (2, 4), (2, 1), (3, 5), (2, 5)
    W1, b1, W2, b2, A, Y = (RNG.normal(size=shape).astype(dtype) for shape in shapes)
    return [(W1, b1), (W2, b2)], A, Y


@float64_is_slow
def test_hessian_products_of_a_backward_pass(dtype):
    wrong = jax.jit(functools.partial(backward, keep=lax.stop_gradient))
    assert check_gradients(loss, jax.jit(backward), *network(dtype), order=2).passed
    report = check_gradients(loss, wrong, *network(dtype), order=2, raise_=False)
    point = network(np.float64)
    with jax.enable_x64(True):
        steps = [[RNG.normal(size=x.shape) for x in layer] for layer in point[0]]
        product = lambda g: jax.jit(jax.grad(lambda p: inner(steps, g(p, *point[1:]))))(point[0])
        pairs = zip(jax.tree.leaves(product(wrong)), jax.tree.leaves(product(jax.grad(loss))), strict=True)
        expected = [not close(one, other) for one, other in pairs]
    second = [leaf.verdict == "FAIL" for path, leaf in report.leaves.items() if path.endswith(", order 2")]
    first = [leaf.verdict for path, leaf in report.leaves.items() if not path.endswith(", order 2")]
    assert second == expected and any(second) and first == ["PASS"] * 4, str(report)
    assert report.starts_at is None and "At the first order the gradient is right" in report.cause


def inner(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return sum(jnp.sum(a * b) for a, b in pairs)


def test_frozen_leaves_take_no_part():
    @jax.jit
    def second_layer(params, A, Y):
        return [jax.tree.map(lambda x: jnp.nan * x, params[0]), backward(params, A, Y)[1]]

    report = check_gradients(loss, second_layer, *network(), trainable=["[1]"], order=2)
    assert [path for path in report.leaves if "order" in path] == ["[1][0], order 2", "[1][1], order 2"]


@pytest.mark.slow
def test_the_rule_of_a_network(key):
    net = jaxnet.MLP((3, 4, 2), ("tanh", "softmax"))
    A = jax.random.normal(key, (3, 6))
    assert check_vjp(jaxnet.apply(net), jaxnet.init(net, key), A, order=2).passed


@pytest.mark.parametrize("seed", [0, pytest.param(range(1, 100), marks=pytest.mark.slow)])
def test_no_right_derivative_is_refused(seed):
    verdicts = set()
    for k in np.ravel(seed):
        rng, key = np.random.default_rng(k), int(k)
        x = rng.normal(size=(3, 4)).astype(np.float32)
        f = with_rule(lambda x: jax.nn.softmax(x), lambda x: (y := jax.nn.softmax(x), y), of_softmax)
        verdicts.add(check_vjp(f, x, order=2, key=key, raise_=False).verdict)
    assert verdicts == {"PASS"}


def of_softmax(y, c):
    return (y * (c - jnp.sum(c * y, axis=-1, keepdims=True)),)


# ---- what has no derivative ----------------------------------------------------------------------------------------
def by_callback(x):
    return jax.pure_callback(np.cos, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def sine(slope, f=jnp.sin):
    return with_rule(f, lambda x: (f(x), x), lambda x, c: (c * slope(x),))


hidden = jax.custom_vjp(lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x))
hidden.defvjp(lambda x: (hidden(x), x), lambda x, c: (c * jnp.cos(x),))
POINT = X.astype(np.float32)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (
            lambda **o: check_vjp(sine(by_callback), POINT, **o),
            "the rule under test cannot be differentiated (ValueError",
        ),
        (lambda **o: check_vjp(sine(lambda x: np.cos(np.asarray(x))), POINT, **o), "rule under test cannot be"),
        (
            lambda **o: check_vjp(hidden, POINT, **o),
            "f cannot be differentiated twice (its inside is hidden: pass reference=",
        ),
        (
            lambda **o: check_gradients(loss, functools.partial(backward, lib=np), *network(), **o),
            "the gradient under test cannot be differentiated (Tracer",
        ),
        (lambda **o: check_gradients(lambda x: float(np.sum(x**2)), lambda x: 2 * x, POINT, **o), "loss cannot be"),
    ],
    ids=["a callback in bwd", "NumPy in bwd", "a callback in f", "a gradient in NumPy", "a loss in NumPy"],
)
def test_what_cannot_be_differentiated_is_inconclusive_and_says_so(check, said):
    assert check().passed
    with pytest.raises(GradientInconclusive) as caught:
        check(order=2)
    report = caught.value.report
    assert "Order 2 was not judged: " in report.cause and said in report.cause, str(report)
    assert not any("crashed" in note for note in report.notes) and "order 2" not in "".join(report.leaves)


def test_a_reference_knows_the_derivative_of_what_is_hidden():
    assert check_vjp(hidden, POINT, reference=jnp.sin, order=2).passed


def test_a_rule_that_is_stated_has_the_derivative_of_what_is_stated():
    def rule(x, c):
        return c / (1 + jnp.abs(x)) ** 2

    right, stopped = (
        with_rule(lambda x: jnp.round(x), lambda x: (jnp.round(x), x), lambda x, c, keep=keep: (rule(keep(x), c),))
        for keep in (lambda x: x, lax.stop_gradient)
    )
    assert check_vjp(right, POINT, intended=rule, order=2).passed
    report = check_vjp(stopped, POINT, intended=rule, order=2, raise_=False)
    assert report.leaves["x, order 2"].verdict == "FAIL" and report.leaves["cotangent, order 2"].verdict == "PASS"


def test_a_rule_of_two_outputs_has_two_cotangents():
    f = with_rule(
        lambda x: {"a": jnp.sin(x), "b": (x**2, 3)},
        lambda x: ({"a": jnp.sin(x), "b": (x**2, 3)}, x),
        lambda x, c: (c["a"] * jnp.cos(x) + 2 * x * lax.stop_gradient(c["b"][0]),),
    )
    leaves = check_vjp(f, POINT, order=2, raise_=False).leaves
    assert {path: leaf.verdict for path, leaf in leaves.items()} == {
        "x": "PASS", "x, order 2": "PASS", "cotangent[0], order 2": "PASS", "cotangent[1], order 2": "FAIL",
    }  # fmt: skip


# ---- the report ----------------------------------------------------------------------------------------------------
def test_the_report_says_that_it_is_the_second_order():
    f = RULES["a residual is stopped"][0]
    with pytest.raises(GradientMismatch, match="x, order 2") as caught:
        check_vjp(f, POINT, order=2)
    report = caught.value.report
    assert report.cause.startswith("At the first order the rule is right, its own derivative is wrong. x, order 2: ")
    assert report.cause.endswith("behind stop_gradient, or was made a number, is constant to autodiff.")
    told = json.loads(report.to_json())
    assert told["verdict"] == "FAIL" and told["leaves"]["x, order 2"]["verdict"] == "FAIL"
    assert told["leaves"]["x"]["verdict"] == "PASS" and "order 2" in report.to_markdown()
    assert any(w.name.endswith(", order 2") for w in report.witnesses)
    assert all(len(line) <= 80 for line in str(report).splitlines())
    assert "order=2" in report.reproduce() and "order" not in check_vjp(f, POINT).reproduce()


def test_zero_all_around_is_right_and_no_declaration():
    leaf = check_vjp(RULES["relu"][0], POINT, order=2).leaves["x, order 2"]
    assert leaf.verdict == "PASS" and leaf.norm == 0 and not leaf.expected_zero and "all around the point" in leaf.note


def test_a_wrong_gradient_is_not_asked_for_its_derivative():
    report = check_gradients(lambda x: jnp.sum(x**3), lambda x: 2 * x**2, POINT, order=2, raise_=False)
    assert list(report.leaves) == [""] and "order 2 was not asked: the first order is wrong" in report.notes


def test_a_function_without_a_rule_proves_nothing_at_either_order():
    assert check_vjp(jnp.sin, POINT, order=2, raise_=False).verdict == "INCONCLUSIVE"


def test_a_declared_accuracy_holds_for_the_derivative_too():
    def nearly(keep):
        return with_rule(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, c: (c * jnp.cos(keep(x)) * (1 + 1e-4 * x),))

    assert check_vjp(nearly(lambda x: x), POINT, accuracy=1e-2, order=2).passed
    report = check_vjp(nearly(lax.stop_gradient), POINT, accuracy=1e-2, order=2, raise_=False)
    assert report.leaves["x"].verdict == "PASS" and report.leaves["x, order 2"].verdict == "FAIL"

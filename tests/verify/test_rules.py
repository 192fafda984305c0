"""check_vjp on the parts of a rule: the value that fwd returns, arguments that are never differentiated, linearity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_vjp
from tests.marks import slow_but

RNG = np.random.default_rng(0)
X, W, B = (RNG.normal(size=shape).astype(np.float32) for shape in ((8, 5), (5, 4), (4,)))


def with_forward(f, forward):
    """f with the rule that fwd is `forward` and bwd is right."""
    ruled = jax.custom_vjp(f)
    ruled.defvjp(lambda *a: (forward(*a), a), lambda a, c: jax.vjp(f, *a)[1](c))
    return ruled


# ---- the value of fwd: another one -------------------------------------------------------------------------------
def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def dense(X, W, b):
    return X @ W + b


def log_sum(z):
    return z.max() + jnp.log(jnp.sum(jnp.exp(z - z.max())))


OTHERS = {
    "5 % more": (jnp.sin, lambda x: 1.05 * jnp.sin(x), (X,), "is 1.05 times what the function gives"),
    "0.1 % more": (jnp.sin, lambda x: 1.001 * jnp.sin(x), (X,), "is 1.001 times what the function gives"),
    "an approximation": (gelu, functools.partial(jax.nn.gelu, approximate=True), (X,), "is off by"),
    "a small bias left out": (dense, lambda X, W, b: X @ W, (X, W, 0.03 * B), "is off by"),
    "half a term too much": (log_sum, lambda z: log_sum(z) + jnp.log1p(0.5 * jnp.exp(-log_sum(z))), (X[0],), "off by"),
    "NaN": (jnp.sin, lambda x: jnp.sin(x).at[2, 1].set(jnp.nan), (X,), "nan in place of"),
    "the second output": (lambda x: (x, jnp.cos(x)), lambda x: (x, jnp.cos(x) + 1e-3), (X,), "output 1 is off by"),
    "bfloat16": (jnp.exp, lambda x: 1.25 * jnp.exp(x), (X.astype(jnp.bfloat16),), "is 1.2"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_forward_of_another_value_is_refused(name):
    f, forward, primals, said = OTHERS[name]
    report = check_vjp(with_forward(f, forward), *primals, raise_=False)
    assert report.verdict == "FAIL" and said in report.cause and "fwd does not return f(x)" in report.cause, str(report)
    assert all(leaf.verdict == "PASS" for leaf in report.leaves.values()), str(report)


def test_a_wrong_backward_and_a_wrong_forward_are_both_reported():
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (1.05 * jnp.sin(x), x), lambda x, c: (2 * c * jnp.cos(x),))
    cause = check_vjp(f, X, raise_=False).cause
    assert "a factor 2 on every entry" in cause and "1.05 times what the function gives" in cause


# ---- the value of fwd: the same by another formula ---------------------------------------------------------------
def attention(q, k, v):
    return jax.nn.softmax(q @ k.T / q.shape[1] ** 0.5, axis=1) @ v


def flash_attention(q, k, v, chunk=16):
    """Keys a chunk at a time, with a running maximum and sum."""
    n, d = q.shape

    def step(carry, kv):
        top, total, out = carry
        scores = q @ kv[0].T / d**0.5
        higher = jnp.maximum(top, scores.max(axis=1))
        p, shrink = jnp.exp(scores - higher[:, None]), jnp.exp(top - higher)
        return (higher, total * shrink + p.sum(axis=1), out * shrink[:, None] + p @ kv[1]), None

    start = jnp.full(n, -jnp.inf, q.dtype), jnp.zeros(n, q.dtype), jnp.zeros_like(q)
    chunks = k.reshape(-1, chunk, d), v.reshape(-1, chunk, d)
    (_, total, out), _ = jax.lax.scan(step, start, chunks)
    return out / total[:, None]


def in_dtype(f, dtype):
    """f computed in another precision."""
    return lambda *a: f(*[x.astype(dtype) for x in a]).astype(a[0].dtype)


def one_by_one(z):
    """logsumexp in one pass."""

    def step(carry, z):
        top, total = carry
        higher = jnp.maximum(top, z)
        return (higher, total * jnp.exp(top - higher) + jnp.exp(z - higher)), None

    (top, total), _ = jax.lax.scan(step, (z[0], jnp.ones_like(z[0])), z[1:])
    return top + jnp.log(total)


def spread(x):
    return jnp.mean((x - x.mean()) ** 2)


Q, K, V = (RNG.normal(size=(32, 8)).astype(np.float32) for _ in range(3))
COARSE = [x.astype(jnp.bfloat16) for x in (Q, K, V)]
SAME = {
    "flash attention": (attention, flash_attention, (Q, K, V)),
    "flash attention, bfloat16": (attention, flash_attention, COARSE),
    "flash attention, float16": (attention, flash_attention, [x.astype(np.float16) for x in (Q, K, V)]),
    "float32 for bfloat16": (attention, in_dtype(flash_attention, np.float32), COARSE),
    "logsumexp in one pass": (log_sum, one_by_one, (10 * Q[:, 0],)),
    "a naive softmax, rounded to bfloat16": (
        lambda z: (jnp.exp(z) / jnp.exp(z).sum()).astype(jnp.bfloat16),
        lambda z: jax.nn.softmax(z).astype(jnp.bfloat16),
        (Q[0],),
    ),
    "jit": (attention, jax.jit(attention), (Q, K, V)),
}


SLOW = ("flash attention", "flash attention, bfloat16", "flash attention, float16", "float32 for bfloat16")


@pytest.mark.parametrize("name", slow_but([name for name in SAME if name not in SLOW], SAME))
def test_a_forward_by_another_formula_passes(name):
    f, forward, primals = SAME[name]
    report = check_vjp(with_forward(f, forward), *primals)
    assert report.passed and not report.notes, str(report)


@pytest.mark.parametrize(
    ("f", "forward", "primals"),
    [
        (attention, in_dtype(attention, jnp.bfloat16), (Q, K, V)),
        (spread, lambda x: jnp.mean(x * x) - x.mean() ** 2, (X + 300,)),
    ],
)
def test_a_forward_that_loses_digits_on_purpose_passes_with_a_note_of_how_many(f, forward, primals):
    report = check_vjp(with_forward(f, forward), *primals)
    assert report.passed and "output 0 of fwd is off by" in report.notes[0], str(report)
    assert "loses digits as written" in report.notes[0]


# ---- arguments that are never differentiated ---------------------------------------------------------------------
def leaky(factor=1.0):
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def leaky(x, a):
        return jnp.where(x > 0, x, a * x)

    leaky.defvjp(lambda x, a: (leaky(x, a), x), lambda a, x, c: (factor * jnp.where(x > 0, c, a * c),))
    return leaky


def applied(factor=1.0):
    @functools.partial(jax.custom_jvp, nondiff_argnums=(0, 2))
    def applied(g, x, mode):
        return g(x).sum() if mode == "sum" else g(x).mean()

    @applied.defjvp
    def _(g, mode, primals, tangents):
        return jax.jvp(lambda x: factor * applied.fun(g, x, mode), primals, tangents)

    return applied


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_what_a_rule_never_differentiates_is_held(factor):
    verdict = "PASS" if factor == 1 else "FAIL"
    for options in ({}, {"argnums": 0}, {"argnums": (-2,)}):
        report = check_vjp(leaky(factor), X, 0.1, raise_=False, **options)
        assert report.verdict == verdict and len(report.leaves) == 1, str(report)
        assert report.skipped == {"argument 1": "float"}
    with pytest.raises(ValueError, match="never differentiates"):
        check_vjp(leaky(factor), X, 0.1, argnums=1)


def test_a_custom_jvp_holds_a_function_and_a_string():
    f = applied()
    assert check_vjp(f, jnp.sin, X, "mean").skipped == {"argument 0": "PjitFunction", "argument 2": "str"}
    assert check_vjp(functools.partial(f, jnp.sin), X, "sum").passed
    assert check_vjp(lambda g, x, mode: f(g, x, mode), jnp.sin, X, "mean").passed


def test_the_code_that_repeats_a_check_imports_the_function_that_is_held():
    lines = check_vjp(applied(), jnp.sin, X, "mean").reproduce().splitlines()
    assert "from jax.numpy import sin as params" in lines
    compile("\n".join(lines), "again", "exec")


def test_a_tree_with_a_string_and_a_whole_number_among_its_leaves():
    f = with_forward(jnp.sin, jnp.sin)
    report = check_vjp(
        lambda p, n: f(p["x"]) ** n if p["mode"] == "power" else p["k"], {"x": X, "mode": "power", "k": 3}, 2
    )
    assert report.passed and report.skipped["[0]['mode']"] == "str"


# ---- linearity ---------------------------------------------------------------------------------------------------
def product(backward):
    f = jax.custom_vjp(lambda a, b: a @ b)
    f.defvjp(lambda a, b: (a @ b, (a, b)), lambda saved, c: backward(*saved, c))
    return f


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
    assert report.cause.startswith("The rule in [1] ignores its cotangent"), str(report)
    assert "[0]: a factor 2 on every entry." in report.cause


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
    assert said is None or f"For the cotangent drawn here, [1]: {said}" in report.cause


def test_a_wrong_rule_that_is_linear_is_not_called_nonlinear():
    report = check_vjp(product(lambda a, b, c: (c @ b.T, 2 * a.T @ c)), X, W, raise_=False)
    assert report.cause == "[1]: a factor 2 on every entry."

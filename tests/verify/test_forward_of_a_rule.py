"""The value that fwd returns: of another function it is refused, by another formula it passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_vjp
from jaxnet.verify.errors import UnreadableError
from tests.marks import slow_but
from tests.verify.rules import RNG, B, W, X, with_forward


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


def test_a_fwd_of_another_shape_is_named():
    doubled = jax.custom_vjp(lambda x: x**2)
    doubled.defvjp(lambda x: (jnp.tile(x, 2) ** 2, x), lambda x, g: (2 * x * g[:4],))
    with pytest.raises(UnreadableError, match=r"\[\(8,\)\] where it is differentiated.*\(4,\).* the fwd"):
        check_vjp(doubled, np.arange(1, 5, dtype=np.float32))


def test_primals_that_hold_no_floating_number_are_listed_as_skipped():
    power = jax.custom_vjp(lambda x, n, names: x**n)
    power.defvjp(lambda x, n, names: (x**n, (x, n)), lambda r, g: (r[1] * r[0] ** (r[1] - 1) * g, None, None))
    report = check_vjp(power, np.arange(1, 4, dtype=np.float32), 3, {"keep": np.array([True])})
    assert list(report.skipped) == ["n", "names['keep']"] and "bool" in report.skipped["names['keep']"]


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

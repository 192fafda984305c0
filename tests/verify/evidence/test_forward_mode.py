"""Losses that only forward mode can differentiate: a while_loop's number of steps is not known beforehand."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients, check_vjp
from tests.marks import DTYPES, slow_but

RNG = np.random.default_rng(0)
P = {"A": RNG.normal(size=(4, 4)).astype(np.float32) / 2, "b": np.full(4, 0.1, np.float32), "t": np.float32(0.7)}
X = RNG.normal(size=(4, 6)).astype(np.float32)


def iterated(loop):
    """The mean of what five steps of tanh(A c) t + b make of each example."""

    def loss(p, X):
        return jnp.mean(loop(lambda c: jnp.tanh(p["A"] @ c) * p["t"] + p["b"][:, None], X) ** 2)

    return loss


def unknown_steps(step, c):
    return jax.lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, step(s[1])), (0, c))[1]


loss = iterated(unknown_steps)
right = jax.jit(jax.grad(iterated(lambda step, c: jax.lax.fori_loop(0, 5, lambda i, c: step(c), c))))
WRONG = {
    "zero": (lambda g, m: g | {"b": 0 * g["b"]}, "['b']: the leaf is zero"),
    "transposed": (lambda g, m: g | {"A": g["A"].T}, "['A']: transposed"),
    "sign": (lambda g, m: jax.tree.map(jnp.negative, g), "Every leaf: the sign is wrong"),
    "doubled": (lambda g, m: g | {"A": 2 * g["A"]}, "['A']: a factor 2 on every entry"),
    "not a mean": (lambda g, m: jax.tree.map(lambda x: m * x, g), "Every leaf: 1/m is missing (factor m = 6)"),
    "a single entry": (lambda g, m: g | {"t": g["t"] / 8}, "['t']: a factor 0.125."),
    "another leaf": (lambda g, m: g | {"b": g["A"][:, 0]}, None),
}


def test_a_right_gradient_passes():
    assert check_gradients(loss, right, P, X).passed


@pytest.mark.parametrize("name", WRONG)
def test_the_cause_is_named(name):
    wrong, cause = WRONG[name]
    report = check_gradients(loss, lambda p, X: wrong(right(p, X), X.shape[1]), P, X, raise_=False)
    assert report.verdict == "FAIL"
    assert (report.cause or "").startswith(cause or "") and bool(report.cause) == bool(cause), str(report)


def test_swapped_leaves_and_complex_ones():
    p = {"u": P["A"][0], "v": P["A"][1], "w": (P["A"][2] + 1j * P["A"][3]).astype(np.complex64)}

    def with_loop(loop):
        def loss(p):
            c = loop(lambda c: jnp.sin(p["u"] * c) + p["v"] ** 2, p["u"])
            return jnp.sum(c) + jnp.sum(jnp.abs(p["w"] - c) ** 2)

        return loss

    loss, known = with_loop(unknown_steps), jax.grad(with_loop(lambda step, c: step(step(step(step(step(c)))))))
    assert check_gradients(loss, known, p).passed
    swapped = lambda p: {"u": known(p)["v"], "v": known(p)["u"], "w": known(p)["w"]}
    assert "swapped" in check_gradients(loss, swapped, p, raise_=False).cause
    conjugate = lambda p: known(p) | {"w": jnp.conj(known(p)["w"])}
    assert "complex conjugate" in check_gradients(loss, conjugate, p, raise_=False).cause


def test_leaves_too_large_for_forward_mode_are_judged_by_slopes():
    p = {"A": RNG.normal(size=(30, 30)).astype(np.float32) / 6, "b": np.full(30, 0.1, np.float32), "t": np.float32(0.7)}
    x = RNG.normal(size=(30, 6)).astype(np.float32)

    def wrong(p, X):
        g = right(p, X)
        return g | {"A": 2 * g["A"], "b": 0 * g["b"]}

    report = check_gradients(loss, wrong, p, x, raise_=False)
    assert report.verdict == "FAIL", str(report)
    assert report.cause == ("['A']: a factor 2 on every entry. ['b']: the leaf is zero: frozen, or never filled in."), (
        str(report)
    )


def fixed_point(W, x):
    """z = tanh(W z + x), iterated until it stays."""

    def step(state):
        z = jnp.tanh(W @ state[0] + x)
        return z, jnp.max(jnp.abs(z - state[0])), state[2] + 1

    moving = lambda state: (state[1] > jnp.finfo(x.dtype).eps) & (state[2] < 200)
    return jax.lax.while_loop(moving, step, (jnp.zeros_like(x), jnp.asarray(1.0, x.dtype), 0))[0]


def implicit(factor):
    """The fixed point with the rule of the implicit function theorem: u = (I - D W)⁻ᵀ c, D = 1 - z²."""

    def bwd(kept, c):
        W, z = kept
        slope = 1 - z * z
        u = factor * slope * jnp.linalg.solve((jnp.eye(z.size, dtype=z.dtype) - slope[:, None] * W).T, c)
        return jnp.outer(u, z), u

    ruled = jax.custom_vjp(fixed_point)
    ruled.defvjp(lambda W, x: (fixed_point(W, x), (W, fixed_point(W, x))), bwd)
    return ruled


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "seed"),
    slow_but([("float32", 4)], product(DTYPES, [1, 4, 5, 6, 7, 11])),
    indirect=["dtype"],
)
def test_what_a_loop_of_unknown_length_loses_is_noise_in_forward_mode_too(dtype, seed):
    """The last step of an iteration is where rounding puts it: autodiff in its own dtype shows that."""
    rng = np.random.default_rng(seed)
    W, x = (0.3 * rng.normal(size=(3, 3))).astype(dtype), rng.normal(size=3).astype(dtype)
    report = check_vjp(implicit(1.0), W, x, raise_=False)
    assert report.verdict == "PASS" and "forward mode" in str(report), str(report)
    report = check_vjp(implicit(1.01), W, x, raise_=False)
    assert report.verdict == "FAIL" and "a factor 1.01" in report.cause, str(report)

"""Ties that no share is kept for, in loops, branches and orders: right gradients never fail, gross errors do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.marks import slow_but
from tests.verify.verdicts import verdict

W = np.array([1.5, -0.5, 2.0, 1.0], np.float32)
ZEROS, EQUAL, TWO = np.zeros(4, np.float32), np.ones(4, np.float32), np.array([1, 1, 3, 3], np.float32)
INTO = np.array([0, 0, 1, 1])


def in_a_scan(x):
    return lax.scan(lambda total, w_x: (total + w_x[0] * jax.nn.relu(w_x[1]), None), 0.0, (W, x))[0]


def through_a_scan(x):
    """Each relu of the last: at zero all four are at their kink."""
    return lax.scan(lambda z, w_x: (jax.nn.relu(z + w_x[1]), w_x[0] * z), 0.0, (W, x))[1].sum()


def in_a_while_loop(x):
    def add(state):
        k, total = state
        return k + 1, total + jnp.asarray(W)[k] * jnp.maximum(x[k], 0)

    return lax.while_loop(lambda state: state[0] < 4, add, (0, jnp.float32(0)))[1]


def in_a_branch(x):
    return lax.cond(x.sum() < 1, lambda x: jnp.sum(W * jnp.abs(x)), lambda x: jnp.sum(x), x)


def sorted_(x):
    return jnp.sum(W * jnp.sort(x))


def top(x):
    return jnp.sum(W[:2] * lax.top_k(x, 2)[0])


def scattered(x):
    return jnp.sum(W[:2] * jnp.zeros(2).at[INTO].max(x))


def running(x):
    return jnp.sum(W * lax.cummax(x))


def pooled(x):
    return jnp.sum(W[:2] * lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"))


# Loss, point, right gradients, wrong ones.
CASES = {
    "scan": (in_a_scan, ZEROS, [0 * W, 0.5 * W, W], [2 * W, -W]),
    "scan in a row": (through_a_scan, ZEROS, [0 * W], [9 * W, -9 * W]),
    "while": (in_a_while_loop, ZEROS, [0 * W, 0.5 * W, W], [2 * W, -W]),
    "cond": (in_a_branch, ZEROS, [0 * W, W, -W, 0.3 * W], [2 * W, -3 * W]),
    "sort": (sorted_, TWO, [W, W[[1, 0, 2, 3]], W[[1, 0, 3, 2]], [0.5, 0.5, 1.5, 1.5]], [2 * W, -W, W[[2, 3, 0, 1]]]),
    "top_k": (
        top,
        TWO,
        [[0, 0, 1.5, -0.5], [0, 0, -0.5, 1.5], [0, 0, 0.5, 0.5]],
        [[1.5, -0.5, 0, 0], [0, 0, 1.5, 1.5]],
    ),
    "scatter": (
        scattered,
        TWO,
        [[1.5, 0, -0.5, 0], [0, 1.5, 0, -0.5], [0.75, 0.75, -0.25, -0.25]],
        [[1.5, 1.5, -0.5, -0.5], [-0.5, 0, 1.5, 0]],
    ),
    "cummax": (running, EQUAL, [[4, 0, 0, 0], [1.5, -0.5, 2, 1]], [[4, 4, 4, 4], [-4, 0, 0, 0]]),
    "max pool": (pooled, TWO, [[1.5, 0, -0.5, 0], [0, 1.5, 0, -0.5], [0.75, 0.75, -0.25, -0.25]], [[3, 0, -1, 0]]),
}


@pytest.mark.parametrize("name", slow_but(["scan", "scan in a row", "while", "cond", "scatter"], CASES))
def test_right_gradients_do_not_fail_and_gross_errors_do(name):
    loss, x, right, wrong = CASES[name]
    assert [verdict(loss, g, x) for g in right].count("FAIL") == 0
    assert [verdict(loss, g, x) for g in wrong] == ["FAIL"] * len(wrong)

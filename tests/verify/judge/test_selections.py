"""Whatever selects may select any of its equals: maxima, pooling, sorting, clipping, decisions."""

from itertools import cycle, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.marks import DTYPES, float64_is_slow, slow_but
from tests.verify.verdicts import verdict

WEIGHTS = np.array([1.5, -0.5, 2.0, -1.0, 0.7])


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID")


def weighted(y):
    return jnp.sum(jnp.asarray(WEIGHTS[: y.size], y.dtype) * y)


SELECTIONS = {  # loss, point, gradients that are right, gradients that are wrong
    "max pooling": (
        lambda x: weighted(pooled(x)),
        [1, 1, 0, 2, 3, 3],
        [[1.5, 0, 0, -0.5, 2, 0], [0, 1.5, 0, -0.5, 0, 2], [0.75, 0.75, 0, -0.5, 1, 1]],
        [[1.5, 1.5, 0, -0.5, 2, 2], [0, 0, 0, -0.5, 0, 0], [1.5, 0, -0.5, 0, 2, 0]],
    ),
    "segment_max": (
        lambda x: weighted(jax.ops.segment_max(x, jnp.array([0, 0, 1]), 2)),
        [1, 1, 1],
        [[1.5, 0, -0.5], [0, 1.5, -0.5], [0.75, 0.75, -0.5]],
        [[1.5, 1.5, -0.5], [0, 0, -0.5]],
    ),
    "sort": (
        lambda x: weighted(jnp.sort(x)),
        [1, 1, 2, 2, 2],
        [WEIGHTS, WEIGHTS[[1, 0, 4, 3, 2]], [0.5, 0.5, 1.7 / 3, 1.7 / 3, 1.7 / 3]],
        [WEIGHTS[::-1], 1.1 * WEIGHTS, 0 * WEIGHTS],
    ),
    "argsort": (
        lambda x: weighted(x[jnp.argsort(x)]),
        [1, 1, 2],
        [[1.5, -0.5, 2.0], [-0.5, 1.5, 2.0]],
        [[1.5, 1.5, 2.0], [2.0, -0.5, 1.5]],
    ),
    "top_k": (
        lambda x: jnp.sum(lax.top_k(x, 2)[0]),
        [1, 1, 1, 0],
        [[1, 1, 0, 0], [0, 1, 1, 0], [2 / 3, 2 / 3, 2 / 3, 0]],
        [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1]],
    ),
    "cummax": (
        lambda x: jnp.sum(lax.cummax(x)),
        [1, 1, 1],
        [[3, 0, 0], [1, 1, 1], [1, 2, 0]],
        [[0, 0, 3], [1, 1, 0]],
    ),
    "median": (
        jnp.median,
        [0, 1, 1, 1, 5],
        [[0, 1, 0, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0]],
        [[0, 1, 1, 1, 0], [0.2] * 5],
    ),
    "clip": (
        lambda x: weighted(jnp.clip(x, -1, 1)),
        [-1, 1, 0.5, 2],
        [[0, 0, 2, 0], [1.5, -0.5, 2, 0], [0.75, -0.25, 2, 0]],
        [[1.6, 0, 2, 0], [0, 0, 0, 0], [0, 0.5, 2, 0]],
    ),
    "a kink at 1 + 0": (lambda x: weighted(jnp.minimum(1 + x, 1)), [0, 0], [[0, 0], [1.5, -0.5]], [[2, 0], [0, 0.5]]),
    "leaky relu": (
        lambda x: weighted(jax.nn.leaky_relu(x, 0.1)),
        [0, 0, 1],
        [[0.15, -0.05, 2], [1.5, -0.5, 2], [0.5, -0.3, 2]],
        [[0, 0, 2], [1.6, -0.5, 2]],
    ),
    "abs": (lambda x: weighted(jnp.abs(x)), [0, 0], [[0, 0], [1.5, -0.5], [-1.5, 0.5]], [[1.6, 0], [0, 0.6]]),
}


@pytest.mark.parametrize(
    ("dtype", "name"), slow_but(zip(cycle(DTYPES), SELECTIONS), product(DTYPES, SELECTIONS)), indirect=["dtype"]
)
def test_whatever_selects_may_select_any_of_its_equals(dtype, name):
    loss, x, right, wrong = SELECTIONS[name]
    x = np.array(x, dtype)
    for g in right:
        assert verdict(loss, g, x) == "PASS", g
    for g in wrong:
        assert verdict(loss, g, x) == "FAIL", g


def test_a_tie_that_is_none_in_float64():
    """0.1 + 0.2 is 0.3 in float32, and half a rounding away from it in float64."""
    x = np.array([0.1, 0.2, 0.3], np.float32)
    loss = lambda x: jnp.maximum(x[0] + x[1], x[2])
    for g in ([1, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]):
        assert verdict(loss, g, x) == "PASS"
    for g in ([1, 1, 1], [0, 0, 0], [1, 0, 0]):
        assert verdict(loss, g, x) != "PASS"


def test_what_the_parameters_do_not_move_is_no_kink():
    x = np.array([1, 0, -1], np.float32)  # a mask made of data: > and >= are two losses
    loss = lambda w: jnp.sum(jnp.where(x > 0, w, 2 * w))
    w = np.array([0.5, 1.0, 2.0], np.float32)
    assert verdict(loss, [1, 2, 2], w) == "PASS"
    assert verdict(loss, [1, 1, 2], w) == "FAIL"


@pytest.mark.slow
@float64_is_slow
def test_a_decision_may_be_carried_through_a_loop(dtype):
    """A gate decided in each step for the next one, from a bias at its kink; nothing else moves it."""

    def loss(b):
        def step(carry, w):
            open_, total = carry
            return (b > 0, total + w * jnp.where(open_, b, 0.1 * b)), None

        (_, total), _ = lax.scan(step, (b > 0, jnp.zeros_like(b)), jnp.asarray(WEIGHTS, b.dtype))
        return jnp.sum(total)

    b, all_of = np.zeros(3, dtype), WEIGHTS.sum()
    for slope in (0.1, 0.3, 1.0):
        assert verdict(loss, [slope * all_of] * 3, b) == "PASS"
    for slope in (0.0, 1.2):
        assert verdict(loss, [slope * all_of] * 3, b) == "FAIL"

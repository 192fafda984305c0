"""Implicit rules over a search: autodiff of its steps is not the derivative of what is found, and values judge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnet.verify import check_vjp
from jaxnet.verify.program.dataflow import searches
from tests.marks import slow_but

A = np.array([1, 2, 5, 9], np.float32)


def narrowed(a, ends):
    """One step towards the root of x³ + x = a between two ends."""
    low, high = ends
    middle = (low + high) / 2
    below = middle**3 + middle < a
    return jnp.where(below, middle, low), jnp.where(below, high, middle)


def ends(a):
    return jnp.zeros_like(a), jnp.full_like(a, 10)


def in_a_loop(a):
    return lax.fori_loop(0, 60, lambda _, two: narrowed(a, two), ends(a))[0]


def step_by_step(a):
    two = ends(a)
    for _ in range(45):
        two = narrowed(a, two)
    return two[0]


def until_they_meet(a):
    return lax.while_loop(lambda two: jnp.any(two[1] - two[0] > 1e-6), lambda two: narrowed(a, two), ends(a))[0]


def with_rule(root, factor=1.0):
    ruled = jax.custom_vjp(root)
    ruled.defvjp(lambda a: (x := ruled(a), x), lambda x, c: ((factor * c / (3 * x**2 + 1)).astype(c.dtype),))
    return ruled


@pytest.mark.parametrize("dtype", slow_but([np.float32], [np.float32, jnp.bfloat16]))
def test_the_right_rule_passes(dtype):
    report = check_vjp(with_rule(in_a_loop), A.astype(dtype))
    assert any("searches for a value" in note for note in report.notes), str(report)


@pytest.mark.parametrize(
    ("factor", "said"), [(2.0, "a factor 2 on every entry"), (-1.0, "the sign is wrong"), (0.0, "the leaf is zero")]
)
def test_a_wrong_rule_is_refused_and_named(factor, said):
    report = check_vjp(with_rule(in_a_loop, factor), A, raise_=False)
    assert report.verdict == "FAIL" and said in str(report), str(report)


def test_a_declared_accuracy_holds():
    rule = with_rule(in_a_loop, 1.0005)
    assert check_vjp(rule, A, accuracy=1e-3)
    assert check_vjp(rule, A, accuracy=1e-4, raise_=False).verdict == "FAIL"


def test_a_large_leaf_and_a_rule_inside_of_a_function():
    many = np.linspace(1, 9, 300, dtype=np.float32)
    assert check_vjp(with_rule(in_a_loop), many)
    assert check_vjp(lambda a: a * with_rule(in_a_loop)(a), A)
    report = check_vjp(lambda a: a * with_rule(in_a_loop, 0.0)(a), A, raise_=False)  # as autodiff has it
    assert report.verdict == "FAIL", str(report)


LAYERS = {
    "relus": lambda x: jax.nn.relu(jax.nn.relu(x)),
    "a recurrent net": lambda x: lax.scan(lambda h, y: (jax.nn.relu(h + y), h), x, jnp.ones((3, 4)))[0],
    "a mask of places": lambda x: lax.fori_loop(0, 9, lambda i, c: jnp.where(jnp.arange(4) < i, c, 2 * c), x),
    "a sort": lambda x: jnp.sort(x),
}


@pytest.mark.parametrize("root", [in_a_loop, step_by_step, until_they_meet])
def test_what_is_a_search(root):
    assert searches(jax.make_jaxpr(root)(A))


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_no_search(name):
    assert not searches(jax.make_jaxpr(LAYERS[name])(A))


def test_where_no_search_is_seen_a_refuted_autodiff_judges_nothing():
    """Equal numbers: 5 a everywhere, and autodiff follows the branch at 2, which is constant."""
    five = lambda a: jnp.where(a == 2, 10, 5 * a)
    for factor, verdict, said in ((5.0, "PASS", "autodiff of the loss is wrong"), (10.0, "FAIL", "a factor 2")):
        ruled = jax.custom_vjp(five)
        ruled.defvjp(lambda a: (five(a), None), lambda _, c, factor=factor: (factor * c,))
        report = check_vjp(ruled, np.full(2, 2, np.float32), raise_=False)
        assert report.verdict == verdict and said in str(report), str(report)


def test_a_loop_that_never_ends_beside_the_point_is_left_there():
    """x = a x (1 − x) has one solution below 3, and two that follow each other above: the loop goes round for ever."""

    def solved(a):
        moves = lambda s: jnp.abs(s[0] - s[1]) > 1e-5
        return lax.while_loop(moves, lambda s: (a * s[0] * (1 - s[0]), s[0]), (0.5 + 0 * a, 0 * a))[0]

    ruled = jax.custom_vjp(solved)
    ruled.defvjp(lambda a: (solved(a), a), lambda a, c: (c / a**2,))  # x = 1 − 1 / a
    assert check_vjp(ruled, np.float32(2.97), accuracy=0.1)  # the solver is off by 1 % there
    assert check_vjp(ruled, np.float32(2.97), raise_=False).verdict == "FAIL"

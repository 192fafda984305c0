"""Branches that the inputs never take are named, wherever the selection stands and however often it is passed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxnet.verify import check_gradients
from jaxnet.verify.evidence.coverage import branches_not_taken
from jaxnet.verify.problem.gradient import Manual
from jaxnet.verify.problem.loss import Problem, quiet

X = np.linspace(0.5, 4.0, 8, dtype=np.float32)
MIXED = X * np.array([1, -1] * 4, np.float32)


def doubled(v):
    return jnp.where(v > 0, 2 * v, v)


def doubled_in_a_branch(v):
    return lax.cond(v > 0, lambda v: 2 * v, lambda v: v, v)


PLACE = f"test_coverage.py:{doubled.__code__.co_firstlineno + 1}"


def by_vjp(f):
    ruled = jax.custom_vjp(f)
    ruled.defvjp(lambda x: (f(x), None), lambda _, c: (c,))
    return ruled


def by_jvp(f):
    ruled = jax.custom_jvp(f)
    ruled.defjvps(lambda t, y, x: t)
    return ruled


def over_devices(f):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(f, mesh=mesh, in_specs=P("d"), out_specs=P("d"))


def scanned(f):
    return lambda x: lax.scan(lambda c, v: (c + f(v), f(v)), 0 * x[0], x)[1]


def in_a_while_loop(f):
    def loop(x):
        return lax.while_loop(lambda s: s[0] < x.size, lambda s: (s[0] + 1, s[1].at[s[0]].set(f(x[s[0]]))), (0, x))[1]

    return loop


def in_a_condition(f):
    """The condition is asked once more than the body: of the last number, at which the loop ends."""

    def loop(x):
        go_on = lambda s: (f(x[s]) != 2 * x[-1]) & (s < x.size - 1)
        return x * lax.while_loop(go_on, lambda s: s + 1, 0)

    return loop


WITHIN = {
    "bare": lambda f: f,
    "jit in jit": lambda f: jax.jit(lambda x: jax.jit(f)(x) + 1),
    "scan": scanned,
    "a scan of scans": lambda f: (
        lambda x: lax.scan(lambda c, row: (c, scanned(f)(row)), 0, x.reshape(4, 2))[1].reshape(8)
    ),
    "fori_loop": lambda f: lambda x: lax.fori_loop(0, x.size, lambda k, y: y.at[k].set(f(x[k])), x),
    "a loop that is not counted": lambda f: (
        lambda x: lax.fori_loop(0, jnp.sum(jnp.isfinite(x)), lambda k, y: y.at[k].set(f(x[k])), x)
    ),
    "while": in_a_while_loop,
    "a while's condition": in_a_condition,
    "map": lambda f: lambda x: lax.map(f, x),
    "vmap": jax.vmap,
    "cond": lambda f: lambda x: lax.cond(jnp.isfinite(x[0]), f, jnp.sin, x),
    "switch": lambda f: lambda x: lax.switch(jnp.int32(1), [jnp.sin, f, jnp.cos], x),
    "remat": jax.checkpoint,
    "custom_vjp": by_vjp,
    "custom_jvp": by_jvp,
    "shard_map": over_devices,
    "a scan in a rule in shard_map": lambda f: over_devices(by_vjp(scanned(f))),
}


def hints(gradient, x, at=PLACE):
    """What is said of one line."""
    with quiet():
        problem = Problem.of(lambda x: jnp.sum(x), x, (), 0, False)
        manual = Manual(problem, gradient)
        assert manual.trace() is not None
        said = branches_not_taken(problem, manual)
    return [text for text in said if at in text]


@pytest.mark.parametrize("name", WITHIN)
def test_a_side_that_no_turn_takes_is_named_and_one_that_any_takes_is_not(name):
    gradient = WITHIN[name](doubled)
    assert hints(gradient, MIXED) == []
    for x, side in ((X, "false"), (-X, "true")):
        assert hints(gradient, x) == [
            f"the branch at {PLACE} was never {side} on these inputs; a bug in it cannot be seen"
        ]


@pytest.mark.parametrize("name", ["map", "scan", "fori_loop", "vmap", "a scan of scans"])
def test_a_branch_is_counted_as_a_selection_is(name):
    place = f"test_coverage.py:{doubled_in_a_branch.__code__.co_firstlineno + 1}"
    gradient = WITHIN[name](doubled_in_a_branch)
    assert hints(gradient, MIXED, place) == []
    for x, side in ((X, "false"), (-X, "true")):
        (text,) = hints(gradient, x, place)
        assert f"was never {side} on" in text


def test_what_is_in_a_branch_that_is_not_taken_is_never_reached():
    for gradient in (
        lambda x: lax.cond(x[0] > 99, doubled, jnp.sin, x),
        lambda x: lax.fori_loop(0, jnp.sum(x > 99), lambda k, y: doubled(y), x),
    ):
        (text,) = hints(gradient, X)
        assert "was never reached" in text


def test_each_branch_of_several_is_named_by_its_number():
    gradient = lambda x: lax.map(lambda v: lax.switch(v.astype(int) // 2, [jnp.sin, jnp.cos, jnp.tan, jnp.exp], v), x)
    place = f"test_coverage.py:{gradient.__code__.co_firstlineno}"
    (text,) = hints(gradient, X, place)
    assert "never number 3" in text


def test_selections_of_equal_shapes_are_told_apart_by_their_lines():
    def gradient(x):
        x = jnp.where(x > 0, x, 0)
        return jnp.where(x > -1, x, 0)

    first = gradient.__code__.co_firstlineno + 1
    assert hints(gradient, MIXED, f":{first} ") == []
    assert len(hints(gradient, MIXED, f":{first + 1} ")) == 1


def test_what_jaxs_own_functions_select_is_nobody_s_branch():
    def gradient(x):
        labels = jnp.array([0, 3, 1, 2])
        return jax.nn.softmax(x) + jax.nn.logsumexp(x) + jnp.logaddexp(x, 0) + jax.nn.leaky_relu(x) + x[labels].sum()

    assert hints(gradient, X, at="the branch") == []


def test_the_report_of_a_recurrent_loss_names_the_branch():
    def loss(x):
        return lax.scan(lambda c, v: (jnp.where(v > 0, c + v**2, c), None), jnp.zeros((), x.dtype), x)[0]

    line = f"test_coverage.py:{loss.__code__.co_firstlineno + 1}"
    report = check_gradients(loss, jax.grad(loss), X, witnesses="full")
    assert any(line in note and "never false" in note for note in report.notes), report.notes
    report = check_gradients(loss, jax.grad(loss), MIXED, witnesses="full")
    assert not any("never" in note for note in report.notes), report.notes


def test_loops_that_end_one_by_one_under_vmap_are_read_too():
    """Each number is halved until it is below one: their loop runs as long as any of them needs."""

    def loss(x):
        below_one = jax.vmap(lambda v: lax.while_loop(lambda v: v >= 1, lambda v: jnp.where(v > 9, v / 4, v / 2), v))
        return jnp.sum(below_one(x) ** 2)

    steps = np.ceil(np.log2(X + 1e-6)).clip(0)
    report = check_gradients(loss, lambda x: 2 * x / 4 ** steps.astype(np.float32), X, witnesses="full")
    assert report.passed and not any("crashed" in note for note in report.notes), str(report)

"""stop_gradient: what the author of a loss declared constant is constant for every witness."""

from itertools import cycle, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnet.verify import check_gradients, check_vjp
from jaxnet.verify.program.cache import program_of
from jaxnet.verify.program.jaxprs import JAX
from jaxnet.verify.program.rules import places_of_stops
from tests.marks import slow_but

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 4)).astype(np.float32)
X = RNG.normal(size=(4, 6)).astype(np.float32)


def distilled(stop):
    """Half of the target is the network's own output."""

    def loss(W, X):
        A = jnp.tanh(W @ X)
        return jnp.mean((A - 0.5 * stop(jnp.sin(A))) ** 2)

    return loss


def in_a_loop(stop):
    """A recurrence cut after each step."""

    def loss(W, X):
        step = lambda h, x: (0.5 * stop(h) + W @ x, jnp.sum(h**2))
        h, costs = lax.scan(step, jnp.zeros(3, W.dtype), X.T)
        return jnp.sum(costs) + jnp.sum(h)

    return loss


def straight_through(stop):
    """Rounded forwards, the identity backwards; without the stop, 0."""
    return lambda W, X: jnp.sum((W @ X + stop(jnp.round(W @ X) - W @ X)) ** 2)


def over_examples(stop):
    """A loss of one example, lifted."""
    one = lambda W, x: jnp.sum((W @ x - stop(jnp.tanh(W @ x))) ** 2)
    return lambda W, X: jnp.mean(jax.vmap(one, (None, 1))(W, X))


def jitted(stop):
    """The first, compiled."""
    return jax.jit(distilled(stop))


PROGRAMS = (distilled, in_a_loop, straight_through, over_examples, jitted)


@pytest.mark.parametrize(
    ("program", "witnesses"), slow_but(zip(PROGRAMS, cycle(["full", "auto"])), product(PROGRAMS, ["auto", "full"]))
)
def test_a_gradient_has_to_respect_the_stop(program, witnesses):
    loss = program(lax.stop_gradient)
    report = check_gradients(loss, jax.grad(loss), W, X, witnesses=witnesses)
    assert report.passed and not any("disagree" in note for note in report.notes), str(report)
    assert any("counts as constant" in note and "test_stops.py:" in note for note in report.notes)

    through = jax.grad(program(lambda x: x))
    report = check_gradients(loss, through, W, X, witnesses=witnesses, raise_=False)
    assert report.verdict == "FAIL" and "differentiates through stop_gradient" in report.cause, str(report)


def test_a_leaf_that_only_stopped_values_depend_on_has_no_gradient():
    def loss(p, X, stop=lax.stop_gradient):
        return jnp.mean((jnp.tanh(p["W"] @ X) - stop(jnp.tanh(p["target"] @ X))) ** 2)

    params = {"W": W, "target": W[::-1].copy()}
    assert check_gradients(loss, jax.grad(loss), params, X).passed
    through = jax.grad(lambda p, X: loss(p, X, lambda x: x))
    report = check_gradients(loss, through, params, X, raise_=False)
    assert [leaf.verdict for leaf in report.leaves.values()] == ["PASS", "FAIL"]  # W, target
    assert "through stop_gradient" in report.leaves["['target']"].cause


def test_jaxs_own_stops_are_none_of_the_authors():
    def loss(A, b):
        return jnp.sum(jnp.linalg.solve(A, b)) + jax.nn.logsumexp(b)

    A = np.eye(3, dtype=np.float32) + 0.1
    assert places_of_stops(jax.make_jaxpr(loss)(A, W[:, 0])) == []
    assert places_of_stops(jax.make_jaxpr(jax.vmap(jax.nn.logsumexp))(A)) == []
    assert check_gradients(loss, jax.grad(loss), A, W[:, 0], witnesses="full").passed
    mapped = jax.make_jaxpr(lambda W: jax.tree.map(lax.stop_gradient, {"W": W}))(W)
    assert len(places_of_stops(mapped)) == 1


def ruled(primal, derivative):
    """A function with a rule of its own."""
    f = jax.custom_vjp(primal)
    f.defvjp(lambda x: (primal(x), x), lambda x, c: (c * derivative(x),))
    return f


def reversed_gradient(stop):
    """Forwards the identity, backwards -0.3 times it."""
    return lambda x: 1.3 * stop(x) - 0.3 * x


RULED = {  # a primal, what its rule has to give, and what a rule gives that forgets the stop
    "reversal": (reversed_gradient, lambda x: -0.3, lambda x: 1.0),
    "a factor": (lambda stop: lambda x: x * stop(x), lambda x: x, lambda x: 2 * x),
    "in a loop": (
        lambda stop: lambda x: lax.scan(lambda c, _: (0.5 * c * stop(c), None), x, None, length=2)[0],
        lambda x: 0.5 * x * 0.25 * x**2,
        lambda x: 0.5 * x**3,
    ),
    "in a rule's primal": (
        lambda stop: lambda x: ruled(lambda x: x * stop(jnp.sin(x)), jnp.tan)(x),
        jnp.sin,
        lambda x: jnp.sin(x) + x * jnp.cos(x),
    ),
}


@pytest.mark.parametrize("witnesses", ["auto", "full"])
@pytest.mark.parametrize("name", RULED)
def test_a_stop_inside_of_a_rule_s_primal_is_constant_for_every_witness(name, witnesses):
    """A rule is checked against what its primal says: the primal is the place to say what counts as constant."""
    made, right, through = RULED[name]
    x = np.linspace(-1.0, 1.1, 5, dtype=np.float32)
    report = check_vjp(ruled(made(lax.stop_gradient), right), x, witnesses=witnesses)
    assert report.passed and not any("disagree" in note or "blame" in note for note in report.notes), str(report)
    report = check_vjp(ruled(made(lax.stop_gradient), through), x, witnesses=witnesses, raise_=False)
    assert report.verdict == "FAIL" and "differentiates through stop_gradient" in report.cause, str(report)


def test_a_right_batch_norm_with_stopped_running_statistics_passes_every_witness():
    """The running mean follows the batch's and is no part of the derivative; by a rule of its own, as it is written."""

    def normalised(X, mean):
        running = 0.9 * mean + 0.1 * lax.stop_gradient(jnp.mean(X, axis=1))
        centred = X - jnp.mean(X, axis=1, keepdims=True)
        return centred / jnp.sqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-3), running

    def backward(X, cotangents):
        c = cotangents[0]
        centred = X - jnp.mean(X, axis=1, keepdims=True)
        scale = 1 / jnp.sqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-3)
        y = centred * scale
        kept = c - jnp.mean(c, axis=1, keepdims=True) - y * jnp.mean(c * y, axis=1, keepdims=True)
        return scale * kept, 0.9 * cotangents[1]

    f = jax.custom_vjp(normalised)
    f.defvjp(lambda X, mean: (normalised(X, mean), X), backward)
    for witnesses in ("auto", "full"):
        report = check_vjp(f, X, np.zeros(4, np.float32), witnesses=witnesses)
        assert report.passed and not any("disagree" in note or "blame" in note for note in report.notes), str(report)


def test_equal_programs_whose_stops_are_not_the_same_authors_share_nothing():
    """One function, as if written by us and as if written by JAX."""
    text, names = "lambda x: (x * lax.stop_gradient(x)).sum()", {"lax": lax}
    ours, theirs = (
        jax.make_jaxpr(eval(compile(text, file, "eval"), names))(W) for file in (__file__, f"{JAX}numpy/own.py")
    )
    assert places_of_stops(ours) and not places_of_stops(theirs)
    assert program_of(ours) is not program_of(theirs)

"""Custom rules are found wherever they hide, replaced by their primal, and told from JAX's own."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import hijax
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir
from jax.sharding import PartitionSpec as P

from jaxnet.verify import check_gradients, check_vjp
from jaxnet.verify.program.interpreter import OWN, function
from jaxnet.verify.program.jaxprs import is_code_of_jax, registered_rules
from jaxnet.verify.program.rules import differentiated, rules_left_out
from tests.marks import slow_but

X = np.array([0.3, -0.2, 0.7, 1.1, -0.5, 0.9, -1.3, 0.1], np.float32)


def squared_tanh(factor):
    """tanh² with a rule that is off by a factor."""

    @jax.custom_vjp
    def f(x):
        return jnp.tanh(x) ** 2

    f.defvjp(lambda x: (f(x), x), lambda x, g: (factor * 2 * g * jnp.tanh(x) * (1 - jnp.tanh(x) ** 2),))
    return f


def in_shard_map(f):
    mesh = jax.make_mesh((len(jax.devices()),), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(f, mesh=mesh, in_specs=P("d"), out_specs=P("d"))


PLACES = {
    "bare": lambda f: f,
    "jit": jax.jit,
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, a: (c + f(a), f(a)), jnp.zeros((), x.dtype), x),
    "cond": lambda f: lambda x: jax.lax.cond(x[0] > 0, f, lambda x: x, x),
    "remat": jax.checkpoint,
    "vmap": jax.vmap,
    "shard_map": in_shard_map,
    "all at once": lambda f: jax.jit(jax.checkpoint(jax.vmap(lambda x: jax.lax.cond(x > -9, f, jnp.sin, x)))),
}


@pytest.mark.parametrize("place", slow_but([place for place in PLACES if place != "shard_map"], PLACES))
def test_a_wrong_rule_is_seen_inside(place):
    report = check_vjp(PLACES[place](squared_tanh(1.01)), X, raise_=False)
    assert report.verdict == "FAIL", str(report)
    assert any(name.startswith("f (test_strip.py:") for name in report.stripped)


@pytest.mark.parametrize("place", slow_but([place for place in PLACES if place != "shard_map"], PLACES))
def test_a_right_rule_passes_inside(place):
    assert check_vjp(PLACES[place](squared_tanh(1.0)), X)


def test_a_wrong_custom_jvp_is_seen():
    f = jax.custom_jvp(jnp.sin)
    f.defjvps(lambda t, ans, x: 1.01 * t * jnp.cos(x))
    report = check_vjp(f, X, raise_=False)
    assert report.verdict == "FAIL"
    assert any("test_strip.py" in name for name in report.stripped)


def test_a_rule_around_one_of_jaxs_own_functions_is_the_users():
    f = jax.custom_vjp(jax.nn.relu)
    f.defvjp(lambda x: (f(x), x), lambda x, g: (g,))
    assert check_vjp(f, X, raise_=False).verdict == "FAIL"


def test_jaxs_own_rules_are_kept():
    def loss(x):
        return jnp.sum(jax.nn.relu(x)) + jax.nn.logsumexp(x) + jnp.sum(jnp.logaddexp(x, 0.0))

    closed = jax.make_jaxpr(loss)(X)
    assert rules_left_out(closed) == []
    at_zero = jax.grad(lambda x: function(closed, OWN)(x)[0])(0 * X)
    np.testing.assert_allclose(at_zero, jax.grad(loss)(0 * X), rtol=1e-6)  # relu'(0) = 0 survives


def test_a_rule_over_a_while_loop_is_checked_by_forward_mode():
    @jax.custom_vjp
    def root(a):
        return jax.lax.while_loop(lambda c: jnp.abs(c * c - a) > 1e-6 * a, lambda c: (c + a / c) / 2, a)

    root.defvjp(lambda a: (root(a), root(a)), lambda r, g: (g / (2 * r),))
    assert check_vjp(root, jnp.float32(3.0))


def test_a_rule_that_ignores_its_cotangent_is_named():
    @jax.custom_vjp
    def f(x):
        return jnp.tanh(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (1 - jnp.tanh(x) ** 2,))
    assert "cotangent" in check_vjp(f, X, raise_=False).cause


def test_what_hides_its_inside_asks_for_a_reference():
    def loss(w):
        return jax.pure_callback(lambda w: np.asarray(np.sum(np.sin(w)), w.dtype), jax.ShapeDtypeStruct((), w.dtype), w)

    report = check_gradients(loss, jnp.cos, jnp.asarray(X))
    assert any("reference=" in note and "pure_callback" in note for note in report.notes)
    referred = check_gradients(loss, jnp.cos, jnp.asarray(X), reference=lambda w: jnp.sum(jnp.sin(w)))
    assert referred.leaves[""].ulps[2] < 4
    with pytest.raises(ValueError, match="another function"):
        check_gradients(loss, jnp.cos, jnp.asarray(X), reference=lambda w: jnp.sum(jnp.cos(w)))


def linear_solve(factor):
    """A⁻¹ x with a transposed solve that is off by a factor."""
    A = np.eye(8, dtype=np.float32) + 0.1 * np.outer(X, X[::-1])

    def f(x):
        return jax.lax.custom_linear_solve(
            lambda y: A @ y,
            x,
            lambda _, b: jnp.linalg.solve(A, b),
            lambda _, b: factor * jnp.linalg.solve(A.T, b),
        )

    return f


def root(factor):
    """y³ = x + 3 with a tangent solve that is off by a factor."""
    return lambda x: jax.lax.custom_root(
        lambda y: y**3 - x - 3,
        jnp.ones_like(x),
        lambda f, _: jnp.cbrt(x + 3),
        lambda g, y: factor * y / g(jnp.ones_like(y)),
    )


def linear_call(factor):
    """3 x with a transpose that is off by a factor."""
    return lambda x: jax.custom_derivatives.linear_call(lambda _, x: 3 * x, lambda _, c: factor * 3 * c, (), x)


def primitive(name, does):
    """A primitive that somebody made, without a derivative yet."""
    made = Primitive(name)
    made.def_impl(does)
    made.def_abstract_eval(lambda x: x)
    mlir.register_lowering(made, mlir.lower_fun(does, multiple_results=False))
    return made


def self_made(factor):
    """sin as a primitive, with a derivative that is off by a factor."""
    made = primitive("made", jnp.sin)
    ad.defjvp(made, lambda t, x: factor * t * jnp.cos(x))
    return made.bind


def self_made_linear(factor):
    """sin and then the identity as a primitive, with a transpose that is off by a factor."""
    made = primitive("same", lambda x: x)
    ad.deflinear2(made, lambda c, _: [factor * c])
    return lambda x: made.bind(jnp.sin(x))


HighPrimitive: type = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive  # the second in older versions


class Sine(HighPrimitive):
    """sin with a derivative that is off by a factor, as one object that holds the value and the rules."""

    def __init__(self, factor, aval):
        self.in_avals, self.out_aval, self.params = (aval,), aval, {"factor": factor}
        super().__init__()

    def expand(self, x):
        return jnp.sin(x)

    def vjp_fwd(self, nonzero, x):
        return self(x), x

    def vjp_bwd_retval(self, x, c):
        return (self.factor * c * jnp.cos(x),)


def test_a_rule_of_a_high_primitive_is_stripped():
    def loss(factor):
        return lambda x: jnp.sum(jnp.cos(Sine(factor, jax.typeof(x))(x)))

    assert check_gradients(loss(1.01), jax.grad(loss(1.0)), X).passed
    report = check_gradients(loss(1.01), jax.grad(loss(1.01)), X, raise_=False)
    assert report.verdict == "FAIL" and report.stripped[0].startswith("Sine (test_strip.py:"), str(report)


RULES = {
    "custom_linear_solve": linear_solve,
    "custom_root": root,
    "<lambda>": linear_call,
    "made": self_made,
    "same": self_made_linear,
}


@pytest.mark.parametrize("name", slow_but([name for name in RULES if name != "custom_linear_solve"], RULES))
def test_whatever_gives_a_derivative_of_the_users_is_no_judge_of_it(name):
    right, wrong = RULES[name](1.0), RULES[name](1.01)
    assert check_vjp(right, X).passed
    report = check_vjp(wrong, X, raise_=False)
    assert report.verdict == "FAIL", str(report)
    assert any(rule.startswith(name) and "test_strip.py:" in rule for rule in report.stripped), report.stripped

    def loss(f):
        return lambda x: jnp.sum(jnp.sin(jax.jit(f)(x)))

    assert check_gradients(loss(wrong), jax.grad(loss(wrong)), X, raise_=False).verdict == "FAIL"
    assert check_gradients(loss(wrong), jax.grad(loss(right)), X).passed
    referred = check_gradients(loss(wrong), jax.grad(loss(right)), X, reference=loss(right))
    assert referred.passed


def test_a_rule_that_cannot_be_replaced_asks_for_a_reference():
    report = check_vjp(root(1.0), X)
    assert any("custom_root (test_strip.py:" in note and "reference=" in note for note in report.notes)


def test_the_solves_of_jax_itself_are_trusted():
    A = np.eye(8, dtype=np.float32) + 0.1 * np.outer(X, X)

    def loss(b):
        solved = jnp.linalg.solve(A, b), jax.scipy.sparse.linalg.cg(lambda x: A @ x, b)[0]
        return sum(jnp.sum(jnp.sin(x)) for x in solved)

    report = check_gradients(loss, jax.grad(loss), X)
    assert report.passed and not report.stripped and not report.notes


def test_every_primitive_of_jax_is_jaxs_own():
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "jax"]
    named = {id(value) for module in modules for value in vars(module).values() if isinstance(value, Primitive)}
    tables = ad.primitive_jvps, ad.primitive_transposes  # other libraries register their own primitives here
    known = {made for table in tables for made in table if id(made) in named}
    assert len(known) > 100
    assert [made.name for made in known if not all(map(is_code_of_jax, registered_rules(made)))] == []


def test_the_factors_that_a_solve_of_the_users_stops_decide_nothing():
    """Stopped factors of a solve are no constants to the equation: values alone cannot tell what was meant."""

    def loss(A):
        factors = jax.scipy.linalg.lu_factor(jax.lax.stop_gradient(A))
        solve = lambda _, b: jax.scipy.linalg.lu_solve(factors, b)
        back = lambda _, b: jax.scipy.linalg.lu_solve(factors, b, trans=1)
        return jnp.sum(jnp.sin(jax.lax.custom_linear_solve(lambda y: A @ y, jnp.asarray(X), solve, back)))

    A = np.eye(8, dtype=np.float32) + 0.1 * np.outer(X, X[::-1])
    assert check_gradients(loss, jax.grad(loss), A, raise_=False).verdict == "INCONCLUSIVE"


def test_what_only_reaches_the_loss_through_a_stop_has_no_part_in_its_derivative():
    def loss(x):
        unused = jnp.min(x)  # noqa: F841
        return jnp.sum(jnp.sin(x) * jax.lax.stop_gradient(jnp.max(x))) + jax.jit(jnp.prod)(x)

    names = {equation.primitive.name for equation in differentiated(jax.make_jaxpr(loss)(X))}
    assert {"sin", "mul", "reduce_prod"} <= names and not names & {"reduce_max", "reduce_min"}

"""Custom rules are found wherever they hide, replaced by their primal, and told from JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxnet.verify import check_gradients, check_vjp
from jaxnet.verify.interpret import Reader

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


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_rule_is_seen_inside(place):
    report = check_vjp(PLACES[place](squared_tanh(1.01)), X, raise_=False)
    assert report.verdict == "FAIL", str(report)
    assert any(name.startswith("f (test_strip.py:") for name in report.stripped)


@pytest.mark.parametrize("place", PLACES)
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
    reader = Reader()
    jax.grad(lambda x: reader.function(closed)(x)[0])(X)
    assert reader.stripped == []
    at_zero = jax.grad(lambda x: Reader().function(closed)(x)[0])(0 * X)
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

"""A rule that had no part in what was compared is not passed."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxnet.verify import check_vjp

bad, good, flat = jax.custom_vjp(jnp.sin), jax.custom_vjp(jnp.cos), jax.custom_vjp(jnp.floor)
bad.defvjp(lambda x: (jnp.sin(x), x), lambda x, c: (7 * c,))
good.defvjp(lambda x: (jnp.cos(x), x), lambda x, c: (-jnp.sin(x) * c,))
flat.defvjp(lambda x: (jnp.floor(x), None), lambda _, c: (None,))
IDLE = {
    "a branch": lambda x: lax.cond(x[0] > 5, bad, jnp.cos, x),
    "an output dropped": lambda x: (bad(x), jnp.cos(x))[1],
    "a factor 0": lambda x: 0 * bad(x) + jnp.cos(x),
    "a mask": lambda x: jnp.where(x > 5, bad(x), jnp.cos(x)),
    "no turn of a loop": lambda x: lax.fori_loop(0, 0, lambda _, y: bad(y), x) + jnp.cos(x),
    "before what is constant": lambda x: x + jnp.round(bad(x)),
    "what is stopped": lambda x: x * lax.stop_gradient(bad(x)),
}
ACTIVE = {
    "a branch": lambda x: lax.cond(x[0] > 5, jnp.sin, good, x),
    "turns of a loop": lambda x: lax.fori_loop(0, 3, lambda _, y: good(y), x),
    "one entry": lambda x: jnp.where(x == x[1], good(x), x),
    "rightly 0": lambda x: x + flat(x),
    "behind what is rightly 0": lambda x: x + good(flat(x)),
    "lifted": jax.vmap(jax.jit(good)),
    "a while loop": lambda x: good(x) + lax.stop_gradient(lax.while_loop(lambda y: y[0] < 9, lambda y: y + 1, x)),
}


@pytest.mark.parametrize("name", IDLE)
def test_a_rule_that_has_no_part_is_not_passed(name):
    report = check_vjp(IDLE[name], jnp.arange(1.0, 4.0), raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "has no part in the derivative here" in str(report), str(report)


@pytest.mark.parametrize("name", ACTIVE)
def test_a_rule_that_has_a_part_is(name):
    report = check_vjp(ACTIVE[name], jnp.arange(1.0, 4.0))
    assert not any("no part" in note for note in report.notes), report.notes


def test_of_two_rules_the_idle_one_is_named():
    report = check_vjp(lambda x: good(x) + IDLE["a mask"](x), jnp.arange(1.0, 4.0))
    assert [note.split(" (")[0] for note in report.notes if "no part" in note] == ["sin"], report.notes

"""A mistake of the verifier itself is told; what the user's functions refuse is not one."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp

from jaxnet.verify.manual import Manual
from jaxnet.verify.trouble import tolerated


def troubles_of(act):
    problem = SimpleNamespace(troubles=[])
    with tolerated(problem, "a step"):
        act()
    return problem.troubles


def test_an_error_of_the_users_is_no_crash():
    assert troubles_of(lambda: {}["missing"]) == []


def test_a_refusal_of_jax_is_no_crash():
    assert troubles_of(lambda: jax.grad(jnp.sin)(1)) == []


def test_our_own_mistake_is_a_crash_with_its_place():
    (text,) = troubles_of(lambda: Manual.eager(None))
    assert text.startswith("crashed: a step (AttributeError") and "manual.py:" in text

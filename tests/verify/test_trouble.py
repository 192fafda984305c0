"""A mistake of the verifier itself is told; what the user's functions refuse is not one."""

from types import FunctionType, SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxnet.verify import check_gradients, witnesses
from jaxnet.verify.manual import Manual
from jaxnet.verify.trouble import tolerated


@pytest.fixture
def mistakes_are_raised():
    """Here they are told, as users see them."""


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


def test_a_name_that_is_not_defined_is_no_refusal(monkeypatch):
    """A witness with such a line once fell silent."""

    def broken(self, seed=0, shake=0.0):
        return undefined  # noqa: F821

    code = broken.__code__.replace(co_filename=witnesses.__file__)  # as if it stood there
    monkeypatch.setattr(witnesses.Problem, "reverse", FunctionType(code, {}, "reverse", broken.__defaults__))
    report = check_gradients(lambda x: jnp.sum(x**2), lambda x: 2 * x, jnp.ones(3), raise_=False)
    assert any(text.startswith("crashed: reverse autodiff (NameError") for text in report.notes), report.notes

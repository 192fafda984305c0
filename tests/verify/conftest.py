"""No mistake of the verifier itself can pass for an honest "cannot"."""

import jax
import numpy as np
import pytest

from jaxnet.verify import errors


class Mistake(BaseException):
    """What no `except Exception` swallows."""


@pytest.fixture(autouse=True)
def mistakes_are_raised(monkeypatch):
    """Raises what a report would only tell: an error in a line of the verifier's own."""
    told = errors.mistake

    def raised(error, what):
        text = told(error, what)
        if text:
            raise Mistake(text) from error

    monkeypatch.setattr(errors, "mistake", raised)


@pytest.fixture(autouse=True)
def same_draws(request):
    """What a test draws from its module's RNG does not depend on the tests that ran before."""
    generator = getattr(request.module, "RNG", None)
    if generator is not None:
        generator.bit_generator.state = np.random.default_rng(20261128).bit_generator.state


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """One precision, and the other."""
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)

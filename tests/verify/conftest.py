"""No mistake of the verifier itself can pass for an honest "cannot"."""

import jax
import numpy as np
import pytest

from jaxnet.verify import trouble


class Mistake(BaseException):
    """What no `except Exception` swallows."""


@pytest.fixture(autouse=True)
def mistakes_are_raised(monkeypatch):
    """Raises what a report would only tell: an error in a line of the verifier's own."""
    told = trouble.mistake

    def raised(error, what):
        text = told(error, what)
        if text:
            raise Mistake(text) from error

    monkeypatch.setattr(trouble, "mistake", raised)


def slow_but(fast, cases):
    """The cases of a parametrisation, all but the `fast` ones marked slow; a tuple is spread."""
    cases, fast = list(cases), list(fast)
    assert all(case in cases for case in fast), fast
    parts = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*part, marks=() if case in fast else pytest.mark.slow)
        for case, part in zip(cases, parts, strict=True)
    ]


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """One precision, and the other."""
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


DTYPES = ("float32", "float64")
float64_is_slow = pytest.mark.parametrize("dtype", slow_but(["float32"], DTYPES), indirect=True)
float32_is_slow = pytest.mark.parametrize("dtype", slow_but(["float64"], DTYPES), indirect=True)

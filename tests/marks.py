"""Which cases of a parametrisation are slow: the README's test command leaves those out, CI runs them too."""

import pytest


def slow_but(fast, cases):
    """The cases of a parametrisation, all but the `fast` ones marked slow; a tuple is spread."""
    cases, fast = list(cases), list(fast)
    assert all(case in cases for case in fast), fast
    parts = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*part, marks=() if case in fast else pytest.mark.slow)
        for case, part in zip(cases, parts, strict=True)
    ]


DTYPES = ("float32", "float64")  # of the fixture `dtype`
float64_is_slow = pytest.mark.parametrize("dtype", slow_but(["float32"], DTYPES), indirect=True)
float32_is_slow = pytest.mark.parametrize("dtype", slow_but(["float64"], DTYPES), indirect=True)

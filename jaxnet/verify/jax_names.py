"""The names of JAX outside of its stable API: these alone let the verifier read a program.

They move between versions of JAX. One that has moved costs what needs it, and is named when that is asked for; it never
costs the import of jaxnet.
"""

import importlib
from typing import TYPE_CHECKING

import jax


class _Missing(type):
    """The class that stands for a name that this JAX does not have: it is refused on use."""

    def __instancecheck__(cls, instance):
        raise ImportError(_refusal(cls.__name__))

    def __call__(cls, *args, **kwargs):
        raise ImportError(_refusal(cls.__name__))


def _found(module: str, name: str):
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return _Missing(f"{module}.{name}", (), {})


def _refusal(name: str) -> str:
    return (
        f"the verifier needs {name}, which jax {jax.__version__} does not have: use a version of jax that jaxnet's "
        "pyproject.toml allows, or a newer jaxnet."
    )


if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, get_opaque_trace_state
else:
    ClosedJaxpr, Jaxpr, Literal, get_opaque_trace_state = (
        _found("jax.extend.core", name) for name in ("ClosedJaxpr", "Jaxpr", "Literal", "get_opaque_trace_state")
    )
_TABLES = [
    _found("jax.interpreters.ad", name)
    for name in ("primitive_jvps", "primitive_transposes", "primitive_linearizations")  # the last: some versions
]
RULES = [table for table in _TABLES if not isinstance(table, _Missing)]  # the derivatives of primitives, by primitive
_RULES_MISSING = [table.__name__ for table in _TABLES[:2] if isinstance(table, _Missing)]


def require():
    """Raises ImportError if the verifier cannot read a program at all."""
    for name in (ClosedJaxpr, Jaxpr, Literal):
        if isinstance(name, _Missing):
            raise ImportError(_refusal(name.__name__))


def tells_traces_apart() -> bool:
    """Whether `get_opaque_trace_state` is there."""
    return not isinstance(get_opaque_trace_state, _Missing)


def features_lost() -> list[str]:
    """What the verifier cannot do with this JAX, a sentence each, for every report."""
    lost = [
        f"jax {jax.__version__} has no {name}: a derivative registered for a primitive of your own is taken for JAX's"
        for name in _RULES_MISSING
    ]
    if not tells_traces_apart():
        lost.append(
            f"jax {jax.__version__} has no {get_opaque_trace_state.__name__}: where a formula cancels is not named"
        )
    return lost

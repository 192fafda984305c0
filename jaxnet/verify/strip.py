"""Whose rule is it? Telling a user's custom derivative from JAX's own, and what hides its inside.

`jax.grad` of a loss that contains the user's custom rule compares the bug with itself; so the user's rules are taken
out. JAX's own (relu at 0, logaddexp in the tails) are deliberate and stay.
"""

import os

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

JAX = os.path.dirname(jax.__file__) + os.sep
HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Operations whose inside is not a jaxpr of ordinary operations: a rule around them cannot be replaced by its primal.
OPAQUE = frozenset(
    {
        "pallas_call",
        "pure_callback",
        "io_callback",
        "ffi_call",
        "custom_partitioning",
        "tpu_custom_call",
        "triton_kernel_call",
    }
)


def is_custom_rule(equation) -> bool:
    """Whether an equation calls a function with a custom derivative."""
    return equation.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call"))


def primal_of(equation) -> ClosedJaxpr:
    """The function itself, without its rule."""
    for name in ("call_jaxpr", "fun_jaxpr"):  # the second in older versions
        if name in equation.params:
            found = equation.params[name]
            return found if isinstance(found, ClosedJaxpr) else ClosedJaxpr(found, ())
    raise TypeError(f"no primal among the parameters of {equation.primitive.name}: {sorted(equation.params)}")


def rule_name(equation) -> str:
    """Where the function with the rule was written, as "name (file.py:12)"."""
    source = _source(primal_of(equation).jaxpr)
    name, _, place = source.partition(" at ")
    if place.startswith(JAX):  # jax.custom_vjp(jnp.sin): the rule is the user's, the function is not
        place = _rule_source(equation).rpartition(" at ")[2] or place
    if place.startswith(JAX):  # the rule by defjvps: its lambdas are the user's
        users = [f for f in _reachable(equation.params.get("jvp_jaxpr_fun")) if not _code_in_jax(f)]
        place = f"{users[0].__code__.co_filename}:{users[0].__code__.co_firstlineno}" if users else place
    return f"{name} ({os.path.basename(place)})" if place else name or "?"


def is_own_rule(equation) -> bool:
    """Whether both the function and its rule were written inside the jax package."""
    if _by_custom_gradient(equation):  # its wrapper is JAX's, what it wraps never is
        return False
    if not _in_jax(_source(primal_of(equation).jaxpr)):
        return False
    rule = _rule_source(equation)
    if rule and not _in_jax(rule):
        return False
    # `defjvps` wraps the user's lambdas in a function of JAX's own: look through it.
    if "custom_derivatives.py" in (rule or ""):
        return all(_code_in_jax(f) for f in _reachable(equation.params.get("jvp_jaxpr_fun")))
    return True


def _by_custom_gradient(equation) -> bool:
    name, _, place = _source(primal_of(equation).jaxpr).partition(" at ")
    return "wrapped_fun" in name and "custom_derivatives.py" in place


def opaque_operations(jaxpr) -> list[str]:
    """The names of operations in `jaxpr`, at any depth, that hide their inside."""
    found: dict[str, None] = {}
    for equation in equations(jaxpr):
        if equation.primitive.name in OPAQUE or "custom_call" in equation.primitive.name:
            found[equation.primitive.name] = None
    return list(found)


def operations(jaxpr) -> set[str]:
    """The names of all operations in `jaxpr`, at any depth."""
    return {equation.primitive.name for equation in equations(jaxpr)}


def equations(jaxpr):
    """Every equation of `jaxpr` at any depth."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name == "pallas_call":  # its kernel works on references
            continue
        for parameter in equation.params.values():
            for part in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                if isinstance(part, (ClosedJaxpr, Jaxpr)):
                    yield from equations(part)


def _source(jaxpr) -> str:
    return str(getattr(getattr(jaxpr, "debug_info", None), "func_src_info", "") or "")


def _rule_source(equation) -> str:
    for name in ("bwd", "jvp_jaxpr_fun", "fwd_jaxpr_thunk"):
        info = getattr(equation.params.get(name), "debug_info", None)
        if info is not None:
            return str(info.func_src_info or "")
    return ""


def _in_jax(source: str) -> bool:
    return source.rpartition(" at ")[2].startswith(JAX)


def _code_in_jax(function) -> bool:
    return function.__code__.co_filename.startswith(JAX)


def _reachable(thing, depth=16, seen=None):
    """The plain functions that a wrapped function closes over."""
    seen = set() if seen is None else seen
    if depth == 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if hasattr(thing, "__code__"):
        yield thing
        for cell in thing.__closure__ or ():
            try:
                yield from _reachable(cell.cell_contents, depth - 1, seen)
            except ValueError:  # a cell not yet filled
                continue
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from _reachable(part, depth - 1, seen)
    elif type(thing).__name__ == "WrappedFun":
        yield from _reachable(thing.f, depth - 1, seen)


def place_of(equation) -> str:
    """Where the user's code wrote an equation, as "file.py:12"; empty if unknown."""
    traceback = getattr(equation.source_info, "traceback", None)
    for frame in getattr(traceback, "frames", ()) or ():
        name = frame.file_name
        if not name.startswith(JAX) and not name.startswith(HERE) and not name.startswith("<frozen"):
            return f"{os.path.basename(name)}:{frame.line_num}"
    return ""

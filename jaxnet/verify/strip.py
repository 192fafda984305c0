"""Whose rule is it? Telling a user's custom derivative from JAX's own, and what hides its inside.

`jax.grad` of a loss that contains the user's custom rule compares the bug with itself; so the user's rules are taken
out. JAX's own (relu at 0, logaddexp in the tails) are deliberate and stay.
"""

import functools
import os

import jax

from jaxnet.verify.jax_names import RULES, ClosedJaxpr, Jaxpr, Literal

JAX = os.path.dirname(jax.__file__) + os.sep
# Files of JAX through which a call passes on its way, also under vmap.
PASSING_ON = tuple(
    os.path.join(JAX, "_src", name)
    for name in (
        "tree", "api", "pjit", "core", "linear_util", "util", "traceback_util", "source_info_util", "interpreters"
    )
)  # fmt: skip
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
    """Whether an equation calls a function with a custom derivative, or a custom transpose."""
    return equation.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call", "linear_call"))


def primal_of(equation) -> ClosedJaxpr:
    """The function itself, without its rule."""
    for name in ("call_jaxpr", "fun_jaxpr", "callee"):  # the second in older versions, the third of a linear_call
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
        place = _place(users[0]) if users else place
    return f"{name} ({os.path.basename(place)})" if place else name or "?"


def is_own_rule(equation) -> bool:
    """Whether both the function and its rule were written inside the jax package."""
    if equation.primitive.name == "linear_call" or _by_custom_gradient(equation):  # JAX itself has none
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


def rules_that_stay(jaxpr) -> list[str]:
    """The user's derivatives in `jaxpr` that no primal can stand in for, as "name (file.py:12)".

    A solve or a root is differentiated by its equation, however it was found: not by the steps that found it. And of a
    primitive that somebody made, nothing is known but its values.
    """
    found, made = {}, {}
    for e in equations(jaxpr):
        if e.primitive not in made:
            made[e.primitive] = [f for f in _rules_of(e.primitive) if not _code_in_jax(f)]
        if made[e.primitive]:
            found[f"{e.primitive.name} ({_place(made[e.primitive][0])})"] = None
        elif _is_users_solve(e):
            found[f"{_called(e)} ({place_of(e)})"] = None
    return list(found)


def _rules_of(primitive):
    """The functions that are registered as the derivatives of a primitive."""
    return _reachable([table.get(primitive) for table in RULES])


def _is_users_solve(equation) -> bool:
    """Whether an equation is a solve whose derivative the user says how to solve for."""
    if equation.primitive.name == "custom_linear_solve":
        solvers = equation.params["jaxprs"].solve, equation.params["jaxprs"].transpose_solve
        return not all(s is None or _in_jax(_source(s.jaxpr)) for s in solvers)
    return is_custom_rule(equation) and _called(equation) == "custom_root"


def _called(equation) -> str:
    """An operation by its public name: custom_root is a custom_jvp of JAX's own, around functions of the user's."""
    if equation.primitive.name.startswith("custom_jvp_call"):
        function, _, place = _source(primal_of(equation).jaxpr).partition(" at ")
        if function == "_custom_root" and place.startswith(JAX):
            return "custom_root"
    return equation.primitive.name


def is_declared_stop(equation) -> bool:
    """Whether an equation is a stop_gradient that was written outside of the jax package."""
    if equation.primitive.name != "stop_gradient":
        return False
    for frame in getattr(equation.source_info.traceback, "frames", ()):
        inside = frame.file_name.startswith(JAX)
        if not (inside and (frame.file_name.startswith(PASSING_ON) or "stop_gradient" in frame.function_name)):
            return not inside
    return False


def is_opaque(equation) -> bool:
    """Whether an equation hides its inside."""
    return equation.primitive.name in OPAQUE or "custom_call" in equation.primitive.name


def opaque_operations(jaxpr) -> list[str]:
    """The names of operations in `jaxpr`, at any depth, that hide their inside."""
    return list(dict.fromkeys(equation.primitive.name for equation in equations(jaxpr) if is_opaque(equation)))


def operations(jaxpr) -> set[str]:
    """The names of all operations in `jaxpr`, at any depth."""
    return {equation.primitive.name for equation in equations(jaxpr)}


def equations(jaxpr):
    """Every equation of `jaxpr` at any depth."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    for equation in jaxpr.eqns:
        yield equation
        for inner in programs_within(equation):
            yield from equations(inner)


def differentiated(jaxpr):
    """The equations, at any depth, that the outputs depend on in another way than through a stop_gradient."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    alive = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if equation.primitive.name == "stop_gradient" or alive.isdisjoint(equation.outvars):
            continue
        yield equation
        for inner in programs_within(equation):
            yield from differentiated(inner)
        alive.update(v for v in equation.invars if not isinstance(v, Literal))


def programs_within(equation):
    """The programs within an equation."""
    if equation.primitive.name == "pallas_call":  # its kernel works on references
        return
    for parameter in equation.params.values():
        for part in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
            if isinstance(part, (ClosedJaxpr, Jaxpr)):
                yield part


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


def _place(function) -> str:
    return f"{os.path.basename(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"


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
    elif isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
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

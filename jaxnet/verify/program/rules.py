"""Whose rule is it? Telling a user's custom derivative from JAX's own, and what hides its inside.

`jax.grad` of a loss that contains the user's custom rule compares the bug with itself; so the user's rules are taken
out. JAX's own (relu at 0, logaddexp in the tails) are deliberate and stay.
"""

import functools
import inspect
import os

from jaxnet.verify.errors import HERE, RefusedError
from jaxnet.verify.program import jaxprs
from jaxnet.verify.program.jaxprs import ClosedJaxpr, Literal, Tracer
from jaxnet.verify.program.primitives import treatment


def without_rules(program: ClosedJaxpr) -> ClosedJaxpr:
    """A program with the primals of the user's rules in place of their calls, which it holds no longer."""
    return jaxprs.mapped(program, lambda e: jaxprs.with_primal(e) if is_rule_of_the_users(e) else e)


def readable(trace: ClosedJaxpr) -> ClosedJaxpr:
    """A trace as it is read: without the user's rules, the constants of what it calls its own.

    Raises RefusedError where one of them is a tracer: the function was given it by a trace that has ended.
    """
    program = jaxprs.with_own_constants(without_rules(trace))
    if any(isinstance(constant, Tracer) for constant in program.consts):
        raise RefusedError(
            "a function holds a tracer, a value that means nothing outside of the trace that it comes from; expected "
            "numbers: hand it over as an argument, and keep none between calls."
        )
    return program


def rules_left_out(program) -> list[str]:
    """The user's rules that `without_rules` leaves out, as "name (file.py:12)"."""
    return list(dict.fromkeys(rule_name(e) for e in equations(program) if is_rule_of_the_users(e)))


def is_rule_of_the_users(equation) -> bool:
    """Whether an equation calls a function whose derivative the user gives."""
    return jaxprs.is_custom_rule(equation) and not is_own_rule(equation)


def rule_name(equation) -> str:
    """Where the function with the rule was written, as "name (file.py:12)"."""
    name, _, place = jaxprs.primal_source(equation).partition(" at ")
    if jaxprs.is_of_jax(place):  # jax.custom_vjp(jnp.sin): the rule is the user's, the function is not
        place = jaxprs.rule_source(equation).rpartition(" at ")[2] or place
    if jaxprs.is_of_jax(place):  # the rule by defjvps: its lambdas are the user's
        users = [f for f in jaxprs.rule_functions(equation) if not jaxprs.is_code_of_jax(f)]
        place = _place(users[0]) if users else place
    elif _is_of_a_library(place):  # Equinox's filter_custom_vjp, say: the function that it wraps is the user's
        wrapped = [f for f in jaxprs.wrapped_functions(equation) if not _is_of_a_library(f.__code__.co_filename)]
        name, place = (wrapped[0].__name__, _place(wrapped[0])) if wrapped else (name, place)
    return f"{name} ({os.path.basename(place)})" if place else name or "?"


def users_name(equation, name: str) -> str | None:
    """What the user calls an argument that a rule knows by this name; None for one that it has no gradient for.

    Equinox's filter_custom_vjp takes the user's arguments apart, and differentiates for the first alone.
    """
    first, others = "diff_array_vjp_arg", "array_args_kwargs"
    if not name.startswith((first, others)) or not _is_of_a_library(_file(jaxprs.rule_source(equation))):
        return name
    wrapped = [f for f in jaxprs.wrapped_functions(equation) if not _is_of_a_library(f.__code__.co_filename)]
    if name.startswith(others):
        return None
    return name.replace(first, wrapped[0].__code__.co_varnames[0], 1) if wrapped else name


def wrapped_by(function):
    """The user's function inside a library's object that takes *args, as Equinox's filter_custom_vjp; or the same."""
    if isinstance(function, functools.partial):
        return functools.partial(wrapped_by(function.func), *function.args, **function.keywords)
    code = getattr(inspect.unwrap(function).__call__, "__code__", None)
    if code is None or not _is_of_a_library(code.co_filename) or not code.co_flags & inspect.CO_VARARGS:
        return function
    users = (f for f in jaxprs.functions_held(function) if not _is_of_a_library(f.__code__.co_filename))
    return next(users, function)


def is_own_rule(equation) -> bool:
    """Whether both the function and its rule were written inside the jax package."""
    if equation.primitive.name == "linear_call" or jaxprs.is_by_custom_gradient(equation):  # jaxprs.JAX itself has none
        return False
    sources = jaxprs.primal_source(equation), jaxprs.rule_source(equation)
    return all(jaxprs.is_of_jax(_file(source)) for source in sources) and all(
        map(jaxprs.is_code_of_jax, jaxprs.rule_functions(equation))
    )


def rules_that_stay(jaxpr) -> list[str]:
    """The user's derivatives in `jaxpr` that no primal can stand in for, as "name (file.py:12)".

    A solve or a root is differentiated by its equation, however it was found: not by the steps that found it. And of a
    primitive that somebody made, nothing is known but its values.
    """
    found, trusted = {}, {}
    for e in equations(jaxpr):
        if e.primitive not in trusted:
            trusted[e.primitive] = jaxprs.is_trusted(e.primitive)
        if not trusted[e.primitive]:
            users = [_place(f) for f in jaxprs.registered_rules(e.primitive) if not jaxprs.is_code_of_jax(f)]
            found[f"{e.primitive.name} ({(users or [place_of(e)])[0]})"] = None
        elif _is_users_solve(e):
            found[f"{jaxprs.public_name(e)} ({place_of(e)})"] = None
    return list(found)


def _is_users_solve(equation) -> bool:
    """Whether an equation is a solve whose derivative the user says how to solve for."""
    if equation.primitive.name == "custom_linear_solve":
        return not all(jaxprs.is_of_jax(_file(jaxprs.source_of(solver))) for solver in jaxprs.solver_programs(equation))
    return jaxprs.is_custom_rule(equation) and jaxprs.public_name(equation) == "custom_root"


def is_declared_stop(equation) -> bool:
    """Whether an equation is a stop_gradient that was written outside of the jax package."""
    return equation.primitive.name == "stop_gradient" and _is_written_outside_of_jax(equation, "stop_gradient")


def is_declared_selection(equation) -> bool:
    """Whether a selection, a branch or a call of either was written outside of the jax package."""
    return _is_written_outside_of_jax(equation, "select", "where", "cond", "switch")


def _is_written_outside_of_jax(equation, *names: str) -> bool:
    """Whether an operation is called from there, by a public function with one of some words in its name."""
    callers = (frame.file_name for frame in jaxprs.frames_of(equation) if not jaxprs.passes_on(frame, names))
    return not jaxprs.is_of_jax(next(callers, jaxprs.JAX))


def is_stated(equation) -> bool:
    """Whether a stop_gradient is the verifier's own, around a rule that is stated (see problem/rule.py)."""
    callers = (
        frame.file_name for frame in jaxprs.frames_of(equation) if not jaxprs.passes_on(frame, ("stop_gradient",))
    )
    return equation.primitive.name == "stop_gradient" and next(callers, "").startswith(HERE)


def is_opaque(equation) -> bool:
    """Whether an equation hides its inside: a rule around it cannot be replaced by its primal."""
    return treatment(equation).hidden or "custom_call" in equation.primitive.name


def places_of_stops(jaxpr) -> list[str]:
    """Where the loss's author stops gradients, as "file.py:12"."""
    return list(dict.fromkeys(place_of(e) for e in equations(jaxpr) if is_declared_stop(e) and not is_stated(e)))


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
        for inner in jaxprs.programs_within(equation):
            yield from equations(inner)


def differentiated(jaxpr):
    """The equations, at any depth, that the outputs depend on in another way than through a stop_gradient."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    alive = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if equation.primitive.name == "stop_gradient" or alive.isdisjoint(equation.outvars):
            continue
        yield equation
        for inner in jaxprs.programs_within(equation):
            yield from differentiated(inner)
        alive.update(v for v in equation.invars if not isinstance(v, Literal))


def _is_of_a_library(place: str) -> bool:
    """Whether a file is of an installed package."""
    return f"{os.sep}site-packages{os.sep}" in place


def _file(source: str) -> str:
    return source.rpartition(" at ")[2]


def _place(function) -> str:
    return f"{os.path.basename(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"


def place_of(equation) -> str:
    """Where the user's code wrote an equation, as "file.py:12"; empty if unknown."""
    for frame in jaxprs.frames_of(equation):
        name = frame.file_name
        if not jaxprs.is_of_jax(name) and not name.startswith(HERE) and not name.startswith("<frozen"):
            return f"{os.path.basename(name)}:{frame.line_num}"
    return ""

"""Whose rule is it? Telling a user's custom derivative from JAX's own, and what hides its inside.

`jax.grad` of a loss that contains the user's custom rule compares the bug with itself; so the user's rules are taken
out. JAX's own (relu at 0, logaddexp in the tails) are deliberate and stay.
"""

import os

from jaxnet.verify.jaxprs import (
    ClosedJaxpr,
    Literal,
    frames_of,
    is_by_custom_gradient,
    is_code_of_jax,
    is_custom_rule,
    is_of_jax,
    passes_on,
    primal_source,
    programs_within,
    public_name,
    registered_rules,
    rule_functions,
    rule_source,
    solver_programs,
    source_of,
)

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


def rule_name(equation) -> str:
    """Where the function with the rule was written, as "name (file.py:12)"."""
    name, _, place = primal_source(equation).partition(" at ")
    if is_of_jax(place):  # jax.custom_vjp(jnp.sin): the rule is the user's, the function is not
        place = rule_source(equation).rpartition(" at ")[2] or place
    if is_of_jax(place):  # the rule by defjvps: its lambdas are the user's
        users = [f for f in rule_functions(equation) if not is_code_of_jax(f)]
        place = _place(users[0]) if users else place
    return f"{name} ({os.path.basename(place)})" if place else name or "?"


def is_own_rule(equation) -> bool:
    """Whether both the function and its rule were written inside the jax package."""
    if equation.primitive.name == "linear_call" or is_by_custom_gradient(equation):  # JAX itself has none
        return False
    if not is_of_jax(_file(primal_source(equation))):
        return False
    rule = rule_source(equation)
    if rule and not is_of_jax(_file(rule)):
        return False
    return all(map(is_code_of_jax, rule_functions(equation)))


def rules_that_stay(jaxpr) -> list[str]:
    """The user's derivatives in `jaxpr` that no primal can stand in for, as "name (file.py:12)".

    A solve or a root is differentiated by its equation, however it was found: not by the steps that found it. And of a
    primitive that somebody made, nothing is known but its values.
    """
    found, made = {}, {}
    for e in equations(jaxpr):
        if e.primitive not in made:
            made[e.primitive] = [f for f in registered_rules(e.primitive) if not is_code_of_jax(f)]
        if made[e.primitive]:
            found[f"{e.primitive.name} ({_place(made[e.primitive][0])})"] = None
        elif _is_users_solve(e):
            found[f"{public_name(e)} ({place_of(e)})"] = None
    return list(found)


def _is_users_solve(equation) -> bool:
    """Whether an equation is a solve whose derivative the user says how to solve for."""
    if equation.primitive.name == "custom_linear_solve":
        return not all(is_of_jax(_file(source_of(solver))) for solver in solver_programs(equation))
    return is_custom_rule(equation) and public_name(equation) == "custom_root"


def is_declared_stop(equation) -> bool:
    """Whether an equation is a stop_gradient that was written outside of the jax package."""
    if equation.primitive.name != "stop_gradient":
        return False
    for frame in frames_of(equation):
        if not passes_on(frame):
            return not is_of_jax(frame.file_name)
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


def _file(source: str) -> str:
    return source.rpartition(" at ")[2]


def _place(function) -> str:
    return f"{os.path.basename(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"


def place_of(equation) -> str:
    """Where the user's code wrote an equation, as "file.py:12"; empty if unknown."""
    for frame in frames_of(equation):
        name = frame.file_name
        if not is_of_jax(name) and not name.startswith(HERE) and not name.startswith("<frozen"):
            return f"{os.path.basename(name)}:{frame.line_num}"
    return ""

"""Which custom rules a program calls on what varies, and what is constant in those calls."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxnet.verify.program.jaxprs import (
    ClosedJaxpr,
    Jaxpr,
    Literal,
    has_arguments,
    is_custom_rule,
    names_of_arguments,
    programs_with_inputs,
    rule_constants,
)
from jaxnet.verify.program.rules import is_own_rule, rule_name, users_name


class HeldArgument(NamedTuple):
    """A floating argument of a rule's call that does not vary: its position, the rule's name for it, and its shape."""

    position: int
    name: str  # empty where it is not told
    shape: tuple[int, ...]


class RuleCall(NamedTuple):
    """A call of a custom rule on what varies, and what is constant in it."""

    rule: str
    held: tuple[HeldArgument, ...]


def calls_of_rules(trace: ClosedJaxpr, varies: list[bool]) -> list[RuleCall]:
    """The calls of the user's rules on what varies with these inputs, at any depth, each once.

    What stands inside of a rule's primal is not looked at: with the rule in place it does not act.
    """
    calls: list[RuleCall] = []
    _follow(trace.jaxpr, varies, calls)
    return list(dict.fromkeys(calls))


def _follow(jaxpr: Jaxpr, varies: list[bool], calls: list[RuleCall]) -> list[bool]:
    """Which outputs of a program vary if these inputs do; the calls on the way are added."""
    moving = {v for v, flag in zip(jaxpr.invars, varies, strict=True) if flag}
    flag = lambda atom: not isinstance(atom, Literal) and atom in moving
    for equation in jaxpr.eqns:
        given = list(map(flag, equation.invars))
        if not any(given):
            continue
        outs = [True] * len(equation.outvars)
        if is_custom_rule(equation) and not is_own_rule(equation):
            calls.append(RuleCall(rule_name(equation), _held(equation, given)))
        else:
            within = [_follow(p.jaxpr, inputs, calls) for p, inputs in programs_with_inputs(equation, given)]
            outs = within[0] if len(within) == 1 and len(within[0]) == len(outs) else outs
        moving.update(v for v, out in zip(equation.outvars, outs, strict=True) if out)
    return list(map(flag, jaxpr.outvars))


def _held(equation, varies: list[bool]) -> tuple[HeldArgument, ...]:
    """The floating arguments of a rule's call that do not vary, and that it has a gradient for."""
    skip = rule_constants(equation)
    arguments = list(zip(equation.invars, varies, strict=True))[skip:] if has_arguments(equation) else []
    names = names_of_arguments(equation, len(arguments)) or ("",) * len(arguments)
    names = [users_name(equation, name) for name in names]
    return tuple(
        HeldArgument(k, name, tuple(atom.aval.shape))
        for k, ((atom, flag), name) in enumerate(zip(arguments, names, strict=True))
        if not flag and name is not None and jnp.issubdtype(atom.aval.dtype, jnp.inexact)
    )

"""A program read again: a jaxpr evaluated equation by equation, in one of several ways.

The verifier never trusts a re-run of the user's Python. It traces a function once and reads the jaxpr: that keeps the
same random draws, the same branches and the same masks, and it works under strict dtype promotion and for loops whose
carry the user wrote as float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.program import jaxprs
from jaxnet.verify.program.dtypes import dtype_of, is_float
from jaxnet.verify.program.jaxprs import ClosedJaxpr, Jaxpr, Literal
from jaxnet.verify.program.primitives import treatment
from jaxnet.verify.program.rules import without_rules


def as_traced(equation, inputs, around) -> list:
    """One plain equation as it stands in the program."""
    return jaxprs.bind(equation, inputs, equation.params)


def with_its_rule(equation, inputs, reading, around) -> list:
    """One of JAX's own functions with rules, differentiated by its rule: a custom_jvp is read, a custom_vjp left."""
    if not jaxprs.has_jvp_program(equation):
        return jaxprs.bind(equation, inputs, equation.params)
    consts, primal = jaxprs.rule_constants(equation), function(jaxprs.primal_of(equation), reading, around)

    @jax.custom_jvp
    def own(*args):
        return tuple(primal(*args))

    @own.defjvp
    def _(primals, tangents):
        kept, moved = primals[consts:], tangents[consts:]
        rule, zero = jaxprs.jvp_program(equation, len(moved))
        moved = [t for p, t in zip(kept, moved, strict=True) if t.dtype != jax.dtypes.float0 or not is_float(p.dtype)]
        outs = function(without_rules(rule), reading, around)(*kept, *moved)
        values, rest = outs[: len(zero)], iter(outs[len(zero) :])
        moved_out = [jnp.zeros_like(v) if z else next(rest) for v, z in zip(values, zero, strict=True)]
        return tuple(values), tuple(moved_out)

    return list(own(*inputs))


def by_its_primal(equation, inputs, reading, around) -> list:
    """One of JAX's own functions with rules, its rule left out."""
    return function(jaxprs.primal_of(equation), reading, around)(*inputs)


@dataclass(frozen=True)
class Reading:
    """A way to read a program, by what it makes of each part.

    cast       any value, as this reading represents it
    constant   a number or an array that stands in the program
    apply      (equation, inputs, equations around it): the outputs of a plain equation
    own_rule   (equation, inputs, reading, equations around it): those of a function with a rule of JAX's own
    enter      an input of what is traced by itself: a rule, or a structure that is no plain call
    turns      how many a while loop may take, whose floating results are NaN beyond; None for any number
    """

    cast: Callable = lambda value: value
    constant: Callable | None = None
    apply: Callable = as_traced
    own_rule: Callable = with_its_rule
    enter: Callable = lambda value: value
    turns: Any = None


OWN = Reading()  # in the program's own precision


def function(program: ClosedJaxpr, reading: Reading, around=()) -> Callable:
    """The function that a program denotes."""
    return lambda *args: read(program.jaxpr, program.consts, args, reading, around)


def read_at(jaxpr: Jaxpr, consts, inputs, reading: Reading) -> list:
    """The outputs at inputs as they come; integers get the widths of the trace (NumPy's int64 is int32 there)."""
    dtypes = [dtype_of(v) for v in jaxprs.variables(jaxpr)[len(consts) :]]
    narrow = [
        x.astype(d) if jnp.issubdtype(d, jnp.integer) and x.dtype != d else x
        for x, d in zip(inputs, dtypes, strict=True)
    ]
    return read(jaxpr, consts, [reading.cast(x) for x in narrow], reading)


def read(jaxpr: Jaxpr, consts, args, reading: Reading, around=()) -> list:
    """The outputs at `args`, which are as the reading has them; `around`: the equations that run this program."""
    constant = reading.constant or reading.cast
    values = dict(zip(jaxprs.variables(jaxpr), [*map(constant, consts), *args], strict=True))

    def value(atom):
        return constant(number_of(atom)) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [value(atom) for atom in equation.invars]
        with jaxprs.in_context_of(equation):
            values.update(zip(equation.outvars, _step(equation, inputs, reading, around), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _step(equation, inputs, reading: Reading, around) -> list:
    """One equation: structures are taken apart, JAX's own rules kept or not, the rest is applied."""
    structure, ruled = treatment(equation).structure, jaxprs.is_custom_rule(equation)
    if not structure and not ruled:
        return reading.apply(equation, inputs, around)
    inputs, inside = inputs if structure == "call" else list(map(reading.enter, inputs)), (*around, equation)
    if ruled:
        return reading.own_rule(equation, inputs, reading, inside)
    bound = {"turns": reading.turns} if structure == "while" and reading.turns is not None else {}
    run = jaxprs.STRUCTURES[structure]
    return list(run(equation, inputs, lambda program: function(program, reading, inside), **bound))


def number_of(literal: Literal):
    """The number that a program computes with: a literal may hold more digits of it than its dtype has."""
    return np.asarray(literal.val, dtype_of(literal)) if isinstance(literal.val, float) else literal.val

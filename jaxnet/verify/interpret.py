"""A program read again: a jaxpr evaluated equation by equation, with the user's custom rules replaced by their primal.

The verifier never trusts a re-run of the user's Python. It traces a function once and reads the jaxpr; readings.py has
the readings that change one thing more.

Reading the jaxpr instead of re-tracing the function keeps the same random draws, the same branches and the same masks,
and it works under strict dtype promotion and for loops whose carry the user wrote as float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.jaxprs import (
    STRUCTURED,
    ClosedJaxpr,
    Jaxpr,
    Literal,
    bind,
    closed,
    has_jvp_program,
    in_context_of,
    is_custom_rule,
    jvp_program,
    primal_of,
    rule_constants,
    variables,
)
from jaxnet.verify.strip import is_own_rule, rule_name


class UnreadableError(Exception):
    """A program holds an operation that this way of reading cannot follow; the text names it."""


def is_float(dtype) -> bool:
    """Whether a dtype is a real floating one (float8 to float64; not complex, not a PRNG key)."""
    return jnp.issubdtype(dtype, jnp.floating)


def dtype_of(atom) -> Any:
    """The dtype of a variable or of a literal."""
    return atom.aval.dtype


class Reader:
    """Evaluates a jaxpr with the user's custom rules replaced by their primal; JAX's own rules stay.

    `stripped` collects the names of the rules that were replaced.
    """

    def __init__(self):
        """A fresh reading."""
        self.stripped: list[str] = []

    def cast(self, value):
        """A value as this reading represents it."""
        return value

    def constant(self, value):
        """A number or an array that stands in the program, as this reading represents it."""
        return self.cast(value)

    def function(self, program: ClosedJaxpr):
        """The function that a closed jaxpr denotes, in this reading."""
        return lambda *args: self.read(program.jaxpr, program.consts, args)

    def read_at(self, jaxpr: Jaxpr, consts, inputs) -> list:
        """The outputs at inputs as they come; integers get the widths of the trace (NumPy's int64 is int32 there)."""
        dtypes = [dtype_of(v) for v in variables(jaxpr)[len(consts) :]]
        narrow = [
            x.astype(d) if jnp.issubdtype(d, jnp.integer) and x.dtype != d else x
            for x, d in zip(inputs, dtypes, strict=True)
        ]
        return self.read(jaxpr, consts, [self.cast(x) for x in narrow])

    def read(self, jaxpr: Jaxpr, consts, args) -> list:
        """The outputs of `jaxpr` at `args`."""
        values = dict(zip(variables(jaxpr), [*map(self.constant, consts), *args], strict=True))

        def value(atom):
            return self.constant(_number(atom)) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            inputs = [value(atom) for atom in equation.invars]
            with in_context_of(equation):
                values.update(zip(equation.outvars, self.step(equation, inputs), strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def step(self, equation, inputs) -> list:
        """One equation: structured ones are taken apart, the rest is `apply`."""
        if is_custom_rule(equation):
            return self.custom_rule(equation, inputs)
        structured = STRUCTURED.get(equation.primitive.name)
        if structured is not None:
            return list(structured(equation, inputs, self.function))
        return self.apply(equation, inputs)

    def apply(self, equation, inputs) -> list:
        """One plain equation, with its parameters as this reading has them."""
        return bind(equation, inputs, self.parameters(equation))

    def parameters(self, equation) -> dict:
        """An equation's parameters, inner jaxprs read in the same way."""
        return {k: self.inner(v) if holds_rules(v) else v for k, v in equation.params.items()}

    def inner(self, parameter) -> Any:
        """A parameter with every jaxpr in it (alone, in a tuple, in a named tuple) traced anew through this reading."""
        if isinstance(parameter, ClosedJaxpr):
            shapes = [self.shape_of(v.aval) for v in parameter.jaxpr.invars]
            return jax.make_jaxpr(self.function(parameter))(*shapes)
        if isinstance(parameter, Jaxpr):
            return self.inner(closed(parameter)).jaxpr
        if isinstance(parameter, tuple) and any(isinstance(p, (ClosedJaxpr, Jaxpr)) for p in parameter):
            parts = [self.inner(p) for p in parameter]
            return type(parameter)(*parts) if hasattr(parameter, "_fields") else tuple(parts)
        return parameter

    def shape_of(self, aval):
        """The abstract value of an input in this reading."""
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype)

    def custom_rule(self, equation, inputs) -> list:
        """A custom_jvp or custom_vjp call: the user's gives its primal, JAX's own keeps its rule."""
        if not is_own_rule(equation):
            self.stripped.append(rule_name(equation))
            return self.function(primal_of(equation))(*inputs)
        if has_jvp_program(equation):
            return self.own_jvp(equation, inputs)
        return self.own_vjp(equation, inputs)

    def own_jvp(self, equation, inputs) -> list:
        """One of JAX's own custom_jvp functions, its primal and its rule both read in this way."""
        consts = rule_constants(equation)
        primal = self.function(primal_of(equation))

        @jax.custom_jvp
        def own(*args):
            return tuple(primal(*args))

        @own.defjvp
        def _(primals, tangents):
            kept, moved = primals[consts:], tangents[consts:]
            jaxpr, constants, zero = jvp_program(equation, len(moved))
            moved = [
                t for p, t in zip(kept, moved, strict=True) if t.dtype != jax.dtypes.float0 or not is_float(p.dtype)
            ]
            outs = self.read(jaxpr, constants, [*kept, *moved])
            values, rest = outs[: len(zero)], iter(outs[len(zero) :])
            moved_out = [jnp.zeros_like(v) if z else next(rest) for v, z in zip(values, zero, strict=True)]
            return tuple(values), tuple(moved_out)

        return list(own(*inputs))

    def own_vjp(self, equation, inputs) -> list:
        """One of JAX's own custom_vjp functions, left as it is."""
        return bind(equation, inputs, equation.params)


def _number(literal: Literal):
    """The number that a program computes with: a literal may hold more digits of it than its dtype has."""
    return np.asarray(literal.val, dtype_of(literal)) if isinstance(literal.val, float) else literal.val


def holds_rules(parameter) -> bool:
    """Whether a custom rule stands anywhere inside a parameter's jaxprs."""
    if isinstance(parameter, (tuple, list)):
        return any(map(holds_rules, parameter))
    jaxpr = parameter.jaxpr if isinstance(parameter, ClosedJaxpr) else parameter
    if not isinstance(jaxpr, Jaxpr):
        return False
    return any(is_custom_rule(e) or any(map(holds_rules, e.params.values())) for e in jaxpr.eqns)

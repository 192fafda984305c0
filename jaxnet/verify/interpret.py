"""A program read again: a jaxpr evaluated equation by equation, with the user's custom rules replaced by their primal.

The verifier never trusts a re-run of the user's Python. It traces a function once and reads the jaxpr; readings.py has
the readings that change one thing more.

Reading the jaxpr instead of re-tracing the function keeps the same random draws, the same branches and the same masks,
and it works under strict dtype promotion and for loops whose carry the user wrote as float32.
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.verify.jax_names import ClosedJaxpr, Jaxpr, Literal
from jaxnet.verify.strip import is_custom_rule, is_own_rule, primal_of, rule_name


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

    def function(self, closed: ClosedJaxpr):
        """The function that a closed jaxpr denotes, in this reading."""
        return lambda *args: self.read(closed.jaxpr, closed.consts, args)

    def read_at(self, jaxpr: Jaxpr, consts, inputs) -> list:
        """The outputs at inputs as they come; integers get the widths of the trace (NumPy's int64 is int32 there)."""
        dtypes = [dtype_of(v) for v in jaxpr.invars]
        narrow = [
            x.astype(d) if jnp.issubdtype(d, jnp.integer) and x.dtype != d else x
            for x, d in zip(inputs, dtypes, strict=True)
        ]
        return self.read(jaxpr, consts, [self.cast(x) for x in narrow])

    def read(self, jaxpr: Jaxpr, consts, args) -> list:
        """The outputs of `jaxpr` at `args`."""
        values = dict(zip(jaxpr.constvars, map(self.constant, consts), strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))

        def value(atom):
            return self.constant(_number(atom)) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            inputs = [value(atom) for atom in equation.invars]
            with getattr(equation.ctx, "manager", contextlib.nullcontext()):
                values.update(zip(equation.outvars, self.step(equation, inputs), strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def step(self, equation, inputs) -> list:
        """One equation: structured ones are taken apart, the rest is `apply`."""
        name = equation.primitive.name
        if is_custom_rule(equation):
            return self.custom_rule(equation, inputs)
        structured = STRUCTURED.get(name)
        if structured is not None:
            return list(structured(self, equation.params, inputs))
        return self.apply(equation, inputs)

    def apply(self, equation, inputs) -> list:
        """One plain equation, with its parameters as this reading has them."""
        return bind(equation.primitive, inputs, self.parameters(equation))

    def parameters(self, equation) -> dict:
        """An equation's parameters, inner jaxprs read in the same way."""
        return {k: self.inner(v) if holds_rules(v) else v for k, v in equation.params.items()}

    def inner(self, parameter) -> Any:
        """A parameter with every jaxpr in it (alone, in a tuple, in a named tuple) traced anew through this reading."""
        if isinstance(parameter, ClosedJaxpr):
            shapes = [self.shape_of(v.aval) for v in parameter.jaxpr.invars]
            return jax.make_jaxpr(self.function(parameter))(*shapes)
        if isinstance(parameter, Jaxpr):
            return self.inner(ClosedJaxpr(parameter, ())).jaxpr
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
        if "jvp_jaxpr_fun" in equation.params:
            return self.own_jvp(equation, inputs)
        return self.own_vjp(equation, inputs)

    def own_jvp(self, equation, inputs) -> list:
        """One of JAX's own custom_jvp functions, its primal and its rule both read in this way."""
        consts = equation.params.get("num_consts", 0)
        primal = self.function(primal_of(equation))
        rule = equation.params["jvp_jaxpr_fun"]

        @jax.custom_jvp
        def own(*args):
            return tuple(primal(*args))

        @own.defjvp
        def _(primals, tangents):
            kept, moved = primals[consts:], tangents[consts:]
            jaxpr, constants, zero = rule.call_wrapped(*[False] * len(moved))
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
        return bind(equation.primitive, inputs, equation.params)


def _number(literal: Literal):
    """The number that a program computes with: a literal may hold more digits of it than its dtype has."""
    return np.asarray(literal.val, dtype_of(literal)) if isinstance(literal.val, float) else literal.val


def bind(primitive, inputs, params) -> list:
    """One primitive applied, as `jax.core.eval_jaxpr` does it; always a list."""
    parts = primitive.get_bind_params(params)
    # jax <= 0.9 returns (functions, parameters), later versions one dictionary.
    functions, rest = parts if isinstance(parts, tuple) else ((), parts)
    outs = primitive.bind(*functions, *inputs, **rest)
    return list(outs) if primitive.multiple_results else [outs]


def holds_rules(parameter) -> bool:
    """Whether a custom rule stands anywhere inside a parameter's jaxprs."""
    if isinstance(parameter, (tuple, list)):
        return any(map(holds_rules, parameter))
    jaxpr = parameter.jaxpr if isinstance(parameter, ClosedJaxpr) else parameter
    if not isinstance(jaxpr, Jaxpr):
        return False
    return any(is_custom_rule(e) or any(map(holds_rules, e.params.values())) for e in jaxpr.eqns)


def _jit(reader, params, inputs):
    closed = params.get("jaxpr", params.get("call_jaxpr"))
    closed = closed if isinstance(closed, ClosedJaxpr) else ClosedJaxpr(closed, ())
    return reader.function(closed)(*inputs)


def _remat(reader, params, inputs):
    body = jax.checkpoint(
        lambda *args: reader.read(params["jaxpr"], (), args), prevent_cse=params["prevent_cse"], policy=params["policy"]
    )
    return body(*inputs)


def _scan(reader, params, inputs):
    fixed, carried = params["num_consts"], params["num_carry"]
    consts, start, xs = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
    body = reader.function(params["jaxpr"])

    def step(carry, x):
        outs = body(*consts, *carry, *x)
        return tuple(outs[:carried]), tuple(outs[carried:])

    carry, ys = lax.scan(
        step, tuple(start), tuple(xs), params["length"], reverse=params["reverse"], unroll=params["unroll"]
    )
    return [*carry, *ys]


def _while(reader, params, inputs):
    n, m = params["cond_nconsts"], params["body_nconsts"]
    until, body = reader.function(params["cond_jaxpr"]), reader.function(params["body_jaxpr"])
    return lax.while_loop(
        lambda carry: until(*inputs[:n], *carry)[0],
        lambda carry: tuple(body(*inputs[n : n + m], *carry)),
        tuple(inputs[n + m :]),
    )


def _cond(reader, params, inputs):
    branches = [reader.function(branch) for branch in params["branches"]]
    return lax.switch(inputs[0], branches, *inputs[1:])


def _shard_map(reader, params, inputs):
    axes = params.get("newly_manual_axes", params.get("manual_axes"))
    options: dict[str, Any] = {k: params[k] for k in ("check_vma",) if k in params}
    options |= {"axis_names": set(axes)} if axes is not None else {}
    body = jax.shard_map(
        lambda *args: tuple(reader.read(params["jaxpr"], (), args)),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        **options,
    )
    return body(*inputs)


STRUCTURED = {
    "jit": _jit,
    "pjit": _jit,
    "closed_call": _jit,
    "core_call": _jit,
    "remat2": _remat,
    "checkpoint": _remat,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "shard_map": _shard_map,
}

"""A program read again: a jaxpr evaluated equation by equation, with one thing about it changed.

The verifier never trusts a re-run of the user's Python. It traces a function once and reads the jaxpr:

    Reader    the user's custom rules replaced by their primal         (witnesses 1 and 3)
    Float64   the same in double precision, constants and casts too     (witnesses 2, 3 and 4)
    Rounded   every operation rounded once more, at random              (what the formula as written can promise)
    Tilted    ties of max, relu, abs and comparisons broken to a side   (the subgradients at a kink)
    Complex   on the complex numbers                                    (witness 5)

Reading the jaxpr instead of re-tracing the function keeps the same random draws, the same branches and the same masks,
and it works under strict dtype promotion and for loops whose carry the user wrote as float32.
"""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxnet.verify.strip import is_custom_rule, is_own_rule, primal_of, rule_name


def toss(shape, seed, place: int):
    """Random signs ±1 of a shape in float32: a hash of the position, far quicker to compile than a PRNG.

    Source: the low-bias 32-bit mixer of C. Wellons, "Prospecting for hash functions" (2018).
    """
    n = jnp.asarray(seed).astype(np.uint32) * np.uint32(0x9E3779B9) + np.uint32(place * 0x85EBCA6B % 2**32)
    n = jnp.broadcast_to(n, shape)
    stride = 1
    for axis in reversed(range(len(shape))):
        n = n + lax.broadcasted_iota(np.uint32, shape, axis) * np.uint32(stride % 2**32)
        stride *= shape[axis]
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        n = (n ^ (n >> np.uint32(shift))) * np.uint32(factor)
    return 1 - 2 * (n & np.uint32(1)).astype(np.float32)


class UnreadableError(Exception):
    """A program holds an operation that this way of reading cannot follow; the text names it."""


def is_float(dtype) -> bool:
    """Whether a dtype is a real floating one (float8 to float64; not complex, not a PRNG key)."""
    return jnp.issubdtype(dtype, jnp.floating)


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

    def function(self, closed: ClosedJaxpr):
        """The function that a closed jaxpr denotes, in this reading."""
        return lambda *args: self.read(closed.jaxpr, closed.consts, args)

    def read(self, jaxpr: Jaxpr, consts, args) -> list:
        """The outputs of `jaxpr` at `args`."""
        values = dict(zip(jaxpr.constvars, map(self.cast, consts), strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))

        def value(atom):
            return self.cast(atom.val) if isinstance(atom, Literal) else values[atom]

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

    def inner(self, parameter):
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


class Float64(Reader):
    """The same program in float64: inputs, closed-over constants, literals and casts alike."""

    # What reads a float's bits, or draws numbers by its width, has to see the original width.
    BITS = frozenset({"bitcast_convert_type", "nextafter", "random_gamma", "random_bits", "rng_uniform"})

    def cast(self, value):
        """Any floating value in float64, any complex one in complex128."""
        dtype = np.dtype(jnp.result_type(value)) if not hasattr(value, "dtype") else value.dtype
        wide = self.widen(dtype)
        return value if wide == dtype else lax.convert_element_type(value, wide)

    def widen(self, dtype):
        """The dtype that stands for `dtype` in this reading."""
        if is_float(dtype):
            return np.dtype(np.float64)
        return np.dtype(np.complex128) if jnp.issubdtype(dtype, jnp.complexfloating) else dtype

    def shape_of(self, aval):
        """The abstract value of an input, widened."""
        return jax.ShapeDtypeStruct(aval.shape, self.widen(aval.dtype))

    def parameters(self, equation) -> dict:
        """Parameters with dtypes widened, precision flags cleared and inner jaxprs widened."""
        return {name: self.parameter(name, value) for name, value in equation.params.items()}

    def parameter(self, name, value):
        """One parameter, widened."""
        if name == "precision":
            return None
        if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
            return self.widen(np.dtype(value))
        return self.inner(value)

    def apply(self, equation, inputs) -> list:
        """One plain equation in float64; what looks at bits runs at its own width."""
        name = equation.primitive.name
        if name == "reduce_precision":
            return [inputs[0]]
        if name == "pure_callback":
            return self.callback(equation, inputs)
        if name in self.BITS:
            narrow = [
                lax.convert_element_type(x, v.aval.dtype) if is_float(v.aval.dtype) else x
                for x, v in zip(inputs, equation.invars, strict=True)
            ]
            return [self.cast(out) for out in bind(equation.primitive, narrow, equation.params)]
        return super().apply(equation, inputs)

    def callback(self, equation, inputs) -> list:
        """A host callback, asked in float64; one that only takes its own dtype is asked in that."""
        params = dict(equation.params)
        narrow = [v.aval.dtype for v in equation.invars]
        wide = [self.widen(v.aval.dtype) for v in equation.outvars]
        host = params["callback"]

        def in_float64(*args):
            try:
                outs = host(*args)
            except Exception:  # the host function's own complaint about a dtype; any type of error
                outs = host(*[np.asarray(a, d) for a, d in zip(args, narrow, strict=True)])
            return tuple(np.asarray(out, dtype) for out, dtype in zip(outs, wide, strict=True))

        results = [jax.ShapeDtypeStruct(v.aval.shape, d) for v, d in zip(equation.outvars, wide, strict=True)]
        return list(jax.pure_callback(in_float64, tuple(results), *inputs))

    def own_vjp(self, equation, inputs) -> list:
        """JAX's own backward functions check for their own dtypes: in float64 the primal stands in."""
        return self.function(primal_of(equation))(*inputs)


class Rounded(Float64):
    """Float64 with each result times (1 ± u), signs at random, u of a lower precision: what the formula can promise.

    This is the rounding that remains when every operation is exact but for its last bit. Loops count as one operation,
    and casts are not followed: a sum that a scan accumulates naively in float32, or a product of operands cast to
    bfloat16, gets no excuse from here.
    """

    # Moves, comparisons and casts are exact, or are somebody's decision (a cast to bfloat16).
    EXACT = frozenset(
        [
            "reshape",
            "transpose",
            "broadcast_in_dim",
            "squeeze",
            "slice",
            "dynamic_slice",
            "dynamic_update_slice",
            "gather",
            "concatenate",
            "pad",
            "rev",
            "copy",
            "neg",
            "abs",
            "sign",
            "max",
            "min",
            "select_n",
            "reduce_max",
            "reduce_min",
            "convert_element_type",
            "stop_gradient",
            "iota",
            "clamp",
            "sort",
            "expand_dims",
            "floor",
            "ceil",
            "round",
            "copy_p",
            "optimization_barrier",
            "pvary",
        ]
    )

    def __init__(self, seed, unit):
        """A reading whose roundings are `unit` large, drawn from `seed`."""
        super().__init__()
        self.seed, self.unit, self.count, self.depth = seed, unit, itertools.count(), 0

    def step(self, equation, inputs) -> list:
        """One equation; inside loops and branches nothing is rounded."""
        loop = equation.primitive.name in {"scan", "while", "cond"}
        self.depth += loop
        try:
            return super().step(equation, inputs)
        finally:
            self.depth -= loop

    def inner(self, parameter):
        """What stands inside an operation (the sum of a scatter, the product of a solve) is only made float64."""
        return Float64().inner(parameter)

    def apply(self, equation, inputs) -> list:
        """One equation, then one rounding."""
        outs = super().apply(equation, inputs)
        if equation.primitive.name in self.EXACT or self.depth:
            return outs
        return [self.rounded(out) for out in outs]

    def rounded(self, value):
        """value (1 ± u), signs at random."""
        if not is_float(value.dtype):
            return value
        sign = toss(value.shape, self.seed, next(self.count)).astype(value.dtype)
        return value * (1 + lax.convert_element_type(self.unit, value.dtype) * sign)


class Tilted(Float64):
    """Float64 with every tie broken to one side: `side` +1, -1, or 0 for a random side in each place.

    Comparisons see their left operand moved by `width` of the array's largest entry: points at a kink, or within
    rounding of one, take the derivative of the chosen side. What passes through max, relu, abs and where is unchanged.
    """

    def __init__(self, seed, side, width):
        """A reading whose ties are broken to `side`."""
        super().__init__()
        self.seed, self.side, self.width, self.count = seed, side, width, itertools.count()

    def nudge(self, x, y):
        """An offset for the comparison of x with y, as large as rounding there could be."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        sign = toss(shape, self.seed, next(self.count)).astype(np.float64)
        size = jnp.maximum(
            jnp.max(jnp.abs(x), initial=0.0), jnp.where(jnp.isfinite(y), jnp.abs(y), 0.0).max(initial=0.0)
        )
        size = lax.stop_gradient(jnp.maximum(size * self.width, 1e-300))
        return size * jnp.where(self.side == 0.0, sign, self.side)

    def inner(self, parameter):
        """What stands inside an operation (the sum of a scatter, the product of a solve) is only made float64."""
        return Float64().inner(parameter)

    def apply(self, equation, inputs) -> list:
        """One equation; at comparisons and at max, min, abs, clamp and reductions to a maximum the tie is broken."""
        name = equation.primitive.name
        real = bool(inputs) and all(hasattr(x, "dtype") and is_float(x.dtype) for x in inputs)
        if not real:
            return super().apply(equation, inputs)
        if name in {"gt", "ge", "lt", "le"}:
            x, y = jnp.broadcast_arrays(*inputs)  # literals stay scalars in a jaxpr
            side = lax.gt(x + self.nudge(x, y), y)
            return [side if name in {"gt", "ge"} else lax.bitwise_not(side)]
        if name in {"max", "min"}:
            x, y = jnp.broadcast_arrays(*inputs)
            first = lax.gt(x + self.nudge(x, y), y)
            return [jnp.where(first, x, y) if name == "max" else jnp.where(first, y, x)]
        if name == "abs":
            (x,) = inputs
            return [jnp.where(lax.gt(x + self.nudge(x, jnp.zeros_like(x)), jnp.zeros_like(x)), x, -x)]
        if name == "clamp":
            low, x, high = jnp.broadcast_arrays(*inputs)
            below = lax.gt(low, x + self.nudge(x, low))
            above = lax.gt(x + self.nudge(x, high), high)
            return [jnp.where(below, low, jnp.where(above, high, x))]
        if name in {"reduce_max", "reduce_min"}:
            return [self.extreme(inputs[0], equation.params["axes"], 1.0 if name == "reduce_max" else -1.0)]
        return super().apply(equation, inputs)

    def extreme(self, x, axes, sign):
        """The largest (smallest) entry over `axes`, one of several equal ones chosen by the tilt."""
        place = jnp.arange(x.size, dtype=np.float64).reshape(x.shape) / max(x.size, 1)
        keys = lax.stop_gradient(sign * x + self.nudge(x, x) * (1 + place))
        chosen = lax.eq(keys, jnp.broadcast_to(jnp.max(keys, axes, keepdims=True), keys.shape))
        return jnp.sum(jnp.where(chosen, x, jnp.zeros_like(x)), axes)


class Complex(Float64):
    """The same program on complex numbers, where each operation is analytic; branches follow the real part."""

    ANALYTIC = frozenset(
        [
            "add",
            "add_any",
            "sub",
            "mul",
            "div",
            "neg",
            "dot_general",
            "reduce_sum",
            "exp",
            "exp2",
            "expm1",
            "log",
            "log1p",
            "sin",
            "cos",
            "tan",
            "tanh",
            "sinh",
            "cosh",
            "sqrt",
            "rsqrt",
            "logistic",
            "integer_pow",
            "square",
            "pow",
            "transpose",
            "reshape",
            "broadcast_in_dim",
            "squeeze",
            "slice",
            "dynamic_slice",
            "dynamic_update_slice",
            "gather",
            "concatenate",
            "pad",
            "rev",
            "copy",
            "cumsum",
            "expand_dims",
            "optimization_barrier",
            "copy_p",
            "real_part",
        ]
    )

    def widen(self, dtype):
        """Every floating dtype becomes complex128."""
        return np.dtype(np.complex128) if is_float(dtype) else super().widen(dtype)

    def apply(self, equation, inputs) -> list:
        """One equation on complex numbers, or UnreadableError."""
        name = equation.primitive.name
        if not any(jnp.issubdtype(x.dtype, jnp.complexfloating) for x in map(jnp.asarray, inputs)):
            return [self.cast(out) for out in super().apply(equation, inputs)]
        if name in self.ANALYTIC or name in {"select_n", "convert_element_type"}:
            return super().apply(equation, inputs)
        if name in {"gt", "ge", "lt", "le", "eq", "ne", "is_finite"}:
            return bind(
                equation.primitive, [lax.real(x) if jnp.iscomplexobj(x) else x for x in inputs], equation.params
            )
        if name == "stop_gradient":
            return [lax.complex(lax.real(inputs[0]), jnp.zeros(inputs[0].shape, np.float64))]
        if name in {"max", "min"}:
            x, y = jnp.broadcast_arrays(*inputs)
            first = lax.real(x) > lax.real(y)
            return [jnp.where(first, x, y) if name == "max" else jnp.where(first, y, x)]
        if name == "abs":
            return [jnp.where(lax.real(inputs[0]) < 0, -inputs[0], inputs[0])]
        if name == "sign":
            return [self.cast(lax.sign(lax.real(inputs[0])))]
        if name in {"reduce_max", "reduce_min"}:
            return [self.extreme(inputs[0], equation.params["axes"], 1.0 if name == "reduce_max" else -1.0)]
        raise UnreadableError(name)

    def extreme(self, x, axes, sign):
        """The entry whose real part is largest (smallest); equal ones share."""
        keys = sign * lax.real(x)
        chosen = lax.convert_element_type(keys == jnp.max(keys, axes, keepdims=True), np.complex128)
        return jnp.sum(chosen * x, axes) / jnp.sum(chosen, axes)

    def own_jvp(self, equation, inputs) -> list:
        """Without differentiation a rule is not needed: the primal."""
        return self.function(primal_of(equation))(*inputs)


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
    checked = {k: params[k] for k in ("check_vma",) if k in params}
    names = {"axis_names": set(axes)} if axes is not None else {}
    body = jax.shard_map(
        lambda *args: tuple(reader.read(params["jaxpr"], (), args)),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        **checked,
        **names,
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

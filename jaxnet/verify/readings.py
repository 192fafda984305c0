"""Readings of a program that change one thing about it.

Reader    the user's custom rules replaced by their primal         (witness 1, in interpret.py)
Float64   the same in double precision, constants and casts too     (witnesses 2, 3 and 4)
Rounded   every operation rounded once more, at random              (what the formula as written can promise)
Tilted    ties shared out by one convention, whatever selects       (the uniform conventions at a kink)
Complex   on the complex numbers                                    (witness 5)
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxnet.verify.interpret import Reader, UnreadableError, bind, is_float
from jaxnet.verify.strip import is_custom_rule, primal_of

# Operations that move numbers and compute none.
MOVES = frozenset(
    {
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
        "expand_dims",
        "copy_p",
        "optimization_barrier",
        "pvary",
    }
)


def mixed(shape, seed, place: int):
    """Random 32-bit integers of a shape: a hash of the position, far quicker to compile than a PRNG.

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
    return n


def toss(shape, seed, place: int):
    """Random signs ±1 of a shape in float32."""
    return 1 - 2 * (mixed(shape, seed, place) & np.uint32(1)).astype(np.float32)


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
        return list(jax.pure_callback(in_float64, tuple(results), *inputs, vmap_method="sequential"))

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
    EXACT = MOVES | frozenset(
        {
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
            "floor",
            "ceil",
            "round",
        }
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


# Operations that compare one operand with another, or the entries of one with each other; and which operand to move,
# None for the first that is no literal.
BY_ENTRY = {**dict.fromkeys(["max", "min", "gt", "ge", "lt", "le"]), "abs": 0, "sign": 0, "clamp": 1}
BY_PLACE = {
    **dict.fromkeys(["reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min", "argmax", "argmin"], 0),
    **dict.fromkeys(["cummax", "cummin", "sort", "top_k"], 0),
    **dict.fromkeys(["scatter-max", "scatter-min", "scatter_max", "scatter_min"], 2),
}
DECISIONS = frozenset(["gt", "ge", "lt", "le", "sign", "argmax", "argmin"])


class Either(NamedTuple):
    """A decision at a tie, as it falls on the one side and on the other."""

    above: jax.Array
    below: jax.Array


class Tilted(Float64):
    """Float64 with one convention at every tie: `share` of the derivative above it, the rest of the one below.

    What selects among numbers, or decides by them, sees one operand moved by up to `width` of the largest entry, up
    and down: all of it where entries are compared with another operand's, a later entry more where they are compared
    with each other. What is selected is unchanged.
    """

    KINKED = frozenset([*BY_ENTRY, *BY_PLACE])
    CLOSED = frozenset(["scan", "while", "cond", "shard_map", "remat2", "checkpoint"])

    def __init__(self, share, width):
        """A reading whose ties are all shared out alike."""
        super().__init__()
        self.share, self.width, self.depth = share, width, 0

    def inner(self, parameter):
        """What stands inside an operation (the sum of a scatter, the product of a solve) is only made float64."""
        return Float64().inner(parameter)

    def step(self, equation, inputs) -> list:
        """One equation; a decision enters loops, branches and rules, and leaves the former, by the larger share."""
        closed = equation.primitive.name in self.CLOSED
        if closed or is_custom_rule(equation):
            inputs = list(map(self.decided, inputs))
        self.depth += closed
        try:
            return super().step(equation, inputs)
        finally:
            self.depth -= closed

    def decided(self, x):
        """A decision that is not kept apart."""
        return jnp.where(self.share >= 0.5, x.above, x.below) if isinstance(x, Either) else x

    def apply(self, equation, inputs) -> list:
        """One equation, on either side of ties before it and of its own; numbers are mixed, decisions kept apart."""
        if any(isinstance(x, Either) for x in inputs):
            sides = [[x[k] if isinstance(x, Either) else x for x in inputs] for k in (0, 1)]
            return self.mixed(*(super(Tilted, self).apply(equation, side) for side in sides))
        name = equation.primitive.name
        place = {**BY_ENTRY, **BY_PLACE}.get(name, 0)
        place = int(isinstance(equation.invars[0], Literal)) if place is None else place
        if name not in self.KINKED or not is_float(inputs[place].dtype):
            return super().apply(equation, inputs)
        tilt = self.tilt(inputs, inputs[place], name in BY_PLACE)
        return self.mixed(*(self.tilted(equation, inputs, place, offset) for offset in (tilt, -tilt)))

    def tilted(self, equation, inputs, place, offset):
        """One equation with an operand moved: its decisions, or the numbers themselves on the way then taken."""
        apply = super().apply
        moved = [lax.stop_gradient(x + offset if i == place else x) for i, x in enumerate(inputs)]
        if equation.primitive.name in DECISIONS:
            return apply(equation, moved)
        # Homogeneous and linear on either side: the derivative there, applied to the numbers.
        real = [i for i, x in enumerate(inputs) if is_float(x.dtype)]

        def select(*xs):
            parts = dict(zip(real, xs, strict=True))
            return apply(equation, [parts.get(i, x) for i, x in enumerate(moved)])

        outs, selected = jax.jvp(select, [moved[i] for i in real], [inputs[i] for i in real])
        return [t if is_float(out.dtype) else out for out, t in zip(outs, selected, strict=True)]

    def tilt(self, inputs, x, by_place):
        """The offset of x, as large as rounding could be."""
        sizes = [jnp.max(jnp.where(jnp.isfinite(y), jnp.abs(y), 0.0), initial=0.0) for y in inputs if is_float(y.dtype)]
        size = jnp.maximum(self.width * jnp.max(jnp.stack(sizes)), 1e-300)
        return size * ((1.0 + jnp.arange(x.size).reshape(x.shape)) / x.size) if by_place else size

    def mixed(self, above, below) -> list:
        """The outputs of one equation on both sides of a tie, as one."""
        share = self.share
        outs = [
            share * a + (1.0 - share) * b if is_float(a.dtype) else Either(a, b)
            for a, b in zip(above, below, strict=True)
        ]
        return list(map(self.decided, outs)) if self.depth else outs


class Complex(Float64):
    """The same program on complex numbers, where each operation is analytic; branches follow the real part."""

    ANALYTIC = MOVES | frozenset(
        {
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
            "cumsum",
            "real_part",
        }
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

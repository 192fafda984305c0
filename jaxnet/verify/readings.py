"""Readings of a program that change one thing about it.

Reader    the user's custom rules replaced by their primal         (witness 1, in interpret.py)
Float64   the same in double precision, constants and casts too     (witnesses 2, 3 and 4)
Rounded   every operation rounded once more, at random              (what the formula as written can promise)
Complex   on the complex numbers                                    (witness 5)
Blurred   float64, what hides its inside rounded once more          (what its values can promise)

conventions.py and stops.py have two more.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.verify.callbacks import as_written, asked_wide
from jaxnet.verify.interpret import Reader, UnreadableError, is_float
from jaxnet.verify.jaxprs import axes_of, bind, calls_host, primal_of, with_host_function, without_precision
from jaxnet.verify.strip import is_opaque
from jaxnet.verify.tree import unit_roundoff

# Operations that move numbers and compute none.
MOVES = frozenset(
    """
    reshape transpose broadcast_in_dim squeeze slice dynamic_slice dynamic_update_slice gather concatenate pad
    rev copy expand_dims copy_p optimization_barrier pvary
    """.split()
)


def toss(shape, seed, place: int):
    """Random signs ±1 of a shape in float32: a hash of the position, far quicker to compile than a PRNG.

    Source: the low-bias 32-bit mixer of C. Wellons, "Prospecting for hash functions" (2018).
    """
    return _tossed(jnp.asarray(seed).astype(np.uint32), np.uint32(place * 0x85EBCA6B % 2**32), tuple(shape))


@functools.partial(jax.jit, static_argnames="shape")  # traced once for each shape, however often it is drawn
def _tossed(seed, place, shape):
    n = jnp.broadcast_to(seed * np.uint32(0x9E3779B9) + place, shape)
    stride = 1
    for axis in reversed(range(len(shape))):
        n = n + lax.broadcasted_iota(np.uint32, shape, axis) * np.uint32(stride % 2**32)
        stride *= shape[axis]
    return 1 - 2 * (mixed_bits(n) & np.uint32(1)).astype(np.float32)


def mixed_bits(n):
    """A hash of 32 bits."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        n = (n ^ (n >> np.uint32(shift))) * np.uint32(factor)
    return n


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
        return {name: self.parameter(value) for name, value in without_precision(equation).items()}

    def parameter(self, value):
        """One parameter, widened."""
        if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
            return self.widen(np.dtype(value))
        return self.inner(value)

    def apply(self, equation, inputs) -> list:
        """One plain equation in float64; what looks at bits runs at its own width."""
        name = equation.primitive.name
        if name == "reduce_precision":
            return [inputs[0]]
        if is_opaque(equation):
            return self.hidden(equation, inputs)
        return self.at_own_width(equation, inputs) if name in self.BITS else super().apply(equation, inputs)

    def hidden(self, equation, inputs) -> list:
        """What hides its inside: a pure host callback is asked in float64, anything else runs as it was written."""
        if equation.primitive.name == "pure_callback":
            return asked_wide(equation, inputs, self.widen)
        return self.at_own_width(equation, inputs)

    def at_own_width(self, equation, inputs) -> list:
        """One equation in its own dtypes, between casts."""
        narrow = [
            lax.convert_element_type(x, v.aval.dtype) if self.widen(v.aval.dtype) != v.aval.dtype else x
            for x, v in zip(inputs, equation.invars, strict=True)
        ]
        params = equation.params
        if calls_host(equation) and equation.outvars:
            params = with_host_function(equation, as_written(equation))
        return [self.cast(out) for out in bind(equation, narrow, params)]

    def own_vjp(self, equation, inputs) -> list:
        """JAX's own backward functions check for their own dtypes: in float64 the primal stands in."""
        return self.function(primal_of(equation))(*inputs)


class Blurred(Float64):
    """Float64 with one rounding, signs at random, of what enters and leaves the operations that hide their inside.

    They answer in a precision of their own, which is known by the answers: all of them are numbers of that precision.
    """

    def __init__(self, seed):
        """A reading whose roundings are drawn from `seed`."""
        super().__init__()
        self.seed, self.count = seed, itertools.count()

    def hidden(self, equation, inputs) -> list:
        """The answers to inputs one rounding away, each rounded once more; answers in float64 are exact."""
        answers = zip(super().hidden(equation, inputs), equation.outvars, strict=True)
        units = [unit_of_numbers(x, v.aval.dtype) for x, v in answers if jnp.issubdtype(x.dtype, jnp.inexact)]
        unit = jnp.max(jnp.array([0.0, *units]))
        return [self.shaken(x, unit) for x in super().hidden(equation, [self.shaken(x, unit) for x in inputs])]

    def shaken(self, value, unit):
        """value (1 ± u), signs at random."""
        if not jnp.issubdtype(value.dtype, jnp.inexact):
            return value
        return value * (1 + unit * toss(value.shape, self.seed, next(self.count)).astype(value.dtype))


def unit_of_numbers(x, dtype):
    """The unit roundoff of the coarsest precision, from float32 or `dtype` down, that holds all of x; 0 of none.

    Whole numbers tell of no precision below that of their dtype: they may be labels.
    """
    dtype = np.dtype({"float64": "float32", "complex128": "complex64"}.get(dtype.name, dtype))
    unit, fractions = 0.0, jnp.any(x != jnp.round(x))
    for d, told in ((dtype, True), (np.dtype(np.float16), fractions), (jnp.dtype(jnp.bfloat16), fractions)):
        if d is dtype or (is_float(dtype) and unit_roundoff(d) > unit_roundoff(dtype)):
            unit = jnp.where(told & jnp.all(x == x.astype(d).astype(x.dtype)), unit_roundoff(d), unit)
    return unit


class Outside(Float64):
    """Float64 with a change to the program's own operations; what stands inside of one of them is only made float64.

    Inside of an operation: the sum of a scatter, the product of a solve. `depth` counts the structures of CLOSED around
    the equation that is read.
    """

    CLOSED = frozenset({"scan", "while", "cond"})

    def __init__(self):
        """A fresh reading, in no structure."""
        super().__init__()
        self.depth = 0

    def inner(self, parameter):
        """What stands inside an operation, in float64."""
        return Float64().inner(parameter)

    def step(self, equation, inputs) -> list:
        """One equation, the depth counted."""
        closed = equation.primitive.name in self.CLOSED
        self.depth += closed
        try:
            return super().step(equation, inputs)
        finally:
            self.depth -= closed


class Rounded(Outside):
    """Float64 with each result times (1 ± u), signs at random, u of a lower precision: what the formula can promise.

    This is the rounding that remains when every operation is exact but for its last bit. Loops count as one operation,
    and casts are not followed: a sum that a scan accumulates naively in float32, or a product of operands cast to
    bfloat16, gets no excuse from here. A sum in one operation does: the compiler chooses the order of its n terms x,
    and adds LANES of them side by side at least, which loses u √(n / LANES) ‖x‖ / √2 (the partial sums walk at random).
    """

    LANES = 16

    # Moves, comparisons and casts are exact, or are somebody's decision (a cast to bfloat16).
    EXACT = MOVES | frozenset(
        """
        neg abs sign max min select_n reduce_max reduce_min convert_element_type stop_gradient iota clamp
        sort floor ceil round
        """.split()
    )

    def __init__(self, seed, unit):
        """A reading whose roundings are `unit` large, drawn from `seed`."""
        super().__init__()
        self.seed, self.unit, self.count = seed, unit, itertools.count()

    def apply(self, equation, inputs) -> list:
        """One equation, then one rounding."""
        outs = super().apply(equation, inputs)
        if equation.primitive.name in self.EXACT or self.depth:
            return outs
        outs = [self.rounded(out) for out in outs]
        return [self.added(inputs[0], outs[0], axes_of(equation))] if equation.primitive.name == "reduce_sum" else outs

    def rounded(self, value):
        """value (1 ± u), signs at random."""
        if not is_float(value.dtype):
            return value
        return value * (1 + self.units(value))

    def units(self, value):
        """± u in the shape of a value, signs at random."""
        sign = toss(value.shape, self.seed, next(self.count)).astype(value.dtype)
        return lax.convert_element_type(self.unit, value.dtype) * sign

    def added(self, terms, total, axes):
        """The total of terms along some axes, with what adding them one after the other loses."""
        n = terms.size // max(total.size, 1)
        if not is_float(total.dtype) or n <= self.LANES:
            return total
        size = lax.stop_gradient(jnp.sqrt(jnp.sum(terms * terms, axes)))  # a rounding, whatever it is a part of
        return total + self.units(total) * (n / self.LANES / 2) ** 0.5 * size


class Complex(Float64):
    """The same program on complex numbers, where each operation is analytic; branches follow the real part."""

    ANALYTIC = MOVES | frozenset(
        """
        add add_any sub mul div neg dot_general reduce_sum exp exp2 expm1 log log1p sin cos tan tanh sinh
        cosh sqrt rsqrt logistic integer_pow square pow cumsum real_part
        """.split()
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
            return bind(equation, [lax.real(x) if jnp.iscomplexobj(x) else x for x in inputs], equation.params)
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
            return [self.extreme(inputs[0], axes_of(equation), 1.0 if name == "reduce_max" else -1.0)]
        raise UnreadableError(name)

    def extreme(self, x, axes, sign):
        """The entry whose real part is largest (smallest); equal ones share."""
        keys = sign * lax.real(x)
        chosen = lax.convert_element_type(keys == jnp.max(keys, axes, keepdims=True), np.complex128)
        return jnp.sum(chosen * x, axes) / jnp.sum(chosen, axes)

    def own_jvp(self, equation, inputs) -> list:
        """Without differentiation a rule is not needed: the primal."""
        return self.function(primal_of(equation))(*inputs)

"""The ways of reading a program that change one thing about it.

OWN        nothing                                                 (witness 1, in interpreter.py)
FLOAT64    every number in double precision, constants and casts too    (witnesses 2, 3 and 4)
COMPLEX    on the complex numbers                                  (witness 5)
blurred    float64, what hides its inside rounded once more        (what its values can promise)
rounded    float64, every operation rounded once more, at random   (what the formula as written can promise)
loose      rounded, and the constants too                          (what two right formulas may differ by)
HELD       float64, what the author stopped held at another point  (what differences of values are taken of)
THROUGH    float64, without the author's stop_gradients            (what a gradient that ignores them is)
felt       every output of a rule moves with every input of it     (whether a rule takes part in a derivative)

ties.py has one more. What stands inside of one operation (the sum of a scatter, the product of a solve) is made float64
and no more.

What is stopped: by JAX's convention the gradient that ignores a stopped value is the true one. Autodiff knows;
differences of the loss's values see through a stop. So the loss is valued with what its author stopped held where it is
at the point of the check, in the function under a rule as well. JAX's own stops stay as they are: they are part of a
rule (the factors of a matrix in a solve) or change no derivative (the largest logit).
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.verify.errors import UnreadableError
from jaxnet.verify.program import jaxprs
from jaxnet.verify.program.dtypes import in_float64, is_float, unit_roundoff
from jaxnet.verify.program.host import as_written, asked_wide
from jaxnet.verify.program.interpreter import OWN, Reading, by_its_primal, function, with_its_rule
from jaxnet.verify.program.jaxprs import ClosedJaxpr, Tracer
from jaxnet.verify.program.primitives import CONTROL, treatment, within
from jaxnet.verify.program.rules import (
    is_declared_stop,
    is_opaque,
    is_rule_of_the_users,
    is_stated,
    place_of,
    rule_name,
)


# ---- in double precision ---------------------------------------------------------------------------------------------
def cast(value, widen: Callable = in_float64):
    """A value in the dtype that stands for its own."""
    dtype = np.dtype(jnp.result_type(value)) if not hasattr(value, "dtype") else value.dtype
    wide = widen(dtype)
    return value if wide == dtype else lax.convert_element_type(value, wide)


def asked(equation, inputs) -> list:
    """What hides its inside: a pure host callback is asked in float64, anything else runs as it was written."""
    if equation.primitive.name == "pure_callback":
        return asked_wide(equation, inputs, in_float64)
    return _at_own_width(equation, inputs)


def _at_own_width(equation, inputs) -> list:
    """One equation in its own dtypes, between casts."""
    narrow = [
        lax.convert_element_type(x, v.aval.dtype) if in_float64(v.aval.dtype) != v.aval.dtype else x
        for x, v in zip(inputs, equation.invars, strict=True)
    ]
    params = equation.params
    if jaxprs.calls_host(equation) and equation.outvars:
        params = jaxprs.with_host_function(equation, as_written(equation))
    return [cast(out) for out in jaxprs.bind(equation, narrow, params)]


def _widened(equation, widen: Callable) -> dict:
    """Parameters with dtypes widened, precision flags cleared and the programs within traced anew in float64."""

    def program(inner):
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, in_float64(v.aval.dtype)) for v in inner.invars]
        wide = jax.make_jaxpr(function(jaxprs.closed(inner), FLOAT64))(*shapes)
        return wide if isinstance(inner, ClosedJaxpr) else wide.jaxpr

    def parameter(value):
        if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
            return widen(np.dtype(value))
        return jaxprs.of_programs(value, program)

    return {name: parameter(value) for name, value in jaxprs.without_precision(equation).items()}


def _in_float64(equation, inputs, around, hidden=asked, widen=in_float64) -> list:
    """One plain equation in float64; what looks at bits runs at its own width."""
    if equation.primitive.name == "reduce_precision":
        return [inputs[0]]
    if is_opaque(equation):
        return hidden(equation, inputs)
    if treatment(equation).bits:
        return _at_own_width(equation, inputs)
    return jaxprs.bind(equation, inputs, _widened(equation, widen))


def _rule_if_readable(equation, inputs, reading, around) -> list:
    """JAX's own backward functions check for their own dtypes: in float64 the primal stands in."""
    own = with_its_rule if jaxprs.has_jvp_program(equation) else by_its_primal
    return own(equation, inputs, reading, around)


FLOAT64 = Reading(cast=cast, apply=_in_float64, own_rule=_rule_if_readable)


# ---- on the complex numbers ------------------------------------------------------------------------------------------
def _to_complex(dtype):
    return np.dtype(np.complex128) if is_float(dtype) else in_float64(dtype)


def _continued(equation, inputs, around) -> list:
    """One equation on complex numbers, where it is analytic, or UnreadableError; branches follow the real part."""
    name = equation.primitive.name
    if not any(map(jnp.iscomplexobj, inputs)):
        return [cast(out, _to_complex) for out in _in_float64(equation, inputs, around)]
    if treatment(equation).analytic or name in ("select_n", "convert_element_type"):
        return _in_float64(equation, inputs, around, widen=_to_complex)
    if name in ("gt", "ge", "lt", "le", "eq", "ne", "is_finite"):
        return jaxprs.bind(equation, [lax.real(x) if jnp.iscomplexobj(x) else x for x in inputs], equation.params)
    if name == "stop_gradient":
        return [lax.complex(lax.real(inputs[0]), jnp.zeros(inputs[0].shape, np.float64))]
    if name in ("max", "min"):
        x, y = jnp.broadcast_arrays(*inputs)
        first = lax.real(x) > lax.real(y)
        return [jnp.where(first, x, y) if name == "max" else jnp.where(first, y, x)]
    if name == "abs":
        return [jnp.where(lax.real(inputs[0]) < 0, -inputs[0], inputs[0])]
    if name == "sign":
        return [cast(lax.sign(lax.real(inputs[0])), _to_complex)]
    if name in ("reduce_max", "reduce_min"):
        return [_extreme(inputs[0], jaxprs.axes_of(equation), 1.0 if name == "reduce_max" else -1.0)]
    raise UnreadableError(name)


def _extreme(x, axes, sign):
    """The entry whose real part is largest (smallest); equal ones share."""
    keys = sign * lax.real(x)
    chosen = lax.convert_element_type(keys == jnp.max(keys, axes, keepdims=True), np.complex128)
    return jnp.sum(chosen * x, axes) / jnp.sum(chosen, axes)


COMPLEX = Reading(lambda value: cast(value, _to_complex), apply=_continued, own_rule=by_its_primal)


# ---- rounded once more -----------------------------------------------------------------------------------------------
LANES = 16  # terms of a sum that a compiler adds side by side at least


def rounded(seed, unit) -> Reading:
    """Float64 with each result times (1 ± u), signs at random, u of a lower precision: what the formula can promise.

    This is the rounding that remains when every operation is exact but for its last bit. Loops count as one operation,
    and casts are not followed: a sum that a scan accumulates naively in float32, or a product of operands cast to
    bfloat16, gets no excuse from here. A sum in one operation does: the compiler chooses the order of its n terms x,
    and adds LANES of them side by side at least, which loses u √(n / LANES) ‖x‖ / √2 (the partial sums walk at random).
    """
    count = itertools.count()

    def units(value):
        return lax.convert_element_type(unit, value.dtype) * toss(value.shape, seed, next(count)).astype(value.dtype)

    def added(terms, total, axes):
        """The total of terms along some axes, with what adding them one after the other loses."""
        n = terms.size // max(total.size, 1)
        if not is_float(total.dtype) or n <= LANES:
            return total
        size = lax.stop_gradient(jnp.sqrt(jnp.sum(terms * terms, axes)))  # a rounding, whatever it is a part of
        return total + units(total) * (n / LANES / 2) ** 0.5 * size

    def apply(equation, inputs, around):
        outs = _in_float64(equation, inputs, around)
        if treatment(equation).exact or within(around, *CONTROL):
            return outs
        outs = [out * (1 + units(out)) if is_float(out.dtype) else out for out in outs]
        is_sum = equation.primitive.name == "reduce_sum"
        return [added(inputs[0], outs[0], jaxprs.axes_of(equation))] if is_sum else outs

    return replace(FLOAT64, apply=apply)


def watched(reading: Reading, told: list) -> Reading:
    """A reading that tells of each subtraction where it stands, and how much smaller the result is than what went in.

    What is traced by itself is not watched: its values mean nothing outside.
    """

    def apply(equation, inputs, around):
        outs = reading.apply(equation, inputs, around)
        by_itself = any(treatment(e).structure != "call" for e in around)
        if equation.primitive.name == "sub" and not by_itself and is_float(outs[0].dtype) and outs[0].size:
            before = jnp.maximum(jnp.max(jnp.abs(inputs[0])), jnp.max(jnp.abs(inputs[1])))
            told.append((place_of(equation), (jnp.max(jnp.abs(outs[0])) / before).astype(np.float32)))
        return outs

    return replace(reading, apply=apply)


def loose(seed, t, of_constants, of_results) -> Reading:
    """Rounded at t, and every constant moved by a rounding of its own; JAX's own rules stay as they are.

    of_constants, of_results   how large the roundings are at most
    """

    def constant(value):
        moved, known = cast(value), not isinstance(value, Tracer)
        if np.ndim(value) or not is_float(value.dtype) or (known and is_short(np.asarray(value))):
            return moved
        unit = jnp.minimum(unit_roundoff(value.dtype), of_constants)
        return moved * (1 + t * jnp.where(is_short(value), 0.0, unit * _spread(value, seed)))

    def own_rule(equation, inputs, reading, around):  # which does not see what varies from outside of it
        return _rule_if_readable(equation, inputs, FLOAT64, around)

    return replace(rounded(seed, t * of_results), constant=constant, own_rule=own_rule)


def is_short(x):
    """Whether a number is whole, or has but half the digits that it might: it is no rounded one."""
    kept = 2.0 ** (jnp.finfo(x.dtype).nmant // 2 + 1)
    xnp = np if isinstance(x, np.ndarray) else jnp
    x = x.astype(np.float64)
    fraction = xnp.frexp(x)[0] * kept
    return (x == xnp.round(x)) | (fraction == xnp.round(fraction))


def _spread(x, seed):
    """A number in ±[0.5, 1.5] for each magnitude."""
    bits = lax.bitcast_convert_type(jnp.abs(x).astype(np.float32), np.uint32)
    n = _mixed(bits + jnp.asarray(seed).astype(np.uint32) * np.uint32(0x9E3779B9))
    return (0.5 + (n >> np.uint32(8)).astype(np.float64) * 2.0**-24) * (1 - 2 * (n & np.uint32(1)).astype(np.float64))


def blurred(seed) -> Reading:
    """Float64 with one rounding, signs at random, of what enters and leaves the operations that hide their inside.

    They answer in a precision of their own, which is known by the answers: all of them are numbers of that precision.
    """
    count = itertools.count()

    def shaken(value, unit):
        if not jnp.issubdtype(value.dtype, jnp.inexact):
            return value
        return value * (1 + unit * toss(value.shape, seed, next(count)).astype(value.dtype))

    def hidden(equation, inputs):
        """The answers to inputs one rounding away, each rounded once more; answers in float64 are exact."""
        answers = zip(asked(equation, inputs), equation.outvars, strict=True)
        units = [unit_of_numbers(x, v.aval.dtype) for x, v in answers if jnp.issubdtype(x.dtype, jnp.inexact)]
        unit = jnp.max(jnp.array([0.0, *units]))
        return [shaken(x, unit) for x in asked(equation, [shaken(x, unit) for x in inputs])]

    return replace(FLOAT64, apply=functools.partial(_in_float64, hidden=hidden))


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
    return 1 - 2 * (_mixed(n) & np.uint32(1)).astype(np.float32)


def _mixed(n):
    """A hash of 32 bits."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        n = (n ^ (n >> np.uint32(shift))) * np.uint32(factor)
    return n


# ---- what the author stopped -----------------------------------------------------------------------------------------
LANE = "moved and held"


def _with_stops(stopped: Callable, which: Callable = is_declared_stop) -> Reading:
    """Float64 with `stopped` of a value in place of the author's stop_gradient of it."""

    def apply(equation, inputs, around):
        return [stopped(inputs[0])] if which(equation) else _in_float64(equation, inputs, around)

    return replace(FLOAT64, apply=apply)


# For a vmap over two lanes called LANE, the moved point and the one that stops hold on to.
HELD = _with_stops(lambda value: lax.all_gather(value, LANE)[1])
# Through the author's stops, and not through those around a rule that is stated.
THROUGH = _with_stops(lambda value: value, lambda equation: is_declared_stop(equation) and not is_stated(equation))


# ---- whether a rule takes part ---------------------------------------------------------------------------------------
def felt(strength: Mapping[str, Any]) -> Reading:
    """The program's own precision, where every output of a user's rule moves with every input, by the rule's strength.

    A derivative in which the rule has a part depends on that, whatever the rule itself says.
    strength   of some rules, by their names; 1 of the others
    """
    count = itertools.count()

    def signs(x):
        """±1 in the shape of x, at random: no sum of what they multiply is 0."""
        return toss(x.shape, 0, next(count)).astype(x.dtype)

    def own_rule(equation, inputs, reading, around):
        if not is_rule_of_the_users(equation):
            return with_its_rule(equation, inputs, reading, around)
        floating = [x for x in map(jnp.asarray, inputs) if jnp.issubdtype(x.dtype, jnp.inexact)]
        steps = (jnp.sum(jnp.real(signs(x) * (x - lax.stop_gradient(x)))).astype(np.float32) for x in floating)
        moved = strength.get(rule_name(equation), 1.0) * sum(steps, np.float32(0))
        outs = by_its_primal(equation, [lax.stop_gradient(x) for x in inputs], reading, around)
        return [x + signs(x) * moved.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x for x in outs]

    return replace(OWN, own_rule=own_rule)

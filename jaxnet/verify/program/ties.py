"""Conventions at ties: the derivative of a program with every tie shared out alike.

People write one value for the derivative at a kink (relu'(0) = 0, 1/2 or 1), the same wherever it occurs. `tilted`
reads a program with such a convention in everything that selects or decides, without moving the parameters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.verify.program.dtypes import is_float
from jaxnet.verify.program.interpreter import Reading
from jaxnet.verify.program.jaxprs import Literal
from jaxnet.verify.program.primitives import CONTROL, treatment, within
from jaxnet.verify.program.readings import FLOAT64
from jaxnet.verify.program.rules import differentiated, equations


def has_kinks(jaxpr, among=differentiated) -> bool:
    """Whether the outputs' derivative passes an operation where it may have a kink.

    among   the equations of a program that count; of a rule that is stated all do, for its stop is none of the user's
    """
    made = {v: equation for equation in equations(jaxpr) for v in equation.outvars}

    def of_exponentials(v) -> bool:  # |Σ exp| in JAX's logsumexp
        maker = made.get(v)
        if maker is None:
            return False
        passed_on = treatment(maker).moves or maker.primitive.name == "reduce_sum"
        return maker.primitive.name == "exp" or (passed_on and all(map(of_exponentials, maker.invars)))

    return any(
        treatment(equation).compares
        and any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.invars)  # whole numbers do not move
        and not (equation.primitive.name in ("abs", "sign") and of_exponentials(equation.invars[0]))
        for equation in among(jaxpr)
    )


class Either(NamedTuple):
    """A decision at a tie, as it falls on the one side and on the other."""

    above: jax.Array
    below: jax.Array


def tilted(share, width) -> Reading:
    """Float64 with one convention at every tie: a share of the derivative above it, the rest of the one below.

    What selects among numbers, or decides by them, sees one operand moved by up to `width` of the largest entry, up
    and down: all of it where entries are compared with another operand's, a later entry more where they are compared
    with each other. What is selected is unchanged.
    """

    def decided(x):
        """A decision that is not kept apart: it enters loops, branches and rules, and leaves the former, as one."""
        if not isinstance(x, Either):
            return x
        return jnp.where(share >= 0.5, x.above, x.below)

    def apply(equation, inputs, around):
        """One equation, on either side of ties before it and of its own; numbers are mixed, decisions kept apart."""
        if any(isinstance(x, Either) for x in inputs):
            sides = [[x[k] if isinstance(x, Either) else x for x in inputs] for k in (0, 1)]
            above, below = (FLOAT64.apply(equation, side, around) for side in sides)
            return mixed(above, below, around)
        place = treatment(equation).operand
        place = int(isinstance(equation.invars[0], Literal)) if place is None and equation.invars else place
        if not treatment(equation).compares or not is_float(inputs[place].dtype):
            return FLOAT64.apply(equation, inputs, around)
        tilt = _tilt(inputs, inputs[place], treatment(equation).compares, width)
        above, below = (_moved(equation, inputs, place, offset, around) for offset in (tilt, -tilt))
        return mixed(above, below, around)

    def mixed(above, below, around):
        """The outputs of one equation on both sides of a tie, as one."""
        outs = [
            share * a + (1.0 - share) * b if is_float(a.dtype) else Either(a, b)
            for a, b in zip(above, below, strict=True)
        ]
        return list(map(decided, outs)) if _traced_by_itself(around) else outs

    return Reading(FLOAT64.cast, apply=apply, own_rule=FLOAT64.own_rule, enter=decided)


def _traced_by_itself(around) -> bool:
    return within(around, *CONTROL, "shard_map", "remat")


def _moved(equation, inputs, place, offset, around):
    """One equation with an operand moved: its decisions, or the numbers themselves on the way then taken."""
    moved = [lax.stop_gradient(x + offset if i == place else x) for i, x in enumerate(inputs)]
    if treatment(equation).decides:
        return FLOAT64.apply(equation, moved, around)
    # Homogeneous and linear on either side: the derivative there, applied to the numbers.
    real = [i for i, x in enumerate(inputs) if is_float(x.dtype)]

    def select(*xs):
        parts = dict(zip(real, xs, strict=True))
        return FLOAT64.apply(equation, [parts.get(i, x) for i, x in enumerate(moved)], around)

    numbers = [jnp.broadcast_to(inputs[i], moved[i].shape) for i in real]  # a bound may be one for all
    # A bound or a mask at infinity is selected or not: 0 times it would be no number.
    numbers = [jnp.where(jnp.isfinite(x), x, 0.0) for x in numbers]
    outs, selected = jax.jvp(select, [moved[i] for i in real], numbers)
    return [
        jnp.where(jnp.isfinite(out), t, out) if is_float(out.dtype) else out
        for out, t in zip(outs, selected, strict=True)
    ]


def _tilt(inputs, x, compares: str, width):
    """The offset of x, as large as rounding could be."""
    sizes = [jnp.max(jnp.where(jnp.isfinite(y), jnp.abs(y), 0.0), initial=0.0) for y in inputs if is_float(y.dtype)]
    size = jnp.maximum(width * jnp.max(jnp.stack(sizes)), 1e-300)
    if compares == "entries":
        return size * ((1.0 + jnp.arange(x.size).reshape(x.shape)) / x.size)
    return size

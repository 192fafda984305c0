"""What is compiled of a loss: its value and its derivatives, each a function made from the program.

Arguments: consts (the program's constants), values (the leaves that vary), given (the arrays that stay fixed).
For a complex leaf the gradient is JAX's: dJ = Re(Σ g v) for a step v.
"""

import itertools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.program import readings, ties
from jaxnet.verify.program.cache import Program
from jaxnet.verify.program.dataflow import cast_to_integers
from jaxnet.verify.program.dtypes import is_float, unit_roundoff
from jaxnet.verify.program.interpreter import OWN, Reading, read, read_at
from jaxnet.verify.program.readings import FLOAT64


@jax.tree_util.register_static
@dataclass(frozen=True)
class Static:
    """What a compiled function says of the program, and not of numbers."""

    value: tuple


# ---- of a loss -------------------------------------------------------------------------------------------------------
def reverse(program: Program, gradient_of=jax.value_and_grad):
    """Value and gradient in the leaves' own dtypes, at inputs × (1 ± shake u).

    Labels in floating point are exact: a rounding below, they would be others.
    """
    are_labels = cast_to_integers(program.jaxpr)

    def gradient(consts, values, given, seed, shake):
        values, moved, constants = _shaken((values, given, consts), seed, shake)
        consts, given = (
            _unless(are_labels[: len(consts)], consts, constants),
            _unless(are_labels[len(consts) + len(values) :], given, moved),
        )
        return gradient_of(lambda v: evaluate(program, OWN, consts, v, given))(values)

    return gradient


def shaken(program: Program):
    """The leaves, moved by one rounding as `reverse` has them."""
    return lambda consts, values, given, seed, shake: _shaken((values, given, consts), seed, shake)[0]


def double(program: Program):
    """Value and gradient in float64."""
    return _gradient(program, FLOAT64)


def own_forward(program: Program):
    """The same as `reverse` by forward mode."""
    return reverse(program, _entry_by_entry)


def forward(program: Program):
    """Value and gradient in float64 by forward mode."""

    def gradient(consts, values, given):
        values = list(map(FLOAT64.cast, values))
        return _entry_by_entry(lambda v: evaluate(program, FLOAT64, consts, v, given))(values)

    return gradient


def _entry_by_entry(loss):
    """Value and gradient by forward mode, an entry at a time."""

    def gradient(values):
        number, total = [], 0  # of each entry; the imaginary parts of a complex leaf come after the real ones
        for x in values:
            number.append(total + np.arange(x.size).reshape(x.shape))
            total += x.size * (2 if jnp.iscomplexobj(x) else 1)

        def along(k):
            v = [
                (n == k) + 1j * (n + n.size == k) if jnp.iscomplexobj(x) else (n == k).astype(x.dtype)
                for n, x in zip(number, values, strict=True)
            ]
            return jax.jvp(loss, (values,), (v,))[1]

        slopes = jax.lax.map(along, jnp.arange(total))
        grads = [
            slopes[n] - 1j * slopes[n + n.size] if jnp.iscomplexobj(x) else slopes[n]
            for n, x in zip(number, values, strict=True)
        ]
        return loss(values), grads

    return gradient


def through_stops(program: Program):
    """The same of the loss without its stop_gradients."""
    return _gradient(program, readings.THROUGH)


def value(program: Program):
    """The loss in float64; NaN where a loop of it takes more turns."""
    return lambda consts, values, given, turns: evaluate(program, bounded(FLOAT64, turns), consts, values, given)


def blurred(program: Program):
    """The loss in float64, what hides its inside one rounding off."""
    return lambda consts, values, given, seed: evaluate(program, readings.blurred(seed), consts, values, given)


def held(program: Program):
    """The loss in float64, with what is stopped as it is at the leaves `base`."""

    def value(consts, values, base, given, turns):
        lanes = [jnp.stack([FLOAT64.cast(x) for x in pair]) for pair in zip(values, base, strict=True)]
        at = lambda v: evaluate(program, bounded(readings.HELD, turns), consts, v, given)
        return jax.vmap(at, axis_name=readings.LANE)(lanes)[0]

    return value


def slope(program: Program):
    """The derivative along a direction, by forward mode in float64."""

    def along(consts, values, given, v):
        values = list(map(FLOAT64.cast, values))
        return jax.jvp(lambda x: evaluate(program, FLOAT64, consts, x, given), (values,), (v,))[1]

    return along


def continued(program: Program):
    """The loss at complex values, every operation continued analytically."""
    return lambda consts, values, given: evaluate(program, readings.COMPLEX, consts, values, given)


def evaluate(program: Program, reading: Reading, consts, values, given):
    """The loss."""
    return read_at(program.jaxpr, consts, [*values, *given], reading)[0]


def _gradient(program: Program, reading: Reading):
    """Value and gradient in a reading."""

    def gradient(consts, values, given):
        values = list(map(reading.cast, values))
        return jax.value_and_grad(lambda v: evaluate(program, reading, consts, v, given))(values)

    return gradient


def bounded(reading: Reading, turns) -> Reading:
    """A reading that ends every loop."""
    return replace(reading, turns=turns)


# ---- of a loss at ties -----------------------------------------------------------------------------------------------
def tilted(program: Program):
    """The float64 gradient with one convention at each tie: `share` of the derivative above it."""

    def gradient(consts, values, given, share, width):
        return _gradient(program, ties.tilted(share, width))(consts, values, given)[1]

    return gradient


# ---- of any program --------------------------------------------------------------------------------------------------
def as_it_is(program: Program):
    """What a program computes."""
    return lambda consts, inputs: read(program.jaxpr, consts, inputs, OWN)


def as_written(program: Program):
    """The same in float64."""
    return lambda consts, inputs: read_at(program.jaxpr, consts, inputs, FLOAT64)


def as_rounded(program: Program):
    """The same with every result rounded once more; and where a subtraction cancels, and by how much."""

    def run(consts, inputs, seed, unit):
        told: list = []
        reading = readings.watched(readings.rounded(seed, unit), told)
        outs = read_at(program.jaxpr, consts, inputs, reading)
        return outs, [loss for _, loss in told], Static(tuple(place for place, _ in told))

    return run


def lost_by_terms(program: Program):
    """How what a program computes changes with the roundings of its constants and results."""

    def change(consts, inputs, seed, of_constants, of_results):
        def at(t):
            outs = read_at(program.jaxpr, consts, inputs, readings.loose(seed, t, of_constants, of_results))
            return [1.0 * x for x in outs]

        return jax.jvp(at, (np.float64(0.0),), (np.float64(1.0),))[1]

    return change


# ---- parts -----------------------------------------------------------------------------------------------------------
def _unless(kept: list[bool], arrays, shaken) -> list:
    """The arrays that are kept, the others shaken."""
    return [x if keep else moved for keep, x, moved in zip(kept, arrays, shaken, strict=True)]


def _shaken(tree, seed, shake):
    """Each floating number × (1 ± shake 2u): 2u is the smallest factor that always changes a number."""
    count = itertools.count()

    def one(x):
        dtype = jnp.result_type(x)
        if not (is_float(dtype) or jnp.issubdtype(dtype, jnp.complexfloating)):
            return x
        x = jnp.asarray(x)
        sign = readings.toss(x.shape, seed, next(count)).astype(jnp.finfo(dtype).dtype)
        step = shake.astype(sign.dtype) * np.asarray(2 * unit_roundoff(dtype), sign.dtype)
        return x * (1 + step * sign).astype(x.dtype)

    return jax.tree_util.tree_map(one, tree)

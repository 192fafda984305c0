"""What is compiled of a loss: its value and its derivatives, each a function made from the program.

Arguments: consts (the program's constants), values (the leaves that vary), given (the arrays that stay fixed).
For a complex leaf the gradient is JAX's: dJ = Re(Σ g v) for a step v.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.conventions import Shared, Tilted
from jaxnet.verify.dataflow import cast_to_integers
from jaxnet.verify.interpret import Reader, is_float
from jaxnet.verify.programs import Program
from jaxnet.verify.readings import Blurred, Complex, Float64, toss
from jaxnet.verify.stops import LANE, Held, Through
from jaxnet.verify.tree import unit_roundoff


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
        return gradient_of(lambda v: evaluate(program, Reader(), consts, v, given))(values)

    return gradient


def shaken(program: Program):
    """The leaves, moved by one rounding as `reverse` has them."""
    return lambda consts, values, given, seed, shake: _shaken((values, given, consts), seed, shake)[0]


def double(program: Program, reading=Float64):
    """Value and gradient in float64."""
    return lambda consts, values, given: _read(program, reading(), consts, values, given)


def own_forward(program: Program):
    """The same as `reverse` by forward mode."""
    return reverse(program, _entry_by_entry)


def forward(program: Program):
    """Value and gradient in float64 by forward mode."""

    def gradient(consts, values, given):
        values = [Float64().cast(v) for v in values]
        return _entry_by_entry(lambda v: evaluate(program, Float64(), consts, v, given))(values)

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
    return double(program, Through)


def value(program: Program):
    """The loss in float64."""
    return lambda consts, values, given: evaluate(program, Float64(), consts, values, given)


def blurred(program: Program):
    """The loss in float64, what hides its inside one rounding off."""
    return lambda consts, values, given, seed: evaluate(program, Blurred(seed), consts, values, given)


def held(program: Program):
    """The loss in float64, with what is stopped as it is at the leaves `base`."""

    def value(consts, values, base, given):
        lanes = [jnp.stack([Held().cast(x) for x in pair]) for pair in zip(values, base, strict=True)]
        return jax.vmap(lambda v: evaluate(program, Held(), consts, v, given), axis_name=LANE)(lanes)[0]

    return value


def slope(program: Program):
    """The derivative along a direction, by forward mode in float64."""

    def along(consts, values, given, v):
        reader = Float64()
        values = [reader.cast(x) for x in values]
        return jax.jvp(lambda x: evaluate(program, reader, consts, x, given), (values,), (v,))[1]

    return along


def continued(program: Program):
    """The loss at complex values, every operation continued analytically."""
    return lambda consts, values, given: evaluate(program, Complex(), consts, values, given)


def tilted(program: Program):
    """The float64 gradient with one convention at each tie: `share` of the derivative above it."""
    return lambda consts, values, given, share, width: _read(program, Tilted(share, width), consts, values, given)[1]


def gaps(program: Program):
    """For each share of `Shared`, by how much the entry that has it lies above its tie."""

    def above(consts, values, given):
        reader = Shared(None, 0.0)
        evaluate(program, reader, consts, values, given)
        program.notes["shares that tell all"] = np.array(reader.told, bool) & reader.complete
        return jnp.concatenate(reader.gaps or [jnp.zeros(0)])

    return above


def shared(program: Program):
    """The float64 gradient with a share for each tie."""
    return lambda consts, values, given, width, shares: _read(program, Shared(shares, width), consts, values, given)[1]


def shared_each(program: Program):
    """The same for each row of shares."""
    return lambda *arguments: jax.vmap(shared(program), (*[None] * 4, 0))(*arguments)


def turned(program: Program):
    """How the gradient changes with the shares, along each of some directions."""

    def turn(consts, values, given, width, shares, directions):
        gradient = shared(program)
        along = lambda v: jax.jvp(lambda s: gradient(consts, values, given, width, s), (shares,), (v,))[1]
        return jax.vmap(along)(directions)

    return turn


def pulled(program: Program):
    """Re <c, gradient>, and how it changes with each share."""

    def pull(consts, values, given, width, shares, c):
        def along(shares):
            parts = zip(c, shared(program)(consts, values, given, width, shares), strict=True)
            return sum(jnp.sum(jnp.real(jnp.conj(a) * b)) for a, b in parts)

        return jax.value_and_grad(along)(shares)

    return pull


def _read(program: Program, reader: Float64, consts, values, given):
    """Value and gradient in one reading."""
    values = [reader.cast(v) for v in values]
    return jax.value_and_grad(lambda v: evaluate(program, reader, consts, v, given))(values)


def evaluate(program: Program, reader: Reader, consts, values, given):
    """The loss, read by `reader`."""
    out = reader.read_at(program.jaxpr, consts, [*values, *given])[0]
    program.stripped.update(dict.fromkeys(reader.stripped))
    return out


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
        sign = toss(x.shape, seed, next(count)).astype(jnp.finfo(dtype).dtype)
        step = shake.astype(sign.dtype) * np.asarray(2 * unit_roundoff(dtype), sign.dtype)
        return x * (1 + step * sign).astype(x.dtype)

    return jax.tree_util.tree_map(one, tree)

"""Conventions at ties: the derivative of a program with every tie shared out alike.

People write one value for the derivative at a kink (relu'(0) = 0, 1/2 or 1), the same wherever it occurs. `Tilted` is
the program with such a convention in everything that selects or decides, without moving the parameters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

from jaxnet.verify.interpret import is_float
from jaxnet.verify.readings import Outside
from jaxnet.verify.strip import is_custom_rule

# Operations that compare one operand with another, or the entries of one with each other; and which operand to move,
# None for the first that is no literal.
BY_ENTRY = {**dict.fromkeys(["max", "min", "gt", "ge", "lt", "le"]), "abs": 0, "sign": 0, "clamp": 1}
BY_PLACE = {
    **dict.fromkeys(["reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min", "argmax", "argmin"], 0),
    **dict.fromkeys(["cummax", "cummin", "sort", "top_k"], 0),
    **dict.fromkeys(["scatter-max", "scatter-min", "scatter_max", "scatter_min"], 2),
}
KINKED = frozenset([*BY_ENTRY, *BY_PLACE])
DECISIONS = frozenset(["gt", "ge", "lt", "le", "sign", "argmax", "argmin"])


class Either(NamedTuple):
    """A decision at a tie, as it falls on the one side and on the other."""

    above: jax.Array
    below: jax.Array


class Tilted(Outside):
    """Float64 with one convention at every tie: `share` of the derivative above it, the rest of the one below.

    What selects among numbers, or decides by them, sees one operand moved by up to `width` of the largest entry, up
    and down: all of it where entries are compared with another operand's, a later entry more where they are compared
    with each other. What is selected is unchanged.
    """

    CLOSED = Outside.CLOSED | {"shard_map", "remat2", "checkpoint"}

    def __init__(self, share, width):
        """A reading whose ties are all shared out alike."""
        super().__init__()
        self.share, self.width = share, width

    def step(self, equation, inputs) -> list:
        """One equation; a decision enters loops, branches and rules, and leaves the former, by the larger share."""
        if equation.primitive.name in self.CLOSED or is_custom_rule(equation):
            inputs = list(map(self.decided, inputs))
        return super().step(equation, inputs)

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
        if name not in KINKED or not is_float(inputs[place].dtype):
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

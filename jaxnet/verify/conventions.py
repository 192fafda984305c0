"""Conventions at ties: the derivative of a program with every tie shared out, all alike or each in its own way.

People write one value for the derivative at a kink (relu'(0) = 0, 1/2 or 1), the same wherever it occurs. `Tilted` is
the program with such a convention in everything that selects or decides, without moving the parameters; `Shared` has
a share for each entry that is at a tie.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.verify.interpret import is_float
from jaxnet.verify.jaxprs import Literal, is_custom_rule, primal_of
from jaxnet.verify.readings import MOVES, Outside
from jaxnet.verify.strip import differentiated, equations, operations

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
ONE_OF_MANY = frozenset(["reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min"])
SELECTING = MOVES | KINKED | {"jit", "pjit", "select_n"}


def has_kinks(jaxpr) -> bool:
    """Whether the outputs' derivative passes an operation where it may have a kink."""
    made = {v: equation for equation in equations(jaxpr) for v in equation.outvars}

    def of_exponentials(v) -> bool:  # |Σ exp| in JAX's logsumexp
        maker = made.get(v)
        if maker is None:
            return False
        name = maker.primitive.name
        return name == "exp" or (name in MOVES | {"reduce_sum"} and all(map(of_exponentials, maker.invars)))

    return any(
        equation.primitive.name in KINKED
        and any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.invars)  # whole numbers do not move
        and not (equation.primitive.name in ("abs", "sign") and of_exponentials(equation.invars[0]))
        for equation in differentiated(jaxpr)
    )


class Either(NamedTuple):
    """A decision at a tie, as it falls on the one side and on the other, and the share of the former."""

    above: jax.Array
    below: jax.Array
    share: jax.Array | float


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
        return jnp.where(x.share >= 0.5, x.above, x.below) if isinstance(x, Either) else x

    def apply(self, equation, inputs) -> list:
        """One equation, on either side of ties before it and of its own; numbers are mixed, decisions kept apart."""
        if any(isinstance(x, Either) for x in inputs):
            sides = [[x[k] if isinstance(x, Either) else x for x in inputs] for k in (0, 1)]
            above, below = (super(Tilted, self).apply(equation, side) for side in sides)
            return self.mixed(above, below, self.passed_on(equation, inputs))
        name = equation.primitive.name
        place = {**BY_ENTRY, **BY_PLACE}.get(name, 0)
        place = int(isinstance(equation.invars[0], Literal)) if place is None else place
        if name not in KINKED or not is_float(inputs[place].dtype):
            return super().apply(equation, inputs)
        share = self.share_of(equation, inputs, place)
        tilt = self.tilt(inputs, inputs[place], name in BY_PLACE, share)
        above, below = (self.tilted(equation, inputs, place, offset) for offset in (tilt, -tilt))
        return self.mixed(above, below, share)

    def share_of(self, equation, inputs, place):
        """The share of one operation's outputs above its ties."""
        return self.share

    def passed_on(self, equation, inputs):
        """The share of what an operation makes of decisions."""
        return self.share

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

        numbers = [jnp.broadcast_to(inputs[i], moved[i].shape) for i in real]  # a bound may be one for all
        # A bound or a mask at infinity is selected or not: 0 times it would be no number.
        numbers = [jnp.where(jnp.isfinite(x), x, 0.0) for x in numbers]
        outs, selected = jax.jvp(select, [moved[i] for i in real], numbers)
        return [
            jnp.where(jnp.isfinite(out), t, out) if is_float(out.dtype) else out
            for out, t in zip(outs, selected, strict=True)
        ]

    def tilt(self, inputs, x, by_place, share):
        """The offset of x, as large as rounding could be."""
        sizes = [jnp.max(jnp.where(jnp.isfinite(y), jnp.abs(y), 0.0), initial=0.0) for y in inputs if is_float(y.dtype)]
        size = jnp.maximum(self.width * jnp.max(jnp.stack(sizes)), 1e-300)
        return size * ((1.0 + jnp.arange(x.size).reshape(x.shape)) / x.size) if by_place else size

    def mixed(self, above, below, share) -> list:
        """The outputs of one equation on both sides of a tie, as one."""
        outs = [
            share * a + (1.0 - share) * b if is_float(a.dtype) else Either(a, b, share)
            for a, b in zip(above, below, strict=True)
        ]
        return list(map(self.decided, outs)) if self.depth else outs


class Shared(Tilted):
    """Float64 with a share of its own for each entry of what is compared by entry, or is the largest of some.

    The shares are one long vector, used up in the order of the program; a negative one leaves its tie as it is. One
    half is fixed in loops and branches, in whatever puts several entries in order, and in those of JAX's own rules that
    do more than select.
    """

    def __init__(self, shares, width):
        """A reading with these shares; None to count them."""
        super().__init__(0.5, width)
        self.shares, self.taken, self.within = shares, 0, False
        self.gaps: list = []  # for each operation with shares, what changes where its ties fall to one side
        self.told: list[bool] = []  # for each of them, whether its shares say all that its ties may do
        self.complete = True  # whether there is no other operation that may have ties

    def own_jvp(self, equation, inputs) -> list:
        """A rule of JAX's own: relu is the larger of two, whatever its rule says of equals."""
        primal = primal_of(equation)
        if operations(primal) <= SELECTING:
            return self.function(primal)(*inputs)
        within, self.within = self.within, True
        try:
            return super().own_jvp(equation, inputs)
        finally:
            self.within = within

    def decided(self, x):
        """A decision that is not kept apart, nor shared out."""
        self.complete &= not isinstance(x, Either)
        return super().decided(x)

    def share_of(self, equation, inputs, place):
        """The next shares."""
        name = equation.primitive.name
        if self.depth or self.within or (name in BY_PLACE and name not in ONE_OF_MANY):
            self.complete = False
            return self.share
        shape = equation.outvars[0].aval.shape
        begun, self.taken = self.taken, self.taken + int(np.prod(shape))
        if self.shares is None:
            gap = Outside.apply(self, equation, inputs)[0] if name in BY_PLACE else _gap(name, inputs, place)
            self.gaps.append(jnp.broadcast_to(gap, shape).ravel())
            self.told += [name in BY_ENTRY] * self.gaps[-1].size
            return jnp.full(shape, self.share)
        return self.shares[begun : self.taken].reshape(shape)

    def tilt(self, inputs, x, by_place, share):
        """The offset of x, none where the tie stays as it is."""
        tilt = super().tilt(inputs, x, by_place, share)
        return tilt if by_place else jnp.where(share >= 0.0, tilt, 0.0)

    def passed_on(self, equation, inputs):
        """The share of a decision, moved with it."""
        share = next(x.share for x in inputs if isinstance(x, Either))
        if jnp.shape(share) in {(), *(v.aval.shape for v in equation.outvars)}:
            return share
        moved = equation.primitive.name in MOVES and len(equation.invars) == 1
        self.complete &= moved
        return Outside.apply(self, equation, [share])[0] if moved else self.share


def _gap(name, inputs, place):
    """By how much an operand lies above its tie."""
    x = inputs[place]
    if name in ("abs", "sign"):
        return x
    if name == "clamp":
        low, _, high = inputs
        return jnp.where(jnp.abs(x - low) < jnp.abs(x - high), x - low, x - high)
    return x - inputs[1 - place]

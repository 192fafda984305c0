"""Finite differences in float64: the witness that needs nothing but values of the loss.

    central     D(h) = (J(x + hv) − J(x − hv)) / 2h,    Richardson (16 D(h/4) − D(h)) / 15
    one-sided   D⁺ and D⁻, from J(x + hv) − J(x) alone: they differ at a kink
    Taylor      |J(x + hv) − J(x) − h <g, v>| falls as h² when g is right and as h when it is wrong

The step is not chosen but found: a ladder of steps, of which the one with the smallest estimated error is believed.
Rounding is that of the values as they come: a host function that answers in float32 is known by its values, all of
which are float32 numbers, and two of its quotients that agree do so by luck. Inside a larger program its roundings
show in no value. Three things tell of them: a `blur` that the caller knows of; then, quotients that at finer steps
depart from each other; and a loss that does not move, and at larger steps does: it moves by leaps. None of them is
looked for in a program whose every operation is known in float64: there a loss that does not move is constant.

At the edge of √x the quotients grow for ever as the step falls, by one power of it: that side's slope is infinite.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import jax.numpy as jnp
import numpy as np

from jaxnet.verify.errors import mistake
from jaxnet.verify.evidence.noise import FAIL
from jaxnet.verify.problem.loss import inner_product
from jaxnet.verify.program.dtypes import unit_roundoff

START, FACTOR, RUNGS = 2.0**-6, 4.0, 9
TOP = 1.0  # the largest step: as far as the parameters are from 0
U = 2.0**-53
GROWTH = 1 / 3  # of a quotient within three rungs, and not slower from rung to rung: it grows for ever


@dataclass(frozen=True)
class Slope:
    """A directional derivative with its estimated error; `left` and `right` are the one-sided ones."""

    central: float
    error: float
    left: float
    right: float
    steps: tuple[float, ...] = ()
    ahead: tuple[float, ...] = ()  # J(x + hv) − J(x) at the steps
    behind: tuple[float, ...] = ()  # J(x − hv) − J(x)
    level: float = 0.0  # |J|, which sets the floor of rounding
    unit: float = U  # the roundoff of the values
    one_sided_error: float = 0.0  # of a side that is finite

    @property
    def tells_nothing(self) -> bool:
        """Whether no number can be right or wrong: both sides are infinitely steep, or the loss jumps here."""
        return all(map(math.isinf, self.sides)) or any(map(math.isnan, self.sides))

    @property
    def steep(self) -> bool:
        """Whether a side is infinitely steep."""
        return any(map(math.isinf, self.sides))

    @property
    def sides(self) -> tuple[float, float]:
        """The one-sided derivatives."""
        return self.left, self.right

    @property
    def kinked(self) -> bool:
        """Whether the one-sided derivatives differ by more than the errors: by less than would make one a mistake."""
        if self.steep:
            return True
        gap = abs(self.right - self.left)
        slack = max(FAIL * self.error, 4 * self.one_sided_error)
        return gap > 1e-4 * max(abs(self.right), abs(self.left)) and gap > slack

    def rate(self, claimed: float) -> float | None:
        """The Taylor rate of the remainder for a claimed derivative: 2 right, 1 wrong; None if below the noise."""
        floor = 64 * self.unit * max(self.level, max(map(abs, self.ahead), default=0.0))
        best = None
        remainders = [(h, abs(f - h * claimed)) for h, f in zip(self.steps, self.ahead, strict=True)]
        for (_, large), (h, small) in pairwise(remainders):
            if small <= floor + 8 * h * self.error or 2 * small > large:  # rounding, which does not fall with h
                break
            best = float(np.log(large / small) / np.log(FACTOR))
        return best


def slope(
    value,
    x: list[np.ndarray],
    along: dict[int, np.ndarray],
    level: float,
    enough: float = 0.0,
    blur: float | None = None,
    edge: bool = False,
) -> Slope | None:
    """The derivative of `value` at x along a direction, given by leaf; None where no step stays inside the domain.

    At most 30 evaluations. Stops climbing down as soon as the estimated error grows, or is below `enough`; climbs up
    from the first step while rounding is what limits the largest ones.
    blur   how far a value may be off at least, beside float64; None of a program that is known in float64
    edge   x lies at the edge of the domain: the slope into it, as if the loss went on with it outside
    """

    def changes(h):
        plus, minus = (_at(value, x, along, step) - level for step in (h, -h))
        if edge:
            plus, minus = (plus if np.isfinite(plus) else -minus), (minus if np.isfinite(minus) else -plus)
        return plus, minus

    ladder, h, least, worse = Ladder(level, blur), START, np.inf, 0
    for _ in range(RUNGS):
        told = ladder.below(h, *changes(h))
        ladder, h = told or ladder, h / FACTOR
        if told and len(ladder.steps) >= 3:
            error = ladder.estimate(len(ladder.steps) - 1)
            least, worse = min(least, error), 0 if error < least else worse + 1
            if worse >= 2 or error < enough:
                break
    if len(ladder.steps) < 3:
        return None
    if blur is not None and not any(ladder.ahead) and not any(ladder.behind):
        leaps = (abs(_at(value, x, along, START * FACTOR**k) - level) for k in range(1, 7))
        ladder = replace(ladder, blur=max(blur, next((leap for leap in leaps if leap > 0), 0.0)))
    while ladder.steps[0] < TOP and ladder.estimate(2) > enough and ladder.limited_by_rounding():
        h = FACTOR * ladder.steps[0]
        told = ladder.above(h, *changes(h))
        if told is None:
            break
        ladder = told
    return ladder.slope()


@dataclass(frozen=True)
class Ladder:
    """Changes of a value at a ladder of steps, the largest first, and what the quotients tell of each other's errors.

    The quotient of a step is extrapolated from the step above; the first that has an error is the third.
    """

    level: float
    blur: float | None
    steps: tuple[float, ...] = ()
    ahead: tuple[float, ...] = ()
    behind: tuple[float, ...] = ()

    def below(self, h, plus, minus) -> "Ladder | None":
        """With a smaller step; None if the loss is not finite there."""
        return self._with_rung(len(self.steps), h, plus, minus)

    def above(self, h, plus, minus) -> "Ladder | None":
        """With a larger step, likewise."""
        return self._with_rung(0, h, plus, minus)

    def _with_rung(self, place, h, plus, minus) -> "Ladder | None":
        if not (np.isfinite(plus) and np.isfinite(minus)):
            return None
        columns = ((self.steps, h), (self.ahead, plus), (self.behind, minus))
        longer = Ladder(self.level, self.blur, *((*c[:place], entry, *c[place:]) for c, entry in columns))
        blur, D = self.blur, longer.D
        if blur is None:
            return longer
        if plus == minus == 0.0:
            blur = max(blur, min(filter(None, map(abs, longer.ahead + longer.behind)), default=0.0))
        if place >= 2 and blur and abs(D[-1] - D[-2]) > abs(D[-2] - D[-3]):
            blur = max(blur, h * abs(D[-1] - D[-2]) / 2)
        return replace(longer, blur=blur)

    @cached_property
    def D(self) -> list[float]:
        """The quotients."""
        return [(a - b) / (2 * step) for step, a, b in zip(self.steps, self.ahead, self.behind, strict=True)]

    @cached_property
    def R(self) -> list[float]:
        """What is extrapolated from each quotient and the one above."""
        return [np.nan, *((16 * finer - coarser) / 15 for coarser, finer in pairwise(self.D))]

    def unit(self) -> float:
        """The roundoff of the values."""
        if self.blur is None:
            return U
        return unit_of([self.level, *(self.level + change for change in (*self.ahead, *self.behind))])

    def rounding(self, k: int) -> float:
        """What a value of rung k may be off by, as far as the values' precision tells."""
        return max(self.unit() * (abs(self.level) + max(abs(self.ahead[k]), abs(self.behind[k]))), self.blur or 0.0)

    def estimate(self, k: int) -> float:
        """The error of rung k: by the rung above, and by rounding."""
        return abs(self.R[k] - self.R[k - 1]) + 4 * self.rounding(k) / self.steps[k]

    def departure(self, k: int) -> float:
        """By how much the rungs below depart from rung k, as an error of values.

        They should differ by rounding alone, and whatever they show of it was there as well.
        """
        finer = zip(self.R[k + 1 :], self.steps[k + 1 :], strict=True)
        return max((abs(R - self.R[k]) * h for R, h in finer), default=0.0)

    def error(self, k: int) -> float:
        """All that is known of the error of rung k."""
        return max(self.estimate(k), max(self.departure(k), self.blur or 0.0) / self.steps[k])

    def limited_by_rounding(self) -> bool:
        """Whether the first rung that has an error would gain by larger steps."""
        rounding = max(4 * self.rounding(2), self.departure(2))
        return abs(self.R[2] - self.R[1]) <= rounding / self.steps[2]

    def slope(self) -> Slope:
        """The quotient of least error, and the one-sided ones."""
        errors = {k: self.error(k) for k in range(2, len(self.steps))}
        at = min(errors, key=errors.__getitem__)
        right, e1 = self._one_sided(self.ahead, at - 1)
        left, e2 = self._one_sided([-b for b in self.behind], at - 1)
        finite = math.isfinite(left) and math.isfinite(right)
        # Beside a side that is steep the central quotients depart from each other by that side alone.
        rounding = max(4 * self.rounding(at), self.departure(at) if finite else 0.0)
        return Slope(
            self.R[at],
            errors[at],
            right=right,
            left=left,
            steps=self.steps,
            ahead=self.ahead,
            behind=self.behind,
            level=abs(self.level),
            unit=self.unit(),
            one_sided_error=max(e1, e2) + rounding / self.steps[at],
        )

    def _one_sided(self, rise, k) -> tuple[float, float]:
        """The one-sided derivative extrapolated from rungs k and k + 1, and its error but for rounding.

        Infinite where the quotients grow for ever, and NaN where the loss jumps.
        """
        quotients = [change / step for change, step in zip(rise, self.steps, strict=True)]
        growth = np.diff(quotients[-4:])  # which falls with the step where the loss is smooth
        grows = len(growth) == 3 and abs(growth.sum()) == abs(growth).sum() > GROWTH * abs(quotients[-1])
        for_ever = grows and all(np.diff(abs(growth)) >= -1e-2 * abs(growth[1:]))
        if for_ever and abs(rise[-1]) > 64 * self.rounding(-1):
            return (math.nan if abs(rise[-1]) > 0.98 * abs(rise[-2]) else math.copysign(math.inf, growth[-1])), 0.0
        coarser, finer = ((FACTOR * quotients[j + 1] - quotients[j]) / (FACTOR - 1) for j in (k - 1, k))
        return finer, abs(finer - coarser) / (FACTOR**2 - 1)


def unit_of(values: list[float]) -> float:
    """The unit roundoff of the coarsest precision that holds all the values.

    Values that do not vary tell of float32 at most: many a constant is a short number.
    """
    seen = np.array(values)
    with np.errstate(over="ignore", under="ignore"):
        if not np.array_equal(seen.astype(np.float32), seen):  # which holds all shorter numbers
            return U
        short = (jnp.bfloat16, np.float16, np.float32) if (seen != seen[0]).any() else (np.float32,)
        return next(unit_roundoff(d) for d in short if np.array_equal(seen.astype(d).astype(float), seen))


def _at(value, x, along, step) -> float:
    """The value a step along; nan where the loss refuses it: a matrix is positive definite no longer."""
    try:
        return value([leaf + step * along[i] if i in along else leaf for i, leaf in enumerate(x)])
    except Exception as error:  # whatever the user's function raises
        if mistake(error, "a step"):
            raise
        return float("nan")


def bisect(slope_along, leaf: int, g: np.ndarray, v: np.ndarray) -> tuple[tuple[int, ...] | None, int]:
    """The coordinate at which g departs from the derivative, or None if there are several; and the slopes taken.

    Halves the leaf's coordinates, same signs, and follows the half that disagrees while the other one agrees:
    2 log₂(n) slopes. The entry that is left has to account for all of the gap.
    """
    low, high, taken = 0, v.size, 0
    flat = v.ravel()

    def gap(a, b):
        part = np.zeros_like(flat)
        part[a:b] = flat[a:b]
        part = part.reshape(v.shape)
        found = slope_along({leaf: part})
        return (0.0, np.inf) if found is None else (inner_product(g, part) - found.central, found.error)

    (whole, slack), (last, e) = gap(low, high), (0.0, 0.0)
    while high - low > 1:
        middle = (low + high) // 2
        (first, e1), (second, e2) = gap(low, middle), gap(middle, high)
        taken += 2
        if abs(first) > 16 * e1 and abs(second) <= 4 * e2 + 1e-3 * abs(first):
            high, last, e = middle, first, e1
        elif abs(second) > 16 * e2 and abs(first) <= 4 * e1 + 1e-3 * abs(second):
            low, last, e = middle, second, e2
        else:
            return None, taken
    if v.size > 1 and abs(last - whole) > 4 * (e + slack) + 1e-2 * abs(whole):
        return None, taken
    return tuple(int(i) for i in np.unravel_index(low, v.shape)), taken

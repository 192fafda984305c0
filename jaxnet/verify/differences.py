"""Finite differences in float64: the witness that needs nothing but values of the loss.

    central     D(h) = (J(x + hv) − J(x − hv)) / 2h,    Richardson (16 D(h/4) − D(h)) / 15
    one-sided   D⁺ and D⁻, from J(x + hv) − J(x) alone: they differ at a kink
    Taylor      |J(x + hv) − J(x) − h <g, v>| falls as h² when g is right and as h when it is wrong

The step is not chosen but found: a ladder of steps, of which the one with the smallest estimated error is believed.
Rounding is that of the values as they come: a host function that answers in float32 is known by its values, all of
which are float32 numbers, and two of its quotients that agree do so by luck. Inside a larger program its roundings
show in no value. Three things tell of them: a `blur` that the caller knows of; then, quotients that at finer steps
depart from each other; and a loss that does not move, and at larger steps does: it moves by leaps.
"""

from dataclasses import dataclass
from itertools import pairwise

import jax.numpy as jnp
import numpy as np

from jaxnet.verify.tree import unit_roundoff
from jaxnet.verify.witnesses import inner_product

START, FACTOR, RUNGS = 2.0**-6, 4.0, 9
U = 2.0**-53


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
    one_sided_error: float = 0.0

    @property
    def kinked(self) -> bool:
        """Whether the one-sided derivatives differ by more than their errors."""
        gap = abs(self.right - self.left)
        return gap > 1e-4 * max(abs(self.right), abs(self.left)) and gap > 64 * self.error

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
    value, x: list[np.ndarray], along: dict[int, np.ndarray], level: float, enough: float = 0.0, blur: float = 0.0
) -> Slope | None:
    """The derivative of `value` at x along a direction, given by leaf; None where no step stays inside the domain.

    At most 18 evaluations; stops climbing down as soon as the estimated error grows, or is below `enough`.
    blur   how far a value may be off
    """
    steps, ahead, behind, central, values = [], [], [], [], [level]
    best, error, at = None, np.inf, 0
    h, worse = START, 0
    for _ in range(RUNGS):
        here = [_at(value, x, along, s) for s in (h, -h)]
        plus, minus = (j - level for j in here)
        if np.isfinite(plus) and np.isfinite(minus):
            values += here
            steps.append(h), ahead.append(plus), behind.append(minus)
            central.append((plus - minus) / (2 * h))
            if plus == minus == 0.0:
                blur = max(blur, min(filter(None, map(abs, ahead + behind)), default=0.0))
            if len(central) >= 3:
                jumps = abs(central[-1] - central[-2]), abs(central[-2] - central[-3])
                if blur and jumps[0] > jumps[1]:
                    blur = max(blur, h * jumps[0] / 2)
                finer = (16 * central[-1] - central[-2]) / 15
                coarser = (16 * central[-2] - central[-3]) / 15
                off = max(unit_of(values) * max(map(abs, [level, *here])), blur)
                estimate = abs(finer - coarser) + 4 * off / h
                if estimate < error:
                    best, error, at, worse = finer, estimate, len(central) - 1, 0
                else:
                    worse += 1
                if worse >= 2 or error < enough:
                    break
        h /= FACTOR
    if best is None:
        return None
    if not any(ahead) and not any(behind):
        leaps = (abs(_at(value, x, along, START * FACTOR**k) - level) for k in range(1, 7))
        blur = max(blur, next((leap for leap in leaps if leap > 0), 0.0))
    # The finer rungs should differ from the best one by rounding alone: whatever they show of it was there as well.
    finer = [(16 * c - b) / 15 for b, c in pairwise(central[at:])]
    rounding = max((abs(c - best) * h for c, h in zip(finer, steps[at + 1 :], strict=True)), default=0.0)
    rounding = max(rounding, blur)
    error = max(error, rounding / steps[at])
    # One-sided quotients lose more to rounding: use the rung above the best one, extrapolated once.
    k, unit = at - 1, unit_of(values)
    right, e1 = _one_sided(steps, ahead, k)
    left, e2 = _one_sided(steps, [-b for b in behind], k)
    sided = max(e1, e2) + max(4 * unit * abs(level), rounding) / steps[k + 1]
    return Slope(best, error, left, right, tuple(steps), tuple(ahead), tuple(behind), abs(level), unit, sided)


def unit_of(values: list[float]) -> float:
    """The unit roundoff of the coarsest precision that holds all the values.

    Values that do not vary tell of float32 at most: many a constant is a short number.
    """
    seen = np.array(values)
    short = (jnp.bfloat16, np.float16, np.float32) if (seen != seen[0]).any() else (np.float32,)
    with np.errstate(over="ignore", under="ignore"):
        return next((unit_roundoff(d) for d in short if np.array_equal(seen.astype(d).astype(float), seen)), U)


def _one_sided(steps, rise, k) -> tuple[float, float]:
    """The one-sided derivative extrapolated from rungs k and k + 1, and its error but for rounding."""
    coarser, finer = ((FACTOR * rise[j + 1] / steps[j + 1] - rise[j] / steps[j]) / (FACTOR - 1) for j in (k - 1, k))
    return finer, abs(finer - coarser) / (FACTOR**2 - 1)


def _at(value, x, along, step) -> float:
    return value([leaf + step * along[i] if i in along else leaf for i, leaf in enumerate(x)])


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

"""Witness 4: finite differences, the judge itself when the loss is a black box; bisection to the wrong entry."""

import time
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.judgement import Along, Cause, numbers
from jaxnet.verify.noise import FAIL, WARN, Noise, largest, norm, ratio
from jaxnet.verify.report import Statement
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.tree import called, wide
from jaxnet.verify.trouble import note
from jaxnet.verify.witnesses import Problem, direction, inner_product

DRAWS = 3
DIFFERENCES_LIMIT = 256  # coordinates that finite differences may be asked for one at a time
KNOWN = 1e-2  # error of a leaf's entries, relative to its norm, up to which they are worth knowing
SEEN = 0.99  # share of the errors as large as the resolution that the directions see


class Point(NamedTuple):
    """Where slopes are taken: the leaves in float64, the loss there, and how far a value of it may be off."""

    problem: Problem
    x: list[np.ndarray]
    level: float
    blur: float

    @classmethod
    def of(cls, check) -> "Point":
        """The point of a check."""
        problem = check.problem
        x = [wide(v) for v in problem.params.values]
        return cls(problem, x, problem.level, problem.blur(problem.level, check.seed))

    def slope(self, along, value=None) -> differences.Slope | None:
        """The derivative along a direction, of the loss or of another value of its program."""
        return differences.slope(value or self.problem.value, self.x, along, self.level, blur=self.blur)


def judge_by_differences(check):
    """The judge of a loss that is a black box: every leaf that has no reference, along random directions."""
    begun = time.perf_counter()
    point = Point.of(check)
    x = point.x
    shaken = [s for s in (_shaken_manual(check, x) for _ in range(DRAWS)) if s is not None]
    rates, worst = [], 0.0
    for i, f in _leaves(check, x):
        if f.r is not None:
            continue
        if not np.isfinite(f.g).all():
            f.verdict, f.score = "FAIL", float("inf")
            f.cause = Cause("not finite", "NaN or Inf in the manual gradient")
            continue
        rates += _judge_along_directions(check, f, i, point, shaken)
        worst = max(worst, f.score)
    _say(check, begun, f", worst {worst:.2g} x noise", rates)


def compare_with_differences(check):
    """Witness 4 beside autodiff, on every leaf along random directions."""
    begun = time.perf_counter()
    point = Point.of(check)
    rates, disputed, leaves = [], [], list(_leaves(check, point.x))
    for i, f in leaves:
        for found, v, claimed, noise in _slopes(check, f, i, point):
            rates += _rate(found, claimed)
            gap = abs(inner_product(f.r, v) - found.central)
            if f.verdict == "PASS" and not found.kinked and gap > 64 * noise + 1e-5 * abs(found.central):
                disputed.append(called(f.path))
    disputed = list(dict.fromkeys(disputed))
    check.notes += [f"the witnesses disagree on {path}: autodiff against finite differences" for path in disputed]
    agreed = "autodiff agrees" if leaves else "no leaf to ask about"
    verdict = f"autodiff and differences disagree on {', '.join(disputed)}" if disputed else agreed
    _say(check, begun, f"; {verdict}", rates)


def _leaves(check, x):
    """The leaves that differences can be asked about."""
    for i, f in enumerate(check.findings):
        if not f.frozen and f.raw is not None and np.shape(f.raw) == x[i].shape and x[i].size:
            yield i, f


class Slope(NamedTuple):
    """The slope of the loss along a direction v of a leaf, what the manual gradient claims, and the noise of both."""

    found: differences.Slope
    v: np.ndarray
    claimed: float
    noise: float

    def off(self, claimed=None, own=0.0) -> float:
        """How far a claim is off, in units of the noise and of the rounding `own` of a gradient's entries."""
        gap = abs((self.claimed if claimed is None else claimed) - self.found.central)
        return ratio(gap, self.noise + own * self.spread)

    @property
    def spread(self) -> float:
        """By how much an error of the gradient shows in the slope."""
        return max(norm(self.v) / self.v.size**0.5, 1e-300)

    @property
    def at_kink(self) -> bool:
        """Whether the claim lies between the slopes of both sides."""
        found = self.found
        low, high = sorted((found.left, found.right))
        slack = FAIL * max(found.error, found.one_sided_error)
        return found.kinked and low - slack <= self.claimed <= high + slack


def _slopes(check, f, i, point, shaken=()):
    """Slopes along random directions of a leaf."""
    for _ in range(check.directions):
        v = direction(check.rng, point.x[i])
        found = point.slope({i: v})
        if found is not None:
            rounding = 4 * f.unit * float(np.sqrt(np.sum(np.abs(f.g * v) ** 2)))
            moved = max((abs(inner_product(s[i], v)) for s in shaken if s[i] is not None), default=0.0)
            noise = max(found.error, rounding, moved, differences.U * abs(found.central))
            yield Slope(found, v, inner_product(f.g, v), noise)


def _rate(found, claimed) -> list[float]:
    rate = None if found.kinked else found.rate(claimed)
    return [] if rate is None else [rate]


def _say(check, begun, verdict, rates):
    rate = f"; Taylor rate {np.median(rates):.2f} (2 right, 1 wrong)" if rates else ""
    said = f"{check.directions} directions a leaf, Richardson{verdict}{rate}"
    check.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))


def _judge_along_directions(check, f, i, point, shaken) -> list[float]:
    """The verdict on a leaf; returns the Taylor rates."""
    told = list(_slopes(check, f, i, point, shaken))
    rates = [rate for slope in told for rate in _rate(slope.found, slope.claimed)]
    told = [slope for slope in told if not slope.at_kink]
    if not told:
        f.verdict, f.note = "INCONCLUSIVE", "a kink or the edge of the domain in every direction"
        return rates
    own = _own_rounding(check, f, i, told) if max(slope.off() for slope in told) > FAIL else 0.0
    worst = max(told, key=lambda slope: slope.off(own=own))
    noise = worst.noise + own * worst.spread
    apart = noise / worst.spread
    f.score, f.noise, f.slopes = worst.off(own=own), Noise(apart, apart), _along(f.g, told, own)
    if _stops_matter(point, i, worst.v, noise):
        f.verdict = "INCONCLUSIVE"
        f.note = "what is stopped feeds a rule that cannot be replaced: values do not tell which derivative is meant"
    elif f.score > FAIL:
        f.verdict = "FAIL"
        _which_coordinates(f, i, worst.v, point)
    elif f.slopes.resolution >= 1.0:
        f.verdict = "INCONCLUSIVE"
        f.note = "the true gradient is below the noise of finite differences: a zero would have passed"
    elif f.score > WARN:
        f.note = f"warning: {f.score:.1f} x noise is more than a correct gradient usually shows"
    return rates


def _along(g, told, own) -> Along:
    """What slopes tell of a leaf as a whole: a vector shows in each as a normal variable of the vector's norm."""
    true, manual = np.array([(s.found.central / s.spread, s.claimed / s.spread) for s in told]).T
    size, claimed, error = (norm(x) / len(told) ** 0.5 for x in (true, manual, true - manual))
    # By how much more than most these directions show of g is known, and of r as far as their slopes are alike.
    alike = ratio(inner_product(true, manual), norm(true) * norm(manual)) ** 2
    shown = ratio(claimed, norm(g)) ** alike if alike > 0 else 1.0
    noise = float(np.median([slope.noise / slope.spread + own for slope in told]))
    share = NormalDist().inv_cdf((1 + (1 - SEEN) ** (1 / len(told))) / 2)
    return Along(size / shown, error / shown, noise, FAIL * noise / share)


def _own_rounding(check, f, i, told) -> float:
    """What a formula that is right in float64 loses as written, per entry of its norm; 0 of one that is wrong."""
    try:
        own = OwnRounding(check.problem, check.manual, check.seed)
        exact = own.exact() if own.traceable else None
        if exact is None or exact[i].shape != f.shape:
            return 0.0
        right = max(slope.off(inner_product(exact[i], slope.v)) for slope in told) <= FAIL
        found = own.noise()[i][0] if right else 0.0
        return found if np.isfinite(found) else 0.0
    except Exception as error:  # an operation that cannot be read again
        note(check.problem, error, "own rounding")
        return 0.0


def _stops_matter(point, i, v, noise) -> bool:
    """Whether the user's own rules may depend on what is stopped (the factors of a matrix, in a solve)."""
    problem = point.problem
    if not (problem.stops and problem.untrusted):
        return False
    held, moved = (point.slope({i: v}, value) for value in (problem.value, problem.value_through_stops))
    return held is None or moved is None or abs(held.central - moved.central) > FAIL * (noise + moved.error)


def _which_coordinates(f, i, v, point):
    """The wrong entry by halving; failing that, every entry of a small leaf by differences."""
    at, taken = differences.bisect(point.slope, i, f.g, v)
    if at is not None:
        f.worst = at
        place = ",".join(map(str, at))
        text = f"one coordinate is wrong, {called(f.path)}[{place}] (found by halving, {taken} slopes)"
        f.cause = Cause("entries", text) if f.g.size > 1 else None
    elif v.size > DIFFERENCES_LIMIT or np.iscomplexobj(v):
        f.note = "several coordinates are wrong; the leaf is too large to difference each"
        return
    elif v.size**0.5 * f.slopes.noise > KNOWN * f.slopes.norm:
        f.note = "several coordinates are wrong; the values are too coarse to difference each"
        return
    true, error = np.array(f.g), np.zeros(v.shape)
    for place in [at] if at is not None else np.ndindex(v.shape):
        e = np.zeros_like(v)
        e[place] = v[place]
        found = point.slope({i: e})
        if found is None:
            return
        true[place], error[place] = found.central / e[place], found.error / abs(e[place])
    f.r, f.noise = true, f.noise.widened(norm(error), largest(error))


def _shaken_manual(check, x):
    """How far the manual gradient moves when its inputs do by one rounding: its conditioning, without autodiff."""
    moved = [
        v * (1 + 2 * u * check.rng.choice([-1.0, 1.0], v.shape)) for v, u in zip(x, check.problem.units, strict=True)
    ]
    moved = [m.astype(d) for m, d in zip(moved, check.problem.own_dtypes, strict=True)]
    try:
        there = check.manual.eager(moved).leaves
    except Exception as error:  # a gradient that only takes its own array type
        note(check.problem, error, "the shaken gradient")
        return None
    gaps = [numbers(t, f.shape) for t, f in zip(there, check.findings, strict=True)]
    return [
        None if t is None or f.raw is None or t.shape != f.shape else t - f.g
        for t, f in zip(gaps, check.findings, strict=True)
    ]

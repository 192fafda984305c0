"""Witness 4 as the judge: finite differences of a loss that is a black box; bisection to the wrong entry."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from jaxnet.verify.errors import note as noted
from jaxnet.verify.evidence import differences
from jaxnet.verify.evidence.noise import FAIL, WARN, Noise
from jaxnet.verify.judge.cause import Cause, Kind
from jaxnet.verify.judge.reasons import Reason, note
from jaxnet.verify.judge.verdict import Along, LeafJudgement, in_float64
from jaxnet.verify.problem.loss import Problem, direction, inner_product
from jaxnet.verify.problem.trees import called, wide
from jaxnet.verify.sizes import largest, norm, ratio

DRAWS = 3
DIFFERENCES_LIMIT = 256  # coordinates that finite differences may be asked for one at a time
SAME = 1e-3  # of a slope, by which it does not move
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


def judged_by_differences(check, leaves: tuple[LeafJudgement, ...]) -> tuple[LeafJudgement, ...]:
    """The judgements of a loss that is a black box: of every leaf that has no reference, along random directions."""
    with check.journal.stated("4 finite differences") as says:
        point, rng, judged = Point.of(check), check.rng("differences"), list(leaves)
        shaken = [s for s in (_shaken_candidate(check, leaves, point.x, rng) for _ in range(DRAWS)) if s is not None]
        rates, worst = [], 0.0
        for i in _asked(leaves, point.x):
            f = leaves[i]
            if f.r is not None or f.wrong:
                continue
            if not np.isfinite(f.g).all():
                judged[i] = f.failed(score=float("inf"), cause=Cause(Kind.NAN_WHERE_FINITE, ("",)))
                continue
            judged[i], found = _along_directions(check, f, i, point, shaken, rng)
            rates += found
            worst = max(worst, judged[i].score)
        says(_said(check, f", worst {worst:.2g} x noise", rates))
    return tuple(judged)


def differences_beside_autodiff(check, leaves: tuple[LeafJudgement, ...]) -> bool:
    """Witness 4 beside autodiff, on every leaf along random directions; whether it agrees."""
    with check.journal.stated("4 finite differences") as says:
        point, rng, rates, disputed = Point.of(check), check.rng("differences"), [], []
        asked = _asked(leaves, point.x)
        for i in asked:
            f = leaves[i]
            for found, v, claimed, noise in _slopes(check, f, i, point, rng):
                rates += _rate(found, claimed)
                gap = 0.0 if f.r is None else abs(inner_product(f.r, v) - found.central)
                if f.verdict == "PASS" and not found.kinked and gap > 64 * noise + 1e-5 * abs(found.central):
                    disputed.append(called(f.path))
        disputed = list(dict.fromkeys(disputed))
        for path in disputed:
            check.journal.notes.append(f"the witnesses disagree on {path}: autodiff against finite differences")
        agreed = "autodiff agrees" if asked else "no leaf to ask about"
        verdict = f"autodiff and differences disagree on {', '.join(disputed)}" if disputed else agreed
        says(_said(check, f"; {verdict}", rates))
    return not disputed


def slope_moves(check, there: list[np.ndarray]) -> bool:
    """Whether the loss is seen to have another slope at other parameters, along a random direction."""
    here, rng = Point.of(check), check.rng("differences")
    x = [wide(leaf) for leaf in there]
    v = {i: direction(rng, leaf) for i, leaf in enumerate(x) if leaf.size}
    one, other = here.slope(v), here._replace(x=x, level=check.problem.value(x)).slope(v)
    if one is None or other is None:
        return False
    return abs(one.central - other.central) > FAIL * (one.error + other.error) + SAME * abs(one.central)


def _asked(leaves, x) -> list[int]:
    """The leaves that differences can be asked about."""
    return [
        i
        for i, f in enumerate(leaves)
        if not f.frozen and f.raw is not None and np.shape(f.raw) == x[i].shape and x[i].size
    ]


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
        """Whether the claim lies between the slopes of both sides, or no number can be wrong."""
        if self.found.tells_nothing:
            return True
        return self.found.kinked and lies_between(self.found, self.claimed, FAIL * self.found.error)


def lies_between(found: differences.Slope, claimed: float, slack: float) -> bool:
    """Whether a claim lies between the slopes of both sides, or is the slope where there is one."""
    ends = (found.left, found.right) if found.kinked else (found.central, found.central)
    slack = max(slack, FAIL * (found.one_sided_error if found.kinked else found.error))
    return min(ends) - slack <= claimed <= max(ends) + slack


def _slopes(check, f, i, point, rng, shaken=()) -> Iterator[Slope]:
    """Slopes along random directions of a leaf."""
    g = f.g
    for _ in range(check.directions):
        v = direction(rng, point.x[i])
        found = point.slope({i: v})
        if found is not None:
            rounding = 4 * f.unit * float(np.sqrt(np.sum(np.abs(g * v) ** 2)))
            moved = max((abs(inner_product(s[i], v)) for s in shaken if s[i] is not None), default=0.0)
            declared = f.accuracy * norm(g) * norm(v) / v.size**0.5 / FAIL
            noise = max(found.error, rounding, moved, declared, differences.U * abs(found.central))
            yield Slope(found, v, inner_product(g, v), noise)


def _rate(found, claimed) -> list[float]:
    rate = None if found.kinked else found.rate(claimed)
    return [] if rate is None else [rate]


def _said(check, verdict, rates) -> str:
    rate = f"; Taylor rate {np.median(rates):.2f} (2 right, 1 wrong)" if rates else ""
    return f"{check.directions} directions a leaf, Richardson{verdict}{rate}"


def _along_directions(check, f, i, point, shaken, rng) -> tuple[LeafJudgement, list[float]]:
    """The verdict on a leaf, and the Taylor rates."""
    told = list(_slopes(check, f, i, point, rng, shaken))
    rates = [rate for slope in told for rate in _rate(slope.found, slope.claimed)]
    told = [slope for slope in told if not slope.at_kink]
    if not told:
        return f.undecided(note(Reason.EVERYWHERE_KINKED)), rates
    own = _own_rounding(check, f, i, told) if max(slope.off() for slope in told) > FAIL else 0.0
    worst = max(told, key=lambda slope: slope.off(own=own))
    noise = worst.noise + own * worst.spread
    apart = noise / worst.spread
    f = replace(f, score=worst.off(own=own), noise=Noise(apart, apart), slopes=_along(f.g, told, own))
    if _stops_matter(point, i, worst.v, noise):
        return f.undecided(note(Reason.STOPPED)), rates
    if f.score > FAIL:
        return _at_its_entries(f, i, worst.v, point), rates
    if f.expected_zero:
        zero = f.slopes.norm <= f.slopes.missed
        return (f.passed(note(Reason.EXPECTED_ZERO)) if zero else f.failed(cause=Cause(Kind.EXPECTED_ZERO))), rates
    if f.slopes.resolution >= 1.0:
        return f.undecided(note(Reason.BELOW_DIFFERENCES)), rates
    if f.accuracy and f.slopes.resolution > 2 * f.accuracy:  # which is known from a few directions, and not exactly
        remedy = "reference=, the same loss in a form that autodiff knows, would show it"
        return f.undecided(note(Reason.FINER, accuracy=f.accuracy, seen=f.slopes.resolution, remedy=remedy)), rates
    high = f.score > WARN and not f.accuracy  # which is meant to be used
    return (f.passed(note(Reason.HIGH, score=f.score)) if high else f), rates


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
    formula = check.candidate.formula
    try:
        exact = formula.exact() if formula.traceable else None
        if exact is None or exact[i].shape != f.shape:
            return 0.0
        right = max(slope.off(inner_product(exact[i], slope.v)) for slope in told) <= FAIL
        found = formula.rounding.leaves[i][0] if right else 0.0
        return found if np.isfinite(found) else 0.0
    except Exception as error:  # an operation that cannot be read again
        noted(check.journal, error, "own rounding")
        return 0.0


def _stops_matter(point, i, v, noise) -> bool:
    """Whether the user's own rules may depend on what is stopped (the factors of a matrix, in a solve)."""
    problem = point.problem
    if not (problem.trace.stops and problem.trace.untrusted):
        return False
    held, moved = (point.slope({i: v}, value) for value in (problem.value, problem.value_through_stops))
    return held is None or moved is None or abs(held.central - moved.central) > FAIL * (noise + moved.error)


def _at_its_entries(f: LeafJudgement, i, v, point) -> LeafJudgement:
    """A leaf refused, with the wrong entry by halving; failing that, every entry of a small leaf by differences."""
    at, taken = differences.bisect(point.slope, i, f.g, v)
    if at is not None:
        place = ",".join(map(str, at))
        cause = Cause(Kind.ONE_ENTRY, (called(f.path), place, taken)) if f.g.size > 1 else None
        f = f.failed(worst=at, cause=cause)
    elif v.size > DIFFERENCES_LIMIT or np.iscomplexobj(v):
        return f.failed(note(Reason.SEVERAL_WRONG))
    elif f.slopes is not None and v.size**0.5 * f.slopes.noise > KNOWN * f.slopes.norm:
        return f.failed(note(Reason.SEVERAL_COARSE))
    true, error = np.array(f.g), np.zeros(v.shape)
    for place in [at] if at is not None else np.ndindex(v.shape):
        e = np.zeros_like(v)
        e[place] = v[place]
        found = point.slope({i: e})
        if found is None:
            return f.failed(f.note)
        true[place], error[place] = found.central / e[place], found.error / abs(e[place])
    return f.failed(f.note, r=true, noise=f.noise.widened(norm(error), largest(error)))


def _shaken_candidate(check, leaves, x, rng):
    """How far the manual gradient moves when its inputs do by one rounding: its conditioning, without autodiff."""
    moved = [v * (1 + 2 * u * rng.choice([-1.0, 1.0], v.shape)) for v, u in zip(x, check.problem.units, strict=True)]
    moved = [m.astype(d) for m, d in zip(moved, check.problem.own_dtypes, strict=True)]
    try:
        there = check.candidate.eager(moved).leaves
    except Exception as error:  # a gradient that only takes its own array type
        noted(check.journal, error, "the shaken gradient")
        return None
    gaps = [in_float64(t, f.shape) for t, f in zip(there, leaves, strict=True)]
    return [
        None if t is None or f.raw is None or t.shape != f.shape else t - f.g for t, f in zip(gaps, leaves, strict=True)
    ]

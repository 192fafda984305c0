"""The formula in float64: is it the gradient almost everywhere around the point?

A loss is differentiable almost everywhere: at generic points p_k near p there are no ties, in float64 hardly any
rounding, and F(p_k) = ∇J(p_k) for every right formula F, whatever it writes at its kinks and whatever it loses in the
leaves' dtype.

    RIGHT_HERE     F(p) = ∇J(p)                        what differs at p is rounding
    RIGHT_AROUND   F(p_k) = ∇J(p_k) at some point      what differs at p is a tie's convention
    WRONG          at none                             noise, steps and ties at p hide nothing of it
    NUMBERS        F changes with nothing              only its numbers can be judged
    UNKNOWN        F cannot be read in float64         likewise

to within what constants lose that two formulas round otherwise (terms.py). The points may be far away, as both sides
are evaluated at the same one: curvature cancels, and a near tie is left behind. F(p) is asked first, and mostly last.
"""

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from jaxnet.verify.errors import tolerated
from jaxnet.verify.evidence.noise import FAIL, WARN, Noise, score
from jaxnet.verify.judge.cause import Cause, Kind
from jaxnet.verify.judge.reasons import Reason, note
from jaxnet.verify.judge.terms import rounding_of_terms
from jaxnet.verify.judge.verdict import LeafJudgement, graded
from jaxnet.verify.problem.formula import SHOWN
from jaxnet.verify.problem.trees import called, is_inexact, wide
from jaxnet.verify.program.dataflow import dependent
from jaxnet.verify.sizes import largest, norm, ratio

FEW, MANY = 2, 4  # points: of what fails by its numbers, and of what passes by its noise
WIDE, CLOSER = 2.0**-12, 2.0**-10  # of each parameter: how far the points are; the part of it that is tried next
FAR = 4.0  # of each parameter: where a formula of steps takes some
COARSE = 1e-10  # unit roundoffs above it: a leaf's own digits end long before the curvature of float64 shows
LOW = 2.0**-16  # a unit roundoff: those above it are of bfloat16 and float16
PLAIN = 1e3  # noises beyond which a formula that is wrong at every point needs no look at its constants
ALMOST = 2.0**-26  # of a leaf: an error that large terms may leave which cancel
CANCELS = 1e10  # noises: more than any formula loses in float64 by the way it is written
ALIKE = 64.0  # times its rounding, by which two float64 formulas of one gradient may differ
EXACT = 1e-3  # of the noise in the leaf's own dtype: how near a formula has to be in float64 to be called right there
HAIR = 16.0  # roundings of a parameter
KNOWN, OFF = 1e-4, 1e-2  # of an entry: its noise at most, its error at least


class Standing(Enum):
    """What the formula is around the point."""

    RIGHT_HERE = "right here"
    RIGHT_AROUND = "right around"
    WRONG = "wrong around"
    NUMBERS = "numbers"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Standings:
    """What is known of the formula of each leaf in question."""

    of: dict[int, Standing]
    here: list[np.ndarray] | None  # F(p)
    terms: list[tuple[float, float]]  # what constants lose of each leaf, where that was asked


def standings(check, leaves: dict[int, LeafJudgement]) -> Standings:
    """Where the formula of some leaves is the gradient, in float64."""
    nothing = [(0.0, 0.0)] * len(check.problem.units)
    here = None
    with tolerated(check.journal, "the formula in float64"):
        here = check.candidate.formula.here
    if here is None:
        return Standings(dict.fromkeys(leaves, Standing.UNKNOWN), None, nothing)
    off = [i for i, f in leaves.items() if not f.scored(here[i], tolerance(f)) <= FAIL]
    of = {i: Standing.RIGHT_HERE for i in leaves if i not in off}
    terms = nothing
    if off:
        with tolerated(check.journal, "the formula around the point"):
            around, terms = _around(check, {i: leaves[i] for i in off}, here)
            of |= around
    return Standings(dict.fromkeys(leaves, Standing.UNKNOWN) | of, here, terms)


def _around(check, leaves, here) -> tuple[dict[int, Standing], list[tuple[float, float]]]:
    """The standing of formulas that are not the gradient at the point itself, and what their constants lose."""
    rng, formula = check.rng("around"), check.candidate.formula
    hidden = any(not f.wrong for f in leaves.values())
    if not hidden and not check.problem.has_kinks():  # the point itself is as generic as any
        return _at_a_smooth_point(check, leaves, here)
    most = WIDE if min(check.problem.units) > COARSE else WIDE**2
    of: dict[int, Standing] = {}
    terms = [(0.0, 0.0)] * len(check.problem.units)
    open_ = dict(leaves)
    for radius in (most, most * CLOSER):
        errors: dict[int, list[tuple[Noise, np.ndarray]]] = {i: [] for i in open_}
        constant = {*open_}  # what does not change with the point
        for place in points(check.problem, radius, MANY if hidden else FEW, rng):
            there, manual = check.problem.double(place)[1], formula.exact(place)
            if manual is None:
                return dict.fromkeys(leaves, Standing.UNKNOWN), terms
            constant = {i for i in constant if np.array_equal(manual[i], here[i])}
            for i in [*open_]:
                errors[i].append((_sizes(manual[i] - there[i]), there[i]))
                if _is_within(errors[i][-1][0], tolerance(leaves[i], there[i])):
                    of[i] = Standing.RIGHT_AROUND
                    del open_[i]
            if not open_:
                return of, terms
        unclear = [i for i in open_ if _may_be_constants(leaves[i], [error.norm for error, _ in errors[i]])]
        if unclear and not any(any(t) for t in terms):
            terms = rounding_of_terms(check.problem, formula, check.seed, max(check.problem.units))
        for i in unclear:
            f = leaves[i]
            if any(_is_within(error, tolerance(f, r, terms[i])) for error, r in errors[i]):
                here_too = f.scored(here[i], tolerance(f, terms=terms[i])) <= FAIL
                of[i] = Standing.RIGHT_HERE if here_too else Standing.RIGHT_AROUND
                del open_[i]
        numbers = _same_far_away(check, here, constant & {*open_})
        of |= dict.fromkeys(numbers, Standing.NUMBERS)
        open_ = {i: f for i, f in open_.items() if i not in numbers}
        if not any(i in unclear for i in open_):
            break
    return of | dict.fromkeys(open_, Standing.WRONG), terms


def _same_far_away(check, here, constant: set[int]) -> set[int]:
    """Those of some leaves whose formula is constant far away as well, where one of signs takes its steps.

    And with other data: what depends on them alone is the formula of a linear loss.
    """
    formula, problem = check.candidate.formula, check.problem
    if not constant or not any(dependent(formula.trace, len(formula.inputs))):
        return constant
    data = [wide(x) * 2 if is_inexact(x) else x for x in problem.given.values]
    there = [formula.exact(place, data) for place in points(problem, FAR, MANY, check.rng("around"))]
    return {i for i in constant if all(x is not None and np.array_equal(x[i], here[i]) for x in there)}


def _may_be_constants(f: LeafJudgement, errors: list[float]) -> bool:
    """Whether the errors of a formula around the point may be what its constants are rounded by."""
    return not f.wrong or f.score <= PLAIN or min(errors) <= ALMOST * f.r_norm


def _at_a_smooth_point(check, leaves, here) -> tuple[dict[int, Standing], list[tuple[float, float]]]:
    """The standing of formulas that fail by their numbers too, of a loss without kinks."""
    terms = [(0.0, 0.0)] * len(check.problem.units)
    if any(f.score <= PLAIN for f in leaves.values()):
        terms = rounding_of_terms(check.problem, check.candidate.formula, check.seed, max(check.problem.units))
    near = [i for i, f in leaves.items() if f.scored(here[i], tolerance(f, terms=terms[i])) <= FAIL]
    return {i: Standing.RIGHT_HERE if i in near else Standing.WRONG for i in leaves}, terms


def tolerance(f: LeafJudgement, r: np.ndarray | None = None, terms: tuple[float, float] = (0.0, 0.0)) -> Noise:
    """What a formula may be off by in float64, here or where the gradient is r: what its constants lose, and rounding.

    In a low precision 16 of these are much, and a quarter is allowed. Where an accuracy is declared, that and no more.
    """
    r = f.r if r is None else r
    own, share = _sizes(r if f.known is None else np.asarray(r)[f.known]), 1.0
    if f.unit > LOW or f.accuracy:
        share = 1 / 4
    unit = f.accuracy / FAIL if f.accuracy else share * f.unit
    return Noise(unit * own.norm, unit * own.entry).widened(share * terms[0], share * terms[1])


def _sizes(x) -> Noise:
    return Noise(norm(x), largest(x))


def _is_within(error: Noise, noise: Noise) -> bool:
    return max(ratio(error.norm, noise.norm), ratio(error.entry, noise.entry)) <= FAIL


def points(problem, radius: float, count: int, rng: np.random.Generator):
    """Generic points around the parameters, two and two opposite each other; a zero moves as the smallest does."""
    here = [wide(v) for v in problem.params.values]
    for _ in range(count // 2):
        steps = [_step(v, radius, rng) for v in here]
        for sign in (1.0, -1.0):
            yield [v + sign * s for v, s in zip(here, steps, strict=True)]


def _step(v: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    size = np.abs(v)
    step = rng.uniform(-radius, radius, v.shape)
    step *= np.maximum(size, np.min(size, where=size > 0, initial=1.0))
    return np.asarray(step)


# ---- what comes of it -----------------------------------------------------------------------------------------------
def refused(f: LeafJudgement, exact: np.ndarray, terms: tuple[float, float]) -> LeafJudgement:
    """A leaf whose formula is wrong around the point."""
    if f.wrong:
        return replace(f, certain=True)
    least = tolerance(f, terms=terms)
    if f.unit <= SHOWN:  # float64 knows neither side better than the leaf does
        least = Noise(ALIKE * least.norm, ALIKE * least.entry)
    noise = replace(f, noise=least).tolerated
    far = f.scored(exact, noise)
    if far <= FAIL:
        return f
    said = note(Reason.HIDDEN)
    return f.failed(said, judged=exact, numbers="formula", noise=noise, score=far, certain=True)


def with_own_rounding(check, f: LeafJudgement, i: int, known: Standings) -> LeafJudgement:
    """A leaf beyond the noise of autodiff whose formula is right in float64: it may lose digits as it is written.

    In a float64 leaf its rounding alone excuses it; and may do so where kinks were looked for in vain.
    """
    formula, here = check.candidate.formula, known.here
    if here is None or f.score <= WARN:
        return f
    exactly = f.scored(here[i], f.noise) <= EXACT
    in_float64 = f.unit <= SHOWN and f.score <= CANCELS
    terms = (0.0, 0.0)
    if not (exactly or in_float64):
        if f.score > PLAIN:
            return f
        terms = (
            known.terms[i]
            if any(known.terms[i])
            else rounding_of_terms(check.problem, formula, check.seed, min(check.problem.units))[i]
        )
        if f.scored(here[i], Noise(*terms)) > FAIL:
            return f
    rounding = formula.rounding
    wider = f.noise.widened(*rounding.leaves[i]).widened(*terms)
    if not np.isfinite(rounding.leaves[i][0]) or f.scored(f.g, wider) > FAIL:
        return f
    how = "" if f.unit <= SHOWN else "; exact in float64" if exactly else "; as exact in float64 as its constants"
    place = rounding.where()
    said = note(Reason.CANCELS, dtype=f.dtype, place=f" at {place}" if place else "", excess=f.score, how=how)
    again = graded(replace(f, noise=wider, score=f.scored(f.g, wider), verdict="PASS"))
    return replace(again, note=said)


def with_small_entries(check, leaves: tuple[LeafJudgement, ...]) -> tuple[LeafJudgement, ...]:
    """Refuses leaves that pass as a whole and are wrong in entries far below their largest.

    The column of a feature in small units may be zero, and the norm is right. The noise is known entry by entry: where
    it is below 1e-4 of an entry, an error of 1 % in it is not noise of autodiff's. It may still be rounding of the
    formula as written (A - Y), or a kink: so the same formula in float64 has to be off too, and the true gradient a
    hair away is not.
    """
    suspects = {i: off for i, f in enumerate(leaves) if (off := _off(f)) is not None and off.any()}
    if not suspects:
        return leaves
    judged = list(leaves)
    with tolerated(check.journal, "small entries"), check.journal.stated("small entries") as says:
        here = check.candidate.formula.here
        # Equal steps would leave a tie of equal numbers as it is, and each of them has to come out first.
        for place in points(check.problem, HAIR * max(check.problem.units), 2 * MANY, check.rng("small entries")):
            there = check.problem.double(place)[1]
            for i, off in suspects.items():
                off &= np.abs(there[i] - leaves[i].r) <= 10 * KNOWN * np.abs(leaves[i].r)
        for i, off in suspects.items():
            f = leaves[i]
            if here is None:
                if off.any():
                    judged[i] = replace(f, note=note(Reason.SMALL_ENTRIES, count=int(off.sum())))
                continue
            off &= np.abs(here[i] - f.r) > 0.5 * OFF * np.abs(f.r)
            if off.any():
                judged[i] = _wrong_in(f, off)
        says(f"{sum(f.wrong for f in judged)} leaves are wrong in entries far below their largest")
    return tuple(judged)


def _off(f: LeafJudgement) -> np.ndarray | None:
    """Entries that are off by more than they are known to; None where nothing is known entry by entry."""
    if f.verdict != "PASS" or not f.comparable or f.entries is None or f.known is not None:
        return None
    if score(f.g, f.r, f.tolerated) > FAIL or f.accuracy:
        return None  # a subgradient, or what was declared: not a small error
    size = np.abs(f.r)
    return np.asarray((size > 0) & (f.entries <= KNOWN * size) & (np.abs(f.g - f.r) > OFF * size))


def _wrong_in(f: LeafJudgement, off: np.ndarray) -> LeafJudgement:
    """The verdict, the worst entry and the words."""
    far = np.where(off, np.abs(f.g - f.r) / np.maximum(f.entries if f.entries is not None else 0.0, 1e-300), 0.0)
    worst = tuple(int(k) for k in np.unravel_index(int(np.argmax(far)), far.shape))
    places = np.argwhere(off)
    axes = [k for k in range(off.ndim) if off.shape[k] > 1 and len(set(places[:, k])) == 1] if off.ndim == 2 else []
    if len(axes) == 1:
        where = f"{'row' if axes[0] == 0 else 'column'} {places[0, axes[0]]}"
    else:
        where = "; ".join(f"[{','.join(map(str, p))}]" for p in places[:4]) + ("; ..." if len(places) > 4 else "")
    what = "is zero" if not np.any(f.g[off]) else "is wrong"
    cause = Cause(Kind.SMALL_ENTRIES, (where, called(f.path), what))
    return f.failed(score=float(far.max()), worst=worst, cause=cause)

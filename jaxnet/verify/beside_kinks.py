"""The formula beside kinks: the gradient as written and the true one in float64, where neither falls over a kink.

A pre-activation a rounding away from its kink falls to one side in float32 and to the other in float64, and the
gradient steps by all that an example gives to it. Autodiff's step is noise, for a gradient as right may take it or not;
but sixteen steps hide a factor of 1.001. In float64 every right formula takes the same side:

    e(p) = the formula at p − ∇J(p), both in float64
    wrong   e(p) is more than the formula's constants lose in the leaf's dtype, and the same a few roundings around p

A formula that takes other sides (by a constant rounded otherwise, by another convention at an exact tie) is off by
other steps at each of these points, or by none: it may be right, and the kinks are looked into.
"""

import itertools
import time

import numpy as np

from jaxnet.verify.interpret import is_float
from jaxnet.verify.judgement import Finding, grade
from jaxnet.verify.manual import bits_differ
from jaxnet.verify.noise import FAIL, Noise, largest, norm, score
from jaxnet.verify.report import Statement
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.small_parts import a_hair_away
from jaxnet.verify.steps import in_doubt
from jaxnet.verify.strip import equations, opaque_operations
from jaxnet.verify.terms import rounding_of_terms
from jaxnet.verify.tree import unit_roundoff, wide
from jaxnet.verify.trouble import tolerated
from jaxnet.verify.truth import LIKELY

AROUND = 64.0  # roundings: how far the other points are at most
POINTS = 4  # of them, two and two opposite each other: a tie is to one side of it at one of a pair
SAME = 0.1  # of an error, by which it may change: a step more or less changes it by more
HAIR = 2.0**-18  # of the way to a point: so near it there is no kink, only slope
STEEP = 4.0  # times what the slope makes of the way: a step


def judge_formulas(check):
    """Refuses leaves whose error the steps over near ties hide, and spares the others that are wrong anyway the search.

    A leaf that fails is `certain` to be wrong if its formula is; one that passes by its noise alone fails if its
    formula is wrong and such steps are seen, and is `proved` right if its formula is.
    """
    suspects = {i: f for i, f in enumerate(check.findings) if _may_be_a_step(f)}
    if not suspects or not check.problem.reversible or not check.problem.has_kinks():
        return
    begun = time.perf_counter()
    with tolerated(check.problem, "formulas beside kinks"):
        own, exact = as_written(check)
        off = {i: exact[i] for i, f in suspects.items() if exact and score(exact[i], f.r, _constants(f)) > FAIL}
        for i, f in suspects.items():
            f.proved = exact is not None and i not in off and not f.wrong
        del exact  # as large as all leaves
        _tell_errors_from_steps(check, own, suspects, off)
    wrong = sum(f.certain for f in suspects.values())
    said = f"{len(suspects)} leaves are off by rounding, steps or more; the formula in float64 is wrong in {wrong}"
    check.statements.append(Statement("beside kinks", said, time.perf_counter() - begun))


def _tell_errors_from_steps(check, own: OwnRounding, suspects: dict[int, Finding], off: dict[int, np.ndarray]):
    """Which of the formulas that are off are so around the point too; of the leaves that pass those are refused."""
    points = 1 if all(f.wrong for f in suspects.values()) else POINTS  # of what fails anyway steps are not sought
    steps, last = _still_off(check, own, off, points)
    told = any(not suspects[i].wrong or suspects[i].score <= LIKELY for i in steps)
    terms = rounding_of_terms(check, own) if told else [(0.0, 0.0)] * len(check.findings)
    least = {i: _constants(suspects[i]).widened(*terms[i]) for i in steps}
    for i in steps:
        f, most = suspects[i], AROUND * suspects[i].noise.norm  # by the draws r changes by no more, steps and all
        f.certain = f.wrong and score(off[i], f.r, _with_rounding(f.noise, least[i], most)) > FAIL
    unsure = {i: step for i, step in steps.items() if not suspects[i].certain}
    for i, straight in _straight_on(check, last, unsure).items() if unsure else ():
        f = suspects[i]
        if f.wrong:
            f.certain = score(off[i], f.r, _with_rounding(f.noise, least[i], straight)) > FAIL
        elif unsure[i] > max(STEEP * straight, f.noise.norm / FAIL):
            _refuse(f, off[i], _with_rounding(least[i], least[i], straight))


def forgive_steps(check, variant: str, before: list[Finding]):
    """Gives leaves that a variant alone takes over near ties their eager verdict back.

    Both runs then lie, entry by entry, among what the formula gives in float64 here and a few roundings around.
    """
    suspects = {i: f for i, f in enumerate(check.findings) if f.wrong and not before[i].wrong and f.comparable}
    suspects = {i: f for i, f in suspects.items() if FAIL * AROUND * f.unit < SAME}  # else too coarse to tell anything
    if not suspects or not check.problem.reversible or not check.problem.has_kinks():
        return
    with tolerated(check.problem, "formulas beside kinks"):
        own, exact = as_written(check)
        if exact is None:
            return
        low = high = {i: exact[i] for i in suspects}
        for there in map(own.exact, _around(check, 2 * POINTS)):
            if there is None:
                return
            low, high = (
                {i: pick(x, there[i]) for i, x in ends.items()} for pick, ends in ((np.fmin, low), (np.fmax, high))
            )
        for i, f in suspects.items():
            was, rounding = before[i], AROUND * f.unit  # of a leaf, from point to point
            noise = was.noise.widened(rounding * norm(exact[i]), rounding * largest(exact[i]))
            step = high[i] - low[i]  # and as much again, for several ties in one entry
            if all(
                score(x, np.asarray(np.clip(x, low[i] - step, high[i] + step)), noise) <= FAIL for x in (f.g, was.g)
            ):
                vars(f).update(vars(was))
                f.note = was.note or f"under {variant} it takes a step over a kink nearby"


def as_written(check) -> tuple[OwnRounding, list[np.ndarray] | None]:
    """The formula, and what it gives in float64 if that tells of it: nothing in it, or in the loss, is less precise."""
    own = OwnRounding(check.problem, check.manual, check.seed)
    programs = (check.problem.trace, own.trace) if own.traceable else ()
    dtypes = {v.aval.dtype for p in programs for e in equations(p) for v in e.outvars if hasattr(v.aval, "dtype")}
    coarse = any(unit_roundoff(d) > min(check.problem.units) for d in dtypes if is_float(d))
    hidden = coarse or any(map(opaque_operations, programs))
    exact = own.exact() if own.traceable and not hidden else None
    whole = exact is not None and [x.shape for x in exact] == [np.shape(f.raw) for f in check.findings]
    return own, exact if whole else None


def _may_be_a_step(f: Finding) -> bool:
    """Whether a leaf fails, or passes by what may be steps alone."""
    if not f.comparable or not f.autodiff or f.frozen or f.cause or not np.isfinite(f.r).all():
        return False
    return f.wrong or (f.verdict == "PASS" and in_doubt(f))


def _constants(f: Finding) -> Noise:
    """What a formula in float64 keeps of the rounding of its constants, in a sum of many terms."""
    size = FAIL * f.unit * f.r_norm
    return Noise(size, FAIL * f.unit * largest(f.r), (0.0, 0.0, size))


def _with_rounding(noise: Noise, least: Noise, change: float) -> Noise:
    """A noise, at least what a formula loses: its constants rounded, and the parameters, if r changes so far around."""
    rounding = 4.0 / AROUND * change
    least = least.widened(rounding, rounding)
    return noise.widened(least.norm, least.entry)


def _still_off(check, own: OwnRounding, here: dict[int, np.ndarray], points: int) -> tuple[dict[int, float], tuple]:
    """Which formulas are off around the point as they are at it, and how far r changes; the last point, and r there.

    A leaf that does not change with the parameters is no formula of them.
    """
    steps, last = dict.fromkeys(here, 0.0), ()
    for place in _around(check, points):
        if not steps:
            break
        there, manual = check.problem.double(place)[1], own.exact(place)
        if manual is None:  # no float64 form there: nothing is told
            return {}, ()
        there, manual = ({i: grads[i] for i in steps} for grads in (there, manual))  # not all leaves are kept
        for i in list(steps):
            r, error = check.findings[i].r, here[i] - check.findings[i].r
            as_here = norm(manual[i] - there[i] - error) <= SAME * norm(error)
            if as_here and bits_differ(manual[i], here[i]):
                steps[i] = max(steps[i], norm(there[i] - r))
            else:
                del steps[i]
        last = place, there
    return steps, last


def _straight_on(check, last, leaves) -> dict[int, float]:
    """How far r would change on the way to the last place, if it changed as it does there."""
    place, there = last
    beside = [x + HAIR * (x - wide(v)) for x, v in zip(place, check.problem.params.values, strict=True)]
    moved = check.problem.double(beside)[1]
    return {i: norm(moved[i] - there[i]) / HAIR for i in leaves}


def _around(check, points: int):
    """Points around the parameters, two and two opposite each other."""
    pairs = (a_hair_away(check, AROUND) for _ in range(points))
    return itertools.islice(itertools.chain.from_iterable(pairs), points)


def _refuse(f: Finding, exact: np.ndarray, noise: Noise):
    """What the formula gives in float64 stands for it, if it is wrong there: the error is not mixed with steps."""
    far = score(exact, f.r, noise)
    if far <= FAIL:
        return
    f.raw, f.noise, f.score, f.certain = exact, noise, far, True
    grade(f)
    f.certain = f.wrong
    f.note = f.note or "within the steps over kinks a rounding away; but the formula is off in float64, where are none"

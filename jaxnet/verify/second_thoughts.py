"""Second thoughts about a failure: a kink? a formula that cancels? an autodiff that is wrong itself?"""

import time

import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.judgement import grade
from jaxnet.verify.kinks import Subgradients, flat, within
from jaxnet.verify.noise import FAIL, WARN, Noise, largest, norm, score
from jaxnet.verify.report import Statement, first_line
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.small_parts import judge_small_parts
from jaxnet.verify.tree import called, wide
from jaxnet.verify.trouble import note, tolerated
from jaxnet.verify.witnesses import direction, inner_product

EXACT = 1e-3  # of the noise in the leaf's own dtype: how near a formula has to be in float64 to be called right there

HIDDEN = 0.1  # of a jump: what its leaf's noise may hide at most before it counts as the jump itself
COORDINATES = 32  # of a leaf that differences are asked about one by one before autodiff is blamed


def reconsider(check):
    """Before a leaf fails: a kink? a formula that cancels? an autodiff that is wrong itself?"""
    if any(f.wrong for f in check.findings) and check.problem.trace is not None:
        with tolerated(check.problem, "compiling ahead"):  # what cannot be compiled is told by who asks for it
            OwnRounding(check.problem, check.manual, check.seed).expect_exact()
            check.problem.expect_value()
    if check.kinks == "subgradient":
        between_one_sided_derivatives(check)
    suspects = [
        f for f in check.findings if f.comparable and not f.cause and f.score > WARN and f.verdict in ("FAIL", "PASS")
    ]
    if suspects:
        excused_by_rounding(check, suspects)
    judge_small_parts(check)
    for f in check.findings:
        f.entries = None  # as large as the leaf, and of no more use
    autodiff_in_doubt(check)


def between_one_sided_derivatives(check):
    """Accepts a subgradient, and says so."""
    if any(f.r is None for f in check.findings) or not (check.problem.reversible and check.problem.has_kinks()):
        return
    leaves = {i: f for i, f in enumerate(check.findings) if f.comparable and not f.frozen and np.isfinite(f.g).all()}
    wrong = [i for i, f in leaves.items() if f.wrong and not f.cause]
    torn = [i for i, f in leaves.items() if _torn(f)]
    if not wrong and not torn:
        return
    begun = time.perf_counter()
    noise = {i: _beside_a_kink(leaves[i], step=i in torn) for i in (*wrong, *torn)}
    try:
        r, g = [f.r for f in check.findings], {i: leaves[i].g for i in wrong}
        nearby = Subgradients(check.problem, r, g, check.rng)
        jumping = nearby.jumping(torn, noise)
        if jumping or any(nearby.moved(i, g[i], noise[i]) for i in wrong):
            nearby.take_the_conventions()  # they may move leaves that a hair in two directions does not
        doubtful = [i for i in wrong if nearby.moved(i, g[i], noise[i])] + jumping
        accepted = _accepted(nearby, leaves, doubtful, noise) if doubtful else []
    except Exception as error:  # no float64 form
        note(check.problem, error, "kinks")
        check.notes.append(f"kinks were not examined: {first_line(error)}")
        return
    said = (
        f"{len(nearby.moves)} other gradients at the kink; {len(accepted)} leaves are mixtures of them"
        if accepted
        else "no kink explains the difference"
    )
    check.statements.append(Statement("kinks", said, time.perf_counter() - begun))


def _torn(f) -> bool:
    """Whether a leaf tells nothing because a rounding moves it: over a kink, perhaps."""
    terms = f.noise.terms
    return f.verdict == "INCONCLUSIVE" and len(terms) > 2 and max(terms[:2]) > 4 * terms[2]


def _beside_a_kink(f, step: bool) -> Noise:
    """The noise of another gradient than autodiff's, which g may be; without the step over the kink if it holds one."""
    noise = Noise(f.unit * norm(f.r), f.unit * largest(f.r), f.noise.terms) if step else f.noise
    return noise.widened(f.unit * norm(f.g), f.unit * largest(f.g))


def _accepted(nearby, leaves, doubtful, noise) -> list[str]:
    """The leaves that are subgradients, all at once unless others are in the way; the rest are told why not."""
    wide = {i: noise.get(i) or _beside_a_kink(f, step=False) for i, f in leaves.items()}
    # A rounding that falls over a tie, to the other side, is no noise for a part of that step to hide in.
    torn = [i for i in doubtful if FAIL * wide[i].norm > HIDDEN * nearby.jump(i)[0]]
    noise = {i: _beside_a_kink(leaves[i], step=True) if i in torn else x for i, x in wide.items()}
    noise = {i: x.widened(*(leaves[i].unit * jump for jump in nearby.jump(i))) for i, x in noise.items()}
    right = [i for i, f in leaves.items() if i not in doubtful and not f.wrong and noise[i].norm]
    every = {i: leaves[i].g for i in (*right, *doubtful)}
    left = nearby.remainder(every, noise)
    at_once = all(within(x, noise[i]) for i, x in left.items()) or nearby.shared_out(every, noise)
    reached = list(doubtful) if at_once else []
    for i in doubtful if not at_once else ():
        beside_the_right = {j: every[j] for j in (*right, i)}
        if len(every) > 1:
            left[i] = nearby.remainder({i: every[i]}, noise)[i]
        alone = at_once if len(beside_the_right) == len(every) else nearby.shared_out(beside_the_right, noise)
        if alone or (alone is None and within(left[i], noise[i])):
            reached.append(i)
        else:
            _refuse(nearby, leaves[i], i, left[i], wide[i], noise[i], alone is False and i not in torn)
    for i in reached:
        if not at_once and len(reached) == len(doubtful):
            leaves[i].verdict = "INCONCLUSIVE" if at_once is None or torn else "FAIL"
            leaves[i].note = "at a kink: this leaf may be a subgradient, but no ties give all leaves at once"
        else:
            _accept(leaves[i], nearby.interval(i, _furthest(leaves[i])), noise[i])
    return [leaves[i].path for i in reached if leaves[i].verdict == "PASS"]


def _refuse(nearby, f, i, left, noise, least, refuted: bool):
    """A leaf that no mixture was found for fails, if there is a reason that none can be."""
    gap = _or_zero(f.noise.terms[0])  # between float32 and float64; a step over a kink in it hides much
    known = noise.widened(gap, gap)
    why = nearby.refute(i, f.g, left, known, least)
    if refuted and not why:
        why = "at a kink: whatever each tie gives to its sides, this is not what comes of it"
    if why:
        f.noise, f.score = known, score(f.g, f.r, known)
    f.verdict = "FAIL" if why else "INCONCLUSIVE"
    f.note = why or "at a kink: no mixture of the gradients next to it is this one, nor is it ruled out"


def _accept(f, interval, noise):
    """A leaf passes as a subgradient."""
    at = _furthest(f)
    manual, auto = flat(f.g)[at], flat(f.r)[at]
    low, high = min(interval[0], manual), max(interval[1], manual)
    f.verdict, f.noise, f.score = "PASS", noise, 0.0
    f.note = (
        f"a subgradient: at a kink the manual {_short(manual)} and autodiff's {_short(auto)} both "
        f"lie in [{low:.3g}, {high:.3g}]; a convention, no error"
    )


def _furthest(f) -> int:
    """The entry at which a leaf differs most from autodiff."""
    return int(np.argmax(np.abs(flat(f.g) - flat(f.r))))


def excused_by_rounding(check, suspects):
    """A formula that is right in float64 and cancels in the leaf's dtype is not an error."""
    begun = time.perf_counter()
    try:
        own = OwnRounding(check.problem, check.manual, check.seed)
    except Exception as error:  # an operation that cannot be read again
        note(check.problem, error, "own rounding")
        check.notes.append(f"the formula's own rounding was not examined: {first_line(error)}")
        return
    if not own.traceable:
        return
    exact = own.exact()
    candidates = [
        i
        for i, f in enumerate(check.findings)
        if f in suspects
        and exact is not None
        and exact[i].shape == f.r.shape
        and score(exact[i], f.r, f.noise) <= EXACT
    ]
    excused = []
    rounding = own.noise() if candidates else []
    for i in candidates:
        f = check.findings[i]
        wider = f.noise.widened(*rounding[i])
        if not np.isfinite(rounding[i][0]) or score(f.g, f.r, wider) > FAIL:
            continue
        excess, place = f.score, own.where()
        f.noise, f.score, f.verdict = wider, score(f.g, f.r, wider), "PASS"
        grade(f)
        f.note = f"the formula as written cancels in {f.dtype}" + (f" at {place}" if place else "")
        f.note += f" ({excess:.2g} x the noise of autodiff; exact in float64)"
        excused.append(f.path)
    said = f"{len(excused)} leaves are right in float64 and lose digits as written" if excused else "explains nothing"
    check.statements.append(Statement("own rounding", said, time.perf_counter() - begun))


def autodiff_in_doubt(check):
    """Asks finite differences who is right."""
    doubtful = [
        i
        for i, f in enumerate(check.findings)
        if f.comparable
        and f.autodiff
        and (f.wrong or f.note == "autodiff is not finite here")
        and np.isfinite(f.g).all()
    ]
    if not doubtful:
        return
    begun, x = time.perf_counter(), [wide(v) for v in check.problem.params.values]
    silent = [i for i in doubtful if not np.isfinite(check.findings[i].r).all()]
    disputed = [i for i in doubtful if i not in silent]
    said = ""
    try:
        level = check.problem.value(x)
        for i in silent:
            _in_place_of_autodiff(check, x, i, level)
        if disputed:
            confirmed, refuted = _along_the_errors(check, x, disputed, level)
            said = f"along the errors themselves: autodiff confirmed on {confirmed} leaves, refuted on {refuted}"
    except Exception as error:  # a host function that fails away from the point
        note(check.problem, error, "finite differences")
        check.notes.append(f"finite differences could not be asked: {first_line(error)}")
    said = said or f"asked in place of autodiff on {len(silent)} leaves"
    check.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))


def _in_place_of_autodiff(check, x, i, level):
    """Autodiff is not finite: the manual gradient against a difference."""
    f = check.findings[i]
    v = _as_large_as(x[i], direction(check.rng, x[i]))
    found = differences.slope(check.problem.value, x, {i: v}, level)
    if found is None:
        return
    error = abs(inner_product(f.g, v) - found.central)
    noise = found.error + f.unit * float(np.sum(np.abs(f.g * v)))
    if found.kinked:
        f.verdict, f.note = "INCONCLUSIVE", "autodiff is not finite at this kink; values differ from side to side"
    elif error > FAIL * noise:
        f.verdict, f.cause = "FAIL", None
        f.note = "finite differences refute it (autodiff is not finite here)"
    else:
        f.verdict, f.note = "PASS", "autodiff is not finite here; finite differences agree with the manual gradient"
        f.score, f.noise = error / noise if noise else 0.0, Noise(noise, noise)


def _along_the_errors(check, x, disputed, level) -> tuple[int, int]:
    """Manual and autodiff differ: the difference quotient along that very difference, of all leaves, then of each."""
    along = {i: _as_large_as(x[i], np.conj(check.findings[i].g - check.findings[i].r)) for i in disputed}

    def side(leaves) -> str | None:
        v = {i: along[i] for i in leaves}
        manual, auto = (
            sum(inner_product(part, v[i]) for i, part in ((i, getattr(check.findings[i], name)) for i in leaves))
            for name in ("g", "r")
        )
        gap = 0.1 * abs(manual - auto)  # each leaf's share of it is positive: nothing cancels
        found = differences.slope(check.problem.value, x, v, level, enough=0.1 * gap)
        if found is None:
            return None
        if abs(auto - found.central) <= gap:
            return "autodiff"
        certain = found.error <= gap and not found.kinked
        return "manual" if certain and abs(manual - found.central) <= gap else None

    if len(disputed) > 1 and side(disputed) == "autodiff":
        return len(disputed), 0
    sides = {i: side([i]) for i in disputed[:8]}
    for i in (i for i, who in sides.items() if who == "manual"):
        f = check.findings[i]
        if _refuted_elsewhere(check, x, i, level):
            f.note = "finite differences refute both: the manual gradient is wrong, and so is autodiff of the loss"
            continue
        f.verdict = "INCONCLUSIVE"
        f.note = "the witnesses disagree: finite differences confirm the manual gradient and refute autodiff"
        check.notes.append(f"blame the witness, not the gradient: autodiff of the loss is wrong on {called(f.path)}")
    return [*sides.values()].count("autodiff"), [*sides.values()].count("manual")


def _refuted_elsewhere(check, x, i, level) -> bool:
    """Whether the manual gradient departs from differences along random directions or coordinates of a small leaf.

    Along its difference from autodiff alone, the larger error of autodiff hides a smaller one of its own.
    """
    f = check.findings[i]
    error = f.noise.norm if np.isfinite(f.noise.norm) else f.unit * norm(f.g)
    directions = [_as_large_as(x[i], direction(check.rng, x[i])) for _ in range(check.directions)]
    if x[i].size <= COORDINATES:
        units = np.eye(x[i].size).reshape(-1, *x[i].shape)
        both = [*units, *(1j * units)] if np.iscomplexobj(x[i]) else units
        directions += [_as_large_as(x[i], e) for e in both]
    for v in directions:
        found = differences.slope(check.problem.value, x, {i: v}, level)
        if found is None:
            continue
        low, high = sorted((found.left, found.right)) if found.kinked else (found.central, found.central)
        slack = FAIL * (max(found.error, found.one_sided_error if found.kinked else 0.0) + error * norm(v))
        if not low - slack <= inner_product(f.g, v) <= high + slack:
            return True
    return False


def _as_large_as(x, v):
    """The direction v with its largest entry as large as x is on average."""
    return v / max(largest(v), 1e-300) * (float(np.sqrt(np.mean(np.abs(x) ** 2))) or 1.0)


def _or_zero(x):
    return x if np.isfinite(x) else 0.0


def _short(x) -> str:
    return f"{x:.3g}"

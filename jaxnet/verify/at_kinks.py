"""The verdict at a kink: which of the leaves that differ from autodiff are subgradients."""

import time
from contextlib import contextmanager
from functools import cache

import numpy as np

from jaxnet.verify.beside_kinks import as_written
from jaxnet.verify.kinks import Subgradients, within
from jaxnet.verify.nearby import flat
from jaxnet.verify.noise import FAIL, Noise, largest, norm, score
from jaxnet.verify.report import Statement, first_line
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.steps import in_doubt, is_shaken, take_steps_out_of_the_noise
from jaxnet.verify.terms import rounding_of_terms
from jaxnet.verify.trouble import note

HIDDEN = 0.1  # of a jump: what its leaf's noise may hide at most before it counts as the jump itself


def accept_subgradients(check):
    """Accepts a subgradient, and says so."""
    blind = check.problem.valued_only or any(f.r is None for f in check.findings)
    if blind or not check.problem.has_kinks():
        return
    leaves = {i: f for i, f in enumerate(check.findings) if f.comparable and not f.frozen and np.isfinite(f.g).all()}
    wrong = [i for i, f in leaves.items() if f.wrong and not f.cause and not f.certain]
    asked = [i for i, f in leaves.items() if i in wrong or (in_doubt(f) and not f.proved)]
    if not asked:
        return
    begun, accepted = time.perf_counter(), []
    try:
        nearby = Subgradients(check.problem, [f.r for f in check.findings], {i: leaves[i].g for i in asked}, check.rng)
        for i in nearby.out_of_reach({i: (leaves[i].g, _beside_a_kink(leaves[i])) for i in wrong}):
            asked.remove(i)
        if asked:
            take_steps_out_of_the_noise(check, nearby, {i: f for i, f in leaves.items() if is_shaken(f)})
            # what only the step had let pass is looked into as well, though its formula be right
            asked = [i for i, f in leaves.items() if i in asked or (f.wrong and i not in wrong)]
            torn = {i: leaves[i] for i in asked if leaves[i].verdict == "INCONCLUSIVE" and is_shaken(leaves[i])}
            with _by_their_formulas(check, torn, leaves) as told:
                accepted = _looked_into(nearby, leaves, asked, told, cache(lambda: _in_own_precision(check)))
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


@contextmanager
def _by_their_formulas(check, torn, leaves):
    """Lets the formula in float64 stand for the leaves, if rounding may tear some; yields what the terms of these lose.

    Without their noise the rounding of g, and the side of a near tie that it took, would count as errors. The others
    have to be of the same evaluation: in float64 a near tie may be to its other side.
    """
    own, written = as_written(check) if torn else (None, None)
    exact = written or []
    kept = {i: f.raw for i, f in leaves.items() if exact and not f.cause and not f.certain}
    terms = rounding_of_terms(check, own) if kept else []
    for i in kept:
        leaves[i].raw = exact[i]
    try:
        yield {i: terms[i] for i in torn if kept}
    finally:
        for i, raw in kept.items():
            if not leaves[i].wrong:
                leaves[i].raw = raw


def _in_own_precision(check) -> list[tuple[float, float]]:
    """What the terms of each leaf lose as it is."""
    own = OwnRounding(check.problem, check.manual, check.seed)
    return rounding_of_terms(check, own, min(check.problem.units))


def _looked_into(nearby, leaves, asked, torn, lost) -> list[str]:
    """Which of some leaves are mixtures of gradients next to the point; of torn ones their formulas are asked."""
    wrong = [i for i in asked if leaves[i].wrong and not leaves[i].cause and not leaves[i].certain]
    if not wrong and not torn:
        return []
    noise = {i: _beside_a_kink(leaves[i], torn.get(i)) for i in (*wrong, *torn)}
    g = {i: leaves[i].g for i in wrong}
    jumping = nearby.jumping([*torn], noise)
    if jumping or any(nearby.moved(i, g[i], noise[i]) for i in wrong):
        nearby.take_the_conventions()  # they may move leaves that a hair in two directions does not
    doubtful = [i for i in wrong if nearby.moved(i, g[i], noise[i])] + jumping
    return _accepted(nearby, leaves, doubtful, noise, torn, lost) if doubtful else []


def _beside_a_kink(f, terms: tuple[float, float] | None = None) -> Noise:
    """The noise of another gradient than autodiff's, which g may be; of its terms alone if there is a step in it."""
    noise = f.noise
    if terms is not None:
        noise = Noise(f.unit * f.r_norm, f.unit * largest(f.r), f.noise.terms).widened(*terms)
    return noise.widened(f.unit * norm(f.g), f.unit * largest(f.g))


def _accepted(nearby, leaves, doubtful, noise, terms, lost) -> list[str]:
    """The leaves that are subgradients, all at once unless others are in the way; the rest are told why not."""
    broad = {i: noise.get(i) or _beside_a_kink(f) for i, f in leaves.items()}
    # A rounding that falls over a tie, to the other side, is no noise for a part of that step to hide in.
    torn = [i for i in doubtful if FAIL * broad[i].norm > HIDDEN * nearby.jump(i)[0]]
    noise = {i: _beside_a_kink(leaves[i], terms.get(i, (0.0, 0.0))) if i in torn else x for i, x in broad.items()}
    noise = {i: x.widened(*(leaves[i].unit * jump for jump in nearby.jump(i))) for i, x in noise.items()}
    right = [i for i, f in leaves.items() if i not in doubtful and not f.wrong and noise[i].norm]
    every = {i: leaves[i].g for i in (*right, *doubtful)}
    left = nearby.remainder(every, noise)
    at_once = all(within(x, noise[i]) for i, x in left.items()) or nearby.shared_out(every, noise)
    reached = list(doubtful) if at_once else []
    undecided = at_once is None or bool(torn) or not all(leaves[i].wrong for i in doubtful)
    for i in doubtful if not at_once else ():
        beside_the_right = {j: every[j] for j in (*right, i)}
        if len(every) > 1:
            left[i] = nearby.remainder({i: every[i]}, noise)[i]
        alone = at_once if len(beside_the_right) == len(every) else nearby.shared_out(beside_the_right, noise)
        if alone is False and lost()[i][0] > noise[i].norm:
            alone = nearby.shared_out(beside_the_right, {**noise, i: noise[i].widened(*lost()[i])})
        if alone or (alone is None and within(left[i], noise[i])):
            reached.append(i)
        else:
            _refuse(nearby, leaves[i], i, left[i], broad[i], noise[i], alone is False and i not in torn, lost)
    for i in reached:
        smooth = nearby.smooth(i, leaves[i].g, noise[i])
        if smooth:
            leaves[i].verdict, leaves[i].note, leaves[i].noise = "FAIL", smooth, noise[i]
            leaves[i].score = score(leaves[i].g, leaves[i].r, noise[i])
        elif not at_once and len(reached) == len(doubtful):
            leaves[i].verdict = "INCONCLUSIVE" if undecided else "FAIL"
            leaves[i].note = "at a kink: this leaf may be a subgradient, but no ties give all leaves at once"
        else:
            _accept(leaves[i], nearby.interval(i, _furthest(leaves[i])), noise[i])
    return [leaves[i].path for i in reached if leaves[i].verdict == "PASS"]


def _refuse(nearby, f, i, left, noise, least, refuted: bool, lost):
    """A leaf that no mixture was found for fails, if there is a reason that none can be, whatever its terms lose."""
    gap = _or_zero(f.noise.terms[0])  # between float32 and float64; a step over a kink in it hides much
    known = noise.widened(gap, gap)
    why = nearby.refute(i, f.g, left, known, least)
    if why and lost()[i][0] > min(known.norm, least.norm):  # on one side of the tie the terms may cancel
        why = nearby.refute(i, f.g, left, known.widened(*lost()[i]), least.widened(*lost()[i]))
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


def _or_zero(x):
    return x if np.isfinite(x) else 0.0


def _short(x) -> str:
    return f"{x:.3g}"

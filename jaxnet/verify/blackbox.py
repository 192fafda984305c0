"""Witness 4: finite differences, the judge itself when the loss is a black box; bisection to the wrong entry."""

import time

import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.judgement import Cause, numbers
from jaxnet.verify.noise import FAIL, Noise, norm, ratio
from jaxnet.verify.report import Statement
from jaxnet.verify.tree import called, wide
from jaxnet.verify.trouble import note
from jaxnet.verify.witnesses import direction, inner_product

DRAWS = 3
DIFFERENCES_LIMIT = 256  # coordinates that finite differences may be asked for one at a time


def judge_by_differences(check):
    """The judge of a loss that is a black box: every leaf that has no reference, along random directions."""
    begun = time.perf_counter()
    x, level = _point(check)
    shaken = [s for s in (_shaken_manual(check, x) for _ in range(DRAWS)) if s is not None]
    rates, worst = [], 0.0
    for i, f in _leaves(check, x):
        if f.r is not None:
            continue
        if not np.isfinite(f.g).all():
            f.verdict, f.score = "FAIL", float("inf")
            f.cause = Cause("not finite", "NaN or Inf in the manual gradient")
            continue
        rates += _judge_along_directions(check, f, i, x, level, shaken)
        worst = max(worst, f.score)
    _say(check, begun, f", worst {worst:.2g} x noise", rates)


def compare_with_differences(check):
    """Witness 4 beside autodiff, on every leaf along random directions."""
    begun = time.perf_counter()
    x, level = _point(check)
    rates, disputed, leaves = [], [], list(_leaves(check, x))
    for i, f in leaves:
        for found, v, claimed, noise in _slopes(check, f, i, x, level):
            rates += _rate(found, claimed)
            gap = abs(inner_product(f.r, v) - found.central)
            if f.verdict == "PASS" and not found.kinked and gap > 64 * noise + 1e-5 * abs(found.central):
                disputed.append(called(f.path))
    disputed = list(dict.fromkeys(disputed))
    check.notes += [f"the witnesses disagree on {path}: autodiff against finite differences" for path in disputed]
    agreed = "autodiff agrees" if leaves else "no leaf to ask about"
    verdict = f"autodiff and differences disagree on {', '.join(disputed)}" if disputed else agreed
    _say(check, begun, f"; {verdict}", rates)


def _point(check):
    x = [wide(v) for v in check.problem.params.values]
    return x, check.problem.value(x)


def _leaves(check, x):
    """The leaves that differences can be asked about."""
    for i, f in enumerate(check.findings):
        if not f.frozen and f.raw is not None and np.shape(f.raw) == x[i].shape and x[i].size:
            yield i, f


def _slopes(check, f, i, x, level, shaken=()):
    """Slopes of the loss along random directions of a leaf, what the manual gradient claims, and the noise of both."""
    for _ in range(check.directions):
        v = direction(check.rng, x[i])
        found = differences.slope(check.problem.value, x, {i: v}, level)
        if found is not None:
            rounding = 4 * f.unit * float(np.sqrt(np.sum(np.abs(f.g * v) ** 2)))
            moved = max((abs(inner_product(s[i], v)) for s in shaken if s[i] is not None), default=0.0)
            noise = max(found.error, rounding, moved, differences.U * abs(found.central))
            yield found, v, inner_product(f.g, v), noise


def _rate(found, claimed) -> list[float]:
    rate = None if found.kinked else found.rate(claimed)
    return [] if rate is None else [rate]


def _say(check, begun, verdict, rates):
    rate = f"; Taylor rate {np.median(rates):.2f} (2 right, 1 wrong)" if rates else ""
    said = f"{check.directions} directions a leaf, Richardson{verdict}{rate}"
    check.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))


def _judge_along_directions(check, f, i, x, level, shaken) -> list[float]:
    """The verdict on a leaf; returns the Taylor rates."""
    scores, rates, signal = [], [], 0.0
    for found, v, claimed, noise in _slopes(check, f, i, x, level, shaken):
        rates += _rate(found, claimed)
        if found.kinked:
            low, high = sorted((found.left, found.right))
            slack = FAIL * max(found.error, found.one_sided_error)
            if low - slack <= claimed <= high + slack:
                continue
        scores.append((ratio(abs(claimed - found.central), noise), v, noise))
        signal = max(signal, abs(found.central) / noise if noise else 0.0)
    if not scores:
        f.verdict, f.note = "INCONCLUSIVE", "a kink or the edge of the domain in every direction"
        return rates
    f.score, v, noise = max(scores, key=lambda s: s[0])
    f.noise = Noise(noise / max(norm(v) / np.sqrt(v.size), 1e-300), noise)
    if _stops_matter(check, i, x, v, level, noise):
        f.verdict = "INCONCLUSIVE"
        f.note = "what is stopped feeds a rule that cannot be replaced: values do not tell which derivative is meant"
    elif f.score > FAIL:
        f.verdict = "FAIL"
        _which_coordinates(check, f, i, x, v, level)
    elif signal <= FAIL:
        f.verdict, f.note = "INCONCLUSIVE", "the true gradient is below the noise of finite differences"
    return rates


def _stops_matter(check, i, x, v, level, noise) -> bool:
    """Whether the user's own rules may depend on what is stopped (the factors of a matrix, in a solve)."""
    problem = check.problem
    if not (problem.stops and problem.untrusted):
        return False
    held, moved = (differences.slope(f, x, {i: v}, level) for f in (problem.value, problem.value_through_stops))
    return held is None or moved is None or abs(held.central - moved.central) > FAIL * (noise + moved.error)


def _which_coordinates(check, f, i, x, v, level):
    """The wrong entry by halving; failing that, every entry of a small leaf by differences."""
    at, taken = differences.bisect(check.problem.value, x, i, f.g, v, level)
    if at is not None:
        f.worst = at
        place = ",".join(map(str, at))
        text = f"one coordinate is wrong, {called(f.path)}[{place}] (found by halving, {taken} slopes)"
        f.cause = Cause("entries", text)
    elif x[i].size > DIFFERENCES_LIMIT or np.iscomplexobj(x[i]):
        f.note = "several coordinates are wrong; the leaf is too large to difference each"
        return
    true = np.array(f.g)
    for place in [at] if at is not None else np.ndindex(v.shape):
        e = np.zeros_like(v)
        e[place] = v[place]
        found = differences.slope(check.problem.value, x, {i: e}, level)
        if found is None:
            return
        true[place] = found.central / e[place]
    f.r = true


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

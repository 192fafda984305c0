"""Witness 4: finite differences, the judge itself when the loss is a black box; bisection to the wrong entry."""

import time

import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.judgement import numbers
from jaxnet.verify.noise import FAIL, Noise, norm, ratio
from jaxnet.verify.report import Statement
from jaxnet.verify.tree import called, wide
from jaxnet.verify.trouble import note
from jaxnet.verify.witnesses import direction, inner_product

DRAWS = 3
DIFFERENCES_LIMIT = 256  # coordinates that finite differences may be asked for one at a time


def by_differences(check, fallback: bool):
    """Witness 4 on every leaf along random directions; the judge itself when the loss is a black box."""
    begun = time.perf_counter()
    x = [wide(v) for v in check.problem.params.values]
    level = check.problem.value(x)
    shaken = [s for s in (_shaken_manual(check, x) for _ in range(DRAWS)) if s is not None] if fallback else []
    rates, worst = [], 0.0
    for i, f in enumerate(check.findings):
        if f.frozen or f.raw is None or np.shape(f.raw) != x[i].shape or x[i].size == 0:
            continue
        if fallback and f.r is not None:
            continue
        if fallback and not np.isfinite(f.g).all():
            f.verdict, f.score = "FAIL", float("inf")
            f.cause = "NaN or Inf in the manual gradient"
            continue
        _along_directions(check, f, i, x, level, shaken, rates, fallback)
        worst = max(worst, f.score if fallback else 0.0)
    rate = f"; Taylor rate {np.median(rates):.2f} (2 right, 1 wrong)" if rates else ""
    said = (
        f"{check.directions} directions a leaf, Richardson, worst {worst:.2g} x noise{rate}"
        if fallback
        else f"{check.directions} directions a leaf, Richardson{check._disputed}{rate}"
    )
    check.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))


def _along_directions(check, f, i, x, level, shaken, rates, fallback):
    scores, kinked, seen, signal = [], 0, 0, 0.0
    check._disputed = getattr(check, "_disputed", "; autodiff agrees")
    for _ in range(check.directions):
        v = direction(check.rng, x[i])
        found = differences.slope(check.problem.value, x, {i: v}, level)
        if found is None:
            continue
        seen += 1
        claimed = inner_product(f.g, v)
        rate = None if found.kinked else found.rate(claimed)
        if rate is not None:
            rates.append(rate)
        if found.kinked:
            kinked += 1
            low, high = sorted((found.left, found.right))
            if low - FAIL * found.error <= claimed <= high + FAIL * found.error:
                continue
        rounding = 4 * f.unit * float(np.sqrt(np.sum(np.abs(f.g * v) ** 2)))
        moved = max((abs(inner_product(s[i], v)) for s in shaken if s[i] is not None), default=0.0)
        noise = max(found.error, rounding, moved, differences.U * abs(found.central))
        if fallback:
            scores.append((ratio(abs(claimed - found.central), noise), v, noise))
            signal = max(signal, abs(found.central) / noise if noise else 0.0)
        elif (
            f.verdict == "PASS"
            and not found.kinked
            and abs(inner_product(f.r, v) - found.central) > 64 * noise + 1e-5 * abs(found.central)
        ):
            check._disputed = f"; autodiff and differences disagree on {f.path}"
            check.notes.append(f"the witnesses disagree on {f.path}: autodiff against finite differences")
    if not fallback:
        return
    if not seen or (not scores and kinked):
        f.verdict, f.note = "INCONCLUSIVE", "a kink or the edge of the domain in every direction"
        return
    f.score, v, noise = max(scores, key=lambda s: s[0])
    f.noise = Noise(noise / max(norm(v) / np.sqrt(v.size), 1e-300), noise)
    if f.score > FAIL:
        f.verdict = "FAIL"
        _which_coordinates(check, f, i, x, v, level)
    elif signal <= FAIL:
        f.verdict, f.note = "INCONCLUSIVE", "the true gradient is below the noise of finite differences"


def _which_coordinates(check, f, i, x, v, level):
    """The wrong entry by halving; failing that, every entry of a small leaf by differences."""
    at, taken = differences.bisect(check.problem.value, x, i, f.g, v, level)
    if at is not None:
        f.worst = at
        place = ",".join(map(str, at))
        f.cause = f"one coordinate is wrong, {called(f.path)}[{place}] (found by halving, {taken} slopes)"
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

"""Entries too small to be seen in their leaf: the column of a feature in small units may be zero, the norm is right.

The three terms of the noise are known entry by entry. Where all of them are below 1e-4 of an entry, an error of 1 % in
it is no noise of autodiff's. It may still be rounding of the formula as written (A - Y), or a kink; so an entry is
refused only if the same formula in float64 is off too, and the true gradient a hair away is not.
"""

import time

import numpy as np

from jaxnet.verify.judgement import Cause
from jaxnet.verify.noise import FAIL, score
from jaxnet.verify.report import Statement
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.tree import called, wide
from jaxnet.verify.trouble import tolerated

KNOWN, WRONG = 1e-4, 1e-2  # of an entry: its noise at most, its error at least
DRAWS = 4  # of several equal numbers each has to come out first


def judge_small_parts(check):
    """Refuses leaves that pass as a whole and are wrong in entries far below their largest."""
    suspects = {i: off for i, f in enumerate(check.findings) for off in [_off(f)] if off is not None and off.any()}
    if not suspects:
        return
    begun, refused = time.perf_counter(), 0
    with tolerated(check.problem, "small entries"):
        own = OwnRounding(check.problem, check.manual, check.seed)
        exact = own.exact() if own.traceable else None
        for values in (values for _ in range(DRAWS) for values in a_hair_away(check)):
            there = check.problem.double(values)[1]
            for i, off in suspects.items():
                r = check.findings[i].r
                off &= np.abs(there[i] - r) <= 10 * KNOWN * np.abs(r)
        for i, off in suspects.items():
            f = check.findings[i]
            if exact is None:
                if off.any():
                    f.note = f"{off.sum()} entries far below the largest are off by 1 % or more: wrong, or rounding"
                continue
            off &= np.abs(exact[i] - f.r) > 0.5 * WRONG * np.abs(f.r)
            if off.any():
                _refuse(f, off)
                refused += 1
    said = f"{refused} leaves are wrong in entries far below their largest"
    check.statements.append(Statement("small entries", said, time.perf_counter() - begun))


def _off(f):
    """Entries that are off by more than they are known to; None where nothing is known entry by entry."""
    if f.verdict != "PASS" or not f.comparable or f.entries is None or score(f.g, f.r, f.noise) > FAIL:
        return None  # the last one: a subgradient, which is no small error
    size = np.abs(f.r)
    return (size > 0) & (f.entries <= KNOWN * size) & (np.abs(f.g - f.r) > WRONG * size)


def a_hair_away(check, roundings: float = 16.0):
    """The parameters, each moved by up to some of its own roundings (a zero by some of the smallest), then moved back.

    Each by another number of them: equal steps would leave a tie of equal numbers as it is.
    """
    here = check.problem.params.values
    there = [_shaken(wide(v), roundings * max(check.problem.units), check.rng) for v in here]
    yield there
    yield [2.0 * wide(v) - x for v, x in zip(here, there, strict=True)]


def _shaken(v: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Entries each moved by up to `most` of their size."""
    size = np.abs(v)
    step = rng.uniform(-most, most, v.shape)
    step *= np.maximum(size, np.min(size, where=size > 0, initial=1.0))
    return np.asarray(v + step)


def _refuse(f, off):
    """The verdict, the worst entry and the words."""
    far = np.where(off, np.abs(f.g - f.r) / np.maximum(f.entries, 1e-300), 0.0)
    f.verdict, f.score = "FAIL", float(far.max())
    f.worst = tuple(int(k) for k in np.unravel_index(int(np.argmax(far)), far.shape))
    places = np.argwhere(off)
    axes = [k for k in range(off.ndim) if off.shape[k] > 1 and len(set(places[:, k])) == 1] if off.ndim == 2 else []
    if len(axes) == 1:
        where = f"{'row' if axes[0] == 0 else 'column'} {places[0, axes[0]]}"
    else:
        where = "; ".join(f"[{','.join(map(str, p))}]" for p in places[:4]) + ("; ..." if len(places) > 4 else "")
    what = "is zero" if not np.any(f.g[off]) else "is wrong"
    text = f"{where} of {called(f.path)} {what}, far below the leaf's largest entries"
    f.cause = Cause(f"small part of {called(f.path)}", text)

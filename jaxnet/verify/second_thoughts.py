"""Second thoughts about a failure: a kink? a formula that cancels? an autodiff that is wrong itself?"""

import time

import numpy as np

from jaxnet.verify.at_kinks import accept_subgradients
from jaxnet.verify.beside_kinks import judge_formulas
from jaxnet.verify.disputes import settle_disputes
from jaxnet.verify.judgement import grade
from jaxnet.verify.noise import FAIL, WARN, Noise, score
from jaxnet.verify.report import Statement, first_line
from jaxnet.verify.rounding import SHOWN, OwnRounding
from jaxnet.verify.small_parts import judge_small_parts
from jaxnet.verify.terms import rounding_of_terms
from jaxnet.verify.trouble import note
from jaxnet.verify.truth import LIKELY

CANCELS = 1e10  # noises: more than any formula loses in float64 by the way it is written
EXACT = 1e-3  # of the noise in the leaf's own dtype: how near a formula has to be in float64 to be called right there


def reconsider(check):
    """Before a leaf fails: a kink? a formula that cancels? an autodiff that is wrong itself?"""
    judge_formulas(check)
    if check.kinks == "subgradient":
        accept_subgradients(check)
    suspects = [f for f in check.findings if f.comparable and f.score > WARN and _is_open(f)]
    if suspects:
        excuse_rounding(check, suspects)
    judge_small_parts(check)
    for f in check.findings:
        f.entries = None  # as large as the leaf, and of no more use
    settle_disputes(check)


def _is_open(f) -> bool:
    """Whether a leaf's formula might excuse it: it is not known to be wrong, and the leaf's noise has a bound."""
    without_bound = f.verdict == "INCONCLUSIVE" and (f.overflows or not np.isfinite(f.r).all())
    return not f.cause and not f.certain and not without_bound


def _may_cancel_in_float64(f) -> bool:
    """Whether a leaf's error may be its formula's rounding, though nothing more exact than the leaf is known."""
    return f.unit <= SHOWN and f.score <= CANCELS


def excuse_rounding(check, suspects):
    """A formula that is right in float64 and cancels in the leaf's dtype is not an error.

    In a float64 leaf its rounding alone excuses it; and may do so where kinks were looked for in vain.
    """
    begun = time.perf_counter()
    try:
        own = OwnRounding(check.problem, check.manual, check.seed)
    except Exception as error:  # an operation that cannot be read again
        note(check.problem, error, "own rounding")
        check.notes.append(f"the formula's own rounding was not examined: {first_line(error)}")
        return
    if not own.traceable:
        return
    exact = own.exact() or []
    asked = {i: f for i, f in enumerate(check.findings) if f in suspects and exact and exact[i].shape == f.r.shape}
    exactly = {i for i, f in asked.items() if score(exact[i], f.r, f.noise) <= EXACT or _may_cancel_in_float64(f)}
    near = [i for i, f in asked.items() if i not in exactly and f.wrong and f.score <= LIKELY]
    terms = rounding_of_terms(check, own) if near else []
    candidates = dict.fromkeys(exactly, (0.0, 0.0))
    candidates |= {i: terms[i] for i in near if score(exact[i], asked[i].r, Noise(*terms[i])) <= FAIL}
    excused = []
    rounding = own.noise() if candidates else []
    for i, of_terms in candidates.items():
        f = check.findings[i]
        wider = f.noise.widened(*rounding[i]).widened(*of_terms)
        if not np.isfinite(rounding[i][0]) or score(f.g, f.r, wider) > FAIL:
            continue
        excess, place = f.score, own.where()
        f.noise, f.score, f.verdict = wider, score(f.g, f.r, wider), "PASS"
        grade(f)
        f.note = f"the formula as written cancels in {f.dtype}" + (f" at {place}" if place else "")
        how = "" if f.unit <= SHOWN else "; as exact in float64 as its constants" if i in near else "; exact in float64"
        f.note += f" ({excess:.2g} x the noise of autodiff{how})"
        excused.append(f.path)
    said = f"{len(excused)} leaves lose digits as written, and no more" if excused else "explains nothing"
    check.statements.append(Statement("own rounding", said, time.perf_counter() - begun))

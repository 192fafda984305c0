"""The second look: at leaves that fail, and at those that pass by noise that is more than their own rounding.

One question comes first: is the formula the gradient almost everywhere around the point (formula.py)? Then

    numbers at p      formula            verdict
    within the noise  WRONG              FAIL: the noise hid it
                      RIGHT_HERE         as it was graded
                      RIGHT_AROUND       the formula's values at the tie are judged in place of the numbers
                      NUMBERS, UNKNOWN   as it was graded; INCONCLUSIVE where the noise holds the step over a tie
    beyond            WRONG              FAIL, and no search at ties
                      RIGHT_HERE         PASS if the formula loses so much as it is written, else FAIL
                      RIGHT_AROUND       at a tie: PASS as a convention, FAIL beyond, else INCONCLUSIVE (subgradient.py)
                      NUMBERS, UNKNOWN   likewise, as a mixture of gradients beside the tie
"""

from dataclasses import replace

import numpy as np

from jaxnet.verify.errors import note as noted
from jaxnet.verify.errors import tolerated
from jaxnet.verify.evidence.noise import FAIL, score
from jaxnet.verify.journal import first_line
from jaxnet.verify.judge.formula import (
    LOW,
    MANY,
    Standing,
    points,
    refused,
    standings,
    with_own_rounding,
    with_small_entries,
)
from jaxnet.verify.judge.reasons import Note, Reason, note
from jaxnet.verify.judge.subgradient import Question, beside_ties
from jaxnet.verify.judge.terms import rounding_of_terms
from jaxnet.verify.judge.verdict import LeafJudgement
from jaxnet.verify.problem.formula import SHOWN
from jaxnet.verify.sizes import largest, norm

ASKED, ASKED_COARSE = 64.0, 4.0  # roundings of a leaf, beyond which its noise may hide an error; of a coarse dtype
AROUND = 64.0  # roundings: how far another order of a sum may be from a tie
SAME = 0.1  # of a leaf: what so many roundings, and their tolerance, may be at most to tell anything


def second_look(check, leaves: tuple[LeafJudgement, ...]) -> tuple[LeafJudgement, ...]:
    """The judgements after a second look."""
    judged = dict(enumerate(leaves))
    has_kinks = check.problem.has_kinks()
    asked = {i: f for i, f in judged.items() if _is_in_question(f, has_kinks)}
    if asked:
        with check.journal.stated("the formula") as says:
            known = standings(check, asked)
            for i, f in asked.items():
                as_exact = f.unit <= SHOWN  # then the formula in float64 tells no wrong from a rounding
                if f.wrong and (known.of[i] is Standing.RIGHT_HERE or (known.of[i] is Standing.WRONG and as_exact)):
                    judged[i] = with_own_rounding(check, f, i, known)
                if known.of[i] is Standing.WRONG and known.here is not None and judged[i] is f:
                    judged[i] = refused(f, known.here[i], known.terms[i])
            says(_said(known, asked))
        judged |= {
            i: _unless_finer(f) for i, f in judged.items() if known.of.get(i) in (Standing.NUMBERS, Standing.UNKNOWN)
        }
        judged |= _at_ties(check, judged, known)
        judged |= {
            i: with_own_rounding(check, judged[i], i, known)
            for i, standing in known.of.items()
            if standing is Standing.RIGHT_AROUND and judged[i].wrong and judged[i].note is None
        }
    return with_small_entries(check, tuple(judged[i] for i in range(len(leaves))))


def without_steps(check, name: str, eager, variant) -> tuple[LeafJudgement, ...]:
    """The judgements of a variant, but for leaves that it alone takes over a tie nearby: these keep the eager one.

    Compiled, sums are taken in another order, and what is a rounding from its kink falls to the other side. Both runs
    then lie, entry by entry, among the values that the formula takes in float64 a few roundings around.
    """
    suspects = {i: f for i, f in enumerate(variant) if f.wrong and f.comparable and FAIL * AROUND * f.unit < SAME}
    formula, judged = check.candidate.formula, list(variant)
    if not suspects or not check.problem.has_kinks():
        return variant
    with tolerated(check.journal, "steps of a variant"):
        if formula.here is None:
            return variant
        places = points(check.problem, AROUND * max(check.problem.units), 2 * MANY, check.rng("variants"))
        around = [formula.here, *filter(None, map(formula.exact, places))]
        for i, f in suspects.items():
            low, high = (pick([there[i] for there in around], axis=0) for pick in (np.fmin.reduce, np.fmax.reduce))
            step = high - low  # and as much again, for several ties in one entry
            rounding = AROUND * f.unit
            noise = eager[i].noise.widened(rounding * norm(around[0][i]), rounding * largest(around[0][i]))
            inside = (np.asarray(np.clip(x, low - step, high + step)) for x in (f.g, eager[i].g))
            if all(score(x, y, noise) <= FAIL for x, y in zip((f.g, eager[i].g), inside, strict=True)):
                said = eager[i].note or note(Reason.FALLS_ELSEWHERE, variant=name)
                judged[i] = replace(eager[i], note=said)
    return tuple(judged)


def _is_in_question(f: LeafJudgement, has_kinks: bool) -> bool:
    """Whether a leaf fails, or its noise is more than its own rounding: it may hide an error, or steps over ties."""
    if not f.comparable or not f.autodiff or f.frozen or f.cause or f.overflows or not f.r.size:
        return False
    if f.known is not None and not f.known.any():
        return False
    if f.wrong:
        return True
    asked = ASKED_COARSE if f.unit > LOW else ASKED
    may_be_steps = has_kinks and _is_below_the_noise(f)
    off = f.scored(f.g, f.rounding) > asked
    return f.verdict in ("PASS", "INCONCLUSIVE") and (may_be_steps or off or _is_finer_than_noise(f))


def _is_finer_than_noise(f: LeafJudgement) -> bool:
    """Whether an accuracy is declared that errors beyond would pass for noise."""
    return 0 < f.accuracy * f.r_norm < FAIL * f.noise.norm


def _unless_finer(f: LeafJudgement) -> LeafJudgement:
    """A leaf of which only the numbers are known, left open where the accuracy that is asked does not show in them."""
    if f.verdict != "PASS" or not _is_finer_than_noise(f):
        return f
    seen, remedy = FAIL * f.noise.norm / f.r_norm, "float64, or a gradient that can be traced, would show it"
    return f.undecided(note(Reason.FINER, accuracy=f.accuracy, seen=seen, remedy=remedy))


def _is_below_the_noise(f: LeafJudgement) -> bool:
    """Whether a leaf was left open for noise that is more than rounding."""
    return isinstance(f.note, Note) and f.note.reason is Reason.BELOW_NOISE and f.noise.norm > f.rounding.norm


def _at_ties(check, judged, known) -> dict[int, LeafJudgement]:
    """The leaves that ties may explain, judged again."""
    if not check.problem.has_kinks():
        return {}
    if check.kinks == "strict":
        return _strictly(judged, known)
    questions = {}
    for i, standing in known.of.items():
        f = judged[i]
        settled = standing is Standing.RIGHT_HERE and not _is_below_the_noise(f)
        if standing is Standing.WRONG or settled or f.known is not None:
            continue
        formula = standing in (Standing.RIGHT_AROUND, Standing.RIGHT_HERE)
        values = known.here[i] if formula and not f.wrong else f.g
        terms = known.terms[i] if formula or f.wrong else _smooth_rounding(check)[i]
        questions[i] = Question(f, values, terms, formula)
    if not questions:
        return {}
    with check.journal.stated("ties") as says:
        try:
            found = beside_ties(check, questions, _beside_numbers(check, judged, questions))
        except Exception as error:  # no float64 form beside the point
            noted(check.journal, error, "ties")
            said = note(Reason.NOT_EXAMINED, error=first_line(error))
            found = {i: q.leaf.undecided(said) for i, q in questions.items()}
        found = {i: _of_what_passed(q, found[i]) if not q.leaf.wrong else found[i] for i, q in questions.items()}
        accepted = sum(f.verdict == "PASS" for f in found.values())
        says(f"{accepted} of {len(questions)} leaves take another convention")
    return found


def _strictly(judged, known) -> dict[int, LeafJudgement]:
    """The leaves that steps over ties had left open, held against autodiff's value at the tie to their own rounding.

    Refused is what the formula in float64 shows too: its numbers may fall to the other side by a rounding of their own.
    """
    found = {}
    for i, standing in known.of.items():
        f = judged[i]
        if known.here is None or standing is Standing.WRONG or f.known is not None or not _is_below_the_noise(f):
            continue
        numbers, formula = f.scored(f.g, f.rounding), f.scored(known.here[i], f.rounding)
        if formula > FAIL:
            found[i] = f.failed(score=formula, noise=f.rounding)
        elif numbers <= FAIL:
            found[i] = f.passed(score=numbers, noise=f.rounding)
    return found


def _beside_numbers(check, judged, questions) -> dict[int, Question]:
    """The leaves without a question whose noise holds a step over ties: numbers of other leaves have to fit theirs."""
    if all(q.formula for q in questions.values()):
        return {}
    fitting = [i for i, f in judged.items() if i not in questions and f.verdict == "PASS" and _may_hold_steps(f)]
    return {i: Question(judged[i], judged[i].g, _smooth_rounding(check)[i], False) for i in fitting}


def _may_hold_steps(f: LeafJudgement) -> bool:
    """Whether the noise of a leaf that autodiff knows whole is far more than its own rounding."""
    return f.comparable and f.autodiff and f.known is None and f.noise.norm > ASKED * f.rounding.norm


def _of_what_passed(q: Question, found: LeafJudgement) -> LeafJudgement:
    """The judgement of a leaf that its noise let pass, or left open, after its values at the tie were looked at."""
    if found is q.leaf or (found.verdict == "PASS" and q.leaf.verdict == "PASS"):
        return q.leaf
    if found.verdict == "FAIL":
        judged = {"judged": q.values, "numbers": "formula"} if q.formula else {}
        noise = q.leaf.rounding.widened(*q.terms)
        return replace(found, noise=noise, score=max(q.leaf.scored(q.values, noise), 2 * FAIL), **judged)
    if found.verdict == "PASS" or q.formula:
        return found if found.verdict == "PASS" else q.leaf
    return q.leaf.undecided(note(Reason.STEP_IN_NOISE))


def _smooth_rounding(check) -> list[tuple[float, float]]:
    """What a rounding of everything makes of each leaf, but for steps over ties: the noise of numbers beside them."""
    unit = max(check.problem.units)
    return rounding_of_terms(check.problem, check.candidate.formula, check.seed, unit, unit)


def _said(known, asked) -> str:
    counts = {standing: [*known.of.values()].count(standing) for standing in Standing}
    listed = ", ".join(f"{count} {standing.value}" for standing, count in counts.items() if count)
    return f"asked of {len(asked)} leaves in float64: {listed}"

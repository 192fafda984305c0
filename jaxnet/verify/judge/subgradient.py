"""The gradient at a tie: where one-sided derivatives differ, a mixture of the gradients beside is right.

relu at 0, |x| at 0, the maximum of equal numbers: autodiff takes one convention, a formula by hand another, and both
are right. What all of them may be is Clarke's subdifferential at p,

    ∂J(p) = convex hull of lim ∇J(p'), p' → p        and the uniform conventions (relu'(0) = 0, 1/2 or 1; first or last)

so the float64 gradient is taken a hair away from p (gradient_sampling.py). A formula that is right almost everywhere
around p may give each of its ties a convention of its own, which no mixture of a few gradients is: it is held entry by
entry against the values that were seen (a box). Numbers may be wrong in several entries together: they have to be a
mixture of gradients, all leaves at once, looked for where they pull (Frank and Wolfe).

    PASS           a formula, and each entry between the values seen; numbers, and a mixture that is near
    FAIL           an entry that takes two values is beyond both, or by more than they differ; or a plane lies between
    INCONCLUSIVE   neither was found

Source: F. H. Clarke, Optimization and Nonsmooth Analysis (1983), theorem 2.5.1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits

from jaxnet.verify.evidence.noise import FAIL, Noise
from jaxnet.verify.judge.gradient_sampling import ENTRIES, Beside, flat
from jaxnet.verify.judge.hull import nearest_to_origin
from jaxnet.verify.judge.reasons import Note, Reason, note
from jaxnet.verify.judge.verdict import LeafJudgement
from jaxnet.verify.sizes import largest, norm

ROUNDS = 200  # of Frank and Wolfe's search
WEAK = 4  # rounds in a row that lead nowhere
WIDEST = 8  # entries of a leaf whose widest values are sought
CLOSE = 0.25  # of what an entry spans: nearer to its ends than what a search may have missed
GAIN = 1e-3  # of what is missing: a gradient leads somewhere if it leads so much further


@dataclass(frozen=True)
class Question:
    """A leaf in doubt at a tie: the values asked about, and what their terms may lose."""

    leaf: LeafJudgement
    values: np.ndarray
    terms: tuple[float, float]
    formula: bool  # they are a formula's, right almost everywhere around

    @cached_property
    def flat(self) -> np.ndarray:
        """The values as real numbers."""
        return flat(self.values)


def beside_ties(check, questions: dict[int, Question], beside_them: dict[int, Question]) -> dict[int, LeafJudgement]:
    """The judgement of each leaf in question; numbers have to be of one mixture with the leaves that stand beside."""
    everything = questions | beside_them
    beside = Beside(check, [flat(q.leaf.r) for q in everything.values()], [*everything])
    found: dict[int, LeafJudgement] = {}
    beside.look_along([q.flat - flat(q.leaf.r) for q in everything.values()])
    for radius in beside.radii:
        beside.look_around(radius)
        open_ = {i: q for i, q in questions.items() if i not in found}
        for k, (i, q) in enumerate(questions.items()):
            if i in open_:
                verdict = _in_the_box(q, beside, k, last=radius == beside.radii[-1])
                if verdict is not None:
                    found[i] = verdict
        if len(found) == len(questions):
            break
    numbers = {i: q for i, q in questions.items() if i not in found or _passed_as_numbers(q, found[i])}
    if not numbers:
        return found
    settled = {i: q for i, q in everything.items() if i not in numbers and (i not in found or not found[i].wrong)}
    with threadpool_limits(1, "blas"):  # whose threads and XLA's wait for each other longer than small systems take
        return found | _mixtures(numbers, settled, beside)


def _in_the_box(q: Question, beside: Beside, k: int, last: bool) -> LeafJudgement | None:
    """The verdict that the values of each entry give; None where more has to be seen."""
    f, values = q.leaf, q.flat
    seen = beside.seen(k)
    seen = seen[np.isfinite(seen).all(axis=1)]
    if not len(seen) or not np.isfinite(values).all():
        return f
    low, high = seen.min(axis=0), seen.max(axis=0)
    width = largest(high - low)
    own = Noise(f.precision * max(map(norm, seen)), f.precision * largest(seen)).widened(*q.terms)
    noisy = (last or not q.formula) and 2 * FAIL * f.noise.entry < width
    margin = FAIL * max(own.entry, f.noise.entry if noisy else 0.0)
    if width <= margin or (f.verdict == "INCONCLUSIVE" and FAIL * width < f.noise.entry):  # no tie moves this leaf
        return f if last else None
    beyond = np.maximum(values - high, low - values)
    if not q.formula and (at := _where_ties_cancel(q, beside, k, margin)) is not None:
        return f.failed(note(Reason.CANCELLING_TIES, manual=values[at], true=beside.limits[0][k][at]))
    if largest(beyond.clip(0)) <= margin:
        if q.formula:
            return _as_a_convention(f, values, low, high, margin)
        columns = (seen - values).T
        if norm(columns @ nearest_to_origin(columns)) <= FAIL * max(own.norm, margin / FAIL):
            return _as_a_convention(f, values, low, high, margin)
        return None
    if not last:
        return None
    at = int(np.argmax(beyond))
    ordered = np.sort(seen[:, at])
    halves = 1 + bool(beside.conventions)  # two values, and one half of each
    two = (np.diff(ordered) > max(margin, 1e-9 * largest(ordered))).sum() <= halves
    said = note(Reason.BEYOND, manual=values[at], low=low[at], high=high[at])
    if two or beyond[at] > ordered[-1] - ordered[0]:
        return f.failed(said)
    return _climbed(q, beside, k, margin) if q.formula else None


def _climbed(q: Question, beside: Beside, k: int, margin: float) -> LeafJudgement:
    """The verdict on a formula beyond many values of an entry, after its widest ones have been sought."""
    for _ in range(WIDEST):
        low, high, beyond = _bounds(q, beside, k)
        at = int(np.argmax(beyond))
        if beyond[at] <= margin:
            return _as_a_convention(q.leaf, q.flat, low, high, margin)
        sign = 1.0 if q.flat[at] > high[at] else -1.0
        value = lambda there, sign=sign, at=at: sign * there[k][at]
        beside.climb(value, sign * q.flat[at], {beside.leaves[k]: at})
        low, high, beyond = _bounds(q, beside, k)
        if beyond[at] > max(margin, CLOSE * (high[at] - low[at])):
            return q.leaf.failed(note(Reason.BEYOND, manual=q.flat[at], low=low[at], high=high[at]))
    return q.leaf.undecided(note(Reason.UNDECIDED))


def _bounds(q: Question, beside: Beside, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least and the largest value seen of each entry, and how far the values asked about lie beyond them."""
    seen = beside.seen(k)
    seen = seen[np.isfinite(seen).all(axis=1)]
    low, high = seen.min(axis=0), seen.max(axis=0)
    return low, high, np.maximum(q.flat - high, low - q.flat)


def _where_ties_cancel(q: Question, beside: Beside, k: int, margin: float) -> int | None:
    """The entry that is one derivative on all sides, and another number in q: relu(x) − relu(−x) has no kink."""
    r = beside.r[k]
    for _ in range(WEAK):
        limits = np.stack([x[k] for x in beside.limits])
        alike = np.abs(limits - limits[0]).max(axis=0) <= margin
        off = np.where(alike, np.minimum(np.abs(q.flat - r), np.abs(q.flat - limits[0])), 0.0)
        if largest(off) <= margin:
            return None
        at = int(np.argmax(off))  # a few places may be alike by chance: ask where the entry itself pulls
        unit = np.zeros_like(r)
        unit[at] = 1.0
        sides = beside.pulled({beside.leaves[k]: unit}, 0.0, beside.radii[-1])
        if all(abs(side[k][at] - limits[0][at]) <= margin for side in sides):
            return at
    return None


def _as_a_convention(f: LeafJudgement, values, low, high, margin: float) -> LeafJudgement:
    """A leaf passes as a subgradient."""
    r = flat(f.r)
    at = int(np.argmax(np.abs(values - r)))
    ends = {"low": min(low[at], values[at]), "high": max(high[at], values[at])}
    said = note(Reason.CONVENTION, manual=values[at], auto=r[at], **ends)
    entry = margin / FAIL
    return f.passed(said, score=0.0, noise=Noise(entry * np.sqrt(values.size), entry))


def _passed_as_numbers(q: Question, f: LeafJudgement) -> bool:
    return not q.formula and f.verdict == "PASS" and isinstance(f.note, Note) and f.note.reason is Reason.CONVENTION


def _mixtures(numbers: dict[int, Question], settled: dict[int, Question], beside: Beside) -> dict[int, LeafJudgement]:
    """Numbers held against mixtures of gradients: all leaves at once, and failing that each by itself."""
    places = {i: beside.leaves.index(i) for i in numbers | settled}
    accepted = lambda i: _accepted(numbers[i], beside.seen(places[i]))
    at_once = mixture(numbers | settled, places, beside)
    if at_once:
        return {i: accepted(i) for i in numbers}
    alone = {i: mixture({i: q}, places, beside) if len(places) > 1 else at_once for i, q in numbers.items()}
    if all(alone.values()):  # each is one, but not of the same mixture
        verdict = LeafJudgement.undecided if at_once is None else LeafJudgement.failed
        return {i: verdict(q.leaf, note(Reason.NOT_AT_ONCE)) for i, q in numbers.items()}
    return {i: accepted(i) if alone[i] else _left(q, alone[i]) for i, q in numbers.items()}


def _accepted(q: Question, seen: np.ndarray) -> LeafJudgement:
    seen = seen[np.isfinite(seen).all(axis=1)]
    own = FAIL * max(q.leaf.precision * largest(seen), q.terms[1])
    return _as_a_convention(q.leaf, q.flat, seen.min(axis=0), seen.max(axis=0), own)


def _left(q: Question, found: bool | None) -> LeafJudgement:
    return q.leaf.failed(note(Reason.NOT_AT_ONCE)) if found is False else q.leaf.undecided(note(Reason.UNDECIDED))


def mixture(questions: dict[int, Question], places: dict[int, int], beside: Beside) -> bool | None:
    """Whether the values of some leaves are one mixture of gradients beside the point; None if that remains open.

    Frank and Wolfe: what is missing pulls, and the gradient is taken along it and against it. False where the values
    lie beyond all that the pull has shown.
    """
    scales = {i: _limits(q, beside.seen(places[i])) for i, q in questions.items()}
    scaled = lambda parts: np.concatenate([parts[places[i]] / (scales[i].norm or 1.0) for i in questions])
    target = scaled({places[i]: q.flat for i, q in questions.items()})
    cuts = np.cumsum([q.flat.size for q in questions.values()])[:-1]
    points = [scaled(x) for x in (*beside.conventions, *beside.limits, beside.r)]
    points = [x for x in points if np.isfinite(x).all()]
    weak, weights = 0, None
    for _ in range(min(ROUNDS, ENTRIES // (2 * target.size))):
        columns = np.stack([target - x for x in points], axis=1)
        weights = nearest_to_origin(columns, weights)
        left = columns @ weights
        parts = dict(zip(questions, np.split(left, cuts), strict=True))
        if all(_within(part * (scales[i].norm or 1.0), scales[i]) for i, part in parts.items()):
            return True
        pull = {i: part / (scales[i].norm or 1.0) for i, part in parts.items()}
        new = [x for x in map(scaled, beside.pulled(pull, float(weak > 0))) if np.isfinite(x).all()]
        support = max(left @ x for x in points)
        ahead = max((left @ x for x in new), default=-np.inf)
        points += new
        weak = weak + 1 if ahead <= support + GAIN * (left @ left) else 0
        if weak < WEAK:
            continue
        reach = lambda x, left=left: float(left @ scaled(x))
        points.append(scaled(beside.climb(reach, float(left @ target), {})))
        ahead, support = left @ points[-1], max(support, ahead)
        if not ahead > support + GAIN * (left @ left):
            return False if left @ target - support > 0.5 * (left @ left) else None
        weak = 0
    return None


def _limits(q: Question, seen: np.ndarray) -> Noise:
    """The noise of another gradient than autodiff's: of the leaf's rounding and of its terms."""
    f, seen = q.leaf, seen[np.isfinite(seen).all(axis=1)]
    own = Noise(f.precision * max(map(norm, seen)), f.precision * largest(seen)).widened(*q.terms)
    width = largest(seen.max(axis=0) - seen.min(axis=0))
    small = 2 * FAIL * f.noise.entry < width  # else the noise holds the step itself
    return own.widened(f.noise.norm, f.noise.entry) if small else own


def _within(left: np.ndarray, noise: Noise) -> bool:
    """Whether what is left is noise."""
    return norm(left) <= FAIL * noise.norm and largest(left) <= FAIL * noise.entry

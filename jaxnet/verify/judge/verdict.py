"""The verdict on one leaf: from its error and its noise, and from what a second call or a variant gives."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.verify.evidence.noise import FAIL, WARN, Noise, score
from jaxnet.verify.judge.cause import Cause, Kind
from jaxnet.verify.judge.reasons import Note, Reason, note
from jaxnet.verify.problem.gradient import bits_differ
from jaxnet.verify.problem.trees import wide
from jaxnet.verify.sizes import largest, norm, ratio

DOUBLE_WHERE = (
    "pass reference=, the same loss with the double where: jnp.where(s > 0, jnp.sqrt(jnp.where(s > 0, s, 1)), 0), and"
    " so for log and division"
)


class Along(NamedTuple):
    """What slopes along random directions tell of a leaf: the norms of r, of g − r, and of what they may miss."""

    norm: float
    error: float
    noise: float  # of one slope, as a norm of the leaf
    missed: float  # an error of the leaf up to this norm may have passed

    @property
    def resolution(self) -> float:
        """The smallest relative error that would have failed."""
        return ratio(self.missed, self.norm)


@dataclass(frozen=True)
class LeafJudgement:
    """One leaf: what is under test (g), what is known without it (r and its noise), and the verdict."""

    path: str
    dtype: np.dtype
    unit: float
    shape: tuple[int, ...] = ()
    frozen: bool = False
    accuracy: float = 0.0  # declared: relative to the leaf
    expected_zero: bool = False
    # the candidate
    raw: Any = None  # as the eager call gave it; None for a missing one
    again: Any = None  # as a second call gave it, where its bits differ
    # the evidence
    r: np.ndarray | Any = None  # None where it is not known
    autodiff: bool = False  # r is autodiff's
    noise: Noise = field(default_factory=lambda: Noise(0.0, 0.0))
    entries: np.ndarray | None = None  # the noise of each entry, where it is known
    unused: bool = False
    overflows: bool = False  # autodiff is not finite in the leaf's own dtype where r is, here or one rounding away
    slopes: Along | None = None  # where only they tell
    # the judgement
    verdict: str = "PASS"
    score: float = 0.0
    note: Note | Cause | None = None
    cause: Cause | None = None
    worst: tuple[int, ...] | None = None
    certain: bool = False  # the formula is wrong almost everywhere around: no kink excuses it
    judged: Any = None  # the numbers that the verdict is about, where they are not the eager call's
    numbers: str = "eager"  # whose they are: "eager", "jit", "vmap", or "formula" for its value in float64

    @cached_property
    def r_norm(self) -> float:
        """The norm of r, for which many ask."""
        return norm(self.r)

    @property
    def g(self) -> np.ndarray | Any:
        """The gradient under test in double precision, None for a missing one; made when asked for, to save memory."""
        return in_float64(self.raw if self.judged is None else self.judged, self.shape)

    @property
    def wrong(self) -> bool:
        """Whether the leaf has failed so far."""
        return self.verdict == "FAIL"

    @property
    def comparable(self) -> bool:
        """Whether g and r are there, of one shape, and both real or complex."""
        if self.raw is None or self.r is None or np.shape(self.raw) != np.shape(self.r):
            return False
        return np.iscomplexobj(self.r) or not self.is_complex

    @property
    def is_complex(self) -> bool:
        """Whether the gradient under test is complex, which suits a complex leaf alone."""
        return self.raw is not None and np.iscomplexobj(self.raw)

    @cached_property
    def known(self) -> np.ndarray | None:
        """The entries at which r is finite; None where all are."""
        finite = np.isfinite(self.r)
        return None if finite.all() else finite

    @property
    def rounding(self) -> Noise:
        """The rounding of the leaf itself: the least noise that it may have."""
        r = self.r if self.known is None else self.r[self.known]
        return Noise(self.unit * norm(r), self.unit * largest(r))

    @property
    def precision(self) -> float:
        """How exact another gradient of the leaf is in itself, relative to its norm: to rounding, or as declared."""
        return max(self.unit, self.accuracy / FAIL)

    def scored(self, g: np.ndarray, noise: Noise) -> float:
        """Error over noise of some numbers, at the entries where r is finite."""
        r, known = self.r, self.known
        return score(g, r, noise) if known is None else score(g[known], r[known], noise)

    @property
    def tolerated(self) -> Noise:
        """The noise, widened to the declared accuracy."""
        if not self.accuracy:
            return self.noise
        r = self.r if self.known is None else self.r[self.known]
        return self.noise.widened(self.accuracy * norm(r) / FAIL, self.accuracy * largest(r) / FAIL)

    def unknown(self) -> "LeafJudgement":
        """This leaf before anything was known of it but the candidate."""
        declared = (self.path, self.dtype, self.unit, self.shape, self.frozen, self.accuracy, self.expected_zero)
        return LeafJudgement(*declared, raw=self.raw, again=self.again)

    def failed(self, reason: Note | Cause | None = None, **changes) -> "LeafJudgement":
        """This leaf refused."""
        return replace(self, verdict="FAIL", note=reason, **changes)

    def passed(self, reason: Note | Cause | None = None, **changes) -> "LeafJudgement":
        """This leaf accepted."""
        return replace(self, verdict="PASS", note=reason, **changes)

    def undecided(self, reason: Note, **changes) -> "LeafJudgement":
        """This leaf left open."""
        return replace(self, verdict="INCONCLUSIVE", note=reason, **changes)


def judged(f: LeafJudgement) -> LeafJudgement:
    """The verdict on one leaf by error over noise, as far as it is known without values of the loss."""
    if f.frozen:
        return replace(f, verdict="FROZEN")
    if f.raw is None:
        return f.failed(cause=Cause(Kind.MISSING))
    if np.shape(f.raw) != f.shape:
        cause = None if f.r is not None else Cause(Kind.SHAPE, ("wrong shape: ", np.shape(f.raw), f.shape))
        return f.failed(score=float("inf"), cause=cause)
    if f.is_complex and not np.issubdtype(f.dtype, np.complexfloating):
        return f.failed(score=float("inf"), cause=Cause(Kind.COMPLEX))
    if f.again is not None:
        f = with_second_call(f)
    if f.r is None or f.wrong:
        return f
    return graded(replace(f, score=f.scored(f.g, f.tolerated)))


def with_second_call(f: LeafJudgement) -> LeafJudgement:
    """A second call that differs is noise while it is small and a fault of its own beyond."""
    again, first = in_float64(f.again, f.shape), in_float64(f.raw, f.shape)
    noise = f.noise.widened(4 * f.unit * norm(first), 4 * f.unit * largest(first)) if f.r is None else f.noise
    far = _apart(again, first, noise)
    if far > FAIL:
        return f.failed(score=max(far, f.score), cause=Cause(Kind.STATE, ("the second", far)))
    gap = again - first
    return replace(f, noise=f.noise.widened(norm(gap), largest(gap)), note=note(Reason.SECOND_CALL, far=far))


def differs(f: LeafJudgement, one, other) -> bool:
    """Whether two runs of a gradient differ by more than noise and rounding."""
    one, other = (in_float64(x, f.shape) for x in (one, other))
    if one is None or other is None:
        return one is not other
    return _apart(one, other, f.noise.widened(f.unit * norm(other), f.unit * largest(other))) > FAIL


def with_variant(f: LeafJudgement, name: str, leaf) -> LeafJudgement:
    """A variant of a gradient that is right when called eagerly."""
    if f.frozen or leaf is None or f.raw is None or not bits_differ(leaf, f.raw):
        return f
    there, here = in_float64(leaf, f.shape), in_float64(f.raw, f.shape)
    own = Noise(f.unit * norm(here), f.unit * largest(here))
    if f.r is None:
        far = _apart(there, here, f.noise.widened(4 * own.norm, 4 * own.entry))
    elif there.shape != f.shape:
        far = float("inf")
    else:
        # A subgradient may be another one in another variant; what differs from eager is what counts.
        far = min(f.scored(there, f.tolerated), _apart(there, here, f.noise.widened(own.norm, own.entry)))
    if far > FAIL:
        return f.failed(score=far, judged=leaf, numbers=name, cause=Cause(Kind.VARIANT, (name,)))
    return replace(f, score=max(f.score, far)) if f.verdict == "PASS" else f


def _apart(one: np.ndarray, other: np.ndarray, noise: Noise) -> float:
    """By how many noises two runs differ; NaN in the same place is no difference."""
    if one.shape != other.shape:
        return float("inf")
    alike = np.isnan(one) & np.isnan(other)
    gap = np.where(alike, 0.0, one - other) if alike.any() else one - other
    return max(ratio(norm(gap), noise.norm), ratio(largest(gap), noise.entry))


def graded(f: LeafJudgement) -> LeafJudgement:
    """From score and resolution to a verdict."""
    if not np.any(f.known if f.known is not None else True):
        return f.undecided(not_finite(f))
    if f.score > FAIL and f.overflows:
        return f.undecided(note(Reason.OVERFLOWS, dtype=f.dtype))
    if f.score > FAIL:
        return f.failed(f.note)
    if f.r.size == 0:
        return replace(f, verdict="EMPTY", note=note(Reason.EMPTY))
    if f.expected_zero:
        return _expected_zero(f)
    if f.unused:
        return f.passed(note(Reason.UNUSED))
    size = norm(f.r if f.known is None else f.r[f.known])
    if size == 0.0:
        return f.undecided(note(Reason.DEAD))
    if FAIL * f.noise.norm >= size:
        return f.undecided(note(Reason.BELOW_NOISE, why=_why_noisy(f, size)))
    if f.known is not None:
        return f.undecided(not_finite(f))  # until values of the loss have been asked
    if f.accuracy and (plain := f.scored(f.g, f.noise)) > FAIL:
        return f.passed(note(Reason.ACCURACY, accuracy=f.accuracy, score=plain))
    return f.passed(note(Reason.HIGH, score=f.score) if f.score > WARN else f.note)


def _expected_zero(f: LeafJudgement) -> LeafJudgement:
    """A leaf that is dead on purpose, and whose gradient is right: that may not rise above its noise."""
    r = f.r if f.known is None else f.r[f.known]
    if norm(r) > FAIL * f.noise.norm:
        return f.failed(score=float("inf"), cause=Cause(Kind.EXPECTED_ZERO))
    return f.passed(note(Reason.EXPECTED_ZERO))


def not_finite(f: LeafJudgement) -> Note:
    """That autodiff is not finite, where, and what helps."""
    return note(Reason.NOT_FINITE, where=places(f), remedy=DOUBLE_WHERE)


def places(f: LeafJudgement, most: int = 4) -> str:
    """The entries at which r is not finite, in words."""
    if f.known is None or not f.known.any():
        return "here"
    at = np.argwhere(~f.known)
    listed = ", ".join("[" + ",".join(map(str, index)) + "]" for index in at[:most])
    return f"at {listed}" + (f" and {len(at) - most} more" if len(at) > most else "")


def _why_noisy(f: LeafJudgement, size: float) -> str:
    gap, shaken, rounding = f.noise.terms[:3]
    if rounding >= max(gap, shaken):
        return "rounding"
    if shaken > gap:
        return f"one rounding of the inputs moves it by {ratio(shaken, size):.1g}: chaotic or saturated"
    return f"autodiff is off by {ratio(gap, size):.1g} of it in {f.dtype}: saturated, or the loss cancels"


def in_float64(leaf, shape) -> np.ndarray | Any:
    """A gradient leaf in double precision; None for a missing one, zeros for JAX's float0."""
    if leaf is None:
        return None
    array = np.asarray(leaf)
    if array.dtype == jax.dtypes.float0:
        return np.zeros(shape)
    return wide(array)

"""The judgement: from a leaf's error and its noise to a verdict, and to a row of the report."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.verify.manual import bits_differ
from jaxnet.verify.noise import FAIL, WARN, Noise, largest, norm, ratio, resolution, score, ulps
from jaxnet.verify.report import LeafReport
from jaxnet.verify.tree import wide


class Cause(NamedTuple):
    """Why a leaf is wrong, in words; causes of one kind in several leaves may be one fault."""

    kind: str
    text: str


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


@dataclass
class Finding:
    """One leaf while it is being judged."""

    path: str
    dtype: np.dtype
    unit: float
    r: np.ndarray | Any = None  # None where it is not known
    raw: Any = None  # as it was given; None for a missing one
    shape: tuple[int, ...] = ()
    autodiff: bool = False
    noise: Noise = field(default_factory=lambda: Noise(0.0, 0.0))
    entries: np.ndarray | None = None  # the noise of each entry, where it is known
    score: float = 0.0
    slopes: Along | None = None  # where only they tell
    verdict: str = "PASS"
    cause: Cause | None = None
    note: str | None = None
    worst: tuple[int, ...] | None = None
    certain: bool = False  # its formula is wrong beside every kink as well
    proved: bool = False  # its formula is right in float64, whatever its noise might hide
    frozen: bool = False
    unused: bool = False
    overflows: bool = False  # autodiff is not finite in the leaf's own dtype, here or one rounding away
    variants: dict = field(default_factory=dict)
    _measured: tuple = (None, 0.0)  # r, and its norm

    @property
    def r_norm(self) -> float:
        """The norm of r, for which many ask."""
        if self._measured[0] is not self.r:
            self._measured = (self.r, norm(self.r))
        return self._measured[1]

    @property
    def g(self) -> np.ndarray | Any:
        """The gradient under test in double precision, None for a missing one; made when asked for, to save memory."""
        return numbers(self.raw, self.shape)

    @property
    def wrong(self) -> bool:
        """Whether the leaf has failed so far."""
        return self.verdict == "FAIL"

    @property
    def comparable(self) -> bool:
        """Whether g and r are there and of one shape."""
        return self.raw is not None and self.r is not None and np.shape(self.raw) == np.shape(self.r)


def judge(f: Finding):
    """Error over noise for one leaf, in its worst variant."""
    if f.frozen:
        f.verdict = "FROZEN"
        return
    if f.raw is None:
        f.verdict, f.cause = "FAIL", Cause("missing", "no gradient for this leaf (None)")
        return
    if f.r is None:
        if np.shape(f.raw) != f.shape:
            text = f"wrong shape: it has shape {np.shape(f.raw)}, the parameter {f.shape}"
            f.verdict, f.score, f.cause = "FAIL", float("inf"), Cause("shape", text)
        return
    if np.shape(f.raw) != np.shape(f.r):
        f.verdict, f.score = "FAIL", float("inf")
        return
    second_call(f)
    f.score = score(f.g, f.r, f.noise)
    grade(f)


def judge_variant(f: Finding, name: str, leaf):
    """A variant of a gradient that is right when called eagerly."""
    if f.frozen or leaf is None or f.raw is None or not bits_differ(leaf, f.raw):
        return
    there = numbers(leaf, f.shape)
    if there.shape != f.shape:
        far = float("inf")
    elif f.r is None or f.note in ("autodiff is not finite here",):
        far = score(
            there,
            f.g,
            Noise(4 * f.unit * norm(f.g), 4 * f.unit * largest(f.g)).widened(f.noise.norm, f.noise.entry),
        )
    else:
        # A subgradient may be another one in another variant; what differs from eager is what counts.
        far = min(
            score(there, f.r, f.noise),
            score(there, f.g, f.noise.widened(f.unit * norm(f.g), f.unit * largest(f.g))),
        )
    if far > FAIL:
        f.verdict, f.score, f.raw = "FAIL", far, leaf
        f.cause = Cause(f"under {name}", f"wrong only under {name}: the eager call is right")
    elif f.verdict == "PASS":
        f.score = max(f.score, far)


def differs(f: Finding, one, other) -> bool:
    """Whether two runs of a gradient differ by more than noise and rounding."""
    one, other = (numbers(x, f.shape) for x in (one, other))
    if one is None or other is None or one.shape != other.shape:
        return one is not other
    return score(one, other, f.noise.widened(f.unit * norm(other), f.unit * largest(other))) > FAIL


def second_call(f: Finding):
    """A second call that differs is noise while it is small and a fault of its own beyond."""
    again = f.variants.pop("second call", None)
    if again is None:
        return
    again = numbers(again, f.shape)
    gap = again - f.g if again.shape == f.shape else np.full(f.shape, np.inf)
    far = max(ratio(norm(gap), f.noise.norm), ratio(largest(gap), f.noise.entry))
    if far > FAIL:
        f.verdict = "FAIL"
        text = f"the second call differs from the first by {far:.2g} x noise: state is kept, or chance"
        f.cause = Cause("state", text)
    else:
        f.note = f"the second call differs in its bits, by {far:.2g} x noise"
        f.noise = f.noise.widened(norm(gap), largest(gap))


def grade(f: Finding):
    """From score and resolution to a verdict."""
    if f.verdict == "FAIL" and f.cause:
        f.score = max(f.score, float(np.nextafter(FAIL, np.inf)))
        return
    if not np.isfinite(f.r).all():
        f.verdict, f.note = "INCONCLUSIVE", "autodiff is not finite here"
    elif f.score > FAIL and f.overflows:
        f.verdict = "INCONCLUSIVE"
        f.note = f"autodiff overflows in {f.dtype}, here or one rounding away: the noise has no bound"
    elif f.score > FAIL:
        f.verdict = "FAIL"
    elif f.r.size == 0:
        f.verdict, f.note = "EMPTY", "the leaf has no entries: nothing to judge"
    elif f.unused:
        f.verdict, f.note = "PASS", "the loss does not use this leaf, or stops it, and its gradient is exactly zero"
    elif f.r_norm == 0.0:
        f.verdict, f.note = "INCONCLUSIVE", "the true gradient is exactly zero here (dead or saturated)"
    elif resolution(f.r, f.noise) >= 1.0:
        f.verdict = "INCONCLUSIVE"
        f.note = "the true gradient is below the noise: a zero would have passed" + _why_noisy(f)
    else:
        f.verdict = "PASS"
        if f.score > WARN:
            f.note = f"warning: {f.score:.1f} x noise is more than a correct gradient usually shows"


def _why_noisy(f: Finding) -> str:
    gap, shaken, rounding = f.noise.terms[:3]
    if rounding >= max(gap, shaken):
        return " (rounding)"
    if shaken > gap:
        return f" (one rounding of the inputs moves it by {ratio(shaken, f.r_norm):.1g}: chaotic or saturated)"
    return f" (autodiff is off by {ratio(gap, f.r_norm):.1g} of it in {f.dtype}: saturated, or the loss cancels)"


def row(f: Finding, shape: tuple[int, ...]) -> LeafReport:
    """One finding as a row."""
    row: dict[str, Any] = dict(
        path=f.path,
        shape=shape,
        dtype=str(f.dtype),
        verdict=f.verdict,
        cause=f.cause and f.cause.text,
        note=f.note,
        score=float(f.score),
    )
    told: dict[str, Any] = {}
    if f.slopes is not None:
        told = {
            "norm": f.slopes.norm,
            "relative_error": ratio(f.slopes.error, f.slopes.norm),
            "resolution": f.slopes.resolution,
        }
    if not f.comparable or not f.r.size:
        size = f.r_norm if f.r is not None else norm(f.g) if f.raw is not None else 0.0
        return LeafReport(**row, **(told or {"norm": size}))
    error = f.g - f.r
    at = f.worst or np.unravel_index(int(np.nanargmax(_magnitude(error))), error.shape)
    return LeafReport(
        **row,
        norm=f.r_norm,
        relative_error=ratio(norm(error), f.r_norm),
        ulps=ulps(f.g, f.r, f.dtype),
        worst_index=tuple(int(k) for k in at),
        manual=_item(f.g[tuple(at)]),
        reference=_item(f.r[tuple(at)]),
        resolution=0.0 if f.unused else min(resolution(f.r, f.noise), told.get("resolution", np.inf)),
    )


def numbers(leaf, shape) -> np.ndarray | Any:
    """A gradient leaf in double precision; None for a missing one, zeros for JAX's float0."""
    if leaf is None:
        return None
    array = np.asarray(leaf)
    if array.dtype == jax.dtypes.float0:
        return np.zeros(shape)
    return wide(array)


def _magnitude(x):
    size = np.abs(x)
    return np.where(np.isnan(size), np.inf, size)


def _item(x):
    return complex(x) if np.iscomplexobj(x) else float(x)

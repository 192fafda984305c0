"""What was done to the finished gradient, entry by entry: g = φ(r). No wrong step backwards does that.

    g = clip(r, ±c)        g = r + c        g = c sign(r)        g = r rounded to bfloat16 or float16

One φ is looked for in one leaf or in all of them, and has to be the same, c included, at other parameters.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxnet.verify.evidence import Evidence, near
from jaxnet.verify.factors import COARSE
from jaxnet.verify.judgement import Cause
from jaxnet.verify.noise import largest, norm
from jaxnet.verify.tree import sample, unit_roundoff


def done_to_entries(evidence: Evidence, leaves: list[int]) -> Cause | None:
    """The φ that explains these leaves together."""
    findings = {i: evidence.findings[i] for i in leaves}
    if any(not f.comparable or np.iscomplexobj(f.r) or not np.isfinite(f.g).all() for f in findings.values()):
        return None
    slack, unit = {i: evidence.tolerance(f) for i, f in findings.items()}, max(f.unit for f in findings.values())
    if any(_falls(f, 2 * slack[i] * f.r_norm) for i, f in findings.items()):
        return None

    def here():  # one leaf after the other: all of them in double precision would fill the memory
        return ((f.g, f.r, slack[i]) for i, f in findings.items())

    def there(moved):
        return lambda: ((*moved.both(i), slack[i]) for i in moved.g.entries if i in slack)

    for kind, form in FORMS.items():
        c = form(here, unit)
        if c is None or (moved := evidence.moved) is None:
            continue
        again = form(there(moved), unit)
        if again is not None and (again == c or near(again, c, 1e-3)):
            return Cause(kind, WORDS[kind].format(c))
    return None


def _falls(f, slack: float) -> bool:
    """Whether g falls somewhere as r rises, which no φ here does: a few entries tell, before millions are compared."""
    r, g = sample(f.r), sample(f.g)
    order = np.argsort(r)
    r, g = r[order], g[order]
    below = np.searchsorted(r, r - slack)  # so many entries of r are smaller for certain
    highest = np.concatenate([[-np.inf], np.maximum.accumulate(g)])[below]
    return bool((g < highest - slack).any())


def _clipped(each, unit) -> float | None:
    """c with g = clip(r, ±c), which at least two entries have reached."""
    c = max(largest(g) for g, _, _ in each())
    if c == 0.0 or any(s > COARSE for _, _, s in each()) or sum(int((np.abs(g) == c).sum()) for g, _, _ in each()) < 2:
        return None
    cut = all(norm(g - np.clip(r, -c, c)) <= s * norm(r) for g, r, s in each())
    return c if cut and any(norm(g - r) > s * norm(r) for g, r, s in each()) else None


def _offset(each, unit) -> float | None:
    """c with g = r + c."""
    count = sum(g.size for g, _, _ in each())
    c = sum(float(np.sum(g - r)) for g, r, _ in each()) / count
    if count < 2 or c == 0:
        return None
    for g, r, s in each():
        if norm(g - r - c) > min(1e-2 * abs(c) * np.sqrt(g.size), s * max(norm(g), norm(r))):
            return None
    return c


def _sign(each, unit) -> float | None:
    """c with g = c sign(r), wherever the sign of r is known."""
    c, count = max(largest(g) for g, _, _ in each()), 0
    for g, r, s in each():
        known = np.abs(r) > s * norm(r)
        count += int(known.sum())
        if not ((np.abs(g) == c) | (g == 0)).all() or (g[known] != c * np.sign(r[known])).any():
            return None
    return c if count >= 3 and c > 0 else None


def _rounded_to(name: str) -> Callable:
    """The name where every entry is what its true value becomes in a narrower format."""

    def rounded(each, unit) -> str | None:
        dtype = jnp.dtype(name)
        coarse, tiny = unit_roundoff(dtype), float(jnp.finfo(dtype).tiny)
        if coarse < 4 * unit:
            return None
        for g, r, s in each():
            if not all(np.array_equal(x.astype(dtype).astype(x.dtype), x) for x in (sample(g), g)):  # a few tell first
                return None
            within = 1.01 * coarse * np.maximum(np.abs(r), tiny) + s * norm(r) / np.sqrt(r.size)
            if (np.abs(g - r) > within).any():
                return None
        return name

    return rounded


FORMS = {
    "clipped": _clipped,
    "offset": _offset,
    "sign": _sign,
    "rounded to bfloat16": _rounded_to("bfloat16"),
    "rounded to float16": _rounded_to("float16"),
}
WORDS = {
    "clipped": "clipped: it equals the true gradient with entries cut off at ±{:.4g}",
    "offset": "an offset: every entry is off by {:+.4g}",
    "sign": "only the sign is left: every entry is ±{:.4g}",
    "rounded to bfloat16": "precision: it equals the true gradient rounded to {}",
    "rounded to float16": "precision: it equals the true gradient rounded to {}",
}

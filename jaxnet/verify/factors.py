"""A gradient that is right but for a factor: which factor, and why.

α alone proves little: 64 may be the batch size or somebody's constant. So a factor that could be made of m is measured
again at another batch size, any other at other parameters.
"""

import functools

import numpy as np

from jaxnet.verify.batch import candidates
from jaxnet.verify.evidence import Elsewhere, Evidence, alpha_of, near
from jaxnet.verify.judgement import Cause
from jaxnet.verify.noise import largest, norm

COARSE = 1e-2  # above this relative tolerance a relation between entries proves nothing
LOOSE = 0.4  # above this one, neither does a factor of all of them
OFF = 1 / 4  # of the tolerance: so far may a factor be off that is a mean over a leaf's entries
LISTED = 6


def factor_of_leaf(evidence: Evidence, i: int) -> Cause | None:
    """g = α r in one leaf; of one entry that says nothing unless α is the same for other data too."""
    *_, tolerance = compared = evidence.compared(i)
    alpha = alpha_of(*compared)
    if not alpha or not _in_the_formula(evidence, i, alpha, tolerance):
        return None

    def measure(there: Elsewhere):
        return alpha_of(*there.both(i), tolerance)

    text = explained(evidence, alpha, tolerance, evidence.units(i), measure)
    if text is None or np.size(evidence.findings[i].raw) > 1:
        return Cause(text, text) if text else None
    if evidence.other_data is not None and not near(alpha, measure(evidence.other_data) or np.nan, 4 * tolerance):
        return None
    return Cause(text, text.removesuffix(" on every entry"))


def factor_of_all(evidence: Evidence, wrong: list[int]) -> str | None:
    """The same factor on every leaf, all of them wrong."""
    findings = evidence.findings
    judged = [i for i, f in enumerate(findings) if not f.frozen and f.verdict != "INCONCLUSIVE"]
    if len(judged) < 2 or set(judged) != set(wrong):
        return None
    if any(findings[i].cause for i in wrong) or not all(np.isfinite(findings[i].g).all() for i in wrong):
        return None
    compared = [evidence.compared(i) for i in wrong]
    if any(c.g is None for c in compared):
        return None
    tolerance = max(c.tolerance for c in compared)

    def common(alphas):
        first = next(alphas)
        return first if first and all(a and near(a, first, tolerance) for a in alphas) else None

    def measure(there: Elsewhere):
        return common(alpha_of(*there.both(i), tolerance) for i in wrong)

    alpha = common(alpha_of(c.g, c.r, tolerance) for c in compared)
    if alpha is None or not all(_in_the_formula(evidence, i, alpha, tolerance) for i in wrong):
        return None
    if evidence.second is not None:
        size = float(np.sqrt(sum(norm(findings[i].g) ** 2 for i in wrong)))
        alpha2 = measure(evidence.second)
        if alpha2 is not None and near(size, evidence.second.g.size, 1e-3) and not near(alpha, alpha2, 1e-2):
            return f"Clipped: every leaf has the same factor {alpha:.3g}, and the norm is {size:.4g} for any batch."
    text = explained(evidence, alpha, tolerance, None, measure)
    return f"Every leaf: {text}." if text else None


def _in_the_formula(evidence: Evidence, i: int, alpha: float, tolerance: float) -> bool:
    """Whether a factor that a coarse leaf allows is one of its formula in float64 too, if that is known.

    The formula's constants may be rounded to the leaf's own dtype.
    """
    f = evidence.findings[i]
    if tolerance <= COARSE or not f.comparable or evidence.exact is None:
        return True
    return near(alpha, alpha_of(evidence.exact[i], f.r, f.unit) or np.nan, tolerance)


def explained(evidence: Evidence, alpha: float, tolerance: float, n, again) -> str | None:
    """The name of a factor α; `again` measures it elsewhere, `n` are a layer's name and units.

    Within a tolerance that is not small against |α − 1| other errors of that size would fit as well.
    """
    if tolerance > min(LOOSE, abs(alpha - 1) / 4):
        return None
    sizes, close = {m for _, m in candidates(evidence.problem)}, max(OFF * tolerance, 1e-6)
    forms = [*_made_of_m(n, "mean"), *(form for m in sizes for form in _times_m(alpha, m, close))]
    follows_m = any(near(alpha, of(m), close) for m in sizes for _, of in forms)
    if follows_m and evidence.batch is not None and evidence.second is not None:  # another batch size can tell
        m, m2, alpha2 = evidence.batch.m, evidence.batch.half_m, again(evidence.second)
        total = evidence.batch.total if near(alpha, 1 / m, close) else None
        for made in (_made_of_m(n, total), _times_m(alpha, m, close)):
            fits = [name for name, of in made if alpha2 and near(alpha, of(m), close) and near(alpha2, of(m2), close)]
            if len(fits) == 1:
                return fits[0].replace("{m}", str(m))
        if alpha2 is None or not near(alpha, alpha2, close):
            return None
    if evidence.moved is None or not near(alpha, again(evidence.moved) or np.nan, 4 * close):
        return None
    if near(alpha, -1.0, close):
        return "the sign is wrong (factor -1)"
    return f"a factor {digits(alpha, OFF * tolerance)} on every entry"


def digits(factor: float, within: float = 0.0) -> str:
    """Four digits, or as many as it takes to tell by how much a factor differs from 1; fewer if they fit `within`."""
    apart = abs(factor - 1)
    count = max(4, 2 + int(np.ceil(-np.log10(apart))) if 0 < apart < 1 else 0)
    return next(s for n in range(1, count + 1) if near(float(s := f"{factor:.{n}g}"), factor, within) or n == count)


def _times_m(alpha, m, close):
    """Names of a factor α that is k m or k / m, for a constant k of two digits."""
    for name, k, of in (
        ("a factor m times {} (m = {{m}})", alpha / m, lambda k, m: k * m),
        ("a factor {}/m (m = {{m}})", alpha * m, lambda k, m: k / m),
    ):
        short = float(f"{k:.1e}")
        if near(k, short, close):
            yield (name.format(f"{short:.3g}"), functools.partial(of, short))


def _made_of_m(n, total):
    """Names of factors that follow the batch size, each as a function of m."""
    yield ("1/m is missing (factor m = {m})", lambda m: m)
    if total == "mean":
        yield ("1/m applied twice", lambda m: 1 / m)
    elif total == "sum":
        yield ("1/m too much: the loss is a sum, the gradient that of a mean", lambda m: 1 / m)
    yield ("1/(m-1) in place of 1/m (factor m/(m-1))", lambda m: m / (m - 1) if m > 1 else np.inf)
    yield ("1/m is missing and the sign is wrong", lambda m: -m)
    if n is not None and n[1] != 1:
        name, units = n
        yield (f"1/{name} in place of 1/m", lambda m: m / units)


# ---- a factor for each line ------------------------------------------------------------------------------------------
def factor_of_lines(evidence: Evidence, i: int) -> Cause | None:
    """A factor for each row, or for each column."""
    f = evidence.findings[i]
    if f.r.ndim != 2 or min(f.r.shape) < 3:
        return None
    for axis, word in ((1, "row"), (0, "column")):
        factors, off = _line_factors(evidence, f, axis)
        if off.size:
            return Cause("lines", f"a factor for each {word}: {_those(factors, off)}")
    return None


def factors_of_units(evidence: Evidence, number: int) -> str | None:
    """A factor for some units of dZ[number]: the same in dW[number] and in db[number]."""
    layer = (evidence.layers or [])[number - 1]
    if layer.b is None or evidence.findings[layer.W].r.ndim == 1:
        return None
    f, bias = (evidence.findings[i] for i in layer.leaves)
    factors, off = _line_factors(evidence, f, 1 if layer.columns else 0)
    # Of a single example any dZ is the true one with a factor for each unit: some units have to be right.
    if 0 < off.size < factors.size and evidence.equal(bias.g.ravel(), factors * bias.r.ravel(), bias):
        return f"dZ[{number}] has a factor for each unit: {_those(factors, off)}."
    return None


def _line_factors(evidence, f, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The factors by which g is r, for each row (axis 1) or column (axis 0), and which are not 1; none if it is not."""
    size, tolerance = np.sqrt(np.sum(np.abs(f.r) ** 2, axis=axis)), evidence.tolerance(f)
    factors = np.real(np.sum(f.g * np.conj(f.r), axis=axis)) / np.maximum(size**2, 1e-300)
    known = factors[size > 0]  # of a line of zeros any factor is right
    differ = tolerance <= COARSE and known.size > 1 and np.ptp(known) > 2 * tolerance * largest(known)
    if not differ or not evidence.equal(f.g, np.expand_dims(factors, axis) * f.r, f):
        return factors, np.array([], int)
    return factors, np.flatnonzero(np.abs(factors - 1) * size > tolerance * f.r_norm)


def _those(factors, off) -> str:
    """The lines whose factors are not 1."""
    listed = [f"[{k}] is zero" if factors[k] == 0 else f"[{k}] x {digits(factors[k])}" for k in off[:LISTED]]
    return ", ".join(listed) + (f", ... ({off.size} of {factors.size})" if off.size > LISTED else "")

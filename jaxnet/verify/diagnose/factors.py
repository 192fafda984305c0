"""A gradient that is right but for a factor: one for all entries, one for each row or column, one for each entry.

α alone proves little: 64 may be the batch size or somebody's constant. So a factor is measured again: at another batch
size where it could be made of m, at other parameters and with other data. What is the same everywhere is a constant;
where the norm of the gradient is the same instead, it was scaled to that norm; and a factor may follow the power of a
number or of an array in the loss.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxnet.verify.diagnose.evidence import Case, Evidence, spread
from jaxnet.verify.judge.cause import Cause, Kind
from jaxnet.verify.problem.batch import candidates
from jaxnet.verify.problem.trees import sample
from jaxnet.verify.program.dtypes import is_float
from jaxnet.verify.program.interpreter import Reading
from jaxnet.verify.program.primitives import treatment
from jaxnet.verify.program.readings import FLOAT64
from jaxnet.verify.program.rules import equations, place_of
from jaxnet.verify.program.transforms import Static, evaluate
from jaxnet.verify.sizes import alpha_of, digits, largest, near

COARSE = 1e-2  # above this relative tolerance a relation between entries proves nothing
LOOSE = 0.4  # above this one, neither does a factor of all of them
OFF = 1 / 4  # of the tolerance: so far may a factor be off that is a mean over a leaf's entries
LISTED = 6
SAME = 1e-3  # relative: numbers found twice
POWERS = (-1.0, 1.0, -2.0, 2.0, -0.5, 0.5, -1.5, 1.5, -3.0, 3.0)
SLIPS = {  # that bring a power about
    -1.0: " (x**2 for x**3, say: a factor x is missing)",
    1.0: " (x**3 for x**2, say: a factor x too much)",
    -2.0: " (x for x**3, say)",
    2.0: " (x**3 for x, say)",
}
DISTINCT = 3  # magnitudes that an array needs for its powers to be told apart
RESULTS = 64  # of the loss's program, of which powers are tried
SMALL = 2**16  # entries: the results in the shape of a larger leaf would fill the memory


# ---- one factor ------------------------------------------------------------------------------------------------------
def common_factor(case: Case) -> float | None:
    """α with g = α r in every leaf."""
    tolerance = case.tolerance
    alphas = (alpha_of(look.g, look.r, tolerance) for look in case)
    first = next(alphas)
    return first if first and all(near(alpha, first, tolerance) for alpha in alphas) else None


def explained_factor(case: Case, alpha: float, _=None) -> Cause | None:
    """What a factor is made of.

    Within a tolerance that is not small against |α − 1| other errors of that size would fit as well. Of a single entry
    any error is a factor: it has to be the same for other data too.
    """
    e, tolerance, close = case.evidence, case.tolerance, max(OFF * case.tolerance, 1e-6)
    if tolerance > min(LOOSE, abs(alpha - 1) / 4) or not all(_in_the_formula(case, i, alpha) for i in case.leaves):
        return None
    again, single = functools.partial(case.again, common_factor), case.entries == 1
    if single and e.other_data is not None and not near(alpha, again(e.other_data), 4 * tolerance):
        return None
    follows_m = False
    if _may_follow_m(case, alpha, close) and e.half_batch is not None:
        at_half = again(e.half_batch)
        named, follows_m = _made_of_m(case, alpha, at_half, close), not near(alpha, at_half, close)
        if named is not None or at_half is None:
            return named
    scaled = _scaled_to_norm(case, alpha)
    if scaled is not None:
        return scaled
    as_moved = near(alpha, again(e.moved), 4 * close)
    other = alpha if single or e.other_data is None else again(e.other_data)
    if as_moved and near(alpha, other, 4 * close) and not follows_m:
        if near(alpha, -1.0, close):
            return Cause(Kind.SIGN)
        return Cause(Kind.FACTOR_OF_ONE_ENTRY if single else Kind.FACTOR, (digits(alpha, OFF * tolerance),))
    power = None if single else _power_of_a_number(case)
    if power is None and as_moved and other is not None:
        return Cause(Kind.FACTOR_OF_DATA, (digits(alpha, OFF * tolerance),))
    return power


def _in_the_formula(case: Case, i: int, alpha: float) -> bool:
    """Whether a factor that a coarse leaf allows is one of its formula in float64 too, if that is known.

    The formula's constants may be rounded to the leaf's own dtype.
    """
    f, exact = case.evidence.leaves[i], case.evidence.exact if case.tolerance > COARSE else None
    if exact is None or not f.comparable:
        return True
    return near(alpha, alpha_of(exact[i], f.r, f.unit), case.tolerance)


def _scaled_to_norm(case: Case, alpha: float) -> Cause | None:
    """g is r scaled to a norm: at other inputs that norm is the same, or not reached by r, while the factor changes."""
    found = [case.again(lambda there: (common_factor(there), there.norms), inputs) for inputs in case.evidence.others]
    if any(x is None or x[0] is None for x in found):
        return None
    for kind, norm in case.norms.items():
        factors = [(factor, norms[kind]) for factor, norms in found]
        scaled = [(abs(factor / alpha - 1), abs(size / norm - 1)) for factor, size in factors if near(size, norm, SAME)]
        not_reached = [size for factor, size in factors if near(factor, 1.0, case.tolerance) and size < norm]
        changes = any(of_factor > max(10 * of_norm, OFF * case.tolerance) for of_factor, of_norm in scaled)
        if changes and len(scaled) + len(not_reached) >= len(found):
            return Cause(kind, (float(f"{norm:.4g}"),) if kind is Kind.NORM else (norm, alpha))
    return None


# ---- made of the batch size ------------------------------------------------------------------------------------------
class Form(NamedTuple):
    """What a number may be made of: a function of the batch size, of a constant perhaps."""

    kind: Kind
    of: Callable[[int], float]
    numbers: tuple = ()


def _may_follow_m(case: Case, alpha: float, close: float) -> bool:
    """Whether any axis of the data may be the m that a factor is made of."""
    sizes = {m for _, m in candidates(case.evidence.problem)} if case.evidence.batch is not None else ()
    forms = [*_forms(case, "mean"), *(form for m in sizes for form in _multiples(alpha, m, close))]
    return any(near(alpha, form.of(m), close) for m in sizes for form in forms)


def _made_of_m(case: Case, alpha: float, other: float | None, close: float) -> Cause | None:
    """The one form that is α at the batch size and `other` at half of it."""
    batch = case.evidence.batch
    total = batch.total if near(alpha, 1 / batch.m, close) else None
    for forms in (_forms(case, total), _multiples(alpha, batch.m, close)):
        fits = [f for f in forms if near(alpha, f.of(batch.m), close) and near(other, f.of(batch.half_m), close)]
        if len(fits) == 1:
            return Cause(fits[0].kind, (*fits[0].numbers, batch.m))
    return None


def _forms(case: Case, total: str | None):
    """Factors that follow the batch size; `total` is what the loss makes of its examples, a mean or a sum."""
    yield Form(Kind.MEAN_MISSING, lambda m: m)
    if total == "mean":
        yield Form(Kind.MEAN_TWICE, lambda m: 1 / m)
    elif total == "sum":
        yield Form(Kind.MEAN_OF_SUM, lambda m: 1 / m)
    yield Form(Kind.MEAN_UNBIASED, lambda m: m / (m - 1) if m > 1 else np.inf)
    yield Form(Kind.MEAN_MISSING_AND_SIGN, lambda m: -m)
    found = case.evidence.layer_of(case.i) if len(case.leaves) == 1 else None
    units = found[1].matrix(np.asarray(case.evidence.values[found[1].W])).shape[0] if found else 1
    if found and units != 1:
        yield Form(Kind.MEAN_OF_UNITS, lambda m: m / units, (f"n[{found[0]}]",))


def _multiples(alpha: float, m: int, close: float):
    """A factor as k m or k / m, for a constant k of three digits."""
    for kind, k, of in (
        (Kind.TIMES_M, alpha / m, lambda k, m: k * m),
        (Kind.OVER_M, alpha * m, lambda k, m: k / m),
    ):
        short = float(f"{k:.2e}")
        if near(k, short, close):
            yield Form(kind, functools.partial(of, short), (f"{short:.3g}",))


# ---- a factor for each entry: the power of an array ------------------------------------------------------------------
def _recorded(shape: tuple[int, ...], told: list) -> Reading:
    """Float64, and of each result that can be multiplied with an array of some shape its name; not those in loops."""

    def apply(equation, inputs, around):
        outs = FLOAT64.apply(equation, inputs, around)
        by_itself = any(treatment(e).structure != "call" for e in around)
        if not by_itself and _may_multiply(equation, shape) and len(told) < RESULTS:
            told.append((described(equation), outs[0]))
        return outs

    return replace(FLOAT64, apply=apply)


def described(equation) -> str:
    """An equation by its operation and the line that wrote it."""
    return " at ".join(filter(None, [equation.primitive.name, place_of(equation)]))


def _may_multiply(equation, shape) -> bool:
    """Whether the result of an equation is one number, for the shape (), or can be spread over a shape."""
    if len(equation.outvars) != 1 or treatment(equation).moves:
        return False
    result: Any = equation.outvars[0].aval
    wanted = result.size == 1 if shape == () else result.size > 1 and any(spread(result.shape, shape))
    return hasattr(result, "dtype") and is_float(result.dtype) and wanted


@functools.cache
def _results(shape: tuple[int, ...]):
    """The reading of a program that gives its results which may multiply a leaf of some shape."""

    def build(program):
        def read(consts, values, given):
            told: list = []
            evaluate(program, _recorded(shape, told), consts, values, given)
            return [result for _, result in told], Static(tuple(name for name, _ in told))

        return read

    return build


def powers(case: Case, shape: tuple[int, ...] | None = None) -> dict | None:
    """c of each (place, x, k) with g = c r · x^k, x an array of the loss or, failing these, what its program computes.

    shape  of x, by default the leaf's; () for one number, whose powers are known by themselves and need no constant
    """
    look, e = case.look, case.evidence
    shape = tuple(case.f.shape) if shape is None else shape
    g, r, program = sample(look.g), sample(look.r), e.problem.trace.closed
    computed = program is not None and np.prod(shape) <= SMALL
    computed = computed and any(_may_multiply(q, shape) for q in equations(program))
    for results in (None, _results(shape))[: 1 + computed] if np.sum((g != 0) & (r != 0)) >= DISTINCT else ():
        found, sources = {}, []
        for place, (name, x) in enumerate(e.sources(case.i, case.inputs, results)):
            if sample(x).size != g.size:  # g holds slopes along directions, and no entries
                continue
            values = np.unique(np.abs(sample(x)[g != 0])).size
            if values == 1 if shape == () else values >= DISTINCT:
                sources.append(((place, name), x, sample(x)))
        for k, (name, x, few) in itertools.product(POWERS, sources):
            power = few**k  # a few entries tell
            if np.isfinite(power).all() and alpha_of(g, r * power, look.tolerance) is not None:
                c = alpha_of(look.g, look.r * x**k, look.tolerance)
                if c is not None and (shape != () or near(c, 1.0, SAME)):
                    found[*name, k] = c
        if found:
            return found
    return None


def power_everywhere(case: Case, fits: dict, measure: Callable[[Case], dict | None]) -> Cause | None:
    """The first power that has the same constant at other parameters and with other data."""
    for inputs in case.evidence.others:
        there = case.again(measure, inputs) or {}
        fits = {key: c for key, c in fits.items() if near(c, there.get(key), SAME)}
    if not fits:
        return None
    (_, name, k), c = next(iter(fits.items()))
    constant = "" if near(c, 1.0, SAME) else f"{digits(c, SAME)} "
    return Cause(Kind.POWER, (name, f"{constant}x**{k:g}".removesuffix("**1"), SLIPS.get(k, "")))


def _power_of_a_number(case: Case) -> Cause | None:
    """g = r · x^k for a number x of the loss, in all the leaves."""
    measure = functools.partial(powers, shape=())
    fits = measure(case)
    return power_everywhere(case, fits, measure) if fits else None


# ---- a factor for each line ------------------------------------------------------------------------------------------
def factor_of_lines(case: Case) -> tuple | None:
    """A factor for each row, or for each column."""
    f = case.f
    if f.r.ndim != 2 or min(f.r.shape) < 3:
        return None
    for axis, word in ((1, "row"), (0, "column")):
        factors, off = _line_factors(case.evidence, f, axis)
        if off.size:
            return word, _listed(factors, off)
    return None


def factors_of_units(evidence: Evidence, number: int) -> Cause | None:
    """A factor for some units of dZ[number]: the same in dW[number] and in db[number]."""
    layer = (evidence.layers or [])[number - 1]
    if layer.b is None or evidence.leaves[layer.W].r.ndim == 1:
        return None
    f, bias = (evidence.leaves[i] for i in layer.leaves)
    factors, off = _line_factors(evidence, f, 1 if layer.columns else 0)
    # Of a single example any dZ is the true one with a factor for each unit: some units have to be right.
    if 0 < off.size < factors.size and evidence.equal(bias.g.ravel(), factors * bias.r.ravel(), bias):
        return Cause(Kind.UNITS, (number, _listed(factors, off)))
    return None


def _line_factors(evidence: Evidence, f, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The factors by which g is r, for each row (axis 1) or column (axis 0), and which are not 1; none if it is not."""
    size, tolerance = np.sqrt(np.sum(np.abs(f.r) ** 2, axis=axis)), evidence.tolerance(f)
    factors = np.real(np.sum(f.g * np.conj(f.r), axis=axis)) / np.maximum(size**2, 1e-300)
    known = factors[size > 0]  # of a line of zeros any factor is right
    differ = tolerance <= COARSE and known.size > 1 and np.ptp(known) > 2 * tolerance * largest(known)
    if not differ or not evidence.equal(f.g, np.expand_dims(factors, axis) * f.r, f):
        return factors, np.array([], int)
    return factors, np.flatnonzero(np.abs(factors - 1) * size > tolerance * f.r_norm)


def _listed(factors, off) -> str:
    """The lines whose factors are not 1."""
    listed = [f"[{k}] is zero" if factors[k] == 0 else f"[{k}] x {digits(factors[k])}" for k in off[:LISTED]]
    return ", ".join(listed) + (f", ... ({off.size} of {factors.size})" if off.size > LISTED else "")

"""Equal numbers: where(x == 0, 0, 5 x) is 5 x everywhere, but autodiff follows the branch taken at 0 and has it flat.

A comparison of floating numbers for equality holds at a point and nowhere near it, so what autodiff differentiates
there is not the loss. Its values tell: a loss that makes such comparisons is asked by differences even in a fast check.
"""

import time

import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.blackbox import compare_with_differences
from jaxnet.verify.interpret import dtype_of, is_float
from jaxnet.verify.jaxprs import ClosedJaxpr, Jaxpr, is_custom_rule, programs_within
from jaxnet.verify.report import Statement
from jaxnet.verify.strip import is_own_rule
from jaxnet.verify.tree import wide
from jaxnet.verify.trouble import tolerated
from jaxnet.verify.witnesses import direction


def doubt_autodiff_at_equalities(check):
    """Holds autodiff against the loss's values, along all leaves at once and along their zeros, then leaf by leaf."""
    if not any(f.verdict == "PASS" for f in check.findings) or not compares_for_equality(check.problem.traced().jaxpr):
        return
    begun, x = time.perf_counter(), [wide(v) for v in check.problem.params.values]
    with tolerated(check.problem, "differences at equal numbers"):
        if all(_agrees(check, x, check.problem.level, v) for v in _directions(check, x)):
            said = "the loss asks whether numbers are equal; along the leaves and their zeros, autodiff agrees"
            check.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))
        else:
            compare_with_differences(check)


def _directions(check, x):
    """One direction of all leaves, and one of the entries that are zero: most equalities hold there."""
    v = {i: direction(check.rng, x[i]) for i, f in enumerate(check.findings) if f.comparable and x[i].size}
    yield v
    zeros = {i: np.where(x[i] == 0, v[i], 0.0) for i in v}
    if any(z.any() for z in zeros.values()) and not all((x[i] == 0).all() for i in v):
        yield zeros


def _agrees(check, x, level, v) -> bool:
    """Whether the values do not speak against autodiff along v."""
    found = differences.slope(check.problem.value, x, v, level)
    if found is None or found.kinked:
        return False
    parts = [check.findings[i].r * along for i, along in v.items()]
    rounding = differences.U * sum(float(np.sum(np.abs(part))) for part in parts)
    claimed = sum(float(np.real(np.sum(part))) for part in parts)
    return abs(claimed - found.central) <= 64 * max(found.error, rounding)


def compares_for_equality(jaxpr: Jaxpr | ClosedJaxpr) -> bool:
    """Whether floating numbers are compared for equality, x != x (is it NaN?) and what JAX's own rules do apart."""
    for equation in jaxpr.eqns:
        if is_custom_rule(equation) and is_own_rule(equation):
            continue
        if equation.primitive.name in ("eq", "ne"):
            x, y = equation.invars
            if is_float(dtype_of(x)) and x is not y:
                return True
        if any(map(compares_for_equality, programs_within(equation))):
            return True
    return False

"""Witnesses 3 to 6 against what is established: forward mode, differences, the complex step, relations of batches.

A fast check asks differences too where the loss compares floating numbers for equality: where(x == 0, 0, 5 x) is 5 x
everywhere, but autodiff follows the branch taken at 0 and has it flat. Such a comparison holds at a point and nowhere
near it, so what autodiff differentiates there is not the loss; the values tell.
"""

from collections.abc import Callable

import numpy as np

from jaxnet.verify.errors import UnreadableError, note, tolerated
from jaxnet.verify.evidence import differences
from jaxnet.verify.evidence.relations import relations
from jaxnet.verify.journal import first_line
from jaxnet.verify.judge.by_values import differences_beside_autodiff
from jaxnet.verify.judge.verdict import LeafJudgement
from jaxnet.verify.problem.loss import direction, inner_product
from jaxnet.verify.problem.trees import wide
from jaxnet.verify.program.dtypes import dtype_of, is_float
from jaxnet.verify.program.jaxprs import ClosedJaxpr, Jaxpr, is_custom_rule, programs_within
from jaxnet.verify.program.rules import is_own_rule

TORN = 1e6  # roundings of float64 by which two witnesses may differ


def witnesses_agree(check, leaves: tuple[LeafJudgement, ...]) -> bool:
    """Ask witnesses 3, 4, 5 and 6; whether the first three agree with autodiff."""
    problem = check.problem
    forward = lambda v: problem.slope(v)
    agree = [
        _compared(check, leaves, "3 forward mode", "forward", forward, check.directions),
        differences_beside_autodiff(check, leaves),
        _compared(check, leaves, "5 complex step", "complex step", problem.complex_slope, 1),
    ]
    with check.journal.stated("6 relations") as says:
        broken, said = relations(problem, check.candidate, leaves, check.rng("relations"))
        check.journal.notes += broken
        says(said)
    return all(agree)


def _compared(check, leaves, name: str, mode: str, slope: Callable, directions: int) -> bool:
    """Whether the slopes that a mode gives along random directions of each leaf are those of autodiff.

    A direction that leaves a tie, such as that of a relu at 0, has two slopes, and which a mode takes is a convention.
    """
    x, rng, worst, ties = [wide(v) for v in check.problem.params.values], check.rng(mode), 0.0, 0
    with check.journal.stated(name) as says:
        try:
            for i, f in enumerate(leaves):
                if not f.comparable or f.frozen or not x[i].size or f.known is not None:
                    continue
                for _ in range(directions):
                    v = direction(rng, x[i])
                    found = slope([v if k == i else None for k in range(len(x))])
                    scale = differences.U * float(np.sum(np.abs(f.r * v))) + 1e-300
                    off = abs(found - inner_product(f.r, v)) / scale
                    if off > TORN and _leaves_a_tie(check, x, {i: v}):
                        ties += 1
                    else:
                        worst = max(worst, off)
            beside = f"; {ties} directions leave a tie, where it is a convention" if ties else ""
            says(f"{directions} directions a leaf; <r, v> agrees to {worst:.2g} float64 roundings of Σ|r v|{beside}")
        except UnreadableError as error:
            says(f"not possible: {error} is not analytic here")
        except Exception as error:  # a rule of JAX's own without this mode, an operation that rejects complex numbers
            note(check.journal, error, mode)
            says(f"cannot: {first_line(error)}")
    if worst > TORN:
        check.journal.notes.append(f"the witnesses disagree: {mode} and reverse mode differ on the loss")
    return worst <= TORN


def _leaves_a_tie(check, x, v) -> bool:
    """Whether the values have two slopes along v, one to each side."""
    found = differences.slope(check.problem.value, x, v, check.problem.level)
    return found is not None and found.kinked


# ---- equal numbers --------------------------------------------------------------------------------------------------
def values_agree_at_equalities(check, leaves: tuple[LeafJudgement, ...]) -> bool:
    """Hold autodiff against values along all leaves at once and along their zeros, and if need be leaf by leaf."""
    problem = check.problem
    if not any(f.verdict == "PASS" for f in leaves) or not compares_for_equality(problem.trace.closed.jaxpr):
        return True
    with tolerated(check.journal, "differences at equal numbers"):
        x, rng = [wide(v) for v in problem.params.values], check.rng("equalities")
        with check.journal.stated("4 finite differences") as says:
            agrees = all(_agrees(check, leaves, x, v) for v in _directions(leaves, x, rng))
            if agrees:
                says("the loss asks whether numbers are equal; along the leaves and their zeros, autodiff agrees")
        return agrees or differences_beside_autodiff(check, leaves)
    return True


def _directions(leaves, x, rng):
    """One direction of all leaves, and one of the entries that are zero: most equalities hold there."""
    v = {i: direction(rng, x[i]) for i, f in enumerate(leaves) if f.comparable and x[i].size and f.known is None}
    yield v
    zeros = {i: np.where(x[i] == 0, v[i], 0.0) for i in v}
    if any(z.any() for z in zeros.values()) and not all((x[i] == 0).all() for i in v):
        yield zeros


def _agrees(check, leaves, x, v) -> bool:
    """Whether the values do not speak against autodiff along v."""
    found = differences.slope(check.problem.value, x, v, check.problem.level)
    if found is None or found.kinked:
        return False
    parts = [leaves[i].r * along for i, along in v.items()]
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

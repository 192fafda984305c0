"""The rounding of a gradient's terms: all that two right formulas differ by in float64, where their terms cancel.

At the optimum of a quantile loss q · (examples above) balances (1 − q) · (examples below). Then u ‖r‖ is nothing, but
the float32 numbers next to q and to 1 − q do not add up to 1, and one formula has the one where another has the other.
So every constant is moved by a rounding of its own, every result by one of the precision that it is taken in:

    e(t) = a formula with constants c (1 + t s u) and results × (1 ± t u'),  |s| in [0.5, 1.5], one s for equal |c|
    terms = max over draws of ‖e'(0)‖, of the formula as written and of autodiff's

u is that of the constant's dtype, or of the leaves' if that is less. Whole numbers and those of half the digits are
exact, and so are arrays, which are data. The derivative leaves each decision as it falls: no step over a kink is in it.
"""

import jax
import numpy as np

from jaxnet.verify.errors import note
from jaxnet.verify.problem.trees import wide
from jaxnet.verify.program.cache import program_of
from jaxnet.verify.program.interpreter import OWN
from jaxnet.verify.program.transforms import evaluate, lost_by_terms
from jaxnet.verify.sizes import largest, norm

DRAWS = 4
OF_FLOAT64 = 2.0**-53


def rounding_of_terms(
    problem, formula, seed: int, of_constants: float, of_results: float = OF_FLOAT64
) -> list[tuple[float, float]]:
    """Norm and largest entry, leaf by leaf, of what a formula's terms, or autodiff's, lose; results are in float64."""
    found = [(0.0, 0.0)] * len(problem.units)
    units = np.float64(of_constants), np.float64(of_results)
    inputs = [*problem.own(problem.params.values), *problem.given.values]
    try:
        for closed in (*([formula.trace] if formula.traceable else []), _gradient_of(problem)):
            run = program_of(closed).compiled(lost_by_terms, quickly=True)
            for draw in range(DRAWS):
                with jax.enable_x64(True):
                    moves = run(closed.consts, inputs, np.uint32(seed + draw), *units)
                sizes = [(norm(x), largest(x)) for x in map(wide, moves)]
                found = [
                    (max(a[0], b[0]), max(a[1], b[1])) if np.isfinite(b).all() else a
                    for a, b in zip(found, sizes, strict=True)
                ]
    except Exception as error:  # an operation without a derivative, or that cannot be read again
        note(problem.journal, error, "the rounding of terms")
    return found


def _gradient_of(problem):
    """Autodiff's gradient as a program of its own, at (values, given)."""
    program, consts = problem.trace.program, problem.trace.closed.consts

    def gradient(values, given):
        return jax.grad(lambda v: evaluate(program, OWN, consts, v, given))(values)

    return jax.make_jaxpr(gradient)(problem.own(problem.params.values), problem.given.values)

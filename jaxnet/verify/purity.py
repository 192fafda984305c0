"""Is the loss a function? Called twice with the same input it has to give one value.

What draws a new mask or counts its calls does so when it is called: a loss of JAX when it is traced, so its second
trace is another program; a host function whenever a value is asked for.
"""

import numpy as np

from jaxnet.verify.batch import restricted
from jaxnet.verify.programs import same_program
from jaxnet.verify.report import first_line
from jaxnet.verify.tree import unit_roundoff, wide
from jaxnet.verify.trouble import note
from jaxnet.verify.witnesses import Problem

ROUNDINGS = 64  # by which two values of one loss may differ: a host may add in another order


def impurity(problem: Problem) -> str | None:
    """In words, that the loss gives two values for the same input; None of a function."""
    try:
        again = restricted(problem, problem.given.values)
        alike = problem.trace is not None and same_program(problem.trace, again.traced())
    except Exception as error:  # what an earlier call has left behind may be unusable in a later one
        note(problem, error, "the second trace")
        return f"the loss cannot be called twice, it keeps state: {first_line(error)}"
    if alike and not problem.opaque:
        return None
    x = [wide(v) for v in problem.params.values]
    there = problem if alike else again  # what is alike is compiled already
    return differing(problem.value(x), there.value(x), max(problem.units))


def differing(one: float, other: float, unit: float) -> str | None:
    """In words, that two values of the loss are not one value but for rounding."""
    slack = ROUNDINGS * max(unit, unit_roundoff(np.float32)) * max(abs(one), abs(other))
    if not np.isfinite([one, other]).all() or abs(one - other) <= slack:
        return None
    return f"the loss itself gives two values for the same input: {one:.6g} and {other:.6g}"

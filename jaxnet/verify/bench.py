"""The full bench: forward mode, differences, complex step and relations against what is established."""

import time

import numpy as np

from jaxnet.verify.blackbox import compare_with_differences
from jaxnet.verify.interpret import UnreadableError
from jaxnet.verify.relations import relations
from jaxnet.verify.report import Statement, first_line
from jaxnet.verify.tree import wide
from jaxnet.verify.trouble import note
from jaxnet.verify.witnesses import direction, inner_product


def all_witnesses(check):
    """Witnesses 3, 4, 5 and 6, each against what is established."""
    x = [wide(v) for v in check.problem.params.values]
    begun, said = time.perf_counter(), None
    try:
        worst = 0.0
        for i, f in enumerate(check.findings):
            if not f.comparable or f.frozen or not x[i].size:
                continue
            for _ in range(check.directions):
                v = direction(check.rng, x[i])
                found = check.problem.slope([v if k == i else None for k in range(len(x))])
                scale = 2.0**-53 * float(np.sum(np.abs(f.r * v))) + 1e-300
                worst = max(worst, abs(found - inner_product(f.r, v)) / scale)
        said = f"{check.directions} directions a leaf; <r, v> agrees to {worst:.2g} float64 roundings of Σ|r v|"
        if worst > 1e6:
            check.notes.append("the witnesses disagree: forward and reverse mode differ on the loss")
    except Exception as error:  # custom_vjp of JAX's own has no forward mode
        note(check.problem, error, "forward mode")
        said = f"cannot: {first_line(error)}"
    check.statements.append(Statement("3 forward mode", said, time.perf_counter() - begun))
    if not any(s.name.startswith("4") for s in check.statements):
        compare_with_differences(check)
    complex_step(check, x)
    begun = time.perf_counter()
    broken, said = relations(check.problem, check.manual, check.findings, check.rng)
    check.notes += broken
    check.statements.append(Statement("6 relations", said, time.perf_counter() - begun))


def complex_step(check, x):
    """Witness 5."""
    begun, worst = time.perf_counter(), 0.0
    try:
        for i, f in enumerate(check.findings):
            if not f.comparable or f.frozen or not x[i].size:
                continue
            v = direction(check.rng, x[i])
            found = check.problem.complex_slope([v if k == i else None for k in range(len(x))])
            worst = max(
                worst, abs(found - inner_product(f.r, v)) / (2.0**-53 * float(np.sum(np.abs(f.r * v))) + 1e-300)
            )
        said = f"a direction a leaf; agrees to {worst:.2g} float64 roundings of Σ|r v|"
        if worst > 1e6:
            check.notes.append("the witnesses disagree: complex step and reverse mode differ on the loss")
    except UnreadableError as error:
        said = f"not possible: {error} is not analytic here"
    except Exception as error:  # an operation that rejects complex numbers
        note(check.problem, error, "complex step")
        said = f"not possible: {first_line(error)}"
    check.statements.append(Statement("5 complex step", said, time.perf_counter() - begun))

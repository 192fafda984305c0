"""Relations: what holds for a right gradient without anything to compare it with.

    permuting the examples leaves the gradient where it is
    the gradient of a mean is the mean of the single examples' gradients, of a sum their sum

(The third one, linearity in the cotangent, belongs to check_vjp.)
"""

import numpy as np

from jaxnet.verify.errors import note
from jaxnet.verify.evidence.noise import FAIL
from jaxnet.verify.problem.batch import find_batch
from jaxnet.verify.problem.trees import called, wide
from jaxnet.verify.sizes import norm

SINGLES = 16  # larger batches are halved instead of taken apart


def relations(problem, manual, findings, rng) -> tuple[list[str], str]:
    """Notes on relations that are broken, and what the witness said."""
    batch = find_batch(problem)
    if batch is None:
        return [], "no axis of examples found among the arguments; nothing to say"
    judged = [i for i, f in enumerate(findings) if f.comparable and not f.frozen and f.noise.norm > 0]
    if not judged:
        return [], "nothing to say"

    def gradient(which):
        return [wide(x) for x in manual.elsewhere(batch.take(which)).leaves]

    def broken(there) -> list[str]:
        far = [i for i in judged if norm(there[i] - findings[i].g) > 4 * FAIL * findings[i].noise.norm]
        return [called(findings[i].path) for i in far]

    notes = []
    try:
        moved = broken(gradient(rng.permutation(batch.m)))
        if moved:
            notes.append(f"permuting the examples changes the manual gradient of {', '.join(moved)}")
        if batch.total is not None:
            parts = np.array_split(np.arange(batch.m), batch.m if batch.m <= SINGLES else 2)
            total = None
            for part in parts:
                weight = len(part) / batch.m if batch.total == "mean" else 1.0
                there = [weight * x for x in gradient(part)]
                total = there if total is None else [t + x for t, x in zip(total, there, strict=True)]
            unequal = broken(total)
            if unequal:
                notes.append(
                    f"the {batch.total} over parts of the batch is not the manual gradient of {', '.join(unequal)}"
                )
    except Exception as error:  # a gradient that insists on its batch size
        note(problem.journal, error, "relations")
        return notes, f"cannot take examples apart: {type(error).__name__}"
    said = "permuted examples and parts of the batch agree" if not notes else "; ".join(notes)
    return notes, f"{said} ({batch.m} examples, loss is a {batch.total or 'weighted mean or sum'})"

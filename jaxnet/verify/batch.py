"""Examples: which axis of the arguments they lie along, and what happens when there are fewer of them.

Several causes can only be told apart by running again: 1/m by another m, dZ from A by a batch of one, a forgotten
example by each example's own gradient. An axis counts as the examples' only if the loss says so: permuting it changes
nothing, and the loss of the batch twice over is the loss (a mean) or twice the loss (a sum).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.witnesses import Problem

CLOSE = 1e-3


@dataclass(frozen=True)
class Batch:
    """m examples along `axes[i]` of the i-th fixed array (None: that array has none); `total` is "mean" or "sum"."""

    problem: Problem
    axes: tuple[int | None, ...]
    m: int
    total: str

    def take(self, which) -> list:
        """The fixed arrays with only these examples."""
        which = np.asarray(which)
        return [
            x if axis is None else jnp.take(jnp.asarray(x), which, axis)
            for x, axis in zip(self.problem.given.values, self.axes, strict=True)
        ]

    def smaller(self, m: int) -> tuple[Problem, list]:
        """The same problem on the first m examples."""
        given = self.take(np.arange(m))
        return restricted(self.problem, given), given


def restricted(problem: Problem, given) -> Problem:
    """The problem with other fixed arrays, of other shapes perhaps; its own trace and compilations."""
    arguments = problem.arguments(problem.params.values, given)
    return Problem(problem.loss, arguments[0], arguments[1:], problem.argnums, problem.has_aux)


def find_batch(problem: Problem) -> Batch | None:
    """The examples' axis, proved on the loss; None if there is none."""
    given = problem.given.values
    shapes = [np.shape(x) for x in given]
    for axis in (-1, 0):
        sizes = [s[axis] for s in shapes if len(s) >= 1]
        if not sizes or len(sizes) != sum(len(s) >= 1 for s in shapes) or len(set(sizes)) != 1 or sizes[0] < 2:
            continue
        axes = tuple(axis if len(s) >= 1 else None for s in shapes)
        found = _proved(problem, axes, sizes[0])
        if found is not None:
            return found
    return None


def _proved(problem, axes, m) -> Batch | None:
    try:
        value = jax.jit(lambda given: problem.scalar(problem.params.values, given))
        batch = Batch(problem, axes, m, "mean")
        order = np.random.default_rng(0).permutation(m)
        whole, moved = float(value(problem.given.values)), float(value(batch.take(order)))
        if abs(moved - whole) > CLOSE * abs(whole):
            return None
        twice = float(value(batch.take(np.tile(np.arange(m), 2))))
        for total, expected in (("mean", whole), ("sum", 2 * whole)):
            if abs(twice - expected) <= CLOSE * abs(whole):
                return Batch(problem, axes, m, total)
    except Exception:  # a loss that insists on its shapes has no examples to leave out
        return None
    return None

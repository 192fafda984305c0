"""Examples: which axis of the arguments they lie along, and what happens when there are fewer of them.

Several causes can only be told apart by running again: 1/m by another m, dZ from A by a batch of one, a forgotten
example by each example's own gradient. An axis counts as the examples' only if the loss says so: permuting it changes
nothing, and the two halves' losses make up the whole's, as a mean or as a sum.
"""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from jaxnet.verify.trouble import note
from jaxnet.verify.witnesses import Problem

CLOSE = 1e-9  # float64 values


@dataclass
class Batch:
    """m examples along `axes[i]` of the i-th fixed array (None: that array has none); `total` is "mean" or "sum"."""

    problem: Problem
    axes: tuple[int | None, ...]
    m: int
    total: str = "mean"

    def take(self, which) -> list:
        """The fixed arrays with only these examples."""
        which = np.asarray(which)
        return [
            x if axis is None else jnp.take(jnp.asarray(x), which, axis)
            for x, axis in zip(self.problem.given.values, self.axes, strict=True)
        ]

    @cached_property
    def single(self) -> Problem:
        """The problem on one example, compiled once and asked about several."""
        return restricted(self.problem, self.take([0]))

    @cached_property
    def half(self) -> Problem:
        """The problem on half of the examples (one more of an odd number)."""
        return restricted(self.problem, self.take(np.arange(self.half_m)))

    @property
    def half_m(self) -> int:
        """How many examples half of them are."""
        return (self.m + 1) // 2


def restricted(problem: Problem, given) -> Problem:
    """The problem with other fixed arrays, of other shapes perhaps; its own trace and compilations."""
    arguments = problem.arguments(problem.params.values, given)
    return Problem(problem.loss, arguments[0], arguments[1:], problem.argnums, problem.has_aux)


def candidates(problem: Problem) -> list[tuple[int, int]]:
    """Axes (last or first) along which all the fixed arrays have one length, with that length."""
    found = []
    for axis in (-1, 0):
        sizes = {np.shape(x)[axis] for x in problem.given.values if np.ndim(x)}
        if len(sizes) == 1 and min(sizes) >= 2:
            found.append((axis, sizes.pop()))
    return found


def find_batch(problem: Problem) -> Batch | None:
    """The examples' axis, proved on the loss; None if there is none."""
    for axis, m in candidates(problem):
        batch = Batch(problem, tuple(axis if np.ndim(x) else None for x in problem.given.values), m)
        try:
            total = _total(batch)
        except Exception as error:  # a loss that insists on its shapes has no examples to leave out
            note(problem, error, "examples")
            continue
        if total is not None:
            batch.total = total
            return batch
    return None


def _total(batch: Batch) -> str | None:
    """ "mean" or "sum", if the loss is one over the examples: m J = Σ of the two halves' (an odd one counted once)."""
    problem, m, half = batch.problem, batch.m, batch.half_m
    whole = problem.double()[0]
    moved = problem.double(given=batch.take(np.random.default_rng(0).permutation(m)))[0]
    if abs(moved - whole) > CLOSE * abs(whole):
        return None
    first = batch.half.double()[0]
    second = batch.half.double(given=batch.take(np.arange(m - half, m)))[0]
    twice = batch.single.double(given=batch.take([half - 1]))[0] if 2 * half > m else 0.0
    sums = {"mean": (half * (first + second) - twice) / m, "sum": first + second - twice}
    fits = [name for name, value in sums.items() if abs(value - whole) <= CLOSE * abs(whole)]
    if fits:
        return fits[0]
    # A mean with unequal weights (padding): the batch twice over has the same value.
    given = batch.take(np.tile(np.arange(m), 2))
    twice_over = restricted(problem, given)
    twice_over.traced()
    return "mean" if abs(twice_over.value(twice_over.params.values) - whole) <= CLOSE * abs(whole) else None

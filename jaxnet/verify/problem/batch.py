"""Examples: which axis of the arguments they lie along, and what happens when there are others, or fewer.

Several causes can only be told apart by running again: dZ from A by one example alone, a forgotten example by each
example's own gradient, 1/m by another m. One example alone is m copies of it: the shapes stay, and nothing is compiled.

An axis counts as the examples' only if the loss says so: permuting it changes nothing, and its two halves, each taken
twice, have together twice the value.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.errors import tolerated
from jaxnet.verify.problem.loss import Problem, restricted
from jaxnet.verify.problem.trees import wide

CLOSE = 1e-9  # float64 values
ASKED = 16  # examples, for two whose losses differ


@dataclass(frozen=True, eq=False)
class Batch:
    """m examples along `axes[i]` of the i-th fixed array (None: that array has none)."""

    problem: Problem
    axes: tuple[int | None, ...]
    m: int

    def take(self, which) -> list:
        """The fixed arrays with only these examples."""
        which = np.asarray(which)
        return [
            x if axis is None else _take(x, which, axis)
            for x, axis in zip(self.problem.given.values, self.axes, strict=True)
        ]

    def alone(self, k: int) -> list:
        """Example k in every place: the value and the gradient of a mean over it alone, in the same shapes."""
        return self.take(np.full(self.m, k))

    @cached_property
    def half(self) -> Problem:
        """The problem on half of the examples (one more of an odd number)."""
        return restricted(self.problem, self.take(np.arange(self.half_m)))

    @property
    def half_m(self) -> int:
        """How many examples half of them are."""
        return (self.m + 1) // 2

    @cached_property
    def total(self) -> str | None:
        """ "mean" or "sum": how half as many copies of an example change its loss; None if that cannot be told."""
        values, theta = [], [wide(v) for v in self.problem.params.values]
        for k in range(min(self.m, ASKED)):
            there = self.problem.value(theta, self.alone(k)), self._half_value(theta, self.take([k] * self.half_m))
            values += [there] if np.isfinite(there).all() else []
            # A regulariser is in each value: it cancels in the difference of two examples that differ.
            (whole, part), (other, other_part) = values[0] if values else there, there
            if abs(whole - other) > 1e-6 * max(abs(whole), abs(other)) and part != other_part:
                ratio = (whole - other) / (part - other_part)
                kinds = {"mean": 1.0, "sum": self.m / self.half_m}
                return next((name for name, r in kinds.items() if abs(ratio - r) <= 1e-6 * r), None)
        return None

    def _half_value(self, theta, given) -> float:
        if self.problem.valued_only:
            return self.half.value(theta, given)
        return self.half.double(theta, given)[0]  # compiled already


def _take(x, which, axis):
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.extended):  # PRNG keys
        return jnp.take(x, which, axis)
    taken = np.take(np.asarray(x), which, axis)  # on the host, where a new shape costs no compilation
    return jax.device_put(taken) if isinstance(x, jax.Array) else taken  # asarray would compile


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
        with tolerated(problem.journal, "examples"):  # a loss that insists on its shapes has no examples to leave out
            if _is_over_examples(batch):
                return batch
    return None


def _is_over_examples(batch: Batch) -> bool:
    """Whether the loss is a mean or a sum over the examples; a mean may have weights (padding)."""
    problem, m = batch.problem, batch.m
    theta = [wide(v) for v in problem.params.values]

    def value(which) -> float:
        return problem.value(theta, batch.take(which))

    every, whole = np.arange(m), problem.level
    close = max(CLOSE * abs(whole), 16 * problem.blur(whole))
    if abs(value(np.random.default_rng(0).permutation(m)) - whole) > close:
        return False
    half = m // 2
    middle = every[half : m - half]  # one example of an odd number, none of an even
    twice = [np.concatenate([side, side, middle]) for side in (every[:half], every[m - half :])]
    if abs(sum(map(value, twice)) - 2 * whole) <= close:
        return True
    # A mean with unequal weights: the batch twice over has the same value.
    twice_over = restricted(problem, batch.take(np.tile(every, 2)))
    return abs(twice_over.value(theta) - whole) <= close

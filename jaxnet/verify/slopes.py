"""What a diagnosis is made of where only values of a loss are known: slopes along a few directions, not entries.

A relation that is linear, g = α r or g = r + λ θ, holds of <g, v>, <r, v> and <θ, v> if it holds of the entries; and of
a few random directions it does not hold by chance.
"""

from functools import cached_property

import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.evidence import Compared, Elsewhere, Evidence, Few
from jaxnet.verify.noise import norm, ratio
from jaxnet.verify.tree import wide
from jaxnet.verify.trouble import tolerated
from jaxnet.verify.witnesses import direction, inner_product

DIRECTIONS = 4  # of each leaf


class Slopes(Evidence):
    """The evidence on a black box."""

    @property
    def examples(self) -> None:
        """Single examples' gradients would take a difference for each entry."""
        return None

    @cached_property
    def here(self) -> Elsewhere | None:
        """The slopes at the point itself."""
        with tolerated(self.problem, "the diagnosis"):
            theta, manual = self._few(self.problem.params.values), self._few([f.raw for f in self.findings])
            return Elsewhere(theta, manual, self._true(self.problem))
        return None

    def compared(self, i: int) -> Compared:
        """The slopes of a leaf, which are known better than its entries."""
        f = self.findings[i]
        if f.slopes is None or self.here is None:
            return super().compared(i)
        return Compared(*self.here.both(i), max(8 * ratio(f.slopes.noise, f.slopes.norm), 16 * f.unit))

    def _true(self, problem, values=None, given=None) -> Few:
        x = [wide(v) for v in (problem.params.values if values is None else values)]
        level = problem.value(x, given)

        def slope(along) -> float:
            found = differences.slope(lambda x: problem.value(x, given), x, along, level, blur=self._blur)
            return np.nan if found is None else found.central

        return Few({i: np.array([slope({i: v}) for v in vs]) for i, vs in self._directions.items()}, np.nan)

    def _expect_true(self, problem):
        """Values are compiled when they are asked for."""

    def _few(self, leaves) -> Few:
        there = {i: wide(leaves[i]) for i in self._directions if np.shape(leaves[i]) == self.findings[i].shape}
        entries = {i: np.array([inner_product(x, v) for v in self._directions[i]]) for i, x in there.items()}
        return Few(entries, float(np.sqrt(sum(norm(x) ** 2 for x in there.values()))))

    @cached_property
    def _directions(self) -> dict[int, list[np.ndarray]]:
        """Of each wrong leaf."""
        x = {i: wide(v) for i, v in enumerate(self.problem.params.values) if self.findings[i].wrong}
        return {i: [direction(self.rng, v) for _ in range(DIRECTIONS)] for i, v in x.items()}

    @cached_property
    def _blur(self) -> float:
        return self.problem.blur(self.problem.level)

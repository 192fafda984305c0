"""Kinks: where the one-sided derivatives differ, any value between them is a gradient.

relu at 0, |x| at 0, the maximum of equal numbers: autodiff takes one convention, a formula by hand another,
and both are right. The float64 gradient is taken again with every tie broken to one side, to the other, and at random;
what lies between the smallest and the largest value of each coordinate, widened by noise, is a subgradient.

Entries that each lie between may still be wrong together: a maximum of equal numbers shares out exactly 1. So the error
has to lie in the span of what the ties can move, where that span is small enough to be known.
"""

import numpy as np

from jaxnet.verify.noise import FAIL, Noise, largest, norm

RANDOM_SIDES = 6
MORE_SIDES = 24  # to know the span of the ties, once an answer depends on it
SPARE = 4  # so many draws have to add nothing new before the span counts as known
SAMPLED = 4096  # entries of a leaf that the span is looked for in
WIDTH = 8.0  # a tie is a difference below 8 u of the largest entry


class Subgradients:
    """Smallest and largest value of each coordinate over the sides that the ties can be broken to."""

    def __init__(self, problem, r: list[np.ndarray]):
        """Costs eight float64 gradients and one compilation."""
        self.problem, self.r = problem, r
        self.low, self.high = [x.copy() for x in r], [x.copy() for x in r]
        self.moved: list[list[np.ndarray]] = [[] for _ in r]  # for each leaf and draw, some entries less autodiff's
        self.drawn = 0
        for side in [1.0, -1.0] + [0.0] * RANDOM_SIDES:
            self._draw(side)

    def _draw(self, side: float):
        there = self.problem.tilted(side, self.drawn, WIDTH * max(self.problem.units))
        self.drawn += 1
        for i, x in enumerate(there):
            self.low[i], self.high[i] = np.minimum(self.low[i], x), np.maximum(self.high[i], x)
            self.moved[i].append(_sample(x) - _sample(self.r[i]))

    def _draw_more(self):
        if self.drawn < MORE_SIDES:
            for _ in range(MORE_SIDES):
                self._draw(0.0)

    def wide(self, i: int, noise: Noise) -> bool:
        """Whether a leaf has a kink that shows above its noise."""
        return largest(self.high[i] - self.low[i]) > noise.entry

    def holds(self, i: int, g: np.ndarray, noise: Noise) -> bool:
        """Whether each entry of g lies between, to within the noise."""
        outside = np.maximum(np.maximum(self.low[i] - g, g - self.high[i]), 0.0)
        return largest(outside) <= FAIL * noise.entry and norm(outside) <= FAIL * noise.norm

    def might_hold(self, i: int, g: np.ndarray, noise: Noise) -> bool:
        """Whether g is out of reach of the draws only where several ties add up, and no further than they reach.

        One tie gives an entry two values, and both were drawn; the extremes of many may not have been.
        """
        self._draw_more()
        moved, error, close = np.stack(self.moved[i]), _sample(g) - _sample(self.r[i]), FAIL * noise.entry
        low, high = moved.min(axis=0, initial=0.0), moved.max(axis=0, initial=0.0)
        beyond = np.maximum(low - error, error - high) > close
        between = np.any((moved > low + close) & (moved < high - close), axis=0)
        reach = np.maximum(low - error, error - high) <= high - low + close
        return bool(np.all(between[beyond]) and np.all(reach))

    def together(self, i: int, g: np.ndarray, noise: Noise) -> bool:
        """Whether the ties can give all entries of g at once; also true where there are too many ties to tell."""
        self._draw_more()
        moved = np.stack(self.moved[i])
        _, sizes, span = np.linalg.svd(moved, full_matrices=False)
        rank = int((sizes > max(noise.entry, 1e-9 * sizes[0])).sum())
        if rank > len(moved) - SPARE:
            return True
        error = _sample(g) - _sample(self.r[i])
        return norm(error - span[:rank].T @ (span[:rank] @ error)) <= FAIL * noise.norm

    def interval(self, i: int, index) -> tuple[float, float]:
        """The interval of one coordinate."""
        return float(self.low[i][index]), float(self.high[i][index])


def _sample(x) -> np.ndarray:
    flat = np.ravel(x)
    return flat[:: max(1, flat.size // SAMPLED) | 1]

"""Kinks: where the one-sided derivatives differ, any value between them is a gradient.

relu at 0, |x| at 0, the maximum of equal numbers: autodiff takes one convention, a formula by hand another,
and both are right. The float64 gradient is taken again with every tie broken to one side, to the other, and at random;
what lies between the smallest and the largest value of each coordinate, widened by noise, is a subgradient.
"""

import numpy as np

from jaxnet.verify.noise import FAIL, Noise, largest, norm

RANDOM_SIDES = 6
WIDTH = 8.0  # a tie is a difference below 8 u of the largest entry


class Subgradients:
    """Smallest and largest value of each coordinate over the sides that the ties can be broken to."""

    def __init__(self, problem, r: list[np.ndarray]):
        """Costs eight float64 gradients and one compilation."""
        width = WIDTH * max(problem.units)
        draws = [problem.tilted(side, seed, width) for seed, side in enumerate([1.0, -1.0] + [0.0] * RANDOM_SIDES)]
        self.low = [np.minimum.reduce([x, *(d[i] for d in draws)]) for i, x in enumerate(r)]
        self.high = [np.maximum.reduce([x, *(d[i] for d in draws)]) for i, x in enumerate(r)]

    def wide(self, i: int, noise: Noise) -> bool:
        """Whether a leaf has a kink that shows above its noise."""
        return largest(self.high[i] - self.low[i]) > noise.entry

    def holds(self, i: int, g: np.ndarray, noise: Noise) -> bool:
        """Whether g lies between, to within the noise."""
        outside = np.maximum(np.maximum(self.low[i] - g, g - self.high[i]), 0.0)
        return largest(outside) <= FAIL * noise.entry and norm(outside) <= FAIL * noise.norm

    def interval(self, i: int, index) -> tuple[float, float]:
        """The interval of one coordinate."""
        return float(self.low[i][index]), float(self.high[i][index])

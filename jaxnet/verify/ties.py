"""The float64 gradient of a problem as a function of what is chosen at its ties: see conventions.py."""

import jax
import numpy as np

from jaxnet.verify import derivatives
from jaxnet.verify.witnesses import Problem, in_float64


class Ties:
    """The ties of a problem, at its own parameters; where they are may be asked at others."""

    def __init__(self, problem: Problem):
        """Ties of whatever operations of the problem may have them."""
        self.problem = problem

    def tilted(self, share: float, width: float) -> list[np.ndarray]:
        """The float64 gradient with one convention at each tie (within `width` of the largest entry): see Tilted."""
        with in_float64():
            return self._here(derivatives.tilted, np.float64(share), np.float64(width))

    def gaps(self, values) -> np.ndarray:
        """By how much each entry that may be at a tie lies above it."""
        with jax.enable_x64(True):
            return np.asarray(self.problem.call(derivatives.gaps, values, self.problem.given.values))

    @property
    def told(self) -> np.ndarray:
        """For each share, once there are gaps, whether all shares together say all that its tie may do."""
        return self.problem.program.notes["shares that tell all"]

    def shared(self, shares, width: float) -> list[np.ndarray]:
        """The float64 gradient with a share for each tie: see Shared."""
        return self._at_ties(derivatives.shared, width, shares)

    def shared_each(self, shares, width: float) -> list[np.ndarray]:
        """The same for each row of shares."""
        return self._at_ties(derivatives.shared_each, width, shares)

    def turned(self, shares, width: float, directions) -> list[np.ndarray]:
        """How that gradient changes along each of some directions of the shares."""
        return self._at_ties(derivatives.turned, width, shares, directions)

    def pulled(self, shares, width: float, c) -> tuple[float, np.ndarray]:
        """Re <c, that gradient> and how it changes with each share."""
        value, change = self._at_ties(derivatives.pulled, width, shares, c)
        return float(value), change

    def _at_ties(self, build, width, *arguments):
        with jax.enable_x64(True):
            return self._here(build, np.float64(width), *arguments)

    def _here(self, build, *arguments) -> list[np.ndarray]:
        found = self.problem.call(build, self.problem.params.values, self.problem.given.values, *arguments)
        return [np.asarray(x) for x in found]

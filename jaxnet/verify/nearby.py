"""Gradients next to a point: what they change by, a hair away in some direction, by a convention, or by shares of ties.

Each is taken in float64, less the gradient at the point. How far a hair is: exact ties break at the smallest distance
that float64 shows, those of the parameters' own precision a few of its roundings away.
"""

from functools import cached_property

import numpy as np

from jaxnet.verify.noise import FAIL, Noise, largest, norm
from jaxnet.verify.shares import PROBES, RADIUS, Shares
from jaxnet.verify.ties import Ties
from jaxnet.verify.tree import wide

NEAR = 2.0**-36  # of each parameter: an exact tie is broken so far away, with room for many orders among equals
FAR = 8.0  # roundings of the parameters' own precision, in which a tie may not be exact in float64
FRESH = 12  # draws after a combination is chosen: one that several ties move shows more than two values in them
DRAWS, ENTRIES = 256, 2**23  # gradients that are taken at most, and entries that are kept of them
ORDERS = 8  # directions that are tried before a weak one is taken
PAIRS = 64  # gradients that may be taken, for each pair of them that first looks for a kink
GAIN = 1e-3  # of what is missing: a new gradient has to lead so much further


class Nearby:
    """Gradients next to the point, less the one at the point; and how far they jump."""

    def __init__(self, problem, r: list[np.ndarray], g: dict[int, np.ndarray], rng: np.random.Generator):
        """Costs a pair of float64 gradients, or some if they are small: along errors g - r and against them."""
        self.problem, self.rng, self.r = problem, rng, [flat(x) for x in r]
        self.point = [wide(v) for v in problem.params.values]
        self.near, self.far = NEAR, max(FAR * max(problem.units), NEAR)
        self.curved = min(problem.units) < NEAR  # a smooth gradient changes by more than its rounding so far away
        scales = [norm(x) / np.sqrt(max(x.size, 1)) for x in self.point]
        any_scale = max(scales, default=0.0) or 1.0
        self.scales = [s or any_scale for s in scales]
        self.moves: list[list[np.ndarray]] = []
        draws = DRAWS if problem.reversible else 0  # by forward mode each takes as long as there are entries
        self.limit = max(16, min(draws, ENTRIES // max(1, sum(x.size for x in self.r))))
        self.orders = min(ORDERS, self.limit // 4)
        self.jumps, self.first = [0.0] * len(self.r), {i: [] for i in g}
        for _ in range(max(1, self.limit // PAIRS)):
            self._jump_along(g)

    def _jump_along(self, g: dict[int, np.ndarray]):
        """Looks along the errors and against them, all else at random: below other ties one side hides the next tie."""
        steps = self._steps(self._towards_errors(g), self.far)
        for times in (1, -1):
            moves = self._moves(self._at(steps, times))
            self.jumps = [max(jump, norm(move)) for jump, move in zip(self.jumps, moves, strict=True)]
            for i, seen in self.first.items():
                seen.append(moves[i])

    def _towards_errors(self, g) -> list[np.ndarray]:
        v = self._random()
        for i, x in g.items():
            error = flat(x) - self.r[i]
            v[i] = v[i] / 2 + error / (largest(error) or 1.0)
        return v

    def _random(self) -> list[np.ndarray]:
        return [self.rng.uniform(-1.0, 1.0, x.size) for x in self.r]

    def _steps(self, v: list[np.ndarray], radius: float) -> list[np.ndarray]:
        """A hair along v, whose entries are about 1 at most: in proportion to each parameter, and less at a zero."""
        steps = []
        for x, scale, along in zip(self.point, self.scales, v, strict=True):
            size = np.asarray(np.abs(x))
            size *= radius
            size += self.near * scale
            steps.append(np.asarray(size * np.conj(along.view(x.dtype).reshape(x.shape))))  # J rises along conj(g)
        return steps

    def _at(self, steps, times) -> list[np.ndarray]:
        there = [x + step if times == 1 else x + times * step for x, step in zip(self.point, steps, strict=True)]
        return self.problem.double(there)[1]

    def _look(self, v: list[np.ndarray], radius: float) -> list[np.ndarray]:
        """What the gradient changes by, a hair along v."""
        return self._changed(self._steps(v, radius), radius)

    def _towards(self, there: list[np.ndarray]) -> list[np.ndarray]:
        """The same on the way to parameters a rounding away."""
        part = self.near / max(self.problem.units)
        return self._changed([part * (y - x) for x, y in zip(self.point, there, strict=True)], self.near)

    def _changed(self, steps, radius) -> list[np.ndarray]:
        there = self._at(steps, 1)
        if self.curved and radius == self.near:
            there = [_straight(one, two) for one, two in zip(there, self._at(steps, 2), strict=True)]
        return self._moves(there)

    def _moves(self, gradient) -> list[np.ndarray]:
        return [flat(x) - r for x, r in zip(gradient, self.r, strict=True)]

    def moved(self, i: int, g: np.ndarray, noise: Noise) -> bool:
        """Whether leaf i jumps, as far as was looked, by more than the noise and by some of g's error."""
        enough = max(FAIL * noise.norm, GAIN * norm(flat(g) - self.r[i]))
        return self.jumps[i] > enough or any(norm(move[i]) > enough for move in self.moves)

    def jump(self, i: int) -> tuple[float, float]:
        """The largest jump of leaf i that was seen: its norm, and its largest entry."""
        return max([self.jumps[i], *(norm(m[i]) for m in self.moves)]), max(largest(m[i]) for m in self.moves)

    def exact_jumps(self) -> list[float]:
        """How far each leaf jumps where only exact ties break."""
        v = self._random()
        sides = [self._look([sign * x for x in v], self.near) for sign in (1, -1)]
        self.moves += sides
        return [max(map(norm, moves)) for moves in zip(*sides, strict=True)]

    def take_the_conventions(self):
        """Every tie to one side, to the other and half to each, whether or not the parameters can break it so."""
        if not self.problem.reversible:  # they are read in reverse: only the parameters can break it
            self.moves += self._sides
            return
        for share in (0.0, 0.5, 1.0):
            self.moves.append(self._moves(Ties(self.problem).tilted(share, self.far)))

    def jumping(self, leaves: list[int], noise: dict[int, Noise]) -> list[int]:
        """The leaves that a kink moves, of which twice the step shows no more; and not a steep curve."""
        if not leaves:
            return []
        v = [self._random() for _ in range(4)]
        once, twice = ([self._look(x, times * self.far) for x in v] for times in (1, 2))
        size = lambda moves, i: max(norm(m[i]) for m in moves)
        return [i for i in leaves if FAIL * noise[i].norm < size(once, i) > size(twice, i) / 1.5]

    @cached_property
    def shares(self) -> Shares:
        """The gradient as a function of each tie's share."""
        probes = []
        for _ in range(PROBES):
            steps = self._steps(self._random(), RADIUS)
            probes.append([x + step for x, step in zip(self.point, steps, strict=True)])
        return Shares(self.problem, self.far, self.point, probes, self.rng)

    @cached_property
    def _sides(self) -> list[list[np.ndarray]]:
        """A hair along one direction, and against it."""
        v = self._random()
        return [self._look([sign * x for x in v], self.far) for sign in (1, -1)]

    def _fresh(self, leaves) -> list[dict[int, np.ndarray]]:
        """Gradients that nothing has pulled at, of some leaves: of all they would fill the memory."""
        found = []
        for _ in range(FRESH):
            move = self._look(self._random(), self.far)
            found.append({i: move[i] for i in leaves})
        return found


def _straight(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The gradient at the point from those one and two steps away, unless another kink lies between them."""
    bend = two - one
    return np.asarray(one - bend) if norm(bend) < 1e-6 * norm(one) else one


def flat(x) -> np.ndarray:
    """All entries of an array as real numbers."""
    return np.ravel(np.ascontiguousarray(x)).view(np.float64)

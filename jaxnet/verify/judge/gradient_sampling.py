"""Gradients sampled beside the point: what ∇J(p') is, p' → p, and under the uniform conventions at each tie.

A point p' is drawn at random, along a direction and against it, where something pulls, or by a search that climbs. It
lies a hair away from p, where an exact tie is broken; where the parameters are so exact that a smooth gradient changes
by more than its rounding on the way, two such steps are taken and continued to p. What follows from the gradients
stands in subgradient.py.

Source: J. V. Burke, A. S. Lewis and M. L. Overton, A Robust Gradient Sampling Algorithm for Nonsmooth, Nonconvex
Optimization, SIAM J. Optim. 15 (2005).
"""

from collections.abc import Callable

import numpy as np

from jaxnet.verify.problem.trees import wide
from jaxnet.verify.sizes import largest, norm

NEAR = 2.0**-36  # of each parameter: an exact tie is broken so far away, with room for many orders among equals
FAR = 8.0  # roundings of the parameters' own precision, in which a tie may not be exact in float64
CONVENTIONS = (0.0, 0.5, 1.0)
PAIRS, FEWEST = 12, 4  # of gradients beside the point, opposite each other; of a large problem
ENTRIES = 2**23  # of all those gradients together
CLIMB, ANEW = 40, 0.25  # steps of a search for an entry's widest values; the part of a direction drawn anew in each


class Beside:
    """Float64 gradients beside the point, of the leaves in question, as rows of real numbers."""

    def __init__(self, check, r: list[np.ndarray], leaves: list[int]):
        """Costs the uniform conventions, where there is a reverse mode."""
        self.problem, self.rng, self.leaves = check.problem, check.rng("ties"), leaves
        self.point = [wide(v) for v in self.problem.params.values]
        self.far = max(FAR * max(self.problem.units), NEAR)
        self.radii = (NEAR, self.far) if self.far > NEAR else (NEAR,)
        self.curved = min(self.problem.units) < NEAR  # a smooth gradient changes by more than its rounding so far away
        size = sum(x.size for x in r)
        self.pairs = int(np.clip(ENTRIES // (2 * max(size, 1)), FEWEST, PAIRS))
        scales = [norm(x) / np.sqrt(max(x.size, 1)) for x in self.point]
        self.scales = [s or max(scales, default=0.0) or 1.0 for s in scales]
        self.conventions = []
        if self.problem.reversible:
            self.conventions = [self._kept(self.problem.tilted(share, self.far)) for share in CONVENTIONS]
        self.limits: list[list[np.ndarray]] = []
        self.bends = [np.zeros(x.shape) for x in r]
        self.r = r

    def seen(self, k: int) -> np.ndarray:
        """All gradients of the k-th leaf in question, a row each; the one at the point is the last."""
        return np.stack([x[k] for x in (*self.conventions, *self.limits)] + [self.r[k]])

    def look_along(self, errors: list[np.ndarray]):
        """Take the gradient along the errors and against them, all else at random."""
        v = self._random()
        for i, e in zip(self.leaves, errors, strict=True):
            v[i] = v[i] / 4 + np.where(np.isfinite(e), e, 0.0) / (largest(e[np.isfinite(e)]) or 1.0)
        self._both_sides(v, NEAR)

    def look_around(self, radius: float):
        """Take it at random places."""
        for _ in range(self.pairs):
            self._both_sides(self._random(), radius)

    def pulled(self, c: dict[int, np.ndarray], others: float, radius: float = NEAR) -> list[list[np.ndarray]]:
        """The gradients along c and against it, and other leaves at random, a little: their ties fall somewhere.

        Where the loss bends down, as a maximum with a negative weight, the largest gradients lie the other way.
        """
        v = [x * 10.0 ** -self.rng.uniform(0, 3) * (others if i in c else 1.0) for i, x in enumerate(self._random())]
        for i, x in c.items():
            bend = np.where(self.bends[self.leaves.index(i)] < 0, -1.0, 1.0)
            v[i] = v[i] + bend * x / (largest(x) or 1.0)
        return self._both_sides(v, radius)

    def climb(self, value: Callable[[list[np.ndarray]], float], until: float, start: dict[int, int]) -> list:
        """A gradient of large value: of the best direction a part is drawn anew each time, until there is enough.

        Layers of ties multiply, and few of their combinations are seen at random. The entries in start, {leaf: entry},
        move as far as any at first.
        """
        best = self._random_scales()
        for i, at in start.items():
            best[i][at] = 1.0
        most, reached = -np.inf, self.r
        for _ in range(CLIMB):
            drawn = self._random_scales()
            v = [np.where(self.rng.uniform(size=x.shape) < ANEW, y, x) for x, y in zip(best, drawn, strict=True)]
            for side, there in zip((1.0, -1.0), self._both_sides(v, NEAR), strict=True):
                if value(there) >= most:
                    best, most, reached = [side * x for x in v], value(there), there
            if most >= until:
                break
        return reached

    def _random_scales(self) -> list[np.ndarray]:
        """A direction in which some entries are far smaller than others, as ties above others need it."""
        return [x * 10.0 ** -self.rng.uniform(0, 3, x.shape) for x in self._random()]

    def _both_sides(self, v, radius) -> list[list[np.ndarray]]:
        """The gradients along v and against it; their difference tells how the loss bends there, as Hutchinson's
        estimate of the diagonal of a second derivative does."""
        ahead, back = both = [self._at(v, sign, radius) for sign in (1.0, -1.0)]
        for k, i in enumerate(self.leaves):
            change = v[i] * (ahead[k] - back[k])
            self.bends[k] += np.where(np.isfinite(change), change, 0.0)
        self.limits += both
        return both

    def _at(self, v, sign, radius) -> list[np.ndarray]:
        """The gradient a hair along v, whose entries are about 1 at most: in proportion to each parameter."""
        steps = [
            sign * np.conj(along.view(x.dtype).reshape(x.shape)) * (radius * np.abs(x) + min(radius, NEAR) * scale)
            for x, scale, along in zip(self.point, self.scales, v, strict=True)
        ]
        one = self._gradient(steps, 1.0)
        if not (self.curved and radius == NEAR):
            return one
        return [_straight(a, b) for a, b in zip(one, self._gradient(steps, 2.0), strict=True)]

    def _gradient(self, steps, times) -> list[np.ndarray]:
        there = [x + times * step for x, step in zip(self.point, steps, strict=True)]
        return self._kept(self.problem.double(there)[1])

    def _kept(self, gradient) -> list[np.ndarray]:
        return [flat(gradient[i]) for i in self.leaves]

    def _random(self) -> list[np.ndarray]:
        return [self.rng.uniform(-1.0, 1.0, flat(x).size) for x in self.point]


def _straight(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The gradient at the point from those one and two steps away, unless another kink lies between them."""
    bend = two - one
    return one - bend if norm(bend) < 1e-6 * norm(one) else one


def flat(x) -> np.ndarray:
    """All entries of an array as real numbers."""
    return np.ravel(np.ascontiguousarray(x)).view(np.float64)

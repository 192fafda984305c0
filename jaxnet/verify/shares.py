"""The gradient as a function of the share that each tie gives to its one side: all that the chain rule may make of it.

    G(s),  s in [0, 1]^T        G(0) ... G(1) are the conventions, G(s) is linear in each share by itself

A layer of ties makes G linear in all of them, and whether g is one of its values is a least-squares problem in a box:
solved exactly, with a plane between g and all values if there is none. Layers upon layers multiply; there shares are
looked for, and finding none proves nothing. But all values lie in the hull of the corners G(s), s in {0, 1}^T: what is
outside of it is wrong, if the ties are few.

Ties that are one function of the parameters are one tie, as they fall to one side together: padded examples are at the
kink of their unit's bias, and softplus written with max(x, 0) and |x| has no kink.
"""

import itertools

import numpy as np
from scipy.optimize import lsq_linear

from jaxnet.verify.noise import largest, norm
from jaxnet.verify.ties import Ties

ENTRIES = 2**23  # of a matrix with a row for each tie
PROBES, RADIUS = 6, 2.0**-20  # points that tell one function of the parameters from another
DIGITS = 5  # to which two of them are in proportion
STEPS, LENGTHS = 16, (1.0, 0.5, 0.2, 0.05)  # of Gauss and Newton, and the parts of one that are tried
CONVENTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)  # to begin with
CORNERS = 12  # ties of which every way to break them is tried: 2 to this power
CLIMBS = 6  # times that all shares are set to what pulls most


class Shares:
    """The shares of the ties that move the gradient."""

    def __init__(self, problem, width: float, point, probes, rng: np.random.Generator):
        """Costs the float64 values at the point and at some probes beside it, and one derivative of a gradient."""
        self.at_ties, self.width, self.rng = Ties(problem), width, rng
        here = self.at_ties.gaps(point)
        moves = np.stack([self.at_ties.gaps(x) - here for x in probes], axis=1)
        self.fixed = np.full(len(here), -1.0)
        alive = np.flatnonzero(np.any(moves != 0, axis=1))
        self.ties = np.zeros(0, int)
        if not alive.size or not problem.reversible:
            return
        some = self.fixed.copy()
        some[alive] = rng.uniform(0.1, 0.9, len(alive))  # one half of |x| is flat, and hides all ties below
        c = [rng.normal(size=np.shape(v)) for v in problem.params.values]
        pull = np.abs(self.at_ties.pulled(some, width, c)[1])
        self.ties = alive[pull[alive] > 1e-12 * largest(pull[alive])]
        self.joined, self.sign = _joined(moves[self.ties])

    @property
    def count(self) -> int:
        """How many shares there are to choose."""
        return int(self.joined.max()) + 1 if self.ties.size else 0

    def _everywhere(self, s: np.ndarray) -> np.ndarray:
        """The share of every entry; an operation that has its tie the other way round has what is left of it."""
        shares = self.fixed.copy()
        shares[self.ties] = np.where(self.sign > 0, s[self.joined], 1.0 - s[self.joined])
        return shares

    def gradient(self, s: np.ndarray) -> list[np.ndarray]:
        """G(s)."""
        return self.at_ties.shared(self._everywhere(s), self.width)

    def turn(self, s: np.ndarray) -> list[np.ndarray]:
        """∂G/∂s, a row for each share."""
        directions = np.zeros((self.count, self.fixed.size))
        directions[self.joined, self.ties] = self.sign
        return self.at_ties.turned(self._everywhere(s), self.width, directions)

    def furthest(self, c: list[np.ndarray], start: np.ndarray) -> float:
        """The largest Re <c, G> on a way uphill: of all there are, if G is linear."""
        best, s = -np.inf, start
        for _ in range(CLIMBS):
            value, change = self.at_ties.pulled(self._everywhere(s), self.width, c)
            if value <= best:
                break
            best, s = value, (np.bincount(self.joined, self.sign * change[self.ties], self.count) > 0) * 1.0
        return best

    @property
    def told(self) -> bool:
        """Whether each tie that moves the gradient has shares that say all it may do."""
        return self.count > 0 and bool(self.at_ties.told[self.ties].all())

    @property
    def opposite(self) -> bool:
        """Whether two operations have one tie the other way round: a convention for both is no share of it."""
        return any(len({*self.sign[self.joined == k]}) > 1 for k in range(self.count))

    def corners(self) -> list[np.ndarray] | None:
        """G wherever each tie falls to one side, a row for each way to; None if there are too many."""
        if self.count > CORNERS:
            return None
        ways = itertools.product((0.0, 1.0), repeat=self.count)
        return self.at_ties.shared_each(np.stack([self._everywhere(np.array(s)) for s in ways]), self.width)

    def unmoved(self, i: int) -> np.ndarray:
        """Which entries of leaf i no share moves."""
        turns = [self.turn(self.rng.uniform(size=self.count))[i].reshape(self.count, -1) for _ in range(2)]
        size = np.max(np.abs(np.concatenate(turns).view(np.float64)), axis=0)
        return size <= 1e-9 * norm(self.gradient(np.full(self.count, 0.5))[i])

    def few(self, entries: int) -> bool:
        """Whether there are ties, few enough to be taken one by one for so many entries of the gradient."""
        return self.count > 0 and self.count * max(entries, self.fixed.size) <= ENTRIES


def nearest(at, g: np.ndarray, count: int, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """The shares s whose G(s) is nearest to g, G and ∂G/∂s there, and whether G is linear; at(s) gives the two.

    Gauss and Newton's steps in the box, from the best of the conventions; the nearest of all if G is linear.
    """
    far = lambda there: norm(g - there[0])
    s = np.full(count, 0.5)
    here = at(s)
    linear = largest(at(rng.uniform(0.1, 0.9, count))[1] - here[1]) <= 1e-9 * largest(here[1])
    if not linear:
        starts = [np.full(count, share) for share in CONVENTIONS]
        s, here = min(((s, at(s)) for s in starts), key=lambda start: far(start[1]))
    for _ in range(STEPS):
        step = lsq_linear(here[1].T, g - here[0], (-s, 1.0 - s), method="bvls", tol=1e-15).x
        for length in (1.0,) if linear else LENGTHS:
            candidate = np.clip(s + length * step, 0.0, 1.0)
            there = at(candidate)
            if far(there) < 0.99 * far(here):
                s, here = candidate, there
                break
        else:
            break
    return s, *here, linear


def _joined(moves) -> tuple[np.ndarray, np.ndarray]:
    """The number of each tie, the same for those whose gaps move in proportion at all probes, and its sign."""
    lengths = np.sqrt(np.einsum("ij,ij->i", moves, moves))
    sign = np.where(moves[:, 0] < 0, -1.0, 1.0)
    ways = np.round(moves * (sign / lengths)[:, None], DIGITS) + 0.0
    return np.unique(ways, axis=0, return_inverse=True)[1].ravel(), sign

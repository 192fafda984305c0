"""Kinks: where one-sided derivatives differ, a gradient is right if it is a mixture of gradients next to the point.

relu at 0, |x| at 0, the maximum of equal numbers: autodiff takes one convention, a formula by hand another, and both
are right. What all of them may be is Clarke's subdifferential at p,

    ∂J(p) = convex hull of lim ∇J(p'), p' → p        and the uniform conventions (relu'(0) = 0 or 1, first or last)

so the float64 gradient is taken a rounding away from p, whatever operation holds the tie: ties that are one function of
the parameters then fall to one side together, and what the parameters don't move stays as it is. Beside these mixtures
stands what the chain rule makes of a share for each tie (shares.py), which no step away from p may show.

    PASS           g is a mixture of such gradients, to within the noise, found where g pulls (Frank and Wolfe);
                   or some shares of the ties give it
    FAIL           a combination <c, g> that the ties move by one step at most, or not at all, is beyond its values;
                   or a plane lies between g and all that shares give;
                   or an entry whose ties cancel, as in relu(x) - relu(-x), is neither its derivative nor autodiff's
    INCONCLUSIVE   neither was found

Source: F. H. Clarke, Optimization and Nonsmooth Analysis (1983), theorem 2.5.1.
"""

import numpy as np

from jaxnet.verify.hull import nearest_to_origin
from jaxnet.verify.nearby import DRAWS, GAIN, Nearby, flat
from jaxnet.verify.noise import FAIL, Noise, largest, norm
from jaxnet.verify.shares import nearest

DWARFED = 16.0  # times what ties do to a leaf: an error so large is none of theirs


class Subgradients(Nearby):
    """Whether a gradient is one of those at a kink: what is left of its error by them, or why it is none."""

    def out_of_reach(self, errors: dict[int, tuple[np.ndarray, Noise]]) -> list[int]:
        """Of a large problem the leaves whose errors dwarf whatever ties do to them, seen in a few gradients.

        errors   of each leaf the gradient under test, and its noise

        No exact tie moves such a leaf; of those a rounding away an error holds what both sides of a first look show of
        them, and something that sticks out, along which other gradients are all but still. (Of a small problem
        everything can be looked at.)
        """
        if self.limit == DRAWS or not self.problem.reversible:
            return []
        still, beyond = [i for i, (g, noise) in errors.items() if not self.moved(i, g, noise)], {}
        for i in errors.keys() - still:
            g, noise = errors[i]
            error = flat(g) - self.r[i]
            c = _less_than(error, self.first.pop(i))
            if norm(c) > max(0.5 * norm(error), FAIL * noise.norm):
                beyond[i] = c
        for radius, size in (
            (self.far, lambda move, c: abs(c @ move) / norm(c)),
            (self.near, lambda move, c: norm(move)),
        ):
            v = self._random() if beyond else []
            for sign in (1, -1) if beyond else ():
                move = self._look([sign * x for x in v], radius)
                beyond = {i: c for i, c in beyond.items() if norm(c) > DWARFED * size(move[i], c)}
        return [*still, *beyond]

    def remainder(self, g: dict[int, np.ndarray], noise: dict[int, Noise]) -> dict[int, np.ndarray]:
        """What is left of some leaves' errors by the nearest mixture that can be found, one mixture for all of them."""
        errors = {i: flat(x) - self.r[i] for i, x in g.items()}
        limit = (len(self.moves) + self.limit) // 2  # the rest is for whatever comes next
        return self._least(errors, noise, limit, dict.fromkeys((self.near, self.far)))

    def _least(self, errors, noise, limit, radii) -> dict[int, np.ndarray]:
        while True:
            left = self._left(errors, noise)
            if all(within(left[i], noise[i]) for i in left):
                return left
            if not self._look_further(errors, left, noise, limit, radii):
                return left

    def without_steps(self, there, a: dict[int, np.ndarray], noise: dict[int, Noise]) -> dict[int, np.ndarray]:
        """What no exact tie explains of the change to gradients `a`, taken at parameters a rounding away."""
        kept, errors = self.moves, {i: flat(x) - self.r[i] for i, x in a.items()}
        self.moves = [*kept, self._towards(there)]
        left = self._least(errors, noise, len(self.moves) + self.limit // 2, [self.near])
        if not all(within(left[i], noise[i]) for i in left) and self.shares.few(sum(map(len, errors.values()))):
            shares = self._nearest_shares(a, self._scaled_by(noise))[0]
            self.moves.append(self._moves(self.shares.gradient(shares)))
            left = self._left(errors, noise)
        self.moves = kept
        return left

    def _left(self, errors, noise) -> dict[int, np.ndarray]:
        """The errors less the nearest mixture of the moves at hand."""
        moves = [*self.moves, [np.zeros_like(r) for r in self.r]]
        columns = [np.concatenate([(m[i] - e) / (noise[i].norm or 1.0) for i, e in errors.items()]) for m in moves]
        w = nearest_to_origin(np.stack(columns, axis=1))
        return {i: e - sum(a * m[i] for a, m in zip(w, moves, strict=True) if a) for i, e in errors.items()}

    def _look_further(self, errors, left, noise, limit, radii) -> bool:
        """Gradients that go further than the mixture does, in the direction of what is missing; whether there are any.

        Along c lies the largest <c, ∇J> if J is convex there, along −c if it is concave. A tie that enters J with
        weight δ and moves by <a, v> changes ∇J(c) − ∇J(−c) by |δ| sign(δ <a, c>) a: there lie both kinds.
        """
        c = {i: x / (noise[i].norm or 1.0) ** 2 for i, x in left.items()}
        here = sum(x @ (errors[i] - left[i]) for i, x in c.items())
        missing = sum(x @ left[i] for i, x in c.items())
        gain = lambda move: (sum(x @ move[i] for i, x in c.items()) - here) / missing
        along = _level([c.get(i, np.zeros_like(r)) for i, r in enumerate(self.r)])
        best = 0.0  # 1 is as far as g itself
        for radius in radii:
            if len(self.moves) + 2 + self.orders > limit:
                break
            ahead, behind = (self._look([sign * x for x in along], radius) for sign in (1, -1))
            self.moves += ahead, behind
            best = max(best, gain(ahead), gain(behind))
            both = _level([a - b for a, b in zip(ahead, behind, strict=True)])
            for order in range(self.orders):
                # Which ties of a layer matter depends on other layers: let one leaf decide, then another. And which
                # of several equals comes second or third depends on more than what is missing: try other orders.
                scales = 10.0 ** -self.rng.uniform(0, 3 * (order > 0), len(both))
                chance = self.rng.uniform() * (order > 1)
                parts = zip(scales, both, self._random(), strict=True)
                self.moves.append(self._look([s * x + chance * s * z for s, x, z in parts], radius))
                best = max(best, gain(self.moves[-1]))
                if best >= 1.0:
                    return True
        return bool(best > GAIN)

    def _scaled_by(self, noise: dict[int, Noise]):
        """Leaves as one vector, each in units of its noise."""
        return lambda parts: np.concatenate([flat(parts[i]) / (x.norm or 1.0) for i, x in noise.items()])

    def _nearest_shares(self, g: dict[int, np.ndarray], scaled) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """The shares that give most of these leaves: see `nearest`."""

        def at(s):
            turn = self.shares.turn(s)
            return scaled(self.shares.gradient(s)), np.stack([scaled([x[k] for x in turn]) for k in range(len(s))])

        return nearest(at, scaled(g), self.shares.count, self.rng)

    def shared_out(self, g: dict[int, np.ndarray], noise: dict[int, Noise]) -> bool | None:
        """Whether some shares of the ties give these leaves; None if that remains open."""
        if not self.shares.few(sum(x.size for x in g.values())):
            return None
        scale = {i: noise[i].norm or 1.0 for i in g}
        scaled = self._scaled_by({i: noise[i] for i in g})
        target, r = scaled(g), scaled(self.r)
        s, here, turn, linear = self._nearest_shares(g, scaled)
        left, cuts = target - here, np.cumsum([flat(x).size for x in g.values()])[:-1]

        def reached(left):
            return all(within(x * scale[i], noise[i]) for i, x in zip(g, np.split(left, cuts), strict=True))

        if reached(left):
            return True
        # A plane between g and all the values that the shares give, and all others that were seen.
        others = [r + scaled(m) for m in [*self.moves, *self._fresh(g)]]
        if linear:
            pull = turn @ left
            ahead = np.sum(np.where(pull > 0, (1.0 - s) * pull, -s * pull))
        else:
            # Linear in each share, all that they give lies in the hull of its corners.
            corners = self.shares.corners() if self.shares.told and not self.shares.opposite else None
            if corners is None:
                return None
            others += [scaled([x[k] for x in corners]) for k in range(len(corners[0]))]
            w = nearest_to_origin(np.stack([x - target for x in others], axis=1))
            here = sum(a * x for a, x in zip(w, others, strict=True) if a)
            left, ahead = target - here, 0.0
            if reached(left):
                return None
        gap = left @ left - ahead
        beyond = norm(left) > 1e-9 * largest(turn) and gap > 0.5 * (left @ left)
        return False if beyond and max(left @ (x - here) - ahead for x in others) < 0.5 * gap else None

    def smooth(self, i: int, g: np.ndarray, noise: Noise) -> str | None:
        """Why leaf i is wrong where ties cancel, in words: an entry is not its derivative, nor autodiff's; or None."""
        error, (ahead, behind) = flat(g) - self.r[i], (side[i] for side in self._sides)
        alike = np.abs(ahead - behind) <= FAIL * noise.entry
        off = np.where(alike, np.minimum(np.abs(error), np.abs(error - ahead)), 0.0)
        if largest(off) <= FAIL * noise.entry or not self.shares.told or not self.shares.few(sum(map(len, self.r))):
            return None
        off[~self.shares.unmoved(i)] = 0.0  # two sides may be alike by chance
        at = int(np.argmax(off))
        if off[at] <= FAIL * noise.entry:
            return None
        manual, true = self.r[i][at] + error[at], self.r[i][at] + ahead[at]
        return f"at ties that cancel, where there is no kink: an entry is {manual:.4g}, its derivative {true:.4g}"

    def refute(self, i: int, g: np.ndarray, left: np.ndarray, noise: Noise, least: Noise) -> str | None:
        """Why no mixture can be g, in words: a combination of its entries that lies beyond its values; or None.

        One tie gives a combination two values, which are both drawn. Where several ties add up to more, it has to lie
        as far out as all that is known is wide. A combination that no tie moves has no noise from one: the `least`.
        """
        error, fresh = flat(g) - self.r[i], [m[i] for m in self._fresh([i])]
        seen = [m[i] for m in self.moves] + fresh
        low, high = np.minimum.reduce(seen), np.maximum.reduce(seen)
        excess = np.maximum(error - high, low - error)
        for j in dict.fromkeys((int(np.argmax(excess)), int(np.argmax(excess - (high - low))))):
            if excess[j] <= FAIL * noise.entry:
                continue
            unit = np.zeros_like(error)
            unit[j] = 1.0
            ends = self._beyond(i, unit, error, seen, fresh, FAIL * noise.entry)
            if ends:
                low, high = (self.r[i][j] + x for x in ends)
                return (
                    f"at a kink, and beyond it: an entry is {self.r[i][j] + error[j]:.4g} where the one-sided "
                    f"derivatives are {low:.4g} and {high:.4g}"
                )
        if norm(left) and self._beyond(i, left / norm(left), error, seen, fresh, FAIL * noise.norm):
            return "at a kink: each entry may lie between its one-sided derivatives, but no ties give all at once"
        span = np.stack(seen, axis=1)
        c = error - span @ np.linalg.lstsq(span, error, rcond=1e-6)[0]
        if norm(c) > FAIL * least.norm:
            c, newest = c / norm(c), [m[i] for m in self._fresh([i])]
            close = FAIL * max(least.norm, *(abs(c @ m) for m in newest))
            if self._beyond(i, c, error, newest, newest, close):
                return "at a kink, but off in a combination of entries that no tie moves"
        return None

    def _beyond(self, i, c, error, seen, fresh, close) -> tuple[float, float] | None:
        """The values of <c, move> if <c, error> is beyond them: two values, or beyond by more than they differ."""
        value, drawn, fresh = c @ error, [c @ m for m in seen], np.array([c @ m for m in fresh])
        if self.shares.count:
            along = [np.zeros_like(x) for x in self.point]
            along[i] = c.view(self.point[i].dtype).reshape(self.point[i].shape)
            here = c @ self.r[i]
            for sign in (1.0, -1.0):
                for start in (np.full(self.shares.count, 0.5), self.rng.uniform(size=self.shares.count)):
                    drawn.append(sign * self.shares.furthest([np.asarray(sign * x) for x in along], start) - here)
        low, high = min(drawn), max(drawn)
        gap = max(value - high, low - value)
        steps = np.minimum(fresh - fresh.min(), fresh.max() - fresh)
        return (low, high) if gap > close and (steps.max() <= close or gap > high - low + close) else None

    def interval(self, i: int, at: int) -> tuple[float, float]:
        """The smallest and the largest value of one entry that was seen."""
        seen = [0.0, *(m[i][at] for m in self.moves)]
        return float(self.r[i][at] + min(seen)), float(self.r[i][at] + max(seen))


def _less_than(error: np.ndarray, moves: list[np.ndarray]) -> np.ndarray:
    """What is left of an error by any combination of some moves."""
    for k, move in enumerate(moves):
        for other in moves[:k]:
            move = move - (other @ move) * other
        size = norm(move)
        moves[k] = move / size if size else move
        error = error - (moves[k] @ error) * moves[k]
    return error


def _level(v: list[np.ndarray]) -> list[np.ndarray]:
    """A direction with the largest entry of each leaf made 1."""
    return [x / (largest(x) or 1.0) for x in v]


def within(left: np.ndarray, noise: Noise) -> bool:
    """Whether what is left is noise."""
    return norm(left) <= FAIL * noise.norm and largest(left) <= FAIL * noise.entry

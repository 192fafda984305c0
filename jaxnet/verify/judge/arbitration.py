"""Where manual gradient and autodiff differ, or autodiff is not finite: finite differences are asked who is right."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxnet.verify.errors import note as noted
from jaxnet.verify.evidence import differences
from jaxnet.verify.evidence.noise import FAIL, WARN
from jaxnet.verify.journal import first_line
from jaxnet.verify.judge.by_values import judged_by_differences, lies_between
from jaxnet.verify.judge.cause import Cause, Kind
from jaxnet.verify.judge.reasons import Note, Reason, note
from jaxnet.verify.judge.verdict import DOUBLE_WHERE, LeafJudgement, places
from jaxnet.verify.problem.loss import direction, inner_product
from jaxnet.verify.problem.trees import called, wide
from jaxnet.verify.sizes import largest, norm

COORDINATES = 32  # not finite for autodiff, of which each is asked about by itself
DISPUTED = 8  # leaves that are asked about one by one


def arbitrated(check, leaves: tuple[LeafJudgement, ...]) -> tuple[LeafJudgement, ...]:
    """The judgements after finite differences were asked: in place of autodiff where they refute it."""
    doubtful = {i: f for i, f in enumerate(leaves) if f.comparable and f.autodiff and not f.frozen}
    silent = {i: f for i, f in doubtful.items() if f.known is not None and not f.wrong}
    disputed = {i: f for i, f in doubtful.items() if f.wrong and f.known is None and np.isfinite(f.g).all()}
    disputed = {i: f for i, f in disputed.items() if f.again is None}  # of two answers neither is the one to ask about
    dead = {i: f for i, f in doubtful.items() if isinstance(f.note, Note) and f.note.reason is Reason.DEAD}
    if not silent and not disputed and not dead:
        return leaves
    judged, refuted = dict(enumerate(leaves)), []
    with check.journal.stated("4 finite differences") as says:
        try:
            judge = Arbiter.of(check)
            judged |= {i: judge.in_place_of_autodiff(i, f) for i, f in silent.items()}
            said = [f"asked in place of autodiff on {len(silent)} leaves"] if silent else []
            for which, asked, ask in (
                ("along the errors themselves", disputed, judge.along_the_errors),
                ("where autodiff is 0", dead, judge.where_it_is_zero),
            ):
                if asked:
                    found = ask(asked)
                    refuted += found
                    said.append(f"{which}: autodiff refuted on {len(found)} of {len(asked)} leaves")
            says("; ".join(said))
        except Exception as error:  # a host function that fails away from the point
            noted(check.journal, error, "finite differences")
            check.journal.notes.append(f"finite differences could not be asked: {first_line(error)}")
            says(f"cannot: {first_line(error)}")
    if not refuted:
        return tuple(judged[i] for i in range(len(leaves)))
    where = ", ".join(called(leaves[i].path) for i in refuted)
    check.journal.notes.append(f"autodiff of the loss is wrong on {where}: finite differences judge in its place")
    return judged_by_differences(check, tuple(f.unknown() if i in refuted else f for i, f in judged.items()))


class Arbiter(NamedTuple):
    """Slopes of the loss at the point of a check."""

    check: Any
    x: list[np.ndarray]
    level: float
    rng: np.random.Generator

    @classmethod
    def of(cls, check) -> "Arbiter":
        """Costs a value of the loss."""
        x = [wide(v) for v in check.problem.params.values]
        return cls(check, x, check.problem.level, check.rng("arbitration"))

    def slope(self, v: dict[int, np.ndarray], enough: float = 0.0, edge: bool = False) -> differences.Slope | None:
        """The derivative along a direction, given by leaf; at an edge of the domain that into it."""
        return differences.slope(self.check.problem.value, self.x, v, self.level, enough=enough, edge=edge)

    def slope_within(self, i: int, v: np.ndarray) -> differences.Slope | None:
        """The derivative along a direction of a leaf; at an edge of the domain that of an entry into it."""
        found = self.slope({i: v})
        if found is None and np.count_nonzero(v) == 1:
            return self.slope({i: v}, edge=True)
        return found

    # ---- where autodiff is not finite ------------------------------------------------------------------------------
    def in_place_of_autodiff(self, i: int, f: LeafJudgement) -> LeafJudgement:
        """The entries at which autodiff is not finite against one-sided slopes; the others are judged as always."""
        where, g = places(f), f.g
        at = np.zeros(f.shape, bool) if f.known is None else ~f.known
        slopes = [(v, found) for v in self._directions(i, g, at) if (found := self.slope_within(i, v)) is not None]
        if not slopes:
            return f
        kinked, told = False, ~at
        for v, found in slopes:
            agrees = self._agrees(i, f, v, found)
            if agrees is False:
                return _refuted(f, where, v, found)
            if agrees:
                kinked, told = kinked or found.kinked, told | (v != 0)
        wrong = at & ~told & (np.isnan(g) | ~_without_slope(slopes, at))
        if not np.isfinite(g[wrong]).all():
            cause = Cause(
                Kind.NAN_WHERE_FINITE, (f" at {called(f.path)}{_place(np.argwhere(wrong & ~np.isfinite(g))[0])}",)
            )
            return f.failed(score=float("inf"), cause=cause)
        if not told.all():
            place = _place(np.argwhere(~told)[0]) or "this point"
            return f.undecided(note(Reason.NOT_FINITE_STEEP, where=where, at=place, remedy=DOUBLE_WHERE))
        reason = Reason.NOT_FINITE_KINK if kinked else Reason.NOT_FINITE_RIGHT
        return f.passed(note(reason, where=where))

    def _agrees(self, i: int, f: LeafJudgement, v: np.ndarray, found: differences.Slope) -> bool | None:
        """Whether the manual gradient agrees with a slope; None where the slope tells nothing of it."""
        g, alone = f.g, np.count_nonzero(v) == 1
        if found.tells_nothing or (found.steep and not alone):
            return None  # beside an infinite slope, that of another entry does not show
        if not np.isfinite(g[v != 0]).all():
            return (alone and _as_steep(g, v, found)) or None
        error = found.one_sided_error if found.kinked else found.error
        claimed, rounding = inner_product(g, v), f.unit * float(np.sum(np.abs(g * v)))
        far = abs(claimed - found.central) > WARN * (error + rounding)
        lost = self._lost_as_written(i, v, found) if far else 0.0
        return lies_between(found, claimed, FAIL * (error + rounding + lost * norm(v)))

    def _directions(self, i: int, g: np.ndarray, at: np.ndarray):
        """Directions within some entries: each by itself, if they are few; the gradient's own; and at random."""
        size = float(np.sqrt(np.mean(np.abs(self.x[i]) ** 2))) or 1.0
        places = np.argwhere(at)
        for place in places[:COORDINATES]:
            e = np.zeros_like(self.x[i])
            e[tuple(place)] = size
            yield e
        own = np.where(at & np.isfinite(g), np.conj(g), 0.0)
        if own.any():
            yield as_large_as(self.x[i], own)
        for _ in range(self.check.directions):
            yield as_large_as(self.x[i], np.where(at, direction(self.rng, self.x[i]), 0.0))

    def _lost_as_written(self, i, v, found) -> float:
        """What a formula that agrees with the difference in float64 loses as it is written; 0 of any other."""
        formula = self.check.candidate.formula
        exact = formula.here
        if exact is None or not lies_between(found, inner_product(exact[i], v), FAIL * found.error):
            return 0.0
        lost = formula.rounding.leaves[i][0]
        return lost if np.isfinite(lost) else 0.0

    # ---- where autodiff is finite ----------------------------------------------------------------------------------
    def along_the_errors(self, disputed: dict[int, LeafJudgement]) -> list[int]:
        """The leaves on which differences refute autodiff, asked along its very difference from the gradient."""
        along = {i: as_large_as(self.x[i], np.conj(f.g - f.r)) for i, f in disputed.items()}

        def refuted(leaves) -> bool | None:
            """None where they tell nothing."""
            v = {i: along[i] for i in leaves}
            manual = sum(inner_product(disputed[i].g, v[i]) for i in leaves)
            auto = sum(inner_product(disputed[i].r, v[i]) for i in leaves)
            gap = 0.1 * abs(manual - auto)  # each leaf's share of it is positive: nothing cancels
            found = self.slope(v, enough=0.1 * gap)
            if found is None:
                return None
            if abs(auto - found.central) <= gap:
                return False
            unclear = found.kinked or found.tells_nothing or found.error > gap
            if abs(manual - found.central) > gap:  # it refutes both
                unclear = unclear or FAIL * found.error > gap
            return None if unclear else True

        if len(disputed) > 1 and refuted(disputed) is False:
            return []
        return [i for i in [*disputed][:DISPUTED] if refuted([i])]

    def where_it_is_zero(self, dead: dict[int, LeafJudgement]) -> list[int]:
        """The leaves on which autodiff is 0 and the loss has a slope."""
        along = {i: as_large_as(self.x[i], direction(self.rng, self.x[i])) for i in dead}

        def moves(leaves) -> bool:
            found = self.slope({i: along[i] for i in leaves})
            if found is None or found.kinked or found.tells_nothing:
                return False
            return abs(found.central) > FAIL * found.error

        return [i for i in [*dead][:DISPUTED] if moves([i])] if moves(dead) else []


def _as_steep(g: np.ndarray, v: np.ndarray, found: differences.Slope) -> bool:
    """Whether an infinite entry is the slope of a side."""
    return any(math.isinf(side) and side == inner_product(g[v != 0], v[v != 0]) for side in found.sides)


def _without_slope(slopes, at: np.ndarray) -> np.ndarray:
    """The entries of which no slope is known, alone: there an infinite gradient is neither right nor wrong."""
    unknown = np.array(at)
    for v, found in slopes:
        if np.count_nonzero(v) == 1 and not found.tells_nothing:
            unknown &= v == 0
    return unknown


def _refuted(f: LeafJudgement, where: str, v: np.ndarray, found: differences.Slope) -> LeafJudgement:
    """A leaf refused along a direction, of one entry if differences were asked about it by itself."""
    entries, score = np.argwhere(v), max(f.score, 2 * FAIL)
    if len(entries) > 1 or np.iscomplexobj(v):
        return f.failed(note(Reason.NOT_FINITE_WRONG, where=where), score=score)
    at = tuple(map(int, entries[0]))
    sides = sorted(side / v[at] for side in (found.sides if found.kinked else (found.central,)))
    slopes = f"slope is {sides[0]:.4g}" if len(sides) == 1 else "slopes are {:.4g} and {:.4g}".format(*sides)
    said = note(Reason.NOT_FINITE_ENTRY, where=where, at=_place(at), manual=f.g[at], slopes=slopes)
    return f.failed(said, score=score, worst=at)


def _place(at) -> str:
    """An entry of a leaf, as the report writes it; nothing of a scalar."""
    return "[" + ",".join(map(str, at)) + "]" if len(at) else ""


def as_large_as(x, v):
    """The direction v with its largest entry as large as x is on average; a real leaf moves along real numbers."""
    v = v if np.iscomplexobj(x) else np.real(v)
    return np.asarray(v / max(largest(v), 1e-300) * (float(np.sqrt(np.mean(np.abs(x) ** 2))) or 1.0))

"""What a correct formula loses by the way it is written.

`A - Y` is exact mathematics and cancels in float32 when A is nearly Y: the hand-written gradient is then off by one
rounding of A, far above what autodiff of a stable loss loses. So a leaf that scores too high is read again with every
operation rounded once more at random; and it is excused only when its formula, in float64, is right.

Of a float64 leaf nothing more exact is known. There the formula is excused by its rounding alone, if that grows as the
unit does: coarser roundings are drawn, which stand out above float64's own, and scaled down. A step over a kink does
not grow, and is none.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxnet.verify.errors import note
from jaxnet.verify.problem.loss import Problem
from jaxnet.verify.problem.trees import wide
from jaxnet.verify.program.cache import Program, program_of
from jaxnet.verify.program.jaxprs import ClosedJaxpr
from jaxnet.verify.program.rules import opaque_operations
from jaxnet.verify.program.transforms import as_rounded, as_written
from jaxnet.verify.sizes import largest, norm

DRAWS = 3
SHOWN = 2.0**-41  # the least unit whose roundings stand out above those of float64
COARSER = 16.0  # times that unit: rounding grows by as much
LINEAR = 4.0  # times more or less than it should grow: it is no rounding


@dataclass(frozen=True)
class Rounding:
    """What a formula loses by the way it is written.

    leaves  norm and largest entry of the rounding of each leaf; infinite where it is none
    places  of its subtractions, as "file.py:12"
    kept    what each of them keeps of its operands
    """

    leaves: tuple[tuple[float, float], ...]
    places: tuple[str, ...] = ()
    kept: tuple[float, ...] = ()

    def where(self) -> str | None:
        """The subtraction that loses most."""
        if not self.kept or min(self.kept) > 1e-2:
            return None
        return self.places[int(np.argmin(self.kept))] or None


@dataclass(frozen=True, eq=False)
class Formula:
    """The gradient under test as a formula: what it gives in float64, and what it loses by the way it is written."""

    problem: Problem
    trace: ClosedJaxpr | Any  # None where it cannot be traced
    seed: int

    @property
    def traceable(self) -> bool:
        """Whether JAX can trace it."""
        return self.trace is not None

    @cached_property
    def program(self) -> Program:
        """What is compiled of it."""
        return program_of(self.trace)

    @property
    def inputs(self) -> list:
        """What it is evaluated at: the leaves in their own dtypes, and the fixed arrays."""
        return [*self.problem.own(self.problem.params.values), *self.problem.given.values]

    @cached_property
    def here(self) -> list[np.ndarray] | None:
        """Its values in float64 at the problem's point; None where they are not to be had, or an operation hides them.

        Where it computes in less than the leaves' precision, its values are still those of its formula.
        """
        if not self.traceable or not self.problem.traceable or any(map(opaque_operations, self._programs)):
            return None
        exact = self.exact()
        shapes = [np.shape(v) for v in self.problem.params.values]
        return exact if exact is not None and [x.shape for x in exact] == shapes else None

    def forget(self):
        """Drops its values at the point, which are as large as the parameters."""
        vars(self).pop("here", None)

    @property
    def _programs(self):
        return self.problem.trace.closed, self.trace

    @cached_property
    def rounding(self) -> Rounding:
        """What it loses as written."""
        return self.noise()

    def noise(self) -> Rounding:
        """The same, drawn anew."""
        unit = min(self.problem.units)
        if unit > SHOWN:
            return self._drawn(unit)
        fine, coarse = self._drawn(SHOWN), self._drawn(COARSER * SHOWN)
        scaled = (
            (one[0] * unit / SHOWN, one[1] * unit / SHOWN)
            if one[0] / LINEAR <= other[0] / COARSER <= one[0] * LINEAR
            else (np.inf, np.inf)
            for one, other in zip(fine.leaves, coarse.leaves, strict=True)
        )
        return replace(coarse, leaves=tuple(scaled))

    def _drawn(self, unit: float) -> Rounding:
        """The most that roundings of some unit change each leaf by."""

        def run(*arguments):
            return self.program.compiled(as_rounded, quickly=True)(self.trace.consts, *arguments)

        with jax.enable_x64(True):
            base, kept, places = run(self.inputs, np.uint32(self.seed), np.float64(0.0))
            base = [wide(x) for x in base]
            found = [(0.0, 0.0)] * len(base)
            for draw in range(DRAWS):
                moved, *_ = run(self.inputs, np.uint32(self.seed + 1 + draw), np.float64(unit))
                gaps = [wide(m) - b for m, b in zip(moved, base, strict=True)]
                found = [(max(n, norm(d)), max(e, largest(d))) for (n, e), d in zip(found, gaps, strict=True)]
        return Rounding(tuple(found), places.value, tuple(map(float, kept)))

    def expect_exact(self):
        """Begins to compile, on another core, the gradient in float64."""
        if self.traceable:
            with jax.enable_x64(True):
                self.program.expect(as_written, (self.trace.consts, self.inputs), quickly=True)

    def exact(self, values=None, given=None) -> list[np.ndarray] | None:
        """The user's own gradient evaluated in float64; at other values or fixed arrays of the same shapes if given."""
        values = self.problem.own(self.problem.params.values) if values is None else values
        inputs = [*values, *(self.problem.given.values if given is None else given)]
        with jax.enable_x64(True):
            try:
                run = self.program.compiled(as_written, quickly=True)
                return [wide(x) for x in run(self.trace.consts, inputs)]
            except Exception as error:  # an operation that has no float64 form
                note(self.problem.journal, error, "the formula in float64")
                return None

"""What a correct formula loses by the way it is written.

`A - Y` is exact mathematics and cancels in float32 when A is nearly Y: the hand-written gradient is then off by one
rounding of A, far above what autodiff of a stable loss loses. So a leaf that scores too high is read again with every
operation rounded once more at random; and it is excused only when its formula, in float64, is right.

Of a float64 leaf nothing more exact is known. There the formula is excused by its rounding alone, if that grows as the
unit does: coarser roundings are drawn, which stand out above float64's own, and scaled down. A step over a kink does
not grow, and is none.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.interpret import is_float
from jaxnet.verify.jaxprs import get_opaque_trace_state, tells_traces_apart
from jaxnet.verify.noise import largest, norm
from jaxnet.verify.programs import program_of
from jaxnet.verify.readings import Float64, Rounded
from jaxnet.verify.strip import place_of
from jaxnet.verify.tree import wide
from jaxnet.verify.trouble import note

DRAWS = 3
SHOWN = 2.0**-41  # the least unit whose roundings stand out above those of float64
COARSER = 16.0  # times that unit: rounding grows by as much
LINEAR = 4.0  # times more or less than it should grow: it is no rounding


class _Watching(Rounded):
    """Rounded, and for each subtraction how much smaller the result is than what went in.

    What is traced by itself is not watched: its values mean nothing outside.
    """

    def __init__(self, seed, unit):
        super().__init__(seed, unit)
        self.places, self.loss = [], []
        self.trace = get_opaque_trace_state() if tells_traces_apart() else None

    def apply(self, equation, inputs):
        outs = super().apply(equation, inputs)
        here = tells_traces_apart() and get_opaque_trace_state() == self.trace
        if here and equation.primitive.name == "sub" and is_float(outs[0].dtype) and outs[0].size:
            before = jnp.maximum(jnp.max(jnp.abs(inputs[0])), jnp.max(jnp.abs(inputs[1])))
            after = jnp.max(jnp.abs(outs[0]))
            self.places.append(place_of(equation))
            self.loss.append((after / before).astype(np.float32))
        return outs


class OwnRounding:
    """The rounding of the gradient as written, leaf by leaf, and the same formula in float64."""

    def __init__(self, problem, manual, seed: int):
        """Traces the gradient; `traceable` is false where that fails. Nothing is run yet."""
        self.problem, self.trace = problem, manual.trace()
        self.traceable = self.trace is not None
        if not self.traceable:
            return
        self.inputs = [*problem.own(problem.params.values), *problem.given.values]
        self.program = program_of(self.trace)
        self.unit, self.seed = min(problem.units), seed
        self.places: list[str] = []
        self.loss: list[float] = []

    def noise(self) -> list[tuple[float, float]]:
        """Norm and largest entry of the rounding of each leaf; infinite where it is none."""
        if self.unit > SHOWN:
            return self._drawn(self.unit)
        fine, coarse = self._drawn(SHOWN), self._drawn(COARSER * SHOWN)
        return [
            tuple(x * self.unit / SHOWN for x in one)
            if one[0] / LINEAR <= other[0] / COARSER <= one[0] * LINEAR
            else (np.inf, np.inf)
            for one, other in zip(fine, coarse, strict=True)
        ]

    def _drawn(self, unit: float) -> list[tuple[float, float]]:
        """The most that roundings of some unit change each leaf by."""

        def run(*arguments):
            return self.program.compiled(_rounded, quickly=True)(self.trace.consts, *arguments)

        with jax.enable_x64(True):
            base, loss = run(self.inputs, np.uint32(self.seed), np.float64(0.0))
            self.places = self.program.notes["places"]
            self.loss = [float(x) for x in loss]
            base = [wide(x) for x in base]
            found = [(0.0, 0.0)] * len(base)
            for draw in range(DRAWS):
                moved, _ = run(self.inputs, np.uint32(self.seed + 1 + draw), np.float64(unit))
                gaps = [wide(m) - b for m, b in zip(moved, base, strict=True)]
                found = [(max(n, norm(d)), max(e, largest(d))) for (n, e), d in zip(found, gaps, strict=True)]
        return found

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
                note(self.problem, error, "the formula in float64")
                return None

    def where(self) -> str | None:
        """The subtraction that loses most, as "file.py:12"."""
        if not self.loss or min(self.loss) > 1e-2:
            return None
        return self.places[int(np.argmin(self.loss))] or None


def as_written(program):
    """What a program computes, in float64."""
    return lambda consts, inputs: Float64().read_at(program.jaxpr, consts, inputs)


def _rounded(program):
    def rounded(consts, inputs, seed, unit):
        reader = _Watching(seed, unit)
        outs = reader.read_at(program.jaxpr, consts, inputs)
        program.notes["places"] = reader.places
        return outs, reader.loss

    return rounded

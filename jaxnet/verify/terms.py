"""The rounding of a gradient's terms: all that two right formulas differ by in float64, where their terms cancel.

At the optimum of a quantile loss q · (examples above) balances (1 − q) · (examples below). Then u ‖r‖ is nothing, but
the float32 numbers next to q and to 1 − q do not add up to 1, and one formula has the one where another has the other.
So every constant is moved by a rounding of its own, every result by one of the precision that it is taken in:

    e(t) = a formula with constants c (1 + t s u) and results × (1 ± t u'),  |s| in [0.5, 1.5], one s for equal |c|
    terms = max over draws of ‖e'(0)‖, of the formula as written and of autodiff's

u is that of the constant's dtype, or of the leaves' if that is less. Whole numbers and those of half the digits are
exact, and so are arrays, which are data. The derivative leaves each decision as it falls: no step over a kink is in it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.verify.derivatives import evaluate
from jaxnet.verify.interpret import Reader, dtype_of, is_float
from jaxnet.verify.jaxprs import Literal, Tracer
from jaxnet.verify.noise import largest, norm
from jaxnet.verify.programs import program_of
from jaxnet.verify.readings import Float64, Rounded, mixed_bits
from jaxnet.verify.strip import equations
from jaxnet.verify.tree import unit_roundoff, wide
from jaxnet.verify.trouble import note

DRAWS = 4
OF_FLOAT64 = 2.0**-53


class _Loose(Rounded):
    """Rounded, and every constant moved by a rounding of its own; JAX's own rules stay as they are."""

    def __init__(self, seed, t, of_constants, of_results):
        """A reading at t; the constants' roundings are `of_constants` at most."""
        super().__init__(seed, t * of_results)
        self.t, self.of_constants = t, of_constants

    def constant(self, value):
        """One constant moved, if it is a number that may have been rounded."""
        moved = self.cast(value)
        known = not isinstance(value, Tracer)
        if np.ndim(value) or not is_float(value.dtype) or (known and _is_exact(np.asarray(value))):
            return moved
        unit = jnp.minimum(unit_roundoff(value.dtype), self.of_constants)
        return moved * (1 + self.t * jnp.where(_is_exact(value), 0.0, unit * _spread(value, self.seed)))

    def own_jvp(self, equation, inputs):
        """One of JAX's own rules, which do not see what varies from outside of them."""
        return Float64().own_jvp(equation, inputs)


def rounding_of_terms(check, own, of_results: float = OF_FLOAT64) -> list[tuple[float, float]]:
    """Norm and largest entry, leaf by leaf, of what a formula's terms, or autodiff's, lose; results are in float64."""
    unit, found = min(check.problem.units), [(0.0, 0.0)] * len(check.findings)
    units = np.float64(unit), np.float64(of_results)
    try:
        for closed in (own.trace, _gradient_of(check.problem)) if own.traceable else ():
            if unit > of_results and not _has_rounded_constants(closed):
                continue  # what float64 loses by itself is nothing to the leaves
            run = program_of(closed).compiled(_change, quickly=True)
            for draw in range(DRAWS):
                with jax.enable_x64(True):
                    moves = run(closed.consts, own.inputs, np.uint32(check.seed + draw), *units)
                sizes = [(norm(x), largest(x)) for x in map(wide, moves)]
                found = [
                    (max(a[0], b[0]), max(a[1], b[1])) if np.isfinite(b).all() else a
                    for a, b in zip(found, sizes, strict=True)
                ]
    except Exception as error:  # an operation without a derivative, or that cannot be read again
        note(check.problem, error, "the rounding of terms")
    return found


def _change(program):
    """How what a program gives changes with the roundings."""

    def change(consts, inputs, seed, *units):
        def at(t):
            outs = _Loose(seed, t, *units).read_at(program.jaxpr, consts, inputs)
            return [1.0 * x for x in outs]

        return jax.jvp(at, (np.float64(0.0),), (np.float64(1.0),))[1]

    return change


def _gradient_of(problem):
    """Autodiff's gradient as a program of its own, at (values, given)."""
    program, consts = problem.program, problem.trace.consts

    def gradient(values, given):
        return jax.grad(lambda v: evaluate(program, Reader(), consts, v, given))(values)

    return jax.make_jaxpr(gradient)(problem.own(problem.params.values), problem.given.values)


def _has_rounded_constants(closed) -> bool:
    """Whether any number in a program may have been rounded."""
    literals = [v for e in equations(closed) for v in e.invars if isinstance(v, Literal)]
    numbers = [x for x in closed.consts if not x.ndim and is_float(x.dtype)]
    numbers += [np.asarray(v.val, dtype_of(v)) for v in literals if is_float(dtype_of(v))]
    return not all(_is_exact(np.asarray(x)) for x in numbers)


def _is_exact(x):
    """Whether a number is whole, or has but half the digits that it might."""
    kept = 2.0 ** (jnp.finfo(x.dtype).nmant // 2 + 1)
    xnp = np if isinstance(x, np.ndarray) else jnp
    x = x.astype(np.float64)
    fraction = xnp.frexp(x)[0] * kept
    return (x == xnp.round(x)) | (fraction == xnp.round(fraction))


def _spread(x, seed):
    """A number in ±[0.5, 1.5] for each magnitude."""
    bits = lax.bitcast_convert_type(jnp.abs(x).astype(np.float32), np.uint32)
    n = mixed_bits(bits + jnp.asarray(seed).astype(np.uint32) * np.uint32(0x9E3779B9))
    return (0.5 + (n >> np.uint32(8)).astype(np.float64) * 2.0**-24) * (1 - 2 * (n & np.uint32(1)).astype(np.float64))

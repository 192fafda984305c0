"""What is wrong with a finished leaf: one table of causes, in the order in which they are tried.

A row says to which leaves a test applies, how fine they have to be, what the test measures, and what has to confirm it:

    as_seen     the sentence says no more than the numbers at the point show
    elsewhere   the relation holds, with the same numbers, at other parameters and with other data
    others      measure it again at another batch size, and explain how the numbers follow it

No test names anything by itself: `cause_of` asks the confirmation of its row. No cause is better than a wrong one.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnet.verify.diagnose.evidence import Case, is_square, is_symmetric
from jaxnet.verify.diagnose.factors import (
    COARSE,
    SAME,
    Form,
    common_factor,
    described,
    explained_factor,
    factor_of_lines,
    power_everywhere,
    powers,
)
from jaxnet.verify.errors import tolerated
from jaxnet.verify.judge.cause import Cause, Kind
from jaxnet.verify.problem.batch import restricted
from jaxnet.verify.problem.trees import called, sample, wide
from jaxnet.verify.program.dtypes import unit_roundoff
from jaxnet.verify.program.jaxprs import (
    Literal,
    called_program,
    cast_dtype,
    is_custom_rule,
    primal_of,
    programs_within,
)
from jaxnet.verify.program.primitives import treatment
from jaxnet.verify.program.rules import equations, operations
from jaxnet.verify.sizes import alpha_of, digits, largest, near, norm, ratio

FEW = 8  # wrong entries that can be listed
# Operations whose result does not change with small changes of what goes in.
STEPS = frozenset("round floor ceil sign gt ge lt le eq ne argmax argmin".split())
INLINED = ("call", "remat")  # structures that run one program once

Steps = tuple[str, ...]  # operations with steps that a value has passed, by name and place


@dataclass(frozen=True)
class Row:
    """One cause.

    measure   the numbers of the relation in a case, None where it does not hold
    confirm   given the case, the numbers and the measure: the numbers or the cause that they amount to, None where
              nothing confirms them
    applies   to which cases the measure does
    entries   how many the leaves need
    coarsest  the largest relative tolerance at which the relation proves anything
    joint     whether it may be one fault of all leaves
    """

    kind: Kind
    measure: Callable[[Case], Any]
    confirm: Callable[[Case, Any, Callable[[Case], Any]], Cause | tuple | None]
    applies: Callable[[Case], bool]
    entries: int = 1
    coarsest: float = np.inf
    joint: bool = False


def cause_of(case: Case, rows: tuple[Row, ...]) -> Cause | None:
    """The first cause in some rows of the table that is confirmed."""
    if any(f.raw is None for f in case.judged):
        return None
    for row in rows:
        if row.applies(case) and case.entries >= row.entries and not case.tolerance > row.coarsest:
            numbers = row.measure(case)
            confirmed = None if numbers is None else row.confirm(case, numbers, row.measure)
            if confirmed is not None:
                return confirmed if isinstance(confirmed, Cause) else Cause(row.kind, confirmed)
    return None


# ---- confirmations ---------------------------------------------------------------------------------------------------
def as_seen(case: Case, numbers: tuple, measure) -> tuple:
    """The sentence says no more than what was measured."""
    return numbers


def elsewhere(case: Case, numbers: tuple, measure) -> tuple | None:
    """The relation holds with the same numbers at other parameters and, where there are any, with other data."""
    for inputs in case.evidence.others:
        there = case.again(measure, inputs)
        if there is None or not all(x == y or near(x, y, SAME) for x, y in zip(numbers, there, strict=True)):
            return None
    return tuple(float(f"{x:.4g}") if isinstance(x, float) else x for x in numbers)


# ---- where a test applies --------------------------------------------------------------------------------------------
def anywhere(case: Case) -> bool:
    """Whatever is known."""
    return True


def finite(case: Case) -> bool:
    """The manual gradient is finite; of the true one slopes may be known."""
    return case.finite


def comparable(case: Case) -> bool:
    """Entries of both gradients are known, in one shape, and the manual one is finite."""
    return all(f.comparable for f in case.judged) and case.finite


def real(case: Case) -> bool:
    """The same of real leaves whose entries are known at other inputs too."""
    return case.evidence.by_entry and comparable(case) and not any(np.iscomplexobj(f.r) for f in case.judged)


def square(case: Case) -> bool:
    """The leaf is a square matrix, or a stack of them, whose entries are known at other inputs too."""
    return case.evidence.by_entry and comparable(case) and is_square(case.f.shape)


def symmetric(case: Case) -> bool:
    """The leaf is a square matrix that is symmetric."""
    return square(case) and is_symmetric(wide(case.evidence.values[case.i]))


def by_examples(case: Case) -> bool:
    """The gradient of each single example can be asked for."""
    return comparable(case) and case.evidence.examples is not None


def _equal(case: Case, other) -> bool:
    """Whether the manual gradient is another array, to within the tolerance of the leaf."""
    return case.evidence.equal(case.g, other, case.f)


# ---- shape and finiteness --------------------------------------------------------------------------------------------
def wrong_shape(case: Case) -> tuple | None:
    """What would make the shape right, both shapes."""
    g, r = case.g, case.f.r
    if g.shape == case.f.shape:
        return None
    sums = {k: (g.sum(axis=k, keepdims=True), g.sum(axis=k)) for k in range(g.ndim)}
    missing = [k for k, totals in sums.items() if any(_alike(total, r) for total in totals)]
    if missing:
        what = f"the sum over axis {missing[0]} is missing; "
    elif g.size == np.prod(case.f.shape) and _alike(g.reshape(case.f.shape), r):
        what = "keepdims: the values are right, the shape is not; "
    else:
        what = "transposed; " if g.ndim == 2 and _alike(g.T, r) else "wrong shape: "
    return what, g.shape, case.f.shape


def _alike(g, r) -> bool:
    return r is not None and g.shape == r.shape and np.allclose(g, r, rtol=1e-2, atol=1e-2 * largest(r))


def not_finite(case: Case) -> tuple | None:
    """NaN or Inf: where, from which example, and whether the true gradient is finite there.

    A leaf that was refused for what a later run gave has to be so when it is run again as well.
    """
    e, f = case.evidence, case.f
    bad = ~np.isfinite(case.g)
    if f.comparable:
        bad &= np.isnan(case.g) | (case.g != f.r)  # an infinite slope is one
    if not bad.any() or (f.cause is not None and np.isfinite(wide(e.manual.eager().leaves[case.i])).all()):
        return None
    first = ",".join(str(int(k)) for k in np.unravel_index(int(np.argmax(bad)), bad.shape))
    origin = reference = ""
    if e.examples is not None and e.batch.m <= 64:
        with tolerated(e.problem.journal, "the diagnosis"):
            alone = (e.manual_at(e.batch.alone(k)) for k in range(e.batch.m))
            guilty = [k for k, leaves in enumerate(alone) if not all(np.isfinite(x).all() for x in leaves)]
            if 0 < len(guilty) <= 3:
                origin = f"; it comes from example {', '.join(map(str, guilty))} alone"
    if f.r is not None and f.autodiff:
        count = int((~np.isfinite(f.r) & bad).sum())
        whole = "there either" if count == bad.sum() else f"in {count} of them"
        reference = f"; autodiff of the loss is not finite {whole}" if count else "; the true gradient is finite there"
    return int(bad.sum()), bad.size, first, origin, reference


# ---- what the leaf equals, and where it differs ----------------------------------------------------------------------
def zero(case: Case) -> tuple | None:
    """g = 0."""
    return None if largest(case.g) else ()


def through_stops(case: Case) -> tuple | None:
    """g = the gradient of the loss without its stop_gradients."""
    true = None if case.evidence.through_stops is None else case.evidence.through_stops[case.i]
    if true is None or not np.isfinite(true).all() or case.evidence.equal(case.f.r, true, case.f):
        return None
    return (", ".join(case.evidence.problem.trace.stops),) if _equal(case, true) else None


def constant_function(case: Case) -> tuple | None:
    """r is exactly 0 wherever g differs, and so is any change of the loss, which passes an operation with steps."""
    f, g, program = case.f, case.g, case.evidence.problem.trace.closed
    off = (f.r == 0) & (g != 0)
    if program is None or not off.any() or norm((g - f.r)[~off]) > case.tolerance * f.r_norm:
        return None
    steps = steps_reached(program, case.i)
    if not steps or not case.evidence.is_constant(case.i, off):
        return None
    where = f" in {int(off.sum())} of {off.size} entries" if f.r.any() else ""
    return where, ", ".join(steps[:3]) + (", ..." if steps[3:] else "")


def steps_reached(trace, i: int) -> list[str]:
    """The operations with steps, by name and place, that lie between input i of a program and its output."""

    def walk(jaxpr, inputs: list[Steps | None]) -> list[Steps | None]:
        """For each output of a program the steps on its way from input i; None if it does not depend on it."""
        passed = {v: steps for v, steps in zip(jaxpr.invars, inputs, strict=True) if steps is not None}
        for e in jaxpr.eqns:
            into = [None if isinstance(v, Literal) else passed.get(v) for v in e.invars]
            before = [steps for steps in into if steps is not None]
            if not before or e.primitive.name == "stop_gradient":
                continue
            inside = (
                primal_of(e) if is_custom_rule(e) else called_program(e) if treatment(e).structure in INLINED else None
            )
            if inside is not None and len(inside.jaxpr.invars) == len(into):
                outs = walk(inside.jaxpr, into)
            else:
                here = filter(_is_step, [e, *(x for program in programs_within(e) for x in equations(program))])
                outs = [_joined([*before, tuple(map(described, here))])] * len(e.outvars)
            passed |= {v: steps for v, steps in zip(e.outvars, outs, strict=True) if steps is not None}
        return [None if isinstance(v, Literal) else passed.get(v) for v in jaxpr.outvars]

    outputs = walk(trace.jaxpr, [() if k == i else None for k in range(len(trace.jaxpr.invars))])
    return list(_joined([steps for steps in outputs if steps is not None]))


def _joined(found: list[Steps]) -> Steps:
    """Several lists of steps as one, each step once."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(found)))


def _is_step(equation) -> bool:
    """Whether the result of an equation does not change with small changes of what goes in."""
    new = cast_dtype(equation) if equation.primitive.name == "convert_element_type" else None
    return equation.primitive.name in STEPS or (new is not None and np.dtype(new).kind in "iub")


def conjugate(case: Case) -> tuple | None:
    """g = conj(r): the other convention."""
    r = case.f.r
    return () if largest(np.imag(r)) > 16 * case.f.noise.entry and _equal(case, np.conj(r)) else None


def transposed(case: Case) -> tuple | None:
    """g = rᵀ."""
    look = case.look
    return () if norm(look.g - np.swapaxes(look.r, -1, -2)) <= look.tolerance * norm(look.r) else None


def antisymmetric(case: Case) -> tuple | None:
    """g - r = -(g - r)ᵀ, hence <g - r, S> = 0 for every symmetric S."""
    look = case.look
    error = look.g - look.r
    off = norm(error + np.swapaxes(error, -1, -2).conj())
    return () if off <= min(4 * look.tolerance * norm(look.r), COARSE * norm(error)) else None


def moved(case: Case) -> tuple | None:
    """g = r[p] along an axis, p an order of its entries: the axis and p."""
    look = case.look
    for axis, n in enumerate(look.r.shape):
        g, r = (np.moveaxis(x, axis, 0).reshape(n, -1) for x in (look.g, look.r))
        weights = np.random.default_rng(n).normal(size=r.shape[1])  # entries of the axis that agree have one sum
        p = np.empty(n, int)
        p[np.argsort(g @ weights)] = np.argsort(r @ weights)
        if norm(g - r[p]) <= look.tolerance * norm(r):
            return axis, *p.tolist()
    return None


def moved_everywhere(case: Case, numbers: tuple, measure) -> tuple | None:
    """The axis, and the order in words, where it is the same at other inputs."""
    if elsewhere(case, numbers, measure) is None:
        return None
    axis, *p = numbers
    n, out = len(p), [k for k, place in enumerate(p) if place != k]
    if p == list(range(n))[::-1]:
        return axis, "reversed"
    if all((p[k] - p[0] - k) % n == 0 for k in range(n)):
        return axis, f"rolled by {min(-p[0], n - p[0], key=abs)}"
    return axis, f"{out[0]} and {out[1]} are swapped" if len(out) == 2 else f"{len(out)} of {n} stand elsewhere"


def another_leaf(case: Case) -> tuple | None:
    """g = the true gradient of another leaf."""
    leaves = enumerate(case.evidence.leaves)
    others = (f for j, f in leaves if j != case.i and f.r is not None and case.evidence.equal(case.g, f.r, f))
    return next(((called(f.path),) for f in others), None)


def few_entries(case: Case) -> tuple | None:
    """Only a handful of entries differ; the others have to be right for certain, not just below the noise."""
    f, g = case.f, case.g
    limit, most = 16 * f.noise.entry, min(FEW, max(1, f.r.size // 8))
    if np.sum(np.abs(sample(g) - sample(f.r)) > limit) > FEW:  # seen already, before millions are
        return None
    error = np.abs(g - f.r)
    off = error > limit
    rest = float(np.max(error[~off], initial=0.0))
    if rest > 1e-2 * float(np.min(error[off], initial=np.inf)) or not 0 < off.sum() <= most:
        return None
    count = int(off.sum())
    listed = (f"[{','.join(map(str, p))}]{_times(g[tuple(p)], f.r[tuple(p)])}" for p in np.argwhere(off))
    return "one entry differs" if count == 1 else f"{count} entries differ", "; ".join(listed)


def _times(g, r) -> str:
    if g == 0:
        return " is zero"
    return f" x {digits(np.real(g / r))}" if r != 0 else f" is {g:.3g} and should be 0"


def precision(case: Case) -> tuple | None:
    """The formula is right in float64 and loses digits in its own dtypes."""
    e, f = case.evidence, case.f
    error = norm(case.g - f.r)
    size = ratio(error, f.r_norm)
    if not size < 0.3 or e.exact is None or not norm(e.exact[case.i] - f.r) <= 1e-3 * error:
        return None
    trace = e.manual.trace()
    dtypes = {str(v.aval.dtype) for q in equations(trace) for v in q.outvars if hasattr(v.aval, "dtype")}
    low = [name for name in ("bfloat16", "float16") if name in dtypes]
    if low:
        what = f"{low[0]} operands lose"
    elif {"scan", "while"} & operations(trace):
        what = f"an accumulation in {f.dtype} loses"
    else:
        what = "as written it loses"
    return what, float(np.log2(size))


# ---- a regulariser ---------------------------------------------------------------------------------------------------
def decay(case: Case) -> float | None:
    """λ with g = r + λ θ."""
    look = case.look
    if look.r is None:
        return None
    error = look.g - look.r
    found = alpha_of(error, look.theta, 0.05)
    exact = max(look.tolerance * norm(look.r), 1e-3 * norm(error))
    return None if found is None or norm(error - found * look.theta) > exact else found


def explained_decay(case: Case, amount: float, measure) -> Cause | None:
    """What is wrong with a regulariser: the same at other parameters and, if it is weight decay, with other data."""
    e, look = case.evidence, case.look
    slack = max(1e-4, look.tolerance * norm(look.r) / norm(look.g - look.r))
    if not all(near(amount, case.again(decay, inputs), slack) for inputs in e.others):
        return None
    if e.batch is not None and e.half_batch is not None:
        other = case.again(decay, e.half_batch)
        if not near(amount, other, slack):
            return _decay_over_m(amount, other, e.batch, slack)
    kind = Kind.DECAY_MISSING if amount < 0 else Kind.DECAY_TOO_MUCH
    what = " (a regulariser: weight decay)" if e.other_data is not None else ""
    return Cause(kind, (_short(abs(amount)), what))


def _decay_over_m(amount: float, other: float | None, batch, slack: float) -> Cause | None:
    """The error of a regulariser, `amount` at the batch size and `other` at half of it, as made of λ and λ/m."""
    for form in (
        Form(Kind.DECAY_OVER_M_MISSING, lambda m: -1 / m),
        Form(Kind.DECAY_OVER_M_TOO_MUCH, lambda m: 1 / m),
        Form(Kind.DECAY_DIVIDED, lambda m: 1 / m - 1),
        Form(Kind.DECAY_NOT_DIVIDED, lambda m: 1 - 1 / m),
    ):
        size = amount / form.of(batch.m)
        if size > 0 and near(other, size * form.of(batch.half_m), slack):
            return Cause(form.kind, (_short(size), batch.m))
    return None


def _short(x: float) -> float:
    """Three digits: leaves whose numbers differ by rounding alone have one cause."""
    return float(f"{x:.3g}")


# ---- what was done to each entry: g = φ(r) ---------------------------------------------------------------------------
def clipped(case: Case) -> tuple | None:
    """c with g = clip(r, ±c), which at least two entries have reached."""
    c = max(largest(look.g) for look in case)
    if c == 0.0 or sum(int((np.abs(look.g) == c).sum()) for look in case) < 2:
        return None
    cut = all(norm(x.g - np.clip(x.r, -c, c)) <= x.tolerance * norm(x.r) for x in case)
    return (c,) if cut and any(norm(x.g - x.r) > x.tolerance * norm(x.r) for x in case) else None


def offset(case: Case) -> tuple | None:
    """c with g = r + c."""
    c = sum(float(np.sum(x.g - x.r)) for x in case) / sum(x.g.size for x in case)
    if c == 0:
        return None
    for x in case:
        limit = min(1e-2 * abs(c) * np.sqrt(x.g.size), x.tolerance * max(norm(x.g), norm(x.r)))
        if norm(x.g - x.r - c) > limit:
            return None
    return (c,)


def sign_only(case: Case) -> tuple | None:
    """c with g = c sign(r), wherever the sign of r is known."""
    c, count = max(largest(x.g) for x in case), 0
    for x in case:
        known = np.abs(x.r) > x.tolerance * norm(x.r)
        count += int(known.sum())
        if not ((np.abs(x.g) == c) | (x.g == 0)).all() or (x.g[known] != c * np.sign(x.r[known])).any():
            return None
    return (c,) if count >= 3 and c > 0 else None


def rounded(case: Case) -> tuple | None:
    """The narrower format in which every entry is what its true value becomes."""
    unit = max(f.unit for f in case.judged)
    formats = [(name, jnp.dtype(name)) for name in ("bfloat16", "float16")]
    return next(((name,) for name, d in formats if unit_roundoff(d) >= 4 * unit and _is_rounded(case, d)), None)


def _is_rounded(case: Case, dtype) -> bool:
    coarse, tiny = 1.01 * unit_roundoff(dtype), float(jnp.finfo(dtype).tiny)
    for x in case:
        within = coarse * np.maximum(np.abs(x.r), tiny) + x.tolerance * norm(x.r) / np.sqrt(x.r.size)
        held = all(np.array_equal(g.astype(dtype).astype(g.dtype), g) for g in (sample(x.g), x.g))  # a few tell first
        if not held or not (np.abs(x.g - x.r) <= within).all():  # nothing is within NaN
            return False
    return True


# ---- what single examples show ---------------------------------------------------------------------------------------
def wrong_axis(case: Case) -> tuple | None:
    """A bias summed over the units in place of the examples: possible when m = n."""
    e, f = case.evidence, case.f
    if f.r.size != e.batch.m or e.batch.m > 64 or f.r.ndim > 2:
        return None
    over_units = np.array([e.true_at(k)[case.i].sum() for k in range(e.batch.m)]) / e.batch.m
    return () if e.equal(case.g.ravel(), over_units, f) else None


def example(case: Case) -> tuple | None:
    """g = r without what one example adds, or with it twice."""
    e, f = case.evidence, case.f
    error, slack = sample(case.g) - sample(f.r), 2 * case.tolerance * f.r_norm
    for k, few in e.contributions.items() if e.batch.m > 1 else ():
        for sign, what in ((-1, "left out"), (1, "counted twice")):
            if not largest(error - sign * few[case.i]) > slack:  # a few entries tell
                added = e.true_at(k)[case.i] / e.batch.m
                if norm(added) > 32 * f.noise.norm and _equal(case, f.r + sign * added):
                    return k, what
    return None


def extra_examples(case: Case) -> tuple | None:
    """Examples that the loss ignores (padding) enter the gradient."""
    e, f = case.evidence, case.f
    if e.batch.m > 4096 or not e.ignored:
        return None
    doubled = e.batch.take([*range(e.batch.m), *e.ignored])
    if norm(restricted(e.problem, doubled).double()[1][case.i] - f.r) > 16 * f.noise.norm:
        return None
    without = [k for k in range(e.batch.m) if k not in e.ignored]
    there, kept = (wide(e.manual_at(given)[case.i]) for given in (doubled, e.batch.take(without)))
    if not e.equal(kept, f.r, f) or norm(there - case.g) <= 32 * f.noise.norm:
        return None
    return (", ".join(map(str, e.ignored[:4])) + (", ..." if len(e.ignored) > 4 else ""),)


# ---- the table -------------------------------------------------------------------------------------------------------
FORMAT = (  # whatever else the run has shown
    Row(Kind.SHAPE, wrong_shape, as_seen, anywhere),
    Row(Kind.NOT_FINITE, not_finite, as_seen, anywhere),
)
NUMBERS = (  # what the numbers of a leaf show, of several leaves where one fault may have done it to all
    Row(Kind.STOPS, through_stops, as_seen, comparable),
    Row(Kind.ZERO, zero, as_seen, finite),
    Row(Kind.CONSTANT_FUNCTION, constant_function, as_seen, comparable),
    Row(Kind.CONJUGATE, conjugate, as_seen, comparable),
    Row(Kind.FACTOR, common_factor, explained_factor, finite, joint=True),
    Row(Kind.TRANSPOSED, transposed, elsewhere, square, entries=4),
    Row(Kind.SYMMETRIC, antisymmetric, elsewhere, symmetric, entries=4, coarsest=COARSE),
    Row(Kind.MOVED, moved, moved_everywhere, real, entries=4),
    Row(Kind.ANOTHER_LEAF, another_leaf, as_seen, comparable, entries=2),
    Row(Kind.ENTRIES, few_entries, as_seen, comparable, entries=2, coarsest=COARSE),
    Row(Kind.DECAY_MISSING, decay, explained_decay, finite, entries=3, coarsest=COARSE),
    Row(Kind.CLIPPED, clipped, elsewhere, real, entries=2, coarsest=COARSE, joint=True),
    Row(Kind.OFFSET, offset, elsewhere, real, entries=2, joint=True),
    Row(Kind.SIGN_ONLY, sign_only, elsewhere, real, entries=3, joint=True),
    Row(Kind.ROUNDED, rounded, elsewhere, real, joint=True),
    Row(Kind.PRECISION, precision, as_seen, comparable),
    Row(Kind.POWER, powers, power_everywhere, real, entries=3, coarsest=COARSE),
    Row(Kind.LINES, factor_of_lines, as_seen, comparable, entries=9, coarsest=COARSE),
)
JOINT = tuple(row for row in NUMBERS if row.joint)
EXAMPLES = (  # what the gradients of single examples show
    Row(Kind.AXIS, wrong_axis, as_seen, by_examples),
    Row(Kind.EXAMPLE, example, as_seen, by_examples, coarsest=COARSE),
    Row(Kind.EXAMPLES_IGNORED, extra_examples, as_seen, by_examples),
)

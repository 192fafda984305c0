"""Witnesses 1 and 2: what the gradient is, and how exactly that can be known."""

from dataclasses import dataclass, field, replace

import jax
import numpy as np

from jaxnet.verify.errors import NotFiniteError, RefusedError, UnreadableError, note, tolerated
from jaxnet.verify.evidence import differences
from jaxnet.verify.evidence.noise import FAIL, Noise, noise_of
from jaxnet.verify.journal import first_line
from jaxnet.verify.problem.loss import Problem, direction, inner_product
from jaxnet.verify.problem.trees import sample, wide, wide_shape
from jaxnet.verify.program.dataflow import flow_of, searches
from jaxnet.verify.sizes import largest, norm

DRAWS = 3
LIKELY = 1e3  # roundings by which a leaf that fails is likely to differ from autodiff in its own dtype
SAME = 1e-5  # of a slope
SEEN = 1e-3  # of a gradient
FORWARD_LIMIT = 512  # coordinates that forward mode may be asked for one at a time


@dataclass(frozen=True)
class Reference:
    """What autodiff knows of one leaf; all but `unused` only where r is known."""

    r: np.ndarray | None = None
    noise: Noise = field(default_factory=lambda: Noise(0.0, 0.0))
    entries: np.ndarray | None = None  # the noise of each entry
    unused: bool = False  # the loss does not depend on the leaf
    overflows: bool = False  # not finite in the leaf's own dtype where r is, here or one rounding away


@dataclass(frozen=True)
class OwnPrecision:
    """The gradient in a leaf's own dtype, and by how much it changes one rounding away, where it is finite."""

    a: np.ndarray | jax.Array
    draws: list[tuple[float, float]]  # norm and largest entry of the changes
    entries: np.ndarray  # the largest change of each entry
    lost: np.ndarray | None  # where a change is not finite


def references(check) -> tuple[Problem, tuple[Reference, ...]]:
    """The problem as it is known by then, and what autodiff knows of each leaf: nothing of a black box."""
    nothing = (Reference(),) * len(check.leaves)
    try:
        problem = check.problem.traced()
    except RefusedError:
        raise
    except Exception as error:  # a loss in NumPy refuses tracers in its own way
        note(check.journal, error, "tracing the loss")
        check.journal.notes.append(
            f"the loss cannot be traced ({first_line(error)}): finite differences along directions only; "
            "reference=, the same loss in jax.numpy, would let every coordinate be compared"
        )
        return _by_values(check.problem), nothing
    trace = problem.trace
    instead = " Finite differences along directions were used instead."
    for names, does in (
        (trace.opaque, "hides its inside in"),
        (trace.untrusted, "has its derivative from rules that no primal can replace,"),
    ):
        if names:
            check.journal.notes.append(
                f"the loss {does} {', '.join(names)}: pass reference=, the same loss in plain jax.numpy, to "
                f"compare every coordinate.{instead}"
            )
    if trace.stops:
        where = ", ".join(trace.stops)
        check.journal.notes.append(
            f"what the loss stops at {where} counts as constant, by the convention of stop_gradient"
        )
    if problem.valued_only:
        return _by_values(problem), nothing
    problem, value, own = _own_precision(replace(check, problem=problem))
    check = replace(check, problem=problem)
    value64, r = _double_precision(check, own is not None)
    known = () if r is None else tuple(_reference(check, i, x, own) for i, x in enumerate(r))
    if known:
        _require_finite(check, value, value64, own is not None)
        if r is not None and searches(trace.closed) and _is_not_the_slope(check, r):
            check.journal.notes.append(
                "the loss searches for a value, by bisection or the like, and autodiff of the steps is not the "
                "derivative of what is found. Finite differences along directions were used instead."
            )
            return _by_values(problem), nothing
    return problem, known or nothing


def moved(problem: Problem) -> list[np.ndarray]:
    """Other parameters, a sixteenth larger."""
    parts = zip(problem.params.values, problem.own_dtypes, strict=True)
    return [np.asarray(wide(x) * (1 + 2.0**-4), dtype) for x, dtype in parts]


def gradient_moves(problem: Problem, there: list[np.ndarray], leaves) -> bool:
    """Whether the gradient of the loss is seen to be another one at other parameters."""
    pairs = zip(leaves, problem.double(there)[1], strict=True)
    return any(f.r is not None and norm(x - f.r) > max(FAIL * f.noise.norm, SEEN * f.r_norm) for f, x in pairs)


def _is_not_the_slope(check, r: list[np.ndarray]) -> bool:
    """Whether values of the loss along a random direction speak against the gradient r."""
    with check.journal.stated("4 finite differences") as says:
        problem, rng = check.problem, check.rng("search")
        x = [wide(v) for v in problem.params.values]
        v = {i: direction(rng, leaf) for i, leaf in enumerate(x) if leaf.size and np.isfinite(r[i]).all()}
        found = differences.slope(problem.value, x, v, problem.level, blur=0.0)
        claimed = sum(inner_product(r[i], along) for i, along in v.items())
        refuted = (
            found is not None
            and not (found.kinked or found.tells_nothing)
            and abs(claimed - found.central) > 64 * found.error + SAME * abs(found.central)
        )
        says("autodiff is refuted" if refuted else "autodiff is not refuted")
        return refuted


def _reference(check, i: int, r: np.ndarray, own: list[OwnPrecision] | None) -> Reference:
    """What is known of leaf i: r, what autodiff loses in the leaf's dtype, and what one rounding of the inputs does."""
    unused = i not in flow_of(check.problem.trace.closed, len(check.leaves)).used
    unit, finite = check.leaves[i].unit, np.isfinite(r)
    if finite.all():
        finite = ...
    if own is None:
        return Reference(r, noise_of(r[finite], None, [], unit), unused=unused)
    told = own[i]
    a = wide(told.a)
    bad = np.asarray(~np.isfinite(a) if told.lost is None else told.lost | ~np.isfinite(a))
    entries = np.asarray(np.maximum(told.entries, np.maximum(np.abs(a - r), unit * np.abs(r))))
    overflows = bool(np.any(bad[finite]))
    noise = noise_of(r[finite], None if overflows else a[finite], told.draws, unit)
    return Reference(r, noise, entries, unused, overflows)


def _own_precision(check) -> tuple[Problem, float, list[OwnPrecision] | None]:
    """Witness 1, and what it makes of inputs that are one unit of rounding away; by forward mode if need be.

    And the problem, irreversible where reverse mode has failed.
    """
    forwards = replace(check.problem, reversible=False)
    dtypes = "/".join(dict.fromkeys(str(d) for d in forwards.own_dtypes))
    for problem, mode in ((check.problem, "reverse autodiff"), (forwards, "forward mode, each coordinate")):
        with check.journal.stated(f"1 {mode} ({dtypes})") as says:
            try:
                _require_few(problem)
                value, grads = problem.reverse()
                value = float(value)
                says(f"loss {value:.6g}; gradient taken, and at {DRAWS} inputs one rounding away")
                return problem, value, _shaken(replace(check, problem=problem), grads)
            except Exception as error:  # e.g. reverse mode through a while loop
                note(check.journal, error, mode)
                says(f"cannot: {first_line(error)}")
    return forwards, float("nan"), None


def _shaken(check, grads) -> list[OwnPrecision]:
    """The gradients, with the changes that a rounding of the inputs makes in each."""
    running = check.problem.reverse(check.seed + 1, 1.0)
    _expect_doubts(check, grads)
    draws = [[] for _ in grads]
    entries: list = [None] * len(grads)
    lost: list = [None] * len(grads)
    for k in range(1, DRAWS + 1):
        _, moved = jax.block_until_ready(running)
        running = check.problem.reverse(check.seed + 1 + k, 1.0) if k < DRAWS else None  # while this one is looked at
        for i, m in enumerate(moved):
            gap = np.asarray(np.abs(np.subtract(m, grads[i], dtype=wide_shape(m).dtype)))
            finite = np.isfinite(gap)
            if not finite.all():
                lost[i] = ~finite if lost[i] is None else lost[i] | ~finite
                gap = np.where(finite, gap, 0.0)
            draws[i].append((norm(gap), largest(gap)))
            entries[i] = gap if entries[i] is None else np.asarray(np.maximum(entries[i], gap))
    return [OwnPrecision(*parts) for parts in zip(grads, draws, entries, lost, strict=True)]


def _expect_doubts(check, own):
    """Lets what a failure is asked be compiled while its verdict is being found, if a glance makes it likely."""

    def far(leaf, a):
        few = wide(sample(a))
        return np.shape(leaf.raw) == np.shape(a) and not norm(sample(leaf.g) - few) <= LIKELY * leaf.unit * norm(few)

    if any(f.raw is not None and not f.frozen and far(f, a) for f, a in zip(check.leaves, own, strict=True)):
        with tolerated(check.journal, "compiling ahead"):  # what cannot be compiled is told by who asks for it
            check.candidate.formula.expect_exact()
            check.problem.expect_value()


def _double_precision(check, reversed_: bool) -> tuple[float, list[np.ndarray] | None]:
    """Witness 2; by forward mode if the program cannot be reversed and is small."""
    name = "2 the same in float64" if reversed_ else "2 forward mode in float64, each coordinate"
    with check.journal.stated(name) as says:
        try:
            if not reversed_:
                _require_few(check.problem)
            value, grads = check.problem.double()
            says(f"loss {value:.6g}")
            return value, grads
        except Exception as error:  # an operation with no float64 form, a program that cannot be differentiated
            note(check.journal, error, "float64")
            says(f"cannot: {first_line(error)}")
    return float("nan"), None


def _require_few(problem):
    """Refuses what has no reverse mode and more coordinates than forward mode can take one at a time."""
    size = sum(np.size(v) for v in problem.params.values)
    if not problem.reversible and size > FORWARD_LIMIT:
        raise UnreadableError(f"no reverse mode, and {size} coordinates are too many for forward mode")


def _by_values(problem: Problem) -> Problem:
    """The problem of which only values are to be believed; refuses one that is not finite at the point."""
    problem = replace(problem, reversible=False)
    value = problem.level
    if not np.isfinite(value) and not no_examples(problem):
        raise NotFiniteError(f"{problem.function} is {value} at the test point (seen by witness 4, values in float64).")
    return problem


def _require_finite(check, value, value64, spoke: bool):
    """Refuses a loss that is not finite at the point, naming the witness that saw it."""
    values = {"2 (float64)": value64} if not spoke else {"1 (own dtype)": value, "2 (float64)": value64}
    seen = [witness for witness, v in values.items() if not np.isfinite(v)]
    if not seen or no_examples(check.problem):
        return
    other, called = "", check.problem.function
    if len(seen) == 1 and spoke:
        fine = next(v for v in values.values() if np.isfinite(v))
        other = f"; the other witness has {fine:.6g}, so it is {called} that overflows or cancels in its dtype"
    bad = value if not np.isfinite(value) else value64
    raise NotFiniteError(
        f"{check.problem.function} is {bad} at the test point, seen by witness {' and '.join(seen)}{other}."
    )


def no_examples(problem) -> bool:
    """Whether any fixed array is empty."""
    return any(np.size(x) == 0 for x in problem.given.values)

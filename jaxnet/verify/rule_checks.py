"""What can be asked of a rule beside its gradient: had it a part in that, is it linear in its cotangent, does each
output's cotangent enter as it should, and does fwd return f(x)?

Each check is a function of a report and a Question that returns the report with what it found. One that cannot be asked
(a rule may refuse what JAX's own would take) leaves the report as it is, but for a note; so does a mistake of ours.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np

from jaxnet.verify import errors
from jaxnet.verify.evidence.noise import FAIL, WARN, noise_of, score
from jaxnet.verify.journal import Statement, first_line
from jaxnet.verify.problem.gradient import bits_differ
from jaxnet.verify.problem.loss import Problem, in_float64
from jaxnet.verify.problem.rule import Ruled
from jaxnet.verify.problem.trees import called, wide
from jaxnet.verify.program.cache import program_of
from jaxnet.verify.program.dataflow import cast_to_integers
from jaxnet.verify.program.dtypes import unit_roundoff
from jaxnet.verify.program.rules import opaque_operations
from jaxnet.verify.program.transforms import as_written
from jaxnet.verify.report import LeafReport, Report
from jaxnet.verify.sizes import alpha_of, digits, largest, near, norm, ratio

Cotangent = list  # an array for each floating output of f

TIMES = (1.0, 2.0, -1.0, 0.0)  # of one cotangent: all exact in any precision
SLACK = 64  # roundings: powers of two scale exactly, but a device may add in another order each time
IGNORED = "ignores its cotangent: it gives the same gradient for c, 2c, -c and 0"
BENT = "is not linear in its cotangent: it adds to it, or bends it"
LEVEL = "the derivative of the function is exactly 0 here"
OTHER = "nothing of it was checked; give primals at which it has"
DRAWS = 3
COARSE = 0.1  # of a value: no loss of digits that anybody wants is more
ROUNDED = 0.1  # of an error: what float64 may leave of one of rounding, for constants are rounded too
HIDDEN = 1e-2  # the same of a kernel, which no float64 can excuse: bfloat16 loses half of it
SAME = 1e-12  # of a leaf: roundings of float64
TOLD = 1e-2  # of a leaf: a resolution above this tells no cotangent from another


@dataclass(frozen=True)
class Question:
    """A rule, the problem in which its gradient was judged, and the random numbers for more questions."""

    ruled: Ruled
    problem: Problem
    rng: np.random.Generator
    intended: Callable | None = None
    derived: Problem | None = None  # with intended, that of the derivative of f

    def true_gradient(self, cotangent: Cotangent) -> list[np.ndarray]:
        """What the rule should give for another cotangent, in float64."""
        return _at(self.problem, cotangent)

    def derivative(self, cotangent: Cotangent) -> list[np.ndarray] | None:
        """What the derivative of f would give, where another rule is intended."""
        return None if self.derived is None or self.derived.valued_only else _at(self.derived, cotangent)

    def meant(self, cotangents: list[Cotangent]) -> list[list]:
        """What `intended` says of each cotangent."""
        values = self.ruled.tree.values
        said = [self.ruled.meant(self.intended, self.ruled.given, c) for c in cotangents]
        return [[np.zeros_like(x) if g is None else g for g, x in zip(one, values, strict=True)] for one in said]


def _at(problem: Problem, cotangent: Cotangent) -> list[np.ndarray]:
    given = problem.given.values
    return problem.double(given=[*given[: len(given) - len(cotangent)], *cotangent])[1]


def with_rule_checks(report: Report, question: Question) -> Report:
    """The report with what every check of a rule adds to it."""
    for name, check in CHECKS.items():
        try:
            report = check(report, question)
        except Exception as error:  # a rule that refuses what JAX's own would take
            why = errors.mistake(error, name) or f"{name} was not asked: {first_line(error)}"
            report = dataclasses.replace(report, notes=(*report.notes, why))
    return report


# ---- its part --------------------------------------------------------------------------------------------------------
def with_its_part(report: Report, question: Question) -> Report:
    """With the rules that had no part in what was compared; where none had one, nothing is proved."""
    idle = question.ruled.idle(question.rng) if report.verdict == "PASS" else []
    notes = [f"{name} has no part in the derivative here (a branch not taken, a factor 0): {OTHER}" for name in idle]
    verdict = "INCONCLUSIVE" if idle and len(idle) == len(question.ruled.rules) else report.verdict
    return dataclasses.replace(report, verdict=verdict, notes=(*report.notes, *notes))


# ---- linearity -------------------------------------------------------------------------------------------------------
def with_linearity(report: Report, question: Question) -> Report:
    """With what the rule gives for c, 2c, -c and 0; where a wrong rule is not linear in them, that is its fault.

    Unless it is meant so: what `intended` says may bend its cotangent as well.
    """
    begun, ruled, cotangent = time.perf_counter(), question.ruled, question.ruled.cotangent(question.rng)
    cotangents = [[c * c.dtype.type(times) for c in cotangent] for times in TIMES]
    faults = _faults(report, ruled, ruled.pulled(cotangents))
    meant = _faults(report, ruled, question.meant(cotangents)) if faults and question.intended else {}
    said = f"the rule is {'NOT ' if faults else ''}linear in its cotangent{', nor is intended=' if meant else ''}"
    statement = Statement("6 relations", said, time.perf_counter() - begun)
    report = dataclasses.replace(report, witnesses=(*report.witnesses, statement))
    faults = {path: fault for path, fault in faults.items() if meant.get(path) != fault}
    if not faults or report.verdict != "FAIL":
        return report
    report, hint = _not_linear(report, faults), "A rule that is meant so can be stated: intended=."
    alone = question.intended is None and BENT in faults.values()
    return dataclasses.replace(report, cause=f"{report.cause} {hint}") if alone else report


def _faults(report: Report, ruled: Ruled, found) -> dict[str, str]:
    """What is wrong with the gradients of c, 2c, -c and 0 of each leaf, where anything is."""
    faults = {}
    for path, *leaf in zip(ruled.tree.names, *found, strict=True):
        slack = max(SLACK * unit_roundoff(leaf[0].dtype), report.leaves[path].accuracy)
        fault = _fault([wide(x) for x in leaf], slack)
        if fault:
            faults[path] = fault
    return faults


def _fault(gradients: list[np.ndarray], slack: float) -> str | None:
    """What is wrong with one leaf's gradients of c, 2c, -c and 0."""
    one, two, minus, nothing = gradients
    if not all(np.isfinite(x).all() for x in gradients):
        return None
    if np.any(one) and all(np.array_equal(one, x) for x in (two, minus, nothing)):
        return IGNORED
    apart = max(norm(two - 2 * one), norm(minus + one), norm(nothing))
    return BENT if apart > slack * max(norm(one), norm(two)) else None


def _not_linear(report: Report, faults: dict[str, str]) -> Report:
    """A leaf that ignores its cotangent has no other cause; a bent one may have a name for the cotangent drawn here."""
    ignored, bent = ([path for path, fault in faults.items() if fault is kind] for kind in (IGNORED, BENT))
    causes = {path: IGNORED if path in ignored else leaf.cause or faults.get(path) for path, leaf in _failed(report)}
    report = _with_causes(report, causes)
    failed = [path for path, _ in _failed(report)]

    def said(paths, fault) -> str:
        where = "" if set(paths) >= set(failed) else f" in {', '.join(map(called, paths))}"
        return f"The rule{where} {fault}."

    lines = [said(paths, fault) for paths, fault in ((ignored, IGNORED), (bent, BENT)) if paths]
    own = [f"{called(p)}: {causes[p]}." for p in failed if causes[p] not in (None, IGNORED, BENT)]
    lines += ["For the cotangent drawn here, " + " ".join(own)] if own else []
    return dataclasses.replace(report, cause=" ".join(lines), starts_at=None)


# ---- the cotangents of its outputs -----------------------------------------------------------------------------------
def with_cotangents(report: Report, question: Question) -> Report:
    """With a cause for leaves that are what a right rule would give for another cotangent.

    g(c) = r(c') for two random c, where c' is c without one output's, or with its first entry everywhere, and so on.
    """
    suspects = {path: leaf for path, leaf in _failed(report) if IGNORED != leaf.cause != BENT}
    level = lambda leaf: leaf.norm == 0.0 and not (leaf.cause or leaf.note or question.intended)
    causes = {path: LEVEL for path, leaf in suspects.items() if level(leaf)}
    suspects = {p: leaf for p, leaf in suspects.items() if p not in causes and leaf.resolution < TOLD}
    if suspects and not question.problem.valued_only and question.problem.reversible:
        causes |= _causes_by_cotangents(question, suspects)
    if not causes:
        return report
    report = _with_causes(report, causes)
    groups: dict[str | None, list[str]] = {}
    for path, leaf in _failed(report):
        groups.setdefault(leaf.cause, []).append(called(path))
    lines = [f"{', '.join(paths)}: {cause}." for cause, paths in groups.items() if cause]
    return dataclasses.replace(report, cause=" ".join(lines), starts_at=None)


def _causes_by_cotangents(question: Question, suspects: dict[str, LeafReport]) -> dict[str, str]:
    """What each wrong leaf does with its cotangent, if two random ones say the same."""
    found: list[dict[str, str]] = []
    for _ in range(2):
        cotangent = question.ruled.cotangent(question.rng)
        found.append(_by_one_cotangent(question, suspects, cotangent))
        if not found[-1]:
            return {}
    first, second = found
    return {path: cause for path, cause in first.items() if second.get(path) == cause}


def _by_one_cotangent(question: Question, suspects: dict[str, LeafReport], cotangent: Cotangent) -> dict[str, str]:
    """For each wrong leaf the first other cotangent that explains what the rule gives for this one."""
    names = question.ruled.tree.names
    left = {path: (names.index(path), 2 * leaf.resolution) for path, leaf in suspects.items()}
    given = [wide(x) for x in question.ruled.pulled([cotangent])[0]]
    right = question.true_gradient(cotangent)
    causes: dict[str, str] = {}
    for said, other in _others(cotangent):
        there = question.true_gradient(other)
        for path, (i, tolerance) in list(left.items()):
            size = max(norm(right[i]), norm(there[i]))
            tells = norm(there[i] - right[i]) > 2 * tolerance * size
            if tells and np.any(given[i]) and norm(given[i] - there[i]) <= tolerance * size:
                causes[path] = said
                del left[path]
        if not left:
            break
    if len(cotangent) > 1:
        causes |= _by_factors(question, left, cotangent)
    derivative, conjugate = question.derivative(cotangent), None
    if any(map(np.iscomplexobj, cotangent)):
        conjugate = [r.conj() for r in question.true_gradient([c.conj() for c in cotangent])]
    wholes = (
        (derivative, "it is the derivative of f, and not what intended= says"),
        (conjugate, "the Jacobian is conjugated (JAX's convention is dJ = Re(Σ g v), without)"),
    )
    for path, (i, tolerance) in left.items():
        for whole, said in wholes:
            if whole is not None and norm(given[i] - whole[i]) <= tolerance * norm(whole[i]):
                causes.setdefault(path, said)
        if not suspects[path].cause and (said := _mask(given[i], right[i], tolerance)):
            causes.setdefault(path, said)
    return causes


def _by_factors(question: Question, left: dict[str, tuple[int, float]], cotangent: Cotangent) -> dict[str, str]:
    """For each wrong leaf the factor with which one output's cotangent enters, if the others' do as they should."""
    alone = [[c * (j == k) for j, c in enumerate(cotangent)] for k in range(len(cotangent))]
    given, right = question.ruled.pulled(alone), [question.true_gradient(c) for c in alone]
    causes: dict[str, str] = {}
    for path, (i, tolerance) in left.items():
        alphas = [alpha_of(wide(g[i]), r[i], tolerance) for g, r in zip(given, right, strict=True) if norm(r[i])]
        outputs = [k for k, r in enumerate(right) if norm(r[i])]
        off = [(k, a) for k, a in zip(outputs, alphas, strict=True) if a is None or not near(a, 1.0, tolerance)]
        if len(outputs) > 1 and len(off) == 1 and off[0][1] is not None:
            causes[path] = f"the cotangent of output {off[0][0]} enters with a factor {digits(off[0][1], tolerance)}"
    return causes


def _mask(g: np.ndarray, r: np.ndarray, tolerance: float) -> str | None:
    """In words, that all entries that are off should be zero, or are."""
    off = ~(np.abs(g - r) <= tolerance * largest(r))
    if not off.any() or not np.isfinite(g).all():
        return None
    where = f"{int(off.sum())} entries, first at [{','.join(map(str, np.argwhere(off)[0]))}]"
    if not r[off].any():
        return f"it should be zero and is not at {where}"
    return None if g[off].any() else f"it is zero and should not be at {where}"


def _others(cotangent: Cotangent) -> Iterator[tuple[str, Cotangent]]:
    """Other cotangents that a wrong rule may use in place of this one, and in words what it does then."""
    several = len(cotangent) > 1

    def instead(k: int, c) -> Cotangent:
        return [np.asarray(c, x.dtype) if j == k else x for j, x in enumerate(cotangent)]

    for k, c in enumerate(cotangent):
        of = f"the cotangent of output {k}" if several else "the cotangent"
        if several:
            yield f"{of} is dropped", instead(k, np.zeros_like(c))
        if c.size > 1:
            yield f"entry 0 of {of} is used for all of it", instead(k, np.broadcast_to(c.ravel()[0], c.shape))
            for axis in range(c.ndim if c.ndim > 1 else 0):
                first = np.take(c, [0], axis)
                said = f"entry 0 of {of} along axis {axis} is used for all of it"
                yield said, instead(k, np.broadcast_to(first, c.shape))
            for word, total in (("sum", c.sum()), ("mean", c.mean())):
                yield f"the {word} of {of} is used for each of its entries", instead(k, np.full_like(c, total))
        if c.ndim == 2 and c.shape[0] == c.shape[1] > 1:
            yield f"{of} is transposed", instead(k, c.T)
        if np.iscomplexobj(c):
            yield f"{of} is conjugated", instead(k, c.conj())
    for j, k in itertools.permutations(range(len(cotangent)), 2):
        if cotangent[j].shape != cotangent[k].shape or cotangent[j].dtype != cotangent[k].dtype:
            continue
        if j < k:
            swapped = instead(j, cotangent[k])
            swapped[k] = cotangent[j]
            yield f"the cotangents of outputs {j} and {k} are swapped", swapped
        yield f"the cotangent of output {j} is used for output {k} too", instead(k, cotangent[j])


def _failed(report: Report) -> list[tuple[str, LeafReport]]:
    """The leaves that are wrong."""
    return [(path, leaf) for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"]


def _with_causes(report: Report, causes: dict[str, str | None] | dict[str, str]) -> Report:
    """The report with other causes for some leaves."""
    leaves = {
        path: dataclasses.replace(leaf, cause=causes[path]) if path in causes else leaf
        for path, leaf in report.leaves.items()
    }
    return dataclasses.replace(report, leaves=leaves)


# ---- the value that fwd returns --------------------------------------------------------------------------------------
def with_forward_value(report: Report, question: Question) -> Report:
    """Refused where fwd returns another value than f: under differentiation the rule's own forward pass runs.

    Values are compared as gradients are: r is the function in float64, its noise what the function loses in its own
    precision and what one rounding of its inputs changes. A forward pass that is right in float64 and loses more than
    that is left to its author, and told.
    """
    notes, causes = _compared(question.ruled, question.rng)
    report = dataclasses.replace(report, notes=(*report.notes, *notes))
    if not causes:
        return report
    return dataclasses.replace(report, verdict="FAIL", cause=" ".join(filter(None, [report.cause, *causes])))


def _compared(ruled: Ruled, rng) -> tuple[list[str], list[str]]:
    """What is to be noted of the forward values, and the causes to refuse them."""
    values = ruled.tree.values

    def plain(values):
        return _floating(ruled, ruled.outputs(values))

    def by_the_rule(values):
        return _floating(ruled, jax.vjp(ruled.outputs, values)[0])

    own, found = plain(values), by_the_rule(values)
    suspects = [k for k, (a, b) in enumerate(zip(own, found, strict=True)) if bits_differ(a, b)]
    if not suspects:
        return [], []
    if any(bits_differ(a, b) for a, b in zip(own, plain(values), strict=True)):
        return ["f gives two values for the same input: fwd's was not compared with it"], []
    trace, rule = jax.make_jaxpr(plain)(values), jax.make_jaxpr(by_the_rule)(values)
    notes, causes = [], []
    true, formula = _doubled(trace, values, notes), _doubled(rule, values, notes)
    hidden = bool(set(opaque_operations(rule)) - {"pure_callback"})
    are_labels = cast_to_integers(trace.jaxpr)[len(trace.consts) :]
    moved = [plain(_one_rounding_away(values, are_labels, rng)) for _ in range(DRAWS)]
    for k in suspects:
        a, g = wide(own[k]), wide(found[k])
        r = a if true is None else true[k]
        draws = [wide(m[k]) for m in moved]
        known = np.all([np.isfinite(x) for x in (a, r, *draws)], axis=0)  # an overflow says nothing of rounding
        a, g, r, *draws = (x[known] for x in (a, g, r, *draws))
        gaps = [(norm(x - a), largest(x - a)) for x in draws]
        noise = noise_of(r, a, gaps, unit_roundoff(own[k].dtype))
        far, off = score(g, r, noise), ratio(norm(g - r), norm(r))
        written = float("inf") if formula is None else norm(formula[k][known] - r)
        if far <= WARN:
            continue
        size = f"output {k} of fwd is off by {off:.2g} of it, {far:.2g} x the noise of f"
        if far <= FAIL:
            notes.append(f"warning: {size}")
        elif off <= COARSE and written <= ROUNDED * norm(g - r):
            notes.append(f"{size}, in float64 by {ratio(written, norm(r)):.2g}: fwd loses digits as written")
        elif hidden and off <= HIDDEN:
            notes.append(f"{size}: whether it is right in float64 cannot be seen, it hides its inside")
        else:
            causes.append(f"Under differentiation {_how(k, g, r, noise)}: fwd does not return f(x).")
    return notes, causes


def _how(k, g, r, noise) -> str:
    """In words, that the rule gives the value g and the function r."""
    alpha = alpha_of(g, r, FAIL * noise.norm / max(norm(r), 1e-300)) if r.size > 1 else None
    if alpha is not None:
        return f"output {k} is {digits(alpha)} times what the function gives"
    at = int(np.nanargmax(np.where(np.isnan(g), np.inf, np.abs(g - r))))
    return f"output {k} is off by {ratio(norm(g - r), norm(r)):.2g} of it, {g[at]:.6g} in place of {r[at]:.6g} at worst"


def _floating(ruled, outs) -> list:
    return [outs[i] for i in ruled.floating]


def _doubled(trace, values, notes) -> list[np.ndarray] | None:
    """A program in float64; None where it cannot be read so."""
    try:
        with in_float64():
            return [wide(x) for x in program_of(trace).compiled(as_written, quickly=True)(trace.consts, values)]
    except Exception as error:  # an operation that has no float64 form
        said = errors.mistake(error, "fwd's value in float64")
        notes += [said] if said else []
        return None


def _one_rounding_away(values, labels, rng) -> list:
    """Each value × (1 ± 2u), the smallest factor that always changes it; numbers that stand for labels as they are."""
    return [v if label else _shaken(v, rng) for v, label in zip(values, labels, strict=True)]


def _shaken(v, rng):
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(jax.numpy.result_type(v)))
    return (wide(v) * (1 + 2 * unit_roundoff(dtype) * rng.choice([-1.0, 1.0], np.shape(v)))).astype(dtype)


# ---- what is meant ---------------------------------------------------------------------------------------------------
def departure(stated: Problem, derived: Problem) -> str:
    """By how much what `intended` says differs from the derivative of the function, leaf by leaf, in words."""
    if derived.valued_only:
        return "intended= was not compared with the derivative of f, which hides its inside: reference= would let it be"
    leaves = zip(stated.params.names, stated.double()[1], derived.double()[1], strict=True)
    said = "; ".join(f"in {called(name)}{_apart(meant, true)}" for name, meant, true in leaves)
    return f"the rule is compared with intended=, which differs from the derivative of f: {said}"


def _apart(meant: np.ndarray, true: np.ndarray) -> str:
    size, gap = norm(true), norm(meant - true)
    if not np.isfinite(true).all():
        return ", where that is not finite"
    if gap <= SAME * size:
        return " not at all"
    return f" by {ratio(gap, size):.2g} of it" if size else ", where that is 0"


CHECKS: dict[str, Callable[[Report, Question], Report]] = {
    "whether the rule has a part": with_its_part,
    "whether the rule is linear": with_linearity,
    "each output's cotangent": with_cotangents,
    "fwd's value": with_forward_value,
}

"""One check, stage by stage, from the question to the report.

    Problem ─► Evidence ─► Judgement ─► Diagnosis ─► Report

Each is frozen, made from those to its left and never changed. What is learnt of the loss while the evidence is gathered
(it cannot be reversed, say) is said by another Problem, which the later stages are given. A stage draws from a random
stream of its own, so that what one draws moves the results of no other. What a stage could not do it says in the
journal, which alone grows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxnet.verify.diagnose.explain import diagnose
from jaxnet.verify.errors import tolerated
from jaxnet.verify.evidence.autodiff import Reference, gradient_moves, moved, no_examples, references
from jaxnet.verify.evidence.coverage import branches_not_taken
from jaxnet.verify.journal import Journal
from jaxnet.verify.judge.arbitration import arbitrated
from jaxnet.verify.judge.by_values import judged_by_differences, slope_moves
from jaxnet.verify.judge.cause import Cause, Kind
from jaxnet.verify.judge.crosschecks import values_agree_at_equalities, witnesses_agree
from jaxnet.verify.judge.reasons import Note, Reason, note
from jaxnet.verify.judge.second_look import second_look, without_steps
from jaxnet.verify.judge.verdict import LeafJudgement, differs, judged, with_variant
from jaxnet.verify.options import Options, accuracies, excluded, expected_zeros
from jaxnet.verify.problem.gradient import DifferentTreeError, Manual, bits_differ
from jaxnet.verify.problem.loss import Problem, impurity
from jaxnet.verify.program.jaxprs import features_lost
from jaxnet.verify.report import Report, TreeMismatch, row
from jaxnet.verify.sizes import norm

STREAMS = ("around", "small entries", "ties", "differences", "arbitration", "forward", "complex step", "relations",
           "equalities", "diagnosis", "variants", "search")  # fmt: skip

CONSTANT = (
    "the gradient under test is the same whatever it is given: numbers were judged, at this point alone (one that "
    "keeps its first answer looks like this, too)"
)


@dataclass(frozen=True)
class Check:
    """What is asked, and how; the leaves under test as the eager calls gave them."""

    problem: Problem
    candidate: Manual
    leaves: tuple[LeafJudgement, ...]
    seed: int
    directions: int = 5
    kinks: str = "subgradient"

    @property
    def journal(self) -> Journal:
        """Where the stages say what they have to say."""
        return self.problem.journal

    def rng(self, stage: str) -> np.random.Generator:
        """The random stream of a stage."""
        return np.random.default_rng([self.seed, STREAMS.index(stage)])


def run(
    problem: Problem, grad_fn: Callable, seed: int, options: Options, notes: Sequence[str] = ()
) -> tuple[Report, Problem]:
    """The whole check of a gradient, and the problem as it is known by then."""
    problem.journal.notes.extend([*features_lost(), *notes])
    problem = _begin_to_compile(problem)
    candidate = Manual(problem, grad_fn, seed)
    leaves, mutated = _under_test(candidate, options)
    check = Check(problem, candidate, leaves, seed, int(options.directions), options.kinks)
    problem, evidence = references(check)
    check = replace(check, problem=problem)
    known = all(f.r is not None for f in evidence)
    if no_examples(problem) and not any(f.r is not None and norm(f.r) > 0 for f in evidence):
        return _report(check, _all_open(leaves, Reason.NO_EXAMPLES)), problem
    if (impure := impurity(problem)) is not None:
        return _report(check, _all_open(leaves, Reason.IMPURE), cause=impure), problem
    leaves = tuple(_slim(judged(_with(f, reference))) for f, reference in zip(leaves, evidence, strict=True))
    del evidence
    leaves = second_look(check, leaves) if known else judged_by_differences(check, leaves)
    leaves = tuple(_slim(f, done=True) for f in leaves)
    candidate.formula.forget()
    leaves = _in_all_variants(check, arbitrated(check, leaves), options.variants)
    crosscheck = witnesses_agree if options.witnesses == "full" else values_agree_at_equalities
    agree = crosscheck(check, leaves) if known else True
    cause, starts_at = f"grad_fn changes its inputs in place: {', '.join(mutated)}" if mutated else None, None
    if not mutated and any(f.wrong for f in leaves):
        leaves, cause, starts_at = _diagnosed(check, leaves)
    if any(f.verdict == "PASS" for f in leaves):
        with tolerated(check.journal, "a gradient that is constant"):
            there = moved(problem)
            moves = (lambda: gradient_moves(problem, there, leaves)) if known else (lambda: slope_moves(check, there))
            check.journal.notes += [CONSTANT] if candidate.is_constant(there) and moves() else []
    if options.witnesses == "full":
        with tolerated(check.journal, "the coverage hint"):  # a hint; a gradient that cannot be read again gets none
            check.journal.notes.extend(branches_not_taken(problem, candidate))
    return _report(check, leaves, cause, starts_at, refused=bool(mutated), agree=agree), problem


# ---- the question ---------------------------------------------------------------------------------------------------
def _begin_to_compile(problem: Problem) -> Problem:
    """The problem, traced if it can be; its witnesses are compiled while the gradient under test runs."""
    with tolerated(problem.journal, "compiling ahead"):  # the reference will meet what the loss raises, and tell it
        problem = problem.traced()
        problem.expect_reverse()
        problem.expect_double()
    return problem


def _under_test(candidate: Manual, options: Options) -> tuple[tuple[LeafJudgement, ...], tuple[str, ...]]:
    """The leaves of the gradient under test, called eagerly and twice, and what it changed in place."""
    problem = candidate.problem
    with problem.journal.stated("0 manual gradient") as says:
        try:
            first, second = candidate.eager(), candidate.eager()
        except DifferentTreeError as error:
            text = f"params and gradient trees differ: {error}"
            raise TreeMismatch(Report("FAIL", {}, cause=text, seed=candidate.seed), text) from None
        says("eager, twice")
    tree = problem.params
    declared = excluded(options.trainable, tree), accuracies(options.accuracy, tree)
    declared = zip(*declared, expected_zeros(options.expected_zero, tree), strict=True)
    parts = zip(tree.names, problem.own_dtypes, problem.units, map(np.shape, tree.values), declared, strict=True)
    leaves = tuple(
        LeafJudgement(
            path,
            dtype,
            unit,
            shape,
            *said,
            raw=one,
            again=two if one is not None and two is not None and bits_differ(one, two) else None,
        )
        for (path, dtype, unit, shape, said), one, two in zip(parts, first.leaves, second.leaves, strict=True)
    )
    return leaves, first.mutated


def _with(leaf: LeafJudgement, reference: Reference) -> LeafJudgement:
    """A leaf and what is known of it."""
    return replace(leaf, autodiff=reference.r is not None, **vars(reference))


def _slim(f: LeafJudgement, done: bool = False) -> LeafJudgement:
    """The leaf without the noise of its entries, as large as it is, which is asked for only where a leaf passes."""
    return replace(f, entries=None) if done or f.verdict != "PASS" else f


def _all_open(leaves, reason: Reason) -> tuple[LeafJudgement, ...]:
    return tuple(replace(f, verdict="FROZEN") if f.frozen else f.undecided(note(reason)) for f in leaves)


# ---- variants -------------------------------------------------------------------------------------------------------
def _in_all_variants(check: Check, leaves: tuple[LeafJudgement, ...], variants) -> tuple[LeafJudgement, ...]:
    """Runs it jitted and batched, if it is right as it stands: a wrong gradient needs no second trial."""
    if any(f.wrong for f in leaves):
        return leaves
    with check.journal.stated("0 manual gradient") as says:
        ran = []
        for name, call in (("jit", Manual.jitted), ("vmap", Manual.vmapped)):
            if name not in variants:
                continue
            found = call(check.candidate)
            if found.refused:
                check.journal.notes.append(f"the {name} variant was not run: {found.refused}")
                continue
            ran.append(name)
            judged_anew = tuple(with_variant(f, name, leaf) for f, leaf in zip(leaves, found.leaves, strict=True))
            leaves = without_steps(check, name, leaves, judged_anew)
            if any(f.wrong for f in leaves):
                leaves = _blamed(check, call, leaves)
                break
        if ran:
            says(" and ".join(ran))
    return leaves


def _blamed(check: Check, call, leaves: tuple[LeafJudgement, ...]) -> tuple[LeafJudgement, ...]:
    """A variant is at fault if it errs whenever it is traced and the eager call never does: else state is kept."""
    anew = Manual(check.problem, lambda *arguments: check.candidate.grad_fn(*arguments))  # JAX knows no trace of it
    again, once_more = anew.eager(), call(anew)
    blamed = []
    for i, f in enumerate(leaves):
        if f.wrong:
            traced = once_more.leaves[i] if once_more.leaves else f.raw
            apart = [differs(f, leaf, f.raw) for leaf in (again.leaves[i], traced)]
            if apart != [False, True]:
                f = replace(f, cause=Cause(Kind.STATE, ("a later", f.score)))
        blamed.append(f)
    return tuple(blamed)


# ---- what to say ----------------------------------------------------------------------------------------------------
def _diagnosed(check: Check, leaves):
    """The leaves with their causes, the cause of all and where the error starts, if tests of their own confirm them."""
    with check.journal.stated("diagnosis") as says:
        found = diagnose(check.problem, check.candidate, leaves, check.rng("diagnosis"))
        leaves = tuple(_told(f, found.causes.get(i), found.notes.get(i)) for i, f in enumerate(leaves))
        says("named" if found.cause else "no cause could be confirmed")
    return leaves, found.cause, found.starts_at


def _told(f: LeafJudgement, cause: Cause | None, said: Note | Cause | None) -> LeafJudgement:
    """A leaf with what the diagnosis has found of it."""
    cause = cause if f.wrong else f.cause
    by_ties = isinstance(f.note, Note) and f.note.reason is Reason.CANCELLING_TIES  # said of what has no tie, too
    return replace(f, cause=cause, note=said or (None if cause and by_ties else f.note))


def _report(check: Check, leaves, cause=None, starts_at=None, refused=False, agree=True) -> Report:
    """All of it as a Report."""
    problem, journal = check.problem, check.journal
    if journal.spoilt:
        names = ", ".join(journal.spoilt)
        journal.notes.append(f"the loss changes its inputs in place: {names}; each call was given fresh copies")
    verdicts = {f.verdict for f in leaves}
    verdict = "FAIL" if "FAIL" in verdicts or refused else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PASS"
    if verdicts <= {"FROZEN", "EMPTY"} or (verdict == "PASS" and not agree):
        verdict = "INCONCLUSIVE"
    return Report(
        verdict,
        {f.path: row(f) for f in leaves},
        cause,
        starts_at,
        tuple(journal.statements),
        dict(problem.params.skipped),
        (*problem.trace.stripped, *problem.trace.untrusted),
        tuple(dict.fromkeys([*journal.troubles, *journal.notes])),
        check.seed,
    )

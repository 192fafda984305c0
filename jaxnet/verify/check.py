"""check_gradients: the story of one check, from the question to the report."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import numpy as np

from jaxnet.verify.bench import all_witnesses
from jaxnet.verify.beside_kinks import forgive_steps
from jaxnet.verify.blackbox import judge_by_differences
from jaxnet.verify.case import Case
from jaxnet.verify.coverage import branches_not_taken
from jaxnet.verify.diagnosis import diagnose
from jaxnet.verify.equalities import doubt_autodiff_at_equalities
from jaxnet.verify.jaxprs import Tracer, features_lost, outside_of_any_trace, require
from jaxnet.verify.judgement import Cause, Finding, differs, judge, judge_variant, row
from jaxnet.verify.manual import DifferentTreeError, Manual, bits_differ
from jaxnet.verify.options import require_function, require_options, seed_of
from jaxnet.verify.purity import differing, impurity
from jaxnet.verify.report import GradientMismatch, Report, Statement, TreeMismatch, fields
from jaxnet.verify.second_thoughts import reconsider
from jaxnet.verify.tree import frozen
from jaxnet.verify.trouble import RefusedError, exits_refused, tolerated
from jaxnet.verify.truth import empty_batch, true_gradient
from jaxnet.verify.witnesses import Problem, quiet, value_of


@exits_refused()
def check_gradients(
    loss,
    grad_fn,
    params,
    *args,
    argnums: int | Sequence[int] = 0,
    has_aux=False,
    reference=None,
    key=None,
    witnesses="auto",
    directions=5,
    variants=("eager", "jit"),
    kinks="subgradient",
    trainable=None,
    raise_=True,
) -> Report:
    """Proves or refutes that `grad_fn(params, *args)` is the gradient of `loss(params, *args)`.

    Each leaf is compared with autodiff in float64; the tolerance is derived from the problem (see noise.py):

        score = ‖manual − reference‖ / noise,  above 8 warns, above 16 fails

    argnums     which of (params, *args) the gradient is for, as in jax.grad
    reference   another loss with the same value, for autodiff, where the loss hides its inside (pallas, ffi, callbacks)
    key         an integer or PRNG key that seeds the random draws
    witnesses   "auto": reverse mode and float64; "full": forward mode, differences, complex step and relations too
    directions  how many random directions a leaf gets from witnesses 3 to 5
    variants    any of "eager", "jit", "vmap": each is run and compared
    kinks       "subgradient" accepts any value between the one-sided derivatives, "strict" only autodiff's
    trainable   prefix tree of booleans, list of paths, or function of a path; the other leaves are not judged

    Complex leaves follow JAX's convention: dJ = Re(Σ g v) for a step v, so g is the conjugate of ∂J/∂Re + i ∂J/∂Im.

    Raises
        GradientMismatch on FAIL unless raise_=False; it carries the report and its text is the table
        ImportError for a version of JAX whose programs cannot be read
        RuntimeError for a loss or a gradient that calls sys.exit
        TypeError for an argument of another kind, a loss that is no real scalar, parameters without a floating leaf
        ValueError for trees that differ (a TreeMismatch, which is a GradientMismatch too) or a loss that is not finite

    Source: the Taylor test is dolfin-adjoint's; errors over errors, not values, are FlashAttention's.
    """
    require()
    require_function("loss", loss)
    require_function("grad_fn", grad_fn)
    if reference is not None:
        require_function("reference", reference)
    require_options(witnesses, variants, kinks, directions, has_aux)
    begun, seed = time.perf_counter(), seed_of(key)
    _refuse_tracers(params, args)
    with quiet(), outside_of_any_trace():
        problem = Problem(reference if reference is not None else loss, params, args, argnums, has_aux)
        if not problem.params.chosen:
            kinds = (
                ", ".join(f"{p or 'params'} ({k})" for p, k in list(problem.params.skipped.items())[:6])
                or "an empty tree"
            )
            raise RefusedError(f"params has no floating or complex leaf to differentiate; it has {kinds}.")
        check = Check(problem, Manual(problem, grad_fn), seed, int(directions), kinks, trainable)
        report = check.run(witnesses, tuple(variants), _reference_agrees(loss, reference, params, args, has_aux))
    case = Case(
        loss,
        grad_fn,
        params,
        args,
        dict(
            argnums=argnums,
            has_aux=has_aux,
            reference=reference,
            witnesses=witnesses,
            directions=directions,
            variants=tuple(variants),
            kinks=kinks,
        ),
        seed,
    )
    report = Report(**{**fields(report), "case": case, "seconds": time.perf_counter() - begun})
    if report.verdict == "FAIL" and raise_:
        raise GradientMismatch(report)
    return report


class Check:
    """The judgement of one gradient at one point."""

    def __init__(self, problem: Problem, manual: Manual, seed: int, directions: int, kinks: str, trainable):
        """Nothing is run yet."""
        self.problem, self.manual, self.seed = problem, manual, seed
        self.directions, self.kinks = directions, kinks
        self.rng = np.random.default_rng(seed)
        self.findings = [
            Finding(path, dtype, unit, frozen=excluded)
            for path, dtype, unit, excluded in zip(
                problem.params.names,
                problem.own_dtypes,
                problem.units,
                frozen(trainable, problem.params),
                strict=True,
            )
        ]
        self.statements: list[Statement] = []
        self.notes: list[str] = features_lost()
        self.cause = self.starts_at = None

    def run(self, witnesses: str, variants: tuple[str, ...], reference_note: str | None) -> Report:
        """The whole check."""
        if reference_note:
            self.notes.append(reference_note)
        self.begin_to_compile()
        self.manual_gradient()
        known = true_gradient(self)
        if empty_batch(self) or self.loss_is_impure():
            return self.report()
        for finding in self.findings:
            judge(finding)
        if not known:
            judge_by_differences(self)
        reconsider(self)
        self.other_variants(variants)
        if witnesses == "full" and known:
            all_witnesses(self)
        elif known:
            doubt_autodiff_at_equalities(self)
        self.name_the_cause()
        self.hint_at_coverage(witnesses)
        return self.report()

    # ---- the gradient under test -----------------------------------------------------------------------------------
    def manual_gradient(self):
        """Runs it eagerly, twice."""
        begun = time.perf_counter()
        try:
            first, second = self.manual.eager(), self.manual.eager()
        except DifferentTreeError as error:
            text = f"params and gradient trees differ: {error}"
            raise TreeMismatch(Report("FAIL", {}, cause=text, seed=self.seed), text) from None
        for f, value, one, two in zip(
            self.findings, self.problem.params.values, first.leaves, second.leaves, strict=True
        ):
            f.raw, f.shape = one, np.shape(value)
            if one is not None and two is not None and bits_differ(one, two):
                f.variants["second call"] = two
        self.mutated = first.mutated
        self.statements.append(Statement("0 manual gradient", "eager, twice", time.perf_counter() - begun))

    def loss_is_impure(self) -> bool:
        """A loss that gives two values for one input has no gradient that could be judged."""
        self.cause = impurity(self.problem)
        for f in self.findings if self.cause else ():
            f.verdict, f.note = "FROZEN" if f.frozen else "INCONCLUSIVE", "the loss is no function of its input"
        return self.cause is not None

    def begin_to_compile(self):
        """Lets the witnesses be compiled while the gradient under test runs."""
        with tolerated(self.problem, "compiling ahead"):  # true_gradient will meet what the loss raises, and tell it
            self.problem.expect_reverse()
            self.problem.expect_double()

    def other_variants(self, variants):
        """Runs it jitted and batched, if it is right as it stands: a wrong gradient needs no second trial."""
        if any(f.wrong for f in self.findings):
            return
        begun, ran = time.perf_counter(), []
        for name, call in (("jit", Manual.jitted), ("vmap", Manual.vmapped)):
            if name not in variants:
                continue
            run = call(self.manual)
            if run.refused:
                self.notes.append(f"the {name} variant was not run: {run.refused}")
                continue
            ran.append(name)
            before = [dataclasses.replace(f) for f in self.findings]
            for f, leaf in zip(self.findings, run.leaves, strict=True):
                judge_variant(f, name, leaf)
            forgive_steps(self, name, before)
            self.blame_the_variant(call, [f.raw for f in before])
        if ran:
            self.statements.append(Statement("0 manual gradient", " and ".join(ran), time.perf_counter() - begun))

    def blame_the_variant(self, call, eager):
        """A variant is at fault if it errs whenever it is traced and the eager call never does: else state is kept."""
        suspects = [(i, f) for i, f in enumerate(self.findings) if f.wrong]
        if not suspects:
            return
        anew = Manual(self.problem, lambda *arguments: self.manual.grad_fn(*arguments))  # JAX knows no trace of it
        again, once_more = anew.eager(), call(anew)
        for i, f in suspects:
            apart = [differs(f, leaf, eager[i]) for leaf in (again.leaves[i], (once_more.leaves or eager)[i])]
            if apart != [False, True]:
                text = f"a later call differs from the first by {f.score:.2g} x noise: state is kept, or chance"
                f.cause = Cause("state", text)

    # ---- what to say -------------------------------------------------------------------------------------------------
    def name_the_cause(self):
        """Names the bug where a test of its own confirms the name."""
        if self.mutated:
            self.cause = f"grad_fn changes its inputs in place: {', '.join(self.mutated)}"
            return
        if any(f.wrong for f in self.findings):
            begun = time.perf_counter()
            self.cause, self.starts_at = diagnose(self.problem, self.manual, self.findings, self.rng)
            said = "named" if self.cause else "no cause could be confirmed"
            self.statements.append(Statement("diagnosis", said, time.perf_counter() - begun))

    def hint_at_coverage(self, witnesses):
        """Names branches of the manual gradient that were not taken."""
        if witnesses == "full" or (self.manual._trace is None and not any(f.wrong for f in self.findings)):
            with tolerated(self.problem, "the coverage hint"):  # a hint; a gradient that cannot be read again gets none
                self.notes += branches_not_taken(self.problem, self.manual)

    def report(self) -> Report:
        """The findings as a Report."""
        if self.problem.spoilt:
            names = ", ".join(self.problem.spoilt)
            self.notes.append(f"the loss changes its inputs in place: {names}; each call was given fresh copies")
        leaves = {f.path: row(f, np.shape(v)) for f, v in zip(self.findings, self.problem.params.values, strict=True)}
        verdicts = [f.verdict for f in self.findings]
        verdict = (
            "FAIL" if "FAIL" in verdicts or self.mutated else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PASS"
        )
        torn = any(text.startswith("the witnesses disagree") for text in self.notes)
        if all(v in ("FROZEN", "EMPTY") for v in verdicts) or (verdict == "PASS" and torn):
            verdict = "INCONCLUSIVE"
        return Report(
            verdict,
            leaves,
            self.cause,
            self.starts_at,
            tuple(self.statements),
            {p: k for p, k in self.problem.params.skipped.items()},
            (*self.problem.stripped, *self.problem.untrusted),
            tuple(dict.fromkeys([*self.problem.troubles, *self.notes])),
            self.seed,
        )


# ---- small things ----------------------------------------------------------------------------------------------------
def _refuse_tracers(params, args):
    for leaf in jax.tree_util.tree_leaves((params, args)):
        if isinstance(leaf, Tracer):
            raise RefusedError(
                "check_gradients needs values and was given a tracer: call it outside of jit, grad (a jitted loss or "
                "grad_fn is fine)."
            )


def _reference_agrees(loss, reference, params, args, has_aux):
    """Says so when reference= has another value than the loss."""
    if reference is None:
        return None
    values = (f(params, *args) for f in (loss, loss, reference))
    ours, again, theirs = (float(value_of(v, has_aux)) for v in values)
    impure = differing(ours, again, 0.0)
    if impure:
        return f"{impure}; autodiff was taken of reference= (value {theirs:.6g})"
    if abs(ours - theirs) > 1e-2 * max(abs(ours), abs(theirs)):
        raise ValueError(f"reference= is another function: it has value {theirs:.6g} where the loss has {ours:.6g}.")
    return f"autodiff was taken of reference= (value {theirs:.6g}, the loss has {ours:.6g})"

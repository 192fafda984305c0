"""check_gradients and check_vjp: what their arguments mean, and what they raise."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnet.verify.case import Case
from jaxnet.verify.errors import RefusedError, exits_refused
from jaxnet.verify.journal import first_line
from jaxnet.verify.options import (
    Options,
    require_count,
    require_function,
    require_keywords,
    require_known,
    seed_of,
    verdicts_that_raise,
)
from jaxnet.verify.pipeline import run
from jaxnet.verify.problem.arguments import argument_names, require_taken
from jaxnet.verify.problem.loss import Problem, differing, quiet, scalar_of
from jaxnet.verify.problem.rule import Ruled
from jaxnet.verify.problem.trees import wide
from jaxnet.verify.program.jaxprs import Tracer, outside_of_any_trace, require
from jaxnet.verify.report import GradientInconclusive, GradientMismatch, Report
from jaxnet.verify.rule_checks import Question, departure, with_rule_checks
from jaxnet.verify.second_order import FirstOrder, with_second_order
from jaxnet.verify.sizes import norm

ALIKE = 1e-2  # of a value, by which that of reference= may differ


@exits_refused
def check_gradients(
    loss,
    grad_fn,
    params,
    *args,
    argnums=0,
    has_aux=False,
    reference=None,
    key=None,
    witnesses="auto",
    directions=5,
    variants=("eager", "jit"),
    kinks="subgradient",
    trainable=None,
    accuracy=None,
    expected_zero=None,
    order=1,
    raise_=True,
    **unknown,
) -> Report:
    """Proves or refutes that `grad_fn(params, *args)` is the gradient of `loss(params, *args)`.

    Each leaf is compared with autodiff in float64; the tolerance is derived from the problem (see noise.py):

        score = ‖manual − reference‖ / noise,  above 8 warns, above 16 fails

    argnums        which of (params, *args) the gradient is for, as in jax.grad; of several the leaves are called by the
                   names that the loss has for them
    reference      another loss with the same value, for autodiff: where the loss hides its inside (pallas, ffi,
                   callbacks), or where the gradient that is meant is not its derivative (a straight-through loss)
    key            an integer or PRNG key that seeds the random draws
    witnesses      "auto": reverse mode and float64; "full": forward mode, differences, complex step and relations too
    directions     how many random directions a leaf gets from witnesses 3 to 5
    variants       any of "eager", "jit", "vmap": each is run and compared
    kinks          "subgradient" accepts any value between the one-sided derivatives, "strict" only autodiff's
    trainable      prefix tree of booleans, list of paths, or function of a path; the other leaves are not judged
    accuracy       how exact the gradient is meant to be where that is less than rounding (adjoints, implicit solves,
                   truncated series, kernels in low precision): an error up to this share of a leaf's norm, and of its
                   largest entry, passes and no larger one; a number, or a prefix tree of numbers
    expected_zero  leaves that are dead on purpose, in the forms of `trainable`: zero passes, and nothing else does
    order          1, or 2 for the derivative of the gradient as well: that of ⟨grad_fn, v⟩, for one random v and by
                   autodiff through grad_fn's own code, has to be that of ⟨∇J, v⟩, a Hessian product; its leaves are
                   called "w, order 2". INCONCLUSIVE where JAX cannot differentiate grad_fn (NumPy, callbacks)
    raise_         True: whatever is not PASS raises; "fail": FAIL alone; False: nothing does; "inconclusive" is True

    Complex leaves follow JAX's convention: dJ = Re(Σ g v) for a step v, so g is the conjugate of ∂J/∂Re + i ∂J/∂Im.

    >>> loss, by_hand = lambda w: jnp.sum(jnp.sin(w)), lambda w: jnp.cos(w)
    >>> jaxnet.check_gradients(loss, by_hand, jnp.arange(4.0)).passed
    True

    Raises
        GradientMismatch on FAIL; it carries the report and its text is the table
        GradientInconclusive on INCONCLUSIVE: nothing was proved; the same, with what would help
        ImportError for a version of JAX whose programs cannot be read
        RuntimeError for a loss or a gradient that calls sys.exit
        TypeError for an argument of another kind, a loss that is no real scalar, parameters without a floating leaf
        ValueError for trees that differ (a TreeMismatch, which is a GradientMismatch too) or a loss that is not finite

    Source: the Taylor test is dolfin-adjoint's; errors over errors, not values, are FlashAttention's.
    """
    __tracebackhide__ = True  # pytest shows the test, and not these calls
    require()
    require_known(check_gradients, unknown, "A keyword argument of the loss is bound by functools.partial.")
    require_function("loss", loss)
    require_function("grad_fn", grad_fn)
    if reference is not None:
        require_function("reference", reference)
        require_taken("reference", reference, (params, *args))
    options = Options(
        witnesses, directions, variants, kinks, trainable, accuracy, expected_zero, has_aux, raise_, order
    )
    begun, seed = time.perf_counter(), seed_of(key)
    _refuse_tracers("check_gradients", (params, args))
    names = None if isinstance(argnums, (int, np.integer)) else argument_names(loss, (params, *args))
    with quiet(), outside_of_any_trace():
        problem = Problem.of(loss if reference is None else reference, params, args, argnums, has_aux, names)
        if not problem.params.chosen:
            skipped = list(problem.params.skipped.items())[:6]
            kinds = ", ".join(f"{p or 'params'} ({k})" for p, k in skipped) or "an empty tree"
            raise RefusedError(f"params has no floating or complex leaf to differentiate; it has {kinds}.")
        note = None
        if reference is not None:
            call = lambda function: [scalar_of(function(params, *args), has_aux)]
            note = _reference_agrees(call(loss), call(loss), call(reference))
        report, problem = _judged(problem, grad_fn, options, seed, note)
        if options.order == 2:
            report = with_second_order(report, FirstOrder(problem, grad_fn, options, seed))
    asked = {"argnums": argnums, "reference": reference}
    case = Case(loss, grad_fn, params, args, asked | _as_asked(options), seed)
    return _told(dataclasses.replace(report, case=case, seconds=time.perf_counter() - begun), options)


@exits_refused
def check_vjp(
    f,
    *primals,
    argnums=None,
    kwargs=None,
    has_aux=False,
    reference=None,
    intended=None,
    key=None,
    cotangents=2,
    witnesses="auto",
    directions=5,
    variants=("eager", "jit"),
    kinks="subgradient",
    trainable=None,
    accuracy=None,
    expected_zero=None,
    order=1,
    raise_=True,
    **unknown,
) -> Report:
    """Proves or refutes the custom_vjp or custom_jvp rule that `f` carries, against its own stripped primal.

        ⟨c, f(x)⟩ is differentiated through the rule and without it, for random cotangents c

    and the value that fwd returns is compared with f(x). f may return any tree; its floating outputs get a cotangent
    each. Leaves are called as f calls its arguments.

    argnums     the primals to check, by default all that hold a floating leaf, that the rule does not declare
                nondiff_argnums and that it does not refuse to differentiate
    kwargs      keyword arguments of f; they are held
    has_aux     f returns (out, auxiliary), as in jax.vjp
    reference   the same function in plain jax.numpy, with f's own signature: where f hides its inside (pallas, ffi,
                callbacks) and a rule cannot be compared with it
    intended    the rule that is meant, where that is not the derivative (straight-through, surrogate, reversal, clips):

                    intended(*primals, cotangent, **kwargs) -> cotangents of the primals that vary

                All primals are handed over as in the call, then a cotangent in the tree of f's output. It returns what
                a bwd of those that vary would: a tuple with a tree like each, or for one primal that tree alone; None
                stands for no gradient. The rule is compared with it, the report says how far it is from the derivative,
                and what it does not do linearly the rule need not. It has to be written in jax.numpy.
    cotangents  how many random cotangents are drawn
    order       1, or 2 for the derivative of the rule as well, by autodiff through fwd and bwd, for the primals and for
                the cotangent: it has to be that of f's own gradient, or of intended=

    The others are those of `check_gradients`, which says what is raised.

    >>> cube = jax.custom_vjp(lambda x: x**3)
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, ct: (2 * x**2 * ct,))
    >>> jaxnet.check_vjp(cube, jnp.arange(1.0, 4.0), raise_=False).verdict
    'FAIL'
    """
    __tracebackhide__ = True
    require()
    require_known(check_vjp, unknown, "A keyword argument of f goes into kwargs={{{name!r}: ...}}.")
    require_function("f", f)
    for name, function in (("reference", reference), ("intended", intended)):
        if function is not None:
            require_function(name, function)
    if reference is not None:
        require_taken("reference", reference, primals, require_keywords(kwargs))
    require_count("cotangents", cotangents)
    kwargs = require_keywords(kwargs)
    options = Options(
        witnesses, directions, variants, kinks, trainable, accuracy, expected_zero, has_aux, raise_, order
    )
    begun, seed = time.perf_counter(), seed_of(key)
    _refuse_tracers("check_vjp", (primals, kwargs))
    with quiet(), outside_of_any_trace():
        ruled = Ruled(f, primals, argnums, kwargs, has_aux)
        report = _rule_judged(ruled.without_refused(), reference, intended, int(cotangents), options, seed)
    asked = {"argnums": argnums, "kwargs": kwargs or None, "reference": reference, "intended": intended}
    asked |= {"cotangents": cotangents} | _as_asked(options)
    case = Case(f, None, primals[0], primals[1:], asked, seed, "check_vjp")
    return _told(dataclasses.replace(report, case=case, seconds=time.perf_counter() - begun), options)


def _rule_judged(ruled: Ruled, reference, intended, cotangents: int, options: Options, seed: int) -> Report:
    """The report on a rule: at the first random cotangent that refutes it, or else at one that tells most."""
    rng, plain = np.random.default_rng(seed), ruled.paired(ruled.f if reference is None else reference)
    if intended is not None:
        ruled.require_traceable(intended)
    loss, agreed = plain if intended is None else ruled.stated(intended), _agreement(ruled, reference)
    found: list[tuple[Report, Problem, list]] = []
    for _ in range(cotangents):
        cotangent = ruled.cotangent(rng)
        found.append((*_judged(ruled.problem(loss, cotangent), ruled.rule, options, seed, agreed), cotangent))
        if found[-1][0].verdict == "FAIL":
            break
    report, problem, cotangent = min(found, key=lambda one: ("FAIL", "PASS", "INCONCLUSIVE").index(one[0].verdict))
    derived, notes = None, []
    if intended is not None:
        derived, said = _beside_the_derivative(problem, ruled.problem(plain, cotangent))
        notes.append(said)
    report = with_rule_checks(report, Question(ruled, problem, rng, intended, derived))
    if options.order == 2:
        report = with_second_order(report, _second_order(ruled, problem, intended, options, seed))
    verdict = report.verdict
    if not ruled.rules and reference is None and intended is None:
        notes.append("f carries no custom rule: JAX's derivative was compared with itself, nothing is proved")
        verdict = "INCONCLUSIVE" if verdict == "PASS" else verdict
    return dataclasses.replace(
        report,
        verdict=verdict,
        notes=(*notes, *report.notes, *ruled.unseen),
        skipped={**report.skipped, **ruled.skipped},
        stripped=ruled.rules,
    )


def _second_order(ruled: Ruled, problem: Problem, intended, options: Options, seed: int) -> FirstOrder:
    """The rule as a gradient that has a derivative of its own."""

    def meant(values, given):
        *primals, cotangent = problem.arguments(values, given)
        return ruled.meant(intended, primals, cotangent)

    count, stated = len(ruled.floating), None if intended is None else meant
    return FirstOrder(problem, ruled.rule, options, seed, "rule", count, stated)


def _judged(problem: Problem, grad_fn, options: Options, seed: int, note: str | None) -> tuple[Report, Problem]:
    """The report on one gradient of one problem, and that as it is known by then."""
    return run(problem, grad_fn, seed, options, [] if note is None else [note])


def _told(report: Report, options: Options) -> Report:
    """The report, or the error that carries it."""
    __tracebackhide__ = True
    if report.verdict in verdicts_that_raise(options.raise_):
        raise GradientMismatch(report) if report.verdict == "FAIL" else GradientInconclusive(report)
    return report


def _as_asked(options: Options) -> dict[str, Any]:
    """What to call a check with to have these options again; what is said of leaves stands in the report."""
    names = ("has_aux", "witnesses", "directions", "kinks", "accuracy")
    asked = {name: getattr(options, name) for name in names} | {"variants": tuple(options.variants)}
    return asked | ({"order": int(options.order)} if options.order != 1 else {})


def _refuse_tracers(checker: str, arguments):
    for leaf in jax.tree_util.tree_leaves(arguments):
        if isinstance(leaf, Tracer):
            raise RefusedError(
                f"{checker} needs values and was given a tracer: call it outside of jit, grad (a jitted function is "
                "fine)."
            )


def _agreement(ruled: Ruled, reference) -> str | None:
    """Says that autodiff is taken of reference=; raises where that is another function than f."""
    if reference is None:
        return None
    ruled.require_like(reference)
    values = (ruled.outputs(ruled.tree.values, function) for function in (ruled.f, ruled.f, reference))
    return _reference_agrees(*([outs[i] for i in ruled.floating] for outs in values))


def _reference_agrees(ours: Sequence, again: Sequence, theirs: Sequence) -> str:
    """Says that autodiff is taken of reference=, which returns `theirs`; raises ValueError for another function."""
    for k, outs in enumerate(zip(ours, again, theirs, strict=True)):
        one, two, other = map(wide, outs)
        impure = differing(norm(one), norm(two), 0.0)
        if impure:
            return f"{impure}; autodiff was taken of reference="
        if norm(one - other) > ALIKE * max(norm(one), norm(other)):
            at = np.unravel_index(int(np.nanargmax(np.abs(one - other))), one.shape)
            where = f"output {k}" if len(ours) > 1 else "its value"
            where += f", [{', '.join(map(str, at))}]," if at else ""
            raise ValueError(
                f"reference= is another function: {where} is {other[at]:.6g} where that of the function under test is "
                f"{one[at]:.6g}."
            )
    return "autodiff was taken of reference="


def _beside_the_derivative(stated: Problem, derived: Problem) -> tuple[Problem, str]:
    """The problem of the derivative of f, traced if it can be, and by how much intended= differs; or why not known."""
    try:
        derived = derived.traced()
        return derived, departure(stated, derived)
    except Exception as error:  # no derivative in float64
        return derived, f"intended= was not compared with the derivative of f: {first_line(error)}"

"""check_gradients and check_vjp: the story of one check, from the question to the report."""

import contextlib
import time
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.case import Case
from jaxnet.verify.coverage import branches_not_taken
from jaxnet.verify.diagnosis import diagnose
from jaxnet.verify.interpret import UnreadableError
from jaxnet.verify.kinks import Subgradients
from jaxnet.verify.manual import DifferentTreeError, Manual, bits_differ
from jaxnet.verify.noise import FAIL, WARN, Noise, largest, noise_of, norm, ratio, resolution, score, ulps
from jaxnet.verify.relations import relations
from jaxnet.verify.report import GradientMismatch, LeafReport, Report, Statement, TreeMismatch
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.strip import used_inputs
from jaxnet.verify.tree import called, is_frozen, wide
from jaxnet.verify.witnesses import Problem, direction, inner_product, quiet

DRAWS = 3
DIFFERENCES_LIMIT = 256  # coordinates that finite differences may be asked for one at a time
FORWARD_LIMIT = 512  # coordinates that forward mode may be asked for one at a time


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
        TypeError for a loss that is no real scalar or parameters without a floating leaf
        ValueError for trees that differ (a TreeMismatch, which is a GradientMismatch too) or a loss that is not finite

    Source: the Taylor test is dolfin-adjoint's; errors over errors, not values, are FlashAttention's.
    """
    _check_options(witnesses, variants, kinks, directions)
    begun = time.perf_counter()
    seed = _seed(key)
    _refuse_tracers(params, args)
    with quiet(), _outside_of_any_trace():
        problem = Problem(reference if reference is not None else loss, params, args, argnums, has_aux)
        if not problem.params.chosen:
            kinds = (
                ", ".join(f"{p or 'params'} ({k})" for p, k in list(problem.params.skipped.items())[:6])
                or "an empty tree"
            )
            raise TypeError(f"params has no floating or complex leaf to differentiate; it has {kinds}.")
        check = Check(problem, Manual(problem, grad_fn), seed, directions, kinks, trainable)
        report = check.run(witnesses, tuple(variants), _reference_agrees(loss, reference, params, args, has_aux))
    case = Case(
        loss,
        grad_fn,
        params,
        args,
        dict(
            argnums=argnums,
            has_aux=has_aux,
            witnesses=witnesses,
            directions=directions,
            variants=tuple(variants),
            kinks=kinks,
        ),
        seed,
    )
    report = Report(**{**_fields(report), "case": case, "seconds": time.perf_counter() - begun})
    if report.verdict == "FAIL" and raise_:
        raise GradientMismatch(report)
    return report


def check_vjp(f, *primals, argnums=None, key=None, cotangents=2, raise_=True, **options) -> Report:
    """Proves or refutes the custom_vjp or custom_jvp rule that `f` carries, against its own stripped primal.

        ⟨c, f(x)⟩ is differentiated through the rule and without it, for random cotangents c

    f(*primals) may return any tree; its floating outputs get a cotangent each. `argnums` are the primals to check, by
    default all that hold a floating leaf. The other options are those of `check_gradients`.

    Raises as check_gradients does.
    """
    seed = _seed(key)
    chosen = argnums if argnums is not None else tuple(i for i, p in enumerate(primals) if _has_floats(p))
    if chosen == ():
        raise TypeError("check_vjp needs at least one primal with a floating leaf.")
    with quiet(), _outside_of_any_trace():
        outputs = jax.eval_shape(f, *primals)
    shapes, _ = jax.tree_util.tree_flatten(outputs)
    floating = [i for i, s in enumerate(shapes) if jnp.issubdtype(s.dtype, jnp.inexact)]
    if not floating:
        raise TypeError("check_vjp needs a function with a floating output; f returns none.")

    def paired(*arguments):
        *inputs, weights = arguments
        outs = jax.tree_util.tree_leaves(f(*inputs))
        terms = [
            jnp.sum(jnp.real(w * outs[i]).astype(_real(outs[i].dtype))) for w, i in zip(weights, floating, strict=True)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term.astype(total.dtype)
        return total

    def rule(*arguments):
        return jax.grad(paired, argnums=chosen)(*arguments)

    rng = np.random.default_rng(seed)
    reports = []
    for _ in range(cotangents):
        weights = [_cotangent(rng, shapes[i]) for i in floating]
        reports.append(
            check_gradients(paired, rule, *primals, weights, argnums=chosen, key=seed, raise_=False, **options)
        )
        if reports[-1].verdict == "FAIL":
            break
    order = {"FAIL": 0, "PASS": 1, "INCONCLUSIVE": 2}
    report = min(reports, key=lambda r: order[r.verdict])
    with quiet(), _outside_of_any_trace():
        report = _linear(report, f, primals, chosen, shapes, floating, rng)
    if not report.stripped:
        note = "f carries no custom rule of its own: JAX's derivative was compared with itself"
        report = Report(**{**_fields(report), "notes": (*report.notes, note)})
    if report.verdict == "FAIL" and raise_:
        raise GradientMismatch(report)
    return report


@dataclass
class Finding:
    """One leaf while it is being judged."""

    path: str
    dtype: np.dtype
    unit: float
    r: np.ndarray | None = None
    raw: np.ndarray | None = None
    shape: tuple[int, ...] = ()
    autodiff: bool = False
    noise: Noise = field(default_factory=lambda: Noise(0.0, 0.0))
    score: float = 0.0
    verdict: str = "PASS"
    cause: str | None = None
    note: str | None = None
    worst: tuple[int, ...] | None = None
    frozen: bool = False
    unused: bool = False
    variants: dict = field(default_factory=dict)

    @property
    def g(self) -> np.ndarray | None:
        """The gradient under test in double precision; made when asked for, to keep memory small."""
        return _numbers(self.raw, self.shape)

    @property
    def wrong(self) -> bool:
        """Whether the leaf has failed so far."""
        return self.verdict == "FAIL"

    @property
    def comparable(self) -> bool:
        """Whether g and r are there and of one shape."""
        return self.raw is not None and self.r is not None and np.shape(self.raw) == np.shape(self.r)


class Check:
    """The judgement of one gradient at one point."""

    def __init__(self, problem: Problem, manual: Manual, seed: int, directions: int, kinks: str, trainable):
        """Nothing is run yet."""
        self.problem, self.manual, self.seed = problem, manual, seed
        self.directions, self.kinks = directions, kinks
        self.rng = np.random.default_rng(seed)
        self.findings = [
            Finding(path, dtype, unit, frozen=is_frozen(path, i, trainable, problem.params))
            for i, (path, dtype, unit) in enumerate(
                zip(problem.params.names, problem.own_dtypes, problem.units, strict=True)
            )
        ]
        self.statements: list[Statement] = []
        self.notes: list[str] = []
        self.cause = self.starts_at = None

    def run(self, witnesses: str, variants: tuple[str, ...], reference_note: str | None) -> Report:
        """The whole check."""
        if reference_note:
            self.notes.append(reference_note)
        self.manual_gradient()
        known = self.true_gradient()
        if self.empty_batch():
            return self.report()
        for finding in self.findings:
            self.judge(finding)
        if not known:
            self.by_differences(fallback=True)
        self.reconsider()
        self.other_variants(variants)
        if witnesses == "full" and known:
            self.all_witnesses()
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

    def other_variants(self, variants):
        """Runs it jitted and batched, if it is right as it stands: a wrong gradient needs no second trial."""
        if any(f.wrong for f in self.findings):
            return
        begun, ran = time.perf_counter(), []
        for name, call in (("jit", self.manual.jitted), ("vmap", self.manual.vmapped)):
            if name not in variants:
                continue
            run = call()
            if run.refused:
                self.notes.append(f"the {name} variant was not run: {run.refused}")
                continue
            ran.append(name)
            for f, leaf in zip(self.findings, run.leaves, strict=True):
                self.judge_variant(f, name, leaf)
        if ran:
            self.statements.append(Statement("0 manual gradient", " and ".join(ran), time.perf_counter() - begun))

    # ---- the truth -------------------------------------------------------------------------------------------------
    def true_gradient(self) -> bool:
        """Witnesses 1 and 2 and the noise; false if the loss is a black box."""
        problem = self.problem
        try:
            problem.traced()
        except TypeError as error:
            if "must return a" in str(error):
                raise
            return self.black_box(error)
        except Exception as error:  # a loss in NumPy refuses tracers in its own way
            return self.black_box(error)
        if problem.opaque:
            what = ", ".join(problem.opaque)
            self.notes.append(
                f"the loss hides its inside in {what}: pass reference=, the same loss in plain jax.numpy, to "
                "compare every coordinate. Finite differences along directions were used instead."
            )
            if set(problem.opaque) & {"pure_callback", "io_callback", "ffi_call"}:
                self.require_finite_value()
                return False
        for f, used in zip(self.findings, used_inputs(problem.trace.jaxpr), strict=False):
            f.unused = not used
        value, own, draws = self.own_precision()
        value64 = self.double_precision(own, draws)
        self.require_finite(value, value64, own is not None)
        return all(f.r is not None for f in self.findings)

    def own_precision(self):
        """Witness 1, and what it makes of inputs that are one unit of rounding away."""
        begun = time.perf_counter()
        name = f"1 reverse autodiff ({'/'.join(dict.fromkeys(str(d) for d in self.problem.own_dtypes))})"
        try:
            value, grads = self.problem.reverse()
        except Exception as error:  # e.g. reverse mode through a while loop
            said = f"cannot: {_first_line(error)}"
            self.statements.append(Statement(name, said, time.perf_counter() - begun))
            return float("nan"), None, None
        draws = [[] for _ in grads]
        for k in range(DRAWS):
            _, moved = self.problem.reverse(self.seed + 1 + k, 1.0)
            for i, m in enumerate(moved):
                gap = wide(m) - wide(grads[i])
                draws[i].append((norm(gap), largest(gap)))
        said = f"loss {value:.6g}; gradient taken, and at {DRAWS} inputs one rounding away"
        self.statements.append(Statement(name, said, time.perf_counter() - begun))
        return value, grads, draws

    def double_precision(self, own, draws):
        """Witness 2; by forward mode if the program cannot be reversed and is small."""
        begun = time.perf_counter()
        size = sum(np.size(v) for v in self.problem.params.values)
        name, said, value = "2 the same in float64", None, float("nan")
        try:
            if own is None:
                if size > FORWARD_LIMIT:
                    raise UnreadableError(f"no reverse mode, and {size} coordinates are too many for forward mode")
                name = "2 forward mode in float64, each coordinate"
                value, grads = self.problem.double_forward()
            else:
                value, grads = self.problem.double()
            for i, (f, r) in enumerate(zip(self.findings, grads, strict=True)):
                f.r, f.autodiff = r, True
                f.noise = noise_of(r, None if own is None else wide(own[i]), draws[i] if draws else [], f.unit)
            gaps = [ratio(f.noise.terms[0], norm(f.r)) for f in self.findings if own is not None and norm(f.r) > 0]
            said = f"loss {value:.6g}"
            if gaps:
                said += f"; witness 1 is within {max(gaps):.1e} of it on every leaf"
        except Exception as error:  # an operation with no float64 form, a program that cannot be differentiated
            said = f"cannot: {_first_line(error)}"
        self.statements.append(Statement(name, said, time.perf_counter() - begun))
        return value

    def black_box(self, error) -> bool:
        """The loss cannot be traced: only its values are left."""
        self.problem.trace = None
        self.notes.append(
            f"the loss cannot be traced ({_first_line(error)}): finite differences along directions only; "
            "reference=, the same loss in jax.numpy, would let every coordinate be compared"
        )
        self.require_finite_value()
        return False

    def require_finite_value(self):
        """Refuses a black box that is not finite at the point."""
        value = self.problem.value([wide(v) for v in self.problem.params.values])
        if not np.isfinite(value) and not self._no_examples():
            raise ValueError(f"loss is {value} at the test point (seen by witness 4, values in float64).")

    def require_finite(self, value, value64, spoke: bool):
        """Refuses a loss that is not finite at the point, naming the witness that saw it."""
        seen = [w for w, v in (("1 (own dtype)", value), ("2 (float64)", value64)) if not np.isfinite(v)]
        if not spoke:
            seen = [w for w in seen if not w.startswith("1")]
        if not seen or self._no_examples() or all(f.r is None for f in self.findings):
            return
        other = ""
        if len(seen) == 1 and spoke:
            fine = value64 if seen[0].startswith("1") else value
            other = f"; the other witness has {fine:.6g}, so it is the loss that overflows or cancels in its dtype"
        bad = value if not np.isfinite(value) else value64
        raise ValueError(f"loss is {bad} at the test point, seen by witness {' and '.join(seen)}{other}.")

    def _no_examples(self) -> bool:
        return any(np.size(x) == 0 for x in self.problem.given.values)

    def empty_batch(self) -> bool:
        """An empty batch has no gradient to check."""
        if not self._no_examples():
            return False
        for f in self.findings:
            f.verdict, f.note = "INCONCLUSIVE", "an empty array among the arguments: no example to check on"
        return True

    # ---- the judgement ---------------------------------------------------------------------------------------------
    def judge(self, f: Finding):
        """Error over noise for one leaf, in its worst variant."""
        if f.frozen:
            f.verdict = "FROZEN"
            return
        if f.raw is None:
            f.verdict, f.cause = "FAIL", "no gradient for this leaf (None)"
            return
        if f.r is None:
            return
        if np.shape(f.raw) != np.shape(f.r):
            f.verdict, f.score = "FAIL", float("inf")
            return
        self.second_call(f)
        f.score = score(f.g, f.r, f.noise)
        self.grade(f)

    def judge_variant(self, f: Finding, name: str, leaf):
        """A variant of a gradient that is right when called eagerly."""
        if f.frozen or leaf is None or f.raw is None or not bits_differ(leaf, f.raw):
            return
        there = _numbers(leaf, f.shape)
        if there.shape != f.shape:
            far = float("inf")
        elif f.r is None or f.note in ("autodiff is not finite here",):
            far = score(
                there,
                f.g,
                Noise(4 * f.unit * norm(f.g), 4 * f.unit * largest(f.g)).widened(f.noise.norm, f.noise.entry),
            )
        else:
            # A subgradient may be another one in another variant; what differs from eager is what counts.
            far = min(
                score(there, f.r, f.noise),
                score(there, f.g, f.noise.widened(f.unit * norm(f.g), f.unit * largest(f.g))),
            )
        if far > FAIL:
            f.verdict, f.score, f.raw = "FAIL", far, leaf
            f.cause = f"wrong only under {name}: the eager call is right"
        elif f.verdict == "PASS":
            f.score = max(f.score, far)

    def second_call(self, f: Finding):
        """A second call that differs is noise while it is small and a fault of its own beyond."""
        again = f.variants.pop("second call", None)
        if again is None:
            return
        again = _numbers(again, f.shape)
        gap = again - f.g if again.shape == f.shape else np.full(f.shape, np.inf)
        far = max(ratio(norm(gap), f.noise.norm), ratio(largest(gap), f.noise.entry))
        if far > FAIL:
            f.verdict = "FAIL"
            f.cause = f"the second call differs from the first by {far:.2g} x noise: state is kept, or chance"
        else:
            f.note = f"the second call differs in its bits, by {far:.2g} x noise"
            f.noise = f.noise.widened(norm(gap), largest(gap))

    def grade(self, f: Finding):
        """From score and resolution to a verdict."""
        if f.verdict == "FAIL" and f.cause:
            f.score = max(f.score, float(np.nextafter(FAIL, np.inf)))
            return
        size = norm(f.r)
        if not np.isfinite(f.r).all():
            f.verdict, f.note = "INCONCLUSIVE", "autodiff is not finite here"
        elif f.score > FAIL:
            f.verdict = "FAIL"
        elif f.r.size == 0:
            f.verdict, f.note = "INCONCLUSIVE", "the leaf has no entries"
        elif f.unused:
            f.verdict, f.note = "PASS", "the loss does not use this leaf, and its gradient is exactly zero"
        elif size == 0.0:
            f.verdict, f.note = "INCONCLUSIVE", "the true gradient is exactly zero here (dead or saturated)"
        elif resolution(f.r, f.noise) >= 1.0:
            f.verdict = "INCONCLUSIVE"
            f.note = "the true gradient is below the noise: a zero would have passed" + self._why_noisy(f)
        else:
            f.verdict = "PASS"
            if f.score > WARN:
                f.note = f"warning: {f.score:.1f} x noise is more than a correct gradient usually shows"

    @staticmethod
    def _why_noisy(f: Finding) -> str:
        gap, shaken, rounding = f.noise.terms[:3]
        if rounding >= max(gap, shaken):
            return " (rounding)"
        if shaken > gap:
            return f" (one rounding of the inputs moves it by {ratio(shaken, norm(f.r)):.1g}: chaotic or saturated)"
        return f" (autodiff is off by {ratio(gap, norm(f.r)):.1g} of it in {f.dtype}: saturated, or the loss cancels)"

    # ---- second thoughts about a failure -----------------------------------------------------------------------------
    def reconsider(self):
        """Before a leaf fails: a kink? a formula that cancels? an autodiff that is wrong itself?"""
        if self.kinks == "subgradient":
            self.between_one_sided_derivatives()
        suspects = [
            f
            for f in self.findings
            if f.comparable and not f.cause and f.score > WARN and f.verdict in ("FAIL", "PASS")
        ]
        if suspects:
            self.excused_by_rounding(suspects)
        self.autodiff_in_doubt()

    def between_one_sided_derivatives(self):
        """Accepts a subgradient, and says so."""
        if any(f.r is None for f in self.findings) or not self.problem.has_kinks():
            return
        doubtful = [
            i
            for i, f in enumerate(self.findings)
            if f.wrong and f.comparable and not f.cause and np.isfinite(f.g).all()
        ]
        torn = [
            i
            for i, f in enumerate(self.findings)
            if f.verdict == "INCONCLUSIVE"
            and f.comparable
            and f.noise.terms[1:2]
            and f.noise.terms[1] > 4 * max(f.noise.terms[0], f.noise.terms[2])
        ]
        if not doubtful and not torn:
            return
        if doubtful and not torn and not self._moves_by_a_hair(doubtful):
            return
        begun = time.perf_counter()
        try:
            between = Subgradients(self.problem, [f.r for f in self.findings])
        except Exception as error:  # no float64 form
            self.notes.append(f"kinks were not examined: {_first_line(error)}")
            return
        accepted = []
        for i in doubtful + torn:
            f = self.findings[i]
            strict = Noise(
                max(f.unit * norm(f.r), _or_zero(f.noise.terms[0])), max(f.unit * largest(f.r), f.unit * largest(f.g))
            )
            noise = f.noise if i in doubtful else strict
            if between.wide(i, noise) and between.holds(i, f.g, noise):
                at = np.unravel_index(int(np.argmax(np.abs(f.g - f.r))), f.r.shape)
                low, high = between.interval(i, at)
                f.verdict = "PASS"
                f.note = (
                    f"a subgradient: at a kink the manual {_short(f.g[at])} and autodiff's {_short(f.r[at])} both "
                    f"lie in [{low:.3g}, {high:.3g}]; a convention, no error"
                )
                f.noise = noise
                f.score = score(
                    np.clip(f.r, np.minimum(between.low[i], f.g), np.maximum(between.high[i], f.g)), f.r, noise
                )
                accepted.append(f.path)
        said = (
            f"one-sided gradients taken; {len(accepted)} leaves are subgradients"
            if accepted
            else "no kink explains the difference"
        )
        self.statements.append(Statement("kinks", said, time.perf_counter() - begun))

    def _moves_by_a_hair(self, leaves) -> bool:
        """Whether the float64 gradient jumps, a hair away, by as much as the error: a kink may explain it."""
        hair = 8.0 * max(self.problem.units)
        for _ in range(2):
            near = []
            for v in map(wide, self.problem.params.values):
                scale = float(np.sqrt(np.mean(np.abs(v) ** 2))) if v.size else 0.0
                near.append(v + hair * (scale or 1.0) * self.rng.choice([-1.0, 1.0], v.shape))
            there = self.problem.double(near)[1]
            if any(
                norm(there[i] - self.findings[i].r) > 0.01 * norm(self.findings[i].g - self.findings[i].r)
                for i in leaves
            ):
                return True
        return False

    def excused_by_rounding(self, suspects):
        """A formula that is right in float64 and cancels in the leaf's dtype is not an error."""
        begun = time.perf_counter()
        try:
            own = OwnRounding(self.problem, self.manual, self.seed)
        except Exception as error:  # an operation that cannot be read again
            self.notes.append(f"the formula's own rounding was not examined: {_first_line(error)}")
            return
        if not own.traceable:
            return
        exact = own.exact()
        candidates = [
            i
            for i, f in enumerate(self.findings)
            if f in suspects
            and exact is not None
            and exact[i].shape == f.r.shape
            and score(exact[i], f.r, f.noise) <= FAIL
        ]
        excused = []
        rounding = own.noise() if candidates else []
        for i in candidates:
            f = self.findings[i]
            wider = f.noise.widened(*rounding[i])
            if not np.isfinite(rounding[i][0]) or score(f.g, f.r, wider) > FAIL:
                continue
            excess, place = f.score, own.where()
            f.noise, f.score, f.verdict = wider, score(f.g, f.r, wider), "PASS"
            self.grade(f)
            f.note = f"the formula as written cancels in {f.dtype}" + (f" at {place}" if place else "")
            f.note += f" ({excess:.2g} x the noise of autodiff; exact in float64)"
            excused.append(f.path)
        said = (
            f"{len(excused)} leaves are right in float64 and lose digits as written" if excused else "explains nothing"
        )
        self.statements.append(Statement("own rounding", said, time.perf_counter() - begun))

    def autodiff_in_doubt(self):
        """Asks finite differences who is right, along the difference itself."""
        doubtful = [
            i
            for i, f in enumerate(self.findings)
            if f.comparable
            and f.autodiff
            and (f.wrong or f.note == "autodiff is not finite here")
            and np.isfinite(f.g).all()
        ]
        if not doubtful:
            return
        begun = time.perf_counter()
        x = [wide(v) for v in self.problem.params.values]
        agree = against = 0
        try:
            level = self.problem.value(x)
            for i in doubtful[:8]:
                f = self.findings[i]
                finite = np.isfinite(f.r).all()
                v = np.conj(f.g - f.r) if finite else direction(self.rng, x[i])
                v = v / max(largest(v), 1e-300) * (float(np.sqrt(np.mean(np.abs(x[i]) ** 2))) or 1.0)
                found = differences.slope(self.problem.value, x, i, v, level)
                if found is None:
                    continue
                manual = inner_product(f.g, v) - found.central
                if not finite:
                    noise = found.error + f.unit * float(np.sum(np.abs(f.g * v)))
                    right = abs(manual) <= FAIL * noise
                    if found.kinked:
                        f.verdict, f.note = (
                            "INCONCLUSIVE",
                            "autodiff is not finite at this kink; values differ from side to side",
                        )
                    elif not right:
                        f.verdict, f.cause = "FAIL", None
                        f.note = "finite differences refute it (autodiff is not finite here)"
                    else:
                        f.verdict = "PASS"
                        f.note = "autodiff is not finite here; finite differences agree with the manual gradient"
                        f.score, f.noise = abs(manual) / noise if noise else 0.0, Noise(noise, noise)
                    continue
                other = inner_product(f.r, v) - found.central
                gap = inner_product(f.g - f.r, v)
                if abs(other) <= 0.1 * abs(gap):
                    agree += 1
                elif abs(manual) <= 0.1 * abs(gap) and found.error <= 0.1 * abs(gap) and not found.kinked:
                    against += 1
                    f.verdict = "INCONCLUSIVE"
                    f.note = (
                        "the witnesses disagree: finite differences confirm the manual gradient and refute autodiff"
                    )
                    self.notes.append(f"blame the witness, not the gradient: autodiff of the loss is wrong on {f.path}")
        except Exception as error:  # a host function that fails away from the point
            self.notes.append(f"finite differences could not be asked: {_first_line(error)}")
        said = f"along the errors themselves: autodiff confirmed on {agree} leaves, refuted on {against}"
        self.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))

    # ---- black boxes and the full bench ------------------------------------------------------------------------------
    def by_differences(self, fallback: bool):
        """Witness 4 on every leaf along random directions; the judge itself when the loss is a black box."""
        begun = time.perf_counter()
        x = [wide(v) for v in self.problem.params.values]
        level = self.problem.value(x)
        shaken = [s for s in (self._shaken_manual(x) for _ in range(DRAWS)) if s is not None] if fallback else []
        rates, worst = [], 0.0
        for i, f in enumerate(self.findings):
            if f.frozen or f.raw is None or np.shape(f.raw) != x[i].shape or x[i].size == 0:
                continue
            if fallback and f.r is not None:
                continue
            if fallback and not np.isfinite(f.g).all():
                f.verdict, f.score = "FAIL", float("inf")
                f.cause = "NaN or Inf in the manual gradient"
                continue
            self._along_directions(f, i, x, level, shaken, rates, fallback)
            worst = max(worst, f.score if fallback else 0.0)
        rate = f"; Taylor rate {np.median(rates):.2f} (2 right, 1 wrong)" if rates else ""
        said = (
            f"{self.directions} directions a leaf, Richardson, worst {worst:.2g} x noise{rate}"
            if fallback
            else f"{self.directions} directions a leaf, Richardson{self._disputed}{rate}"
        )
        self.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))

    def _along_directions(self, f, i, x, level, shaken, rates, fallback):
        scores, kinked, seen, signal = [], 0, 0, 0.0
        self._disputed = getattr(self, "_disputed", "; autodiff agrees")
        for _ in range(self.directions):
            v = direction(self.rng, x[i])
            found = differences.slope(self.problem.value, x, i, v, level)
            if found is None:
                continue
            seen += 1
            claimed = inner_product(f.g, v)
            rate = found.rate(claimed)
            if rate is not None:
                rates.append(rate)
            if found.kinked:
                kinked += 1
                low, high = sorted((found.left, found.right))
                if low - FAIL * found.error <= claimed <= high + FAIL * found.error:
                    continue
            rounding = 4 * f.unit * float(np.sqrt(np.sum(np.abs(f.g * v) ** 2)))
            moved = max((abs(inner_product(s[i], v)) for s in shaken if s[i] is not None), default=0.0)
            noise = max(found.error, rounding, moved, differences.U * abs(found.central))
            if fallback:
                scores.append((ratio(abs(claimed - found.central), noise), v, noise))
                signal = max(signal, abs(found.central) / noise if noise else 0.0)
            elif (
                f.verdict == "PASS"
                and not found.kinked
                and abs(inner_product(f.r, v) - found.central) > 64 * noise + 1e-5 * abs(found.central)
            ):
                self._disputed = f"; autodiff and differences disagree on {f.path}"
                self.notes.append(f"the witnesses disagree on {f.path}: autodiff against finite differences")
        if not fallback:
            return
        if not seen or (not scores and kinked):
            f.verdict, f.note = "INCONCLUSIVE", "a kink or the edge of the domain in every direction"
            return
        f.score, v, noise = max(scores, key=lambda s: s[0])
        f.noise = Noise(noise / max(norm(v) / np.sqrt(v.size), 1e-300), noise)
        if f.score > FAIL:
            f.verdict = "FAIL"
            self._which_coordinates(f, i, x, v, level)
        elif signal <= FAIL:
            f.verdict, f.note = "INCONCLUSIVE", "the true gradient is below the noise of finite differences"

    def _which_coordinates(self, f, i, x, v, level):
        """The wrong entry by halving; failing that, every entry of a small leaf by differences."""
        at, taken = differences.bisect(self.problem.value, x, i, f.g, v, level)
        if at is not None:
            f.worst = at
            place = ",".join(map(str, at))
            f.cause = f"one coordinate is wrong, {called(f.path)}[{place}] (found by halving, {taken} slopes)"
        elif x[i].size > DIFFERENCES_LIMIT or np.iscomplexobj(x[i]):
            f.note = "several coordinates are wrong; the leaf is too large to difference each"
            return
        true = np.array(f.g)
        for place in [at] if at is not None else np.ndindex(v.shape):
            e = np.zeros_like(v)
            e[place] = v[place]
            found = differences.slope(self.problem.value, x, i, e, level)
            if found is None:
                return
            true[place] = found.central / e[place]
        f.r = true

    def _shaken_manual(self, x):
        """How far the manual gradient moves when its inputs do by one rounding: its conditioning, without autodiff."""
        moved = [
            v * (1 + 2 * u * self.rng.choice([-1.0, 1.0], v.shape)) for v, u in zip(x, self.problem.units, strict=True)
        ]
        moved = [m.astype(d) for m, d in zip(moved, self.problem.own_dtypes, strict=True)]
        try:
            there = self.manual.eager(moved).leaves
        except Exception:  # a gradient that only takes its own array type
            return None
        gaps = [_numbers(t, f.shape) for t, f in zip(there, self.findings, strict=True)]
        return [
            None if t is None or f.raw is None or t.shape != f.shape else t - f.g
            for t, f in zip(gaps, self.findings, strict=True)
        ]

    def all_witnesses(self):
        """Witnesses 3, 4, 5 and 6, each against what is established."""
        x = [wide(v) for v in self.problem.params.values]
        begun, said = time.perf_counter(), None
        try:
            worst = 0.0
            for i, f in enumerate(self.findings):
                if not f.comparable or f.frozen or not x[i].size:
                    continue
                for _ in range(self.directions):
                    v = direction(self.rng, x[i])
                    found = self.problem.slope([v if k == i else None for k in range(len(x))])
                    scale = 2.0**-53 * float(np.sum(np.abs(f.r * v))) + 1e-300
                    worst = max(worst, abs(found - inner_product(f.r, v)) / scale)
            said = f"{self.directions} directions a leaf; <r, v> agrees to {worst:.2g} float64 roundings of Σ|r v|"
            if worst > 1e6:
                self.notes.append("the witnesses disagree: forward and reverse mode differ on the loss")
        except Exception as error:  # custom_vjp of JAX's own has no forward mode
            said = f"cannot: {_first_line(error)}"
        self.statements.append(Statement("3 forward mode", said, time.perf_counter() - begun))
        if not any(s.name.startswith("4") for s in self.statements):
            self.by_differences(fallback=False)
        self.complex_step(x)
        begun = time.perf_counter()
        broken, said = relations(self.problem, self.manual, self.findings, self.rng)
        self.notes += broken
        self.statements.append(Statement("6 relations", said, time.perf_counter() - begun))

    def complex_step(self, x):
        """Witness 5."""
        begun, worst = time.perf_counter(), 0.0
        try:
            for i, f in enumerate(self.findings):
                if not f.comparable or f.frozen or not x[i].size:
                    continue
                v = direction(self.rng, x[i])
                found = self.problem.complex_slope([v if k == i else None for k in range(len(x))])
                worst = max(
                    worst, abs(found - inner_product(f.r, v)) / (2.0**-53 * float(np.sum(np.abs(f.r * v))) + 1e-300)
                )
            said = f"a direction a leaf; agrees to {worst:.2g} float64 roundings of Σ|r v|"
            if worst > 1e6:
                self.notes.append("the witnesses disagree: complex step and reverse mode differ on the loss")
        except UnreadableError as error:
            said = f"not possible: {error} is not analytic here"
        except Exception as error:  # an operation that rejects complex numbers
            said = f"not possible: {_first_line(error)}"
        self.statements.append(Statement("5 complex step", said, time.perf_counter() - begun))

    # ---- what to say -------------------------------------------------------------------------------------------------
    def name_the_cause(self):
        """Names the bug where a test of its own confirms the name."""
        if self.mutated:
            self.cause = f"grad_fn changes its inputs in place: {', '.join(map(called, self.mutated))}"
            return
        if any(f.wrong for f in self.findings):
            begun = time.perf_counter()
            self.cause, self.starts_at = diagnose(self.problem, self.manual, self.findings, self.rng)
            said = "named" if self.cause else "no cause could be confirmed"
            self.statements.append(Statement("diagnosis", said, time.perf_counter() - begun))

    def hint_at_coverage(self, witnesses):
        """Names branches of the manual gradient that were not taken."""
        if witnesses == "full" or (self.manual._trace is None and not any(f.wrong for f in self.findings)):
            with contextlib.suppress(Exception):  # a hint; a gradient that cannot be read again gets none
                self.notes += branches_not_taken(self.problem, self.manual)

    def report(self) -> Report:
        """The findings as a Report."""
        leaves = {f.path: self.row(f) for f in self.findings}
        verdicts = [f.verdict for f in self.findings]
        verdict = (
            "FAIL" if "FAIL" in verdicts or self.mutated else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PASS"
        )
        if all(v == "FROZEN" for v in verdicts):
            verdict = "INCONCLUSIVE"
        return Report(
            verdict,
            leaves,
            self.cause,
            self.starts_at,
            tuple(self.statements),
            {p: k for p, k in self.problem.params.skipped.items()},
            tuple(self.problem.stripped),
            tuple(dict.fromkeys(self.notes)),
            self.seed,
        )

    def row(self, f: Finding) -> LeafReport:
        """One finding as a row."""
        shape = tuple(np.shape(self.problem.params.values[self.problem.params.names.index(f.path)]))
        row = dict(
            path=f.path,
            shape=shape,
            dtype=str(f.dtype),
            verdict=f.verdict,
            cause=f.cause,
            note=f.note,
            score=float(f.score),
        )
        if not f.comparable or not f.r.size:
            return LeafReport(**row, norm=norm(f.r) if f.r is not None else norm(f.g) if f.raw is not None else 0.0)
        error = f.g - f.r
        at = f.worst or np.unravel_index(int(np.nanargmax(_magnitude(error))), error.shape)
        return LeafReport(
            **row,
            norm=norm(f.r),
            relative_error=ratio(norm(error), norm(f.r)),
            ulps=ulps(f.g, f.r, f.dtype),
            worst_index=tuple(int(k) for k in at),
            manual=_item(f.g[tuple(at)]),
            reference=_item(f.r[tuple(at)]),
            resolution=0.0 if f.unused else resolution(f.r, f.noise),
        )


# ---- small things ----------------------------------------------------------------------------------------------------
def _check_options(witnesses, variants, kinks, directions):
    for name, value, allowed in (
        ("witnesses", witnesses, ("auto", "fast", "full")),
        ("kinks", kinks, ("subgradient", "strict")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, allowed))}.")
    for variant in variants:
        if variant not in ("eager", "jit", "vmap"):
            raise ValueError(f"variants={variants!r}: expected any of 'eager', 'jit', 'vmap'.")
    if directions < 1:
        raise ValueError(f"directions={directions}: expected 1 or more.")


def _refuse_tracers(params, args):
    for leaf in jax.tree_util.tree_leaves((params, args)):
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(
                "check_gradients needs values and was given a tracer: call it outside of jit, grad (a jitted loss or "
                "grad_fn is fine)."
            )


def _outside_of_any_trace():
    """Lets the check run while a caller is traced. (ensure_compile_time_eval would fold constants in our traces.)"""
    return getattr(jax.core, "eval_context", jax.ensure_compile_time_eval)()


def _reference_agrees(loss, reference, params, args, has_aux):
    """Says so when reference= has another value than the loss."""
    if reference is None:
        return None
    ours, theirs = (f(params, *args) for f in (loss, reference))
    ours, theirs = (float(v[0] if has_aux else v) for v in (ours, theirs))
    if abs(ours - theirs) > 1e-2 * max(abs(ours), abs(theirs)):
        raise ValueError(f"reference= is another function: it has value {theirs:.6g} where the loss has {ours:.6g}.")
    return f"autodiff was taken of reference= (value {theirs:.6g}, the loss has {ours:.6g})"


def _seed(key) -> int:
    if key is None:
        return 0
    if isinstance(key, (int, np.integer)):
        return int(key) % 2**31
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    return int(np.random.SeedSequence([int(k) for k in np.asarray(key).ravel()]).generate_state(1)[0] % 2**31)


def _numbers(leaf, shape):
    """A gradient leaf in double precision; None for a missing one, zeros for JAX's float0."""
    if leaf is None:
        return None
    array = np.asarray(leaf)
    if array.dtype == jax.dtypes.float0:
        return np.zeros(shape)
    return wide(array)


def _first_line(error) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120] if lines else ''}"


def _magnitude(x):
    size = np.abs(x)
    return np.where(np.isnan(size), np.inf, size)


def _or_zero(x):
    return x if np.isfinite(x) else 0.0


def _short(x) -> str:
    return f"{x:.3g}"


def _item(x):
    return complex(x) if np.iscomplexobj(x) else float(x)


def _fields(report: Report) -> dict:
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


def _has_floats(tree) -> bool:
    from jaxnet.verify.tree import is_inexact

    return any(is_inexact(leaf) for leaf in jax.tree_util.tree_leaves(tree))


def _real(dtype):
    return jnp.finfo(dtype).dtype


def _cotangent(rng, shape):
    sample = rng.standard_normal(shape.shape)
    if jnp.issubdtype(shape.dtype, jnp.complexfloating):
        sample = sample + 1j * rng.standard_normal(shape.shape)
    return np.asarray(sample, shape.dtype)


def _linear(report: Report, f, primals, chosen, shapes, floating, rng) -> Report:
    """Relation: a rule is linear in its cotangent: twice of it gives twice the gradient, zero gives zero."""
    begun = time.perf_counter()
    positions = (chosen,) if isinstance(chosen, int) else chosen

    def back(weights):
        def at(*varying):
            arguments = list(primals)
            for i, v in zip(positions, varying, strict=True):
                arguments[i] = v
            return [out for out in map(jnp.asarray, jax.tree_util.tree_leaves(f(*arguments)))]

        outs, pull = jax.vjp(at, *[primals[i] for i in positions])
        cotangents = [
            np.zeros(o.shape, jax.dtypes.float0) if not jnp.issubdtype(o.dtype, jnp.inexact) else jnp.zeros_like(o)
            for o in outs
        ]
        for w, i in zip(weights, floating, strict=True):
            cotangents[i] = jnp.asarray(w)
        return [x for x in jax.tree_util.tree_leaves(pull(cotangents)) if jnp.issubdtype(x.dtype, jnp.inexact)]

    weights = [_cotangent(rng, shapes[i]) for i in floating]
    try:
        one = [wide(x) for x in back(weights)]
        two = [wide(x) for x in back([(w * w.dtype.type(2)) for w in weights])]
        nothing = [wide(x) for x in back([w * w.dtype.type(0) for w in weights])]
    except Exception as error:  # argument trees that vjp does not take
        statement = Statement("6 relations", f"cannot: {_first_line(error)}", time.perf_counter() - begun)
        return Report(**{**_fields(report), "witnesses": (*report.witnesses, statement)})
    doubled = all(norm(b - 2 * a) <= 1e-2 * max(norm(b), norm(a)) for a, b in zip(one, two, strict=True))
    vanishes = all(norm(z) <= 1e-2 * norm(a) for a, z in zip(one, nothing, strict=True))
    said = "the rule is linear in its cotangent" if doubled and vanishes else "the rule is NOT linear in its cotangent"
    changes = {"witnesses": (*report.witnesses, Statement("6 relations", said, time.perf_counter() - begun))}
    if not (doubled and vanishes) and report.verdict == "FAIL" and not report.cause:
        changes["cause"] = "The rule is not linear in the incoming cotangent: it ignores it or adds to it."
    return Report(**{**_fields(report), **changes})

"""check_vjp: a custom rule against the function that carries it, for random cotangents."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.case import Case
from jaxnet.verify.check import check_gradients
from jaxnet.verify.forward_value import with_forward_value
from jaxnet.verify.jaxprs import outside_of_any_trace, require
from jaxnet.verify.linearity import with_linearity
from jaxnet.verify.options import require_count, require_function, seed_of
from jaxnet.verify.report import GradientMismatch, Report, fields
from jaxnet.verify.ruled import Ruled
from jaxnet.verify.trouble import RefusedError, exits_refused
from jaxnet.verify.witnesses import quiet

OPTIONS = {"reference", "witnesses", "directions", "variants", "kinks", "trainable"}  # of check_gradients


@exits_refused()
def check_vjp(f, *primals, argnums=None, key=None, cotangents=2, raise_=True, **options) -> Report:
    """Proves or refutes the custom_vjp or custom_jvp rule that `f` carries, against its own stripped primal.

        ⟨c, f(x)⟩ is differentiated through the rule and without it, for random cotangents c

    and the value that fwd returns is compared with f(x). f(*primals) may return any tree; its floating outputs get a
    cotangent each. `argnums` are the primals to check, by default all that hold a floating leaf and that the rule does
    not declare nondiff_argnums. The other options (reference, witnesses, directions, variants, kinks, trainable) are
    those of `check_gradients`.

    Raises as check_gradients does.
    """
    require()
    require_function("f", f)
    require_count("cotangents", cotangents)
    if unknown := set(options) - OPTIONS:
        raise RefusedError(f"check_vjp has no option {min(unknown)!r}; expected any of {', '.join(sorted(OPTIONS))}.")
    seed, ruled = seed_of(key), Ruled(f, primals, argnums)
    with quiet(), outside_of_any_trace():
        floating = ruled.floating
    if not floating:
        raise RefusedError("check_vjp needs a function with a floating output; f returns none.")

    def paired(*arguments):
        *inputs, weights = arguments
        outs = jax.tree_util.tree_leaves(ruled(*inputs))
        terms = [jnp.sum(jnp.real(_roomy(w) * _roomy(outs[i]))) for w, i in zip(weights, floating, strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term.astype(total.dtype)
        return total

    def rule(*arguments):
        tree = ruled.varying(arguments)
        grads = jax.grad(lambda values: paired(*ruled.arguments(tree.rebuilt(values), arguments)))(tree.values)
        return tree.rebuilt(grads)

    rng = np.random.default_rng(seed)
    reports = []
    for _ in range(cotangents):
        given = (*ruled.given, _cotangent(ruled, rng))
        reports.append(check_gradients(paired, rule, *given, argnums=ruled.argnums, key=seed, raise_=False, **options))
        if reports[-1].verdict == "FAIL":
            break
    order = {"FAIL": 0, "PASS": 1, "INCONCLUSIVE": 2}
    report = min(reports, key=lambda r: order[r.verdict])
    with quiet(), outside_of_any_trace():
        report = with_linearity(report, ruled, _cotangent(ruled, rng))
        report = with_forward_value(report, ruled, rng)
    if not report.stripped:
        note = "f carries no custom rule of its own: JAX's derivative was compared with itself, nothing is proved"
        verdict = "INCONCLUSIVE" if report.verdict == "PASS" else report.verdict
        report = Report(**{**fields(report), "verdict": verdict, "notes": (note, *report.notes)})
    case = Case(
        f, None, primals[0], primals[1:], {"argnums": argnums, "cotangents": cotangents, **options}, seed, "check_vjp"
    )
    report = Report(**{**fields(report), "skipped": {**report.skipped, **ruled.skipped}, "case": case})
    if report.verdict == "FAIL" and raise_:
        raise GradientMismatch(report)
    return report


def _roomy(x):
    """x in float32 or more: a sum over a large output would overflow in float16 and round away in bfloat16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _cotangent(ruled: Ruled, rng) -> list:
    """A random cotangent for each floating output."""
    return [_drawn(rng, ruled.shapes[i]) for i in ruled.floating]


def _drawn(rng, shape):
    sample = rng.standard_normal(shape.shape)
    if jnp.issubdtype(shape.dtype, jnp.complexfloating):
        sample = sample + 1j * rng.standard_normal(shape.shape)
    return np.asarray(sample, shape.dtype)

"""check_vjp: a custom rule against the function that carries it, for random cotangents."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify import trouble
from jaxnet.verify.case import Case
from jaxnet.verify.check import check_gradients, outside_of_any_trace, seed_of
from jaxnet.verify.noise import norm
from jaxnet.verify.report import GradientMismatch, Report, Statement, fields, first_line
from jaxnet.verify.tree import is_inexact, wide
from jaxnet.verify.witnesses import quiet


def check_vjp(f, *primals, argnums=None, key=None, cotangents=2, raise_=True, **options) -> Report:
    """Proves or refutes the custom_vjp or custom_jvp rule that `f` carries, against its own stripped primal.

        ⟨c, f(x)⟩ is differentiated through the rule and without it, for random cotangents c

    f(*primals) may return any tree; its floating outputs get a cotangent each. `argnums` are the primals to check, by
    default all that hold a floating leaf. The other options are those of `check_gradients`.

    Raises as check_gradients does.
    """
    seed = seed_of(key)
    chosen = argnums if argnums is not None else tuple(i for i, p in enumerate(primals) if _has_floats(p))
    if chosen == ():
        raise TypeError("check_vjp needs at least one primal with a floating leaf.")
    with quiet(), outside_of_any_trace():
        outputs = jax.eval_shape(f, *primals)
    shapes, _ = jax.tree_util.tree_flatten(outputs)
    floating = [i for i, s in enumerate(shapes) if jnp.issubdtype(s.dtype, jnp.inexact)]
    if not floating:
        raise TypeError("check_vjp needs a function with a floating output; f returns none.")

    def paired(*arguments):
        *inputs, weights = arguments
        outs = jax.tree_util.tree_leaves(f(*inputs))
        terms = [jnp.sum(jnp.real(_roomy(w) * _roomy(outs[i]))) for w, i in zip(weights, floating, strict=True)]
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
    with quiet(), outside_of_any_trace():
        report = _linear(report, f, primals, chosen, shapes, floating, rng)
        report = _same_value(report, f, primals, chosen)
    if not report.stripped:
        note = "f carries no custom rule of its own: JAX's derivative was compared with itself, nothing is proved"
        verdict = "INCONCLUSIVE" if report.verdict == "PASS" else report.verdict
        report = Report(**{**fields(report), "verdict": verdict, "notes": (note, *report.notes)})
    case = Case(
        f, None, primals[0], primals[1:], {"argnums": argnums, "cotangents": cotangents, **options}, seed, "check_vjp"
    )
    report = Report(**{**fields(report), "case": case})
    if report.verdict == "FAIL" and raise_:
        raise GradientMismatch(report)
    return report


def _has_floats(tree) -> bool:
    return any(is_inexact(leaf) for leaf in jax.tree_util.tree_leaves(tree))


def _roomy(x):
    """x in float32 or more: a sum over a large output would overflow in float16 and round away in bfloat16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _cotangent(rng, shape):
    sample = rng.standard_normal(shape.shape)
    if jnp.issubdtype(shape.dtype, jnp.complexfloating):
        sample = sample + 1j * rng.standard_normal(shape.shape)
    return np.asarray(sample, shape.dtype)


def _same_value(report: Report, f, primals, chosen) -> Report:
    """Under differentiation the rule's own forward pass runs: it has to return what the function returns."""
    positions = (chosen,) if isinstance(chosen, int) else chosen

    def at(*varying):
        arguments = list(primals)
        for i, v in zip(positions, varying, strict=True):
            arguments[i] = v
        return [out for out in jax.tree_util.tree_leaves(f(*arguments)) if is_inexact(out)]

    varying = [primals[i] for i in positions]
    try:
        plain, differentiated = at(*varying), jax.vjp(at, *varying)[0]
    except Exception as error:  # argument trees that vjp does not take
        said = trouble.mistake(error, "fwd's value") or f"fwd's value was not seen: {first_line(error)}"
        return Report(**{**fields(report), "notes": (*report.notes, said)})
    for number, (one, other) in enumerate(zip(map(wide, plain), map(wide, differentiated), strict=True)):
        # Roundings may differ between two ways of computing one value; a tenth of it is no rounding.
        if not norm(other - one) <= 0.1 * norm(one) and np.isfinite(one).all():
            cause = f"Under differentiation output {number} has another value than without: fwd does not return f(x)."
            return Report(**{**fields(report), "verdict": "FAIL", "cause": report.cause or cause})
    return report


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
        said = trouble.mistake(error, "relations") or f"cannot: {first_line(error)}"
        statement = Statement("6 relations", said, time.perf_counter() - begun)
        return Report(**{**fields(report), "witnesses": (*report.witnesses, statement)})
    doubled = all(norm(b - 2 * a) <= 1e-2 * max(norm(b), norm(a)) for a, b in zip(one, two, strict=True))
    vanishes = all(norm(z) <= 1e-2 * norm(a) for a, z in zip(one, nothing, strict=True))
    said = "the rule is linear in its cotangent" if doubled and vanishes else "the rule is NOT linear in its cotangent"
    changes = {"witnesses": (*report.witnesses, Statement("6 relations", said, time.perf_counter() - begun))}
    if not (doubled and vanishes) and report.verdict == "FAIL" and not report.cause:
        changes["cause"] = "The rule is not linear in the incoming cotangent: it ignores it or adds to it."
    return Report(**{**fields(report), **changes})

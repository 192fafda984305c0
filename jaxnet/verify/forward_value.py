"""Under differentiation the rule's own forward pass runs: it has to return what the function returns.

Values are compared as gradients are: r is the function in float64, its noise what the function loses in its own
precision and what one rounding of its inputs changes. A forward pass that is right in float64 and loses more than that
is left to its author, and told.
"""

import jax
import numpy as np

from jaxnet.verify import trouble
from jaxnet.verify.dataflow import cast_to_integers
from jaxnet.verify.evidence import alpha_of
from jaxnet.verify.factors import digits
from jaxnet.verify.manual import bits_differ
from jaxnet.verify.noise import FAIL, WARN, largest, noise_of, norm, ratio, score
from jaxnet.verify.programs import program_of
from jaxnet.verify.report import Report, fields, first_line
from jaxnet.verify.rounding import as_written
from jaxnet.verify.ruled import Ruled
from jaxnet.verify.strip import opaque_operations
from jaxnet.verify.tree import unit_roundoff, wide
from jaxnet.verify.witnesses import in_float64

DRAWS = 3
COARSE = 0.1  # of a value: no loss of digits that anybody wants is more
ROUNDED = 0.1  # of an error: what float64 may leave of one of rounding, for constants are rounded too
HIDDEN = 1e-2  # the same of a kernel, which no float64 can excuse: bfloat16 loses half of it


def with_forward_value(report: Report, ruled: Ruled, rng: np.random.Generator) -> Report:
    """The report, refused where fwd returns another value than f."""
    try:
        notes, causes = _compared(ruled, rng)
    except Exception as error:  # a rule that refuses what JAX's own would take
        notes, causes = [trouble.mistake(error, "fwd's value") or f"fwd's value was not seen: {first_line(error)}"], []
    changes = {"notes": (*report.notes, *notes)}
    if causes:
        changes |= {"verdict": "FAIL", "cause": " ".join(filter(None, [report.cause, *causes]))}
    return Report(**{**fields(report), **changes})


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
        said = trouble.mistake(error, "fwd's value in float64")
        notes += [said] if said else []
        return None


def _one_rounding_away(values, labels, rng) -> list:
    """Each value × (1 ± 2u), the smallest factor that always changes it; numbers that stand for labels as they are."""
    return [v if label else _shaken(v, rng) for v, label in zip(values, labels, strict=True)]


def _shaken(v, rng):
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(jax.numpy.result_type(v)))
    return (wide(v) * (1 + 2 * unit_roundoff(dtype) * rng.choice([-1.0, 1.0], np.shape(v)))).astype(dtype)

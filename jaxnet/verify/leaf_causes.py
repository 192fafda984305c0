"""What is wrong with one leaf, by itself: each cause is named only when a test of its own confirms it.

Two lists: what the leaf's own numbers show, and what single examples have to be asked for.
"""

import numpy as np

from jaxnet.verify.batch import restricted
from jaxnet.verify.elementwise import done_to_entries
from jaxnet.verify.evidence import Elsewhere, Evidence, alpha_of, near
from jaxnet.verify.factors import COARSE, digits, factor_of_leaf, factor_of_lines
from jaxnet.verify.judgement import Cause
from jaxnet.verify.noise import largest, norm, ratio
from jaxnet.verify.strip import equations, operations
from jaxnet.verify.tree import called, sample, wide
from jaxnet.verify.trouble import tolerated

FEW = 8  # so many wrong entries can be listed


def shown_by_itself(e: Evidence, i: int) -> Cause | None:
    """The cause that a leaf's own numbers show."""
    f = e.findings[i]
    if f.raw is None:
        return None
    if f.r is None:
        return zero(e, i, f) or factor_of_leaf(e, i)
    if np.shape(f.g) != np.shape(f.r):
        return Cause("shape", _shape_cause(f.g, f.r))
    if not np.isfinite(f.g).all():
        return not_finite(e, f)
    tests = (
        through_stops,
        zero,
        conjugate,
        lambda e, i, f: factor_of_leaf(e, i),
        transposed,
        another_leaf,
        few_entries,
        regulariser,
        lambda e, i, f: done_to_entries(e, [i]),
        precision,
        lambda e, i, f: factor_of_lines(e, i),
    )
    return next(filter(None, (test(e, i, f) for test in tests)), None)


def shown_by_examples(e: Evidence, i: int) -> Cause | None:
    """The cause that single examples show."""
    f = e.findings[i]
    if e.examples is None or not f.comparable or not np.isfinite(f.g).all():
        return None
    return next(filter(None, (test(e, i, f) for test in (wrong_axis, example_left_out, extra_examples))), None)


# ---- by itself -------------------------------------------------------------------------------------------------------
def not_finite(e, f) -> Cause:
    """NaN or Inf, where and from which example."""
    bad = ~np.isfinite(f.g)
    first = ",".join(str(int(k)) for k in np.unravel_index(int(np.argmax(bad)), bad.shape))
    text = f"NaN or Inf in {int(bad.sum())} of {bad.size} entries, first at [{first}]"
    if e.examples is not None and e.batch.m <= 64:
        with tolerated(e.problem, "the diagnosis"):
            guilty = [
                k for k in range(e.batch.m) if not all(np.isfinite(x).all() for x in e.manual_at(e.batch.alone(k)))
            ]
            if 0 < len(guilty) <= 3:
                text += f"; it comes from example {', '.join(map(str, guilty))} alone"
    return Cause("not finite", text)


def through_stops(e, i, f) -> Cause | None:
    """g = the gradient of the loss without its stop_gradients."""
    if e.through_stops is None or not np.isfinite(e.through_stops[i]).all() or e.equal(f.r, e.through_stops[i], f):
        return None
    if e.equal(f.g, e.through_stops[i], f):
        return Cause("stops", f"differentiates through stop_gradient (at {', '.join(e.problem.stops)})")
    return None


def zero(e, i, f) -> Cause | None:
    """g = 0."""
    return None if largest(f.g) else Cause("zero", "the leaf is zero: frozen, or never filled in")


def conjugate(e, i, f) -> Cause | None:
    """g = conj(r): the other convention."""
    if np.iscomplexobj(f.r) and e.equal(f.g, np.conj(f.r), f) and largest(f.r.imag) > 16 * f.noise.entry:
        return Cause("conjugate", "the complex conjugate of JAX's gradient (its convention is dJ = Re(Σ g v))")
    return None


def transposed(e, i, f) -> Cause | None:
    """g = rᵀ on a square leaf."""
    if f.r.ndim == 2 and f.r.shape[0] == f.r.shape[1] > 1 and e.equal(f.g, f.r.T, f):
        return Cause("transposed", "transposed: it equals the true gradient's transpose")
    return None


def another_leaf(e, i, f) -> Cause | None:
    """g = the true gradient of another leaf."""
    for j, other in enumerate(e.findings):
        if j != i and other.r is not None and f.r.size > 1 and e.equal(f.g, other.r, other):
            return Cause("another leaf", f"it equals the gradient of another leaf, {called(other.path)}")
    return None


def few_entries(e, i, f) -> Cause | None:
    """Only a handful of entries differ."""
    if f.r.size == 1:  # all of them
        return None
    if np.sum(np.abs(sample(f.g) - sample(f.r)) > 16 * f.noise.entry) > FEW:  # seen already, before millions are
        return None
    error = np.abs(f.g - f.r)
    off = error > 16 * f.noise.entry
    rest = float(np.max(error[~off], initial=0.0))
    # The others have to be right for certain, not just below the noise.
    if rest > 1e-2 * float(np.min(error[off], initial=np.inf)) or e.tolerance(f) > COARSE:
        return None
    count = int(off.sum())
    if not 0 < count <= min(FEW, max(1, f.r.size // 8)):
        return None
    places = np.argwhere(off)[:FEW]
    listed = "; ".join(f"[{','.join(map(str, p))}]{_times(f.g[tuple(p)], f.r[tuple(p)])}" for p in places)
    return Cause("entries", f"{'only one entry differs' if count == 1 else f'only {count} entries differ'}: {listed}")


def regulariser(e, i, f) -> Cause | None:
    """g = r ± λ θ: at other parameters too, and called weight decay if it has nothing to do with the data."""
    noise = e.tolerance(f) * f.r_norm
    if f.r.size < 3 or e.tolerance(f) > COARSE:
        return None

    def amount(g, r, theta) -> float:
        error = g - r
        found = alpha_of(error, theta, 0.05)
        return np.nan if found is None or norm(error - found * theta) > max(noise, 1e-3 * norm(error)) else found

    def amount_at(there: Elsewhere) -> float:
        g, r = there.both(i)
        return np.nan if g is None else amount(g, r, there.theta.entries[i])

    times = amount(f.g, f.r, wide(e.problem.params.values[i]))
    if np.isnan(times) or e.moved is None:
        return None
    slack = max(1e-4, noise / norm(f.g - f.r))
    if not near(amount_at(e.moved), times, slack):
        return None
    if e.other_data is not None and not near(amount_at(e.other_data), times, slack):
        return None
    if e.batch is not None and e.second is not None:
        other = amount_at(e.second)
        if not near(other, times, slack):
            return _decay_over_m(times, other, e.batch.m, e.batch.half_m, slack)
    what = " (a regulariser: weight decay)" if e.other_data is not None else ""
    text = f"{abs(times):.3g} times the parameter {'is missing' if times < 0 else 'too much'}{what}"
    return Cause("regulariser", text)


def _decay_over_m(times, other, m, m2, slack) -> Cause | None:
    """A regulariser's error of `times` the parameter at batch size m and `other` at m2, made of λ and λ/m."""
    forms = {
        "weight decay: {:.3g}/m times the parameter is missing": lambda m: -1 / m,
        "weight decay: {:.3g}/m times the parameter too much": lambda m: 1 / m,
        "weight decay: the regulariser {:.3g} is divided by m, in the loss it is not": lambda m: 1 / m - 1,
        "weight decay: the regulariser {:.3g} is not divided by m, in the loss it is": lambda m: 1 - 1 / m,
    }
    for text, of in forms.items():
        size = times / of(m)
        if size > 0 and near(other, size * of(m2), slack):
            return Cause("regulariser", f"{text.format(size)} (m = {m})")
    return None


def precision(e, i, f) -> Cause | None:
    """The formula is right in float64 and loses digits in its own dtypes."""
    size = ratio(norm(f.g - f.r), f.r_norm)
    if not size < 0.3 or e.exact is None or not norm(e.exact[i] - f.r) <= 1e-3 * norm(f.g - f.r):
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
    return Cause("precision", f"precision: right in float64, {what} 2^{np.log2(size):.1f} of it")


# ---- by examples -----------------------------------------------------------------------------------------------------
def wrong_axis(e, i, f) -> Cause | None:
    """A bias summed over the units in place of the examples: possible when m = n."""
    if f.r.size != e.batch.m or e.batch.m > 64 or f.r.ndim > 2:
        return None
    over_units = np.array([e.true_at(k)[i].sum() for k in range(e.batch.m)]) / e.batch.m
    if e.equal(f.g.ravel(), over_units, f):
        return Cause("axis", "summed over axis 0, the units, in place of axis 1, the examples (silent because m = n)")
    return None


def example_left_out(e, i, f) -> Cause | None:
    """g = r without one example's share, or with it twice."""
    if e.batch.m < 2 or e.tolerance(f) > COARSE:
        return None
    error = sample(f.g - f.r)
    for k, samples in e.shares.items():
        if largest(np.abs(error) - np.abs(samples[i])) > 2 * e.tolerance(f) * f.r_norm:
            continue  # neither left out nor twice: a few entries tell
        share = e.true_at(k)[i] / e.batch.m
        if norm(share) > 32 * f.noise.norm and e.equal(f.g, f.r - share, f):
            return Cause("example", f"example {k} is left out")
        if norm(share) > 32 * f.noise.norm and e.equal(f.g, f.r + share, f):
            return Cause("example", f"example {k} is counted twice")
    return None


def extra_examples(e, i, f) -> Cause | None:
    """Examples that the loss ignores (padding) enter the gradient."""
    if e.batch.m > 4096 or not e.ignored:
        return None
    doubled = e.batch.take([*range(e.batch.m), *e.ignored])
    if norm(restricted(e.problem, doubled).double()[1][i] - f.r) > 16 * f.noise.norm:
        return None
    without = [k for k in range(e.batch.m) if k not in e.ignored]
    there, kept = (wide(e.manual_at(given)[i]) for given in (doubled, e.batch.take(without)))
    if e.equal(kept, f.r, f) and norm(there - f.g) > 32 * f.noise.norm:
        listed = ", ".join(map(str, e.ignored[:4])) + (", ..." if len(e.ignored) > 4 else "")
        return Cause("example", f"example {listed}: the loss ignores it (padding or weight 0), the gradient does not")
    return None


# ---- words -----------------------------------------------------------------------------------------------------------
def _shape_cause(g, r) -> str:
    shapes = f"it has shape {np.shape(g)}, the parameter {np.shape(r)}"
    for axis in range(np.ndim(g)):
        total = g.sum(axis=axis, keepdims=True)
        for sums in (total, np.squeeze(total, axis)):
            if sums.shape == r.shape and np.allclose(sums, r, rtol=1e-2, atol=1e-2 * largest(r)):
                return f"the sum over axis {axis} is missing; {shapes}"
    if g.size == r.size and np.allclose(g.reshape(r.shape), r, rtol=1e-2, atol=1e-2 * largest(r)):
        return f"keepdims: the values are right, the shape is not; {shapes}"
    if g.ndim == 2 and g.T.shape == r.shape and np.allclose(g.T, r, rtol=1e-2, atol=1e-2 * largest(r)):
        return f"transposed; {shapes}"
    return f"wrong shape: {shapes}"


def _times(g, r) -> str:
    if g == 0:
        return " is zero"
    return f" x {digits(np.real(g / r))}" if r != 0 else f" is {g:.3g} and should be 0"

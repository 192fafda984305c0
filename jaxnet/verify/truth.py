"""Witnesses 1 and 2: what the gradient is, and how exactly that can be known."""

import time

import jax
import numpy as np

from jaxnet.verify.dataflow import flow_of
from jaxnet.verify.interpret import UnreadableError
from jaxnet.verify.noise import largest, noise_of, norm, ratio
from jaxnet.verify.report import Statement, first_line
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.tree import sample, wide, wide_shape
from jaxnet.verify.trouble import RefusedError, note, tolerated

DRAWS = 3
LIKELY = 1e3  # roundings by which a leaf that fails is likely to differ from autodiff in its own dtype
FORWARD_LIMIT = 512  # coordinates that forward mode may be asked for one at a time


def true_gradient(check) -> bool:
    """Witnesses 1 and 2 and the noise; false if the loss is a black box."""
    problem = check.problem
    try:
        problem.traced()
    except RefusedError:
        raise
    except Exception as error:  # a loss in NumPy refuses tracers in its own way
        note(problem, error, "tracing the loss")
        return black_box(check, error)
    instead = " Finite differences along directions were used instead."
    for names, does in (
        (problem.opaque, "hides its inside in"),
        (problem.untrusted, "has its derivative from rules that no primal can replace,"),
    ):
        if names:
            check.notes.append(
                f"the loss {does} {', '.join(names)}: pass reference=, the same loss in plain jax.numpy, to "
                f"compare every coordinate.{instead}"
            )
    if problem.stops:
        where = ", ".join(problem.stops)
        check.notes.append(f"what the loss stops at {where} counts as constant, by the convention of stop_gradient")
    if problem.valued_only:
        problem.reversible = False
        require_finite_value(check)
        return False
    used = flow_of(problem.trace, len(check.findings)).used
    for i, f in enumerate(check.findings):
        f.unused = i not in used
    value, own, draws = own_precision(check)
    value64 = double_precision(check, own, draws)
    require_finite(check, value, value64, own is not None)
    return all(f.r is not None for f in check.findings)


def own_precision(check):
    """Witness 1, and what it makes of inputs that are one unit of rounding away; by forward mode if need be."""
    begun, dtypes = time.perf_counter(), "/".join(dict.fromkeys(str(d) for d in check.problem.own_dtypes))
    for mode in ("reverse autodiff", "forward mode, each coordinate"):
        name = f"1 {mode} ({dtypes})"
        try:
            _require_few(check.problem)
            value, grads = check.problem.reverse()
            value = float(value)
            break
        except Exception as error:  # e.g. reverse mode through a while loop
            check.problem.reversible = False
            note(check.problem, error, mode)
            said = f"cannot: {first_line(error)}"
            check.statements.append(Statement(name, said, time.perf_counter() - begun))
    else:
        return float("nan"), None, None
    running = check.problem.reverse(check.seed + 1, 1.0)
    expect_doubts(check, grads)
    draws = [[] for _ in grads]
    for k in range(1, DRAWS + 1):
        _, moved = jax.block_until_ready(running)
        running = check.problem.reverse(check.seed + 1 + k, 1.0) if k < DRAWS else None  # while this one is looked at
        for i, (f, m) in enumerate(zip(check.findings, moved, strict=True)):
            gap = np.subtract(m, grads[i], dtype=wide_shape(m).dtype)
            draws[i].append((norm(gap), largest(gap)))
            f.entries = np.abs(gap) if f.entries is None else np.maximum(f.entries, np.abs(gap))
    said = f"loss {value:.6g}; gradient taken, and at {DRAWS} inputs one rounding away"
    check.statements.append(Statement(name, said, time.perf_counter() - begun))
    return value, grads, draws


def expect_doubts(check, own):
    """Lets what a failure is asked be compiled while its verdict is being found, if a glance makes it likely."""

    def far(f, a):
        few = wide(sample(a))
        return np.shape(f.raw) == np.shape(a) and not norm(sample(f.g) - few) <= LIKELY * f.unit * norm(few)

    if any(f.raw is not None and not f.frozen and far(f, a) for f, a in zip(check.findings, own, strict=True)):
        with tolerated(check.problem, "compiling ahead"):  # what cannot be compiled is told by who asks for it
            OwnRounding(check.problem, check.manual, check.seed).expect_exact()
            check.problem.expect_value()


def double_precision(check, own, draws):
    """Witness 2; by forward mode if the program cannot be reversed and is small."""
    begun = time.perf_counter()
    name, said, value = "2 the same in float64", None, float("nan")
    try:
        if own is None:
            _require_few(check.problem)
            name = "2 forward mode in float64, each coordinate"
        value, grads = check.problem.double()
        for i, (f, r) in enumerate(zip(check.findings, grads, strict=True)):
            f.r, f.autodiff = r, True
            sizes = [] if own is None else [norm(wide(own[i])), *(size for size, _ in draws[i])]
            f.overflows = not np.isfinite(sizes).all()
            f.noise = noise_of(r, None if own is None else wide(own[i]), draws[i] if draws else [], f.unit)
            if own is not None:
                f.entries = np.maximum(f.entries, np.maximum(np.abs(wide(own[i]) - r), f.unit * np.abs(r)))
        gaps = [ratio(f.noise.terms[0], f.r_norm) for f in check.findings if own is not None and f.r_norm > 0]
        said = f"loss {value:.6g}"
        if gaps:
            said += f"; witness 1 is within {max(gaps):.1e} of it on every leaf"
    except Exception as error:  # an operation with no float64 form, a program that cannot be differentiated
        note(check.problem, error, "float64")
        said = f"cannot: {first_line(error)}"
    check.statements.append(Statement(name, said, time.perf_counter() - begun))
    return value


def _require_few(problem):
    """Refuses what has no reverse mode and more coordinates than forward mode can take one at a time."""
    size = sum(np.size(v) for v in problem.params.values)
    if not problem.reversible and size > FORWARD_LIMIT:
        raise UnreadableError(f"no reverse mode, and {size} coordinates are too many for forward mode")


def black_box(check, error) -> bool:
    """The loss cannot be traced: only its values are left."""
    check.problem.trace, check.problem.reversible = None, False
    check.notes.append(
        f"the loss cannot be traced ({first_line(error)}): finite differences along directions only; "
        "reference=, the same loss in jax.numpy, would let every coordinate be compared"
    )
    require_finite_value(check)
    return False


def require_finite_value(check):
    """Refuses a black box that is not finite at the point."""
    value = check.problem.level
    if not np.isfinite(value) and not no_examples(check):
        raise ValueError(f"loss is {value} at the test point (seen by witness 4, values in float64).")


def require_finite(check, value, value64, spoke: bool):
    """Refuses a loss that is not finite at the point, naming the witness that saw it."""
    seen = [w for w, v in (("1 (own dtype)", value), ("2 (float64)", value64)) if not np.isfinite(v)]
    if not spoke:
        seen = [w for w in seen if not w.startswith("1")]
    if not seen or no_examples(check) or all(f.r is None for f in check.findings):
        return
    other = ""
    if len(seen) == 1 and spoke:
        fine = value64 if seen[0].startswith("1") else value
        other = f"; the other witness has {fine:.6g}, so it is the loss that overflows or cancels in its dtype"
    bad = value if not np.isfinite(value) else value64
    raise ValueError(f"loss is {bad} at the test point, seen by witness {' and '.join(seen)}{other}.")


def no_examples(check) -> bool:
    """Whether any fixed array is empty."""
    return any(np.size(x) == 0 for x in check.problem.given.values)


def empty_batch(check) -> bool:
    """An empty batch has no gradient to check; an empty array that takes no part in the loss changes nothing."""
    if not no_examples(check) or any(f.r is not None and f.r_norm > 0 for f in check.findings):
        return False
    for f in check.findings:
        f.verdict, f.note = "INCONCLUSIVE", "an empty array among the arguments: no example to check on"
    return True

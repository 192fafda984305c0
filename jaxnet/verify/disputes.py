"""Manual gradient and autodiff differ, or autodiff is not finite: finite differences are asked who is right."""

import time

import numpy as np

from jaxnet.verify import differences
from jaxnet.verify.beside_kinks import as_written
from jaxnet.verify.noise import FAIL, WARN, Noise, largest, norm
from jaxnet.verify.report import Statement, first_line
from jaxnet.verify.tree import called, wide
from jaxnet.verify.trouble import note
from jaxnet.verify.witnesses import direction, inner_product

COORDINATES = 32  # of a leaf that differences are asked about one by one before autodiff is blamed


def settle_disputes(check):
    """Asks finite differences who is right."""
    doubtful = [
        i
        for i, f in enumerate(check.findings)
        if f.comparable
        and f.autodiff
        and (f.wrong or f.note == "autodiff is not finite here")
        and np.isfinite(f.g).all()
    ]
    if not doubtful:
        return
    begun, x = time.perf_counter(), [wide(v) for v in check.problem.params.values]
    silent = [i for i in doubtful if not np.isfinite(check.findings[i].r).all()]
    disputed = [i for i in doubtful if i not in silent]
    said = ""
    try:
        level = check.problem.level
        for i in silent:
            _in_place_of_autodiff(check, x, i, level)
        if disputed:
            confirmed, refuted = _along_the_errors(check, x, disputed, level)
            said = f"along the errors themselves: autodiff confirmed on {confirmed} leaves, refuted on {refuted}"
    except Exception as error:  # a host function that fails away from the point
        note(check.problem, error, "finite differences")
        check.notes.append(f"finite differences could not be asked: {first_line(error)}")
    said = said or f"asked in place of autodiff on {len(silent)} leaves"
    check.statements.append(Statement("4 finite differences", said, time.perf_counter() - begun))


def _in_place_of_autodiff(check, x, i, level):
    """Autodiff is not finite: the manual gradient against a difference."""
    f = check.findings[i]
    v = _as_large_as(x[i], direction(check.rng, x[i]))
    found = differences.slope(check.problem.value, x, {i: v}, level)
    if found is None:
        return
    error = abs(inner_product(f.g, v) - found.central)
    noise = found.error + f.unit * float(np.sum(np.abs(f.g * v)))
    if error > WARN * noise:
        noise += _lost_as_written(check, i, v, found)
    if found.kinked:
        f.verdict, f.note = "INCONCLUSIVE", "autodiff is not finite at this kink; values differ from side to side"
    elif error > FAIL * noise:
        f.verdict, f.cause = "FAIL", None
        f.note = "finite differences refute it (autodiff is not finite here)"
    else:
        f.verdict, f.note = "PASS", "autodiff is not finite here; finite differences agree with the manual gradient"
        f.score, f.noise = error / noise if noise else 0.0, Noise(noise, noise)


def _lost_as_written(check, i, v, found) -> float:
    """What a formula that agrees with the difference in float64 loses along v as it is written; 0 of any other."""
    own, exact = as_written(check)
    if exact is None or abs(inner_product(exact[i], v) - found.central) > FAIL * found.error:
        return 0.0
    lost = own.noise()[i][0] * norm(v)
    return lost if np.isfinite(lost) else 0.0


def _along_the_errors(check, x, disputed, level) -> tuple[int, int]:
    """Manual and autodiff differ: the difference quotient along that very difference, of all leaves, then of each."""
    along = {i: _as_large_as(x[i], np.conj(check.findings[i].g - check.findings[i].r)) for i in disputed}

    def side(leaves) -> str | None:
        v = {i: along[i] for i in leaves}
        manual, auto = (
            sum(inner_product(part, v[i]) for i, part in ((i, getattr(check.findings[i], name)) for i in leaves))
            for name in ("g", "r")
        )
        gap = 0.1 * abs(manual - auto)  # each leaf's share of it is positive: nothing cancels
        found = differences.slope(check.problem.value, x, v, level, enough=0.1 * gap)
        if found is None:
            return None
        if abs(auto - found.central) <= gap:
            return "autodiff"
        certain = found.error <= gap and not found.kinked
        return "manual" if certain and abs(manual - found.central) <= gap else None

    if len(disputed) > 1 and side(disputed) == "autodiff":
        return len(disputed), 0
    sides = {i: side([i]) for i in disputed[:8]}
    for i in (i for i, who in sides.items() if who == "manual"):
        f = check.findings[i]
        if _refuted_elsewhere(check, x, i, level):
            f.note = "finite differences refute both: the manual gradient is wrong, and so is autodiff of the loss"
            continue
        f.verdict = "INCONCLUSIVE"
        f.note = "the witnesses disagree: finite differences confirm the manual gradient and refute autodiff"
        check.notes.append(f"blame the witness, not the gradient: autodiff of the loss is wrong on {called(f.path)}")
    return [*sides.values()].count("autodiff"), [*sides.values()].count("manual")


def _refuted_elsewhere(check, x, i, level) -> bool:
    """Whether the manual gradient departs from differences along random directions or coordinates of a small leaf.

    Along its difference from autodiff alone, the larger error of autodiff hides a smaller one of its own.
    """
    f = check.findings[i]
    error = f.noise.norm if np.isfinite(f.noise.norm) else f.unit * norm(f.g)
    directions = [_as_large_as(x[i], direction(check.rng, x[i])) for _ in range(check.directions)]
    if x[i].size <= COORDINATES:
        units = np.eye(x[i].size).reshape(-1, *x[i].shape)
        both = [*units, *(1j * units)] if np.iscomplexobj(x[i]) else units
        directions += [_as_large_as(x[i], e) for e in both]
    for v in directions:
        found = differences.slope(check.problem.value, x, {i: v}, level)
        if found is None:
            continue
        low, high = sorted((found.left, found.right)) if found.kinked else (found.central, found.central)
        slack = FAIL * (max(found.error, found.one_sided_error if found.kinked else 0.0) + error * norm(v))
        if not low - slack <= inner_product(f.g, v) <= high + slack:
            return True
    return False


def _as_large_as(x, v):
    """The direction v with its largest entry as large as x is on average."""
    return np.asarray(v / max(largest(v), 1e-300) * (float(np.sqrt(np.mean(np.abs(x) ** 2))) or 1.0))

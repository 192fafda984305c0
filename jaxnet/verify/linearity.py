"""Relation: a rule is linear in its cotangent. Where it is not, that is its fault, whatever its values look like."""

import dataclasses
import time

import numpy as np

from jaxnet.verify import trouble
from jaxnet.verify.noise import norm
from jaxnet.verify.report import Report, Statement, fields, first_line
from jaxnet.verify.ruled import Ruled
from jaxnet.verify.tree import called, unit_roundoff, wide

TIMES = (1.0, 2.0, -1.0, 0.0)  # of one cotangent: all exact in any precision
SLACK = 64  # roundings: powers of two scale exactly, but a device may add in another order each time
IGNORED = "ignores its cotangent: it gives the same gradient for c, 2c, -c and 0"
BENT = "is not linear in its cotangent: it adds to it, or bends it"


def with_linearity(report: Report, ruled: Ruled, cotangent: list) -> Report:
    """The report with what c, 2c, -c and 0 give; of a wrong rule that is not linear in them, as its cause."""
    begun = time.perf_counter()

    def stated(said: str) -> Report:
        statement = Statement("6 relations", said, time.perf_counter() - begun)
        return Report(**{**fields(report), "witnesses": (*report.witnesses, statement)})

    try:
        found = ruled.pulled([[c * c.dtype.type(times) for c in cotangent] for times in TIMES])
    except Exception as error:  # a rule that refuses what JAX's own would take
        return stated(trouble.mistake(error, "relations") or f"cannot: {first_line(error)}")
    faults = {}
    for path, *leaf in zip(ruled.tree.names, *found, strict=True):
        fault = _fault([wide(x) for x in leaf], SLACK * unit_roundoff(leaf[0].dtype))
        if fault:
            faults[path] = fault
    report = stated(f"the rule is {'NOT ' if faults else ''}linear in its cotangent")
    return _blamed(report, faults) if faults and report.verdict == "FAIL" else report


def _fault(gradients: list[np.ndarray], slack: float) -> str | None:
    """What is wrong with one leaf's gradients of c, 2c, -c and 0."""
    one, two, minus, nothing = gradients
    if not all(np.isfinite(x).all() for x in gradients):
        return None
    if np.any(one) and all(np.array_equal(one, x) for x in (two, minus, nothing)):
        return IGNORED
    apart = max(norm(two - 2 * one), norm(minus + one), norm(nothing))
    return BENT if apart > slack * max(norm(one), norm(two)) else None


def _blamed(report: Report, faults: dict[str, str]) -> Report:
    """A leaf that ignores its cotangent has no other cause; a bent one may have a name for the cotangent drawn here."""
    ignored, bent = ([path for path, fault in faults.items() if fault is kind] for kind in (IGNORED, BENT))
    leaves = {
        path: dataclasses.replace(leaf, cause=faults[path] if path in ignored else leaf.cause or faults.get(path))
        if leaf.verdict == "FAIL"
        else leaf
        for path, leaf in report.leaves.items()
    }
    failed = [path for path, leaf in leaves.items() if leaf.verdict == "FAIL"]

    def said(paths, fault) -> str:
        where = "" if set(paths) >= set(failed) else f" in {', '.join(map(called, paths))}"
        return f"The rule{where} {fault}."

    lines = [said(paths, fault) for paths, fault in ((ignored, IGNORED), (bent, BENT)) if paths]
    own = [f"{called(p)}: {leaves[p].cause}." for p in failed if leaves[p].cause not in (None, IGNORED, BENT)]
    lines += ["For the cotangent drawn here, " + " ".join(own)] if own else []
    return Report(**{**fields(report), "leaves": leaves, "cause": " ".join(lines), "starts_at": None})

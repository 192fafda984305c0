"""The targets of the comparison of gradient checkers, which jaxnet.verify has to meet: held or not, and what missed."""

from experiments.verifier.correct import TRICKY
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.trials import Row

BUDGET = 5.0  # seconds for two million parameters, compilation included
NAMED = 0.8  # share of the nameable causes that must be exact
FAILURE_COST = 1.25  # a failure may take this much of a pass: the clock of a shared machine is not exact


def judge(rows, timing) -> dict:
    """Every target of which something was asked: held or not, with what was found, and what was off."""
    ours = [row for row in rows if row.checker.startswith("jaxnet")]
    bugs = [row for row in ours if row.kind == "mutant" and MUTANTS[row.case].visible]
    nameable = [row for row in bugs if MUTANTS[row.case].cause is not None]
    correct = [row for row in ours if row.kind != "mutant"]
    unexpected = [row for row in correct if row.verdict not in expected(row)]
    exact = sum(row.cause == "exact" for row in nameable)
    targets = {}  # of what was asked: a target of no rows would be held by nothing
    if bugs:
        targets["every visible bug refused"] = target(bugs, lambda row: row.verdict == "FAIL")
        targets["its leaves named"] = target(bugs, lambda row: row.located)
        targets["no wrong cause named"] = target(bugs, lambda row: row.cause != "wrong")
    if nameable:
        targets[f"cause exact in {NAMED:.0%} of the nameable"] = {
            "held": exact >= NAMED * len(nameable),
            "found": f"{exact} of {len(nameable)}",
            "off": listed(row for row in nameable if row.cause != "exact"),
        }
    if correct:
        targets["no correct gradient fails"] = target(correct, lambda row: row.verdict not in ("FAIL", "ERROR"))
        targets["verdicts as expected"] = target(correct, lambda row: row not in unexpected)
    if timing:
        slowest = max(timing["fail"].values())
        targets[f"{timing['parameters']:,} parameters under {BUDGET:.0f} s, cold"] = {
            "held": timing["pass"] < BUDGET,
            "found": f"{timing['pass']:.1f} s",
            "off": [],
        }
        targets["a failure is no dearer than a pass"] = {
            "held": slowest <= FAILURE_COST * timing["pass"],
            "found": f"pass {timing['pass']:.1f} s, slowest failure {slowest:.1f} s",
            "off": [],
        }
    return targets


def expected(row: Row) -> tuple[str, ...]:
    """The verdicts that are right for a correct gradient."""
    return TRICKY[row.case].expected if row.kind == "tricky" else ("PASS",)


def target(rows, holds) -> dict:
    """A target that has to hold for every row."""
    off = [row for row in rows if not holds(row)]
    return {"held": not off, "found": f"{len(rows) - len(off)} of {len(rows)}", "off": listed(off)}


def listed(rows) -> list[str]:
    """Rows by name, size, scale and checker, with what was said."""
    return [f"{r.case} {r.size} x{r.scale:g} {r.checker[-3:]} {r.verdict}: {r.says[:160]}" for r in rows]


def target_lines(targets) -> list[str]:
    """One line for each target, and the first cases that missed it."""
    lines = []
    for name, t in targets.items():
        lines.append(f"{'held  ' if t['held'] else 'MISSED'}  {name}: {t['found']}")
        if not t["held"]:
            lines += [f"          {case}" for case in t["off"][:12]]
    return lines

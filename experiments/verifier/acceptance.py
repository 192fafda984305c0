"""The acceptance criteria of the comparison, which jaxnet.verify has to meet: held or not, and what failed."""

from experiments.runner.comparisons import at_least, at_most, below
from experiments.verifier.correct import TRICKY
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.trials import Trial

BUDGET = 5.0  # seconds for two million parameters, compilation included
NAMED = 0.8  # share of the nameable causes that must be exact
FAILURE_COST = 1.5  # a failure may take this much of a pass


def criteria(trials, timing) -> dict:
    """Every criterion of which something was tried: how many held and have to, in words, and the trials that failed."""
    ours = [trial for trial in trials if trial.checker.startswith("jaxnet")]
    bugs = [trial for trial in ours if trial.kind == "mutant" and MUTANTS[trial.case].visible]
    nameable = [trial for trial in bugs if MUTANTS[trial.case].cause is not None]
    correct = [trial for trial in ours if trial.kind != "mutant"]
    exact = sum(trial.cause == "exact" for trial in nameable)
    found = {}  # of what was tried: a criterion of no trials would be held by nothing
    if bugs:
        found["every visible bug refused"] = criterion(bugs, lambda trial: trial.verdict == "FAIL")
        found["its leaves named"] = criterion(bugs, lambda trial: trial.located)
        found["no wrong cause named"] = criterion(bugs, lambda trial: trial.cause != "wrong")
    if nameable:
        found[f"cause exact in {NAMED:.0%} of the nameable"] = {
            "held": at_least(exact / len(nameable), NAMED),
            "measured": f"{exact} of {len(nameable)}",
            "failures": descriptions(trial for trial in nameable if trial.cause != "exact"),
        }
    if correct:
        found["no correct gradient fails"] = criterion(correct, lambda trial: trial.verdict not in ("FAIL", "ERROR"))
        found["verdicts as expected"] = criterion(correct, lambda trial: trial.verdict in expected_verdicts(trial))
    if timing:
        slowest = max(timing["fail"].values())
        found[f"{timing['parameters']:,} parameters under {BUDGET:.0f} s, cold"] = {
            "held": below(timing["pass"], BUDGET),
            "measured": f"{timing['pass']:.1f} s",
            "failures": [],
        }
        found[f"a failure costs at most {FAILURE_COST:g} of a pass"] = {
            "held": at_most(slowest / timing["pass"], FAILURE_COST),
            "measured": f"pass {timing['pass']:.1f} s, slowest failure {slowest:.1f} s",
            "failures": [],
        }
    return found


def expected_verdicts(trial: Trial) -> tuple[str, ...]:
    """The verdicts that are right for a correct gradient."""
    return TRICKY[trial.case].expected if trial.kind == "tricky" else ("PASS",)


def criterion(trials, holds) -> dict:
    """A criterion that has to hold for every trial."""
    failures = [trial for trial in trials if not holds(trial)]
    return {
        "held": at_least(len(trials) - len(failures), len(trials)),
        "measured": f"{len(trials) - len(failures)} of {len(trials)}",
        "failures": descriptions(failures),
    }


def descriptions(trials) -> list[str]:
    """Trials by name, size, scale and checker, with the verdict and the message."""
    return [f"{t.case} {t.size} x{t.scale:g} {t.checker[-3:]} {t.verdict}: {t.message[:160]}" for t in trials]


def lines(criteria) -> list[str]:
    """One line for each criterion, and the first trials that failed it."""
    text = []
    for name, c in criteria.items():
        text.append(f"{'held  ' if c['held'] else 'MISSED'}  {name}: {c['measured']}")
        if not c["held"]:
            text += [f"          {failure}" for failure in c["failures"][:12]]
    return text

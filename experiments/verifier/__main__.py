"""Gradient checkers compared: which refuse planted bugs, which reject correct gradients, which name leaf and cause.

Every checker, ours included, is tried on the wrong backward passes of experiments/verifier/mutants.py and on the
correct but tricky gradients of experiments/verifier/correct.py, at five scales of the loss and at random points: no
data set is read. The table of jaxnet/verify/README.md is printed again.
The exit code is 0 only if jaxnet.verify meets every criterion of experiments/verifier/acceptance.py.
"""

import dataclasses

import jax
from tqdm import tqdm

from experiments.runner import experiment
from experiments.runner.comparisons import Comparison
from experiments.verifier import acceptance, results, spot_the_bug
from experiments.verifier.checkers import CHECKERS, by_jaxnet
from experiments.verifier.correct import TRICKY
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.trials import Config, timing, trials

NOTES = "section 8"
DATA = ()  # random numbers


def for_page(quick: bool = False, **common) -> Config:
    """What the page of all experiments can wait for: the quick form, or of that, on a quick page, a little."""
    least = {"dtypes": ("float32",), "cases": ("g_of_layer_above", "x_1.001", "log_near_zero")}
    return Config(quick=True, **common, **(least if quick else {}))


def measure(config: Config) -> dict:
    """Give every checker every problem, then judge ours by the acceptance criteria."""
    if unknown := set(config.cases) - {*MUTANTS, *TRICKY}:
        raise ValueError(f"--cases {min(unknown)}: expected one of {', '.join([*MUTANTS, *TRICKY])}")
    dtypes, peers = config.dtypes, config.peers
    checkers = [c for c in CHECKERS if c.installed and c.dtype in dtypes and (peers or c.check is by_jaxnet)]
    absent = sorted({c.package for c in CHECKERS if not c.installed})
    if absent and peers:
        print(f'Not installed, left out: {", ".join(absent)}; pip install -e ".[peers]"')
    seconds = timing(config)  # before thousands of compiled programs fill the memory
    done = []
    with tqdm([*trials(config, checkers)], unit="check", disable=None, leave=False) as bar:
        for count, (checker, trial, fill) in enumerate(bar):
            bar.set_postfix_str(f"{checker.name}: {trial.case}")
            done.append(fill(checker, trial))
            if count % 100 == 99:
                jax.clear_caches()  # thousands of compiled programs would fill the memory
    if not done:
        raise ValueError(f"cases are {', '.join(config.cases)}; expected one that is tried in {', '.join(dtypes)}")
    criteria, table = acceptance.criteria(done, seconds), results.scoreboard(checkers, done)
    print("\n".join(["", *results.markdown(table), "", *acceptance.lines(criteria)]))
    return {
        "checkers": checkers,
        "trials": done,
        "timing": seconds,
        "criteria": criteria,
        "table": table,
        "absent": absent,
    }


def clauses(found: dict) -> dict[str, Comparison]:
    """Each acceptance criterion: of how many trials it held, of how many it has to."""
    return {name: criterion["held"] for name, criterion in found["criteria"].items()}


def claim(found: dict) -> str:
    """How many criteria are met, and what was measured of each."""
    criteria = found["criteria"]
    measured = "; ".join(f"{name}, {criterion['measured']}" for name, criterion in criteria.items())
    return (
        f"jaxnet.verify meets {sum(map(bool, clauses(found).values()))} of {len(criteria)} acceptance criteria"
        f"{': ' * bool(criteria)}{measured}."
    )


def metrics(found: dict) -> dict:
    """The criteria, the table, and every trial."""
    return {
        "measured": {name: criterion["measured"] for name, criterion in found["criteria"].items()},
        "failures": {name: criterion["failures"] for name, criterion in found["criteria"].items()},
        "checkers": found["table"],
        "not_installed": found["absent"],
        "timing": found["timing"],
        "trials": [dataclasses.asdict(trial) for trial in found["trials"]],
    }


def explore(config: Config) -> dict:
    """The formulas to spot the bug in, and the verifier's reports of the wrong ones."""
    return spot_the_bug.explore(config)


def draw(found: dict):
    """The bugs that each checker accepted and the correct gradients that it refused."""
    return results.figure(found["checkers"], found["trials"])


if __name__ == "__main__":
    experiment.main("verifier")

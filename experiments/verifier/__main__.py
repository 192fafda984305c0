"""Gradient checkers compared: who refuses planted bugs, who rejects correct gradients, who says where and why.

Makes the table in the README again: every checker, ours included, over the wrong backward passes of
`experiments.mutants` and the correct but tricky gradients of `experiments.tricky`, at five sizes of the loss and at
random points: no data set is read.
The exit code is 0 only if jaxnet.verify meets every target of `experiments.targets`.
"""

import dataclasses

import jax
from tqdm import tqdm

from experiments.runner import experiment
from experiments.runner.experiment import Result
from experiments.verifier.acceptance import judge, target_lines
from experiments.verifier.checkers import CHECKERS, by_jaxnet
from experiments.verifier.correct import TRICKY
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.results import draw, markdown, scoreboard
from experiments.verifier.trials import Config, questions, seconds_at_two_million
from jaxnet import checks

NOTES = "section 8"
DATA = ()  # random numbers


def for_page(quick: bool = False, **common) -> Config:
    """What the page of all experiments can wait for: the quick form, or of that, on a quick page, a little."""
    least = {"peers": False, "dtypes": ("float32",), "cases": ("g_of_layer_above", "x_1.001", "log_near_zero")}
    return Config(quick=True, **common, **(least if quick else {}))


def run(config: Config) -> Result:
    """Ask every checker every question, then judge ours by the targets."""
    checks.count("seeds", config.seeds)
    checks.positive("patience", config.patience)
    for case in config.cases:
        checks.choice("cases", case, [*MUTANTS, *TRICKY])
    asked = [c for c in CHECKERS if c.installed and c.dtype in config.dtypes and (config.peers or c.check is by_jaxnet)]
    absent = sorted({c.package for c in CHECKERS if not c.installed})
    if absent:
        print(f"Not installed, left out: {', '.join(absent)}")
    timing = seconds_at_two_million(config)  # before thousands of compiled programs fill the memory
    rows = []
    jobs = list(questions(config, asked))
    with tqdm(jobs, unit="check", disable=None, leave=False) as bar:
        for count, (checker, row, problem_of) in enumerate(bar):
            bar.set_postfix_str(f"{checker.name}: {row.case}")
            rows.append(problem_of(checker, row))
            if count % 100 == 99:
                jax.clear_caches()  # thousands of compiled programs would fill the memory
    if not rows:
        raise ValueError(f"cases are {', '.join(config.cases)}; expected one that is asked in {config.dtypes}")
    targets = judge(rows, timing)
    table = scoreboard(asked, rows)
    print("\n".join(["", *markdown(table), "", *target_lines(targets)]))
    return Result(
        claim=f"jaxnet.verify meets {sum(t['held'] for t in targets.values())} of {len(targets)} targets: "
        + "; ".join(f"{name}, {t['found']}" for name, t in targets.items())
        + ".",
        held=bool(targets) and all(t["held"] for t in targets.values()),
        metrics={
            "clauses": {name: t["held"] for name, t in targets.items()},
            "found": {name: t["found"] for name, t in targets.items()},
            "off": {name: t["off"] for name, t in targets.items()},
            "checkers": table,
            "not_installed": absent,
            "timing": timing,
            "rows": [dataclasses.asdict(row) for row in rows],
        },
        figure=draw(asked, rows),
    )


if __name__ == "__main__":
    experiment.main("verifier")

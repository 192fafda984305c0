"""Gradient checkers compared: who refuses planted bugs, who rejects correct gradients, who says where and why.

Makes the table at the top of VERIFIER.md again: every checker, ours included, over the wrong backward passes of
`experiments.mutants` and the correct but tricky gradients of `experiments.tricky`, at five sizes of the loss.
The exit code is 0 only if jaxnet.verify meets every target of VERIFIER.md, section 5.
"""

import collections
import dataclasses
import re
import statistics
from typing import Literal

import jax
import numpy as np
from tqdm import tqdm

from experiments import experiment
from experiments.checkers import CHECKERS, Answer, Checker, ask, by_jaxnet
from experiments.experiment import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, Figure, Result
from experiments.mutants import MUTANTS, SHOWN_IN_BFLOAT16, Mutant
from experiments.points import large_square
from experiments.steps import CORRECT, plain_loss
from experiments.tricky import TRICKY, Problem

NOTES = "section 8"
SCALES = (1.0, 1e-2, 1e-4, 1e-6, 1e6)
TARGET_SCALES = (1.0, 1e-6, 1e6)
BUDGET = 5.0  # seconds for two million parameters, compilation included
NAMED = 0.8  # share of the nameable causes that must be exact
FAILURE_COST = 1.25  # a failure may take this much of a pass: the clock of a shared machine is not exact
# Sentences that say where, not why.
LOCALISED = re.compile(r"The error starts at [^.]*\.")
QUICK_MUTANTS = (
    "dW_without_1/m",
    "W_for_W_transposed",
    "g_of_layer_above",
    "one_coordinate_x_1.5",
    "x_1.001",
    "rare_branch",
)
QUICK_TRICKY = ("relu_at_zero_slope_0.5", "log_near_zero", "saturated_softmax", "bfloat16_leaves")


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the comparison."""

    quick: bool = False
    """A handful of cases at two loss scales on the small nets: a minute, for a look; nothing is proved by it."""
    sizes: tuple[Literal["small", "large"], ...] = ("small", "large")
    """Nets to plant the bugs in: about 100 parameters, and 1.8 million."""
    seeds: int = 25
    """Seeds of each tricky case for jaxnet.verify; 25 make more than 1,000 checks. The peers get one."""
    patience: float = 20.0
    """Seconds after which torch's fast gradcheck, which accepts in one or two, is taken to refuse."""
    peers: bool = True
    """Ask the other checkers too."""
    dtypes: tuple[Literal["float32", "float64", "bfloat16"], ...] = ("float32", "float64", "bfloat16")
    """Ask the checkers of these dtypes."""
    cases: tuple[str, ...] = ()
    """Names of mutants and tricky cases to ask about; none given: all, or the quick ones."""


def for_page(quick: bool = False, **common) -> Config:
    """What the page of all experiments can wait for: the quick form, or of that, on a quick page, a little."""
    least = {"peers": False, "dtypes": ("float32",), "cases": ("g_of_layer_above", "x_1.001", "log_near_zero")}
    return Config(quick=True, **common, **(least if quick else {}))


@dataclasses.dataclass(frozen=True)
class Row:
    """One question to one checker, and the answer."""

    checker: str
    case: str
    kind: str  # "mutant", "right" (a mutant's problem with its correct gradient) or "tricky"
    size: str = "small"
    scale: float = 1.0
    refused: bool | None = None
    verdict: str = ""
    located: bool | None = None  # ours: exactly the wrong leaves were named
    cause: str = ""  # ours, on a visible bug: "exact", "none" or "wrong"
    says: str = ""
    seconds: float = 0.0


def run(config: Config) -> Result:
    """Ask every checker every question, then judge ours by the targets."""
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
        raise ValueError(f"cases are {', '.join(config.cases)}; there are {', '.join([*MUTANTS, *TRICKY])}")
    targets = judge(rows, timing)
    table = tabulate(asked, rows, timing)
    print("\n".join(["", *table, "", *target_lines(targets)]))
    return Result(
        claim=f"jaxnet.verify meets {sum(t['held'] for t in targets.values())} of {len(targets)} targets.",
        held=all(t["held"] for t in targets.values()),
        metrics={
            "clauses": {name: t["held"] for name, t in targets.items()},
            "found": {name: t["found"] for name, t in targets.items()},
            "targets": targets,
            "table": table,
            "not_installed": absent,
            "timing": timing,
            "rows": [dataclasses.asdict(row) for row in rows],
        },
        figure=draw(asked, rows),
    )


# ---------------------------------------------------------------- the questions


def questions(config: Config, asked):
    """Every (checker, empty row, function that asks): mutants, two of their correct twins, tricky cases."""
    for checker in asked:
        for name in chosen(config, QUICK_MUTANTS, MUTANTS):
            for size, scale in settings(checker, name, config):
                row = Row(checker.name, name, "mutant", size, scale)
                yield checker, row, mutant_question(MUTANTS[name], config)
                if name in ("dW_zero", "weight_decay_missing"):  # one plain loss, one with a regulariser
                    yield checker, dataclasses.replace(row, kind="right"), mutant_question(MUTANTS[name], config)
        if checker.dtype == "bfloat16":  # among the tricky cases bfloat16 has its own
            continue
        seeds = config.seeds if checker.name == "jaxnet.verify f32" and not config.quick else 1
        for name in chosen(config, QUICK_TRICKY, TRICKY):
            for seed in range(config.seed, config.seed + seeds):
                yield checker, Row(checker.name, name, "tricky"), tricky_question(name, seed, config)


def chosen(config: Config, quick, every) -> list[str]:
    """The names to ask about: those of the configuration, else the quick ones, else all."""
    return [name for name in (quick if config.quick and not config.cases else every) if name in (config.cases or every)]


def settings(checker: Checker, name: str, config: Config):
    """The (size, scale) at which a checker is asked about a mutant."""
    ours, low = checker.check is by_jaxnet, checker.dtype == "bfloat16"
    if low and name not in SHOWN_IN_BFLOAT16:
        return []
    scales = (1.0, 1e-6) if config.quick else TARGET_SCALES if low else SCALES
    small = [("small", scale) for scale in scales if "small" in config.sizes]
    if config.quick or low or MUTANTS[name].large_point is None or "large" not in config.sizes:
        return small
    # A large net costs seconds: the peers are asked about the plain loss only, ours at the targets' scales.
    return small + [("large", scale) for scale in (TARGET_SCALES if ours else (1.0,))]


def mutant_question(mutant: Mutant, config: Config):
    """The function that asks a checker about this mutant, or about its correct gradient."""

    def put(checker: Checker, row: Row) -> Row:
        with jax.enable_x64(checker.dtype == "float64"):
            point = mutant.point if row.size == "small" else mutant.large_point
            params, X, Y = point(jax.random.key(config.seed), checker.dtype)
        gradient = mutant.right if row.kind == "right" else mutant.gradient
        loss, gradient = scaled(mutant.loss, gradient, row.scale)
        options = mutant.options if checker.check is by_jaxnet else {}
        answer = ask(checker, Problem(loss, gradient, params, (X, Y), options), config.patience)
        return answered(row, answer, mutant if row.kind == "mutant" else None)

    return put


def scaled(loss, gradient, scale: float):
    """The loss and its gradient times a constant; at 1 as they are."""
    if scale == 1:
        return loss, gradient
    return lambda *a: scale * loss(*a), lambda *a: jax.tree.map(lambda g: scale * g, gradient(*a))


def tricky_question(name: str, seed: int, config: Config):
    """The function that asks a checker about this tricky case."""

    def put(checker: Checker, row: Row) -> Row:
        def check(loss, gradient, params, *args, **kwargs):
            return ask(checker, Problem(loss, gradient, params, args, kwargs), config.patience)

        return answered(row, TRICKY[name].run(check, seed), None)

    return put


def answered(row: Row, answer: Answer, mutant: Mutant | None) -> Row:
    """The row with the answer in it; ours is also judged by the leaves and the cause it names."""
    row = dataclasses.replace(row, refused=answer.refused, says=answer.says, seconds=answer.seconds)
    report = answer.report
    if report is None:
        return dataclasses.replace(row, verdict="ERROR" if row.checker.startswith("jaxnet") else "")
    row = dataclasses.replace(row, verdict=report.verdict, says=said(report))
    if mutant is None or not mutant.visible:
        return row
    failed = {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"}
    starts, wrong = ({leaf_path(report, leaf) for leaf in part} for part in (mutant.starts, mutant.wrong))
    return dataclasses.replace(row, located=starts <= failed <= wrong, cause=judged_cause(report, mutant))


def leaf_path(report, leaf) -> str:
    """The path of (layer index, name) as the report writes it: params are a tuple of Layer(W, b)."""
    index, name = leaf
    return f"[{index}].{name}"


def said(report) -> str:
    """What the report names as the cause, in one line; where the error starts is no cause."""
    sentences = LOCALISED.sub("", report.cause or "").strip()
    return " | ".join([sentences, *(f"{path}: {leaf.cause}" for path, leaf in report.leaves.items() if leaf.cause)])


def judged_cause(report, mutant: Mutant) -> str:
    """Did the report name the right cause, none, or a wrong one?"""
    text = said(report)
    if not text:
        return "none"
    return "exact" if mutant.cause is not None and re.search(mutant.cause, text, re.IGNORECASE) else "wrong"


def seconds_at_two_million(config: Config) -> dict:
    """Seconds for 1.9 M float32 parameters from cold caches: a right gradient, and wrong ones."""
    if config.quick or "large" not in config.sizes:
        return {}
    checker = CHECKERS[0]
    gradients = {"right": CORRECT} | {
        name: MUTANTS[name].gradient
        for name in ("x_1.001", "dW_without_1/m", "W_for_W_transposed", "A_of_previous_batch", "one_hot_off_by_one")
    }
    point = large_square(jax.random.key(config.seed))
    seconds = collections.defaultdict(list)
    for _ in range(3):
        for name, gradient in gradients.items():
            jax.clear_caches()
            answer = ask(checker, Problem(plain_loss, gradient, point[0], point[1:]), config.patience)
            seconds[name].append(answer.seconds)
    best = {name: min(times) for name, times in seconds.items()}  # the others were disturbed by the machine
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(point[0])),
        "pass": best.pop("right"),
        "fail": best,
    }


# ---------------------------------------------------------------- the targets


def judge(rows, timing) -> dict:
    """The acceptance targets of VERIFIER.md, section 5: held or not, with what was found."""
    ours = [row for row in rows if row.checker.startswith("jaxnet")]
    bugs = [row for row in ours if row.kind == "mutant" and MUTANTS[row.case].visible]
    nameable = [row for row in bugs if MUTANTS[row.case].cause is not None]
    correct = [row for row in ours if row.kind != "mutant"]
    unexpected = [row for row in correct if row.verdict not in expected(row)]
    exact = sum(row.cause == "exact" for row in nameable)
    targets = {
        "every visible bug refused": target(bugs, lambda row: row.verdict == "FAIL"),
        "its leaves named": target(bugs, lambda row: row.located),
        f"cause exact in {NAMED:.0%} of the nameable": {
            "held": exact >= NAMED * len(nameable),
            "found": f"{exact} of {len(nameable)}",
            "off": listed(row for row in nameable if row.cause != "exact"),
        },
        "no wrong cause named": target(bugs, lambda row: row.cause != "wrong"),
        "no correct gradient fails": target(correct, lambda row: row.verdict not in ("FAIL", "ERROR")),
        "verdicts as expected": target(correct, lambda row: row not in unexpected),
    }
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


# ---------------------------------------------------------------- the table and the picture


def missed(rows, checker: Checker, size: str, scale: float) -> tuple[int, int] | None:
    """How many mutants the checker accepted of how many it was asked about; None if it could not be asked."""
    answers = [
        row.refused
        for row in rows
        if (row.checker, row.kind, row.size, row.scale) == (checker.name, "mutant", size, scale)
        and row.refused is not None
    ]
    return (answers.count(False), len(answers)) if answers else None


def rejected(rows, checker: Checker, kinds=("tricky",)) -> tuple[int, int]:
    """How many correct gradients the checker refused or could not take, of how many."""
    answers = [r.refused for r in rows if r.checker == checker.name and r.kind in kinds and r.refused is not None]
    return answers.count(True), len(answers)


def tabulate(asked, rows, timing) -> list[str]:
    """The table at the top of VERIFIER.md, as Markdown."""
    visible = sum(mutant.visible for mutant in MUTANTS.values())
    scales = sorted({row.scale for row in rows if row.kind == "mutant"}, key=SCALES.index)
    heads = ["checker, default settings"]
    heads += [f"missed, loss x {scale:g}" for scale in scales]
    heads += [
        "missed, 1.8 M parameters",
        "correct refused",
        "tricky refused",
        "says",
        "seconds, small",
        "seconds, large",
    ]
    lines = [
        f"{len(MUTANTS)} bugs, {visible} of them visible at the test point; {len(TRICKY)} tricky correct gradients",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for checker in asked:
        cells = [checker.name]
        cells += [share(missed(rows, checker, "small", scale)) for scale in scales]
        cells += [share(missed(rows, checker, "large", 1.0)), share(rejected(rows, checker, ("right",)))]
        cells += [share(rejected(rows, checker)), says_what(rows, checker)]
        cells += [median_seconds(rows, checker, size) for size in ("small", "large")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def share(pair) -> str:
    """k of n; "-" where nothing was asked or the checker could not be."""
    return "-" if pair is None or pair[1] == 0 else f"{pair[0]} of {pair[1]}"


def says_what(rows, checker: Checker) -> str:
    """What the message names; for ours, counted."""
    bugs = [r for r in rows if r.checker == checker.name and r.kind == "mutant" and MUTANTS[r.case].visible]
    if checker.check is not by_jaxnet or not bugs:
        return checker.names
    nameable = [r for r in bugs if MUTANTS[r.case].cause is not None]
    exact, wrong = (sum(r.cause == c for r in nameable) for c in ("exact", "wrong"))
    return f"leaf {sum(bool(r.located) for r in bugs)}/{len(bugs)}, cause {exact}/{len(nameable)}, {wrong} wrong"


def median_seconds(rows, checker: Checker, size: str) -> str:
    """The median time of the answers it gave."""
    times = [r.seconds for r in rows if (r.checker, r.size) == (checker.name, size) and r.refused is not None]
    times = times or [float("nan")]
    return f"{statistics.median(times):.2g}" if np.isfinite(times[0]) else "-"


def target_lines(targets) -> list[str]:
    """One line for each target, and the first cases that missed it."""
    lines = []
    for name, t in targets.items():
        lines.append(f"{'held  ' if t['held'] else 'MISSED'}  {name}: {t['found']}")
        if not t["held"]:
            lines += [f"          {case}" for case in t["off"][:12]]
    return lines


COLOURS = (BLUE, BLUE, BLUE, ORANGE, ORANGE, GREEN, GREEN, RED, PURPLE, SKY, SKY)


def draw(asked, rows) -> Figure:
    """Missed bugs against the loss's scale, missed bugs at 1.8 M parameters, and correct gradients refused."""
    figure = Figure(figsize=(14, 5.2), layout="constrained")
    lines, large, false_alarms = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    asked = [checker for checker in asked if checker.dtype != "bfloat16"]
    colours = dict(zip((c.name for c in CHECKERS), COLOURS, strict=True))
    scales = sorted({row.scale for row in rows if row.kind == "mutant"})
    for checker in asked:
        shares = [(scale, missed(rows, checker, "small", scale)) for scale in scales]
        known = [(scale, 100 * pair[0] / pair[1]) for scale, pair in shares if pair is not None]
        second = checker.name in ("jaxnet.verify f64", "check_grads f64", "gradcheck fast f64", "chex f64")
        lines.plot(
            *np.reshape(known, (-1, 2)).T, "s--" if second else "o-", color=colours[checker.name],
            label=checker.name, alpha=0.8,
        )  # fmt: skip
    lines.set(
        xscale="log", ylim=(-3, 103), xlabel="the loss is multiplied by", ylabel="planted bugs accepted (%)",
        title="Small nets, 78 to 126 parameters",
    )  # fmt: skip
    lines.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)  # the lines are everywhere
    was_asked = any(row.size == "large" for row in rows)
    bars(
        large,
        asked,
        colours,
        [missed(rows, c, "large", 1.0) for c in asked],
        "not feasible" if was_asked else "not asked",
    )
    large.set(title="1.8 million parameters", xlabel="planted bugs accepted (%)")
    bars(false_alarms, asked, colours, [rejected(rows, c) for c in asked], "not asked")
    false_alarms.set(title="Correct but tricky", xlabel="correct gradients refused or not taken (%)")
    false_alarms.set_yticklabels([])  # the same checkers as beside it
    return figure


def bars(axes, asked, colours, shares, otherwise: str) -> None:
    """One bar a checker, in per cent, with the counts beside it, or the reason why there is none."""
    for place, (checker, pair) in enumerate(zip(asked, shares, strict=True)):
        known = pair is not None and pair[1] > 0
        height = 100 * pair[0] / pair[1] if known else 0
        axes.barh(place, height, color=colours[checker.name])
        text = f"{pair[0]} of {pair[1]}" if known else otherwise
        axes.text(height + 1, place, text, va="center", fontsize="small")
    axes.set_yticks(range(len(asked)), [checker.name for checker in asked])
    axes.set(xlim=(0, 118), xticks=range(0, 101, 20))  # room for the counts
    axes.invert_yaxis()


if __name__ == "__main__":
    experiment.main("verifier", run, Config)

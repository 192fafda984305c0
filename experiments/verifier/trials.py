"""What the gradient checkers are asked, one by one, and what each answers: a `Row` for each question.

A question is a planted bug of `experiments.mutants` at some size of the net and of the loss, the correct gradient of
the same problem, or a correct but tricky gradient of `experiments.tricky`. Ours is also judged by what it names.
"""

import collections
import dataclasses
import re
from typing import Literal

import jax

from experiments.runner import experiment
from experiments.verifier.backward import CORRECT, plain_loss
from experiments.verifier.checkers import CHECKERS, Answer, Checker, ask, by_jaxnet
from experiments.verifier.correct import TRICKY, Problem
from experiments.verifier.mutants import MUTANTS, SHOWN_IN_BFLOAT16, Mutant
from experiments.verifier.points import large_square

SCALES = (1.0, 1e-2, 1e-4, 1e-6, 1e6)
TARGET_SCALES = (1.0, 1e-6, 1e6)
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
    for _ in range(10):
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

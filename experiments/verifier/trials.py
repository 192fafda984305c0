"""The trials of the comparison: a `Trial` is one gradient given to one checker, with the outcome.

The gradient is a mutant, a planted bug of `mutants` at some size of the net and of the loss; the correct gradient of
the same problem; or a correct but tricky one of `correct`. Ours is also judged by the leaves and the cause it names.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Literal

import jax

from experiments.runner import experiment
from experiments.runner.options import Positive
from experiments.verifier.backward import CORRECT, plain_loss
from experiments.verifier.checkers import CHECKERS, Checker, Outcome, by_jaxnet, check
from experiments.verifier.correct import TRICKY, Problem
from experiments.verifier.mutants import MUTANTS, SHOWN_IN_BFLOAT16, Mutant
from experiments.verifier.points import large_square

SCALES = (1.0, 1e-2, 1e-4, 1e-6, 1e6)  # of the loss
EXTREME_SCALES = (1.0, 1e-6, 1e6)
# Sentences that say where, not why.
LOCATION = re.compile(r"The error starts at [^.]*\.")
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
    seeds: Positive[int] = 25
    """Seeds of each tricky case for jaxnet.verify; 25 make more than 1,000 checks. The peers get one."""
    patience: Positive[float] = 20.0
    """Seconds after which torch's fast gradcheck, which accepts in one or two, counts as a refusal."""
    peers: bool = True
    """Try the other checkers too."""
    dtypes: tuple[Literal["float32", "float64", "bfloat16"], ...] = ("float32", "float64", "bfloat16")
    """Try the checkers of these dtypes."""
    cases: tuple[str, ...] = ()
    """Names of mutants and tricky cases to try; none given: all, or the quick ones."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One gradient given to one checker, and the outcome."""

    checker: str
    case: str
    kind: str  # "mutant", "correct" (a mutant's problem with its correct gradient) or "tricky"
    size: str = "small"
    scale: float = 1.0  # of the loss
    refused: bool | None = None  # None: not feasible
    verdict: str = ""
    located: bool | None = None  # ours: exactly the wrong leaves were named
    cause: str = ""  # ours, on a visible bug: "exact", "none" or "wrong"
    message: str = ""
    seconds: float = 0.0


def trials(config: Config, checkers) -> Iterator[tuple[Checker, Trial, Callable[[Checker, Trial], Trial]]]:
    """Every checker with an empty trial and the function that fills it in: mutants, correct twins, tricky cases."""
    for checker in checkers:
        for name in selection(config, QUICK_MUTANTS, MUTANTS):
            for size, scale in settings(checker, name, config):
                trial, run = Trial(checker.name, name, "mutant", size, scale), mutant_trial(MUTANTS[name], config)
                yield checker, trial, run
                if name in ("dW_zero", "weight_decay_missing"):  # one plain loss, one with a regulariser
                    yield checker, dataclasses.replace(trial, kind="correct"), run
        if checker.dtype == "bfloat16":  # among the tricky cases bfloat16 has its own
            continue
        seeds = config.seeds if checker.name == "jaxnet.verify f32" and not config.quick else 1
        for name in selection(config, QUICK_TRICKY, TRICKY):
            for seed in range(config.seed, config.seed + seeds):
                yield checker, Trial(checker.name, name, "tricky"), tricky_trial(name, seed, config)


def selection(config: Config, quick, every) -> list[str]:
    """The names to try: those of the configuration, else the quick ones, else all."""
    return [name for name in (quick if config.quick and not config.cases else every) if name in (config.cases or every)]


def settings(checker: Checker, name: str, config: Config) -> list[tuple[str, float]]:
    """The (size, scale of the loss) at which a checker is given a mutant."""
    ours, low = checker.check is by_jaxnet, checker.dtype == "bfloat16"
    if low and name not in SHOWN_IN_BFLOAT16:
        return []
    scales = (1.0, 1e-6) if config.quick else EXTREME_SCALES if low else SCALES
    small = [("small", scale) for scale in scales if "small" in config.sizes]
    if config.quick or low or MUTANTS[name].large_point is None or "large" not in config.sizes:
        return small
    # A large net costs seconds: the peers get the plain loss only, ours the extreme scales too.
    return small + [("large", scale) for scale in (EXTREME_SCALES if ours else (1.0,))]


def mutant_trial(mutant: Mutant, config: Config) -> Callable[[Checker, Trial], Trial]:
    """The function that gives a checker this mutant, or its correct twin."""

    def run(checker: Checker, trial: Trial) -> Trial:
        with jax.enable_x64(checker.dtype == "float64"):
            point = mutant.point if trial.size == "small" else mutant.large_point
            params, X, Y = point(jax.random.key(config.seed), checker.dtype)
        gradient = mutant.right if trial.kind == "correct" else mutant.gradient
        loss, gradient = scaled(mutant.loss, gradient, trial.scale)
        options = mutant.options if checker.check is by_jaxnet else {}
        outcome = check(checker, Problem(loss, gradient, params, (X, Y), options), config.patience)
        return with_outcome(trial, outcome, mutant if trial.kind == "mutant" else None)

    return run


def scaled(loss, gradient, scale: float):
    """The loss and its gradient times a constant; at 1 as they are."""
    if scale == 1:
        return loss, gradient
    return lambda *a: scale * loss(*a), lambda *a: jax.tree.map(lambda g: scale * g, gradient(*a))


def tricky_trial(name: str, seed: int, config: Config) -> Callable[[Checker, Trial], Trial]:
    """The function that gives a checker this tricky case."""

    def run(checker: Checker, trial: Trial) -> Trial:
        def check_case(loss, gradient, params, *args, **kwargs):
            return check(checker, Problem(loss, gradient, params, args, kwargs), config.patience)

        return with_outcome(trial, TRICKY[name].run(check_case, seed), None)

    return run


def with_outcome(trial: Trial, outcome: Outcome, mutant: Mutant | None) -> Trial:
    """The trial with its outcome; ours is also judged by the leaves and the cause it names."""
    trial = dataclasses.replace(trial, refused=outcome.refused, message=outcome.message, seconds=outcome.seconds)
    report = outcome.report
    if report is None:
        return dataclasses.replace(trial, verdict="ERROR" if trial.checker.startswith("jaxnet") else "")
    trial = dataclasses.replace(trial, verdict=report.verdict, message=causes(report))
    if mutant is None or not mutant.visible:
        return trial
    failed = {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"}
    starts, wrong = ({leaf_path(leaf) for leaf in part} for part in (mutant.starts, mutant.wrong))
    return dataclasses.replace(trial, located=starts <= failed <= wrong, cause=cause_verdict(report, mutant))


def leaf_path(leaf: tuple[int, str]) -> str:
    """The path of (layer index, name) as the report writes it: params are a tuple of Layer(W, b)."""
    index, name = leaf
    return f"[{index}].{name}"


def causes(report) -> str:
    """What the report names as the cause, in one line; where the error starts is no cause."""
    sentences = LOCATION.sub("", report.cause or "").strip()
    return " | ".join([sentences, *(f"{path}: {leaf.cause}" for path, leaf in report.leaves.items() if leaf.cause)])


def cause_verdict(report, mutant: Mutant) -> str:
    """Whether the report names the right cause, "exact", none, "none", or another, "wrong"."""
    text = causes(report)
    if not text:
        return "none"
    return "exact" if mutant.cause is not None and re.search(mutant.cause, text, re.IGNORECASE) else "wrong"


def timing(config: Config) -> dict:
    """Seconds for 1.9 M float32 parameters from cold caches: a right gradient, and wrong ones."""
    if config.quick or "large" not in config.sizes:
        return {}
    checker = CHECKERS[0]
    gradients = {"correct": CORRECT} | {
        name: MUTANTS[name].gradient
        for name in ("x_1.001", "dW_without_1/m", "W_for_W_transposed", "A_of_previous_batch", "one_hot_off_by_one")
    }
    params, *args = large_square(jax.random.key(config.seed))
    seconds = collections.defaultdict(list)
    for _ in range(10):
        for name, gradient in gradients.items():
            jax.clear_caches()
            problem = Problem(plain_loss, gradient, params, tuple(args))
            seconds[name].append(check(checker, problem, config.patience).seconds)
    best = {name: min(times) for name, times in seconds.items()}  # the others were disturbed by the machine
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "pass": best.pop("correct"),
        "fail": best,
    }

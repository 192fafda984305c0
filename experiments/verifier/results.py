"""How the gradient checkers compare: bugs accepted and correct gradients refused, as a table and as a figure."""

import statistics

import numpy as np

from experiments.runner import plots
from experiments.verifier.checkers import CHECKERS, Checker, by_jaxnet
from experiments.verifier.correct import TRICKY
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.trials import SCALES
from jaxnet.plot.colours import BLUE, GREEN, ORANGE, PURPLE, RED, SKY

COLOURS = (BLUE, BLUE, BLUE, ORANGE, ORANGE, GREEN, GREEN, RED, PURPLE, SKY, SKY)


def missed_bugs(trials, checker: Checker, size: str, scale: float) -> tuple[int, int] | None:
    """How many mutants the checker accepted, and of how many; None if none was tried or feasible."""
    outcomes = [
        trial.refused
        for trial in trials
        if (trial.checker, trial.kind, trial.size, trial.scale) == (checker.name, "mutant", size, scale)
        and trial.refused is not None
    ]
    return (outcomes.count(False), len(outcomes)) if outcomes else None


def refused_gradients(trials, checker: Checker, kinds=("tricky",)) -> tuple[int, int]:
    """How many correct gradients the checker refused or could not take, and of how many."""
    outcomes = [t.refused for t in trials if t.checker == checker.name and t.kind in kinds and t.refused is not None]
    return outcomes.count(True), len(outcomes)


def scoreboard(checkers, trials) -> dict[str, dict[str, str]]:
    """What each checker missed, refused and named, and how long it took: the columns of the README's table."""
    scales = sorted({trial.scale for trial in trials if trial.kind == "mutant"}, key=SCALES.index)
    return {
        checker.name: {
            **{f"missed, loss x {scale:g}": ratio(missed_bugs(trials, checker, "small", scale)) for scale in scales},
            "missed, 1.8 M parameters": ratio(missed_bugs(trials, checker, "large", 1.0)),
            "correct refused": ratio(refused_gradients(trials, checker, ("correct",))),
            "tricky refused": ratio(refused_gradients(trials, checker)),
            "names": naming(trials, checker),
            "seconds, small": median_seconds(trials, checker, "small"),
            "seconds, large": median_seconds(trials, checker, "large"),
        }
        for checker in checkers
    }


def markdown(table: dict[str, dict[str, str]]) -> list[str]:
    """The scoreboard as the README shows it."""
    visible = sum(mutant.visible for mutant in MUTANTS.values())
    heads = ["checker, default settings", *next(iter(table.values()))]
    return [
        f"{len(MUTANTS)} bugs, {visible} of them visible at the test point; {len(TRICKY)} tricky correct gradients",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join([name, *row.values()]) + " |" for name, row in table.items()),
    ]


def ratio(pair: tuple[int, int] | None) -> str:
    """k of n; "-" where nothing was tried or feasible."""
    return "-" if pair is None or pair[1] == 0 else f"{pair[0]} of {pair[1]}"


def naming(trials, checker: Checker) -> str:
    """What the message names; for ours, counted."""
    bugs = [t for t in trials if t.checker == checker.name and t.kind == "mutant" and MUTANTS[t.case].visible]
    if checker.check is not by_jaxnet or not bugs:
        return checker.names
    nameable = [t for t in bugs if MUTANTS[t.case].cause is not None]
    exact, wrong = (sum(t.cause == c for t in nameable) for c in ("exact", "wrong"))
    return f"leaf {sum(bool(t.located) for t in bugs)}/{len(bugs)}, cause {exact}/{len(nameable)}, {wrong} wrong"


def median_seconds(trials, checker: Checker, size: str) -> str:
    """The median time of a trial, in seconds; "-" where none was tried or feasible."""
    times = [t.seconds for t in trials if (t.checker, t.size) == (checker.name, size) and t.refused is not None]
    return f"{statistics.median(times):.2g}" if times else "-"


def figure(checkers, trials):
    """Bugs accepted against the loss's scale, at 1.8 M parameters if that was tried, and correct gradients refused."""
    drawing = plots.figure(14, 5.2)
    is_tried = any(trial.size == "large" for trial in trials)
    curves, *large, false_alarms = drawing.subplots(1, 2 + is_tried, width_ratios=(1.5, *[1] * (1 + is_tried)))
    checkers = [checker for checker in checkers if checker.dtype != "bfloat16"]
    colours = dict(zip((c.name for c in CHECKERS), COLOURS, strict=True))
    scales = sorted({trial.scale for trial in trials if trial.kind == "mutant"})
    bugs, tricky = (len({trial.case for trial in trials if trial.kind == kind}) for kind in ("mutant", "tricky"))
    for checker in checkers:
        pairs = [(scale, missed_bugs(trials, checker, "small", scale)) for scale in scales]
        known = [(scale, 100 * pair[0] / pair[1]) for scale, pair in pairs if pair is not None]
        second = checker.name in ("jaxnet.verify f64", "check_grads f64", "gradcheck fast f64", "chex f64")
        curves.plot(
            *np.reshape(known, (-1, 2)).T, "s--" if second else "o-", color=colours[checker.name],
            label=checker.name, alpha=0.8, zorder=3 if checker.check is by_jaxnet else 2,  # many lines coincide
        )  # fmt: skip
    curves.set(
        xscale="log", ylim=(-3, 103), xlabel="the loss is multiplied by", ylabel="planted bugs accepted (%)",
        title=f"Small nets: {bugs} of {len(MUTANTS)} bugs, {len(scales)} of {len(SCALES)} scales",
    )  # fmt: skip
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 3}  # the curves are everywhere
    curves.legend(fontsize="small", **below)
    for axes in large:
        bars(axes, checkers, colours, [missed_bugs(trials, c, "large", 1.0) for c in checkers], "not feasible")
        axes.set(title="1.8 million parameters", xlabel="planted bugs accepted (%)")
    bars(false_alarms, checkers, colours, [refused_gradients(trials, c) for c in checkers], "not tried")
    false_alarms.set(
        title=f"Correct but tricky: {tricky} of {len(TRICKY)}", xlabel="correct gradients refused or not taken (%)"
    )
    if large:
        false_alarms.set_yticklabels([])  # the same checkers as beside it
    return drawing


def bars(axes, checkers, colours, pairs, otherwise: str) -> None:
    """Draw one bar a checker, in per cent, with the counts beside it, or the reason why there is none."""
    for place, (checker, pair) in enumerate(zip(checkers, pairs, strict=True)):
        known = pair is not None and pair[1] > 0
        height = 100 * pair[0] / pair[1] if known else 0
        axes.barh(place, height, color=colours[checker.name])
        text = f"{pair[0]} of {pair[1]}" if known else otherwise
        axes.text(height + 1, place, text, va="center", fontsize="small")
    axes.set_yticks(range(len(checkers)), [checker.name for checker in checkers])
    axes.set(xlim=(0, 118), xticks=range(0, 101, 20))  # room for the counts
    axes.invert_yaxis()

"""How the gradient checkers compare: bugs let pass and correct gradients refused, as a table and as a picture."""

import statistics

import numpy as np

from experiments.runner.experiment import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, Figure
from experiments.verifier.checkers import CHECKERS, Checker, by_jaxnet
from experiments.verifier.correct import TRICKY
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.trials import SCALES

COLOURS = (BLUE, BLUE, BLUE, ORANGE, ORANGE, GREEN, GREEN, RED, PURPLE, SKY, SKY)


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


def scoreboard(asked, rows) -> dict[str, dict[str, str]]:
    """What each checker missed and refused, what it says and how long it took: the columns of the README's table."""
    scales = sorted({row.scale for row in rows if row.kind == "mutant"}, key=SCALES.index)
    return {
        checker.name: {
            **{f"missed, loss x {scale:g}": share(missed(rows, checker, "small", scale)) for scale in scales},
            "missed, 1.8 M parameters": share(missed(rows, checker, "large", 1.0)),
            "correct refused": share(rejected(rows, checker, ("right",))),
            "tricky refused": share(rejected(rows, checker)),
            "says": says_what(rows, checker),
            "seconds, small": median_seconds(rows, checker, "small"),
            "seconds, large": median_seconds(rows, checker, "large"),
        }
        for checker in asked
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
            label=checker.name, alpha=0.8, zorder=3 if checker.check is by_jaxnet else 2,  # many lines coincide
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

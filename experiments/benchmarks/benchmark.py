"""A race: contestants that do the same work in turn, and what may be said of the times.

The rules: who ends at another cost than ours, by more than the tolerance that each contestant states, gets no time; a
warm-up each; then rounds in which every contestant runs once, one after the other, so that a busy machine disturbs all
alike. A ratio is the median over rounds of the ratios within a round.
"""

import dataclasses
import gc
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from tqdm import tqdm

from experiments.runner.experiment import BLUE, GREY, ORANGE

ROUNDS = 5
PATIENCE = 20.0  # seconds: who takes longer, after its warm-up, is counted once
BEST_PEER = "the best peer"  # a goal against whoever is fastest
WIDE = 10  # times that differ by more are drawn on a log axis, whose labels would overlap over less


@dataclasses.dataclass(frozen=True)
class Contestant:
    """Somebody who does the work: `prepare()` makes it ready and returns `run()`, which does it and is timed.

    cost makes the final cost of what `run()` returned, outside of the clock. tolerance is how far, relatively, it may
    lie from the first contestant's: small where even the order of the examples is the same. Where the work is done in
    a process of its own, `clock` reads the seconds that it took from what `run()` returned.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    cost: Callable[[Any], float] = float
    package: str | None = None
    tolerance: float = 1e-3
    clock: Callable[[Any], float] | None = None
    needs: str | None = None  # what else it needs and has not got here, such as "a GPU"

    @property
    def lacking(self) -> str | None:
        """Why it cannot take part, if it cannot."""
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed"
        return self.needs and f"needs {self.needs}"


@dataclasses.dataclass(frozen=True)
class Race:
    """One workload: the contestants, ours first, and what a time is divided by ("us a step" needs steps and 1e6)."""

    title: str
    contestants: tuple[Contestant, ...]
    unit: str
    per: float
    goal: str
    goals: dict[str, float] = dataclasses.field(default_factory=dict)  # least ratio of a time to ours, see `judged`
    limit: float | None = None  # most of our own time, in the unit
    why: str = ""  # what explains a missed goal, and what was tried
    notes: tuple[str, ...] = ()  # what else a reader should know, such as a peer that cannot be raced


def run(race: Race, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run a race; return a record of what was measured, goals held or missed.

    Raises:
        ValueError: two contestants have one name, or our own cost is not finite: nobody could be compared with it.
    """
    names = [contestant.name for contestant in race.contestants]
    if len(set(names)) < len(names):
        raise ValueError(f"{race.title}: two contestants have one name among {names}")
    ready, absent, refused = {}, [], {}
    for contestant in race.contestants:
        if contestant.lacking:
            absent.append(f"{contestant.name} ({contestant.lacking})")
            continue
        try:
            go = contestant.prepare()
            outcome = go()  # the warm-up: what is compiled is compiled here
            ready[contestant.name] = (contestant, go, float(contestant.cost(outcome)))
        except Exception as error:  # a peer that cannot do it here, such as torch.compile without a C++ compiler
            if contestant is race.contestants[0]:
                raise
            refused[contestant.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    ours = race.contestants[0].name
    cost = ready[ours][2]
    if not math.isfinite(cost):
        raise ValueError(f"{race.title}: {ours} ended at a cost of {cost}, with which nobody can be compared")
    for name in [n for n, (who, _, theirs) in ready.items() if not abs(theirs - cost) <= who.tolerance * abs(cost)]:
        refused[name] = f"another result: cost {ready[name][2]:.6g}, ours {cost:.6g}"
        del ready[name]
    seconds = {name: [] for name in ready}
    for _ in tqdm(range(rounds), desc=race.title, unit="round", disable=None, leave=False):
        for name, (who, go, _) in ready.items():
            if seconds[name] and seconds[name][0] > PATIENCE:
                seconds[name].append(seconds[name][0])
                continue
            gc.collect()
            began = time.perf_counter()
            outcome = go()
            took = time.perf_counter() - began
            seconds[name].append(took if who.clock is None else who.clock(outcome))
    rows = summary(seconds, ours, race.per)
    for name, row in rows.items():
        row["cost"] = ready[name][2]
    return {
        "title": race.title,
        "unit": race.unit,
        "goal": race.goal,
        "ours": ours,
        "rows": rows,
        "goals": judged(race, rows),
        "absent": absent,
        "refused": refused,
        "rounds": rounds,
        "why": race.why,
        "mark": mark(race, rows),
        "notes": [
            *race.notes,
            *(
                f"{name}: one counted run alone, for it took {times[0]:.0f} s"
                for name, times in seconds.items()
                if times[0] > PATIENCE
            ),
        ],
    }


def summary(seconds: Mapping[str, list[float]], ours: str, per: float) -> dict[str, dict[str, float]]:
    """Each contestant's median and least time, in the unit, and the median of its ratios to ours, round by round."""
    return {
        name: {
            "median": per * statistics.median(times),
            "min": per * min(times),
            "ratio": statistics.median(theirs / own for theirs, own in zip(times, seconds[ours], strict=True)),
        }
        for name, times in seconds.items()
    }


def judged(race: Race, rows: Mapping[str, dict[str, float]]) -> dict[str, bool]:
    """Whether each goal was held: against the fastest that has a time and a name that starts with the goal's.

    So "torch" means torch's best form, and BEST_PEER the best of all.
    """
    ours, *_ = rows
    held = {
        f">= {least:g}x {family}" + f" ({best})" * (best != family): rows[best]["ratio"] >= least
        for family, best, least in rivals(race, rows)
    }
    if race.limit is not None:
        held[f"<= {race.limit:g} {race.unit}"] = rows[ours]["median"] <= race.limit
    return held


def mark(race: Race, rows: Mapping[str, dict[str, float]]) -> float | None:
    """The time of ours, in the unit, at which all goals are held; of ratios of medians, so a line for the eye."""
    times = [rows[best]["median"] / least for _, best, least in rivals(race, rows)]
    return min([*times, *([] if race.limit is None else [race.limit])], default=None)


def rivals(race: Race, rows: Mapping[str, dict[str, float]]) -> list[tuple[str, str, float]]:
    """For each goal that somebody here can be asked for: the family, its fastest, and the least ratio to ours."""
    _, *peers = rows
    found = []
    for family, least in race.goals.items():
        names = [name for name in peers if family == BEST_PEER or name.startswith(family)]
        if names:
            found.append((family, min(names, key=lambda name: rows[name]["ratio"]), least))
    return found


def unjudged(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a race at a toy size, where no goal is held or missed."""
    note = "a small version: nothing is proved at this size, and no goal is judged"
    return record | {"goals": {}, "mark": None, "notes": [*record["notes"], note]}


def table(record: dict[str, Any]) -> list[str]:
    """A record as Markdown."""
    lines = [f"### {record['title']}", "", f"Goal: {record['goal']}.", ""]
    lines += [f"| contestant | {record['unit']}, median | min | times ours | final cost |", "|---|---|---|---|---|"]
    for name, row in record["rows"].items():
        times = f"{number(row['median'])} | {number(row['min'])} | {row['ratio']:.2f}"
        lines.append(f"| {name} | {times} | {row['cost']:.5g} |")
    lines += [""]
    lines += [f"- {'held' if held else 'MISSED'}: {goal}" for goal, held in record["goals"].items()]
    lines += [f"- absent: {name}" for name in record["absent"]]
    lines += [f"- left out: {name}: {why}" for name, why in record["refused"].items()]
    lines += [f"- {note}" for note in record["notes"]]
    if record.get("why") and not all(record["goals"].values()):
        lines += ["", record["why"]]
    return [*lines, ""]


def figure(record: dict[str, Any]) -> Figure:
    """Bars of the medians, and of the memory where that is a goal, ours in blue; what ours has to reach as a line."""
    rows, memory, ours = record["rows"], record.get("memory"), record["ours"]
    times = {name: (row["median"], row["ratio"]) for name, row in rows.items()}
    panels = [(times, record["mark"], f"time ({record['unit']})")]
    if memory:
        sizes = {name: (size / 1e6, size / memory[ours]) for name, size in memory.items()}
        panels += [(sizes, record["mark_of_memory"] / 1e6, "temporary memory (MB)")]
    heights = [len(values) + 2 for values, *_ in panels]
    drawing = Figure(figsize=(8, 0.42 * sum(heights) + 0.8), layout="constrained")
    drawing.suptitle(record["title"], fontsize="large")  # over the names too: it is longer than the axes are wide
    for axes, panel in zip(
        drawing.subplots(len(panels), squeeze=False, height_ratios=heights).flat, panels, strict=True
    ):
        _bars(axes, ours, *panel)
    return drawing


def _bars(axes, ours: str, values: Mapping[str, tuple[float, float]], goal: float | None, what: str):
    """A bar a name, labelled with the value and its ratio to ours; on a log axis where they differ by much."""
    lengths = [value for value, _ in values.values()]
    low, high = (pick([*lengths, *([] if goal is None else [goal])]) for pick in (min, max))
    log = high / low >= WIDE
    bars = axes.barh([*values], lengths, color=[BLUE if name == ours else GREY for name in values], log=log)
    labels = [f"{number(value)} ({x:{'.0f' if x >= 10 else '.2g'}}x)" for value, x in values.values()]
    axes.bar_label(bars, labels, padding=4, fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    if goal is not None:
        axes.axvline(goal, color=ORANGE, linestyle="--", label=f"goal {number(goal)}")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize="small", borderaxespad=0)
    reach = (low / 2, high * (high / low) ** 0.3) if log else (0, high * 1.25)  # room for the labels
    axes.set(xlabel=what, xlim=reach)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.invert_yaxis()


def number(value: float) -> str:
    """Three digits, and all of them before the point: 0.0417, 9.72, 3,240."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"

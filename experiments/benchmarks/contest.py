"""A race: contestants that do the same work in turn, and what may be said of the times.

The rules: all reach the same final cost, or no time is reported; a warm-up each; then rounds in which every contestant
runs once, one after the other, so that a busy machine disturbs all alike. A ratio is the median over rounds of the
ratios within a round.
"""

import dataclasses
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.experiment import BLUE, GREY, ORANGE

ROUNDS = 5
PATIENCE = 20.0  # seconds: who takes longer runs once, and its time is that of the warm-up


@dataclasses.dataclass(frozen=True)
class Contestant:
    """Somebody who does the work: `prepare()` makes it ready and returns `run()`, which returns the final cost.

    tolerance is how far, relatively, its final cost may lie from the first contestant's: small where even the order
    of the examples is the same.
    """

    name: str
    prepare: Callable[[], Callable[[], float]]
    package: str | None = None
    tolerance: float = 1e-3

    @property
    def missing(self) -> bool:
        """Whether what it needs is not installed."""
        return self.package is not None and importlib.util.find_spec(self.package) is None


@dataclasses.dataclass(frozen=True)
class Race:
    """One workload: the contestants, ours first, and what a time is divided by ("us a step" needs steps and 1e6)."""

    title: str
    contestants: tuple[Contestant, ...]
    unit: str
    per: float
    goal: str
    goals: dict[str, float] = dataclasses.field(default_factory=dict)  # least ratio of a peer's time to ours, by name
    limit: float | None = None  # most of our own time, in the unit
    why: str = ""  # what explains a missed goal, and what was tried


def run(race: Race, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run a race; return a record of what was measured, goals held or missed."""
    ready, absent, refused, slow = {}, [], {}, {}
    for contestant in race.contestants:
        if contestant.missing:
            absent.append(f"{contestant.name} ({contestant.package} is not installed)")
            continue
        try:
            go = contestant.prepare()
            began = time.perf_counter()
            ready[contestant.name] = (go, go(), contestant.tolerance)  # the warm-up
            if time.perf_counter() - began > PATIENCE:
                slow[contestant.name] = time.perf_counter() - began
        except Exception as error:  # a peer that cannot do it here, such as torch.compile without a C++ compiler
            if contestant is race.contestants[0]:
                raise
            refused[contestant.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    ours = race.contestants[0].name
    cost = ready[ours][1]
    for name in [n for n, (_, theirs, tolerance) in ready.items() if not abs(theirs - cost) <= tolerance * abs(cost)]:
        refused[name] = f"another result: cost {ready[name][1]:.6g}, ours {cost:.6g}"
        del ready[name]
    seconds = {name: [] for name in ready}
    for _ in tqdm(range(rounds), desc=race.title, unit="round", disable=None, leave=False):
        for name, (go, _, _) in ready.items():
            if name in slow:
                seconds[name].append(slow[name])
                continue
            gc.collect()
            began = time.perf_counter()
            go()
            seconds[name].append(time.perf_counter() - began)
    rows = {}
    for name, times in seconds.items():
        ratios = [theirs / own for theirs, own in zip(times, seconds[ours], strict=True)]
        scaled = [race.per * t for t in times]
        rows[name] = {
            "median": statistics.median(scaled),
            "min": min(scaled),
            "ratio": statistics.median(ratios),
            "cost": float(ready[name][1]),
        }
    goals = {
        f">= {least:g}x {name}": rows[name]["ratio"] >= least for name, least in race.goals.items() if name in rows
    }
    if race.limit is not None:
        goals[f"<= {race.limit:g} {race.unit}"] = rows[ours]["median"] <= race.limit
    return {
        "title": race.title,
        "unit": race.unit,
        "goal": race.goal,
        "ours": ours,
        "rows": rows,
        "goals": goals,
        "absent": absent,
        "refused": refused,
        "rounds": rounds,
        "why": race.why,
        "limit": race.limit,
        "notes": [f"{name}: one run alone, its warm-up, for it took {taken:.0f} s" for name, taken in slow.items()],
    }


def table(record: dict[str, Any]) -> list[str]:
    """A record as Markdown."""
    lines = [f"### {record['title']}", "", f"Goal: {record['goal']}.", ""]
    lines += [f"| contestant | {record['unit']}, median | min | times ours | final cost |", "|---|---|---|---|---|"]
    for name, row in record["rows"].items():
        lines.append(f"| {name} | {row['median']:.3g} | {row['min']:.3g} | {row['ratio']:.2f} | {row['cost']:.5g} |")
    lines += [""]
    lines += [f"- {'held' if held else 'MISSED'}: {goal}" for goal, held in record["goals"].items()]
    lines += [f"- not installed: {name}" for name in record["absent"]]
    lines += [f"- left out: {name}: {why}" for name, why in record["refused"].items()]
    lines += [f"- {note}" for note in record.get("notes", ())]
    if record.get("why") and not all(record["goals"].values()):
        lines += ["", record["why"]]
    return [*lines, ""]


def figure(record: dict[str, Any]) -> Figure:
    """Bars of the medians on a log axis, ours in blue, the goal as a line."""
    names = list(record["rows"])
    medians = [record["rows"][name]["median"] for name in names]
    drawing = Figure(figsize=(8, 0.42 * len(names) + 1.6), layout="constrained")
    axes = drawing.subplots()
    colours = [BLUE if name == record["ours"] else GREY for name in names]
    axes.barh(names, medians, color=colours, log=True)
    for place, (name, value) in enumerate(zip(names, medians, strict=True)):
        axes.text(value * 1.05, place, f"{value:.3g} ({record['rows'][name]['ratio']:.2g}x)", va="center", fontsize=9)
    limits = [race_limit] if (race_limit := record.get("limit")) is not None else []
    for limit in limits:
        axes.axvline(limit, color=ORANGE, linestyle="--", label=f"goal {limit:g}")
        axes.legend(loc="lower right", fontsize="small")
    low, high = min([*medians, *limits]), max(medians)
    axes.set(xlabel=record["unit"], title=record["title"], xlim=(low / 2, high * (high / low) ** 0.35 * 2))
    axes.invert_yaxis()
    return drawing


def scalar(x) -> float:
    """A cost as a number, once it is there."""
    return float(np.asarray(x))

"""A benchmark: implementations that do the same work in turn, and what their times may show.

The rules: who ends at another cost than ours, by more than the tolerance that each implementation states, gets no
time; a warm-up each; then rounds in which every implementation runs once, one after the other, so that a busy machine
disturbs all alike. A ratio is the median over rounds of the ratios within a round.
"""

import dataclasses
import gc
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

ROUNDS = 5
TIMEOUT = 20.0  # seconds: an implementation that takes longer, after its warm-up, is timed once
BEST_PEER = "the best peer"  # a goal against the fastest of all that is not jaxnet
OTHER_ORDER = 0.25  # tolerance of an implementation that draws an order of the examples of its own
EXTRAS = dict.fromkeys(("sklearn", "mlxtend", "matplotlib", "tyro"), "experiments")  # of all other packages, peers


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to do the work: `prepare()` makes it ready and returns `run()`, which does it and is timed.

    cost makes the final cost of what `run()` returned, outside of the clock. tolerance is how far, relatively, it may
    lie from the first implementation's: small where even the order of the examples is the same. Where the work is
    done in a process of its own, `clock` reads the seconds that it took from what `run()` returned.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    cost: Callable[[Any], float] = float
    package: str | None = None
    tolerance: float = 1e-3
    clock: Callable[[Any], float] | None = None
    needs: str | None = None  # what else it needs and is not here, such as "a GPU"

    @property
    def absence(self) -> str | None:
        """Why it cannot run here, None if it can."""
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed; {installation(self.package)}"
        return self.needs and f"needs {self.needs}"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One workload: the implementations, ours first, and what a time is divided by ("us a step" needs steps and 1e6).

    reference names the one of ours that does the peers' work and no more: its times are what ratios are taken to and
    goals asked of. Without one, or where it cannot run, it is the first.
    """

    title: str
    implementations: tuple[Implementation, ...]
    unit: str
    per: float
    goal: str
    goals: dict[str, float] = dataclasses.field(default_factory=dict)  # least ratio of a time to ours, see `verdicts`
    limit: float | None = None  # most of our own time, in the unit
    reference: str | None = None
    explanation: str = ""  # what explains a missed goal, and what was tried: reasons, for numbers depend on the machine
    notes: tuple[str, ...] = ()  # what else a reader should know, such as a peer that cannot be timed


def installation(package: str) -> str:
    """How a missing package is brought."""
    return f'pip install -e ".[{EXTRAS.get(package.partition(".")[0], "peers")}]"'


def measure(benchmark: Benchmark, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run a benchmark; return a record of its times, in its unit, with each goal held or missed.

    Raises:
        ValueError: two implementations have one name, or our own cost is not finite: nothing compares with it.
    """
    names = [implementation.name for implementation in benchmark.implementations]
    if len(set(names)) < len(names):
        raise ValueError(f"{benchmark.title}: two implementations have one name; expected each once, got {names}")
    ready, absent, excluded = {}, [], {}
    for implementation in benchmark.implementations:
        if implementation.absence:
            absent.append(f"{implementation.name} ({implementation.absence})")
            continue
        try:
            run = implementation.prepare()
            outcome = run()  # the warm-up: what is compiled is compiled here
            ready[implementation.name] = (implementation, run, float(implementation.cost(outcome)))
        except Exception as error:  # a peer that cannot do it here, such as torch.compile without a C++ compiler
            if implementation is benchmark.implementations[0]:
                raise
            excluded[implementation.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    cost = ready[names[0]][2]
    if not math.isfinite(cost):
        raise ValueError(
            f"{benchmark.title}: {names[0]} ended at a cost of {cost}; expected a finite one, with which the others "
            "can be compared: lower the learning rate"
        )
    for name in [n for n, (own, _, final) in ready.items() if not abs(final - cost) <= own.tolerance * abs(cost)]:
        excluded[name] = f"another result: cost {ready[name][2]:.6g}, ours {cost:.6g}"
        del ready[name]
    ours = benchmark.reference if benchmark.reference in ready else names[0]
    seconds = {name: [] for name in ready}
    for _ in tqdm(range(rounds), desc=benchmark.title, unit="round", disable=None, leave=False):
        for name, (implementation, run, _) in ready.items():
            if seconds[name] and seconds[name][0] > TIMEOUT:
                seconds[name].append(seconds[name][0])
                continue
            gc.collect()
            start = time.perf_counter()
            outcome = run()
            duration = time.perf_counter() - start
            seconds[name].append(duration if implementation.clock is None else implementation.clock(outcome))
    rows = summary(seconds, ours, benchmark.per)
    for name, row in rows.items():
        row["cost"] = ready[name][2]
    return {
        "title": benchmark.title,
        "unit": benchmark.unit,
        "goal": benchmark.goal,
        "ours": ours,
        "rows": rows,
        "goals": verdicts(benchmark, rows, ours),
        "absent": absent,
        "excluded": excluded,
        "rounds": rounds,
        "explanation": benchmark.explanation,
        "target": target(benchmark, rows, ours),
        "notes": [
            *benchmark.notes,
            *(
                f"{name}: one counted run alone, for it took {times[0]:.0f} s"
                for name, times in seconds.items()
                if times[0] > TIMEOUT
            ),
        ],
    }


def summary(seconds: Mapping[str, list[float]], ours: str, per: float) -> dict[str, dict[str, float]]:
    """Each one's median and least time, in the unit, and the median of its ratios to ours, round by round."""
    return {
        name: {
            "median": per * statistics.median(times),
            "min": per * min(times),
            "ratio": statistics.median(theirs / own for theirs, own in zip(times, seconds[ours], strict=True)),
        }
        for name, times in seconds.items()
    }


def verdicts(benchmark: Benchmark, rows: Mapping[str, dict[str, float]], ours: str) -> dict[str, bool]:
    """Whether each goal was held: against the fastest that has a time and a name that starts with the goal's.

    So "torch" means torch's best form, and BEST_PEER the best of all.
    """
    held = {
        f">= {least:g}x {family}" + f" ({best})" * (best != family): rows[best]["ratio"] >= least
        for family, best, least in baselines(benchmark, rows, ours)
    }
    if benchmark.limit is not None:
        held[f"<= {benchmark.limit:g} {benchmark.unit}"] = rows[ours]["median"] <= benchmark.limit
    return held


def target(benchmark: Benchmark, rows: Mapping[str, dict[str, float]], ours: str) -> float | None:
    """The time of ours, in the unit, at which all goals are held; of ratios of medians, so a line for the eye."""
    times = [rows[best]["median"] / least for _, best, least in baselines(benchmark, rows, ours)]
    return min([*times, *([] if benchmark.limit is None else [benchmark.limit])], default=None)


def baselines(benchmark: Benchmark, rows: Mapping[str, dict[str, float]], ours: str) -> list[tuple[str, str, float]]:
    """For each goal that some peer here allows to judge: the family, its fastest, and the least ratio to ours."""
    found = []
    for family, least in benchmark.goals.items():
        member = (lambda name: not name.startswith("jaxnet")) if family == BEST_PEER else (
            lambda name, family=family: name.startswith(family)
        )  # fmt: skip
        names = [name for name in rows if name != ours and member(name)]
        if names:
            found.append((family, min(names, key=lambda name: rows[name]["ratio"]), least))
    return found


def without_goals(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a benchmark at a toy size, where no goal is held or missed."""
    note = "a small version: nothing is proved at this size, and no goal is judged"
    return record | {"goals": {}, "target": None, "notes": [*record["notes"], note]}

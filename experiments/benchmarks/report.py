"""What the benchmarks found: a table, a figure, and the two files with where, when and how it was measured."""

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.runner.results import save
from jaxnet.plot.colours import BLUE, GREY, ORANGE

LOG_FROM = 10  # times that differ by more are drawn on a log axis, whose labels would overlap over less
PACKAGES = ("jax", "jaxlib", "optax", "torch", "flax", "equinox", "scikit-learn", "keras", "opacus", "numpy")


def table(record: dict[str, Any]) -> list[str]:
    """A record as lines of Markdown."""
    lines = [f"### {record['title']}", "", f"Goal: {record['goal']}.", ""]
    heads = ["implementation", f"{record['unit']}, median", "min", "times ours", "final cost"]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in record["rows"].items():
        times = f"{number(row['median'])} | {number(row['min'])} | {row['ratio']:.2f}"
        lines.append(f"| {name} | {times} | {row['cost']:.5g} |")
    lines += [""]
    lines += [f"- {'held' if held else 'MISSED'}: {goal}" for goal, held in record["goals"].items()]
    lines += [f"- absent: {name}" for name in record["absent"]]
    lines += [f"- excluded: {name}: {reason}" for name, reason in record["excluded"].items()]
    lines += [f"- {note}" for note in record["notes"]]
    if record["explanation"] and not all(record["goals"].values()):
        lines += ["", record["explanation"]]
    return [*lines, ""]


def figure(record: dict[str, Any]) -> Figure:
    """Bars of the medians, and of the memory where that is a goal, ours in blue; the target of ours as a line."""
    rows, memory, ours = record["rows"], record.get("memory"), record["ours"]
    times = {name: (row["median"], row["ratio"]) for name, row in rows.items()}
    panels = [(times, record["target"], f"time ({record['unit']})")]
    if memory:
        sizes = {name: (size / 1e6, size / memory[ours]) for name, size in memory.items()}
        panels += [(sizes, record["memory_target"] / 1e6, "temporary memory (MB)")]
    heights = [len(values) + 2 for values, *_ in panels]
    drawing = Figure(figsize=(8, 0.42 * sum(heights) + 0.8), layout="constrained")
    drawing.suptitle(record["title"], fontsize="large")  # over the names too: it is longer than the axes are wide
    subplots = drawing.subplots(len(panels), squeeze=False, height_ratios=heights).flat
    for axes, panel in zip(subplots, panels, strict=True):
        bars(axes, ours, *panel)
    return drawing


def bars(axes, ours: str, values: Mapping[str, tuple[float, float]], target: float | None, label: str) -> None:
    """Draw a bar a name, with the value and its ratio to ours; on a log axis where they differ by much."""
    lengths = [value for value, _ in values.values()]
    low, high = (pick([*lengths, *([] if target is None else [target])]) for pick in (min, max))
    log = high / low >= LOG_FROM
    drawn = axes.barh([*values], lengths, color=[BLUE if name == ours else GREY for name in values], log=log)
    labels = [f"{number(value)} ({x:{'.0f' if x >= 10 else '.2g'}}x)" for value, x in values.values()]
    axes.bar_label(drawn, labels, padding=4, fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    if target is not None:
        axes.axvline(target, color=ORANGE, linestyle="--", label=f"goal {number(target)}")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize="small", borderaxespad=0)
    reach = (low / 2, high * (high / low) ** 0.3) if log else (0, high * 1.25)  # room for the labels
    axes.set(xlabel=label, xlim=reach)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.invert_yaxis()


def number(value: float) -> str:
    """Three digits, and all of them before the point: 0.0417, 9.72, 3,240."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def write(directory: Path, command: str, device: str | None, records, broken: Mapping[int, str], notes) -> None:
    """Write RESULTS.md and results.json with where, when and how, and why a row is missing."""
    versions = {name: version(name) for name in PACKAGES}
    head = [
        "# Benchmarks",
        "",
        f"{datetime.datetime.now(datetime.UTC):%d %B %Y}, {processor()} ({os.cpu_count()} cores), "
        f"{jax.devices(device)[0].device_kind}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {v}" for name, v in versions.items())
        + ".",
        "",
        f"`{command}`",
        "",
        '"times ours" is the median over rounds of an implementation\'s time over ours in the same round.',
        "",
    ]
    lines = [line for record in records for line in table(record)]
    lines += [f"Row {row} is broken: {reason}" for row, reason in broken.items()] + list(notes)
    content = {"command": command, "versions": versions, "processor": processor(), "records": records, "broken": broken}
    save({
        directory / "RESULTS.md": "\n".join([*head, *lines]).rstrip() + "\n",
        directory / "results.json": json.dumps(content, indent=1, default=str) + "\n",
    })  # fmt: skip


def version(package: str) -> str:
    """A package's version, or that it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """The processor's own name, where the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

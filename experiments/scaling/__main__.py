"""However many devices share a network, each moves the formula's bytes and computes as much as before.

The step of the notes' section 8, on 8 to 1,024 virtual devices with 2,048 examples each (weak scaling): for each layout
of jaxnet.parallel the programs of the gradient and of a whole step with clipping and Adam are compiled from shapes and
read, never run; there are no data, not even random ones. Then, calculated and not measured: what those bytes mean on
64 to 2,048 H100s beside a published measurement, from how many examples a GPU on computing takes longest, and what
local updates, which synchronise every 500 steps, would buy beyond one site (h100.py has the rules and their sources).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from tqdm import tqdm

from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, at_least, at_most
from experiments.runner.options import Positive
from experiments.scaling import h100
from experiments.scaling.programs import EXAMPLES, compiled_for, network, of_kinds
from jaxnet.parallel.layouts import LAYOUTS
from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, RED

NOTES = "section 8"
DATA = ()  # shapes
DEVICES = (8, 64, 256, 1024)
STYLES = dict(zip(LAYOUTS, ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D")), strict=True))
NEAR = 0.01  # of the formula, for bytes
FEW = 1024  # bytes: costs, norms and metrics, a number each
ELEMENTWISE = 0.05  # at most, of the products' operations: activations, costs, the optimizer
LEAST_WEAK_SCALING = 0.97  # calculated, from 64 to 2,048 H100s

LAST = (  # what is drawn, the first that was compiled: its state, and what it does
    ("train_step", "Params and Adam's moments", "a step"),
    ("value_and_grad", "Params", "a gradient"),
)


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the scaling experiment."""

    QUICK: ClassVar = {"largest": 64, "pairs": 1, "programs": ("value_and_grad",)}

    largest: Literal[64, 256, 1024] = 1024
    """The largest number of virtual devices; programs are compiled for 8, 64, 256 and 1,024, up to it."""
    pairs: Positive[int] = 3
    """Pairs of layers, 1024-4096-...-4096-1024."""
    programs: tuple[Literal["value_and_grad", "train_step"], ...] = ("value_and_grad", "train_step")
    """What is compiled: the gradient, and a whole step of training."""


def measure(config: Config) -> dict:
    """Compile the programs, one process for each number of devices, and calculate."""
    rows, devices = [], [each for each in DEVICES if each <= config.largest]
    with tqdm(total=len(of_kinds(config.programs)) * len(devices), unit="program", disable=None, leave=False) as bar:
        for each in devices:
            for row in compiled_for(each, config.pairs, config.programs):
                rows.append(row)
                bar.update()
    found = {"rows": rows, "calculated": h100.calculated(network(config.pairs))}
    print(table(rows))
    return found


def table(rows: list[dict]) -> str:
    """What a device sends, holds and computes."""
    head = f"{'devices':>7}  {'layout':11} {'program':15}{'sent MB':>9}{'formula':>9}{'ratio':>8}{'state MB':>10}"
    lines = [f"{head}{'out MB':>8}{'Gflop':>8}  gathers"]
    for row in rows:
        name = row["layout"] + (" bf16" if row["precision"] == "bfloat16" else "")
        lines.append(
            f"{row['devices']:7}  {name:11} {row['program']:15}{row['ring'] / 1e6:9.1f}{row['ideal'] / 1e6:9.1f}"
            f"{row['ring'] / row['ideal']:8.4f}{row['state'] / 1e6:10.2f}{row['outputs'] / 1e6:8.2f}"
            f"{row['flops'] / 1e9:8.1f}  {', '.join(row['gathered'])}"
        )
    return "\n".join(lines)


def in_float32(rows: list[dict], *programs: str) -> list[dict]:
    """The rows of programs (none named: all) whose products are not rounded."""
    return [row for row in rows if row["precision"] == "float32" and row["program"] in (programs or row["program"])]


def from_formula(rows: list[dict]) -> float:
    """The largest distance of the bytes from the formula's, relative."""
    return max(abs(row["ring"] / row["ideal"] - 1) for row in in_float32(rows))


def from_share(row: dict) -> float:
    """How far the state and the outputs are from 1/n of all W, once its b is taken off; relative."""
    share = row["share"]
    return max(abs(row[part] - share["b"] - share["W"]) / share["W"] for part in ("state", "outputs"))


def growth(rows: list[dict]) -> float:
    """By how much the operations of a device grow, relatively, where the same layout has more devices along data."""
    kinds = {}
    for row in in_float32(rows):
        kinds.setdefault((row["layout"], row["program"], row["model"]), []).append(row["flops"])
    return max(max(flops) / min(flops) - 1 for flops in kinds.values())


def slowest(found: dict, bound: str = "one_after_the_other") -> float:
    """The lowest weak scaling of a layout that is calculated for the most GPUs."""
    return min(of[bound][h100.GPUS[-1]] for of in found["calculated"]["weak_scaling"].values())


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Bytes, memory and operations of a device are those of the formulas; and what follows for weak scaling."""
    rows = found["rows"]
    whole = [row for row in in_float32(rows) if "fsdp" in row["layout"]]
    extra = [row["flops"] / row["products"] - 1 for row in in_float32(rows)]
    return {
        "distance_of_the_bytes_sent_from_the_formula": at_most(from_formula(rows), NEAR),
        "bytes_that_the_formula_does_not_name": at_most([row["unexpected"] for row in rows], FEW),
        "distance_from_1_over_n_held_and_returned_by_fsdp": at_most([from_share(row) for row in whole], NEAR),
        "operations_beyond_the_products": at_most(extra, ELEMENTWISE),
        "no_fewer_operations_than_the_products": min(extra) >= 0,
        "growth_of_the_operations_with_devices": at_most(growth(rows), NEAR),
        "calculated_weak_scaling": at_least(slowest(found), LEAST_WEAK_SCALING),
    }


def claim(found: dict) -> str:
    """The distances from the formulas, and the calculation, called one."""
    rows, bound = found["rows"], list(found["calculated"]["compute_bound_from"].values())
    counts = sorted({row["devices"] for row in rows})
    return (
        f"On {counts[0]} to {counts[-1]:,} virtual devices every layout moves the formula's bytes to"
        f" {from_formula(rows):.0e}, and a device's operations grow by at most {growth(rows):.1%}. Calculated, not"
        f" measured: from 64 to 2,048 H100s a step of {h100.EXAMPLES:,} examples a GPU keeps at least"
        f" {slowest(found):.1%} of its speed (published, of another network: {h100.PUBLISHED_EFFICIENCY:.2%}); over"
        f" InfiniBand computing takes longest from {bound[1]:,.0f} examples a GPU on, over 1 Gb/s from"
        f" {bound[3] / 1e6:.0f} million, with local updates every {h100.LOCAL_STEPS} steps from {bound[4]:,.0f}."
    )


def metrics(found: dict) -> dict:
    """The table, and the calculation with what it rests on."""
    rows = found["rows"]
    return {
        "largest_distance_from_the_formula": from_formula(rows),
        "largest_growth_of_operations": growth(rows),
        "fsdp_in_bfloat16_gathers": sorted(
            {kind for row in rows if row not in in_float32(rows) for kind in row["gathered"]}
        ),
        "programs": rows,
        "calculated": found["calculated"],
        "calculated_from": {
            "peak_flops": h100.PEAK,
            "nvlink_bytes_per_second": h100.NVLINK,
            "card_bytes_per_second": h100.CARD,
            "examples_a_gpu": h100.EXAMPLES,
            "local_steps": h100.LOCAL_STEPS,
        },
        "published_weak_scaling_to_2048_h100s": h100.PUBLISHED_EFFICIENCY,
    }


def draw(found: dict):
    """Above what was compiled: bytes sent, bytes held, operations. Below what is calculated from it for H100s."""
    figure = plots.figure(15, 9)
    above, below = figure.subfigures(2, 1)
    counts = len({row["devices"] for row in found["rows"]})
    above.suptitle(
        f"Compiled for {counts} of {len(DEVICES)} numbers of virtual devices, float32, {EXAMPLES:,} examples a device",
        fontweight="bold",
    )
    below.suptitle(
        "CALCULATED for H100s from those bytes and public bandwidths; nothing below was measured but the star",
        fontweight="bold",
    )
    sent, held, operations = above.subplots(1, 3)
    lines(sent, found["rows"], "value_and_grad", lambda row: row["ring"] / 1e6, lambda row: row["ideal"] / 1e6)
    sent.set(title="Sent for a gradient; lines: formula", ylabel="bytes that a device sends (MB)", ylim=(0, None))
    whole, state, what = next(last for last in LAST if any(row["program"] == last[0] for row in found["rows"]))
    lines(held, found["rows"], whole, lambda row: row["state"] / 1e6, lambda row: row["state"] / 1e6)
    fsdp = [row for row in in_float32(found["rows"], whole) if row["layout"] == "fsdp"]
    share = [row["share"]["W"] / 1e6 for row in fsdp]
    held.plot([row["devices"] for row in fsdp], share, ":", color="black", label="1/n of all W")
    held.set(title=state, ylabel="bytes that a device holds (MB)", yscale="log")
    held.legend(loc="lower left", fontsize="small")
    lines(operations, found["rows"], whole, lambda row: row["flops"] / 1e9, lambda row: row["products"] / 1e9)
    most = max(row["flops"] for row in found["rows"]) / 1e9
    operations.set(
        title=f"Operations of {what}; line: its products", ylabel="operations of a device (Gflop)", ylim=(0, 1.2 * most)
    )
    operations.legend(loc="lower left", fontsize="small")
    note = '"fsdp+tensor" splits units over 2 of 8\ndevices, of more over 8, as "tensor" does'
    sent.annotate(note, (0.56, 0.62), xycoords="axes fraction", fontsize="small", ha="center", va="center")
    sent.legend(loc="lower right", fontsize="small")
    scaling, shares, bounds = below.subplots(1, 3)
    weak_scaling(scaling, found["calculated"]["weak_scaling"])
    share_of_products(shares, found["calculated"]["share_of_products"])
    compute_bound(bounds, found["calculated"]["compute_bound_from"])
    return figure


def lines(axes: Any, rows: list[dict], program: str, compiled: Callable, formula: Callable) -> None:
    """Of each layout a marker for every number of devices, and a line of the formula."""
    for size, (layout, (colour, marker)) in zip((11, 8, 8, 5), STYLES.items(), strict=True):
        own = [row for row in in_float32(rows, program) if row["layout"] == layout]
        devices = [row["devices"] for row in own]
        axes.plot(devices, list(map(formula, own)), color=colour, linewidth=1)
        axes.plot(
            devices, list(map(compiled, own)), marker, color=colour, markersize=size, fillstyle="none", label=layout
        )
    ticks = sorted({row["devices"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set(xlabel="virtual devices", xticks=ticks, xticklabels=[f"{n:,}" for n in ticks])


def weak_scaling(axes: Any, by_layout: dict) -> None:
    """The time of a step on 64 GPUs over that on more, in both bounds, and the published one."""
    for layout, (colour, marker) in STYLES.items():
        of = by_layout[layout]["one_after_the_other"]
        axes.plot(
            list(of), [100 * each for each in of.values()], "-" + marker, color=colour, markersize=4, label=layout
        )
    of = by_layout["fsdp"]["at_once"]
    axes.plot(list(of), [100 * each for each in of.values()], "--", color=GREY, label="all, sent while computing")
    axes.plot(
        h100.GPUS[-1], 100 * h100.PUBLISHED_EFFICIENCY, "*", color=RED, markersize=14,
        label="measured, Llama 2 70B in MaxText (NVIDIA)",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set(
        title=f"Weak scaling from 64 GPUs, {h100.EXAMPLES:,} examples each",
        xlabel="GPUs", ylabel="time on 64 / time (%)", ylim=(96.5, 100.3),
        xticks=h100.GPUS, xticklabels=[f"{n:,}" for n in h100.GPUS],
    )  # fmt: skip
    axes.legend(loc="lower left", fontsize="small")


def share_of_products(axes: Any, by_layout: dict) -> None:
    """How much of a step on the most GPUs is products, in both bounds."""
    places = range(len(by_layout))
    bounds = (
        ("one_after_the_other", "sent after computing", ORANGE, -0.2),
        ("at_once", "sent while computing", BLUE, 0.2),
    )
    for bound, name, colour, offset in bounds:
        shares = [100 * of[bound] for of in by_layout.values()]
        bars = axes.barh([place + offset for place in places], shares, 0.36, color=colour, label=name)
        axes.bar_label(bars, fmt="%.0f %%", padding=3)
    axes.set(
        title="Share of a step on 2,048 GPUs that is products", xlabel="share (%)", xlim=(0, 119),
        yticks=list(places), yticklabels=list(by_layout),
    )  # fmt: skip
    axes.invert_yaxis()
    axes.legend(loc="lower right", fontsize="small")


def compute_bound(axes: Any, by_link: dict) -> None:
    """From how many examples a GPU on computing takes longest, for each link."""
    colours = [RED if "every" in link else GREEN if "sites" in link else GREY for link in by_link]
    bars = axes.barh([link.replace(", ", ",\n", 1) for link in by_link], list(by_link.values()), color=colours)
    axes.bar_label(
        bars, labels=[f"{each:,.0f}" for each in by_link.values()], padding=4, bbox={"color": "white", "pad": 0.5}
    )
    axes.axvline(h100.EXAMPLES, color="black", linestyle=":", linewidth=1, zorder=0)
    axes.set(
        title="Examples from which on computing takes\nlongest (red: local updates, DiLoCo)",
        xlabel=f"examples a GPU and step (dotted: {h100.EXAMPLES:,})", xscale="log", xlim=(1e3, 4e8),
    )  # fmt: skip
    axes.invert_yaxis()


if __name__ == "__main__":
    experiment.main("scaling")

"""The notes' six formulas are the gradient, and their misprint g[2]'(z[1]) is refused and named.

The notes' section 8, written down as it stands there, with 1/m in dW and db, for a net 2-4-1, tanh then sigmoid, on the
flower of 400 points. The verifier compares it, and jaxnet's own backward pass, with autodiff in float64 and float32.
Then the misprint is planted: the notes print dz[1] = W[2]ᵀ dz[2] * g[2]'(z[1]) where g[1]' belongs.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from experiments import notes
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, below
from experiments.runner.options import Positive
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, GREEN, ORANGE

NOTES = "section 8"
DATA = (datasets.flower,)
DTYPES = ("float64", "float32")
LEAVES = {"[0].W": "dW[1]", "[0].b": "db[1]", "[1].W": "dW[2]", "[1].b": "db[2]"}
SPOILT = {"[0].W", "[0].b"}  # the leaves that dz[1] goes into


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the gradient check."""

    hidden: Positive[int] = 4
    """Units of the hidden layer."""
    init_scale: Positive[float] = 0.5
    """W is randn times this: large enough that tanh' and σ' differ at z[1]."""


def measure(config: Config) -> dict:
    """The verifier's reports on the notes' formulas, the misprint and jaxnet's backward pass."""
    net = jaxnet.MLP((2, config.hidden, 1), ("tanh", "sigmoid"))
    candidates = {
        "the notes": functools.partial(notes.gradient, xp=jnp),
        "the misprint": functools.partial(notes.gradient, xp=jnp, g1_derivative=notes.sigmoid_derivative),
        "jaxnet": lambda params, X, Y: jaxnet.value_and_grad(net, params, X, Y)[1],
    }
    dtypes = DTYPES[-1:] if config.quick else DTYPES
    reports = {
        f"{name}, {dtype}": check(config, net, gradient, dtype)
        for name, gradient in candidates.items()
        for dtype in dtypes
    }
    for name, report in reports.items():
        print(f"{name}\n{report}\n")
    first_layers = [jax.jit(candidates[name])(*point(config, net, dtypes[-1]))[0] for name in list(candidates)[:2]]
    return {"reports": reports, "first layers": first_layers}


def reports_on(found: dict, *names: str) -> list[jaxnet.Report]:
    """The reports on these candidates, in every dtype."""
    return [report for name, report in found["reports"].items() if name.split(", ")[0] in names]


def over_limit(reports: list[jaxnet.Report], paths) -> list[float]:
    """The relative errors of these leaves, each over the smallest that the verifier would have seen there."""
    leaves = [report.leaves[path] for report in reports for path in paths]
    return [leaf.relative_error / leaf.resolution for leaf in leaves]


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """The right gradients pass; the misprint fails where it must and is named."""
    wrong, right = reports_on(found, "the misprint"), reports_on(found, "the notes", "jaxnet")
    return {
        "the_notes_and_jaxnet_pass": all(report.verdict == "PASS" for report in right),
        "error_of_the_notes_and_jaxnet_over_the_smallest_seen": below(over_limit(right, LEAVES), 1),
        "the_misprint_is_refused": all(report.verdict == "FAIL" for report in wrong),
        "error_of_the_misprint_over_the_smallest_seen": above(over_limit(wrong, SPOILT), 1),
        "only_dW1_and_db1_fail": all(failed_leaves(report) == SPOILT for report in wrong),
        "it_is_named": all("g[2]'(Z[1])" in (report.cause or "") for report in wrong),
    }


def largest_error(reports: list[jaxnet.Report]) -> float:
    """The largest relative error of any leaf."""
    return max(leaf.relative_error for report in reports for leaf in report.leaves.values())


def claim(found: dict) -> str:
    """The largest error of the right gradients, and the verdict on the misprint."""
    wrong = reports_on(found, "the misprint")[0]
    return (
        f"The notes' formulas agree with autodiff to {largest_error(reports_on(found, 'the notes', 'jaxnet')):.1e} at"
        f' worst; of the misprint g[2]\'(z[1]) the verifier says {wrong.verdict}: "{wrong.cause}"'
    )


def metrics(found: dict) -> dict:
    """Errors, the cause, and the reports in full."""
    wrong = reports_on(found, "the misprint")
    return {
        "largest_relative_error_of_the_right": largest_error(reports_on(found, "the notes", "jaxnet")),
        "relative_error_of_the_misprint": largest_error(wrong[:1]),
        "cause": wrong[0].cause,
        "reports": {name: json.loads(report.to_json()) for name, report in found["reports"].items()},
    }


def point(config: Config, net: jaxnet.MLP, dtype: str):
    """Params, X and Y at which the gradients are compared."""
    with jax.enable_x64(dtype == "float64"):
        params = jaxnet.init(net, jax.random.key(config.seed), config.init_scale, dtype)
        return params, *(jnp.asarray(part, dtype) for part in datasets.flower())


def check(config: Config, net: jaxnet.MLP, gradient, dtype: str) -> jaxnet.Report:
    """The verifier's report on a gradient of the cost."""
    with jax.enable_x64(dtype == "float64"):
        loss = functools.partial(jaxnet.cost, net)
        return jaxnet.check_gradients(loss, gradient, *point(config, net, dtype), key=config.seed, raise_=False)


def failed_leaves(report: jaxnet.Report) -> set[str]:
    """The leaves that failed."""
    return {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"}


def draw(found: dict):
    """Each leaf's error beside what would have been seen, and the entries that the misprint spoils."""
    figure, reports, (right, wrong) = plots.figure(12, 4.6), found["reports"], found["first layers"]
    errors, entries = figure.subplots(1, 2, width_ratios=(1.7, 1))
    markers = {"the notes": (BLUE, "o"), "the misprint": (ORANGE, "X"), "jaxnet": (GREEN, "s")}
    offsets = np.linspace(-0.3, 0.3, len(reports))
    found_errors = [report.leaves[path].relative_error for report in reports.values() for path in LEAVES]
    floor = min(filter(None, found_errors), default=1e-18) / 10  # an exact agreement has no place on a log axis
    for offset, (name, report) in zip(offsets, reports.items(), strict=True):
        who, dtype = name.split(", ")
        colour, marker = markers[who]
        places = np.arange(len(LEAVES)) + offset
        leaves = [report.leaves[path] for path in LEAVES]
        fill = {"fillstyle": "none" if dtype == "float64" else "full", "color": colour}
        errors.plot(places, [max(leaf.relative_error, floor) for leaf in leaves], marker, label=name, **fill)
        errors.plot(places, [leaf.resolution for leaf in leaves], "_", color="black", markersize=12)
    errors.plot([], [], "_", color="black", markersize=12, label="limit")
    errors.set(
        title="Gradients against autodiff", yscale="log", ylim=(floor / 3, 10),
        ylabel="relative error (0 drawn at the bottom)",
        xticks=range(len(LEAVES)), xticklabels=LEAVES.values(), xlim=(-0.6, len(LEAVES) + 0.9),
    )  # fmt: skip
    errors.legend(loc="center right", fontsize="small")
    rows = [
        *(f"W[1][{i + 1}, {j + 1}]" for i, j in np.ndindex(right.W.shape)),
        *(f"b[1][{i + 1}]" for i in range(len(right.b))),
    ]
    flat = [np.concatenate([np.ravel(leaf) for leaf in layer]) for layer in (right, wrong)]
    for shift, values, colour, label in zip(
        (-0.2, 0.2), flat, (BLUE, ORANGE), ("g[1]'(z[1])", "g[2]'(z[1])"), strict=True
    ):
        entries.barh(np.arange(len(values)) + shift, values, height=0.4, color=colour, label=label)
    entries.set(title="What the misprint does", xlabel="∂J / ∂ parameter", yticks=range(len(rows)), yticklabels=rows)
    entries.invert_yaxis()
    entries.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    experiment.main("gradient_check")

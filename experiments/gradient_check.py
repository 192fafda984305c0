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
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, GREEN, ORANGE, Figure, Result
from jaxnet import checks, datasets
from jaxnet.activations import ACTIVATIONS

NOTES = "section 8"
DATA = (datasets.flower,)
DTYPES = ("float64", "float32")
LEAVES = {"[0].W": "dW[1]", "[0].b": "db[1]", "[1].W": "dW[2]", "[1].b": "db[2]"}
SPOILT = {"[0].W", "[0].b"}  # what dz[1] goes into
SIGMOID = ACTIVATIONS["sigmoid"]


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the gradient check."""

    hidden: int = 4
    """Units of the hidden layer."""
    init_scale: float = 0.5
    """W is randn times this: large enough that tanh' and σ' differ at z[1]."""


def run(config: Config) -> Result:
    """Ask the verifier about the notes' formulas, the misprint and jaxnet's backward pass."""
    net = jaxnet.MLP((2, config.hidden, 1), ("tanh", "sigmoid"))
    tanh = ACTIVATIONS["tanh"]
    candidates = {
        "the notes": lambda params, X, Y: the_notes(params, X, Y, tanh.derivative),
        "the misprint": lambda params, X, Y: the_notes(params, X, Y, sigmoid_derivative),
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

    right = [report for name, report in reports.items() if "misprint" not in name]
    wrong = [report for name, report in reports.items() if "misprint" in name]
    clauses = {
        "the_notes_and_jaxnet_pass": all(report.verdict == "PASS" for report in right),
        "the_misprint_is_refused": all(report.verdict == "FAIL" for report in wrong),
        "only_dW1_and_db1_fail": all(failed(report) == SPOILT for report in wrong),
        "it_is_named": all("g[2]'(Z[1])" in (report.cause or "") for report in wrong),
    }
    worst = max(leaf.relative_error for report in right for leaf in report.leaves.values())
    drawn = [jax.jit(candidates[name])(*point(config, net, dtypes[-1]))[0] for name in ("the notes", "the misprint")]
    return Result(
        claim=f"The notes' formulas agree with autodiff to {worst:.1e} at worst; of the misprint g[2]'(z[1]) the"
        f' verifier says {wrong[0].verdict}: "{wrong[0].cause}"',
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "largest_relative_error_of_the_right": worst,
            "relative_error_of_the_misprint": max(leaf.relative_error for leaf in wrong[0].leaves.values()),
            "cause": wrong[0].cause,
            "reports": {name: json.loads(report.to_json()) for name, report in reports.items()},
        },
        figure=draw(reports, *drawn),
    )


def the_notes(params, X, Y, g1_derivative):
    """The six formulas of section 8, line by line, with g[1]' as it is given."""
    (W1, b1), (W2, b2) = params
    m = X.shape[1]
    Z1 = W1 @ X + b1
    A1 = jnp.tanh(Z1)
    Z2 = W2 @ A1 + b2
    A2 = SIGMOID.apply(Z2)

    dZ2 = A2 - Y
    dW2 = 1 / m * dZ2 @ A1.T
    db2 = 1 / m * jnp.sum(dZ2, axis=1, keepdims=True)
    dZ1 = W2.T @ dZ2 * g1_derivative(Z1, A1)
    dW1 = 1 / m * dZ1 @ X.T
    db1 = 1 / m * jnp.sum(dZ1, axis=1, keepdims=True)
    return jaxnet.Layer(dW1, db1), jaxnet.Layer(dW2, db2)


def sigmoid_derivative(Z, A):
    """g[2]'(z[1]) as the notes print it: A is tanh's there, so σ is taken of Z again."""
    return SIGMOID.derivative(Z, SIGMOID.apply(Z))


def point(config: Config, net: jaxnet.MLP, dtype: str):
    """Params, X and Y at which the gradients are compared."""
    with jax.enable_x64(dtype == "float64"):
        params = jaxnet.init(net, jax.random.key(config.seed), checks.positive("init_scale", config.init_scale), dtype)
        return params, *(jnp.asarray(part, dtype) for part in datasets.flower())


def check(config: Config, net: jaxnet.MLP, gradient, dtype: str) -> jaxnet.Report:
    """The verifier's report on a gradient of the cost."""
    with jax.enable_x64(dtype == "float64"):
        loss = functools.partial(jaxnet.cost, net)
        return jaxnet.check_gradients(loss, gradient, *point(config, net, dtype), key=config.seed, raise_=False)


def failed(report: jaxnet.Report) -> set[str]:
    """The leaves that failed."""
    return {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"}


def draw(reports: dict[str, jaxnet.Report], right: jaxnet.Layer, wrong: jaxnet.Layer) -> Figure:
    """Each leaf's error beside what would have been seen, and the entries that the misprint spoils."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    errors, entries = figure.subplots(1, 2, width_ratios=(1.7, 1))
    markers = {"the notes": (BLUE, "o"), "the misprint": (ORANGE, "X"), "jaxnet": (GREEN, "s")}
    offsets = np.linspace(-0.3, 0.3, len(reports))
    for offset, (name, report) in zip(offsets, reports.items(), strict=True):
        who, dtype = name.split(", ")
        colour, marker = markers[who]
        places = np.arange(len(LEAVES)) + offset
        leaves = [report.leaves[path] for path in LEAVES]
        fill = {"fillstyle": "none" if dtype == "float64" else "full", "color": colour}
        errors.plot(places, [max(leaf.relative_error, 1e-18) for leaf in leaves], marker, label=name, **fill)
        errors.plot(places, [leaf.resolution for leaf in leaves], "_", color="black", markersize=12)
    errors.plot([], [], "_", color="black", markersize=12, label="limit")
    errors.set(
        title="Gradients against the truth", yscale="log", ylabel="relative error (0 drawn at 1e-18)", ylim=(1e-19, 10),
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

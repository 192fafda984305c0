"""Spot the bug: the six formulas of backward, each with two wrong forms, and what the verifier reports of each.

The wrong forms are mutants of mutants.py; each is given, alone, to `jaxnet.verify.check_gradients` on a network 2-3-3,
m = 4: its second matrix is square, and m is no layer's size.
"""

import json
import re
from typing import NamedTuple

import jax
import numpy as np

from experiments.runner import experiment, plots
from experiments.verifier.backward import CORRECT, plain_loss
from experiments.verifier.mutants import MUTANTS
from experiments.verifier.points import random_problem
from jaxnet.plot.colours import BLUE, RED
from jaxnet.verify import Report, check_gradients

SIZES, M = (2, 3, 3), 4
LEAVES = {"[0].W": "dW[1]", "[0].b": "db[1]", "[1].W": "dW[2]", "[1].b": "db[2]"}  # as the notes have them
RIGHT = "right"  # the case of no wrong formula


class Formula(NamedTuple):
    """One of the six: what it computes, its right form, and the wrong ones by the names of their mutants."""

    of: str
    right: str
    wrong: dict[str, str]


FORMULAS = (
    Formula(
        "dZ[2]",
        "A[2] − Y",
        {"delta_Y_minus_A": "Y − A[2]", "delta_times_sigmoid_prime": "(A[2] − Y) ∗ g[2]′(Z[2])"},
    ),
    Formula("dW[2]", "1/m dZ[2] A[1]ᵀ", {"dW_without_1/m": "dZ[2] A[1]ᵀ", "Z_for_A": "1/m dZ[2] Z[1]ᵀ"}),
    Formula("db[2]", "1/m Σ dZ[2]", {"db_sign": "−1/m Σ dZ[2]", "db_without_keepdims": "1/m Σ dZ[2], a flat row"}),
    Formula(
        "dZ[1]",
        "W[2]ᵀ dZ[2] ∗ g[1]′(Z[1])",
        {"g_of_layer_above": "W[2]ᵀ dZ[2] ∗ g[2]′(Z[1])", "g_prime_of_A": "W[2]ᵀ dZ[2] ∗ g[1]′(A[1])"},
    ),
    Formula("dW[1]", "1/m dZ[1] Xᵀ", {"x_1.001": "1.001/m dZ[1] Xᵀ", "dW_zero": "0"}),
    Formula("db[1]", "1/m Σ dZ[1]", {"db_without_1/m": "Σ dZ[1]", "db_without_sum": "1/m dZ[1]"}),
)
WRONG = {name: text for formula in FORMULAS for name, text in formula.wrong.items()}


def explore(config: experiment.Config) -> dict:
    """The formulas, the gradient and the report of every case, jax.grad's gradient, and an order to hide them in."""
    params, X, Y = random_problem(SIZES, M, jax.random.key(config.seed))
    gradients = {RIGHT: CORRECT} | {name: MUTANTS[name].gradient for name in WRONG}
    reports = {
        name: check_gradients(plain_loss, gradient, params, X, Y, raise_=False) for name, gradient in gradients.items()
    }
    return {
        "still": plots.svg(draw(reports), "verifier", "Relative error of each leaf, for each of twelve wrong formulas"),
        "formulas": [
            {"of": of, "forms": [{"case": case, "text": text} for case, text in ({RIGHT: right} | wrong).items()]}
            for of, right, wrong in FORMULAS
        ],
        "reference": by_leaf(jax.jit(jax.grad(plain_loss))(params, X, Y)),
        "cases": {
            name: {"gradient": by_leaf(gradient(params, X, Y)), "report": as_data(reports[name])}
            for name, gradient in gradients.items()
        },
        "order": np.random.default_rng(config.seed).permutation(list(WRONG)),
    }


def by_leaf(gradient) -> dict[str, np.ndarray]:
    """The gradient's leaves, dW[1], db[1], dW[2], db[2]."""
    return dict(zip(LEAVES.values(), map(np.asarray, jax.tree.leaves(gradient)), strict=True))


def as_data(report: Report) -> dict:
    """What the page shows of a report: the verdict, the cause, where the error starts, and a row for each leaf."""
    found = json.loads(report.to_json())
    cause = re.sub(r" \(\[\d\]\.[Wb]\)", "", found["cause"] or "") or None  # dW[1] ([0].W): one name is enough
    return {
        **{name: found[name] for name in ("verdict", "starts_at")},
        "cause": cause,
        "leaves": {
            LEAVES[path]: {name: leaf[name] for name in ("verdict", "relative_error")}
            for path, leaf in found["leaves"].items()
        },
    }


def draw(reports: dict[str, Report]):
    """A map of the relative errors: wrong formulas downwards, leaves to the right."""
    figure = plots.figure(7, 5.2)
    axes = figure.subplots()
    for row, name in enumerate(WRONG):
        for column, path in enumerate(LEAVES):
            leaf = reports[name].leaves[path]
            text = "shape" if leaf.verdict == "FAIL" and leaf.relative_error == 0 else f"{leaf.relative_error:.1g}"
            is_right = leaf.verdict == "PASS"
            axes.text(
                column, row, "right" if is_right else text, ha="center", va="center", color=BLUE if is_right else RED
            )
    formulas = [f"{formula.of} = {text}" for formula in FORMULAS for text in formula.wrong.values()]
    axes.set(
        xlim=(-0.5, len(LEAVES) - 0.5), ylim=(len(WRONG) - 0.5, -0.5), yticks=range(len(WRONG)), yticklabels=formulas,
        xticks=range(len(LEAVES)), xticklabels=LEAVES.values(),
    )  # fmt: skip
    axes.xaxis.tick_top()
    axes.set_title("Relative error of each leaf, where the verifier refuses it", fontsize="medium")
    return figure

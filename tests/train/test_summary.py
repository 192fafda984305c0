"""What a result shows of itself: short, true, and whatever stands in it."""

import re
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

import jaxnet
from jaxnet.train import summary
from tests.train.flower import fit

NET = jaxnet.MLP((64, 64, 10), ("relu", "softmax"))
PARAMS = tuple(jaxnet.Layer(np.ones((n, m), np.float32), np.ones((n, 1), np.float32)) for m, n in ((64, 64), (64, 10)))
SVG = "{http://www.w3.org/2000/svg}"


def result(params=PARAMS, **history):
    return jaxnet.FitResult(params, {name: np.asarray(values) for name, values in history.items()}, None)


def dots(text):
    """The points of each curve in the picture, and its title."""
    root = ElementTree.fromstring(text)
    lines = [line.get("points").split() for line in root.iter(f"{SVG}polyline")]
    return [[tuple(map(float, dot.split(","))) for dot in line] for line in lines], root.findtext(f".//{SVG}title")


def test_a_result_is_told_in_a_few_lines():
    shown = repr(result(cost=[2.0, 0.5, 0.75], validation_accuracy=[0.5, 0.9, 0.8], gradient_norm=[3.0, 1.0, 2.0]))
    assert shown.splitlines() == [
        "FitResult: 64-64-10 in float32, 3 epochs in the history",
        "  cost                 2 -> 0.75, lowest 0.5 in epoch 2",
        "  validation_accuracy  0.5 -> 0.8, highest 0.9 in epoch 2",
        "  gradient_norm        3 -> 2",
    ]


def test_that_of_a_real_fit():
    trained = fit(epochs=3, validation=(np.ones((2, 4)), np.array([[0, 1, 0, 1.0]])), patience=9)
    lines = repr(trained).splitlines()
    assert lines[0] == "FitResult: 2-4-1 in float32, 3 epochs in the history" and len(lines) == 5
    assert f"-> {trained.history['cost'][-1]:.4g}," in lines[1]
    drawn, title = dots(trained._repr_html_())
    assert [len(line) for line in drawn] == [3, 3] and title == "cost, epoch by epoch"


def test_it_is_bounded_however_wide_and_long():
    deep = tuple(jaxnet.Layer(np.ones((n, n)), np.ones((n, 1))) for n in range(1, 120))
    history = {"x" * 99 + str(i): np.random.default_rng(i).random(20_000) for i in range(50)}
    history |= {"cost": history["x" * 99 + "0"], "validation_cost": history["x" * 99 + "1"]}
    large = jaxnet.FitResult(deep, dict(reversed(history.items())), None)
    assert len(repr(large)) < 1000 and "1-1-2-3-(113 more)-117-118-119" in repr(large)
    assert len(large._repr_html_()) < 10_000
    assert len(repr(fit(epochs=1))) < 1000


def test_the_picture_falls_where_the_cost_does():
    [falling], title = dots(result(cost=[100.0, 10.0, 1.0])._repr_html_())
    assert title == "cost, epoch by epoch, logarithmic"
    (x0, y0), (x1, y1), (x2, y2) = falling
    assert x0 < x1 < x2 and (y0, y2) == (summary.MARGIN, summary.HEIGHT - summary.MARGIN)
    assert y1 == pytest.approx((y0 + y2) / 2)  # a decade is a decade
    [linear], title = dots(result(cost=[3.0, 1.0, 2.0])._repr_html_())
    assert title == "cost, epoch by epoch" and linear[1][1] > linear[2][1] > linear[0][1]


@pytest.mark.parametrize(
    "history",
    [
        {},
        {"cost": []},
        {"cost": [1.0]},
        {"cost": [np.nan, np.inf]},
        {"cost": [1.0, np.nan, 2.0], "validation_cost": [np.inf, 0.0, 1.0]},
        {"cost": [0.0, 0.0]},
        {"cost": [-1.0, 1e300]},
        {"cost": [[1.0, 2.0]]},
        {"cost": ["a", "b"]},
        {"accuracy": [0.5, 0.6], "skipped": np.array([0, 3], np.int32)},
    ],
)
def test_any_history_is_shown(history):
    shown = result(**history)
    assert len(repr(shown)) < 1000
    assert not re.search("nan|inf", "".join(re.findall('points="(.*?)"', shown._repr_html_())))
    ElementTree.fromstring(shown._repr_html_())


@pytest.mark.parametrize("leaf", [None, lambda leaf: leaf.shape, lambda leaf: True, lambda leaf: leaf[0]])
def test_any_tree_is_shown(leaf):
    """A result is a pytree: whatever is done to its leaves, it can be printed."""
    whole = result(cost=[2.0, 1.0])
    mapped = jaxnet.FitResult(None, None, None) if leaf is None else jax.tree.map(leaf, whole)
    assert repr(mapped).startswith("FitResult: ")
    ElementTree.fromstring(mapped._repr_html_())


def test_names_are_escaped():
    shown = result(**{"cost": [1.0, 2.0], "<b>&cost": [3.0, 4.0]})._repr_html_()
    assert "&lt;b&gt;&amp;cost" in shown and "<b>" not in shown
    ElementTree.fromstring(shown)


def sweep_result(costs, failed=False, rates=(0.1, 0.3), scales=(np.nan, 2.0)):
    params = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), PARAMS)
    return jaxnet.SweepResult(
        params, {"cost": np.array(costs)}, np.full(2, failed), np.array(rates), np.array(scales, float)
    )


def test_a_sweep_names_its_best_member():
    shown = repr(sweep_result([[2.0, 1.0], [2.0, 0.5]]))
    assert shown.splitlines() == [
        "SweepResult: 2 nets 64-64-10 in float32, 2 epochs, 0 failed",
        "  best is member 1: cost 0.5 at learning rate 0.3, init scale 2",
        "  table() has a line for each setting",
    ]
    assert "learning rate 0.1, init scale he" in repr(sweep_result([[2.0, 0.1], [2.0, 0.5]]))


def test_a_table_shows_itself_as_it_is():
    table = sweep_result([[2.0, 1.0], [2.0, 0.5]]).table()
    assert repr(table) == str(table) == "\n".join(table.splitlines()) and len(table.splitlines()) == 3
    assert ElementTree.fromstring(table._repr_html_()).text == table


def test_a_sweep_of_which_none_is_best():
    assert repr(sweep_result([[2.0, 1.0], [2.0, 0.5]], failed=True)).splitlines()[1] == "  none is best"
    assert repr(sweep_result(np.zeros((2, 0)))) == "SweepResult: 64-64-10 in float32"
    mapped = jax.tree.map(lambda leaf: leaf[0], sweep_result([[2.0, 1.0], [2.0, 0.5]]))
    assert repr(mapped) == "SweepResult: 64-64-10 in float32"

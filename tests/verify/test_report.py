"""The report: narrow, complete, readable by people and by programs, and able to repeat its case."""

import dataclasses
import itertools
import json
import re
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import GradientInconclusive, GradientMismatch, Report, check_gradients
from jaxnet.verify.report import COLOURS, MOST_ROWS

PARAMS = {"a very long name of a leaf that does not fit": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}


def loss(p):
    return sum(jnp.sum(jnp.sin(x)) for x in p.values())


def wrong(p):
    return {k: jnp.cos(x) * (1.01 if k == "b" else 1.0) for k, x in p.items()}


@pytest.fixture
def report():
    return check_gradients(loss, wrong, PARAMS, raise_=False)


def test_no_line_is_wider_than_80_columns(report):
    assert max(map(len, str(report).splitlines())) <= 80


def test_the_text_has_a_row_for_each_leaf_the_resolution_and_the_witnesses(report):
    text = str(report)
    assert all(path in text for path in report.leaves)
    assert "resolution: an error above" in text and "would have been seen" in text
    assert "witness 1 reverse autodiff" in text and "witness 2" in text
    assert "seed 0" in text


def test_a_shell_shows_the_table(report):
    assert repr(report) == str(report)


def cells(report):
    """The table of a notebook, row by row, and the whole text."""
    root = ElementTree.fromstring(report._repr_html_())
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")], "".join(root.itertext())


def test_a_notebook_shows_it_in_colour(report):
    head, *rows = cells(report)[0]
    assert [row[0] for row in rows] == list(report.leaves) and len(head) == len(rows[0]) == 9
    assert [row[-1].split(":")[0] for row in rows] == ["PASS", "FAIL"]
    shown = report._repr_html_()
    assert f'style="color:{COLOURS["FAIL"]}">FAIL' in shown and f'style="color:{COLOURS["PASS"]}">PASS' in shown


def test_a_notebooks_table_is_escaped_and_bounded(report):
    leaf = report.leaves["['b']"]
    many = {f"<b>&{i}": dataclasses.replace(leaf, path=f"<b>&{i}", verdict="PASS", cause=None) for i in range(500)}
    many["last"] = dataclasses.replace(leaf, path="last", cause="a <cause> & more " * 99)
    large = dataclasses.replace(report, leaves=many, cause="<script>", notes=("1 < 2",))
    rows, text = cells(large)
    assert len(rows) == MOST_ROWS + 1 and rows[1][0] == "last" and rows[2][0] == "<b>&0"
    assert len(large._repr_html_()) < 20_000
    assert "<script>" in text and "note: 1 < 2" in text and "and 441 more leaves" in text


def test_a_notebook_shows_a_report_without_leaves():
    empty = Report("INCONCLUSIVE", {}, seconds=0.5)
    assert cells(empty) == ([], "INCONCLUSIVE, 0.5 s, seed 0Nothing is proved: no leaf was judged; name one that has"
                            " entries with trainable=.")  # fmt: skip


def test_the_resolution_leaves_room_for_the_choice_at_a_kink():
    w = np.array([0.0, 1.0, -1.0], np.float32)
    half = check_gradients(lambda w: jnp.sum(jax.nn.relu(w)), lambda w: jnp.where(w == 0, 0.5, w > 0), w)
    text = " ".join(str(half).split())
    assert "would have been seen, unless it is another choice at a kink (the coarsest leaf)" in text, text


def test_json_holds_every_field(report):
    content = json.loads(report.to_json())
    assert content["verdict"] == "FAIL" and content["passed"] is False
    leaf = content["leaves"]["['b']"]
    assert {
        "verdict",
        "relative_error",
        "score",
        "ulps",
        "worst_index",
        "manual",
        "reference",
        "cause",
        "resolution",
    } <= set(leaf)
    assert leaf["relative_error"] == pytest.approx(0.01, rel=1e-3)


def test_markdown_is_a_table(report):
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith("**FAIL**")
    assert sum(line.startswith("| `") for line in lines) == len(report.leaves)


def test_reproduce_runs_and_finds_the_same(report):
    code = report.reproduce()
    assert "from tests.verify.test_report import loss as loss" in code
    scope: dict = {}
    exec(code.replace("print(", "again = ("), scope)
    assert scope["again"].verdict == "FAIL"
    assert scope["again"].leaves["['b']"].score == pytest.approx(report.leaves["['b']"].score, rel=1e-6)


def hidden(p):
    """The loss, through a callback that autodiff does not see into."""
    return jax.pure_callback(lambda p: np.float32(loss(p)), jax.ShapeDtypeStruct((), np.float32), p)


@pytest.mark.parametrize(
    "trainable", [lambda path: path == "['b']", ["['b']"], dict.fromkeys(PARAMS, False) | {"b": True}]
)
def test_reproduce_keeps_the_reference_and_what_is_not_judged(trainable):
    report = check_gradients(hidden, wrong, PARAMS, reference=loss, trainable=trainable, raise_=False)
    scope: dict = {}
    exec(report.reproduce().replace("print(", "again = ("), scope)
    again = scope["again"]
    assert [leaf.verdict for leaf in again.leaves.values()] == ["FROZEN", "FAIL"]
    assert any("autodiff was taken of reference=" in note for note in again.notes)
    assert again.leaves["['b']"].score == pytest.approx(report.leaves["['b']"].score, rel=1e-6)


ZEROS = np.zeros(3, np.float32)


CALLS = itertools.count()


def two_values(w):
    return jnp.sum(w) * next(CALLS)


SQUARE = (lambda w: jnp.sum(w**2), lambda w: 2 * w)
UNPROVED = {
    "zero": (*SQUARE, ZEROS, {}, "Nothing is proved of params: the true gradient is exactly zero .* expected_zero="),
    "frozen": (
        *SQUARE,
        ZEROS + 1,
        {"trainable": False},
        "no leaf was judged; name one that has entries with trainable=",
    ),
    "no entries": (*SQUARE, ZEROS[:0], {}, "no leaf was judged"),
    "no function": (two_values, jnp.ones_like, ZEROS + 1, {}, "the loss itself gives two values .* for this reason"),
}


@pytest.mark.parametrize("name", UNPROVED)
def test_what_proves_nothing_says_of_what_why_and_what_would_help(name):
    f, gradient, w, options, said = UNPROVED[name]
    with pytest.raises(GradientInconclusive) as caught:
        check_gradients(f, gradient, w, **options)
    text = str(caught.value)
    assert re.search(said, " ".join(text.split())), text
    assert "Nothing is proved" in text and max(map(len, text.splitlines())) <= 80
    assert caught.value.report.verdict == "INCONCLUSIVE"


def test_the_error_carries_the_report():
    with pytest.raises(AssertionError) as caught:
        check_gradients(loss, wrong, PARAMS)
    assert isinstance(caught.value, GradientMismatch) and caught.value.report.cause

"""Metrics as tables, of which nothing is lost, whatever is nested in what; and the claims of no experiment."""

import re

import pytest

from experiments.runner.report import LONG, TOO_LONG, checks, claims, margin, status, tables, text


def rows_of(html):
    """The texts of every table's cells, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_groups_with_the_same_entries_are_rows_of_a_table():
    found = rows_of(tables({"n": 3, "by net": {"a": {"cost": 1.5, "right": True}, "b": {"cost": 2, "right": None}}}))
    assert found == [["", "measured"], ["n", "3"], ["", "cost", "right"], ["a", "1.5", "yes"], ["b", "2", "none"]]


def test_the_longer_side_of_a_table_runs_down():
    assert rows_of(tables({"scale": [0.1, 1, 10], "cost": [7, 8, 9]})) == [
        ["", "scale", "cost"], ["1", "0.1", "7"], ["2", "1", "8"], ["3", "10", "9"],
    ]  # fmt: skip


def test_a_list_of_records_is_a_table():
    assert rows_of(tables({"rows": [{"case": "x < y", "s": 1}, {"case": "z", "s": 2}]})) == [
        ["", "case", "s"], ["1", "x &lt; y", "1"], ["2", "z", "2"],
    ]  # fmt: skip


def test_what_is_long_or_deep_is_folded_and_still_there():
    html = tables({"history": {"cost": list(range(LONG + 1))}, "deep": {"a": {"b": {"c": 5}}}, "short": {"x": 1}})
    shown, *folded = html.split("<details>")
    assert "short" in shown and "history" not in shown
    assert [re.findall("<summary>(.*?)</summary>", part) for part in folded] == [["history"], ["deep"]]
    assert "<td>100</td>" in html and "<caption>a</caption>" in folded[1] and "<td>5</td>" in folded[1]
    assert f"{TOO_LONG + 1:,} numbers, in metrics.json" in tables({"all": {"x": [0] * (TOO_LONG + 1)}})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "yes"), (12345, "12,345"), (1.23456789e-7, "1.2346·10⁻⁷"), (141234.5, "141,234"), (float("nan"), "nan")],
)
def test_numbers_have_five_digits_and_thousands_stand_apart(value, shown):
    assert text(value) == shown


RECORD = {
    "experiment": "fake", "held": True, "seconds": 1.0,
    "metrics": {"clauses": {"error": True, "far": True, "it_is": True}},
    "comparisons": {
        "error": {"measured": 0.75, "relation": "≤", "limit": 1.0},
        "far": {"measured": 500.0, "relation": "≥", "limit": 10.0},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "apart"),
    [
        ((0.75, "≤", 1.0), 0.25), ((1.5, "<", 1.0), -0.5), ((3.0, ">", 2.0), 0.5), ((1.0, "≥", 2.0), -0.5),
        ((-3.0, "<", -2.0), 0.5), ((1e-17, "≤", 0.0), None), (("NaN", "≤", 1.0), None), ((1.0, "<", "Infinity"), None),
    ],
)  # fmt: skip
def test_a_margin_is_a_part_of_the_limit(numbers, apart):
    assert margin(*numbers) == (None if apart is None else pytest.approx(apart))


def test_each_check_has_its_number_limit_and_margin():
    assert rows_of(checks(RECORD)) == [
        ["check", "measured", "limit", "margin"],
        ["error", "0.75", "≤ 1", "25%"],
        ["far", "500", "≥ 10", "50 times"],
        ["it is", "yes", "", ""],
    ]


def test_the_table_of_claims_has_what_is_nearest_to_its_limit():
    broken = RECORD | {"experiment": "other", "held": False, "error": "e"}
    assert rows_of(claims({"fake": RECORD, "other": broken, "third": None}))[1:] == [
        ['<a href="#report-fake">fake</a>', "error", "0.75", "≤ 1", "25%"],
        ['<a href="#report-other">other</a>', '<span class="failed">broken</span>'],
    ]


def test_the_head_says_what_did_not_hold():
    failed = RECORD | {"experiment": "other", "held": False}
    said = status({"fake": RECORD | {"earlier": True}, "other": failed, "third": None}, seconds=3.4)
    assert said.startswith('<p class="soft">2 experiments. This run performed 1 of them in 3 s.')
    assert "No results yet: third." in said
    assert 'What did not hold: <a href="#report-other">other</a> <span class="failed">failed</span>.' in said
    assert "did not hold" not in status({"fake": RECORD})

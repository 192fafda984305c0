"""Metrics as tables, of which nothing is lost, whatever is nested in what; and the claims of no experiment."""

import re

import pytest

from experiments.runner.report import LONG, TOO_LONG, claims, status, tables, text


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
    [(True, "yes"), (12345, "12,345"), (1.23456789e-7, "1.2346e-07"), (141234.5, "141,234"), (float("nan"), "nan")],
)
def test_numbers_have_five_digits_and_thousands_stand_apart(value, shown):
    assert text(value) == shown


def test_without_experiments_there_are_no_claims():
    assert "0 of 0 claims held" in claims({}) and status({}) == ""

"""A comparison is its relation, of the number nearest to the limit."""

import numpy as np
import pytest

from experiments.runner.comparisons import above, at_least, at_most, below


@pytest.mark.parametrize(
    ("compare", "inside", "on", "outside"),
    [(below, 1.9, False, 2.1), (at_most, 1.9, True, 2.1), (above, 2.1, False, 1.9), (at_least, 2.1, True, 1.9)],
)
def test_it_is_true_where_the_relation_holds(compare, inside, on, outside):
    assert bool(compare(inside, 2)) is True and bool(compare(2, 2)) is on and bool(compare(outside, 2)) is False


@pytest.mark.parametrize(("compare", "nearest"), [(below, 0.75), (at_most, 0.75), (above, 0.25), (at_least, 0.25)])
def test_of_several_the_nearest_to_the_limit_counts(compare, nearest):
    assert compare(np.float32([0.5, 0.25, 0.75]), 1).measured == nearest


@pytest.mark.parametrize("compare", [below, at_most, above, at_least])
def test_nan_is_never_on_the_right_side(compare):
    assert not compare([0.5, float("nan")], 1) and not compare([float("nan"), 2.0], 1) and not compare(1, float("nan"))

"""Correct gradients that other checkers reject: none fails, and where nothing can be told the report says why.

All of them, at four seeds, are cases of the golden file, which asserts the same.
"""

import re

import pytest

from experiments.verifier.correct import TRICKY
from jaxnet.verify import check_gradients
from tests.marks import slow_but

# A twin of another here, or the subject of a test of its own: at kinks, of selections, of terms, of eight devices.
ELSEWHERE = {
    "relu_at_zero_slope_0.5", "relu_at_zero_slope_1.0", "absolute_value_at_zero", "max_with_ties",
    "many_equal_maxima_share_alike", "max_pooling_with_ties", "relu_at_zero_in_every_layer", "saturated_tanh",
    "saturated_softmax", "loss_x_1e12", "sum_of_1e6_terms", "sum_of_1e6_squares", "chaotic_map",
    "deep_net_with_large_weights", "float16_leaves", "float32_master_bfloat16_compute", "sharded_inputs",
    "caller_under_x64", "caller_under_disable_jit",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in TRICKY if name not in ELSEWHERE])
def test_a_correct_gradient_is_not_refused(name):
    case = TRICKY[name]
    report = case.run(check_gradients, 0, raise_=False)
    assert report.verdict in case.expected, str(report)
    assert not any("crashed:" in note for note in report.notes), report.notes
    if report.verdict == "INCONCLUSIVE" and case.reason:
        assert re.search(case.reason, str(report), re.IGNORECASE), str(report)


def test_a_long_sum_whose_order_is_the_compilers_may_lose_what_autodiffs_does_not():
    report = TRICKY["sum_of_1e6_terms"].run(check_gradients, 1196)
    assert report.passed and report.leaves["[1]"].score < 8 < report.leaves["[1]"].relative_error / 1e-7


@pytest.mark.parametrize("seed", slow_but([15], [15, 82, 105]))
def test_an_orbit_that_overflows_one_rounding_away_is_inconclusive(seed):
    report = TRICKY["chaotic_map"].run(check_gradients, seed, raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "overflows" in str(report), str(report)


@pytest.mark.slow
def test_a_leaf_that_only_the_conventions_move_is_not_refused():
    """A hair away in two directions the first layer's units are all dead; with relu'(0) = 1/2 they are not."""
    report = TRICKY["relu_at_zero_in_every_layer"].run(check_gradients, 19, raise_=False)
    assert report.passed, str(report)

"""Correct gradients that other checkers reject: none fails, and where nothing can be told the report says why."""

import re

import pytest

from experiments.tricky import TRICKY
from jaxnet.verify import check_gradients


@pytest.mark.parametrize("name", TRICKY)
def test_a_correct_gradient_is_not_refused(name):
    case = TRICKY[name]
    report = case.run(check_gradients, 0, raise_=False)
    assert report.verdict in case.expected, str(report)
    assert not any("crashed:" in note for note in report.notes), report.notes
    if report.verdict == "INCONCLUSIVE" and case.reason:
        assert re.search(case.reason, str(report), re.IGNORECASE), str(report)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("name", TRICKY)
def test_a_correct_gradient_is_not_refused_at_other_seeds(name, seed):
    assert TRICKY[name].run(check_gradients, seed, raise_=False).verdict in TRICKY[name].expected


@pytest.mark.parametrize("seed", [15, 82, 105])
def test_an_orbit_that_overflows_one_rounding_away_is_inconclusive(seed):
    report = TRICKY["chaotic_map"].run(check_gradients, seed, raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "overflows" in str(report), str(report)

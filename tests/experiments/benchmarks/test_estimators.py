"""The comparison of estimators: same scores within noise, and a noise test that can fail."""

import numpy as np
import pytest

from experiments.benchmarks.estimators import Comparison, compare


@pytest.mark.usefixtures("implicit_promotion")
def test_wine_is_told_as_well_as_by_scikit_learn():
    found = compare("wine", range(3))
    assert min(found.ours) > 0.9 and min(found.theirs) > 0.9 and found.is_within_noise
    assert all(times.shape == (3,) and (times > 0).all() for times in found[2:])


def test_a_lower_mean_is_not_within_noise():
    scores, seconds = np.array([0.9, 0.91, 0.92]), np.ones(3)
    assert Comparison(scores, scores + 0.01, seconds, seconds).is_within_noise
    assert not Comparison(scores, scores + 0.03, seconds, seconds).is_within_noise

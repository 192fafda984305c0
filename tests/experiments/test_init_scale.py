"""The valley of initial scales."""

import numpy as np
import pytest

from experiments import init_scale
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick

SCALES = (1e-4, 0.01, 0.1, 1.0, 100.0)
COSTS = np.array([0.4, 0.17, 0.14, 0.4, 800.0])


def costs(scale, cost):
    """The costs, another one at that scale."""
    return {"cost": np.where(np.array(SCALES) == scale, cost, COSTS)}


@pytest.fixture(scope="module")
def found():
    return measure(init_scale, scales=SCALES, steps=20, starts=1)


@pytest.fixture
def ideal(found):
    """The start as it was measured, and made-up costs of the whole descent."""
    return found | {
        "cost": COSTS,
        "saturated": np.array([0, 0, 0.01, 0.7, 0.99]),
        "relative_gradient_norm": np.array([1, 0.2, 0.17, 0.03, 0.001]),
        **{scheme: found[scheme] | {"cost": 0.13} for scheme in init_scale.SCHEMES},
    }


def test_a_small_run(found):
    result = assert_it_runs(init_scale, found)
    for clause in ("larger_weights_saturate_more", "relative_gradient_falls_beyond_the_valley"):
        assert result.clauses[clause]
    assert result.metrics["scales"].tolist() == list(SCALES) and len(result.metrics["cost"]) == 5


def test_each_clause_can_fail(ideal):
    assert_each_clause_can_fail(
        init_scale,
        ideal,
        {
            "the_lowest_cost_is_in_the_valley": costs(1.0, 0.13),
            "cost_in_the_valley_over_the_lowest": costs(0.01, 0.39),
            "cost_of_he_and_xavier_over_the_lowest": {"xavier": {"cost": 0.2}},
            "cost_from_the_smallest_scale_over_the_lowest": costs(1e-4, 0.2),
            "cost_from_the_largest_scale_over_the_lowest": costs(100.0, 0.39),
            "saturated_units_at_the_largest_scale": {"saturated": np.array([0, 0, 0.01, 0.7, 0.9])},
            "larger_weights_saturate_more": {"saturated": np.array([0, 0, 0.8, 0.7, 0.99])},
            "relative_gradient_falls_beyond_the_valley": {
                "relative_gradient_norm": np.array([1, 0.2, 0.17, 0.03, 0.04])
            },
        },
    )


@pytest.mark.slow
def test_the_valley(tmp_path):
    found = quick("init_scale", tmp_path)
    cost = dict(zip(found["scales"], found["cost"], strict=True))
    assert 0.01 <= found["best_scale"] <= 0.3
    assert cost[1e-4] > 2 * cost[0.1] and cost[100] > 1000 * cost[0.1] and cost[0.01] < 2 * cost[0.1]
    assert max(found["he"]["cost"], found["xavier"]["cost"]) < 1.2 * cost[0.1]
    assert found["saturated"][0] == 0 and found["saturated"][-1] > 0.95

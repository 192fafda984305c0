"""A sweep finds the rate."""

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from experiments import sweep
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick

ACCURACY = np.array([[0.3, 0.4], [0.95, 0.97], [0.1, 0.2]])  # three rates, two seeds


@pytest.fixture(scope="module", autouse=True)
def compiles_anew():
    """Without what earlier tests have compiled, for the time of compiling is part of what is measured."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
    reset_cache()


@pytest.fixture(scope="module")
def found(compiles_anew):
    return measure(sweep, rates=3, seeds=1, epochs=1, one_by_one=1)


def test_a_small_run(found):
    result = assert_it_runs(sweep, found)
    assert result.clauses["difference_of_a_member_from_fit"] and found["accuracy"].shape == (3, 1)
    assert result.metrics["nets"] == 3 and result.metrics["speedup"] > 0
    seconds = list(result.metrics["seconds"].values())
    assert min(seconds) > 0 and seconds[1] > seconds[3]  # one by one, with compilation and without


def test_a_failed_net_has_no_accuracy(found):
    failed = np.where(np.arange(3)[:, None] == 1, np.nan, found["accuracy"])
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        metrics = sweep.metrics(found | {"accuracy": failed})
    assert metrics["failed"] == 1 and metrics["test_accuracy"][1, 0] is None


def test_each_clause_can_fail(found):
    assert_each_clause_can_fail(
        sweep,
        found | {"accuracy": ACCURACY, "seconds": dict(zip(found["seconds"], (2.0, 9.0, 0.2, 0.3), strict=True))},
        {
            "difference_of_a_member_from_fit": {"difference from fit": 1e-3},
            "accuracy_at_the_best_rate": {"accuracy": ACCURACY - 0.05},
            "the_best_rate_is_inside_the_map": {"accuracy": ACCURACY[::-1][[0, 2, 1]]},
            "seconds_at_once": {"seconds": {"sweep": 9.5}},
            "accuracy_at_both_ends_of_the_map": {"accuracy": np.maximum(ACCURACY, 0.9)},
        },
    )


@pytest.mark.slow
def test_a_sweep_finds_the_rate(tmp_path):
    found = quick("sweep", tmp_path)
    assert found["nets"] == 32 and np.shape(found["test_accuracy"]) == (8, 4)
    assert found["best_median_accuracy"] > 0.93 and 0.01 < found["best_rate"] < 10
    assert found["largest_difference_from_fit"] < 1e-4 and found["speedup"] > 0

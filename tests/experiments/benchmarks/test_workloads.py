"""Every row of the scoreboard runs, at toy size, with every peer that is installed; the others are named."""

import jax
import pytest

from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import report
from experiments.benchmarks.workloads import BY_ROW, memory

CONFIG = benchmarks.Config(quick=True, rounds=1)
OPTIONAL = ("torch", "keras", "opacus", "autograd")  # of the extra peers alone: the tests' own extra brings the rest


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers warn of their own code
@pytest.mark.usefixtures("implicit_promotion", "untyped")
@pytest.mark.parametrize("workload", BY_ROW.values(), ids=benchmarks.name)
def test_a_row_runs(workload):
    with jax.numpy_rank_promotion("allow"):  # Keras adds a bias (n,) to rows
        records = benchmarks.records(workload, CONFIG)
    for record in records:
        lines = report.table(record)
        print("\n".join(lines))
        assert record["ours"] in record["rows"] and len(record["rows"]) >= 2
        assert not record["excluded"]
        for name in record["absent"]:
            assert f"- absent: {name}" in lines
            assert "(needs " in name or any(f"{p} is not installed" in name for p in OPTIONAL)
        assert report.figure(record).axes


@pytest.mark.slow
def test_memory_is_compared_where_the_compiler_reports_it():
    record = memory.record(CONFIG, "gelu", 16, 64, 512, 64)
    assert record["memory"]["jaxnet"] < 0.4 * record["memory"]["jax.grad"]
    assert report.figure(record).axes

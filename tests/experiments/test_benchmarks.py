"""The race and its rules; the rows for accelerators run at small size here."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxnet
from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import (
    contest,
    in_torch,
    row09_memory,
    row10_gpu_wide,
    row11_gpu_narrow,
    torch_memory,
    torch_sweep,
)
from experiments.benchmarks.contest import Contestant, Race
from experiments.benchmarks.workload import digits
from tests.comparison import assert_trees_close

CONFIG = benchmarks.Config(quick=True, rounds=1)


def contestant(name, cost, **options):
    return Contestant(name, lambda: lambda: cost, **options)


def raced(*contestants, **options):
    return contest.run(Race("a race", contestants, "s", 1.0, "to be first", **options), rounds=3)


def test_a_fast_wrong_answer_is_no_answer():
    record = raced(contestant("ours", 1.0), contestant("wrong", 1.1), contestant("near", 1.0005))
    assert set(record["rows"]) == {"ours", "near"}
    assert "another result" in record["refused"]["wrong"]
    assert "left out: wrong" in "\n".join(contest.table(record))


def test_a_nan_is_another_result():
    assert "nan" in raced(contestant("ours", 1.0), contestant("broken", float("nan")))["refused"]["broken"]


def test_who_is_not_installed_is_named():
    record = raced(contestant("ours", 1.0), contestant("theirs", 1.0, package="no_such_package"))
    assert record["absent"] == ["theirs (no_such_package is not installed)"]


def test_who_needs_what_is_not_here_is_named():
    record = raced(contestant("ours", 1.0), contestant("graph", 1.0, needs="a GPU"))
    assert record["absent"] == ["graph (needs a GPU)"]
    assert "- absent: graph (needs a GPU)" in contest.table(record)


def test_two_of_one_name_are_refused():
    """They would be one line of the table."""
    with pytest.raises(ValueError, match="two contestants have one name"):
        raced(contestant("ours", 1.0), contestant("theirs", 1.0), contestant("theirs", 1.0))


def test_a_peer_that_cannot_is_left_out_and_ours_may_not():
    def broken():
        raise RuntimeError("no compiler")

    record = raced(contestant("ours", 1.0), Contestant("theirs", broken))
    assert record["refused"] == {"theirs": "RuntimeError: no compiler"}
    with pytest.raises(RuntimeError, match="no compiler"):
        raced(Contestant("ours", broken))


def test_a_goal_is_judged_by_the_ratios(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(contest.time, "perf_counter", lambda: now[0])

    def taking(name, seconds):
        def run():
            now[0] += seconds
            return 1.0

        return Contestant(name, lambda: run)

    ours, theirs, slow = taking("ours", 1), taking("theirs", 3), taking("slow", 90)
    record = raced(ours, theirs, slow, goals={"theirs": 4, "slow": 50}, limit=2.0)
    assert record["rows"]["theirs"]["ratio"] == 3 and record["rows"]["slow"]["ratio"] == 90
    assert record["goals"] == {">= 4x theirs": False, ">= 50x slow": True, "<= 2 s": True}
    assert now[0] == 4 * (1 + 3) + 2 * 90 and "one counted run alone" in record["notes"][0]


def test_what_is_compiled_in_the_warm_up_is_nobody_s_time(monkeypatch):
    """However long it takes: torch.compile tunes the products of a wide net for minutes."""
    now = [0.0]
    monkeypatch.setattr(contest.time, "perf_counter", lambda: now[0])

    def compiling_first():
        first = iter([300.0])

        def run():
            now[0] += 2 + next(first, 0)
            return 1.0

        return run

    def quick():
        now[0] += 1
        return 1.0

    record = raced(Contestant("ours", lambda: quick), Contestant("compiled", compiling_first))
    assert record["rows"]["compiled"]["ratio"] == 2 and not record["notes"]


def test_the_final_cost_is_made_outside_of_the_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(contest.time, "perf_counter", lambda: now[0])

    def taking(seconds, result):
        now[0] += seconds
        return result

    ours = Contestant("ours", lambda: lambda: taking(1, "params"), lambda params: taking(30, len(params)))
    rows = raced(ours)["rows"]
    assert (rows["ours"]["median"], rows["ours"]["cost"]) == (1.0, 6.0)


@pytest.mark.usefixtures("implicit_promotion")
@pytest.mark.parametrize("row", [row10_gpu_wide, row11_gpu_narrow])
def test_the_rows_for_accelerators_run(row):
    records = row.records(CONFIG) if hasattr(row, "records") else [contest.run(r, 1) for r in row.races(CONFIG)]
    for record in records:
        assert record["ours"] in record["rows"] and len(record["rows"]) >= 2, record
        assert not record["refused"], record
        assert contest.figure(record).axes


@pytest.mark.parametrize("batch_size", [None, 32])
def test_what_a_graph_records_are_the_steps_from_the_start(batch_size, monkeypatch):
    """Its steps run one by one, twice, end where the eager loop does; the recording itself needs a GPU."""
    pytest.importorskip("torch")

    def recorded(steps):
        steps()  # as a warm-up, which must not be seen in the result
        return steps

    monkeypatch.setattr(in_torch, "recorded", recorded)
    work = dataclasses.replace(digits((64, 32, 10), 32, 2, 0.1), batch_size=batch_size)
    graph = in_torch.graphed(work, device="cpu")
    assert graph.lacking == "needs a GPU"
    want, run = in_torch.params_of(in_torch.eager(work, 1).prepare()()), graph.prepare()
    for _ in range(2):
        assert_trees_close(in_torch.params_of(run()), want, 1e-5)


def test_stacked_nets_learn_as_each_would():
    """With rates of 0 and r the first one stays, at the cost of its start, and the second does as the loop does."""
    pytest.importorskip("torch")
    work = digits((64, 32, 10), 32, 3, 0.1)
    still, learning = torch_sweep.stacked(work, np.float32([0, 0.1]), 1).prepare()()
    assert still > 2.3
    np.testing.assert_allclose(learning, torch_sweep.one_by_one(work, [0.1]).prepare()()[0], rtol=0.25)


def test_memory_is_compared_where_the_compiler_reports_it():
    record = row09_memory.record(CONFIG, "gelu", 16, 64, 512, 64)
    assert record["memory"]["jaxnet"] < 0.4 * record["memory"]["jax.grad"]
    assert contest.figure(record).axes


@pytest.mark.parametrize(("hidden", "arrays"), [("relu", 5), ("tanh", 5), ("softplus", 9), ("gelu", 9), ("silu", 9)])
def test_what_torch_saves_is_counted_without_computing_it(hidden, arrays):
    """Of 4 hidden layers A alone, or Z and A, where a derivative needs both, and the output for the cost."""
    pytest.importorskip("torch")
    params = jaxnet.init(jaxnet.MLP((8,) * 6, (hidden,) * 4 + ("identity",)), jax.random.key(0))
    for device in ("meta", "cpu"):
        assert torch_memory.saved(params, hidden, 32, device) == arrays * 8 * 32 * 4


def test_unknown_rows_name_the_known_ones():
    assert benchmarks.chosen(CONFIG) == [*range(1, 10)]
    assert benchmarks.chosen(dataclasses.replace(CONFIG, device="gpu")) == [10, 11]
    assert benchmarks.chosen(dataclasses.replace(CONFIG, rows="1,4")) == [1, 4]
    with pytest.raises(SystemExit, match="expected numbers of 1, 2"):
        benchmarks.chosen(dataclasses.replace(CONFIG, rows="1,99"))

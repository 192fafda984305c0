"""The race and its rules; the rows for accelerators run at small size here."""

import dataclasses

import jax
import pytest

import jaxnet
from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import contest, row09_memory, row10_gpu_wide, row11_gpu_narrow, torch_memory
from experiments.benchmarks.contest import Contestant, Race

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
        assert contest.figure(record).axes


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

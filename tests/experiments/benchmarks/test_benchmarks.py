"""The race and its rules; the rows for accelerators run at small size here."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxnet
from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import benchmark as contest
from experiments.benchmarks.benchmark import Contestant, Race
from experiments.benchmarks.peers import jax as in_jax
from experiments.benchmarks.peers import sklearn as in_sklearn
from experiments.benchmarks.peers import torch as in_torch
from experiments.benchmarks.peers import torch_memory, torch_sweep
from experiments.benchmarks.workload import DECAY, clusters, digits
from experiments.benchmarks.workloads import gpu_narrow as row11_gpu_narrow
from experiments.benchmarks.workloads import gpu_wide as row10_gpu_wide
from experiments.benchmarks.workloads import memory as row09_memory
from experiments.benchmarks.workloads import tiny as row01_tiny
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


@pytest.mark.parametrize("cost", [float("nan"), float("inf")])
def test_nobody_is_compared_with_a_cost_that_is_no_number(cost):
    with pytest.raises(ValueError, match=f"a race: ours ended at a cost of {cost}"):
        raced(contestant("ours", cost), contestant("theirs", 1.0))


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


def rows_of(**ratios):
    return {"ours": {"ratio": 1.0, "median": 1.0}} | {name: {"ratio": ratio} for name, ratio in ratios.items()}


def test_a_goal_against_a_family_means_its_best_form():
    race = Race("a race", (), "s", 1.0, "to be first", {"torch": 4, "sklearn": 4, contest.BEST_PEER: 2, "absent": 9})
    assert contest.judged(race, rows_of(torch_eager=5, torch_compile=3, sklearn=4, jax=2.5)) == {
        ">= 4x torch (torch_compile)": False,
        ">= 4x sklearn": True,
        ">= 2x the best peer (jax)": True,
    }


def test_a_ratio_is_the_median_of_the_ratios_round_by_round():
    """A machine that is slow for a round is slow for both: the ratio of the medians would be 3."""
    found = contest.summary({"ours": [1, 2, 4], "theirs": [2, 6, 8]}, "ours", 1e3)
    assert found["theirs"] == {"median": 6e3, "min": 2e3, "ratio": 2} and found["ours"]["ratio"] == 1


def test_a_contestant_with_a_clock_of_its_own_is_believed():
    ours, theirs = (
        Contestant(n, lambda t=t: lambda: t, lambda t: 1.0, clock=float) for n, t in (("us", 2), ("they", 7))
    )
    assert raced(ours, theirs)["rows"]["they"] == {"median": 7.0, "min": 7.0, "ratio": 3.5, "cost": 1.0}


def test_toy_sizes_are_not_judged():
    record = contest.unjudged(
        raced(contestant("ours", 1.0), contestant("theirs", 1.0), goals={"theirs": 1e9}, why="because")
    )
    lines = "\n".join(contest.table(record))
    assert "nothing is proved" in lines and not any(word in lines for word in ("MISSED", "held", "because"))


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


def test_no_counted_run_is_refused_at_the_start():
    with pytest.raises(SystemExit, match="--rounds 0: expected 1 or more"):
        benchmarks.main(dataclasses.replace(CONFIG, rounds=0))


def test_a_row_that_breaks_is_told_in_the_results(monkeypatch, tmp_path, capsys):
    def races(config):
        raise ModuleNotFoundError("No module named 'sklearn'")

    monkeypatch.setattr(row01_tiny, "races", races)
    assert benchmarks.main(dataclasses.replace(CONFIG, rows="1", results=tmp_path)) == 1
    for text in (capsys.readouterr().err, (tmp_path / "benchmarks" / "RESULTS.md").read_text()):
        assert "ow 1 is broken: ModuleNotFoundError" in text and "pip install" in text


def test_scikit_learn_starts_from_our_two_outputs():
    """It knows the second's less the first's: as good a start, not two units that both learn one class."""
    work = clusters((2, 8, 2), 200, 4, 20, 0.05, hidden="tanh")
    peer = in_sklearn.classifier(work)
    ours = in_jax.ours(work)
    assert peer.cost(peer.prepare()()) < 1.25 * ours.cost(ours.prepare()()) < 0.6


def test_the_goal_is_marked_where_the_strictest_is_held():
    record = raced(contestant("ours", 1.0), contestant("theirs", 1.0), goals={"theirs": 4}, limit=1e-9)
    assert record["mark"] == 1e-9
    record = raced(contestant("ours", 1.0), contestant("theirs", 1.0), goals={"theirs": 4})
    assert record["mark"] == record["rows"]["theirs"]["median"] / 4
    (axes,) = contest.figure(record).axes
    assert axes.get_legend() is not None


def test_rows_that_need_a_gpu_are_listed_where_there_is_none(monkeypatch):
    (line,) = benchmarks.unmeasured(CONFIG)
    assert "--device gpu" in line and line.endswith(": 10 and 11.")
    assert benchmarks.unmeasured(dataclasses.replace(CONFIG, rows="10,11")) == [line]  # small ones on a CPU
    assert benchmarks.unmeasured(dataclasses.replace(CONFIG, rows="10", device="gpu"))[0].endswith(": 11.")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert benchmarks.unmeasured(CONFIG) == []


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.1), ("adam", 1e-2), ("adamw", 1e-2)])
def test_torch_s_fastest_form_takes_the_steps_of_its_optimizers(optimizer, rate):
    torch = pytest.importorskip("torch")
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options = {"weight_decay": DECAY} if optimizer == "adamw" else {}
    work = digits((64, 32, 10), 32, 1, rate, optimizer=optimizer)
    model = in_torch.sequential(work.params, work.hidden)
    plain = kinds[optimizer](model.parameters(), lr=rate, **options)
    X, labels = torch.tensor(work.X.T.copy()), torch.tensor(work.labels)
    for batch in map(torch.tensor, work.batches):
        plain.zero_grad()
        torch.nn.functional.cross_entropy(model(X[batch]), labels[batch]).backward()
        plain.step()
    assert_trees_close(in_torch.params_of(in_torch.eager(work, 1).prepare()()), in_torch.params_of(model), 1e-5)


def test_unknown_rows_name_the_known_ones():
    assert benchmarks.chosen(CONFIG) == [*range(1, 10)]
    assert benchmarks.chosen(dataclasses.replace(CONFIG, device="gpu")) == [10, 11]
    assert benchmarks.chosen(dataclasses.replace(CONFIG, rows="1,4")) == [1, 4]
    with pytest.raises(SystemExit, match="expected numbers of 1, 2"):
        benchmarks.chosen(dataclasses.replace(CONFIG, rows="1,99"))

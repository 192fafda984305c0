"""The rules of a benchmark: who gets a time, what a ratio is, when a goal is held, what the table and figure say."""

import pytest

from experiments.benchmarks import benchmark, report
from experiments.benchmarks.benchmark import Benchmark, Implementation


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    """Before each timed run; here it would be most of the time."""
    monkeypatch.setattr(benchmark.gc, "collect", lambda: 0)


def implementation(name, cost, **options):
    return Implementation(name, lambda: lambda: cost, **options)


def record_of(*implementations, **options):
    return benchmark.measure(Benchmark("a benchmark", implementations, "s", 1.0, "to be first", **options), rounds=3)


def test_a_fast_wrong_answer_is_no_answer():
    record = record_of(implementation("ours", 1.0), implementation("wrong", 1.1), implementation("near", 1.0005))
    assert set(record["rows"]) == {"ours", "near"}
    assert "another result" in record["excluded"]["wrong"]
    assert "excluded: wrong" in "\n".join(report.table(record))


def test_a_nan_is_another_result():
    assert "nan" in record_of(implementation("ours", 1.0), implementation("broken", float("nan")))["excluded"]["broken"]


@pytest.mark.parametrize("cost", [float("nan"), float("inf")])
def test_a_cost_of_ours_that_is_not_finite_is_refused(cost):
    with pytest.raises(ValueError, match=f"a benchmark: ours ended at a cost of {cost}"):
        record_of(implementation("ours", cost), implementation("theirs", 1.0))


def test_a_package_that_is_not_installed_is_named_with_its_extra():
    record = record_of(implementation("ours", 1.0), implementation("theirs", 1.0, package="no_such_package"))
    assert record["absent"] == ['theirs (no_such_package is not installed; pip install -e ".[peers]")']


def test_what_an_implementation_needs_and_is_not_here_is_named():
    record = record_of(implementation("ours", 1.0), implementation("graph", 1.0, needs="a GPU"))
    assert record["absent"] == ["graph (needs a GPU)"]
    assert "- absent: graph (needs a GPU)" in report.table(record)


def test_two_implementations_of_one_name_are_refused():
    """They would be one line of the table."""
    with pytest.raises(ValueError, match="two implementations have one name"):
        record_of(implementation("ours", 1.0), implementation("theirs", 1.0), implementation("theirs", 1.0))


def test_a_peer_that_fails_is_excluded_and_ours_raises():
    def broken():
        raise RuntimeError("no compiler")

    record = record_of(implementation("ours", 1.0), Implementation("theirs", broken))
    assert record["excluded"] == {"theirs": "RuntimeError: no compiler"}
    with pytest.raises(RuntimeError, match="no compiler"):
        record_of(Implementation("ours", broken))


def test_a_goal_is_judged_by_the_ratios(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    def taking(name, seconds):
        def run():
            now[0] += seconds
            return 1.0

        return Implementation(name, lambda: run)

    ours, theirs, slow = taking("ours", 1), taking("theirs", 3), taking("slow", 90)
    record = record_of(ours, theirs, slow, goals={"theirs": 4, "slow": 50}, limit=2.0)
    assert record["rows"]["theirs"]["ratio"] == 3 and record["rows"]["slow"]["ratio"] == 90
    assert record["goals"] == {">= 4x theirs": False, ">= 50x slow": True, "<= 2 s": True}
    assert now[0] == 4 * (1 + 3) + 2 * 90 and "one counted run alone" in record["notes"][0]


def rows_of(**ratios):
    return {"ours": {"ratio": 1.0, "median": 1.0}} | {name: {"ratio": ratio} for name, ratio in ratios.items()}


def test_a_goal_against_a_family_means_its_best_form():
    goals = {"torch": 4, "sklearn": 4, benchmark.BEST_PEER: 2, "absent": 9}
    rows = rows_of(torch_eager=5, torch_compile=3, sklearn=4, jax=2.5, jaxnet_in_another_precision=0.1)
    assert benchmark.verdicts(Benchmark("a benchmark", (), "s", 1.0, "to be first", goals), rows, "ours") == {
        ">= 4x torch (torch_compile)": False,
        ">= 4x sklearn": True,
        ">= 2x the best peer (jax)": True,
    }


def test_a_ratio_is_the_median_of_the_ratios_round_by_round():
    """A machine that is slow for a round is slow for both: the ratio of the medians would be 3."""
    found = benchmark.summary({"ours": [1, 2, 4], "theirs": [2, 6, 8]}, "ours", 1e3)
    assert found["theirs"] == {"median": 6e3, "min": 2e3, "ratio": 2} and found["ours"]["ratio"] == 1


def test_a_clock_of_its_own_replaces_ours():
    ours, theirs = (
        Implementation(n, lambda t=t: lambda: t, lambda t: 1.0, clock=float) for n, t in (("us", 2), ("they", 7))
    )
    assert record_of(ours, theirs)["rows"]["they"] == {"median": 7.0, "min": 7.0, "ratio": 3.5, "cost": 1.0}


def test_toy_sizes_are_not_judged():
    record = benchmark.without_goals(
        record_of(
            implementation("ours", 1.0), implementation("theirs", 1.0), goals={"theirs": 1e9}, explanation="because"
        )
    )
    lines = "\n".join(report.table(record))
    assert "nothing is proved" in lines and not any(word in lines for word in ("MISSED", "held", "because"))


def test_compiling_in_the_warm_up_is_not_timed(monkeypatch):
    """However long it takes: torch.compile tunes the products of a wide net for minutes."""
    now = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    def compiling_first():
        first = iter([300.0])

        def run():
            now[0] += 2 + next(first, 0)
            return 1.0

        return run

    def quick():
        now[0] += 1
        return 1.0

    record = record_of(Implementation("ours", lambda: quick), Implementation("compiled", compiling_first))
    assert record["rows"]["compiled"]["ratio"] == 2 and not record["notes"]


def test_the_final_cost_is_computed_outside_of_the_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    def taking(seconds, result):
        now[0] += seconds
        return result

    ours = Implementation("ours", lambda: lambda: taking(1, "params"), lambda params: taking(30, len(params)))
    rows = record_of(ours)["rows"]
    assert (rows["ours"]["median"], rows["ours"]["cost"]) == (1.0, 6.0)


def test_the_target_is_where_the_strictest_goal_is_held():
    record = record_of(implementation("ours", 1.0), implementation("theirs", 1.0), goals={"theirs": 4}, limit=1e-9)
    assert record["target"] == 1e-9
    record = record_of(implementation("ours", 1.0), implementation("theirs", 1.0), goals={"theirs": 4})
    assert record["target"] == record["rows"]["theirs"]["median"] / 4
    (axes,) = report.figure(record).axes
    assert axes.get_legend() is not None


def test_the_reference_is_the_one_of_ours_that_ratios_are_taken_to(monkeypatch):
    """And where it cannot run, as with an option that is not there, the first is."""
    now = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    def taking(name, seconds):
        def run():
            now[0] += seconds
            return 1.0

        return Implementation(name, lambda: run)

    def fails():
        raise TypeError("no such option")

    default, theirs = taking("jaxnet", 4), taking("theirs", 6)
    options = {"reference": "jaxnet, cost alone", "goals": {benchmark.BEST_PEER: 2}, "limit": 3.0}
    record = record_of(default, taking("jaxnet, cost alone", 2), theirs, **options)
    assert {name: row["ratio"] for name, row in record["rows"].items()} == {
        "jaxnet": 2, "jaxnet, cost alone": 1, "theirs": 3,
    }  # fmt: skip
    assert record["goals"] == {">= 2x the best peer (theirs)": True, "<= 3 s": True} and record["target"] == 3
    record = record_of(default, Implementation("jaxnet, cost alone", fails), theirs, **options)
    assert record["ours"] == "jaxnet" and record["rows"]["theirs"]["ratio"] == 1.5
    assert record["excluded"] == {"jaxnet, cost alone": "TypeError: no such option"}

"""The skeleton of all experiments: results, commands, threads, timing, and packages that are missing."""

import dataclasses
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from experiments.runner import experiment, options, plots, results
from experiments.runner.experiment import Result
from jaxnet import datasets
from tests.experiments.claims import full_disk

MODULES = sorted(
    ".".join(path.relative_to(Path(__file__).parents[3]).with_suffix("").parts)
    for path in Path(experiment.__file__).parents[1].rglob("*.py")
    if "benchmarks" not in path.parts
)


@pytest.mark.parametrize(
    ("clauses", "held"), [({"a": True, "b": True}, True), ({"a": True, "b": False}, False), ({}, False)]
)
def test_a_claim_holds_with_all_its_clauses(clauses, held):
    assert Result("It is so.", clauses, {}, None).held is held


def test_all_that_was_found_is_metrics_unless_the_experiment_says_otherwise(monkeypatch):
    module = type(
        "Module", (), {"measure": lambda config: {"seed": config.seed}, "clauses": lambda found: {"even": True}}
    )
    module.claim, module.draw = (lambda found: f"It is {found['seed']}."), (lambda found: None)
    result = experiment.run(module, experiment.Config(seed=4))
    assert (result.claim, result.metrics) == ("It is 4.", {"seed": 4})
    module.metrics = lambda found: {"double": 2 * found["seed"]}
    assert experiment.run(module, experiment.Config(seed=4)).metrics == {"double": 8}


def test_the_command_repeats_the_run(tmp_path):
    planar = experiment.load("planar")
    config = planar.Config(quick=True, steps=10, results=tmp_path / "two words")
    words = shlex.split(experiment.command("planar", config))
    assert words[3:] == ["--results", str(tmp_path / "two words"), "--quick", "--steps", "10"]
    verifier = experiment.load("verifier")
    config = verifier.for_page(quick=True, seed=3)
    words = experiment.command("verifier", config).split()
    assert words[:5] == ["python", "-m", "experiments.verifier", "--seed", "3"]
    assert {"--quick", "--dtypes", "--cases"} < set(words) and "--patience" not in words
    assert options.parse(verifier.Config, "verifier", "", words[3:]) == config


@pytest.fixture
def fake(monkeypatch):
    """An experiment that measures nothing yet."""
    module = SimpleNamespace(Config=experiment.Config, NOTES="section 1", DATA=(), __doc__="A claim.")
    module.clauses, module.claim = (lambda found: {"it_ran": True}), (lambda found: "It ran.")
    module.draw = lambda found: plots.figure(2, 1)
    monkeypatch.setitem(sys.modules, "experiments.fake", module)
    return module


def test_the_record_holds_what_a_quick_run_used(fake, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config(experiment.Config):
        QUICK: ClassVar = {"steps": 30}
        steps: int = 1000

    fake.Config, fake.measure = Config, lambda config: {"steps": config.steps}
    record = experiment.perform("fake", Config(quick=True, results=tmp_path))
    assert record["config"]["steps"] == 30 == record["metrics"]["steps"] and "--steps" not in record["command"]


def test_a_folder_is_an_experiment_as_a_file_is():
    assert experiment.load("privacy").__name__ == "experiments.privacy.__main__"
    assert experiment.load("planar").__name__ == "experiments.planar"


def test_fit_fills_in_device_progress_and_key(monkeypatch):
    seen = {}
    monkeypatch.setattr(jaxnet, "fit", lambda net, X, Y, **settings: seen.update(settings))
    experiment.fit(experiment.Config(seed=3, device="cpu"), None, None, None, steps=5)
    assert seen.pop("key") == jax.random.key(3) and seen == {"steps": 5, "progress": False, "device": "cpu"}
    experiment.fit(experiment.Config(seed=3), None, None, None, key=jax.random.key(8))
    assert seen["key"] == jax.random.key(8) and seen["device"] is None
    experiment.fit(experiment.Config(seed=3), None, None, None, resume="a result", progress=True)
    assert seen["key"] is None and seen["progress"]


def test_threads_compute_on_the_callers_device():
    device = jax.devices("cpu")[1]
    with jax.default_device(device), jax.enable_x64(True):
        arrays = experiment.thread_map(lambda n: jnp.zeros(n), [1, 2, 3], "array")
    assert [array.shape for array in arrays] == [(1,), (2,), (3,)]
    assert {(*array.devices(), array.dtype) for array in arrays} == {(device, np.dtype("float64"))}


def test_a_call_is_timed_cold_and_warm():
    calls = []

    def call(x):
        calls.append(x)
        time.sleep(0.05 if len(calls) == 1 else 0.001)
        return len(calls)

    timing = experiment.seconds(call, 7, repeats=3)
    assert calls == [7] * 4 and timing.result == 1 and timing.cold > 0.05 > timing.warm > 0.001
    once = experiment.seconds(call, 7, repeats=0)
    assert once.result == 5 and np.isnan(once.warm)


def test_trees_are_compared_leaf_by_leaf():
    reference = {"a": np.array([1.0, -4.0]), "b": jnp.array([100.0])}
    tree = {"a": np.array([1.0, -3.0]), "b": jnp.array([102.0])}
    assert experiment.largest_difference(tree, reference) == 2
    assert experiment.relative_difference(tree, reference) == 0.25
    assert experiment.distance(tree, reference) == pytest.approx(5**0.5)
    with pytest.raises(ValueError, match=r"longer|shorter"):
        experiment.largest_difference(tree, {"a": reference["a"]})


@pytest.mark.parametrize(
    ("broken", "code", "told"),
    [
        (lambda config: signal.raise_signal(signal.SIGTERM), 143, "fake: interrupted; nothing is saved\n"),
        (lambda config: signal.raise_signal(signal.SIGINT), 130, "fake: interrupted; nothing is saved\n"),
        (lambda config: {"steps": 1}, "fake: {picture} cannot be saved (File too large); make room", ""),
    ],
)
def test_a_run_that_cannot_end_says_what_is_left(broken, code, told, fake, monkeypatch, tmp_path, capsys):
    fake.measure = broken
    metrics, picture = results.files(tmp_path, "fake")
    monkeypatch.setattr(sys, "argv", ["fake", "--results", str(tmp_path)])
    with full_disk(100), pytest.raises(SystemExit) as caught:
        experiment.main("fake")
    if isinstance(code, str):
        assert caught.value.code.startswith(code.format(picture=picture))
    else:
        assert caught.value.code == code
    assert capsys.readouterr().err == told and not any(metrics.parent.iterdir())
    assert experiment.what_is_left("fake", experiment.Config(results=tmp_path)) == "nothing is saved"
    metrics.write_text("{}")
    assert "are of an earlier run" in experiment.what_is_left("fake", experiment.Config(results=tmp_path))


def test_docstrings_that_python_left_out_are_read_in_the_source(monkeypatch):
    planar, flower = experiment.load("planar"), datasets.flower
    with_docstrings = experiment.metadata("planar", planar)
    assert (
        with_docstrings["about"].startswith("On the flower") and "generated here" in with_docstrings["data"]["flower"]
    )
    monkeypatch.setattr(planar, "__doc__", None)
    monkeypatch.setattr(flower, "__doc__", None)  # as under python -OO
    assert experiment.metadata("planar", planar) == with_docstrings


@pytest.fixture
def cache(tmp_path):
    """A directory in which compiled programs are kept, for one test."""
    from jax.experimental.compilation_cache import compilation_cache

    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    compilation_cache.reset_cache()
    experiment.enable_compilation_cache(tmp_path)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def three_x_plus_1():
    """Of a function that JAX has not seen, whose program is always the same."""
    return jax.jit(lambda x: x * 3 + 1)(np.ones(7, np.float32))


def test_compiled_programs_are_kept_when_asked_for(cache):
    np.testing.assert_array_equal(three_x_plus_1(), 4)
    assert any(cache.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda whole: b"", lambda whole: whole[:50], lambda whole: whole[:-9] + b"jaxnetjax"]
)
def test_a_damaged_cache_of_programs_is_a_warning(damage, cache):
    """Of JAX itself; the program is compiled as if there were none."""
    three_x_plus_1()
    entries = [path for path in cache.iterdir() if path.stat().st_size > 100]
    for path in entries:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
        np.testing.assert_array_equal(three_x_plus_1(), 4)
    assert entries


@pytest.mark.parametrize(("name", "package"), [("experiments.planar", "matplotlib"), ("experiments", "tyro")])
def test_a_missing_extra_is_named_before_any_work(name, package):
    code = f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = ['x']; runpy.run_module({name!r}, "
    process = subprocess.run([sys.executable, "-c", f"{code}run_name='__main__')"], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr == f'{package} is not installed; pip install "jaxnet[experiments]" brings it\n'


def test_importing_a_module_never_ends_the_interpreter():
    """Without any package of the extra every module of ours can be imported; the programs among them are not."""
    programs = ("experiments.__main__", "experiments.notebook")
    code = (
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({experiment.EXTRA!r}))\n"
        f"for name in {[name for name in MODULES if not name.endswith(programs)]!r}:\n"
        "    importlib.import_module(name)\nprint('alive')"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout == "alive\n", process.stderr

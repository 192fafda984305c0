"""All experiments on one page: what breaks does not stop the others, and the page needs nothing but itself."""

import base64
import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import pytest

import experiments.__main__ as runner
from experiments import experiment
from experiments.experiment import Figure, Result
from experiments.page import page, shown

NAMES = ("alpha", "beta", "gamma")


def result(held=True, **metrics):
    figure = Figure()
    figure.subplots().plot([1, 2])
    return Result("One & one are <two>.", held, metrics, figure)


class Fake:
    """A module with a Config and a run that does as it is told, on data of <somebody>."""

    Config = experiment.Config

    def __init__(self, run):
        self.run = run


def breaks(config):
    raise ZeroDivisionError("by <nothing>")


def lacks(config):
    raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend.data")


@pytest.fixture
def ran(monkeypatch, tmp_path, capsys):
    """A function that runs three fake experiments in place of the real ones: (exit code, page, what was printed)."""

    def run(*runs, arguments=()):
        for name, run in zip(NAMES, runs, strict=False):
            monkeypatch.setitem(sys.modules, f"experiments.{name}", Fake(run))
        monkeypatch.setattr(runner, "found", lambda: dict.fromkeys(NAMES[: len(runs)], "section 8"))
        monkeypatch.setattr(sys, "argv", ["experiments", "--results", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as caught:
            runner.main()
        return caught.value.code, (tmp_path / "index.html").read_text(), capsys.readouterr().out

    return run


class Reader(HTMLParser):
    """What a browser would fetch, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_experiments_are_found_in_the_order_of_the_notes():
    sections = runner.found()
    ours = {"planar", "symmetry", "init_scale", "gradient_check", "mnist", "privacy", "sweep", "digits", "verifier"}
    assert ours <= set(sections)
    first = [int(re.search(r"\d+", notes)[0]) for notes in sections.values()]
    assert first == sorted(first)
    for name in sections:
        module = importlib.import_module(f"experiments.{name}")
        assert issubclass(module.Config, experiment.Config) and callable(module.run) and sections[name] == module.NOTES


def test_all_that_hold_are_a_success(ran):
    code, text, printed = ran(
        lambda config: result(number=1.5, group={1: Path("x"), 2: np.bool_(True)}),
        lambda config: result(),
        arguments=["--quick"],
    )
    assert code == 0 and "2 of 2 claims held" in text and printed.count("held ") >= 2
    assert "One &amp; one are &lt;two&gt;." in text and "<td>number</td><td>1.5</td>" in text
    assert (
        "<td>1</td><td>x</td>" in text and "<td>2</td><td>yes</td>" in text
    )  # as metrics.json has them: names and values that JSON knows
    assert "on data of &lt;somebody&gt;." in text
    assert "python -m experiments.alpha --results" in text and "--quick" in text


def test_a_broken_experiment_does_not_stop_the_others(ran):
    code, text, printed = ran(lambda config: result(), breaks, lambda config: result())
    assert code == 1 and "2 of 3 claims held" in text
    assert "ZeroDivisionError: by &lt;nothing&gt;" in text and "BROKEN  beta" in printed
    assert printed.index("beta") < printed.index("gamma")


def test_a_failed_claim_fails_the_run(ran):
    code, text, printed = ran(lambda config: result(held=False))
    assert code == 1 and "0 of 1 claims held" in text and "FAILED  alpha" in printed


def test_a_missing_extra_is_named(ran):
    _, text, printed = ran(lacks)
    assert 'mlxtend is not installed; pip install "jaxnet[experiments]" brings it' in printed
    assert "mlxtend is not installed" in text


def test_an_interrupt_leaves_a_page_of_what_was_done(ran):
    def interrupted(config):
        raise KeyboardInterrupt

    code, text, _ = ran(lambda config: result(), interrupted)
    assert code == 130 and "1 of 1 claims held" in text


def test_the_page_is_self_contained(ran):
    _, text, _ = ran(lambda config: result(), breaks)
    reader = Reader(text)
    assert not reader.open
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in reader.fetched)
    pictures = [target.partition(",")[2] for target in reader.fetched if target.startswith("data:")]
    assert [base64.b64decode(picture)[:4] for picture in pictures] == [b"\x89PNG"]
    assert not re.search(r"https?://|@import|url\(", text) and not {"script", "link", "iframe"} & reader.tags
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text and '<meta charset="utf-8">' in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "planar", "nonsense"], "no experiment nonsense; there are .*planar.*symmetry"),
        (["--results", "/proc/nowhere"], "--results: /proc/nowhere cannot be written"),
        (["--device", "tpu"], "device is 'tpu', but JAX finds only cpu"),
    ],
)
def test_bad_input_ends_it_before_any_work(arguments, message, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "run", lambda *_: pytest.fail("it began to work"))
    monkeypatch.setattr(sys, "argv", ["experiments", "--results", str(tmp_path), *arguments])
    with pytest.raises(SystemExit, match=message):
        runner.main()


@pytest.mark.parametrize("name", ["experiments.planar", "experiments"])
def test_a_missing_plotter_is_named(name):
    """The skeleton imports it, so that the message comes before any other."""
    absent = "import runpy, sys; sys.modules['matplotlib'] = None; sys.argv = ['x']; "
    code = absent + f"runpy.run_module({name!r}, run_name='__main__')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 1
    assert process.stderr == 'matplotlib is not installed; pip install "jaxnet[experiments]" brings it\n'


def test_the_command_makes_the_run_again():
    verifier = importlib.import_module("experiments.verifier")
    config = verifier.for_page(quick=True, seed=3)
    words = experiment.command("verifier", config).split()
    assert words[:5] == ["python", "-m", "experiments.verifier", "--seed", "3"]
    assert {"--quick", "--no-peers"} < set(words) and "--patience" not in words
    assert experiment.tyro.cli(verifier.Config, args=words[3:]) == config


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (12345, "12,345"), (1.23456789e-7, "1.2346e-07"), (141234.5, "141,234"), (float("nan"), "nan")],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert shown(value) == text


def test_an_empty_page_is_a_page(tmp_path):
    assert "0 of 0 claims held" in page([], tmp_path)


def test_compiled_programs_are_kept_when_asked_for(monkeypatch, tmp_path):
    from jax.experimental.compilation_cache import compilation_cache

    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    try:
        compilation_cache.reset_cache()
        experiment.keep_compiled(tmp_path)
        jax.block_until_ready(jax.jit(lambda x: x * 3 + 1)(jax.numpy.ones(7)))
        assert any(tmp_path.iterdir())
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

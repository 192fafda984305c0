"""All experiments on one page: what breaks does not stop the others, and the page needs nothing but itself."""

import base64
import functools
import json
import math
import re
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import experiments.__main__ as all_experiments
from experiments.runner import experiment, performances, plots, results
from jaxnet import datasets
from jaxnet.lock import LOCK
from tests.experiments.claims import full_disk

NAMES = ("alpha", "beta", "gamma")


def result(held=True, **metrics):
    """What a fake experiment finds."""
    return {"held": held, "metrics": metrics}


class Fake:
    """A module of an experiment with the measurement that it is given, in the way of <somebody>."""

    Config, NOTES, DATA = experiment.Config, "section 8", (datasets.digits,)

    def __init__(self, measure):
        self.measure = measure

    def clauses(self, found):
        return {"held": found["held"]}

    def claim(self, found):
        return "One & one are <two>."

    def metrics(self, found):
        return found["metrics"]

    def draw(self, found):
        figure = plots.figure(6, 4)
        figure.subplots().plot([1, 2])
        return found.get("figure", lambda figure: figure)(figure)


def breaks(config):
    raise ZeroDivisionError("by <nothing>")


def lacks(config):
    raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend.data")


@pytest.fixture
def run_all(monkeypatch, tmp_path, capsys):
    """A function that runs three fake experiments in place of the real ones: (exit code, page, what was printed)."""

    def run(*measures, arguments=()):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(performances, "SIDE_BY_SIDE", 1)  # other processes would not know the fakes
        for name, measure in zip(NAMES, measures, strict=False):
            monkeypatch.setitem(sys.modules, f"experiments.{name}", Fake(measure))
        monkeypatch.setattr(all_experiments, "sections", lambda: dict.fromkeys(NAMES[: len(measures)], "section 8"))
        monkeypatch.setattr(sys, "argv", ["experiments", "--results", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as caught:
            all_experiments.main()
        return caught.value.code, (tmp_path / "index.html").read_text(), capsys.readouterr().out

    return run


def not_held(page):
    """The experiments that the head of the page names, and how each ended."""
    return re.findall(r'>(\w+)</a> <span class="failed">(\w+)</span>', page)


class Reader(HTMLParser):
    """What a browser would fetch, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "link", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_experiments_are_found_in_the_order_of_the_notes():
    sections = all_experiments.sections()
    ours = {
        "planar",
        "symmetry",
        "init_scale",
        "gradient_check",
        "mnist",
        "privacy",
        "sweep",
        "digits",
        "verifier",
        "vectorization",
    }
    assert ours <= set(sections)
    first = [int(re.search(r"\d+", notes)[0]) for notes in sections.values()]
    assert first == sorted(first)
    for name in sections:
        module = experiment.load(name)
        assert issubclass(module.Config, experiment.Config) and sections[name] == module.NOTES
        assert all(callable(getattr(module, part)) for part in ("measure", "clauses", "claim", "draw"))
        assert module.NOTES.startswith("section") and module.__doc__.split("\n")[0].endswith(".")


def test_all_that_hold_are_a_success(run_all):
    code, text, printed = run_all(
        lambda config: result(number=1.5, group={1: Path("x"), 2: np.bool_(True)}),
        lambda config: result(),
        arguments=["--quick"],
    )
    assert code == 0 and not_held(text) == [] and "2 experiments, " in text and printed.count("held ") >= 2
    assert "One &amp; one are &lt;two&gt;." in text and '<th scope="row">number</th><td>1.5</td>' in text
    for row in ('<th scope="row">1</th><td>x</td>', '<th scope="row">2</th><td>yes</td>'):
        assert row in text  # as metrics.json has them: names and values that JSON knows
    assert "in the way of &lt;somebody&gt;." in text
    assert "python -m experiments.alpha --results" in text and "--quick" in text


def test_a_broken_experiment_does_not_stop_the_others(run_all):
    code, text, printed = run_all(lambda config: result(), breaks, lambda config: result())
    assert code == 1 and not_held(text) == [("beta", "broken")] and "3 experiments, " in text
    assert "<pre>python -m experiments.beta --results" in text
    assert "ZeroDivisionError: by &lt;nothing&gt;" in text and "BROKEN  beta" in printed
    assert printed.index("beta") < printed.index("gamma")


def test_a_failed_claim_fails_the_run(run_all):
    code, text, printed = run_all(lambda config: result(held=False))
    assert code == 1 and not_held(text) == [("alpha", "failed")] and "FAILED  alpha" in printed


def test_a_missing_extra_is_named(run_all):
    _, text, printed = run_all(lacks)
    assert 'mlxtend is not installed; pip install "jaxnet[experiments]" brings it' in printed
    assert "mlxtend is not installed" in text


def test_an_interrupt_leaves_a_page_of_what_was_done(run_all):
    def interrupted(config):
        raise KeyboardInterrupt

    code, text, _ = run_all(lambda config: result(), interrupted, lambda config: result())
    assert code == 130 and not_held(text) == [] and "1 experiment, " in text
    assert "Interrupted before the end of: beta, gamma." in text and "No results yet: beta, gamma." in text
    assert "No results yet: python -m experiments --only beta" in text
    _, text, _ = run_all(lambda config: result(), lambda config: result(), lambda config: result())
    assert "Interrupted" not in text and "No results yet: alpha" not in text and "earlier run" not in text


def test_an_interrupt_of_the_drawing_leaves_the_earlier_picture(run_all, tmp_path):
    def in_part(figure):
        draw = figure.draw

        def stopped(renderer):
            draw(renderer)
            raise KeyboardInterrupt

        figure.draw = stopped
        return figure

    run_all(lambda config: result(number=1))
    picture = (tmp_path / "alpha" / "alpha.png").read_bytes()
    code, text, _ = run_all(lambda config: result(number=2) | {"figure": in_part})
    assert code == 130 and '<th scope="row">number</th><td>1</td>' in text
    assert (tmp_path / "alpha" / "alpha.png").read_bytes() == picture


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_page_of_what_was_done(signum, code, run_all):
    ended, text, _ = run_all(lambda config: result(), lambda config: signal.raise_signal(signum))
    assert ended == code and "1 experiment, " in text and "Interrupted before the end of: beta." in text


def test_a_full_disk_leaves_what_was_there(run_all, tmp_path, capsys):
    """The earlier picture, numbers and page are whole, and a line says what could not be saved and what to do."""
    works = [lambda config: result(number=1)] * 2
    run_all(*works)
    paths = [tmp_path / "index.html", *results.files(tmp_path, "alpha"), *results.files(tmp_path, "beta")]
    before = {path: path.read_bytes() for path in paths}
    with full_disk(100):
        message, _, printed = run_all(*works)
    assert printed.count("BROKEN") == 2 and f"{paths[2]} cannot be saved (File too large), the earlier" in printed
    assert message.startswith(f"{paths[0]} cannot be saved") and message.endswith("another directory with --results")
    with full_disk(100):
        run_all(breaks)
    assert {path: path.read_bytes() for path in paths} == before and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("program", [all_experiments.main, functools.partial(experiment.main, "planar")])
def test_a_second_run_in_a_directory_is_refused_before_any_work(program, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "run", lambda *_: pytest.fail("it began to work"))
    monkeypatch.setattr(sys, "argv", ["experiments", "--results", str(tmp_path)])
    refusal = f"--results: another run is at work in {tmp_path}; wait for its end"
    with results.only_run(tmp_path), pytest.raises(SystemExit, match=refusal):
        program()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_some_keep_the_cards_of_the_others(run_all):
    works = [lambda config: result(number=1)] * 3
    _, text, _ = run_all(*works, arguments=["--only", "beta"])
    assert (
        "1 experiment, " in text
        and "No results yet: alpha, gamma." in text
        and text.count('<details class="report"') == 1
    )
    run_all(*works, arguments=["--seed", "5"])
    code, text, printed = run_all(works[0], breaks, works[0], arguments=["--only", "beta"])
    assert code == 1 and "0 of 1 claims held" in printed and not_held(text) == [("beta", "broken")]
    assert text.count('<details class="report"') == 3 and len(re.findall(r" s · .* UTC</p>", text)) == 2
    assert "Reports with a date are of an earlier run" in text
    assert "experiments.alpha --seed 5" in text and text.index('id="report-alpha"') < text.index('id="report-beta"')
    _, text, _ = run_all(*works, arguments=["--only", "gamma"])  # what broke is broken until it runs again
    assert not_held(text) == [("beta", "broken")] and "ZeroDivisionError: by &lt;nothing&gt;" in text


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is damaged"), ("[]", "is not a record"), ('{"held": true}', "is not a record")]
)
def test_a_damaged_result_of_an_earlier_run_is_named(content, message, run_all, tmp_path):
    (tmp_path / "beta").mkdir()
    (tmp_path / "beta" / "metrics.json").write_text(content)
    code, text, _ = run_all(lambda config: result(), lambda config: result(), arguments=["--only", "alpha"])
    assert code == 0 and not_held(text) == [("beta", "broken")] and f"beta/metrics.json {message}" in text


def test_a_missing_figure_is_named(run_all, tmp_path):
    works = [lambda config: result()] * 2
    run_all(*works)
    (tmp_path / "beta" / "beta.png").unlink()
    _, text, _ = run_all(*works, arguments=["--only", "alpha"])
    assert "beta/beta.png is missing; run the experiment again" in text


def test_of_a_run_that_left_no_panels_the_page_has_the_picture(run_all, tmp_path):
    works = [lambda config: result()] * 2
    run_all(*works)
    results.panels_file(tmp_path, "beta").unlink()
    results.panels_file(tmp_path, "alpha").write_text("{")
    _, text, _ = run_all(works[0], works[1], arguments=["--only", "alpha"])
    (picture,) = [target for target in Reader(text).fetched if target.startswith("data:image/png;base64,")]
    assert base64.b64decode(picture.partition(",")[2]) == (tmp_path / "beta" / "beta.png").read_bytes()


def test_the_page_is_self_contained(run_all):
    _, text, _ = run_all(lambda config: result(), breaks)
    reader = Reader(text)
    assert not reader.open
    assert all(target.startswith("#") for target in reader.fetched) and "svg" in reader.tags
    assert not re.search(r"@import|url\((?!#)", text) and not {"link", "iframe"} & reader.tags
    assert re.findall(r"https?://[^\s\"<]+", text) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text and '<meta charset="utf-8">' in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "planar", "nonsense"], "no experiment nonsense; there are .*planar.*symmetry"),
        (["nonsense"], "nonsense: run one .* experiments.NAME, .* --only NAME NAME; there are .*planar.*symmetry"),
        (["--quick", "planar", "nonsense"], "planar nonsense: run one experiment as .*; there are .*planar.*symmetry"),
        (["--results", "/proc/nowhere"], "--results: /proc/nowhere cannot be written"),
        (["--device", "tpu"], "device is 'tpu', but JAX finds only cpu"),
    ],
)
def test_bad_input_ends_it_before_any_work(arguments, message, monkeypatch, tmp_path):
    monkeypatch.setattr(performances, "perform", lambda *_: pytest.fail("it began to work"))
    monkeypatch.setattr(sys, "argv", ["experiments", "--results", str(tmp_path), *arguments])
    with pytest.raises(SystemExit, match=message):
        all_experiments.main()


def test_help_lists_the_experiments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments", "--help"])
    with pytest.raises(SystemExit):
        all_experiments.main()
    assert f"Experiments: {', '.join(all_experiments.sections())}." in " ".join(capsys.readouterr().out.split())


def test_a_stray_option_is_not_taken_for_a_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments", "--sed", "3"])
    with pytest.raises(SystemExit):
        all_experiments.main()
    assert "Unrecognized" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("spoilt", "program"),
    [
        ("index.html/", all_experiments.main),
        *((path, program) for path in ("planar", "planar/metrics.json/", "planar/planar.png/", "")
          for program in (all_experiments.main, functools.partial(experiment.main, "planar"))),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_written_ends_it_before_any_work(spoilt, program, monkeypatch, tmp_path):
    """A directory where a file goes, or a file where a directory goes: it is named, and stays as it is."""
    results = tmp_path / "r"
    path = results / spoilt
    path.parent.mkdir(parents=True, exist_ok=True)
    if spoilt.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.write_text("mine")
    monkeypatch.setattr(experiment, "run", lambda *_: pytest.fail("it began to work"))
    monkeypatch.setattr(performances, "perform", lambda *_: pytest.fail("it began to work"))
    monkeypatch.setattr(sys, "argv", ["experiments", "--results", str(results)])
    with pytest.raises(SystemExit, match=f"--results: {path}.* cannot be written .*; move it away, or give"):
        program()
    assert path.is_dir() if spoilt.endswith("/") else path.read_text() == "mine"


@pytest.mark.parametrize("name", list(all_experiments.sections()))
def test_every_data_set_is_named_with_source_and_licence(name, monkeypatch, capsys):
    module = experiment.load(name)
    used = re.findall(r"\bdatasets\.([a-z_]+)\(", Path(module.__file__).read_text())
    assert {load.__name__ for load in module.DATA} == set(used) - {"regression_split"}
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        experiment.main(name)
    shown = " ".join(capsys.readouterr().out.split())
    for load in module.DATA:
        assert re.search("CC BY|BSD|licence", experiment.source(load))
        assert f"Data, {load.__name__}: {experiment.source(load)}" in shown
    assert module.DATA or "random" in module.__doc__


def test_a_card_names_its_data(run_all):
    _, text, _ = run_all(lambda config: result())
    assert "Data, digits: E. Alpaydin and C. Kaynak" in text and "(CC BY 4.0)" in text


def test_a_number_that_is_none_fails_the_claim_and_leaves_valid_json(run_all, tmp_path):
    def strange(config):
        return result(cost=[1.0, np.float32("nan")], bound=math.inf, low={"a": -np.inf}, none=None, array=np.arange(2))

    code, text, printed = run_all(strange)
    assert code == 1 and "FAILED" in printed and "It fails: NaN is cost.1." in text
    written = (tmp_path / "alpha" / "metrics.json").read_text()
    found = json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["held"] is False and found["metrics"] == {
        "clauses": {"held": True},
        "cost": [1.0, "NaN"], "bound": "Infinity", "low": {"a": "-Infinity"}, "none": None, "array": [0, 1],
    }  # fmt: skip
    code, _, _ = run_all(lambda config: result(bound=math.inf))
    assert code == 0  # an infinity is a number that can be compared

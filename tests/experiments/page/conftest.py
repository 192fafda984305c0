"""The page, built once with small settings, and a browser that reads it from disk."""

import fcntl
import os
import shutil
import time

import jax
import pytest

import experiments.__main__ as all_experiments
from experiments.page import assemble
from experiments.runner import experiment, plots, results

FLAGS = ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]


@pytest.fixture(scope="session")
def directory(tmp_path_factory, worker_id):
    """What a quick run leaves of every experiment that has a figure to handle, shared by all processes.

    Of the run itself that of representation is enough, which takes a second: the reports of all look alike.
    """
    base = tmp_path_factory.getbasetemp()
    made = (base if worker_id == "master" else base.parent) / "results-of-the-page"
    made.mkdir(exist_ok=True)
    with open(made / ".built", "a+") as built, jax.numpy_dtype_promotion("standard"):
        fcntl.flock(built, fcntl.LOCK_EX)
        if not os.fstat(built.fileno()).st_size:  # no other process has built it
            for name in all_experiments.sections():
                module = experiment.load(name)
                config = getattr(module, "for_page", module.Config)(quick=True, results=made)
                if name == "representation":
                    experiment.perform(name, config)
                elif hasattr(module, "explore"):
                    explore(name, module, config)
            built.write("yes")
    return made


def explore(name, module, config):
    """Save the data of an experiment's figure beside a record without numbers, as if it had been run."""
    run = experiment.provenance(name, config, time.perf_counter())
    record = (
        experiment.metadata(name, module) | run | {"claim": "It is not measured here.", "held": True, "metrics": {}}
    )
    picture = plots.png(plots.figure(1, 1), dpi=20)
    (config.results / name).mkdir()
    results.save_record(record, config.results, picture, results.to_json(module.explore(config)))


@pytest.fixture(scope="session")
def file(directory, worker_id):
    """The page of that run."""
    cards = {name: results.earlier_record(directory, name) for name in all_experiments.sections()}
    path = directory / f"index-{worker_id}.html"
    path.write_text(assemble.page(cards, directory), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def explored(directory):
    """A function that reads the data of a figure, as Python left them."""
    return lambda name: results.explored(directory, name)


@pytest.fixture(scope="session")
def browser():
    """Chromium; without one the tests are skipped, but fail where CI runs them."""
    without = pytest.fail if os.environ.get("CI") else pytest.skip
    path = shutil.which("chromium")
    if path is None:
        without("no chromium on PATH: apt-get install chromium")
    try:
        from playwright import sync_api
    except ImportError:
        without('playwright is not installed: pip install -e ".[test]"')
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, file):
    """A function that opens the page: what it says on its console or asks of the network fails the test."""
    contexts, faults = [], []

    def opened(width=800, scheme="light", **settings):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if own(request.url, file) else faults.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def own(url, file):
    """Whether a request stays in the file."""
    return url.split("#")[0] == file.as_uri() or url.startswith("data:")


@pytest.fixture
def page(open_page):
    """The page on a screen of 800 px, in light."""
    return open_page()


@pytest.fixture
def figure(page):
    """A function that finds a figure to handle by its name."""
    return lambda name: page.locator(f"figure[data-figure={name}]")


def slide(slider, value):
    """Move a slider as a hand does: its value changes and `input` tells of it."""
    slider.evaluate("(input, value) => { input.value = value; input.dispatchEvent(new Event('input')) }", str(value))

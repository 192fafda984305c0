"""Sections 3 and 4: columns, calls and times are those of the experiment; each way gives W x + b."""

import json
import re

import numpy as np
import pytest

from experiments.vectorization.implementations import NAMES
from tests.experiments.page.conftest import slide

CALLS = {"units and examples": lambda n, m: n * m, "examples": lambda n, m: m, "vmap": lambda n, m: 1}


@pytest.fixture(scope="module")
def data(explored):
    return explored("vectorization")


@pytest.fixture
def vectorization(figure):
    return figure("vectorization")


def choose(vectorization, data, m=None, way=None):
    if m is not None:
        slide(vectorization.locator("[name=m]"), data["counts"].index(m))
    if way is not None:
        vectorization.locator("[name=way]").select_option(way)


def told(vectorization, what):
    return json.loads(vectorization.get_attribute(f"data-{what}"))


def Z_by_numpy(data):
    return np.array(data["W"]) @ np.array(data["X"]).T + np.array(data["b"])[:, None]


def numbers(texts):
    return [float(text.replace("−", "-")) for text in texts]


def test_the_four_ways_have_computed_the_same(data):
    assert set(data["Z"]) == set(data["seconds"]) == set(NAMES)
    for Z in data["Z"].values():
        np.testing.assert_allclose(np.array(Z).T, Z_by_numpy(data), rtol=0, atol=1e-14)
    assert all(len(times) == len(data["counts"]) and min(times) > 0 for times in data["seconds"].values())


@pytest.mark.parametrize("way", NAMES)
def test_m_and_way_give_columns_calls_and_the_measured_time(way, vectorization, data):
    n, matrix = len(data["b"]), np.array(data["Z"]["matrix form"])
    choose(vectorization, data, way=way)
    for k, m in enumerate(data["counts"]):
        choose(vectorization, data, m=m)
        assert told(vectorization, "m") == m and vectorization.get_attribute("data-way") == way
        calls = CALLS.get(way, CALLS["vmap"])(n, m)
        assert told(vectorization, "calls") == told(vectorization, "done") == calls
        assert told(vectorization, "seconds") == data["seconds"][way][k]
        shown = min(m, len(data["X"]))
        assert vectorization.locator(".Z rect").count() == n * shown
        expected = np.abs(np.array(data["Z"][way]) - matrix)[:shown].max()
        assert told(vectorization, "difference") == expected < 1e-14
        written = numbers(vectorization.locator(".Z text").all_text_contents())
        assert written == pytest.approx(Z_by_numpy(data)[:, :m].T.ravel() if m <= 4 else [], abs=0.0501)


def test_the_column_is_that_of_numpy_and_is_coloured(vectorization, data):
    choose(vectorization, data, m=10)
    left = []
    for i in (1, 4, 10):
        slide(vectorization.locator("[name=i]"), i)
        z = Z_by_numpy(data)[:, i - 1]
        assert told(vectorization, "z") == pytest.approx(z, abs=1e-14)
        assert numbers(vectorization.locator(".answer output").all_inner_texts()) == pytest.approx(z, abs=0.000501)
        boxes = vectorization.locator(".chosen")
        (of_X, of_Z) = ({name: float(boxes.nth(k).get_attribute(name)) for name in ("x", "y", "width")} for k in (0, 1))
        assert of_X["x"] == of_Z["x"] and of_X["y"] < of_Z["y"]
        left.append(of_X["x"])
    assert np.diff(left) == pytest.approx([3 * of_X["width"], 6 * of_X["width"]])


@pytest.mark.parametrize("way", NAMES)
def test_a_step_is_a_call(way, vectorization, data):
    """A call of the loops computes a sum or a column, one of the others all of Z."""
    m, n = 3, len(data["b"])
    choose(vectorization, data, m=m, way=way)
    calls = told(vectorization, "calls")
    for done in range(calls + 1):
        vectorization.locator("[name=step]").click()
        assert told(vectorization, "done") == done
        assert vectorization.locator(".Z rect").count() == n * m * done // calls
        assert (vectorization.locator(".call").count() > 0) == (done > 0)
        if calls > 1 and done > 0:
            assert told(vectorization, "i") == -(-done * m // calls)
    text = vectorization.locator(".calls").inner_text()
    assert text == f"{calls} of {calls} call{'s' * (calls > 1)}"


def test_play_runs_through_all_calls_and_can_be_halted(vectorization, data):
    choose(vectorization, data, m=10, way="examples")
    play = vectorization.locator("[name=play]")
    play.click()
    assert told(vectorization, "done") < 10 and play.inner_text() == "Pause"
    play.click()
    halted = told(vectorization, "done")
    assert play.inner_text() == "Play" and halted < 10
    choose(vectorization, data, m=3)
    play.click()
    vectorization.page.wait_for_function("document.querySelector('[data-figure=vectorization]').dataset.done === '3'")
    vectorization.page.wait_for_function(
        "document.querySelector('[data-figure=vectorization] [name=play]').textContent === 'Play'"
    )


def test_nothing_plays_where_motion_is_not_wanted(open_page, data):
    page = open_page(reduced_motion="reduce")
    vectorization = page.locator("figure[data-figure=vectorization]")
    assert not vectorization.locator("[name=play]").is_visible()
    for done in (0, 1):
        vectorization.locator("[name=step]").click()
        assert told(vectorization, "done") == done


def test_a_click_on_a_column_chooses_it(vectorization, data):
    choose(vectorization, data, m=3)
    matrices = vectorization.locator("svg").first
    matrices.scroll_into_view_if_needed()
    box = matrices.bounding_box()
    for i in (3, 1):
        matrices.click(position={"x": box["width"] * (154 + 144 * (i - 0.5) / 3) / 300, "y": box["height"] / 4})
        assert told(vectorization, "i") == i


def test_times_are_drawn_to_scale(vectorization, data):
    """Between two points of a line, as much as between the logarithms of m and of the seconds."""
    lines = (
        vectorization.locator("svg")
        .nth(1)
        .locator("path[fill=none]")
        .evaluate_all("all => all.map(line => line.getAttribute('d'))")
    )
    drawn = np.array([re.findall(r"[ML](\S+) ([^L]+)", line) for line in lines], float)
    across, up = drawn[..., 0], drawn[..., 1]
    m, s = np.log10(data["counts"]), np.log10([data["seconds"][way] for way in NAMES])
    np.testing.assert_allclose(across - across[0, 0], np.tile(m * (across[0, -1] - across[0, 0]) / m[-1], (4, 1)))
    scale = np.ptp(up) / np.ptp(s)
    np.testing.assert_allclose(up - up[0, 0], -scale * (s - s[0, 0]), atol=1e-9)


def test_the_machine_is_named(vectorization, data):
    assert data["machine"] in vectorization.locator(".machine").inner_text()

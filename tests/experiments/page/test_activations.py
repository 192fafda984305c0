"""Sections 5 and 7: the numbers, the tangent and the bars are those of jaxnet's activations and their derivatives."""

import json
import re

import jax.numpy as jnp
import pytest

from experiments.activations import NAMES
from jaxnet.activations import ACTIVATIONS
from tests.experiments.page.conftest import slide

POINTS = (-10, -2.3, 0, 0.7, 10)


@pytest.fixture
def activations(figure):
    return figure("activations")


def by_jaxnet(name, z):
    """g(z) and g'(z)."""
    Z = jnp.full((1, 1), z, "float32")
    A = ACTIVATIONS[name].apply(Z)
    return float(A[0, 0]), float(ACTIVATIONS[name].derivative(Z, A)[0, 0])


def shown(activations):
    """What the figure says of itself: g(z), g'(z), and g'(z) of all activations."""
    value, slope, slopes = (
        json.loads(activations.get_attribute(f"data-{what}")) for what in ("value", "slope", "slopes")
    )
    return value, slope, dict(zip(NAMES, slopes, strict=True))


def numbers(texts):
    """Numbers as they are printed for people: 4.5·10⁻⁵ with a minus sign of print."""
    exponent = str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")
    return [float(text.translate(exponent).replace("·10", "e")) for text in texts]


def test_select_and_slider_give_the_numbers_of_jaxnet(activations):
    for name in NAMES:
        activations.locator("select").select_option(name)
        for z in POINTS:
            slide(activations.locator("input"), z)
            value, slope, slopes = shown(activations)
            expected = by_jaxnet(name, z)
            assert (value, slope) == pytest.approx(expected, abs=1e-6)
            assert slopes == pytest.approx({each: by_jaxnet(each, z)[1] for each in NAMES}, abs=1e-6)
            assert numbers(activations.locator(".answer output").all_inner_texts()) == pytest.approx(
                expected, abs=5.1e-5
            )


def test_the_tangent_has_the_slope_and_touches(activations):
    activations.locator("select").select_option("tanh")
    slide(activations.locator("input"), -0.8)
    value, slope = by_jaxnet("tanh", -0.8)
    plot = activations.locator("svg").first
    x1, y1, x2, y2 = map(
        float, re.findall(r"-?[\d.]+(?:e-?\d+)?", plot.locator("[stroke='var(--green)']").get_attribute("d"))
    )
    # The ends of tanh's own curve, at z = ±10, say how long a unit is on either axis.
    curve = re.findall(r"[ML](\S+) ([^L]+)", plot.locator("g > [stroke='var(--blue)']").get_attribute("d"))
    (left, low), (right, high) = (tuple(map(float, point)) for point in (curve[0], curve[-1]))
    across, up = (right - left) / 20, (high - low) / 2
    assert (y2 - y1) / up / ((x2 - x1) / across) == pytest.approx(slope, abs=1e-6)
    middle = ((x1 + x2) / 2 - left) / across - 10, ((y1 + y2) / 2 - low) / up - 1
    assert middle == pytest.approx((-0.8, value), abs=1e-6)


def test_the_bar_is_as_long_as_what_passes_and_flat_where_it_saturates(activations):
    bars = activations.locator("svg").nth(1).locator("rect[fill='var(--green)']")
    width = lambda name: float(bars.nth(NAMES.index(name)).get_attribute("width"))
    for z in POINTS:
        slide(activations.locator("input"), z)
        for name in NAMES:
            assert width(name) == pytest.approx(width("identity") * abs(by_jaxnet(name, z)[1]), abs=1e-4)
    assert width("sigmoid") < 0.01 and width("tanh") < 0.01 < width("identity") == width("relu")
    assert "Here it is flat" in activations.locator(".answer").inner_text()


def test_a_pointer_on_the_plot_moves_z_and_one_on_a_bar_chooses(activations):
    plot = activations.locator("svg").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    middle = box["x"] + box["width"] * (34 + 292) / 600, box["y"] + box["height"] / 2
    activations.page.mouse.move(*middle)
    activations.page.mouse.down()
    assert float(activations.get_attribute("data-z")) == pytest.approx(0, abs=0.1)
    activations.page.mouse.move(middle[0] + box["width"] * 129 / 300 / 2, middle[1])
    activations.page.mouse.up()
    assert float(activations.get_attribute("data-z")) == pytest.approx(5, abs=0.1)
    activations.locator("svg text", has_text="softplus").click()
    assert activations.locator("select").input_value() == activations.get_attribute("data-activation") == "softplus"


@pytest.mark.parametrize("z", [-10, 0, 10])
def test_section_7_leads_to_the_points_of_the_notes(z, page, activations):
    page.locator(f"#section-7 a[data-z='{z}']").click()
    assert float(activations.get_attribute("data-z")) == z
    assert shown(activations)[1] == pytest.approx({-10: 0, 0: 0.25, 10: 0}[z], abs=1e-4)

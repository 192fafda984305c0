"""Sections 1 and 2: what stands in the units and in the sum is what jaxnet computes."""

import json

import jax
import numpy as np
import pytest

import jaxnet
from experiments.representation import NET
from tests.experiments.page.conftest import slide


@pytest.fixture(scope="module")
def data(explored):
    return explored("representation")


def layers_by_jaxnet(data, x):
    """z and a of each layer, in float64."""
    params = tuple(jaxnet.Layer(np.array(layer["W"]), np.array(layer["b"])[:, None]) for layer in data["params"])
    with jax.enable_x64(True):
        predicted = np.asarray(jaxnet.predict(NET, params, np.array(x)[:, None]))[:, 0]
        cache = jaxnet.forward(NET, params, jax.numpy.asarray(np.array(x)[:, None]))[1]
        return predicted, [(np.asarray(layer.Z)[:, 0], np.asarray(layer.A)[:, 0]) for layer in cache]


def test_each_slider_moves_the_numbers_to_those_of_jaxnet(figure, data):
    network, x = figure("representation"), [round(value, 2) for value in data["x"]]
    for i, value in enumerate([-2.5, 1.75, 3.0]):
        slide(network.locator("input").nth(i), value)
        x[i] = value
        predicted, expected = layers_by_jaxnet(data, x)
        found = json.loads(network.get_attribute("data-layers"))
        for layer, (z, a) in zip(found, expected, strict=True):
            np.testing.assert_allclose(layer["z"], z, rtol=0, atol=1e-14)
            np.testing.assert_allclose(layer["a"], a, rtol=0, atol=1e-14)
        assert network.locator("label output").nth(i).inner_text() == f"{value:.2f}".replace("-", "−")
        shown = network.locator("svg text[fill=currentColor]").all_text_contents()
        numbers = [number for _, a in expected for number in a]
        assert [float(text.replace("−", "-")) for text in shown] == pytest.approx(numbers, abs=0.00501)
        assert found[-1]["a"] == pytest.approx(predicted, abs=1e-14)


@pytest.mark.parametrize("way", ["click", "hover", "focus", "tap"])
def test_a_unit_shows_its_sum_with_the_numbers(way, open_page, data):
    page = open_page(has_touch=True)
    network = page.locator("figure[data-figure=representation]")
    units = network.locator("[role=button]")
    _, expected = layers_by_jaxnet(data, [round(value, 2) for value in data["x"]])
    for i, (l, unit) in enumerate([(1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]):
        getattr(units.nth(i), way)()
        assert units.nth(i).get_attribute("aria-pressed") == "true"
        assert network.locator("[aria-pressed=true]").count() == 1
        z, a = [float(text.replace("−", "-")) for text in network.locator(".answer output").all_inner_texts()]
        assert (z, a) == pytest.approx((expected[l][0][unit], expected[l][1][unit]), abs=0.000501)
        weights = [float(text.replace("−", "-")) for text in network.locator(".answer span").all_inner_texts()]
        assert weights == pytest.approx(data["params"][l - 1]["W"][unit], abs=0.00501)

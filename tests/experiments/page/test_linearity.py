"""Section 6: boundary, accuracy and the one layer W'x + b' follow from the params, as in jaxnet and NumPy."""

import itertools
import json
import re

import jax
import numpy as np
import pytest

import jaxnet
from tests.experiments.page.conftest import slide


@pytest.fixture(scope="module")
def data(explored):
    return explored("linearity")


@pytest.fixture
def linearity(figure):
    return figure("linearity")


def choose(linearity, hidden, depth):
    linearity.locator("[name=hidden]").select_option(hidden)
    linearity.locator("[name=depth]").select_option(str(depth))


def network(found):
    """The net and its params in float64."""
    params = tuple(jaxnet.Layer(np.array(layer["W"]), np.array(layer["b"])[:, None]) for layer in found["params"])
    sizes = (2, *(len(layer.W) for layer in params))
    return jaxnet.MLP(sizes, tuple(found["activations"])), params


def Z_by_jaxnet(found, X):
    """z[L] of examples that are columns."""
    net, params = network(found)
    with jax.enable_x64(True):
        return np.asarray(jaxnet.forward(net, params, jax.numpy.asarray(X, "float64"))[1][-1].Z)[0]


def nets(data):
    return {(found["hidden"], found["depth"]): found for found in data["nets"]}


def test_each_network_has_the_accuracy_of_jaxnet(linearity, data):
    X, y = np.array(data["X"]).T, np.array(data["y"])
    assert set(nets(data)) == set(itertools.product(("identity", "tanh"), (1, 2)))
    for (hidden, depth), found in nets(data).items():
        choose(linearity, hidden, depth)
        net, params = network(found)
        with jax.enable_x64(True):
            expected = float(jaxnet.accuracy(jaxnet.predict(net, params, X), y[None]))
        assert float(linearity.get_attribute("data-accuracy")) == pytest.approx(expected, abs=1e-12)
        assert linearity.locator(".accuracy").inner_text() == f"{100 * expected:.2f} %"
        wrong = linearity.locator("svg > :is(circle, rect)[stroke=currentColor]").count()
        assert wrong == round(len(y) * (1 - expected))
        assert wrong == 0 if hidden == "tanh" else wrong > 0


def test_each_slider_moves_z_to_that_of_jaxnet(linearity, data):
    for (hidden, depth), found in nets(data).items():
        choose(linearity, hidden, depth)
        for x in [(-0.75, 1.25), (1.5, 1.25), (1.5, -0.25)]:
            for name, value in zip(("x1", "x2"), x, strict=True):
                slide(linearity.locator(f"[name={name}]"), value)
            assert json.loads(linearity.get_attribute("data-x")) == pytest.approx(x, abs=0.006)  # a stop of the slider
            at = np.array(json.loads(linearity.get_attribute("data-x")))[:, None]
            (expected,) = Z_by_jaxnet(found, at)
            assert float(linearity.get_attribute("data-z")) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_identity_layers_are_one_layer_and_tanh_layers_are_not(linearity, data):
    X = np.array(data["X"]).T
    for (hidden, depth), found in nets(data).items():
        choose(linearity, hidden, depth)
        text = linearity.locator(".answer").inner_text().replace("−", "-")
        if hidden == "tanh":
            assert linearity.get_attribute("data-difference") is None and "W′ =" not in text
            continue
        product, *others = network(found)[1]
        W, b = product
        for layer in others:
            W, b = layer.W @ W, layer.W @ b + layer.b
        x = np.array(json.loads(linearity.get_attribute("data-x")))[:, None]
        assert float(linearity.get_attribute("data-by-one-layer")) == pytest.approx((W @ x + b).item(), rel=1e-12)
        assert float(linearity.get_attribute("data-difference")) < 1e-12 * np.abs(W @ X + b).max()
        w1, w2, bias = map(float, re.search(r"\[(\S+)\s(\S+)\],\s*b′ = (\S+),", text).groups())
        assert (w1, w2, bias) == pytest.approx((*W[0], b.item()), abs=0.00501)


def test_the_boundary_is_where_the_probability_is_one_half(linearity, data):
    """Pixels of the shade: orange and blue on either side of z[L] = 0, the more opaque the surer."""
    alpha = """svg => new Promise(done => {
        const image = new Image(), canvas = document.createElement("canvas"), context = canvas.getContext("2d")
        image.onload = () => {
            [canvas.width, canvas.height] = [image.width, image.height]
            context.drawImage(image, 0, 0)
            done([image.width, image.height, Array.from(context.getImageData(0, 0, image.width, image.height).data)])
        }
        image.src = svg.querySelector("image").getAttribute("href")
    })"""
    X = np.array(data["X"])
    low, high = X.min(axis=0) - np.ptp(X, axis=0) / 10, X.max(axis=0) + np.ptp(X, axis=0) / 10
    for (hidden, depth), found in nets(data).items():
        choose(linearity, hidden, depth)
        width, height, values = linearity.locator("svg").evaluate(alpha)
        pixels = np.array(values).reshape(height, width, 4)
        step = (high[0] - low[0]) / width
        across, down = low[0] + step * (np.arange(width) + 0.5), high[1] - step * (np.arange(height) + 0.5)
        z = Z_by_jaxnet(found, np.stack(np.meshgrid(across, down)).reshape(2, -1)).reshape(height, width)
        np.testing.assert_allclose(pixels[..., 3], 160 * np.abs(np.tanh(z / 2)), rtol=0, atol=1)  # |2 σ(z) - 1|
        seen = pixels[..., 3] > 20
        assert np.array_equal(pixels[..., 2][seen] > pixels[..., 0][seen], z[seen] > 0)


def test_the_dashed_line_is_the_boundary_of_the_one_layer(linearity, data):
    choose(linearity, "identity", 2)
    X, one_layer = np.array(data["X"]), nets(data)["identity", 2]["one_layer"]
    low, high = X.min(axis=0) - np.ptp(X, axis=0) / 10, X.max(axis=0) + np.ptp(X, axis=0) / 10
    path = linearity.locator("path[stroke-dasharray]").get_attribute("d")
    ends = np.array(re.findall(r"-?\d+\.?\d*", path), float).reshape(2, 2) * (high[0] - low[0]) / 300
    at = np.stack([low[0] + ends[:, 0], high[1] - ends[:, 1]])
    np.testing.assert_allclose(one_layer["W"] @ at + one_layer["b"], 0, atol=1e-9)
    choose(linearity, "tanh", 2)
    assert linearity.locator("path[stroke-dasharray]").get_attribute("d") == ""


def test_a_pointer_on_the_plane_moves_the_point(linearity, data):
    picture = linearity.locator("svg")
    picture.scroll_into_view_if_needed()
    box, X = picture.bounding_box(), np.array(data["X"])
    linearity.page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    low, high = X.min(axis=0) - np.ptp(X, axis=0) / 10, X.max(axis=0) + np.ptp(X, axis=0) / 10
    expected = (0.75 * low[0] + 0.25 * high[0], (low[1] + high[1]) / 2)
    assert json.loads(linearity.get_attribute("data-x")) == pytest.approx(expected, abs=0.02)


def test_a_finger_scrolls_up_and_down_and_moves_the_cross_by_a_tap_or_sideways(open_page):
    page = open_page(360, has_touch=True, is_mobile=True)
    figure = page.locator("figure[data-figure=linearity]")
    plane, slider = figure.locator("svg[role=img]"), figure.locator("[name=x1]")
    plane.scroll_into_view_if_needed()
    finger = page.context.new_cdp_session(page)

    def touch(kind, *points):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    def drag(across, along):
        """From the middle of the plane; the point that the figure then shows, and how far the page is scrolled."""
        box = plane.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch("touchStart", (x, y))
        for part in np.linspace(0.1, 1, 10):
            touch("touchMove", (x + part * across, y + part * along))
            page.wait_for_timeout(20)
        touch("touchEnd")
        page.wait_for_timeout(300)  # until what it has set in motion stands still
        return json.loads(figure.get_attribute("data-x")), page.evaluate("scrollY")

    before, top = json.loads(figure.get_attribute("data-x")), page.evaluate("scrollY")
    unmoved, scrolled = drag(3, -200)
    assert unmoved == before and scrolled > top + 100
    left, right = (float(slider.get_attribute(end)) for end in ("min", "max"))
    box, (moved, _) = plane.bounding_box(), drag(-80, 5)
    assert moved[0] == pytest.approx((left + right) / 2 - 80 / box["width"] * (right - left), abs=0.02)
    page.touchscreen.tap(box["x"] + 0.75 * box["width"], plane.bounding_box()["y"] + box["height"] / 2)
    assert json.loads(figure.get_attribute("data-x"))[0] == pytest.approx(left + 0.75 * (right - left), abs=0.02)

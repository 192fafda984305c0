"""The flower by hand: what its sliders show is what jaxnet has trained, and one forward pass in the browser."""

import json

import jax
import numpy as np
import pytest

import jaxnet
from experiments import planar
from experiments.page import assemble
from experiments.runner.results import packed
from jaxnet import datasets
from tests.experiments.page.conftest import slide

ZERO, SMALL, LARGE = (planar.SCALES.index(scale) for scale in (0, 0.01, 100))
WIDTHS = planar.WIDTHS_OF_QUICK


@pytest.fixture(scope="module")
def data(explored):
    return explored("planar")


@pytest.fixture
def flower(figure):
    return figure("planar")


@pytest.fixture
def move(flower):
    """A function that moves sliders to stops, by name, and reads what the figure then says of itself."""

    def to(**stops):
        for name, stop in stops.items():
            slide(flower.locator(f"[name={name}]"), stop)
        return read(flower)

    return to


def read(flower):
    """The numbers of the figure, and the params of the network that it shows."""
    found = flower.evaluate("figure => ({...figure.dataset})")
    params = tuple(
        jaxnet.Layer(np.array(layer["W"], np.float32), np.array(layer["b"], np.float32)[:, None])
        for layer in json.loads(found.pop("params"))
    )
    return {name: float(value) for name, value in found.items() if name != "figure"} | {"params": params}


def accuracy_by_jaxnet(params):
    X, Y = (part.astype(np.float32) for part in datasets.flower())
    net = jaxnet.MLP((2, len(params[0].W), 1), ("tanh", "sigmoid"))
    return float(jaxnet.accuracy(jaxnet.predict(net, params, X), Y))


def test_it_starts_with_four_units_that_have_learnt_the_flower(flower):
    found = read(flower)
    assert (found["units"], found["scale"], found["step"]) == (4, 0.01, 5000)
    assert found["accuracy"] > 0.85 and found["cost"] < 0.4
    assert flower.locator(".accuracy").inner_text() == f"{100 * found['correct']:.1f} %"
    assert float(flower.locator(".rate").inner_text()) == planar.Config().learning_rate  # the α of the formulas
    assert flower.locator(".J").inner_text() == f"{found['cost']:.3f}"


@pytest.mark.parametrize("units", WIDTHS)
def test_the_slider_of_units(units, move, flower):
    """Its accuracy is that of jaxnet with the params shown, and the browser's own; four units part the flower."""
    found = move(units=WIDTHS.index(units))
    assert found["units"] == units == len(found["params"][0].W)
    assert found["accuracy"] > 0.85 if units >= planar.MANY else found["accuracy"] < 0.85
    assert found["correct"] == pytest.approx(found["accuracy"], abs=0.005)
    assert accuracy_by_jaxnet(found["params"]) == pytest.approx(found["accuracy"], abs=0.005)
    assert flower.locator("label output").first.inner_text() == str(units)
    assert flower.locator(".network line").count() == 3 * units


@pytest.mark.parametrize("scale", [scale for scale in planar.SCALES if scale])
def test_the_slider_of_the_initial_scale(scale, move):
    """Before the first step the weights are those of `jaxnet.init` at that scale."""
    found = move(units=WIDTHS.index(20), scale=planar.SCALES.index(scale), step=0)
    assert found["scale"] == scale and found["step"] == found["moved"] == 0
    start = jaxnet.init(jaxnet.MLP((2, 20, 1), ("tanh", "sigmoid")), jax.random.key(0), scale)
    for shown, layer in zip(found["params"], start, strict=True):
        np.testing.assert_allclose(shown.W, layer.W, rtol=1e-3, atol=1e-7)
        assert not shown.b.any()


def test_the_slider_of_steps(move, data):
    """The step, its cost and params: those of `jaxnet.fit` after as many; the dot follows along the curve."""
    X, Y = datasets.flower()
    net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    start = jaxnet.init(net, jax.random.key(0), 1.0)
    settings = {"optimizer": "sgd", "learning_rate": 1.2, "batch_size": None, "progress": False}
    for stop in (1, 12, 30):
        found = move(scale=planar.SCALES.index(1), step=stop)
        steps = data["steps"][stop]
        fitted = jaxnet.fit(net, X, Y, params=start, key=jax.random.key(1), epochs=steps, **settings)
        assert found["step"] == steps
        assert found["cost"] == pytest.approx(
            float(jaxnet.cost(net, fitted.params, *map(np.float32, (X, Y)))), abs=1e-4
        )
        for shown, layer in zip(found["params"], fitted.params, strict=True):
            np.testing.assert_allclose(shown.W, layer.W, rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(shown.b, layer.b, rtol=2e-3, atol=2e-3)


def test_the_dot_stands_on_the_curve(move, flower):
    places = []
    for stop in (0, 30, 59):
        move(step=stop)
        dot = flower.locator(".cost circle")
        places.append([float(dot.get_attribute(name)) for name in ("cx", "cy")])
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x0 < x1 < x2 and x1 - x0 == pytest.approx(30 / 59 * (x2 - x0)) and y0 < y1 < y2  # the cost falls


def test_the_zero_start_is_named_and_nothing_learns(move, flower):
    for stop in (0, 30, 59):
        found = move(units=WIDTHS.index(4), scale=ZERO, step=stop)
        rows = found["params"][0].W
        assert (rows == rows[0]).all() and np.ptp(found["params"][1].W) == 0
        assert found["accuracy"] == 0.5 and found["cost"] == pytest.approx(np.log(2), abs=1e-4)
        assert flower.locator(".remark").inner_text().startswith("The zero start: all rows of W[1] are equal")


def test_saturation_is_named_with_its_numbers(move, flower):
    found = move(units=WIDTHS.index(4), scale=LARGE)
    (W, _), _ = jaxnet.init(jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jax.random.key(0), 100.0)
    start = np.tanh(np.asarray(W) @ datasets.flower()[0])
    assert found["flat"] == pytest.approx((np.abs(start) > 0.99).mean(), abs=0.002) and found["flat"] > 0.9
    text = flower.locator(".remark").inner_text()
    assert text.startswith(f"Saturation: before the first step {100 * found['flat']:.0f} %")
    assert f"moved by {100 * found['moved']:.0f} %" in text and found["moved"] < 0.2
    assert move(scale=SMALL)["flat"] == 0
    assert flower.locator(".remark").inner_text().startswith("In the middle")


def test_section_10_leads_to_both_ends_of_the_scale(page, flower):
    for scale in (0, 100):
        page.locator(f"#section-10 a[data-scale='{scale}']").click()
        assert read(flower)["scale"] == scale and page.url.endswith("#flower")


def test_the_shade_is_the_probability(move, flower):
    """The more one class is probable, the less transparent its colour; points of the plane as jaxnet predicts them."""
    found = move(units=WIDTHS.index(4), scale=SMALL, step=40)
    side = flower.locator(".picture canvas").evaluate("canvas => canvas.width")
    columns, rows = np.random.default_rng(0).integers(10, side - 10, (2, 300))
    colours = flower.locator(".picture canvas").evaluate(
        """(canvas, pixels) => {
            const {data, width} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
            return pixels.map(([x, y]) => Array.from(data.slice(4 * (width * y + x), 4 * (width * y + x + 1))))
        }""",
        np.stack([columns, rows], axis=1).tolist(),
    )
    red, _, blue, opacity = np.array(colours).T
    end = 1.1 * np.abs(datasets.flower()[0]).max()
    at = lambda pixel: end * (2 * (pixel + 0.5) / side - 1)
    X = np.stack([at(columns), -at(rows)]).astype(np.float32)
    A = np.asarray(jaxnet.predict(jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), found["params"], X))[0]
    sure = np.abs(2 * A - 1) > 0.2
    assert sure.sum() > 100 and ((blue > red) == (A > 0.5))[sure].all()
    assert np.median(np.abs(opacity / 255 / 0.6 - np.abs(2 * A - 1))) < 0.02


def test_play_advances_to_the_last_step_and_stops(flower, move):
    button = flower.get_by_role("button", name="Play")
    first = move(step=50)["step"]
    button.click()
    flower.page.wait_for_function(
        "step => Number(document.querySelector('[data-step]').dataset.step) > step", arg=first
    )
    told = flower.locator("output, .remark")  # an output without aria-live is read out at every change
    live = lambda: told.evaluate_all("all => all.map(one => one.ariaLive)")
    assert live() == ["off"] * 6
    flower.get_by_role("button", name="Pause").click()
    assert live() == ["off"] * 3 + ["polite"] * 3  # a slider tells of itself
    paused = read(flower)["step"]
    flower.page.wait_for_timeout(300)
    assert read(flower)["step"] == paused > first
    button.click()
    button.wait_for()  # which says Pause until the end
    assert read(flower)["step"] == 5000


def test_moving_the_step_by_hand_ends_the_play(flower, move):
    move(step=20)
    flower.get_by_role("button", name="Play").click()
    assert move(step=3)["step"] == 3
    flower.page.wait_for_timeout(300)
    assert read(flower)["step"] == 3 and flower.get_by_role("button", name="Play").count() == 1


def test_where_motion_is_reduced_a_press_is_a_step(open_page, data):
    flower = open_page(reduced_motion="reduce").locator("figure[data-figure=planar]")
    button = flower.get_by_role("button", name="Next step")
    for stop in (0, 1, 2):  # from the last step to the first
        button.click()
        flower.page.wait_for_timeout(150)
        assert read(flower)["step"] == data["steps"][stop]


def test_the_sliders_work_by_keys(flower, data):
    step = flower.locator("[name=step]")
    step.focus()
    for key, stop in [("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("End", 59)]:
        step.press(key)
        assert read(flower)["step"] == data["steps"][stop]
        assert step.get_attribute("aria-valuetext") == f"{data['steps'][stop]:,}"


# ---- the forward pass of the browser ----


@pytest.fixture(scope="module")
def network(browser):
    """A page that has network.js as `network`."""
    page = browser.new_page()
    source = (assemble.HERE / "network.js").read_text()
    page.evaluate(
        """async source => {
            const file = new Blob([source], {type: "text/javascript"})
            window.network = await import(URL.createObjectURL(file))
        }""",
        source,
    )
    yield page
    page.close()


def predicted(network, names, params, X, dtype):
    """What network.js says of the columns of X, with params packed in that dtype."""
    given = {"params": [{"W": packed(W, dtype), "b": packed(b[:, 0], dtype)} for W, b in params], "names": names}
    return network.evaluate(
        """({params, names, X}) => {
            const decoded = params.map(({W, b}) => ({W: network.decode(W), b: network.decode(b)}))
            return X.map(x => network.forward(decoded, names, x).at(-1).a)
        }""",
        given | {"X": X.T.tolist()},
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3)])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "identity"])
def test_the_forward_pass_of_the_browser_is_jaxnets(activation, dtype, tolerance, network, key):
    net = jaxnet.MLP((3, 20, 5, 2), (activation, activation, "sigmoid"), loss="cross_entropy")
    params = jaxnet.init(net, key)
    X = np.asarray(jax.random.normal(key, (3, 50)))
    expected = np.asarray(jaxnet.predict(net, params, X))
    found = np.array(predicted(network, list(net.activations), params, X, dtype)).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert np.ptp(expected) > 0.2


def test_every_half_is_read_as_numpy_has_it(network):
    """Signs, subnormals, the largest and the smallest, and what is not finite."""
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    texts = network.evaluate("array => network.decode(array).map(String)", packed(numbers))
    found = np.array([float(text.replace("Infinity", "inf")) for text in texts])
    np.testing.assert_array_equal(found, numbers.astype(float))

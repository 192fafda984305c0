"""Sections 8 and 9: every value and derivative in the boxes is that of jaxnet and of jax.grad."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from experiments.backpropagation import NET, forwards, loss_of_shifts
from tests.experiments.page.conftest import slide

NODES = ["x", "W1", "b1", "z1", "a1", "W2", "b2", "z2", "a2", "loss"]
GIVEN = ["x", "W1", "b1", "W2", "b2"]
HOME = ["loss", "a2", "z2", "W2", "b2", "a1", "z1", "W1", "b1", "x"]


@pytest.fixture(scope="module")
def data(explored):
    return explored("backpropagation")


@pytest.fixture
def graph(figure):
    return figure("backpropagation")


def by_jax(data, x, y):
    """Each node's value, and jax.grad's derivative of ℓ by it, as lists; and jax.grad of jaxnet.cost by W[1]."""
    params = tuple(jaxnet.Layer(np.array(data[f"W{l}"]), np.array(data[f"b{l}"])[:, None]) for l in (1, 2))
    x, y = np.array(x, float)[:, None], np.array([[float(y)]])
    with jax.enable_x64(True):
        values = forwards(params, jnp.asarray(x), y)
        at_zero = jax.tree.map(jnp.zeros_like, values)
        derivatives = jax.grad(loss_of_shifts, argnums=2)(values, y, at_zero)
        assert values["a2"] == pytest.approx(np.asarray(jaxnet.predict(NET, params, x)), abs=1e-14)
        grads = jax.grad(jaxnet.cost, argnums=1)(NET, params, x, y)
        return *(
            {name: np.asarray(node if name[0] == "W" else node[:, 0]) for name, node in found.items()}
            for found in (values, derivatives)
        ), np.asarray(grads[0].W)


def numbers(texts):
    """Numbers as the page writes them."""
    return [float(text.replace("−", "-")) for text in texts]


def compare(graph, data, x, y):
    """What the figure has computed, with what jax computes, node by node."""
    values, derivatives, dW1 = by_jax(data, x, y)
    found = [json.loads(graph.get_attribute(f"data-{kind}")) for kind in ("values", "derivatives")]
    for name in NODES:
        np.testing.assert_allclose(found[0][name], values[name], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[1][name], derivatives[name], rtol=0, atol=1e-9)
        for kind, expected in (("value", values), ("derivative", derivatives)):
            shown = graph.locator(f"[data-node={name}] .{kind} b").all_text_contents()
            assert numbers(shown) == pytest.approx(expected[name].ravel(), abs=0.000501)
    np.testing.assert_allclose(found[1]["W1"], dW1, rtol=0, atol=1e-9)


def test_every_derivative_is_that_of_jax_grad_wherever_x_is(graph, data):
    x = [*data["x"]]
    compare(graph, data, x, 1)
    for i, value, y in [(0, 2.5, 1), (1, -3, 1), (0, -1.17, 0), (1, 0, 0), (0, 0, 1)]:
        slide(graph.locator("input").nth(i), value)
        graph.locator("select").select_option(str(y))
        x[i] = value
        compare(graph, data, x, y)


def test_the_buttons_walk_there_and_back(graph):
    forward, home, reset = graph.locator("fieldset button").all()
    shown = lambda kind: [name for name in NODES if graph.locator(f"[data-node={name}] .{kind} b:visible").count()]
    assert shown("value") == shown("derivative") == NODES

    height = graph.locator(".graph").bounding_box()["height"]
    reset.click()
    assert graph.locator(".graph").bounding_box()["height"] == height  # boxes keep the places of their numbers
    assert (shown("value"), shown("derivative")) == (GIVEN, []) and graph.locator("polyline").count() == 0
    home.click(force=True)  # there is nothing to go home from
    assert graph.get_attribute("data-step") == "0" and home.get_attribute("aria-disabled") == "true"

    for count, name in enumerate(["z1", "a1", "z2", "a2", "loss"], 1):
        forward.click()
        assert graph.get_attribute("data-chosen") == name and graph.get_attribute("data-step") == str(count)
        assert len(shown("value")) == len(GIVEN) + count and shown("derivative") == []
    assert graph.locator("g.value").count() == 9 and graph.locator("g.derivative").count() == 0
    forward.click(force=True)
    assert graph.get_attribute("data-step") == "5"

    for count, name in enumerate(HOME, 1):
        home.click()
        assert graph.get_attribute("data-chosen") == name
        assert sorted(shown("derivative")) == sorted(HOME[:count])
    assert graph.locator("g.derivative").count() == 9
    forward.click()  # from the end it begins anew
    assert graph.get_attribute("data-step") == "1" and shown("derivative") == []


@pytest.mark.parametrize("way", ["click", "focus", "tap"])
def test_a_box_shows_the_product_of_the_chain_rule(way, open_page, data):
    page = open_page(has_touch=True)
    graph = page.locator("figure[data-figure=backpropagation]")
    values, derivatives, _ = by_jax(data, data["x"], data["y"])
    for name in NODES:
        getattr(graph.locator(f"[data-node={name}]"), way)()
        assert graph.locator(".box[aria-pressed=true]").get_attribute("data-node") == name
        expected = [*([] if name in GIVEN else values[name].ravel()), *derivatives[name].ravel()]
        lines = [line.split(" = ") for line in graph.locator(".answer li").all_text_contents()]
        assert numbers(answer for _, answer in lines) == pytest.approx(expected, abs=0.000501)
        assert [evaluated(page, product) for product, _ in lines] == pytest.approx(expected, abs=0.01, rel=0.01)


def evaluated(page, text):
    """What a line makes of its numbers, which have three decimals there, by JavaScript."""
    for written, script in {
        "−": "-",
        "·": "*",
        "²": "**2",
        "∂ℓ/∂ℓ": "1",
        "ln": "Math.log",
        "tanh": "Math.tanh",
    }.items():
        text = text.replace(written, script)
    text = re.sub(r"\be(-?[\d.]+)", r"Math.exp(\1)", text)  # a power, whose exponent stands higher on the page
    return page.evaluate(re.sub(r"(Math\.\w+) (-?[\d.]+|\(-?[\d.]+\))", r"\1(\2)", text))

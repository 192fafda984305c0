"""The pictures show the numbers: lines, shades, counts, widths and texts against NumPy and `jax.grad`."""

import re
import sys

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Circle, Rectangle

import jaxnet
from jaxnet.plot.colours import BLUE, COLOURS, ORANGE

matplotlib.use("Agg")

FLOWER = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
SOFTMAX = jaxnet.MLP((2, 5, 3), ("relu", "softmax"))
CUBE = jaxnet.Activation(lambda Z: Z**3, lambda Z, A: 3 * Z**2)
G = {  # not ours; xp is NumPy or jax.numpy
    "identity": lambda xp, Z: Z,
    "tanh": lambda xp, Z: xp.tanh(Z),
    "sigmoid": lambda xp, Z: 1 / (1 + xp.exp(-Z)),
    "relu": lambda xp, Z: xp.maximum(Z, 0.0),
    "softmax": lambda xp, Z: xp.exp(Z) / xp.exp(Z).sum(axis=0, keepdims=True),
    CUBE: lambda xp, Z: Z * Z * Z,
}


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


def random_params(net, seed=0, scale=0.8):
    random = np.random.default_rng(seed)
    draw = lambda *shape: (scale * random.standard_normal(shape)).astype(np.float32)
    return tuple(jaxnet.Layer(draw(n, n_prev), draw(n, 1)) for n_prev, n in zip(net.sizes, net.sizes[1:], strict=False))


def in_numpy(net, params, X):
    """What the network says of X, without our code."""
    A = np.asarray(X, float)
    for g, (W, b) in zip(net.activations, params, strict=True):
        A = G[g](np, np.asarray(W, float) @ A + np.asarray(b, float))
    return A


def examples(net, m=60, seed=1):
    random = np.random.default_rng(seed)
    X = random.standard_normal((net.sizes[0], m)).astype(np.float32)
    if net.activations[-1] == "softmax":
        return X, np.eye(net.sizes[-1], dtype=np.float32)[:, random.integers(0, net.sizes[-1], m)]
    Y = random.standard_normal((net.sizes[-1], m)).astype(np.float32)
    return X, (Y > 0).astype(np.float32) if net.is_classifier else Y


# ---- history ----


def test_history_draws_the_costs_and_accuracies_of_a_training():
    names = ("cost", "accuracy", "validation_cost", "validation_accuracy")
    values = np.random.default_rng(0).uniform(0.3, 1.0, (4, 4)).astype(np.float32)
    result = jaxnet.FitResult(random_params(FLOWER), dict(zip(names, values, strict=True)), loop=None)
    ax = jaxnet.plot.history(result)
    twin = next(other for other in ax.get_figure().axes if other is not ax)
    for axes, kind in ((ax, "cost"), (twin, "accuracy")):
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines) == {kind, f"validation {kind}"}
        for name, line in lines.items():
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
            np.testing.assert_array_equal(line.get_ydata(), result.history[name.replace(" ", "_")])
    assert len({(line.get_color(), line.get_linestyle()) for line in (*ax.lines, *twin.lines)}) == 4
    ax.get_figure().canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.y1 <= ax.get_window_extent().y0  # it covers no curve
    assert {float(tick) for tick in ax.get_xticks()} <= {*range(10)}  # epochs are whole
    assert len(ax.get_legend().get_texts()) == 4 and ax.get_xlabel() == "epoch" and twin.get_ylabel() == "accuracy"


@pytest.mark.parametrize(
    ("costs", "scale"),
    [
        ([1.0, 0.06], "linear"),
        ([1.0, 0.04], "log"),
        ([1.0, 0.0], "linear"),
        ([np.nan, np.inf], "linear"),
        ([3], "linear"),
    ],
)
def test_far_down_the_axis_is_logarithmic(costs, scale):
    figure, ax = plt.subplots()
    assert jaxnet.plot.history({"cost": costs, "gradient_norm": np.ones((9, 9))}, ax=ax) is ax
    assert ax.get_yscale() == scale and figure.axes == [ax] and len(ax.lines) == 1
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ([1.0], TypeError, "result is a list; expected what fit returns, or its history"),
        ({"gradient_norm": [1.0]}, ValueError, "the history has 'gradient_norm'; expected 'cost' among them"),
        ({}, ValueError, "the history has no metric"),
        ({"cost": np.ones((3, 4))}, ValueError, r"history\['cost'\] has shape \(3, 4\); expected \(epochs,\)"),
    ],
)
def test_what_is_no_history_is_refused(result, error, message):
    with pytest.raises(error, match=message):
        jaxnet.plot.history(result)
    assert not plt.get_fignums()


# ---- decision boundary ----


def plane(ax):
    """The points at which an image has its entries, by its own extent: (2, n * n)."""
    left, right, bottom, top = ax.images[0].get_extent()
    n = ax.images[0].get_array().shape[0]
    middles = lambda low, high: low + (np.arange(n) + 0.5) * (high - low) / n
    return np.stack(np.meshgrid(middles(left, right), middles(bottom, top))).reshape(2, -1)


def boundaries(ax):
    return np.concatenate([path.vertices for lines in ax.collections for path in lines.get_paths() if is_lines(lines)])


def is_lines(artist):
    return type(artist).__name__ == "QuadContourSet"


def points(ax):
    return [scattered for scattered in ax.collections if not is_lines(scattered)]


def test_a_decision_boundary_of_two_classes():
    (X, Y), params = examples(FLOWER), random_params(FLOWER, seed=3, scale=1.5)
    ax = jaxnet.plot.decision_boundary(FLOWER, params, X, Y, resolution=40)
    expected = in_numpy(FLOWER, params, plane(ax))
    assert 0 < expected.min() < 0.4 and 0.6 < expected.max() < 1
    np.testing.assert_allclose(ax.images[0].get_array().ravel(), expected[0], atol=2e-6)
    assert ax.images[0].get_clim() == (0, 1)
    shade = ax.images[0].get_cmap()
    np.testing.assert_allclose([shade(0.0), shade(1.0)], [to_rgba(ORANGE), to_rgba(BLUE)], atol=1e-6)  # as positive
    np.testing.assert_allclose(in_numpy(FLOWER, params, boundaries(ax).T), 0.5, atol=0.02)
    for label, (scattered, colour) in enumerate(zip(points(ax), (ORANGE, BLUE), strict=True)):
        np.testing.assert_array_equal(scattered.get_offsets(), X[:, Y[0] == label].T)
        np.testing.assert_allclose(scattered.get_facecolor()[0], to_rgba(colour))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class 0", "class 1"]
    beyond = (X.max(axis=1) - X.min(axis=1)) / 10
    np.testing.assert_allclose(ax.get_xlim(), (X[0].min() - beyond[0], X[0].max() + beyond[0]), rtol=1e-6)
    np.testing.assert_allclose(ax.get_ylim(), (X[1].min() - beyond[1], X[1].max() + beyond[1]), rtol=1e-6)


def test_a_decision_boundary_of_many_classes():
    (X, Y), params = examples(SOFTMAX), random_params(SOFTMAX, scale=2.0)
    ax = jaxnet.plot.decision_boundary(SOFTMAX, params, X, Y, resolution=30)
    A = in_numpy(SOFTMAX, params, plane(ax))
    winners = A.argmax(axis=0)
    assert set(winners) == {0, 1, 2}
    sure = (A.max(axis=0) - 1 / 3) * 3 / 2
    colours = np.array([to_rgb(colour) for colour in COLOURS[:3]])[winners]
    expected = 1 - 0.55 * sure[:, None] * (1 - colours)
    assert np.mean(np.abs(ax.images[0].get_array().reshape(-1, 3) - expected).max(axis=1) < 1e-5) > 0.995  # but ties
    first, second = np.sort(in_numpy(SOFTMAX, params, boundaries(ax).T), axis=0)[::-1][:2]
    assert np.median(first - second) < 0.05  # the lines are straight between points of the plane
    assert [len(scattered.get_offsets()) for scattered in points(ax)] == Y.sum(axis=1).tolist()


def test_the_surface_of_a_regression():
    net = jaxnet.MLP((2, 5, 1), ("tanh", "identity"))
    (X, Y), params = examples(net), random_params(net)
    ax = jaxnet.plot.decision_boundary(net, params, X, Y, resolution=25)
    expected = in_numpy(net, params, plane(ax))
    np.testing.assert_allclose(ax.images[0].get_array().ravel(), expected[0], atol=2e-6)
    (scattered,) = ax.collections
    np.testing.assert_array_equal(scattered.get_array(), Y[0])
    assert scattered.get_clim() == ax.images[0].get_clim()
    assert ax.images[0].get_clim() == pytest.approx((min(Y.min(), expected.min()), max(Y.max(), expected.max())))
    assert len(ax.get_figure().axes) == 2  # a bar of the colours


def test_one_class_alone_has_no_boundary_and_one_place_has_a_plane():
    zeros = jaxnet.init(FLOWER, jax.random.key(0), "zeros")
    sure = (zeros[0], zeros[1]._replace(b=jnp.full((1, 1), 3.0)))
    ax = jaxnet.plot.decision_boundary(FLOWER, sure, np.ones((2, 3)), np.eye(3)[:1], resolution=2)
    assert not [lines for lines in ax.collections if is_lines(lines)]
    np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [0.5, 1.5, 0.5, 1.5])


# ---- confusion ----


@pytest.mark.parametrize("net", [FLOWER, SOFTMAX], ids=["sigmoid", "softmax"])
def test_confusion_counts(net):
    (X, Y), params = examples(net, m=200), random_params(net)
    A = in_numpy(net, params, X)
    k = 3 if net is SOFTMAX else 2
    true, predicted = (part.argmax(axis=0) if k == 3 else (part[0] > 0.5).astype(int) for part in (Y, A))
    expected = [[int(((true == i) & (predicted == j)).sum()) for j in range(k)] for i in range(k)]
    names = ["setosa", "versicolor", "virginica"][:k]
    ax = jaxnet.plot.confusion(net, params, X, Y, labels=names)
    found = np.zeros((k, k), int)
    for text in ax.texts:
        column, row = text.get_position()
        found[row, column] = int(text.get_text())
    assert found.tolist() == expected and len({*found.flat}) > 2
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()) ** 2, expected, rtol=1e-6)
    assert ax.get_title() == f"{np.trace(expected)} of 200 right"
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")


# ---- the network ----


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_network_has_lines_as_wide_as_its_weights_and_their_numbers():
    net = jaxnet.MLP((2, 3, 1), ("tanh", "sigmoid"))
    params, x = random_params(net), np.array([0.3, -0.7], np.float32)
    ax = jaxnet.plot.network(net, params, x)
    widest = max(np.abs(W).max() for W, _ in params)
    centres = np.array([circle.center for circle in ax.patches if isinstance(circle, Circle)])
    for l, ((W, _), lines) in enumerate(zip(params, ax.collections, strict=True)):
        largest = max(max(lines.get_linewidths()) for lines in ax.collections)
        np.testing.assert_allclose(np.array(lines.get_linewidths()) / largest, np.abs(W).ravel() / widest, rtol=1e-5)
        np.testing.assert_allclose(lines.get_colors(), [to_rgba(BLUE if w > 0 else ORANGE) for w in W.flat])
        assert [dashes is None for _, dashes in lines.get_linestyles()] == [bool(w > 0) for w in W.flat]
        before, after = np.cumsum((0, *net.sizes))[l : l + 2]
        ends = [(centres[before + j], centres[after + i]) for i, j in np.ndindex(W.shape)]
        np.testing.assert_allclose(lines.get_segments(), ends)
    shown = texts(ax)
    weights = [text for text in shown if re.fullmatch(r"[+-]\d\.\d{3}", text)]
    hidden = in_numpy(jaxnet.MLP((2, 3), ("tanh",)), params[:1], x[:, None])
    expected = [*params[0].W.flat, *params[1].W.flat, *x, *hidden.flat, *in_numpy(net, params, x[:, None]).flat]
    np.testing.assert_allclose([float(text) for text in weights], expected, atol=6e-4)
    biases = [float(text[2:]) for text in shown if text.startswith("b ")]
    np.testing.assert_allclose(biases, np.concatenate([b[:, 0] for _, b in params]), atol=6e-4)
    assert "$x_{1}$" in shown and "$a^{[2]}_{1}$" in shown and "layer 1: tanh\n3 units" in shown


def test_of_a_large_network_the_first_and_last_units_are_shown():
    net = jaxnet.MLP((784, 256, 10), ("relu", "softmax"))
    params = random_params(net)
    ax = jaxnet.plot.network(net, params)
    kept = [[0, 1, 2, 3, 781, 782, 783], [0, 1, 2, 3, 253, 254, 255], range(10)]
    for (W, _), lines, before, after in zip(params, ax.collections, kept, kept[1:], strict=False):
        part = np.abs(W[np.ix_(after, before)]).ravel()
        np.testing.assert_allclose(np.array(lines.get_linewidths()) / max(lines.get_linewidths()), part / part.max())
    shown = texts(ax)
    assert shown.count("⋮") == 2 and len([p for p in ax.patches if isinstance(p, Circle)]) == 24
    assert "layer 0: input\n784 units" in shown and "$x_{784}$" in shown and "$x_{5}$" not in shown
    assert not any(re.fullmatch(r"[+-]\d\.\d{3}", text) for text in shown)  # no room for weights


def test_a_network_without_weights_that_count():
    net = jaxnet.MLP((2, 3, 1), ("tanh", "sigmoid"))
    ax = jaxnet.plot.network(net, jaxnet.init(net, jax.random.key(0), "zeros"))
    assert all(width == 0 for lines in ax.collections for width in lines.get_linewidths())


# ---- the computation graph ----


def values_and_derivatives(net, params, x, y):
    """Each node and ∂ℓ/∂ it, by `jax.grad` over shifts of all nodes, in float64 and without our code."""

    def graph(shifts):
        found, at = {}, lambda name, value: found.setdefault(name, value + shifts.get(name, 0.0))
        a, before = at("x", jnp.asarray(x)), "x"
        for l, ((W, b), g) in enumerate(zip(params, net.activations, strict=True), 1):
            z = at(f"z[{l}] = W[{l}]{before} + b[{l}]", at(f"W[{l}]", W) @ a + at(f"b[{l}]", b))
            before = f"a[{l}]"
            a = at(f"a[{l}] = {g if isinstance(g, str) else g.name}(z[{l}])", G[g](jnp, z))
        if net.loss == "squared_error":
            ell = ((a - y) ** 2).sum() / 2
        elif net.activations[-1] == "softmax":
            ell = -(y * jnp.log(a)).sum()
        else:
            ell = -(y * jnp.log(a) + (1 - y) * jnp.log(1 - a)).sum()
        return at(f"ℓ({before}, y)", ell), found

    with jax.enable_x64(True):
        params, x, y = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, x, y))
        _, values = jax.jit(graph)({})
        derivatives = jax.jit(jax.grad(lambda shifts: graph(shifts)[0]))(jax.tree.map(np.zeros_like, values))
    return jax.device_get(values), jax.device_get(derivatives)


def boxes(ax):
    """The value and the derivative of each box as texts, by its title."""
    found, title = {}, None
    for text in texts(ax):
        if re.match(r"[+-](\d|inf|nan)", text):
            found[title].append(text)
        elif text:  # an arrow is an annotation without a text
            title, found[text] = text, []
    return found


def assert_written(text, matrix):
    """The numbers of a text, to the digits that it has."""
    numbers = np.array([line.split() for line in text.split("\n")], float)
    np.testing.assert_allclose(numbers, np.atleast_2d(matrix), rtol=0.06 if "e" in text else 0, atol=6e-4)


@pytest.mark.parametrize(
    "net",
    [
        FLOWER,
        jaxnet.MLP((3, 4, 3), ("relu", "softmax")),
        jaxnet.MLP((2, 3, 4, 2), ("tanh", CUBE, "identity")),
        jaxnet.MLP((2, 3), ("sigmoid",), "squared_error"),
        jaxnet.MLP((2, 3), ("sigmoid",), l2=0.5),
    ],
    ids=["sigmoid", "softmax", "own and identity", "squared error", "labels and a penalty"],
)
def test_a_graph_has_the_values_and_the_derivatives_of_autodiff(net):
    params = random_params(net)
    X, Y = examples(net)
    values, derivatives = values_and_derivatives(net, params, X[:, :1], Y[:, :1])
    found = boxes(jaxnet.plot.computation_graph(net, params, X[:, 0], Y[:, 0]))
    (own_y,) = found.pop("y")
    assert_written(own_y, Y[:, :1])
    assert set(found) == set(values) and len(found) == 4 * len(params) + 2
    for title, (value, derivative) in found.items():
        assert_written(value, values[title])
        assert_written(derivative, derivatives[title])
    assert not any(np.all(derivative == 0) for derivative in derivatives.values())


def test_a_large_graph_is_abbreviated():
    net = jaxnet.MLP((784, 64, 10), ("relu", "softmax"))
    params, (X, Y) = random_params(net, scale=0.05), examples(net)
    found = boxes(jaxnet.plot.computation_graph(net, params, X[:, 0], Y[:, 0]))
    value, derivative = found["W[1], 64×784"]
    rows = [line.split() for line in value.split("\n")]
    assert len(rows) == 6 and rows[0][2] == rows[3][2] == "…" and rows[3][0] == "⋮"
    numbers = [[float(each) for each in row if each != "…"] for row in rows if row[0] != "⋮"]
    np.testing.assert_allclose(numbers, params[0].W[np.ix_([0, 1, 2, 62, 63], [0, 1, 783])], atol=6e-4)
    _, derivatives = values_and_derivatives(net, params, X[:, :1], Y[:, :1])
    dW = derivatives["W[1]"]
    assert float(derivative.split("\n")[0].split()[0]) == pytest.approx(float(dW[0, 0]), rel=0.06, abs=6e-4)
    assert len(found["a[2] = softmax(z[2])"][0].split("\n")) == 10


@pytest.mark.parametrize(("y", "derivative"), [(1.0, "-1.000"), (0.0, "+inf")])
def test_where_a_rounds_to_1_the_derivative_is_infinite_and_that_of_z_is_not(y, derivative):
    net = jaxnet.MLP((1, 1), ("sigmoid",))
    params = (jaxnet.Layer(np.full((1, 1), 99.0, np.float32), np.zeros((1, 1), np.float32)),)
    found = boxes(jaxnet.plot.computation_graph(net, params, 1.0, y))
    assert found["a[1] = sigmoid(z[1])"] == ["+1.000", derivative]
    assert found["z[1] = W[1]x + b[1]"][1] == ("+0.000" if y else "+1.000")


@pytest.mark.parametrize("is_given", [False, True], ids=["a figure of its own", "given axes"])
def test_every_text_of_a_graph_is_within_its_box_and_no_boxes_overlap(is_given):
    net = jaxnet.MLP((3, 12, 4, 2), ("leaky_relu", "tanh", "softmax"))
    (X, Y), ax = examples(net), plt.subplots(2, 1, figsize=(14, 12), layout="constrained")[1][0] if is_given else None
    ax = jaxnet.plot.computation_graph(net, random_params(net, scale=0.3), X[:, 0], Y[:, 0], ax=ax)
    ax.get_figure().draw_without_rendering()
    outlines = [box.get_window_extent() for box in ax.patches if isinstance(box, Rectangle)]
    for text in ax.texts:
        if text.get_text():
            extent = text.get_window_extent()
            assert any(
                box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1
                for box in outlines
            ), text
    assert not any(box.overlaps(other) for i, box in enumerate(outlines) for other in outlines[:i])
    assert all(ax.get_figure().bbox.contains(*corner) for box in outlines for corner in box.corners())


# ---- at the door ----

P = random_params(FLOWER)
DRAWN = {
    "history": lambda ax: jaxnet.plot.history({"cost": [1.0, 0.5]}, ax=ax),
    "decision_boundary": lambda ax: jaxnet.plot.decision_boundary(FLOWER, P, *examples(FLOWER), ax=ax, resolution=9),
    "confusion": lambda ax: jaxnet.plot.confusion(FLOWER, P, *examples(FLOWER), ax=ax),
    "network": lambda ax: jaxnet.plot.network(FLOWER, P, ax=ax),
    "computation_graph": lambda ax: jaxnet.plot.computation_graph(FLOWER, P, [1.0, 2.0], 1, ax=ax),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_given_axes_are_drawn_on_and_returned_and_others_refused(draw):
    figure, (ax, other) = plt.subplots(1, 2)
    assert draw(ax) is ax and ax.has_data() and not other.has_data() and ax.get_title()
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(TypeError, match="ax is a Figure; expected a matplotlib Axes"):
        draw(figure)


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_without_matplotlib_the_extra_is_named(draw, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"jaxnet\.plot needs matplotlib .*; pip install 'jaxnet\[plots\]'"):
        draw(None)


WIDE, LABELS = jaxnet.MLP((3, 1), ("sigmoid",)), jaxnet.MLP((2, 3), ("sigmoid",))
NUMBERS = jaxnet.MLP((2, 1), ("identity",))
BROKEN = jax.tree.map(jnp.asarray, (P[0]._replace(W=np.full((4, 2), np.nan, np.float32)), P[1]))
boundary, confusion, network, graph = (getattr(jaxnet.plot, name) for name in list(DRAWN)[1:])


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: boundary(WIDE, random_params(WIDE), *examples(WIDE)), ValueError, "net has 3 inputs; expected 2"),
        (lambda: boundary(LABELS, random_params(LABELS), *examples(LABELS)), ValueError, "3 outputs that are not cl"),
        (lambda: boundary(FLOWER, P, *examples(FLOWER), resolution=1), ValueError, "resolution is 1; expected an in"),
        (lambda: boundary(FLOWER, P, np.ones((3, 2)), [[0, 1]]), ValueError, r"X has shape \(3, 2\); expected \(n_x=2"),
        (lambda: boundary(FLOWER, BROKEN, *examples(FLOWER)), ValueError, r"predict\(net, params, X\) holds nan"),
        (lambda: boundary(None, P, *examples(FLOWER)), TypeError, "net is None; expected an MLP"),
        (lambda: confusion(NUMBERS, random_params(NUMBERS), *examples(NUMBERS)), ValueError, "1 outputs 'identity'"),
        (lambda: confusion(LABELS, random_params(LABELS), *examples(LABELS)), ValueError, "which are not classes"),
        (lambda: confusion(FLOWER, P, *examples(FLOWER), labels=["a"]), ValueError, "labels has 1 names; expected 2"),
        (lambda: confusion(FLOWER, P, *examples(FLOWER), labels="ab"), TypeError, "labels is 'ab'; expected 2 names"),
        (lambda: confusion(FLOWER, BROKEN, *examples(FLOWER)), ValueError, r"predict\(net, params, X\) holds nan"),
        (lambda: network(FLOWER, BROKEN), ValueError, r"params\[0\].W holds nan at row 0, column 0 \(8 such\)"),
        (lambda: network(FLOWER, P, np.ones(3)), ValueError, r"x has shape \(3,\); expected one example, \(n_x=2,\)"),
        (lambda: network(FLOWER, P, np.ones((2, 2))), ValueError, r"x has shape \(2, 2\).*X\[:, i\]"),
        (lambda: network(FLOWER, P, [np.nan, 1.0]), ValueError, "x holds nan at position"),
        (lambda: graph(FLOWER, P, [1.0, 2.0], [0, 1]), ValueError, r"y has shape \(2,\).*\(n_y=1,\).*or a number"),
        (lambda: graph(FLOWER, P, [1.0, 2.0], 7), ValueError, "Y holds 7"),
        (lambda: graph(FLOWER, P, None, 1), TypeError, "x is None; expected an array of real numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(draw, error, message):
    with pytest.raises(error, match=message):
        draw()
    assert not plt.get_fignums()

"""Where an error starts: in any structure of parameters, with frozen leaves, and where several bugs lie together."""

from itertools import pairwise, product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnet.verify import check_gradients
from tests.marks import slow_but

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 5)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 9)]


def weights(*sizes):
    """Rows as examples: W is (n_prev, n), b is flat."""
    shapes = pairwise(sizes)
    return [(RNG.normal(size=s).astype(np.float32), RNG.normal(size=s[1]).astype(np.float32)) for s in shapes]


def forward(layers, X):
    """A[0] ... A[L-1] and Z[L] of tanh layers."""
    A = [X]
    for W, b in layers[:-1]:
        A.append(jnp.tanh(A[-1] @ W + b))
    return A, A[-1] @ layers[-1][0] + layers[-1][1]


def cost(layers, X, Y):
    Z = forward(layers, X)[1]
    return jnp.mean(jax.nn.logsumexp(Z, axis=1) - jnp.sum(Y * Z, axis=1))


def backward(layers, X, Y, steps=None):
    """dW and db; steps[l] replaces tanh' = 1 - A² in layer l."""
    A, Z = forward(layers, X)
    dZ = (jax.nn.softmax(Z, axis=1) - Y) / len(X)
    grads = []
    for l in range(len(layers), 0, -1):
        grads.insert(0, (A[l - 1].T @ dZ, jnp.sum(dZ, axis=0)))
        dZ = dZ @ layers[l - 1][0].T * (steps or {}).get(l - 1, lambda A: 1 - A * A)(A[l - 1])
    return grads


OMITTED = {2: lambda A: 1.0}  # g[2]' is missing


def failing(gradient, layers, loss=cost, **options):
    report = check_gradients(loss, gradient, layers, X, Y, raise_=False, **options)
    assert report.verdict == "FAIL", str(report)
    return report


def spoilt(grads, l, leaf, how):
    """The gradient with one leaf of layer l changed."""
    grads = [list(layer) for layer in grads]
    grads[l - 1][leaf] = how(grads[l - 1][leaf])
    return [tuple(layer) for layer in grads]


W, B = 0, 1
LAYERS = weights(5, 4, 6, 3)


def squashed(x):
    """Another gradient altogether: nothing that a factor or a few entries could explain."""
    return x * jnp.exp(jnp.arange(x.size, dtype=x.dtype).reshape(x.shape) / x.size) + 0.1


# ---- several bugs, and leaves that say nothing -----------------------------------------------------------------------
def test_a_layer_both_of_whose_leaves_are_wrong_above_right_ones_has_two_bugs():
    """A wrong dZ[3] would leave nothing below it right."""
    report = failing(lambda p, X, Y: spoilt(spoilt(backward(p, X, Y), 3, W, squashed), 3, B, squashed), LAYERS)
    assert report.starts_at == "dW[3]" and "starts at dZ" not in report.cause, str(report)
    assert "dW[3]; db[2] is right" in report.cause or "dW[3]; dW[2] is right, so dZ[3] is" in report.cause


def test_a_leaf_whose_sibling_is_right_inherits_nothing():
    """W[3], b[3] and W[2] are wrong, b[2] is right: dZ[2] is right, and with it dZ[3]."""

    def wrong(p, X, Y):
        grads = backward(p, X, Y, {1: lambda A: 1.0})  # dZ[1] besides
        for l, leaf in ((3, W), (3, B), (2, W)):
            grads = spoilt(grads, l, leaf, squashed)
        return grads

    report = failing(wrong, LAYERS)
    said = " ".join(report.cause.split())
    assert report.starts_at == "dW[3]" and "dZ[3] follow" not in said, str(report)
    assert all(f"The error starts at {place};" in said for place in ("dW[3]", "db[3]", "dW[2]", "dZ[1]")), str(report)
    assert "g[1]'(Z[1]) is omitted" in said and "inherits" not in str(report)


def test_a_bug_below_a_wrong_dZ_is_told_from_what_follows_from_it():
    report = failing(lambda p, X, Y: spoilt(backward(p, X, Y, OMITTED), 1, B, squashed), LAYERS)
    assert report.starts_at == "dZ[2]" and "db[1] has an error of its own" in report.cause, str(report)
    assert report.leaves["[0][0]"].note == "inherits the error of dZ[2]"
    assert not report.leaves["[0][1]"].note


def test_a_bug_beside_a_wrong_dZ_is_told_from_what_follows_from_it():
    report = failing(lambda p, X, Y: spoilt(backward(p, X, Y, OMITTED), 2, B, squashed), LAYERS)
    assert report.starts_at == "dZ[2]" and "db[2] has an error of its own" in report.cause, str(report)
    assert "g[2]'(Z[2]) is omitted" not in report.cause or "dW[2]" in report.cause
    assert {report.leaves[f"[0][{k}]"].note for k in (0, 1)} == {"inherits the error of dZ[2]"}


def test_two_bugs_in_the_lowest_layer_are_no_wrong_dZ():
    report = failing(lambda p, X, Y: spoilt(spoilt(backward(p, X, Y), 1, W, squashed), 1, B, jnp.cumsum), LAYERS)
    assert report.starts_at == "dZ[1] or db[1]" and "dW[1] has an error of its own" in report.cause, str(report)


def test_beside_a_named_bug_in_the_lowest_layer_another_is_told_from_it():
    report = failing(lambda p, X, Y: spoilt(spoilt(backward(p, X, Y), 1, W, squashed), 1, B, jnp.flip), LAYERS)
    assert report.starts_at == "layer 1" and "do not come from one dZ[1]" in report.cause, str(report)
    assert "db[1] ([0][1]): in another order along axis 0: reversed." in " ".join(report.cause.split())


def test_a_wrong_dZ_and_another_bug_in_the_lowest_layer_are_not_told_apart():
    def wrong(p, X, Y):
        return spoilt(backward(p, X, Y, {1: lambda A: (1 - A * A) * jnp.arange(1.0, 5)}), 1, B, squashed)

    report = failing(wrong, LAYERS)
    assert report.starts_at == "layer 1" and "do not come from one dZ[1]" in report.cause, str(report)


def test_nothing_is_claimed_of_a_frozen_last_layer():
    """The error may have come from above what was judged."""
    lower = ["[0]", "[1]"]
    below = failing(lambda p, X, Y: backward(p, X, Y, OMITTED), LAYERS, trainable=lower)
    assert below.starts_at == "dZ[2]" and "g[2]'(Z[2]) is omitted" in below.cause, str(below)
    assert "dZ[3] is right" not in below.cause

    def in_the_head(p, X, Y):
        return backward(p, X, Y + 0.3 * jnp.roll(Y, 1, axis=0))

    above = failing(in_the_head, LAYERS, trainable=lower)
    assert above.starts_at == "dZ[2] or above" and "layer 3 was not judged" in above.cause, str(above)


def test_a_leaf_without_a_judged_sibling_leaves_the_step_open():
    """b[3] is frozen, and its gradient is None."""

    def without_head_bias(p, X, Y, steps=None, delta=0.0):
        grads = backward(p, X, Y + delta * jnp.roll(Y, 1, axis=0), steps)
        return [*grads[:-1], (grads[-1][0], None)]

    judged = lambda path: path != "[2][1]"
    report = failing(lambda p, X, Y: without_head_bias(p, X, Y, delta=0.3), LAYERS, trainable=judged)
    assert report.starts_at == "dZ[3]" and "inherits the error of dZ[3]" in report.leaves["[0][0]"].note, str(report)


def test_one_judged_leaf_alone_does_not_tell_dZ_from_dW():
    report = failing(lambda p, X, Y: [(squashed(backward(p, X, Y)[0][W]), None)], weights(5, 3), trainable=["[0][0]"])
    assert report.starts_at == "dZ[1] or dW[1]" and "nothing else of layer 1 was judged" in report.cause, str(report)


# ---- any structure ---------------------------------------------------------------------------------------------------
class Layer(eqx.Module):
    weight: jax.Array
    bias: jax.Array


class Network(eqx.Module):
    layers: list


STRUCTURES = {  # from a list of (W, b), and back
    "lists": (
        lambda ls: {"W": [W for W, _ in ls], "b": [b for _, b in ls]},
        lambda p: list(zip(p["W"], p["b"], strict=True)),
    ),
    "pair of lists": (
        lambda ls: ([W for W, _ in ls], [b for _, b in ls]),
        lambda p: list(zip(*p, strict=True)),
    ),
    "weights and biases": (
        lambda ls: {"weights": [W for W, _ in ls], "biases": [b for _, b in ls]},
        lambda p: list(zip(p["weights"], p["biases"], strict=True)),
    ),
    "flat tuple": (
        lambda ls: tuple(x for layer in ls for x in layer),
        lambda p: list(zip(p[::2], p[1::2], strict=True)),
    ),
    "flat list": (
        lambda ls: [x for layer in ls for x in layer],
        lambda p: list(zip(p[::2], p[1::2], strict=True)),
    ),
    "names with numbers": (
        lambda ls: {f"{k}_in{l}_x": x for l, layer in enumerate(ls) for k, x in zip("Wb", layer, strict=True)},
        lambda p: [(p[f"W_in{l}_x"], p[f"b_in{l}_x"]) for l in range(len(p) // 2)],
    ),
    "dicts in a dict": (
        lambda ls: {
            name: {f"h{l}": layer[k] for l, layer in enumerate(ls)} for k, name in enumerate(("kernel", "bias"))
        },
        lambda p: [(p["kernel"][h], p["bias"][h]) for h in p["kernel"]],
    ),
    "equinox": (
        lambda ls: Network([Layer(W.T, b) for W, b in ls]),
        lambda p: [(layer.weight.T, layer.bias) for layer in p.layers],
    ),
    "nnx": (
        lambda ls: nnx.State(
            {f"z{9 - l}": {"kernel": nnx.Param(W), "bias": nnx.Param(b)} for l, (W, b) in enumerate(ls)}
        ),
        lambda p: [(p[k]["kernel"][...], p[k]["bias"][...]) for k in sorted(p, reverse=True)],
    ),
}


@pytest.mark.parametrize(
    ("structure", "widths"),
    slow_but([*product(STRUCTURES, ["distinct"]), ("lists", "square")], product(STRUCTURES, ["distinct", "square"])),
)
def test_the_step_is_named_in_any_structure(structure, widths):
    nest, layers_of = STRUCTURES[structure]
    layers = weights(5, 5, 5, 5) if widths == "square" else LAYERS
    T = np.eye(5, dtype=np.float32)[RNG.integers(0, 5, 9)] if widths == "square" else Y
    report = check_gradients(
        lambda p, X, Y: cost(layers_of(p), X, Y),
        lambda p, X, Y: nest(backward(layers_of(p), X, Y, OMITTED)),
        nest(layers),
        X,
        T,
        raise_=False,
    )
    assert report.starts_at == "dZ[2]", str(report)
    assert "g[2]'(Z[2]) is omitted" in report.cause and "dZ[3] is right" in report.cause


def test_tied_weights_are_not_taken_for_a_chain_of_layers():
    tied = (RNG.normal(size=(5, 5)).astype(np.float32), np.zeros(5, np.float32))

    def loss(p, X, Y):
        return jnp.mean((forward([p, p], X)[1] - X) ** 2)

    report = failing(lambda p, X, Y: tuple(squashed(g) for g in jax.grad(loss)(p, X, Y)), tied, loss)
    assert report.starts_at is None


def test_a_network_that_the_loss_runs_twice_is_one_network():
    def loss(p, X, Y):
        return cost(p, X, Y) + cost(p, X[::-1], Y[::-1])

    def wrong(p, X, Y):
        return jax.tree.map(lambda g: 2 * g, backward(p, X, Y, OMITTED))

    report = failing(wrong, LAYERS, loss)
    assert report.starts_at == "dZ[2]" and "inherits the error of dZ[2]" in report.leaves["[0][0]"].note, str(report)


def test_square_matrices_of_one_example_a_row_are_read_as_such():
    """A flat bias does not tell rows from columns, the product does."""
    layers = weights(5, 5, 5)

    def wrong(p, X, Y):  # Z[1] in place of A[1] in dW[2]
        grads, Z = backward(p, X, Y), X @ p[0][0] + p[0][1]
        dZ = (jax.nn.softmax(forward(p, X)[1], axis=1) - Y) / len(X)
        return [grads[0], (Z.T @ dZ, grads[1][1])]

    T = np.eye(5, dtype=np.float32)[RNG.integers(0, 5, 9)]
    report = check_gradients(cost, wrong, layers, X, T, raise_=False)
    assert report.starts_at == "dW[2]" and "dW[2] uses Z[1] in place of A[1]" in report.cause, str(report)


@pytest.mark.slow
def test_one_judged_leaf_of_a_low_layer_leaves_open_what_lies_above():
    layers = weights(5, 6, 3)
    report = failing(
        lambda p, X, Y: jax.tree.map(lambda g: g * 1.5, jax.grad(cost)(p, X, Y)),
        layers,
        trainable=lambda path: path == "[0][0]",
    )
    assert report.starts_at == "dZ[1] or above or dW[1]", str(report)


def test_a_dZ_whose_examples_are_in_another_order_is_not_cleared_by_its_sum():
    layers = weights(5, 6, 4, 3)

    def reordered(p, X, Y):
        A, Z = forward(p, X)
        dZ3 = (jax.nn.softmax(Z, axis=1) - Y) / len(X)
        dZ2 = (dZ3 @ p[2][0].T * (1 - A[2] ** 2))[::-1]
        dZ1 = dZ2 @ p[1][0].T * (1 - A[1] ** 2)
        return [(a.T @ dZ, jnp.sum(dZ, axis=0)) for a, dZ in zip(A, (dZ1, dZ2, dZ3), strict=True)]

    for gradient, place in ((reordered, "dZ[2]"), (lambda p, X, Y: backward(p, X, Y[::-1]), "dZ[3]")):
        report = failing(gradient, layers)
        assert report.starts_at == place and "another order" in report.cause, str(report)
        assert "is right" not in report.cause.replace("every leaf is right", "")


# ---- heads of one unit, layers without a bias, a regulariser ---------------------------------------------------------
HEADS = {  # the shape of w, and Z of the last layer as a vector, one entry for each example
    "w @ A": ((6,), lambda w, A: w @ A),
    "A.T @ w": ((6,), lambda w, A: A.T @ w),
    "w.T @ A": ((6, 1), lambda w, A: (w.T @ A)[0]),
    "W @ A": ((1, 6), lambda w, A: (w @ A)[0]),
}
TARGET = RNG.normal(size=9).astype(np.float32)


def regression(head, decay=0.0):
    """Half the mean squared error of a net of columns with two tanh layers; names without b have no bias."""
    product = HEADS[head][1]

    def loss(p, X, y):
        A1 = jnp.tanh(p["W1"] @ X + p.get("b1", jnp.zeros((4, 1))))
        A2 = jnp.tanh(p["W2"] @ A1 + p.get("b2", jnp.zeros((6, 1))))
        Z = product(p["w"], A2) + jnp.reshape(p.get("b", jnp.zeros(())), ())
        return jnp.mean((Z - y) ** 2) / 2 + decay / 2 * sum(jnp.sum(p[k] ** 2) for k in ("W1", "W2", "w"))

    return loss


def without_a_slope(head, decay=0.0):
    """Its gradient by hand, g[2]' omitted."""
    product = HEADS[head][1]

    def gradient(p, X, y):
        A1 = jnp.tanh(p["W1"] @ X + p.get("b1", jnp.zeros((4, 1))))
        A2 = jnp.tanh(p["W2"] @ A1 + p.get("b2", jnp.zeros((6, 1))))
        dZ3 = (product(p["w"], A2) + jnp.reshape(p.get("b", jnp.zeros(())), ()) - y)[None] / 9
        dZ2 = jnp.reshape(p["w"], (6, 1)) @ dZ3
        dZ1 = p["W2"].T @ dZ2 * (1 - A1**2)
        found = {"w": jnp.reshape(dZ3 @ A2.T, p["w"].shape), "W2": dZ2 @ A1.T, "W1": dZ1 @ X.T}
        sums = {"b": dZ3, "b2": dZ2, "b1": dZ1}
        found = {k: g + decay * p[k] for k, g in found.items()}
        return found | {k: jnp.reshape(jnp.sum(sums[k], 1), p[k].shape) for k in sums if k in p}

    return gradient


def regressor(head, *biases):
    shapes = {"W1": (4, 5), "W2": (6, 4), "w": HEADS[head][0], **dict(biases)}
    return {k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}


HIDDEN = ("b1", (4, 1)), ("b2", (6, 1))


BIASES = {"scalar": [("b", ())], "one entry": [("b", (1,))], "none": []}


@pytest.mark.parametrize(("head", "bias"), slow_but([*zip(HEADS, BIASES, strict=False)][1:], product(HEADS, BIASES)))
def test_a_head_of_one_unit_is_a_layer(head, bias):
    params = regressor(head, *HIDDEN, *BIASES[bias])
    assert check_gradients(regression(head), jax.grad(regression(head)), params, X.T, TARGET)
    report = check_gradients(regression(head), without_a_slope(head), params, X.T, TARGET, raise_=False)
    assert report.starts_at == "dZ[2]" and "g[2]'(Z[2]) is omitted" in report.cause, str(report)
    assert report.leaves["['W1']"].note == "inherits the error of dZ[2]"


@pytest.mark.parametrize(
    ("biases", "decay"),
    slow_but(
        [(HIDDEN[:1], 0.1), ((), 0.0), ((), 0.1)],
        product([HIDDEN, HIDDEN[:1], HIDDEN[1:], ()], [0.0, 0.1]),
    ),
)
def test_the_step_is_named_without_biases_and_beside_a_regulariser(biases, decay):
    params = regressor("W @ A", *biases, ("b", (1,)))
    loss, wrong = regression("W @ A", decay), without_a_slope("W @ A", decay)
    report = check_gradients(loss, wrong, params, X.T, TARGET, raise_=False)
    if decay and not biases:  # nothing tells the regulariser from what the examples add
        assert report.starts_at == "dZ[2] or dW[2]", str(report)
        return
    assert report.starts_at == "dZ[2]" and "g[2]'(Z[2]) is omitted" in report.cause, str(report)
    assert report.leaves["['W1']"].note == "inherits the error of dZ[2]"


def test_one_wrong_leaf_of_a_layer_without_a_bias_is_its_own():
    params, loss = regressor("w @ A"), regression("w @ A")
    for name, place in (("w", "dW[3]"), ("W2", "dW[2]")):
        wrong = lambda p, *a, k=name: (g := jax.grad(loss)(p, *a)) | {k: squashed(g[k])}
        report = check_gradients(loss, wrong, params, X.T, TARGET, raise_=False)
        assert report.starts_at == place and "starts at dZ" not in report.cause, str(report)

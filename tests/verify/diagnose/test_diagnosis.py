"""Causes beyond the catalogue, layers in any nesting, and silence where nothing is proved."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from jaxnet.verify.diagnose.layers import find_layers, start_of_error
from jaxnet.verify.program.dataflow import Flow, Product, flow_of
from tests.marks import slow_but

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 9)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[:, RNG.integers(0, 3, 9)]
SIZES = [(4, 5), (6, 4), (3, 6)]
WEIGHTS = [(RNG.normal(size=s).astype(np.float32), RNG.normal(size=(s[0], 1)).astype(np.float32)) for s in SIZES]

NESTINGS = {
    "tuples": lambda layers: tuple(layers),
    "numbered": lambda layers: {
        f"{k}{l}": p for l, layer in enumerate(layers, 1) for k, p in zip("Wb", layer, strict=True)
    },
    "flax": lambda layers: {
        "params": {f"Dense_{l}": {"kernel": W.T, "bias": b[:, 0]} for l, (W, b) in enumerate(layers)}
    },
}


def backward(layers, X, Y, slip):
    """dW and db of tanh layers with a softmax; slip(l, dA, A) is the derivative step."""
    A = [X]
    for W, b in layers[:-1]:
        A.append(jnp.tanh(W @ A[-1] + b))
    Z = layers[-1][0] @ A[-1] + layers[-1][1]
    dZ = (jax.nn.softmax(Z, axis=0) - Y) / X.shape[1]
    grads = []
    for l in range(len(layers), 0, -1):
        grads.insert(0, (dZ @ A[l - 1].T, jnp.sum(dZ, axis=1, keepdims=True)))
        if l > 1:
            dZ = slip(l - 1, layers[l - 1][0].T @ dZ, A[l - 1])
    return jnp.mean(jax.nn.logsumexp(Z, axis=0) - jnp.sum(Y * Z, axis=0)), grads


def undo(nesting, params):
    if nesting == "tuples":
        return params
    if nesting == "numbered":
        return [(params[f"W{l}"], params[f"b{l}"]) for l in (1, 2, 3)]
    return [(p["kernel"].T, p["bias"][:, None]) for p in params["params"].values()]


@pytest.mark.parametrize("nesting", slow_but(["flax"], NESTINGS))
def test_the_layer_is_found_in_any_nesting(nesting):
    nest = NESTINGS[nesting]
    right = lambda l, dA, A: dA * (1 - A * A)
    omitted = lambda l, dA, A: dA * (1 if l == 2 else 1 - A * A)
    loss = lambda p, X, Y: backward(undo(nesting, p), X, Y, right)[0]
    params = nest(WEIGHTS)
    assert check_gradients(loss, lambda p, X, Y: nest(backward(undo(nesting, p), X, Y, right)[1]), params, X, Y)
    report = check_gradients(
        loss, lambda p, X, Y: nest(backward(undo(nesting, p), X, Y, omitted)[1]), params, X, Y, raise_=False
    )
    assert report.starts_at == "dZ[2]", str(report)
    assert "g[2]'(Z[2]) is omitted" in report.cause and "dZ[3] is right" in report.cause


def test_layers_are_put_in_the_order_of_the_program():
    shapes = [(3,), (4, 3), (4,), (5, 4)]
    above, below = Product(1, 0, False, frozenset({2, 3})), Product(3, 2, False, frozenset())
    everything = frozenset(range(4))
    assert find_layers(Flow(everything, (above, below), frozenset()), shapes) == [below, above]
    assert find_layers(Flow(everything, (above, below), frozenset({2})), shapes) is None  # in a loop as well
    assert find_layers(Flow(everything, (below,), frozenset()), shapes) is None  # leaves that are no layer
    again = Product(3, 2, False, frozenset({1, 2, 3}))
    assert find_layers(Flow(everything, (above, below, again), frozenset()), shapes) is None  # shared by two layers
    twice = (above, below, above, below)
    assert find_layers(Flow(everything, twice, frozenset()), shapes) == [below, above]  # one network, run twice
    beside = Product(1, 0, False, frozenset())
    assert find_layers(Flow(everything, (beside, below), frozenset()), shapes) is None  # side by side


def test_what_feeds_a_layer_is_read_through_calls_and_not_into_loops():
    def loss(layers, X):
        (W1, b1), (W2, b2), (W3, b3) = layers
        A = jax.jit(lambda W, X: jax.nn.relu(W @ X + b1))(W1, X)
        A = jax.checkpoint(lambda A: jnp.tanh(jnp.transpose(W2.T) @ A + b2))(A)
        return jnp.sum(jax.lax.fori_loop(0, 2, lambda _, Z: W3 @ A + b3, jnp.zeros((3, 9))))

    closed = jax.make_jaxpr(lambda *leaves: loss(list(zip(leaves[::2], leaves[1::2], strict=True)), X))(
        *[x for layer in WEIGHTS for x in layer]
    )
    assert flow_of(closed, 6).products == (Product(0, 1, True, frozenset()), Product(2, 3, True, frozenset({0, 1})))
    assert flow_of(closed, 6).unclear == {4, 5}


def test_parallel_branches_are_not_taken_for_a_chain_of_layers():
    names = ("W1", "b1", "W2", "b2")
    params = {k: RNG.normal(size=(4, 4) if k[0] == "W" else (4, 1)).astype(np.float32) for k in names}

    def loss(p, X):
        return jnp.mean(jnp.tanh(p["W1"] @ X + p["b1"]) ** 2) + jnp.mean(jnp.tanh(p["W2"] @ X + p["b2"]) ** 2)

    def wrong(p, X):
        g = jax.grad(loss)(p, X)
        return g | {"W1": g["W1"] * 2, "W2": g["W2"].T, "b2": -g["b2"]}

    report = check_gradients(loss, wrong, params, X[:4], raise_=False)
    assert report.starts_at is None and "inherits" not in str(report)
    assert "factor 2" in report.leaves["['W1']"].cause and "transposed" in report.leaves["['W2']"].cause


def test_errors_start_at_the_top_and_are_inherited_below():
    W1, b1, W2, b2, W3, b3 = range(6)
    layers = [Product(W, W + 1, True, frozenset(range(W))) for W in (W1, W2, W3)]

    def starts(*wrong, unknown=()):
        return start_of_error(layers, set(wrong), set(range(6)) - set(wrong) - set(unknown))

    assert starts(W1, b1, W2, b2) == [("dZ", 2, (W2, b2))]
    assert starts(W1, W3) == [("dW", 3, (W3,)), ("dW", 1, (W1,))]
    assert starts(b2) == [("db", 2, (b2,))]
    # A wrong dZ leaves nothing below it right.
    assert starts(W3, b3) == [("dW", 3, (W3,)), ("db", 3, (b3,))]
    assert starts(W3, b3, W2, W1, b1) == [("dW", 3, (W3,)), ("db", 3, (b3,)), ("dW", 2, (W2,)), ("dZ", 1, (W1, b1))]
    # A frozen leaf speaks neither for nor against.
    assert starts(W1, b1, W2, b2, unknown=(W3, b3)) == [("dZ", 2, (W2, b2))]
    assert starts(W1, b1, W2, unknown=(b2,)) == [("dZ", 2, (W2,))]
    assert starts(W2, b2, unknown=(W1, b1)) == [("dZ", 2, (W2, b2))]
    assert starts(W2, unknown=(b2, W1)) == [("dW", 2, (W2,))]


M = RNG.normal(size=(6, 6)).astype(np.float32)
LEAF_CAUSES = {
    "transposed": (lambda x: jnp.cos(x).T, "transpos"),
    "zero": (jnp.zeros_like, "zero"),
    "sign": (lambda x: -jnp.cos(x), "sign"),
    "double": (lambda x: 2 * jnp.cos(x), r"factor 2\b"),
    "clipped": (lambda x: jnp.clip(jnp.cos(x), -0.7, 0.7), "clipped.*0.7"),
    "rows": (lambda x: jnp.cos(x) * jnp.arange(1.0, 7.0)[:, None], "factor for each row"),
    "columns": (lambda x: jnp.cos(x) * jnp.arange(1.0, 7.0)[None, :], "factor for each column"),
    "one entry": (lambda x: jnp.cos(x).at[1, 2].multiply(3.0), r"\[1,2\] x 3"),
    "nan": (lambda x: jnp.cos(x).at[0, 1].set(jnp.nan), r"NaN.*\[0,1\]"),
    "bfloat16": (lambda x: jnp.cos(x).astype(jnp.bfloat16).astype(x.dtype), "bfloat16"),
    "decay": (lambda x: jnp.cos(x) + 0.01 * x, "0.01 times the parameter"),
    "flat": (lambda x: jnp.cos(x).ravel(), "keepdims|shape"),
}


@pytest.mark.parametrize("name", LEAF_CAUSES)
def test_a_leafs_own_cause_is_named(name):
    wrong, cause = LEAF_CAUSES[name]
    report = check_gradients(lambda x: jnp.sum(jnp.sin(x)), wrong, M, raise_=False)
    assert report.verdict == "FAIL"
    assert re.search(cause, report.cause or ""), str(report)


def test_an_error_without_a_name_gets_none():
    noise = np.random.default_rng(5).normal(size=M.shape).astype(np.float32)
    report = check_gradients(lambda x: jnp.sum(jnp.sin(x)), lambda x: jnp.cos(x) + 0.1 * noise, M, raise_=False)
    assert report.verdict == "FAIL" and report.cause is None


def net_of_two_layers(outputs, seed=0, kept=jnp.tanh):
    """A loss of a tanh net with so many outputs, and its gradient with dW[2] from another activation than A[1]."""
    rng = np.random.default_rng(seed)
    params = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in (("W1", (4, 5)), ("b1", (4, 1)), ("W2", (outputs, 4)), ("b2", (outputs, 1)))
    }
    X, Y = (rng.normal(size=(n, 7)).astype(np.float32) for n in (5, outputs))

    def loss(p, X, Y):
        return jnp.mean(jnp.sum((p["W2"] @ jnp.tanh(p["W1"] @ X + p["b1"]) + p["b2"] - Y) ** 2, axis=0)) / 2

    def gradient(p, X, Y):
        Z1 = p["W1"] @ X + p["b1"]
        A1 = jnp.tanh(Z1)
        dZ2 = (p["W2"] @ A1 + p["b2"] - Y) / X.shape[1]
        dZ1 = p["W2"].T @ dZ2 * (1 - A1**2)
        sums = [dZ.sum(axis=1, keepdims=True) for dZ in (dZ1, dZ2)]
        return {"W1": dZ1 @ X.T, "b1": sums[0], "W2": dZ2 @ kept(Z1).T, "b2": sums[1]}

    return loss, gradient, params, X, Y


@pytest.mark.parametrize("outputs", [2, 3])
def test_another_activation_is_named(outputs):
    report = check_gradients(*net_of_two_layers(outputs, kept=jnp.sin), raise_=False)
    assert report.starts_at == "dW[2]" and "another activation than A[1]" in report.cause, str(report)


DAMAGE = {
    "abs": jnp.abs,
    "relu": jax.nn.relu,
    "squared": lambda g: g * g,
    "sorted": lambda g: jnp.sort(g, axis=1),
    "sign added": lambda g: g + 0.01 * jnp.sign(g),
    "three zeros": lambda g: g.at[0, :3].set(0.0),
    "noise": lambda g: jnp.asarray(np.random.default_rng(9).normal(size=g.shape), g.dtype),
}


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_a_finished_leaf_is_no_other_activation(name, outputs):
    """Of one unit's dW any is dZ times something, and |dZ Aᵀ| = |dZ| |A|ᵀ; a mixture of examples tells."""
    for seed in range(2):
        loss, gradient, *point = net_of_two_layers(outputs, seed)
        damaged = lambda *a, g=gradient: {**(right := g(*a)), "W2": DAMAGE[name](right["W2"])}
        report = check_gradients(loss, damaged, *point, raise_=False)
        assert report.leaves["['W2']"].verdict == "FAIL" and "another activation" not in str(report), str(report)


@pytest.mark.parametrize("name", ["abs", "relu"])
def test_examples_without_weight_do_not_add_up_for_the_others(name):
    for seed in range(2):
        _, _, p, X, Y = net_of_two_layers(2, seed)
        weights = np.where(np.arange(7) < 2, 0.0, 1.0).astype(np.float32)

        def loss(p, X, Y, weights):
            off = p["W2"] @ jnp.tanh(p["W1"] @ X + p["b1"]) + p["b2"] - Y
            return jnp.mean(weights * jnp.sum(off**2, axis=0)) / 2

        def damaged(p, X, Y, weights, loss=loss):
            right = jax.grad(loss)(p, X, Y, weights)
            return {**right, "W2": DAMAGE[name](right["W2"])}

        report = check_gradients(loss, damaged, p, X, Y, weights, raise_=False)
        assert report.leaves["['W2']"].verdict == "FAIL" and "another activation" not in str(report), str(report)


def test_a_gradient_of_zeros_is_not_clipped():
    loss, _, *point = net_of_two_layers(2)
    report = check_gradients(loss, lambda p, X, Y: jax.tree.map(jnp.zeros_like, p), *point, raise_=False)
    assert "the leaf is zero" in report.cause and "clipped" not in report.cause, str(report)


def test_swapped_leaves_are_named():
    params = {"p": M, "q": M + 1}
    report = check_gradients(
        lambda p: jnp.sum(jnp.sin(p["p"])) + jnp.sum(jnp.cos(p["q"])),
        lambda p: {"p": -jnp.sin(p["q"]), "q": jnp.cos(p["p"])},
        params,
        raise_=False,
    )
    assert "swapped" in report.cause


def test_the_misprint_of_the_notes_is_named_with_one_output_unit():
    """One unit's dZ is a number, a multiple of any other: only dZ[2] = A[2] - Y itself shows that g[2] is σ."""

    def loss(layers, X, Y):
        (W1, b1), (W2, b2) = layers
        Z = W2 @ jnp.tanh(W1 @ X + b1) + b2
        return jnp.mean(jax.nn.softplus(Z) - Y * Z)

    def misprinted(layers, X, Y):
        (W1, b1), (W2, b2) = layers
        m, Z1 = X.shape[1], W1 @ X + b1
        dZ2 = (jax.nn.sigmoid(W2 @ jnp.tanh(Z1) + b2) - Y) / m
        dZ1 = W2.T @ dZ2 * jax.nn.sigmoid(Z1) * (1 - jax.nn.sigmoid(Z1))
        return [(dZ @ A.T, dZ.sum(axis=1, keepdims=True)) for dZ, A in ((dZ1, X), (dZ2, jnp.tanh(Z1)))]

    (W1, b1), (W2, b2) = WEIGHTS[0], (WEIGHTS[1][0][:1], WEIGHTS[1][1][:1])
    report = check_gradients(loss, misprinted, [(W1, b1), (W2, b2)], X, Y[:1], raise_=False)
    assert report.starts_at == "dZ[1]" and "g[2]'(Z[1]) / g[1]'(Z[1])" in report.cause


def test_a_sum_is_told_from_a_mean_though_some_examples_lose_nothing():
    """A hinge that the first examples satisfy: their loss is 0, taken once or twice."""
    W = RNG.normal(size=(1, 5)).astype(np.float32)
    margin = np.where(np.arange(9) < 4, -50.0, 50.0).astype(np.float32)

    def loss(W, X, margin):
        return jnp.sum(jnp.maximum(0, margin + (W @ X)[0]))

    wrong = lambda *a: jax.grad(loss)(*a) / a[1].shape[1]
    report = check_gradients(loss, wrong, W, X, margin, raise_=False)
    assert "the loss is a sum, the gradient that of a mean" in report.cause, str(report)


def test_a_loss_that_insists_on_its_batch_size_is_diagnosed_as_far_as_that_goes():
    """Half of the examples, or one fewer, it refuses."""
    X, labels = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32), np.arange(8) % 2
    X[3] = 0.0  # an example that may be padding

    def loss(W, X, labels):
        Z = X @ W
        return jnp.mean(jax.nn.logsumexp(Z, axis=1) - Z[jnp.arange(8), labels])

    def wrong(W, X, labels):
        dZ = (jax.nn.softmax(X @ W, axis=1) - jax.nn.one_hot(labels, 2)) / 8
        return X.T @ (dZ + dZ**2)

    report = check_gradients(loss, wrong, np.ones((3, 2), np.float32), X, labels, raise_=False)
    assert report.verdict == "FAIL"

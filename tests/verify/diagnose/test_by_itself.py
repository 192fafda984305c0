"""Faults that each leaf has by itself, and faults of a dZ: the pattern of wrong leaves is one, the values are not."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from tests.marks import slow_but
from tests.verify.diagnose import test_localisation as net
from tests.verify.diagnose.test_localisation import (
    LAYERS,
    OMITTED,
    B,
    W,
    backward,
    cost,
    failing,
    spoilt,
    squashed,
    weights,
)


def said(report):
    return " ".join(str(report.cause).split())


def with_all(how):
    """The right gradient with every leaf changed by itself: how(gradient, parameter)."""
    return lambda p, X, Y: jax.tree.map(how, backward(p, X, Y), p)


NAMED = {
    "decay": (lambda g, w: g + 0.1 * w, "0.1 times the parameter too much (a regulariser: weight decay)"),
    "offset": (lambda g, w: g + 0.1, "an offset: every entry is off by +0.1"),
    "clip": (
        lambda g, w: jnp.clip(g, -0.02, 0.02),
        "clipped: it equals the true gradient with entries cut off at ±0.02",
    ),
    "sign": (lambda g, w: jnp.sign(g), "only the sign is left: every entry is ±1"),
    "scaled sign": (lambda g, w: 3e-3 * jnp.sign(g), "only the sign is left: every entry is ±0.003"),
    "bfloat16": (lambda g, w: g.astype(jnp.bfloat16).astype(g.dtype), "equals the true gradient rounded to bfloat16"),
    "float16": (lambda g, w: g.astype(jnp.float16).astype(g.dtype), "equals the true gradient rounded to float16"),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_done_to_every_leaf_is_one_cause_and_no_wrong_dZ(name):
    how, text = NAMED[name]
    report = failing(with_all(how), LAYERS)
    assert said(report).startswith("Every leaf: ") and text in said(report), str(report)
    assert report.starts_at is None and "dZ" not in str(report)


UNNAMED = {
    "squashed": lambda g, w: squashed(g),
    "odd decay": lambda g, w: g + 0.1 * jnp.sign(w) * w**2,
    "reversed": lambda g, w: jnp.flip(g),
    "offset that moves": lambda g, w: g + jnp.mean(w**2),
}


@pytest.mark.parametrize("name", UNNAMED)
def test_what_is_done_to_every_leaf_and_has_no_name_is_no_wrong_dZ_either(name):
    report = failing(with_all(UNNAMED[name]), LAYERS)
    assert report.starts_at == "layer 3" and "do not come from one dZ[3]" in said(report), str(report)
    assert "follow" not in said(report) and "inherits" not in str(report) and "below dZ" not in str(report)
    assert "the layers below (1, 2) are wrong too" in said(report)


def test_a_leaf_that_is_no_product_with_A_shows_no_dZ():
    """dW[3] and db[3] are spoilt, and so is all below: nothing follows from what db[3] holds."""

    def wrong(p, X, Y):
        grads = backward(p, X, Y)
        for l, leaf in ((3, W), (3, B), (2, W), (2, B), (1, W), (1, B)):
            noise = np.random.default_rng(l * 2 + leaf).normal(size=grads[l - 1][leaf].shape).astype(np.float32)
            grads = spoilt(grads, l, leaf, lambda g, noise=noise: g + noise)
        return grads

    report = failing(wrong, LAYERS)
    assert report.starts_at == "layer 3" and "starts at dZ" not in said(report), str(report)


def test_a_wrong_dZ_below_leaves_that_are_wrong_by_themselves_is_found():
    def wrong(p, X, Y):
        return spoilt(spoilt(backward(p, X, Y, OMITTED), 3, W, squashed), 3, B, squashed)

    report = failing(wrong, LAYERS)
    assert report.starts_at == "layer 3" and "The error starts at dZ[2];" in said(report), str(report)
    assert "g[2]'(Z[2]) is omitted" in said(report)
    assert report.leaves["[0][0]"].note == "inherits the error of dZ[2]" and not report.leaves["[1][0]"].note


def test_a_wrong_step_in_every_layer_starts_at_the_highest_of_them():
    """What lies below does not follow from dZ[2] alone, yet dW[2] and db[2] hold one and the same wrong dZ[2]."""
    of_A = {l: lambda A: 1 - jnp.tanh(A) ** 2 for l in (1, 2)}
    report = failing(lambda p, X, Y: backward(p, X, Y, of_A), LAYERS)
    assert report.starts_at == "dZ[2]" and "dW[2] and db[2] follow from it" in said(report), str(report)
    assert "dW[1] and db[1] have errors of their own" in said(report)


def test_without_single_examples_a_start_stays_open():
    """Nothing but the pattern: where each example is mixed with its neighbour none can be asked by itself."""

    def mixed(X):
        return X + jnp.roll(X, 1, axis=0) / 4

    report = failing(lambda p, X, Y: backward(p, mixed(X), Y, OMITTED), LAYERS, lambda p, X, Y: cost(p, mixed(X), Y))
    assert report.starts_at == "dZ[2]" and "or each leaf has an error of its own" in said(report), str(report)
    assert "follow" not in said(report) and "inherits" not in str(report)


def test_a_regulariser_hides_no_single_example():
    """What λ W adds to dW is taken off again, and dW is a product."""

    def loss(p, X, Y):
        return cost(p, X, Y) + 0.05 * sum(jnp.sum(W**2) for W, _ in p)

    def wrong(p, X, Y):
        return [(dW + 0.1 * W, db) for (dW, db), (W, _) in zip(backward(p, X, Y, OMITTED), p, strict=True)]

    report = failing(wrong, LAYERS, loss)
    assert report.starts_at == "dZ[2]" and "g[2]'(Z[2]) is omitted" in said(report), str(report)


# ---- a unit of a dZ -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("factor", "text"), [(1.5, "[2] x 1.5"), (0.0, "[2] is zero"), (1.0005, "[2] x 1.0005")])
@pytest.mark.parametrize("layer", [1, 2])
def test_one_unit_of_a_dZ(layer, factor, text):
    n = LAYERS[layer - 1][1].size
    report = failing(
        lambda p, X, Y: backward(p, X, Y, {layer: lambda A: (1 - A * A) * jnp.ones(n).at[2].set(factor)}), LAYERS
    )
    assert report.starts_at == f"dZ[{layer}]", str(report)
    assert f"dZ[{layer}] has a factor for each unit: {text}" in said(report) and "row" not in said(report)


def test_the_rows_that_differ_are_listed_and_no_others():
    def loss(p):
        return jnp.sum(jnp.sin(p))

    p = np.random.default_rng(0).normal(size=(300, 9)).astype(np.float32)
    at = lambda *rows: jnp.ones((300, 1)).at[jnp.array(rows)].set(1.5)
    one = check_gradients(loss, lambda p: jnp.cos(p) * at(271), p, raise_=False)
    assert "a factor for each row: [271] x 1.5." in said(one), str(one)
    many = check_gradients(loss, lambda p: jnp.cos(p) * at(*range(0, 300, 10)), p, raise_=False)
    assert "[0] x 1.5, [10] x 1.5, " in said(many) and "(30 of 300)" in said(many), str(many)


@pytest.mark.parametrize("factor", [1.0001, 1.00001])
def test_a_factor_is_printed_with_the_digits_that_tell_it_from_1(factor):
    with jax.enable_x64(True):
        p = np.linspace(0.1, 1.0, 12)
        report = check_gradients(lambda p: jnp.sum(jnp.sin(p)), lambda p: factor * jnp.cos(p), p, raise_=False)
    assert f"a factor {factor} on every entry" in said(report), str(report)


def test_a_single_layer_is_no_exception():
    report = failing(lambda p, X, Y: jax.tree.map(jnp.sign, backward(p, X, Y)), weights(5, 3))
    assert "only the sign is left" in said(report) and report.starts_at is None, str(report)


@pytest.mark.parametrize(
    ("wrong", "approximate"),
    slow_but([("gelu", False), ("relu", False), ("silu", False)], product(["gelu", "relu", "silu"], [False, True])),
)
def test_another_function_s_derivative_is_named_whichever_it_is(wrong, approximate):
    """A mend of relu's name alone, where the layer computes gelu."""
    of_Z = {"relu": jax.nn.relu, "silu": jax.nn.silu, "gelu": lambda Z: jax.nn.gelu(Z, not approximate)}

    def loss(p, X, Y, g=lambda Z: jax.nn.gelu(Z, approximate)):
        (W1, b1), (W2, b2) = p
        Z = g(X @ W1 + b1) @ W2 + b2
        return jnp.mean((Z - Y) ** 2)

    def gradient(p, X, Y):
        (W1, b1), (W2, b2) = p
        Z1 = X @ W1 + b1
        A1 = jax.nn.gelu(Z1, approximate)
        dZ2 = 2 * (A1 @ W2 + b2 - Y) / Y.size
        dZ1 = dZ2 @ W2.T * jax.vmap(jax.vmap(jax.grad(of_Z[wrong])))(Z1)
        return [(A.T @ dZ, dZ.sum(axis=0)) for A, dZ in ((X, dZ1), (A1, dZ2))]

    name, other = ("approximate gelu", "gelu")[:: 1 if approximate else -1]
    report = failing(gradient, weights(5, 6, 3), loss)
    text = f"{other if wrong == 'gelu' else wrong}' in place of {name}'"
    assert report.starts_at == "dZ[1]" and (text in said(report) or wrong == "gelu"), str(report)


# ---- leaves too coarse for their values to tell ----------------------------------------------------------------------
def in_bfloat16(gradient, **options):
    coarse = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), tree)
    report = check_gradients(cost, gradient, coarse(LAYERS), coarse(net.X), coarse(net.Y), raise_=False, **options)
    assert report.verdict == "FAIL", str(report)
    return report


@pytest.mark.slow
def test_the_formula_tells_in_bfloat16_what_the_values_do_not():
    report = in_bfloat16(lambda p, X, Y: backward(p, X, Y, OMITTED))
    assert report.starts_at == "dZ[2]" and "g[2]'(Z[2]) is omitted" in said(report), str(report)
    assert "dW[2], db[2] and the layer below (1) follow from it" in said(report)


@pytest.mark.slow
def test_a_coarse_leaf_that_passes_shows_no_error_and_is_not_called_right():
    """In bfloat16 a tenth of db[3] could be missing."""
    report = in_bfloat16(lambda p, X, Y: spoilt(backward(p, X, Y), 3, W, squashed))
    assert report.starts_at == "dW[3]" and "db[3] shows no error, so dZ[3] shows none" in said(report), str(report)
    report = in_bfloat16(lambda p, X, Y: backward(p, X, Y, OMITTED))
    assert "dZ[3] shows no error" in said(report) and "is right" not in said(report), str(report)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [12, 14, 42, 58])
def test_a_factor_that_only_coarse_entries_allow_is_not_named(seed):
    """Five steps without tanh' are no multiple of the true gradient; the formula shows it, 0.3 of a leaf hides it."""
    unsloped = jax.custom_vjp(jnp.tanh)
    unsloped.defvjp(lambda z: (jnp.tanh(z), None), lambda _, c: (c,))

    def recurrent(p, X, act=jnp.tanh):
        h = jnp.zeros((X.shape[1], 3), X.dtype)
        for x in X:
            h = act(x @ p["W"] + h @ p["U"] + p["b"])
        return jnp.mean((h @ p["v"]) ** 2)

    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(0.6 * rng.normal(size=shape), jnp.bfloat16)
    p = {"W": draw(2, 3), "U": draw(3, 3), "b": draw(1, 3), "v": draw(3)}
    gradient = lambda p, X: jax.grad(recurrent)(p, X, unsloped)
    report = check_gradients(recurrent, gradient, p, draw(5, 4, 2), raise_=False)
    assert report.verdict == "FAIL" and "factor" not in said(report), str(report)


def test_a_gradient_that_cannot_be_traced_leaves_its_start_open_in_bfloat16():
    def concrete(p, X, Y):
        assert not isinstance(X, jax.core.Tracer)
        return backward(p, X, Y, OMITTED)

    report = in_bfloat16(concrete)
    assert report.starts_at == "dZ[2]" and "or each leaf has an error of its own" in said(report), str(report)


def test_a_leaf_of_a_layer_is_named_by_its_path():
    """In a flat tuple W[2] is leaf [2]."""
    flat = tuple(x for layer in LAYERS for x in layer)

    def pairs(p):
        return list(zip(p[::2], p[1::2], strict=True))

    def wrong(p, X, Y):
        return tuple(x for layer in spoilt(backward(pairs(p), X, Y), 2, W, lambda g: -g) for x in layer)

    report = failing(wrong, flat, lambda p, X, Y: cost(pairs(p), X, Y))
    assert "dW[2] ([2]): the sign is wrong (factor -1)." in said(report), str(report)

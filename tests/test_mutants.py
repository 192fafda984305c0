"""Bugs planted in our own backward pass and derivatives: each must be refused, and exactly its wrong leaves named.

A mutant is a piece of the source of `backward` (or of the cost's derivative) and what stands there instead. The
net has three layers of equal width and m examples of the same number, so that no mutant shows by its shape alone.
"""

import inspect

import jax
import numpy as np
import pytest

import jaxnet
from jaxnet import network
from jaxnet.activations import ACTIVATIONS
from tests import cases
from tests.comparison import wrong_leaves

SOURCES = [inspect.getsource(function) for function in (network.backward, network.value_output_and_grad)]
NET = jaxnet.MLP((4, 4, 4, 4), ("silu", "gelu", "sigmoid"), "squared_error", l2=0.1, dropout=0.3)
STEP = dict(precision="float32", key=jax.random.key(1))  # of which every unit of a layer is there in some example

W1, b1, W2, b2, W3, b3 = (f"[{layer}].{name}" for layer in range(3) for name in ("W", "b"))
ALL_W, ALL_b = {W1, W2, W3}, {b1, b2, b3}
ALL, HIDDEN = ALL_W | ALL_b, {W1, b1, W2, b2}

A_KEPT = "dropped(A_prev, D_prev)"
DW = f"dot.nt(dZ, {A_KEPT}, W)"
DA = "dropped(dot.tn(W, dZ), D_prev)"
DECAY = "losses.penalty_derivative(net.l2, W)"
DELTA = "w * loss.derivative(Z, A, Y)"

MUTANTS = {  # name: (what stands there, what the bug puts there, the leaves that turn wrong)
    "dW without 1/m": (DW, f"{DW} * dZ.shape[1]", ALL_W),
    "db without 1/m": ("keepdims=True)", "keepdims=True) * dZ.shape[1]", ALL_b),
    "dW with 1/m twice": (DW, f"{DW} / dZ.shape[1]", ALL_W),
    "mean for sum in db": ("dZ.sum(", "dZ.mean(", ALL_b),
    "1/m twice": (DELTA, f"w * {DELTA}", ALL),
    "1/(m - 1)": (DELTA, f"{DELTA} * 4 / 3", ALL),
    "weights forgotten": (DELTA, "loss.derivative(Z, A, Y) / Y.shape[1]", ALL),
    "Y - A": (DELTA, f"-{DELTA}", ALL),
    "sign of db": ("dZ.sum(", "-dZ.sum(", ALL_b),
    "W dZ for Wᵀ dZ": ("dot.tn(W, dZ)", "dot.tn(W.T, dZ)", HIDDEN),
    "dW transposed": (DW, f"{DW}.T", ALL_W),
    "A dZᵀ": (DW, f"dot.nt({A_KEPT}, dZ, W)", ALL_W),
    "g[l+1]' for g[l]'": ("net.g[l - 1]", "net.g[l]", HIDDEN),
    "g'(A) for g'(Z)": ("derivative(Z_prev, A_prev)", "derivative(A_prev, A_prev)", HIDDEN),
    "g' omitted": ("dA_prev * g_prev.derivative(Z_prev, A_prev)", "dA_prev", HIDDEN),
    "g' twice": ("dA_prev * g_prev", "dA_prev * g_prev.derivative(Z_prev, A_prev) * g_prev", HIDDEN),
    "db without the sum": ("dZ.sum(axis=1, keepdims=True)", "dZ", ALL_b),
    "db without keepdims": ("axis=1, keepdims=True", "axis=1", ALL_b),
    "db over the wrong axis": ("axis=1, keepdims=True)", "axis=0)[:, None]", ALL_b),
    "dW = 0": ("Layer(dW, db)", "Layer(0 * dW, db)", ALL_W),
    "db = 0": ("Layer(dW, db)", "Layer(dW, 0 * db)", ALL_b),
    "leaves reversed": ("tuple(reversed(grads))", "tuple(grads)", {W1, b1, W3, b3}),
    "Z for A in dW": (DW, "dot.nt(dZ, dropped(Z_prev, D_prev), W)", {W2, W3}),
    "A[l] for A[l-1]": ("cache[l - 1]", "cache[l]", ALL - {b3}),
    "X for A[l-1]": (DW, "dot.nt(dZ, cache[0].A, W)", {W2, W3}),
    "another batch's A": (DW, f"dot.nt(dZ, jax.numpy.roll({A_KEPT}, 1, axis=1), W)", ALL_W),
    "last bias frozen": ("tuple(reversed(grads))", "(*reversed(grads[1:]), grads[0]._replace(b=0 * grads[0].b))", {b3}),
    "one coordinate x 1.5": ("Layer(dW, db)", "Layer(dW.at[1, 2].multiply(1.5), db)", ALL_W),
    "one coordinate = 0": ("Layer(dW, db)", "Layer(dW, db.at[0].set(0))", ALL_b),
    "x 1.001": ("Layer(dW, db)", "Layer(1.001 * dW, db)", ALL_W),
    "a bfloat16 product": (DW, f"dot.nt(*map(jax.numpy.bfloat16, (dZ, {A_KEPT})), W).astype(dZ.dtype)", ALL_W),
    "dA not through W": ("dot.tn(W, dZ)", "dZ", HIDDEN),
    "mask not applied backwards": (DA, "dot.tn(W, dZ)", HIDDEN),
    "mask not applied to A": (A_KEPT, "A_prev", {W2, W3}),
    "mask without 1/(1 - p)": (DA, "dropped(dot.tn(W, dZ), D_prev if D_prev is None else 0.7 * D_prev)", HIDDEN),
    "mask of another batch": (A_KEPT, "dropped(A_prev, D_prev if D_prev is None else D_prev[:, ::-1])", {W2, W3}),
    "penalty forgotten": (DECAY, "0 * W", ALL_W),
    "penalty on biases too": ("(W=grad.W + dW)", "(W=grad.W + dW, b=grad.b * 1.1)", ALL_b),
    "penalty of the square, 2 W": (DECAY, f"2 * {DECAY}", ALL_W),
    "penalty over m": (DECAY, f"{DECAY} / Y.shape[1]", ALL_W),
    "penalty's sign": ("grad.W + dW", "grad.W - dW", ALL_W),
    "NaN for one saturated example": (DELTA, f"({DELTA}).at[0, 0].set(jax.numpy.nan)", ALL),
}  # fmt: skip


def mutated(old, new):
    """value_and_grad with one piece of its source replaced; with old == new it is the real one, rebuilt."""
    assert sum(source.count(old) for source in SOURCES) == 1, f"{old!r} is not in the source exactly once"
    namespace = dict(vars(network))
    for source in SOURCES:
        exec(source.replace(old, new), namespace)
    return lambda *point: namespace["value_output_and_grad"](NET, *point, **STEP)[1]


@pytest.fixture
def point(key, x64):
    return cases.point(NET, key, m=4)


def refused(gradient, point):
    return wrong_leaves(gradient(*point), jax.grad(jaxnet.cost, argnums=1)(NET, *point, **STEP), rtol=1e-12)


def test_the_real_one_passes(point):
    assert refused(mutated("Layer(dW, db)", "Layer(dW, db)"), point) == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_refused(name, point, untyped):
    old, new, leaves = MUTANTS[name]
    assert refused(mutated(old, new), point) == leaves


SLIPS = {  # a wrong g' of each activation, the one that is easiest to write
    "identity": lambda Z, A: Z,
    "sigmoid": lambda Z, A: A * (1 + A),
    "tanh": lambda Z, A: 1 - A,
    "relu": lambda Z, A: jax.numpy.where(A >= 0, 1.0, 0.0),
    "leaky_relu": lambda Z, A: jax.numpy.where(A >= 0, 1.0, 0.0),
    "softplus": lambda Z, A: ACTIVATIONS["sigmoid"](A),
    "gelu": lambda Z, A: A / Z,
    "silu": lambda Z, A: ACTIVATIONS["sigmoid"](Z) + Z * (1 - ACTIVATIONS["sigmoid"](Z)),
}


@pytest.mark.parametrize("name", cases.HIDDEN)
def test_a_slip_in_a_derivative_is_refused(name, key, x64, monkeypatch):
    net = jaxnet.MLP((4, 4, 4), (name, "tanh" if name == "identity" else "identity"))
    point = cases.point(net, key, m=4)
    gradients = lambda: (jaxnet.value_and_grad(net, *point)[1], jax.grad(jaxnet.cost, argnums=1)(net, *point))
    assert wrong_leaves(*gradients(), rtol=1e-12) == set()
    monkeypatch.setitem(ACTIVATIONS, name, ACTIVATIONS[name]._replace(derivative=SLIPS[name]))
    assert wrong_leaves(*gradients(), rtol=1e-12) == {W1, b1}


def test_the_comparison_itself(key):
    """Off by 2e-12 is distinguished from 0; a wrong shape, a NaN and a leaf that should be 0 are all refused."""
    right = {"a": np.array([1.0, -3.0]), "zero": np.zeros(2)}
    assert wrong_leaves(right, right, 1e-12) == set()
    assert wrong_leaves(right | {"a": right["a"] * (1 + 2e-12)}, right, 1e-12) == {"['a']"}
    assert wrong_leaves(right | {"a": right["a"][:, None]}, right, 1e-12) == {"['a']"}
    assert wrong_leaves(right | {"a": np.array([1.0, np.nan])}, right, 1e-12) == {"['a']"}
    assert wrong_leaves(right | {"zero": np.array([0, 1e-3])}, right, 1e-12) == {"['zero']"}

"""Causes that look like another: none is named before a second piece of evidence tells the two apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from tests.marks import slow_but

RNG = np.random.default_rng(0)
W, X, Y = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 12), (3, 12)))
DECAY = 0.1


def loss(W, X, Y):
    """Half the mean squared error."""
    return jnp.sum((W @ X - Y) ** 2) / 2 / X.shape[1]


def gradient(W, X, Y):
    return (W @ X - Y) @ X.T / X.shape[1]


def cause(loss, gradient, *point, **options):
    report = check_gradients(loss, gradient, *(point or (W, X, Y)), raise_=False, **options)
    assert report.verdict == "FAIL", str(report)
    return report.cause


# ---- wrong under jit, or at another call? ------------------------------------------------------------------------
@pytest.mark.parametrize("wrong", [{3}, {4}, set(range(3, 99)), set(range(3, 99, 3))])
def test_a_later_call_that_differs_is_not_blamed_on_jit_or_vmap(wrong):
    calls = []

    def forgetful(*a):
        calls.append(None)
        return gradient(*a) * (2 if len(calls) in wrong else 1)

    assert "a later call differs" in cause(loss, forgetful, variants=("eager", "jit", "vmap"))


def test_what_is_wrong_whenever_it_is_traced_is_blamed_on_jit():
    def traced(W, X, Y):
        return gradient(W, X, Y) * (2 if isinstance(W, jax.core.Tracer) else 1)

    assert cause(loss, traced) == "wrong only under jit: the eager call is right."


# ---- a regulariser, or the data? ---------------------------------------------------------------------------------
def decayed(amount):
    return lambda W, X, Y: loss(W, X, Y) + amount(X.shape[1]) / 2 * jnp.sum(W**2)


def with_decay(amount):
    return lambda W, X, Y: gradient(W, X, Y) + amount(X.shape[1]) * W


@pytest.mark.parametrize("wrong", [lambda A, Y: -Y, lambda A, Y: 2 * A - Y])
def test_an_error_that_follows_the_data_is_no_regulariser(wrong):
    """With X = I a delta without A, or with it twice, is off by a multiple of W."""
    point = W, np.eye(4, dtype=np.float32), Y[:, :4]
    assert "weight decay" not in str(cause(loss, lambda W, X, Y: wrong(W @ X, Y) @ X.T / X.shape[1], *point))


@pytest.mark.parametrize(
    ("true", "manual", "said"),
    [
        (lambda m: DECAY, lambda m: 0, "0.1 times the parameter is missing"),
        (lambda m: DECAY, lambda m: 2 * DECAY, "0.1 times the parameter too much"),
        (lambda m: 0, lambda m: DECAY, "0.1 times the parameter too much"),
        (lambda m: DECAY / m, lambda m: 0, "0.1/m times the parameter is missing"),
        (lambda m: DECAY, lambda m: DECAY / m, "the regulariser 0.1 is divided by m, in the loss it is not"),
        (lambda m: DECAY / m, lambda m: DECAY, "the regulariser 0.1 is not divided by m, in the loss it is"),
    ],
)
def test_a_regulariser_is_named_by_what_is_missing_or_too_much(true, manual, said):
    text = cause(decayed(true), with_decay(manual))
    assert said in text and "weight decay" in text, text


# ---- a factor: of what is it made? -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("of", "said"),
    [
        (lambda m: 3 * m, "a factor m times 3 (m = 12)"),
        (lambda m: 1.7 * m, "a factor m times 1.7 (m = 12)"),
        (lambda m: 0.3 / m, "a factor 0.3/m (m = 12)"),
        (lambda m: 36, "a factor 36 on every entry"),
        (lambda m: 12, "a factor 12 on every entry"),
        (lambda m: m, "1/m is missing (factor m = 12)"),
    ],
)
def test_a_factor_is_named_by_what_it_is_made_of(of, said):
    assert said in cause(loss, lambda W, X, Y: of(X.shape[1]) * gradient(W, X, Y))


def test_one_factor_is_not_listed_row_by_row():
    """Examples with weights of their own are no batch whose size could be changed."""

    def weighted(W, X, Y):
        return jnp.sum((W @ X - Y) ** 2 * jnp.arange(12.0))

    text = cause(weighted, lambda *a: 12 * jax.grad(weighted)(*a))
    assert "a factor 12 on every entry" in text and "row" not in text


# ---- a leaf of one entry: any error is a factor, and all of its entries ------------------------------------------
SCALED = {"W": W, "s": np.float32(1.2)}


def scaled(p, X, Y):
    return loss(p["s"] * jnp.tanh(p["W"]), X, Y)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda g, p, X: 1.3 * g, "['s']: a factor 1.3."),
        (lambda g, p, X: X.shape[1] * g, "['s']: 1/m is missing (factor m = 12)."),
        (lambda g, p, X: -g, "['s']: the sign is wrong (factor -1)."),
        (lambda g, p, X: 0 * g, "['s']: the leaf is zero: frozen, or never filled in."),
        (lambda g, p, X: g / p["s"], None),
        (lambda g, p, X: g + 0.1, None),
        (lambda g, p, X: g * X[0, 0], None),  # the same at other parameters
    ],
)
def test_a_leaf_of_one_entry_has_a_factor_only_if_it_has_it_elsewhere(wrong, said):
    def spoilt(p, X, Y):
        g = jax.grad(scaled)(p, X, Y)
        return g | {"s": wrong(g["s"], p, X)}

    assert cause(scaled, spoilt, SCALED, X, Y) == said


def test_a_black_box_of_one_entry_has_no_entry_that_differs():
    assert cause(lambda q: float(q) ** 3, lambda q: np.float32(q), np.float32(1.5)) is None


def test_leaves_without_a_cause_are_listed_beside_one_that_has_one():
    def spoilt(p, X, Y):
        g = jax.grad(scaled)(p, X, Y)
        return {"W": g["W"] + 0.1 * jnp.tanh(3 * p["W"]), "s": 1.3 * g["s"]}

    assert cause(scaled, spoilt, SCALED, X, Y) == "['s']: a factor 1.3. No cause could be confirmed for ['W']."


# ---- a black box: only values of the loss are known ----------------------------------------------------------------
def in_numpy(W, X, Y):
    return float(np.sum((np.asarray(W, np.float64) @ X - Y) ** 2) / 2 / X.shape[1])


def in_a_callback(W, X, Y):
    return jax.pure_callback(lambda *a: np.float32(in_numpy(*a)), jax.ShapeDtypeStruct((), np.float32), W, X, Y)


@pytest.mark.parametrize("hidden", slow_but([in_numpy], [in_numpy, in_a_callback]))
@pytest.mark.parametrize(
    ("of", "said"),
    [
        (lambda m: 2, "a factor 2 on every entry"),
        (lambda m: -1, "the sign is wrong"),
        (lambda m: m, "1/m is missing (factor m = 12)"),
        (lambda m: 1 / m, "1/m applied twice"),
        (lambda m: 12, "a factor 12 on every entry"),
    ],
)
def test_the_factor_of_a_black_box_is_found_by_slopes(hidden, of, said):
    assert said in cause(hidden, lambda W, X, Y: np.float32(of(X.shape[1])) * gradient(W, X, Y))


def test_a_black_box_s_regulariser_and_its_single_entry_are_named_too():
    decay = lambda W, X, Y: in_numpy(W, X, Y) + 0.05 * float(np.sum(np.square(W, dtype=np.float64)))
    assert "0.1 times the parameter is missing" in cause(decay, gradient)
    assert "one coordinate is wrong, params[1,2]" in cause(in_numpy, lambda *a: gradient(*a) * (1 + ENTRY))


ENTRY = np.zeros_like(W)
ENTRY[1, 2] = 0.5


def test_the_factor_of_leaves_too_large_to_difference_is_named():
    params = {"A": RNG.normal(size=(40, 20)).astype(np.float32), "b": RNG.normal(size=20).astype(np.float32)}

    def hidden(p):
        return float(np.sum(np.tanh(np.asarray(p["A"], np.float64) @ p["b"])))

    right = jax.grad(lambda p: jnp.sum(jnp.tanh(p["A"] @ p["b"])))
    assert cause(hidden, lambda p: jax.tree.map(lambda g: 2 * g, right(p)), params) == (
        "Every leaf: a factor 2 on every entry."
    )
    one = cause(hidden, lambda p: right(p) | {"A": 3 * right(p)["A"]}, params)
    assert one == "['A']: a factor 3 on every entry."
    assert not cause(hidden, lambda p: right(p) | {"A": right(p)["A"] ** 3}, params)


def test_layers_around_a_callback_that_are_wrong_are_refused_with_a_report():
    """No autodiff passes the callback: nothing that a diagnosis asks may want it."""
    params = [(RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=(3, 1)).astype(np.float32))]

    def net(activation):
        return lambda p, X: jnp.mean(activation(p[0][0] @ X + p[0][1]) ** 2)

    def on_host(Z):
        return jax.pure_callback(lambda z: np.tanh(z), jax.ShapeDtypeStruct(Z.shape, Z.dtype), Z)

    right = jax.grad(net(jnp.tanh))
    wrong = lambda p, X: [(2 * right(p, X)[0][0], right(p, X)[0][1] + 0.1)]
    report = check_gradients(net(on_host), wrong, params, X, raise_=False)
    assert report.verdict == "FAIL" and not any("crashed" in note for note in report.notes), str(report)
    assert report.starts_at == "dZ[1]" and "or each leaf has an error of its own" in report.cause, str(report)


def test_a_row_without_a_gradient_has_no_factor_of_its_own():
    """A mean over padded places is 0.8 of the true one in each row that has a gradient: no factor for each row."""
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(5, 4)).astype(np.float32), np.array([1, 1, 1, 1, 0], np.float32)
    X[:, 3] = 0  # nothing reaches the last row of W

    def mean(W, X, weights, count=jnp.sum):
        return jnp.sum(weights * jnp.sum(jnp.tanh(X @ W) ** 2, 1)) / count(weights)

    gradient = lambda W, X, weights: jax.grad(mean)(W, X, weights, jnp.size)
    W = rng.normal(size=(4, 3)).astype(np.float32)
    report = check_gradients(mean, gradient, W, X, weights, raise_=False)
    assert report.verdict == "FAIL" and "for each row" not in str(report), str(report)

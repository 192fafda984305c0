"""At a kink any value between the one-sided derivatives is right; beyond it, and away from it, nothing is."""

from itertools import cycle, product, repeat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from jaxnet.verify.program.ties import has_kinks
from tests.marks import DTYPES, float64_is_slow, slow_but
from tests.verify.verdicts import verdict

X = np.array([0.0, 1.0, -1.0, 0.0, 2.0], np.float32)


def at_zero(value):
    return lambda x: jnp.where(x > 0, 1.0, jnp.where(x == 0, value, 0.0)).astype(x.dtype)


LOSSES = {
    "maximum": lambda x: jnp.sum(jnp.maximum(x, 0.0)),
    "where": lambda x: jnp.sum(jnp.where(x > 0, x, 0.0)),
    "clip": lambda x: jnp.sum(jnp.clip(x, 0.0, 9.0)),
    "abs": lambda x: jnp.sum((jnp.abs(x) + x) / 2),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_value_between_is_a_subgradient(loss, value):
    assert check_gradients(LOSSES[loss], at_zero(value), X)


@pytest.mark.parametrize(("value", "loss"), slow_but(zip(cycle([-0.1, 1.1]), LOSSES), product([-0.1, 1.1], LOSSES)))
def test_a_value_beyond_is_wrong(loss, value):
    assert check_gradients(LOSSES[loss], at_zero(value), X, raise_=False).verdict == "FAIL"


def test_the_convention_is_reported():
    note = check_gradients(LOSSES["maximum"], at_zero(0.0), X).leaves[""].note
    assert "subgradient" in note and "[0, 1]" in note


def test_strict_insists_on_autodiffs_value():
    assert check_gradients(LOSSES["maximum"], at_zero(0.0), X, kinks="strict", raise_=False).verdict == "FAIL"
    assert check_gradients(LOSSES["maximum"], at_zero(0.5), X, kinks="strict")


@pytest.mark.parametrize("witnesses", ["auto", "full"])
def test_strict_tells_a_tie_that_a_rounding_of_the_inputs_leaves(witnesses):
    """Unlike one at 0, it is a step within the noise, by which any convention would pass."""
    edges, clip = np.array([-0.5, 0.5, 0.0, 1.0], np.float32), lambda x: jnp.sum(jnp.clip(x, -0.5, 0.5))
    inside, within = lambda x: (jnp.abs(x) < 0.5).astype(x.dtype), lambda x: (jnp.abs(x) <= 0.5).astype(x.dtype)
    strict = {"kinks": "strict", "witnesses": witnesses, "raise_": False}
    found = [check_gradients(clip, g, edges, **strict).verdict for g in (jax.grad(clip), inside, within)]
    assert found == ["PASS", "FAIL", "FAIL"]


@pytest.mark.parametrize("loss", LOSSES)
def test_all_witnesses_agree_but_for_what_a_tie_leaves_open(loss):
    """Those of slopes take one side of it, as any convention does."""
    for value in (0.0, 0.5, 1.0):
        report = check_gradients(LOSSES[loss], at_zero(value), X, witnesses="full")
        assert report.verdict == "PASS" and not any("disagree" in note for note in report.notes), report
    wrong = lambda x: 1.01 * at_zero(0.5)(x)
    assert check_gradients(LOSSES[loss], wrong, X, witnesses="full", raise_=False).verdict == "FAIL"


def test_a_bug_away_from_the_kink_is_not_excused_by_it():
    wrong = lambda x: at_zero(0.0)(x).at[4].set(1.01)
    assert check_gradients(LOSSES["maximum"], wrong, X, raise_=False).verdict == "FAIL"


def test_ties_of_a_maximum_may_be_broken_any_way():
    x = np.ones((4,), np.float32)
    for g in ([1, 0, 0, 0], [0.25] * 4, [0, 0.5, 0.5, 0]):
        assert check_gradients(jnp.max, lambda x, g=g: jnp.asarray(g, x.dtype), x)
    assert check_gradients(jnp.max, lambda x: 2 * jnp.ones_like(x), x, raise_=False).verdict != "PASS"


@pytest.mark.parametrize("g", [[0, 0, 0, 0], [1, 1, 0, 0], [0.5, 0.25, 0, 0]])
def test_entries_that_lie_between_may_be_wrong_together(g):
    report = check_gradients(jnp.max, lambda x: jnp.asarray(g, x.dtype), np.ones((4,), np.float32), raise_=False)
    assert report.verdict == "FAIL" and "at once" in report.leaves[""].note


@pytest.mark.slow  # test_shares.py has the same for one layer and for two
def test_slopes_drawn_for_each_tie_are_a_subgradient():
    """A padded example and no biases: every unit of both layers is at its kink there."""
    rng = np.random.default_rng(0)
    sizes = [(7, 5), (6, 7), (3, 6)]
    W = [rng.normal(size=s).astype(np.float32) for s in sizes]
    b = [np.zeros((s[0], 1), np.float32) for s in sizes]
    X = rng.normal(size=(5, 4)).astype(np.float32) * np.array([1, 1, 1, 0], np.float32)
    slopes = [rng.uniform(size=(s[0], 4)).astype(np.float32) for s in sizes[:2]]

    def forward(params, X, relu):
        (W1, W2, W3), (b1, b2, b3) = params
        return jnp.mean((W3 @ relu(W2 @ relu(W1 @ X + b1, 0) + b2, 1) + b3 - 1) ** 2)

    def sloped(Z, layer):
        return jnp.where(Z == 0, slopes[layer] * Z, jnp.maximum(Z, 0))

    loss = lambda params, X: forward(params, X, lambda Z, layer: jnp.maximum(Z, 0))
    grad = lambda params, X: jax.grad(forward)(params, X, sloped)
    report = check_gradients(loss, grad, (W, b), X, raise_=False)
    assert report.verdict != "FAIL", str(report)
    assert report.leaves["[1][1]"].verdict == "PASS"  # one tie a unit; below, six of them add up
    wrong = lambda params, X: jax.tree.map(lambda g: g * 1.5, grad(params, X))
    assert check_gradients(loss, wrong, (W, b), X, raise_=False).verdict == "FAIL"


# ---------------------------------------------------------------- many ties

SIGNED = np.random.default_rng(7).normal(size=(40, 1))  # a maximum with a negative weight is concave
EQUAL = np.ones((40, 6))
FIRST, LAST, SHARED = np.eye(6)[[0] * 40], np.eye(6)[[5] * 40], EQUAL / 6


@pytest.mark.parametrize(
    ("dtype", "pick", "weight"),
    slow_but(
        [("float32", "max", "convex"), ("float32", "max", "signed"), ("float64", "argmax", "convex")],
        product(DTYPES, ["max", "argmax"], ["convex", "signed"]),
    ),
    indirect=["dtype"],
)
def test_each_of_many_maxima_shares_out_its_whole_weight(dtype, pick, weight):
    w, x = np.broadcast_to({"convex": 1.0, "signed": SIGNED}[weight], (40, 1)).astype(dtype), EQUAL.astype(dtype)

    def loss(x):
        at_top = jnp.argmax(x, 1, keepdims=True)
        top = jnp.take_along_axis(x, at_top, 1) if pick == "argmax" else jnp.max(x, 1, keepdims=True)
        return jnp.sum(w * top)

    one_row_missing = SHARED * (np.arange(40) != 3)[:, None]
    for right in (FIRST, LAST, SHARED):
        assert verdict(loss, w * right, x) == "PASS"
    for wrong in (0 * EQUAL, EQUAL, SHARED / 2, one_row_missing, 1.5 * FIRST):
        assert verdict(loss, w * wrong, x) == "FAIL"


def test_no_cause_is_named_that_only_the_step_over_the_kink_lets_pass():
    """The step from one side to the other is no noise that a factor of -1 could hide in."""
    loss = lambda x: jnp.sum(SIGNED * jnp.take_along_axis(x, jnp.argmax(x, 1, keepdims=True), 1))
    g = (SIGNED * SHARED * (np.arange(40) != 3)[:, None]).astype(np.float32)
    report = check_gradients(loss, lambda x: jnp.asarray(g), EQUAL.astype(np.float32), raise_=False)
    assert report.verdict == "FAIL" and report.cause is None and "at once" in str(report)


def sloped(slope):
    """relu with a derivative of its own at 0."""
    return lambda Z: jnp.where(Z == 0, jnp.asarray(slope, Z.dtype) * Z, jnp.maximum(Z, 0))


RELUS = {
    "maximum": lambda Z: jnp.maximum(Z, 0),
    "reversed": lambda Z: jnp.maximum(0, Z),
    "jax.nn": jax.nn.relu,
    "where": lambda Z: jnp.where(Z > 0, Z, 0),
    "mask": lambda Z: Z * (Z > 0).astype(Z.dtype),
}


def chain(relu):
    """A net of relu layers, weights and biases apart; its loss."""

    def loss(params, X):
        for W, b in zip(*params, strict=True):
            X = relu(W @ X + b)
        return jnp.mean((X - 1) ** 2)

    return loss


def padded(dtype, layers, examples=12, padding=8):
    """Parameters with zero biases, and examples of which some are zero: there every unit is at its kink."""
    rng = np.random.default_rng(0)
    W = [rng.normal(size=(5, 5)).astype(dtype) * 0.8 for _ in range(layers)]
    X = rng.normal(size=(5, examples + padding)).astype(dtype)
    X[:, examples:] = 0
    return (W, [np.zeros((5, 1), dtype)] * layers), X


@pytest.mark.parametrize(
    ("dtype", "layers", "relu"),
    slow_but(
        zip(cycle(DTYPES), repeat(1), ["maximum", "jax.nn", "mask"]),
        product(DTYPES, [1, 4], RELUS),
    ),
    indirect=["dtype"],
)
def test_one_convention_everywhere_is_right_however_deep(dtype, relu, layers):
    params, X = padded(dtype, layers)
    for slope in (0.0, 0.5, 1.0):
        assert verdict(chain(RELUS[relu]), jax.grad(chain(sloped(slope))), params, X) == "PASS"
    assert verdict(chain(RELUS[relu]), jax.grad(chain(sloped(2.0))), params, X) == "FAIL"


@float64_is_slow
def test_examples_that_share_a_tie_fall_to_one_side(dtype):
    """Forty zero columns are at the kink of b together: the same part of each of their slopes goes into db."""
    params, X = padded(dtype, 1, 20, 40)
    loss = chain(RELUS["maximum"])

    def scaled(slope, factor):
        def gradient(params, X):
            dW, db = jax.grad(chain(sloped(slope)))(params, X)
            return dW, [factor * g for g in db]

        return gradient

    each = np.random.default_rng(1).uniform(size=(5, 1))
    for right in (scaled(0.0, 1.0), scaled(1.0, 1.0), scaled(each, 1.0)):
        assert verdict(loss, right, params, X) == "PASS"
    for wrong in (scaled(0.0, 0.8), scaled(1.0, 1.25), scaled(0.5, -1.0)):
        assert verdict(loss, wrong, params, X) == "FAIL"


@pytest.mark.slow  # test_tricky.py has the same for one leaf
def test_a_hundred_thousand_units_at_their_kink(dtype):
    v = np.random.default_rng(0).normal(size=100_000).astype(dtype)
    params, x = (np.zeros((v.size, 2), dtype), np.zeros(v.size, dtype)), np.array([0.5, -0.25], dtype)
    loss = lambda params, x: jnp.sum(v * jnp.maximum(params[0] @ x + params[1], 0))
    gradient = lambda slope: (slope * v[:, None] * x, slope * v)
    for slope in (0.0, 0.5, 1.0):
        assert verdict(loss, gradient(slope), params, x) == "PASS"
    assert verdict(loss, gradient(1.2), params, x) == "FAIL"
    assert verdict(loss, (gradient(0.0)[0], gradient(1.0)[1]), params, x) != "PASS"  # each is right, not both at once


# ---------------------------------------------------------------- several leaves


def test_a_bug_in_one_leaf_is_no_matter_of_the_ties_of_another():
    weights = np.array([1.5, -0.5, 2.0], np.float32)
    loss = lambda p: jnp.sum(weights * jnp.maximum(p[0], 0)) + jnp.sum(p[1] ** 2)
    params = np.zeros(3, np.float32), np.ones(3, np.float32)
    gradient = lambda p: (0 * p[0], 3 * p[1])
    report = check_gradients(loss, gradient, params, raise_=False)
    assert [leaf.verdict for leaf in report.leaves.values()] == ["PASS", "FAIL"], str(report)


def test_leaves_that_take_different_sides_of_one_tie():
    weights = np.random.default_rng(0).normal(size=40).astype(np.float32)
    loss = lambda p: jnp.sum(weights * jnp.maximum(2 * p[0] + p[1], 0))
    params = (np.zeros(40, np.float32), np.zeros(40, np.float32))
    for right in ((2 * weights, weights), (0 * weights, 0 * weights)):
        assert verdict(loss, right, params) == "PASS"
    assert verdict(loss, (2 * weights, 0 * weights), params) != "PASS"


def test_the_absolute_value_inside_logsumexp_is_not_a_kink():
    """JAX's logsumexp takes it, for its weights' sake; its largest entry is behind a stop."""
    x = jnp.zeros(4)
    assert not has_kinks(jax.make_jaxpr(jax.nn.logsumexp)(x))
    assert not has_kinks(jax.make_jaxpr(lambda x: jnp.sum(jax.nn.log_softmax(x) * jnp.arange(4.0)))(x))
    assert has_kinks(jax.make_jaxpr(lambda x: jnp.abs(jnp.sum(x)))(x))
    assert has_kinks(jax.make_jaxpr(lambda x: jax.nn.logsumexp(x, b=x))(x))
    assert has_kinks(jax.make_jaxpr(lambda x: jax.jit(jax.nn.relu)(jnp.exp(x) - 1)[0])(x))


def test_an_index_is_no_kink():
    """That i < 0 counts from the end is a comparison, of numbers that do not move."""
    x = jnp.zeros(4)
    assert not has_kinks(jax.make_jaxpr(lambda x, i: x[i])(x, 2))
    assert has_kinks(jax.make_jaxpr(lambda x: x[jnp.argmax(x)])(x))
    assert has_kinks(jax.make_jaxpr(lambda x: jnp.abs(jnp.sum(jax.lax.complex(x, x))))(x))


@pytest.mark.slow
@float64_is_slow
def test_a_tie_that_others_below_it_may_hide(dtype):
    """To either side of the point the units below may hold the upper one down; not wherever they themselves are off."""
    W = np.array([-1, -2, 3, -2], dtype)
    loss = lambda p: jnp.sum(jax.nn.relu(p[1] + W @ jax.nn.relu(p[0])) + p[1]) + jnp.sum(jnp.sin(p[0]))
    params = np.zeros(4, dtype), np.zeros(1, dtype)
    for key in range(12):
        assert verdict(loss, (np.ones(4), np.full(1, 2.0)), params, key=key) == "PASS"
        assert verdict(loss, (np.ones(4), np.full(1, 2.1)), params, key=key) == "FAIL"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "masked"), slow_but([("float32", True)], product(DTYPES, [False, True])), indirect=["dtype"]
)
def test_infinities_that_a_maximum_passes_over(dtype, masked):
    """logsumexp takes the larger of -inf and its largest entry off; without it exp(40) would make ties of all else."""
    w = np.array([1.5, -0.5, 2.0], dtype)

    def loss(params):
        Z, y = params
        Z = jnp.where(jnp.arange(3)[:, None] == 2, -jnp.inf, Z) if masked else Z
        return jnp.sum(jax.nn.logsumexp(Z, 0)) + jnp.sum(w * jnp.abs(y))

    Z = np.array([[40, 1], [39, 0.5], [38, -3]], dtype)
    for slope, expected in ((0.3, "PASS"), (1.0, "PASS"), (1.3, "FAIL")):
        gradient = lambda params, slope=slope: (jax.grad(loss)(params)[0], slope * w)
        assert verdict(loss, gradient, (Z, np.zeros(3, dtype))) == expected


# ---------------------------------------------------------------- steps in the noise


@pytest.mark.parametrize(
    ("dtype", "weight"),
    slow_but([("float32", -1e-2)], product(DTYPES, [1e-2, 1e-1, 1.0, -1e-2])),
    indirect=["dtype"],
)
def test_the_step_that_a_rounding_takes_over_a_tie_is_no_tolerance(dtype, weight):
    """The larger of x[0] and x[1] has `weight`: one rounding moves it from one to the other, and no other entry."""
    loss = lambda x: weight * jnp.maximum(x[0], x[1]) + jnp.sum(jnp.sin(x))
    x = np.array([2, 2, 1, 0.5], dtype)
    for share in (0.0, 0.3, 0.5, 1.0):
        right = np.cos(np.float64(x)) + weight * np.array([share, 1 - share, 0, 0])
        assert verdict(loss, right, x) == "PASS"
        for entry in range(4):
            wrong = right + 0.05 * (np.arange(4) == entry)
            assert verdict(loss, wrong, x) == "FAIL"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "weight"), slow_but([("float32", 0.01)], product(DTYPES, [0.01, 1.0])), indirect=["dtype"]
)
def test_a_leaf_beside_equal_units_is_known_to_its_rounding(dtype, weight):
    rng = np.random.default_rng(0)
    W, V, X = (rng.normal(size=s).astype(dtype) for s in ((3, 3), (2, 3), (3, 4)))

    def loss(params):
        W, twin, V = params
        A = weight * jnp.maximum(jnp.tanh(W @ X), jnp.tanh(twin @ X)) + jnp.tanh(0.5 * W @ X)
        return jnp.mean((V @ A - 1) ** 2)

    right = jax.grad(loss)((W, W.copy(), V))
    assert verdict(loss, right, (W, W.copy(), V)) == "PASS"
    for leaf in range(3):
        wrong = tuple(1.05 * g if k == leaf else g for k, g in enumerate(right))
        assert verdict(loss, wrong, (W, W.copy(), V)) == "FAIL"


@float64_is_slow
def test_a_number_at_its_kink(dtype):
    x = np.zeros((), dtype)
    for slope, said in ((0.0, "PASS"), (0.3, "PASS"), (1.2, "FAIL")):
        assert verdict(lambda x: 3 * jnp.maximum(x, 0), lambda x, slope=slope: 3 * slope + 0 * x, x) == said

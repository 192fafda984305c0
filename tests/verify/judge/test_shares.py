"""Each tie may be shared out in its own way; what no shares give is wrong."""

from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnet.verify import check_gradients
from tests.marks import DTYPES, float32_is_slow, float64_is_slow, slow_but
from tests.verify.verdicts import verdict


def net(relu):
    """A net of relu layers with a linear one on top; relu is given the layer's number."""

    def loss(params, X):
        (*W, W_out), (*b, b_out) = params
        for layer, (W_l, b_l) in enumerate(zip(W, b, strict=True)):
            X = relu(W_l @ X + b_l, layer)
        return jnp.mean((W_out @ X + b_out - 1) ** 2 * jnp.arange(1, 1 + X.shape[1]))

    return loss


LOSS = net(lambda Z, layer: jax.nn.relu(Z))


def shared_out(shares):
    """The gradient whose relu has its own derivative at each 0."""
    relu = lambda Z, layer: jnp.where(Z == 0, jnp.asarray(shares[layer], Z.dtype) * Z, jnp.maximum(Z, 0))
    return jax.grad(net(relu))


def point(dtype, sizes, m=8, seed=0):
    """Weights, zero biases in all layers but the last, and examples."""
    rng = np.random.default_rng(seed)
    W = [rng.normal(size=(b, a)).astype(dtype) for a, b in pairwise(sizes)]
    b = [np.zeros((w.shape[0], 1), dtype) for w in W]
    b[-1] = rng.normal(size=b[-1].shape).astype(dtype)
    return (W, b), rng.normal(size=(sizes[0], m)).astype(dtype), rng


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "seed"), slow_but([("float32", 0)], product(DTYPES, range(2))), indirect=["dtype"])
def test_each_unit_has_its_own_share_of_padded_examples(dtype, seed):
    params, X, rng = point(dtype, (3, 4, 2), m=40, seed=seed)
    X[:, 4:] = 0
    assert verdict(LOSS, shared_out([rng.uniform(size=(4, 1))]), params, X) == "PASS"
    for beyond in (1.2, -0.1):
        assert verdict(LOSS, shared_out([beyond]), params, X) == "FAIL"


@pytest.mark.slow  # a share for each tie, few of them, stands in the tests around it
def test_hundreds_of_ties_in_one_layer(dtype):
    params, X, rng = point(dtype, (6, 24, 2), m=10)
    params[0][0][4:] = 0  # twenty units at exactly 0 for all ten examples
    shares = rng.uniform(size=(24, 10))
    assert verdict(LOSS, shared_out([shares]), params, X) == "PASS"
    beyond = np.where(np.arange(24)[:, None] == 7, 1.5, shares)
    assert verdict(LOSS, shared_out([beyond]), params, X) == "FAIL"
    beyond = np.where(np.arange(240).reshape(24, 10) == 73, 1.5, shares)  # a formula passes with it: entry by entry
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        numbers = shared_out([beyond])(params, X)
    assert verdict(LOSS, numbers, params, X) != "PASS"


@float64_is_slow
@pytest.mark.parametrize("fault", [lambda b: 1.5 * b, lambda b: 0 * b, lambda b: -b])
def test_a_bias_that_does_not_fit_the_shares_of_its_weights(dtype, fault):
    """Its entries may each lie between what their ties give, only not with dW as it is."""
    params, X, _ = point(dtype, (3, 4, 2))
    params[0][0][1:3] = 0

    def gradient(params, X):
        dW, (db, db_out) = jax.grad(LOSS)(params, X)
        return dW, [fault(db), db_out]

    assert verdict(LOSS, gradient, params, X) == "FAIL"


@pytest.mark.parametrize(("dtype", "seed"), slow_but([], product(DTYPES, range(2))), indirect=["dtype"])
def test_one_value_at_zero_through_three_layers(dtype, seed):
    params, X, rng = point(dtype, (3, 4, 4, 4, 2), seed=seed)
    X[:, 4:] = 0
    assert verdict(LOSS, shared_out([0.3] * 3), params, X) in (("PASS",) if seed else ("PASS", "INCONCLUSIVE"))
    assert verdict(LOSS, shared_out([1.2] * 3), params, X) != "PASS"
    if seed:
        assert verdict(LOSS, shared_out([rng.uniform(size=(4, 1)) for _ in range(3)]), params, X) == "PASS"


@pytest.mark.slow
@float64_is_slow
def test_twins_that_feed_a_maximum(dtype):
    rng = np.random.default_rng(0)
    W, X, s = rng.normal(size=(3, 3)), rng.normal(size=(3, 6)), rng.uniform(size=(3, 6))
    params, X = np.concatenate([W, W]).astype(dtype), X.astype(dtype)

    def mixed(share):
        def loss(W, X):
            one, other = jnp.split(jnp.tanh(W @ X), 2)
            top = jnp.maximum(one, other) if share is None else share * one + (1 - share) * other
            return jnp.mean(top**3 + top)

        return loss

    right = jax.grad(mixed(jnp.asarray(s, dtype)))(params, X)
    assert verdict(mixed(None), lambda *_: right, params, X) == "PASS"
    assert verdict(mixed(None), lambda *_: right.at[1].multiply(1.5), params, X) == "FAIL"


# ---------------------------------------------------------------- ties that are one


def softplus(x):
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


SMOOTH = {
    "softplus": (softplus, 0.5, 0.9),
    "sum of larger and smaller": (lambda x: jnp.maximum(x, 3 * x) + jnp.minimum(x, 3 * x), 4.0, 3.0),
}


@float64_is_slow
@pytest.mark.parametrize("name", SMOOTH)
def test_kinks_that_cancel_are_none_even_beside_one_that_does_not(dtype, name):
    """x[0] stands at ties of one function, that cancel; x[1] at a true kink of the same leaf."""
    f, true, other = SMOOTH[name]
    loss = lambda x: f(x[0]) + jnp.abs(x[1])
    x = np.zeros(2, dtype)
    for side in (-1.0, 0.3, 1.0):
        assert verdict(loss, [true, side], x) == "PASS"
        assert verdict(loss, [other, side], x) != "PASS"


@float64_is_slow
def test_opposite_ties_of_one_function_that_cancel(dtype):
    """relu(x) - relu(-x) is x: its derivative is 1, autodiff's convention 0, and nothing between or beyond is right."""
    loss = lambda x: jax.nn.relu(x[0]) - jax.nn.relu(-x[0]) + jnp.abs(x[1])
    x = np.zeros(2, dtype)
    for side in (-1.0, 0.3, 1.0):
        assert verdict(loss, [1.0, side], x) == "PASS"
        for wrong in (0.5, 2.0, -1.0):
            assert verdict(loss, [wrong, side], x) == "FAIL"
    assert verdict(loss, [0.0, 1.0], x) == "PASS"


@float32_is_slow
def test_opposite_ties_that_do_not_cancel_take_any_convention(dtype):
    loss = lambda x: jnp.sum(jax.nn.relu(x) - 0.25 * jax.nn.relu(-x))
    for slope in (0.25, 0.6, 1.0):
        assert verdict(loss, np.full(2, slope), np.zeros(2, dtype)) == "PASS"
    assert verdict(loss, np.full(2, -0.2), np.zeros(2, dtype)) != "PASS"


# ---------------------------------------------------------------- layers upon layers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "seed", "factor"),
    slow_but([("float32", 1, -1.0)], [(dtype, *case) for dtype in DTYPES for case in ((0, 1.5), (1, -1.0))]),
    indirect=["dtype"],
)
def test_a_wrong_bias_below_another_layer_of_ties(dtype, seed, factor):
    """Shares multiply there; but all that they give lies between what comes of breaking each tie to one side."""
    params, X, rng = point(dtype, (3, 4, 4, 2), seed=seed)
    X[:, 4:] = 0
    right = shared_out([0.0, 0.0])

    def gradient(params, X):
        dW, (db, *rest) = right(params, X)
        return dW, [factor * db, *rest]

    assert verdict(LOSS, gradient, params, X) == "FAIL"
    for slopes in ([0.0, 0.0], [0.7, 0.2], [rng.uniform(size=(4, 1)) for _ in range(2)]):
        assert verdict(LOSS, shared_out(slopes), params, X) == "PASS"


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "seed"), slow_but([("float32", 0)], product(DTYPES, range(2))), indirect=["dtype"])
def test_magnitudes_upon_magnitudes(dtype, seed):
    """Half of each side of |x| is flat, and would hide every tie below it."""
    params, X, rng = point(dtype, (2, 2, 2, 1), seed=seed)
    X[:, 3:] = 0
    shares = rng.uniform(size=(2, 2, 1)).astype(dtype)
    right = jax.grad(net(lambda Z, layer: jnp.where(Z == 0, (2 * shares[layer] - 1) * Z, jnp.abs(Z))))
    assert verdict(net(lambda Z, layer: jnp.abs(Z)), right, params, X) == "PASS"


# ---------------------------------------------------------------- many orders


@float64_is_slow
@pytest.mark.parametrize("seed", range(6))
def test_the_largest_of_equals_in_any_order(dtype, seed):
    rng = np.random.default_rng(seed)
    w, x = rng.normal(size=3).astype(dtype), np.array([1, 2, 1, 2, 1, 0], dtype)
    loss = lambda x: w @ lax.top_k(x, 3)[0]
    order = np.lexsort((rng.permutation(6), -x))[:3]
    right = np.zeros(6)
    right[order] = w
    assert verdict(loss, right, x) != "FAIL"
    too_much = right + 0.5 * (np.arange(6) == order[0])  # a wrong sum over the tied group
    assert verdict(loss, too_much, x) == "FAIL"


def test_the_interval_of_the_report_holds_the_gradient():
    x = np.zeros((2, 5), np.float32)
    report = check_gradients(lambda x: jnp.sum(jnp.abs(x)), lambda x: jnp.full_like(x, 0.25), x)
    assert "[-1, 1]" in report.leaves[""].note

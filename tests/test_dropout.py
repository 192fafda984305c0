"""Dropout: masks of the right mean, the notes' formulas with them, and prediction that drops nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.dropout import masks
from tests import cases, oracle
from tests.comparison import assert_trees_close

NET = jaxnet.MLP((5, 4, 3, 3), ("tanh", "gelu", "softmax"), dropout=(0.4, 0.25, 0.0))
PLAIN = jaxnet.MLP((5, 4, 3, 3), ("tanh", "gelu", "softmax"))
KEY = jax.random.key(3)


def test_a_mask_is_0_at_its_rate_and_has_mean_1():
    m = 20_000
    first, second, third, last = masks(NET, KEY, jnp.ones((5, m)))
    assert first is None and last is None
    for D, rate, n in ((second, 0.4, 4), (third, 0.25, 3)):
        assert D.shape == (n, m) and set(np.unique(D).tolist()) == {0.0, float(np.float32(1 / (1 - rate)))}
        zeros = (np.asarray(D) == 0).mean(axis=1)  # of each unit
        assert np.abs(zeros - rate).max() < 5 * np.sqrt(rate * (1 - rate) / m)
    together = np.corrcoef(np.concatenate([second, third]) == 0)
    assert np.abs(together - np.eye(7)).max() < 5 / np.sqrt(m)  # no unit goes with another


def test_a_key_is_a_mask():
    D = masks(NET, KEY, jnp.ones((5, 8)))
    again, other = masks(NET, KEY, jnp.ones((5, 8))), masks(NET, jax.random.key(4), jnp.ones((5, 8)))
    assert all(np.array_equal(a, b) for a, b in zip(D[1:3], again[1:3], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(D[1:3], other[1:3], strict=True))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_the_passes_are_the_oracle_s_with_these_masks(weighted, key, x64):
    params, X, Y, weights = cases.point(NET, key)
    weights = weights if weighted else None
    D = masks(NET, KEY, X)
    A, cache = jaxnet.forward(NET, params, X, key=KEY)
    J, grads = jaxnet.value_and_grad(NET, params, X, Y, weights, key=KEY)
    w = 1 / X.shape[1] if weights is None else (weights / weights.sum())[None, :]
    _, dX = jaxnet.backward(NET, params, cache, w * (A - Y))

    on_host = [*jax.tree.map(np.asarray, (params, X, Y)), NET.activations, NET.loss]
    on_host.append(None if weights is None else np.asarray(weights))
    kept = [None if mask is None else np.asarray(mask) for mask in D]
    want, want_dX = oracle.backward(*on_host, masks=kept)
    np.testing.assert_allclose(J, oracle.cost(*on_host, masks=kept), rtol=1e-12)
    got = {"grads": tuple(map(tuple, grads)), "dX": dX}
    assert_trees_close(got, {"grads": tuple(map(tuple, want)), "dX": want_dX}, rtol=1e-12)


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 1e-5)])
def test_backward_is_autodiff_s(dtype, rtol, key, x64):
    params, X, Y, weights = cases.point(NET, key, dtype=dtype)
    step = dict(weights=weights, key=KEY)
    _, by_hand = jax.jit(jaxnet.value_and_grad, static_argnums=0)(NET, params, X, Y, **step)
    assert_trees_close(by_hand, jax.jit(jax.grad(jaxnet.cost, 1), static_argnums=0)(NET, params, X, Y, **step), rtol)


def test_the_verifier_passes_it_and_refuses_the_gradient_without_masks(key):
    params, X, Y, _ = cases.point(NET, key, dtype="float32")
    by_hand = lambda params, **step: jaxnet.value_and_grad(NET, params, X, Y, **step)[1]
    loss = lambda params: jaxnet.cost(NET, params, X, Y, key=KEY)
    assert jaxnet.check_gradients(loss, lambda params: by_hand(params, key=KEY), params).passed
    assert jaxnet.check_gradients(loss, by_hand, params, raise_=False).verdict == "FAIL"


def test_what_is_left_counts_for_what_is_dropped(x64):
    """The mean of Z[L] over masks is Z[L] of the whole net, where all layers are linear."""
    net = jaxnet.MLP((3, 6, 2), ("identity", "identity"), dropout=0.5)
    params, X, *_ = cases.point(net, jax.random.key(0))
    outputs = jax.vmap(lambda key: jaxnet.forward(net, params, X, key=key)[0])(jax.random.split(KEY, 20_000))
    error = np.abs(outputs.mean(axis=0) - jaxnet.predict(net, params, X))
    assert (error < 5 * outputs.std(axis=0) / np.sqrt(20_000)).all()
    assert (outputs.std(axis=0) > 0.1).all()


def test_without_a_key_and_in_prediction_nothing_is_dropped(key):
    params, X, Y, _ = cases.point(PLAIN, key, dtype="float32")
    plain = jaxnet.predict(PLAIN, params, X)
    np.testing.assert_array_equal(jaxnet.predict(NET, params, X), plain)
    np.testing.assert_array_equal(jaxnet.forward(NET, params, X)[0], jaxnet.forward(PLAIN, params, X, key=KEY)[0])
    assert jaxnet.cost(NET, params, X, Y) == jaxnet.cost(PLAIN, params, X, Y) != jaxnet.cost(NET, params, X, Y, key=KEY)


def test_a_step_drops_by_its_state_s_key_and_moves_it_on(key):
    params, X, Y, _ = cases.point(NET, key, dtype="float32")
    optimizer = optax.sgd(0.5)
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), KEY)
    step = jax.jit(jaxnet.train_step(NET, optimizer))
    autodiff = jax.jit(jax.grad(jaxnet.cost, 1), static_argnums=0)
    key = KEY
    for _ in range(3):
        key, of_step = jax.random.split(key)
        grads = autodiff(NET, params, X, Y, key=of_step)
        params = jax.tree.map(lambda leaf, grad: leaf - 0.5 * grad, params, grads)
        state, _ = step(state, X, Y)
    assert_trees_close(state.params, params, rtol=1e-5)
    assert jnp.array_equal(jax.random.key_data(state.key), jax.random.key_data(key))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 60)).astype("float32")
    return X, jaxnet.one_hot(np.argmax(X[:3], axis=0), 3)


@pytest.mark.usefixtures("implicit_promotion")
def test_fit_resumes_exactly_and_validates_the_whole_net(data):
    common = dict(batch_size=16, validation=data, learning_rate=0.01, progress=False)
    whole = jaxnet.fit(NET, *data, key=KEY, epochs=4, **common)
    first = jaxnet.fit(NET, *data, key=KEY, epochs=2, **common)
    resumed = jaxnet.fit(NET, *data, epochs=4, resume=first, **common)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole.params, resumed.params))
    np.testing.assert_allclose(whole.history["validation_cost"][-1], jaxnet.cost(NET, whole.params, *data), rtol=1e-6)
    plain = jaxnet.fit(PLAIN, *data, key=KEY, epochs=4, **common)
    assert not np.array_equal(plain.params[0].W, whole.params[0].W)


@pytest.mark.usefixtures("implicit_promotion")
@pytest.mark.parametrize("layout", ["data", "fsdp+tensor"])
def test_several_devices_drop_what_one_does(data, layout):
    net = jaxnet.MLP((5, 8, 3), ("tanh", "softmax"), dropout=0.5)
    common = dict(key=KEY, epochs=3, batch_size=16, learning_rate=0.01, progress=False)
    one = jaxnet.fit(net, *data, **common)
    mesh = jaxnet.parallel.mesh(2, model=1 if layout == "data" else 2)
    several = jaxnet.fit(net, *data, mesh=mesh, layout=layout, **common)
    np.testing.assert_allclose(several.history["cost"], one.history["cost"], rtol=1e-5)
    assert_trees_close(several.params, one.params, rtol=1e-5)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    "dropout, message",
    [
        (1.0, r"dropout is 1\.0; expected a number above 0 and below 1, such as 0\.2, or 0"),
        ((0.2, -0.1, 0), r"dropout\[1\] is -0\.1; expected a number above 0 and below 1"),
        ((0.2, 0.1), r"dropout is \(0\.2, 0\.1\); expected a rate for each of the 3 layers, of which the last is 0"),
        ((0.2, 0.1, 0.1), "of which the last is 0 .the output is never dropped.*, or one for all hidden layers"),
        ("half", "dropout is 'half'; expected a number above 0 and below 1"),
    ],
)
def test_a_rate_that_is_none_is_refused(dropout, message):
    with pytest.raises(ValueError, match=message):
        jaxnet.MLP(NET.sizes, NET.activations, dropout=dropout)


def test_a_key_that_is_none_is_refused(key, untyped):
    params, X, Y, _ = cases.point(NET, key, dtype="float32")
    with pytest.raises(TypeError, match="key is 7; expected one JAX random key"):
        jaxnet.value_and_grad(NET, params, X, Y, key=7)


def test_rates_are_part_of_the_network(tmp_path):
    assert jaxnet.MLP(NET.sizes, NET.activations, dropout=0.3).rates == (0.3, 0.3, 0.0)
    assert jaxnet.MLP(NET.sizes, NET.activations, dropout=[0.0, 0.0, 0.0]) == PLAIN != NET
    assert repr(NET).endswith("dropout=(0.4, 0.25, 0.0))") and eval(repr(NET), {"MLP": jaxnet.MLP}) == NET
    jaxnet.save(tmp_path / "net", NET, jaxnet.init(NET, KEY))
    assert jaxnet.load(tmp_path / "net")[0] == NET

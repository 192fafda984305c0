"""Params in other libraries: back as they were, and the same outputs there as here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from experiments.benchmarks import peers
from experiments.benchmarks.peers import convert
from tests.comparison import assert_trees_close

SIZES, HIDDEN = (5, 7, 7, 3), "tanh"  # Equinox' MLP has one hidden width


@functools.cache
def example(n_y=3):
    """A net, its params, X (5, 6) and the net's output A and logits Z."""
    net = jaxnet.MLP((*SIZES[:-1], n_y), (HIDDEN, HIDDEN, "sigmoid" if n_y == 1 else "softmax"))
    keys = jax.random.split(jax.random.key(0), 3)
    params = tuple(jaxnet.Layer(W, b + 0.1 * k) for k, (W, b) in enumerate(jaxnet.init(net, keys[0]), start=1))
    X = jax.random.normal(keys[1], (5, 6))
    A, cache = jaxnet.forward(net, params, X)
    return net, params, X, A, cache[-1].Z


def assert_same(Z_rows, Z):
    np.testing.assert_allclose(np.asarray(Z_rows), np.asarray(Z.T), rtol=1e-4, atol=1e-6)


def test_rows():
    _, params, X, _, Z = example()
    rows = convert.to_rows(params)
    assert_trees_close(convert.from_rows(rows), params, 0)
    A = X.T
    for W, b in rows[:-1]:
        A = jnp.tanh(A @ W + b)
    assert_same(A @ rows[-1][0] + rows[-1][1], Z)


def test_rows_have_memory_of_their_own():
    """A peer that donates its params leaves ours alone."""
    _, params, *_ = example()
    [(W, _), *_] = convert.to_rows(params)
    W.delete()
    assert np.isfinite(params[0].W).all()


@pytest.mark.parametrize("n_y", [1, 2, 3])
def test_scikit_learn(n_y):
    """Of two classes it holds one output: the logits differ, the probabilities do not."""
    from sklearn.neural_network import MLPClassifier

    net, params, X, A, _ = example(n_y)
    labels = np.arange(6) % max(2, n_y)
    model = MLPClassifier((7, 7), HIDDEN, max_iter=1, random_state=0)
    with peers.sklearn.without_convergence_warnings():
        model.fit(np.asarray(X.T), labels)
    found = jax.tree.map(jnp.asarray, convert.from_sklearn(model.coefs_, model.intercepts_, n_y))
    probabilities = np.asarray(jaxnet.predict(net, found, X)).T
    expected = model.predict_proba(np.asarray(X.T))
    np.testing.assert_allclose(probabilities, expected[:, 1:] if n_y == 1 else expected, rtol=1e-4)

    model.coefs_, model.intercepts_ = convert.to_sklearn(params)
    expected = model.predict_proba(np.asarray(X.T))
    np.testing.assert_allclose(np.asarray(A).T, expected[:, 1:] if n_y == 1 else expected, rtol=1e-4)
    if n_y != 2:
        assert_trees_close(convert.from_sklearn(*convert.to_sklearn(params), n_y), params, 0)


def test_equinox():
    equinox = pytest.importorskip("equinox")
    _, params, X, _, Z = example()
    empty = equinox.nn.MLP(5, 3, 7, 2, jnp.tanh, key=jax.random.key(1))
    model = convert.to_equinox(params, empty)
    assert_same(jax.vmap(model)(X.T), Z)
    assert_trees_close(convert.from_equinox(model), params, 0)
    with pytest.raises(ValueError, match="build it with those widths"):
        convert.to_equinox(params[1:], empty)


@pytest.mark.usefixtures("implicit_promotion")
def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")
    _, params, X, _, Z = example()
    first, second, last = layers = [nnx.Linear(*n, rngs=nnx.Rngs(0)) for n in ((5, 7), (7, 7), (7, 3))]
    convert.to_nnx(params, layers)
    assert_same(last(jnp.tanh(second(jnp.tanh(first(X.T))))), Z)
    assert_trees_close(convert.from_nnx(layers), params, 0)


def test_torch():
    torch = pytest.importorskip("torch")
    _, params, X, _, Z = example()
    model = convert.to_torch(params, HIDDEN)
    assert_same(model(torch.tensor(np.array(X.T))).detach(), Z)
    assert_trees_close(convert.from_torch(model), params, 0)
    with pytest.raises(ValueError, match=r"hidden is 'cube'; expected one of relu, tanh"):
        convert.to_torch(params, "cube")


@pytest.mark.filterwarnings("default")  # it warns of its own code
def test_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip("keras")
    keras = peers.keras.keras_on_jax()
    _, params, X, _, Z = example()
    layers = [keras.layers.Dense(7, HIDDEN), keras.layers.Dense(7, HIDDEN), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.set_weights(convert.to_keras(params))
    with jax.numpy_rank_promotion("allow"):  # it adds a bias (n,) to rows
        Z_rows = model.predict_on_batch(np.asarray(X.T))
    assert_same(Z_rows, Z)
    assert_trees_close(convert.from_keras(model.get_weights()), params, 0)
    assert_trees_close(convert.from_keras(convert.to_keras(params)), params, 0)

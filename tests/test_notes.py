"""The notes' own example: a 2-4-1 tanh/sigmoid net, full-batch gradient descent, against a NumPy transcription."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from experiments import notes
from jaxnet.datasets import flower
from tests.marks import slow_but

RATE, STEPS = 1.2, 10_000


def descent(params, steps):
    """Section 8: repeat { predict; dW, db; W -= rate dW }, in NumPy and float64."""
    X, Y = flower()
    for _ in range(steps):
        grads = notes.gradient(params, X, Y)
        params = jax.tree.map(lambda leaf, dleaf: leaf - RATE * dleaf, params, grads)
        yield params


@pytest.mark.parametrize(("dtype", "tolerance"), slow_but([("float64", 1e-9)], [("float64", 1e-9), ("float32", 1e-3)]))
def test_ten_thousand_steps_follow_the_notes(dtype, tolerance):
    key = jax.random.key(1)  # from some other starts the descent itself is chaotic and multiplies a rounding by 1e9
    with jax.enable_x64(dtype == "float64"):
        net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
        X, Y = flower()
        params = jaxnet.init(net, key, 0.01, dtype)
        path = list(descent(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params), STEPS))

        def run(steps):
            return jaxnet.fit(
                net, X.astype(dtype), Y.astype(dtype), key=key, optimizer=optax.sgd(RATE), steps=steps,
                batch_size=None, params=params, progress=False,
            )  # fmt: skip

        for steps in (1, 2, 10, 100, STEPS):
            result = run(steps)
            assert int(result.state.step) == steps == len(result.history["cost"])
            for got, want in zip(jax.tree.leaves(result.params), jax.tree.leaves(path[steps - 1]), strict=True):
                assert got.dtype == jnp.dtype(dtype)
                np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)
        assert result.history["accuracy"][-1] > 0.85 > 0.65 > result.history["accuracy"][0]


def test_zero_start_keeps_the_hidden_units_equal(key):
    """Section 10: with zeros the rows of W[1] stay bit-equal; randn * 0.01 breaks the symmetry."""
    net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    X, Y = flower()

    def rows(scheme):
        start = jaxnet.init(net, key, scheme)
        result = jaxnet.fit(
            net, X, Y, key=key, optimizer=optax.sgd(RATE), steps=300, batch_size=None, params=start, progress=False
        )
        return np.asarray(result.params[0].W)

    assert not np.signbit(jaxnet.init(net, key, "zeros")[0].W).any()  # 0, not -0
    with pytest.warns(jaxnet.TrainingWarning, match="the cost never changed: 0.693147 in all 300 epochs"):
        equal = rows("zeros")
    assert (equal == equal[0]).all()
    assert (np.std(rows(0.01), axis=0) > 0.1).all()


def test_init_follows_its_scheme(key):
    net = jaxnet.MLP((300, 200, 100), ("relu", "identity"))
    deviations = {"he": (2 / 300) ** 0.5, "xavier": (2 / 500) ** 0.5, "lecun": (1 / 300) ** 0.5, 0.01: 0.01, "zeros": 0}
    for scheme, deviation in deviations.items():
        params = jaxnet.init(net, key, scheme)
        np.testing.assert_allclose(params[0].W.std(), deviation, rtol=0.02)
        assert all((layer.b == 0).all() and layer.b.shape == (layer.W.shape[0], 1) for layer in params)
    first, second = jaxnet.init(net, key), jaxnet.init(net, key)
    assert all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(second)))
    assert not np.array_equal(first[0].W[:100, :200], first[1].W)


def test_linear_layers_are_one_linear_layer(key, x64):
    """Section 6: identity activations compute W'x + b' with W' = W[2] W[1] and b' = W[2] b[1] + b[2]."""
    net = jaxnet.MLP((3, 5, 2), ("identity", "identity"))
    (W1, b1), (W2, b2) = (layer._replace(b=layer.b + 0.5) for layer in jaxnet.init(net, key, dtype=jnp.float64))
    X = jax.random.normal(key, (3, 7), jnp.float64)
    A, _ = jaxnet.forward(net, (jaxnet.Layer(W1, b1), jaxnet.Layer(W2, b2)), X)
    np.testing.assert_allclose(A, (W2 @ W1) @ X + (W2 @ b1 + b2), rtol=1e-12)

"""Batches of any size share few programs: of streams, and of `predict`, where no number may tell of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet import parallel
from jaxnet._xla.buckets import SMALL, bucket, within_an_eighth
from jaxnet.parallel import meshes
from tests.comparison import assert_trees_close

NET = jaxnet.MLP((5, 7, 3), ("tanh", "softmax"))
X = np.random.default_rng(0).normal(size=(5, 700)).astype(np.float32)


@pytest.fixture
def params(key):
    return jaxnet.init(NET, key)


def test_at_most_an_eighth_is_padding_and_powers_of_two_have_none():
    widths = [within_an_eighth(m) for m in range(1, 4097)]
    assert all(m <= width <= 1.125 * m for m, width in enumerate(widths, 1)) and len(set(widths)) == 80
    assert all(within_an_eighth(2**power) == bucket(2**power) == 2**power for power in range(13))


def test_what_is_computed_once_has_fewer_widths_where_it_is_small():
    widths = [bucket(m) for m in range(1, 4097)]
    assert all(m <= width < 2 * m or m == width == 1 for m, width in enumerate(widths[:SMALL], 1))
    assert widths[SMALL:] == [within_an_eighth(m) for m in range(SMALL + 1, 4097)]
    assert len({*widths[:SMALL]}) == 9 and len({*widths}) == 9 + 8 * 4


def test_forty_sizes_of_requests_are_a_handful_of_programs(params, compiled):
    for m in range(1, 41):
        jaxnet.predict(NET, params, X[:, :m])
    assert compiled.count("jit(_predict)") == 7  # 1, 2, 4, ..., 64
    assert len(compiled) <= 2 * 7, compiled  # and none to slice an answer for each size


@pytest.mark.parametrize(
    "net",
    [
        NET,
        jaxnet.MLP((5, 1), ("sigmoid",)),
        jaxnet.MLP((5, 64, 33, 10), ("relu", "gelu", "softmax")),
        jaxnet.MLP((5, 300, 2), ("silu", "identity")),
    ],
    ids=str,
)
@pytest.mark.parametrize("m", [3, 37, 100, 257, 700])
def test_an_answer_is_forward_s(net, m, key):
    params = jaxnet.init(net, key)
    A = jaxnet.predict(net, params, X[:, :m])
    assert A.shape == (net.sizes[-1], m) and isinstance(A, jax.Array) and A.dtype == jnp.float32
    assert_trees_close(A, jaxnet.forward(net, params, X[:, :m])[0], 1e-6)


@pytest.mark.parametrize("neighbours", [np.zeros, lambda shape: 1e3 * np.ones(shape)], ids=["zeros", "large"])
def test_an_answer_has_the_same_bits_whatever_the_others(params, neighbours):
    others = np.concatenate([X[:, :20], neighbours((5, 21)).astype(np.float32)], axis=1)
    np.testing.assert_array_equal(
        jaxnet.predict(NET, params, others)[:, :20], jaxnet.predict(NET, params, X[:, :41])[:, :20]
    )


def test_padding_brings_no_numbers_that_were_not_there(params):
    """A bias of infinity: of padding with zeros 0 times infinity would be NaN, which jax_debug_nans then finds."""
    infinite = (params[0]._replace(W=params[0].W.at[:, 0].set(jnp.inf)), params[1])
    with jax.debug_nans(True):
        assert np.isfinite(jaxnet.predict(NET, infinite, np.abs(X[:, :3]) + 1)).all()


def test_what_is_traced_or_split_is_not_padded(params, key):
    expected = jaxnet.forward(NET, params, X[:, :21])[0]
    close = lambda A: assert_trees_close(A, expected, 1e-6)
    close(jax.jit(lambda params, X: jaxnet.predict(NET, params, X))(params, X[:, :21]))
    close(jax.jit(lambda params: jaxnet.predict(NET, params, X[:, :21]))(params))
    close(jax.jit(lambda: jaxnet.predict(NET, params, X[:, :21]))())  # of what is traced nothing is an argument
    close(jax.vmap(lambda x: jaxnet.predict(NET, params, x[:, None])[:, 0], 1, 1)(X[:, :21]))
    grads = jax.grad(lambda params: jaxnet.predict(NET, params, X[:, :21])[0].sum())(params)
    assert_trees_close(grads, jax.grad(lambda params: jaxnet.forward(NET, params, X[:, :21])[0][0].sum())(params), 1e-5)
    mesh = parallel.mesh()
    everywhere = jax.device_put(params, meshes.replicated(mesh))
    close(jaxnet.predict(NET, everywhere, X[:, :21]))
    split = jaxnet.predict(NET, everywhere, jax.device_put(X[:, :24], meshes.columns(mesh)))
    assert len(split.devices()) == mesh.size
    close(split[:, :21])
    with pytest.raises(ValueError, match=r"X is empty, its shape is \(5, 0\)"):
        jaxnet.predict(NET, params, X[:, :0])


def test_the_answer_lies_where_the_params_lie(params):
    other = jax.devices()[3]
    assert jaxnet.predict(NET, jax.device_put(params, other), X[:, :21]).devices() == {other}
    assert not jaxnet.predict(NET, params, X[:, :21]).committed

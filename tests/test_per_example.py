"""Per-example work against vmap(jax.grad), in value and in the memory that the compiled program asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from tests import cases
from tests.comparison import assert_trees_close

NETS = pytest.mark.parametrize(
    "net", [cases.NETS[name] for name in ("square", "depth1-softmax", "depth4-sigmoid", "price")]
)
DTYPES = pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 2e-6)])


def by_autodiff(net, params, X, Y):
    """vmap(jax.grad) of one example's cost: each leaf with a leading axis of m."""
    one = jax.grad(lambda params, x, y: jaxnet.cost(net, params, x[:, None], y[:, None]))
    return jax.vmap(one, in_axes=(None, 1, 1))(params, X, Y)


def norms_of(grads):
    return jnp.sqrt(sum((leaf.reshape(leaf.shape[0], -1) ** 2).sum(axis=1) for leaf in jax.tree.leaves(grads)))


@NETS
@DTYPES
def test_grads_norms_and_clipped_sums(net, dtype, rtol, key):
    with jax.enable_x64(dtype == "float64"):
        params, X, Y, _ = cases.point(net, key, m=7, dtype=dtype)
        want = by_autodiff(net, params, X, Y)
        assert_trees_close(jaxnet.per_example_grads(net, params, X, Y), want, rtol)
        norms = jaxnet.per_example_norms(net, params, X, Y)
        np.testing.assert_allclose(norms, norms_of(want), rtol=rtol)

        max_norm = 0.5 * float(norms.max())  # some are clipped, some are not
        clip = jnp.minimum(1, max_norm / norms_of(want))
        clipped = jax.tree.map(lambda g: jnp.tensordot(clip, g, 1), want)
        assert_trees_close(jaxnet.clipped_grads(net, params, X, Y, max_norm), clipped, 2 * rtol)


def test_the_mean_is_the_gradient_of_the_cost(key, x64):
    net = cases.NETS["square"]
    params, X, Y, _ = cases.point(net, key)
    mean = jax.tree.map(lambda g: g.mean(axis=0), jaxnet.per_example_grads(net, params, X, Y))
    assert_trees_close(mean, jaxnet.value_and_grad(net, params, X, Y)[1], 1e-12)


def test_a_large_norm_clips_nothing(key, x64):
    net = cases.NETS["square"]
    params, X, Y, _ = cases.point(net, key)
    total = jax.tree.map(lambda g: X.shape[1] * g, jaxnet.value_and_grad(net, params, X, Y)[1])
    assert_trees_close(jaxnet.clipped_grads(net, params, X, Y, 1e6), total, 1e-12)


def test_noise_has_the_deviation_it_should_and_comes_from_the_key(key):
    net = jaxnet.MLP((200, 100, 3), ("tanh", "softmax"))
    params, X, Y, _ = cases.point(net, key, dtype=jnp.float32)
    plain = jaxnet.clipped_grads(net, params, X, Y, 0.5)
    noisy = jaxnet.clipped_grads(net, params, X, Y, 0.5, key, 3.0)
    noise = np.concatenate([np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (noisy, plain)), strict=True)])
    np.testing.assert_allclose(noise.std(), 1.5, rtol=0.02)
    assert abs(noise.mean()) < 0.05
    assert np.array_equal(jaxnet.clipped_grads(net, params, X, Y, 0.5, key, 3.0)[0].W, noisy[0].W)


def test_an_example_without_gradient_is_no_division_by_zero(key):
    net = cases.NETS["price"]
    params, X, _, _ = cases.point(net, key, dtype=jnp.float32)
    A = jaxnet.predict(net, params, X)
    grads = jaxnet.clipped_grads(net, params, X, A, 1.0)  # predictions as targets: every gradient is 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads))


def test_memory_is_that_of_a_step_not_of_m_gradients():
    """PERFORMANCE, row 6: 784-256-128-10, batch 512: vmap(grad) holds 482 MB; ours at least 50 times less."""
    net = jaxnet.MLP((784, 256, 128, 10), ("relu", "relu", "softmax"))
    params, X, Y, _ = cases.point(net, jax.random.key(0), m=512, dtype=jnp.float32)

    def memory(function):
        return jax.jit(function, static_argnums=0).lower(net, params, X, Y).compile().memory_analysis()

    def naive_clipped(*point):
        grads = by_autodiff(*point)
        clip = 1 / jnp.maximum(norms_of(grads), 1)
        return jax.tree.map(lambda g: jnp.tensordot(clip, g, 1), grads)

    held = memory(by_autodiff).output_size_in_bytes  # XLA may fuse these away where only their norms are asked for
    assert held > 480e6
    assert memory(jaxnet.per_example_norms).temp_size_in_bytes * 50 <= held
    ours = memory(lambda *point: jaxnet.clipped_grads(*point, 1.0)).temp_size_in_bytes
    assert ours * 50 <= memory(naive_clipped).temp_size_in_bytes


@pytest.mark.usefixtures("untyped")
def test_bad_arguments(key):
    net = cases.NETS["square"]
    params, X, Y, _ = cases.point(net, key, dtype=jnp.float32)
    with pytest.raises(ValueError, match="max_norm is 0; expected a finite number above 0"):
        jaxnet.clipped_grads(net, params, X, Y, 0)
    with pytest.raises(ValueError, match=r"noise_multiplier is 1.0 but key is None; give a JAX random key"):
        jaxnet.clipped_grads(net, params, X, Y, 1.0, noise_multiplier=1.0)
    with pytest.raises(ValueError, match="noise_multiplier is -1"):
        jaxnet.clipped_grads(net, params, X, Y, 1.0, key, -1)
    with pytest.raises(ValueError, match="Y has 5 examples but X has 6"):
        jaxnet.per_example_grads(net, params, X, Y[:, 1:])

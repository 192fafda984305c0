"""Per-example work against vmap(jax.grad), in value and in the memory that the compiled program asks for."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from tests import cases
from tests.comparison import assert_trees_close
from tests.marks import slow_but

SOME_NETS = [*list(cases.NETS)[:80:13], *list(cases.NETS)[80:]]
DTYPES = pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-6)])


@functools.partial(jax.jit, static_argnums=0)
def by_autodiff(net, params, X, Y):
    """vmap(jax.grad) of one example's loss: each leaf with a leading axis of m. The penalty is no example's."""
    net = dataclasses.replace(net, l2=0.0)
    one = jax.grad(lambda params, x, y: jaxnet.cost(net, params, x[:, None], y[:, None]))
    return jax.vmap(one, in_axes=(None, 1, 1))(params, X, Y)


@jax.jit
def norms_of(grads):
    return jnp.sqrt(sum((leaf.reshape(leaf.shape[0], -1) ** 2).sum(axis=1) for leaf in jax.tree.leaves(grads)))


@pytest.mark.parametrize("name", slow_but(["square", "depth4-sigmoid", "penalised"], SOME_NETS))
@DTYPES
def test_grads_norms_and_clipped_sums(name, dtype, rtol, key):
    net = cases.NETS[name]
    with jax.enable_x64(dtype == "float64"):
        params, X, Y, _ = cases.point(net, key, m=7, dtype=dtype)
        ways = (by_autodiff, jaxnet.per_example_grads, jaxnet.per_example_norms)
        want, grads, norms = jax.jit(lambda *at: [way(net, *at) for way in ways])(params, X, Y)
        assert_trees_close(grads, want, rtol)
        assert_trees_close(norms, norms_of(want), rtol)
        np.testing.assert_allclose(norms, norms_of(want), rtol=2 * rtol)  # small ones too

        max_norm = 0.5 * float(norms.max())  # some are clipped, some are not
        clip = jnp.minimum(1, max_norm / norms_of(want))
        clipped = jax.tree.map(lambda g: jnp.tensordot(clip, g, 1), want)
        clipped_grads = jax.jit(jaxnet.clipped_grads, static_argnums=0)
        assert_trees_close(clipped_grads(net, params, X, Y, max_norm), clipped, 2 * rtol)  # sums, of clipped terms


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("max_norm", [1e-300, 1e-40, 1e39, 1e300])
def test_norms_beyond_the_numbers_of_float32(max_norm, traced, key):
    """Nothing is clipped by a large one; a small one leaves nothing, and no 0 / 0 of an example without a gradient."""
    net = cases.NETS["price"]
    params, X, Y, _ = cases.point(net, key, dtype=jnp.float32)
    Y = Y.at[:, 0].set(jaxnet.predict(net, params, X)[:, 0])
    total = jax.tree.map(lambda g: X.shape[1] * g, jaxnet.value_and_grad(net, params, X, Y)[1])
    want = total if max_norm > 1 else jax.tree.map(jnp.zeros_like, total)
    clipped = lambda max_norm: jaxnet.clipped_grads(net, params, X, Y, max_norm)
    with jax.enable_x64(traced):  # a traced number of float64
        grads = (jax.jit(clipped) if traced else clipped)(max_norm)
    for got, expected in zip(*map(jax.tree.leaves, (grads, want)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-37)


def test_the_dtype_is_that_of_the_params(key, x64, implicit_promotion):
    """Whatever the scalars' own."""
    net = cases.NETS["square"]
    params, X, Y, _ = cases.point(net, key, dtype=jnp.float32)
    noisy = lambda *numbers: jaxnet.clipped_grads(net, params, X, Y, numbers[0], key, numbers[1])
    grads = [function(np.float64(1.0), np.float64(0.5)) for function in (noisy, jax.jit(noisy))]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(grads)} == {"float32"}


NUMBERS = {
    "float": float,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "0-d NumPy": np.array,
    "JAX": jnp.asarray,
    "bfloat16": jnp.bfloat16,
}


@pytest.mark.parametrize("kind", slow_but(["float", "JAX"], NUMBERS))
def test_a_norm_is_any_scalar_with_and_without_a_value(kind, key, x64):
    """Each kind of number, concrete and traced, alone and lifted, against vmap(jax.grad) clipped by hand."""
    number = NUMBERS[kind]
    net, max_norm = cases.NETS["square"], 2.0  # exact in every dtype
    params, X, Y, _ = cases.point(net, key)
    grads = by_autodiff(net, params, X, Y)
    norms = norms_of(grads)
    assert norms.min() < max_norm < norms.max()

    @jax.jit
    def by_hand(max_norm):
        return jax.tree.map(lambda g: jnp.tensordot(jnp.minimum(1, max_norm / norms), g, 1), grads)

    def clipped(max_norm):
        return jaxnet.clipped_grads(net, params, X, Y, max_norm)

    assert_trees_close(clipped(number(max_norm)), by_hand(max_norm), 1e-12)
    assert_trees_close(jax.jit(clipped)(number(max_norm)), by_hand(max_norm), 1e-12)
    several = jnp.stack([jnp.asarray(number(n)) for n in (max_norm, 2 * max_norm)])
    each = jax.jit(jax.vmap(clipped))(several)
    for place, n in enumerate((max_norm, 2 * max_norm)):
        assert_trees_close(jax.tree.map(lambda g, place=place: g[place], each), by_hand(n), 1e-12)


def test_traced_settings_of_the_noise(key):
    """Noise of the same key and deviation, whoever knows their values."""
    net = cases.NETS["square"]
    params, X, Y, _ = cases.point(net, key, dtype=jnp.float32)

    @jax.jit
    def traced(max_norm, noise_multiplier):
        return jaxnet.clipped_grads(net, params, X, Y, max_norm, key, noise_multiplier)

    for noise in (0.0, 3.0):
        want = jaxnet.clipped_grads(net, params, X, Y, 0.5, key, noise)
        assert_trees_close(traced(0.5, noise), want, 1e-6)
        assert_trees_close(jaxnet.clipped_grads(net, params, X, Y, 0.5, key, jnp.float32(noise)), want, 1e-6)


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


def test_noise_has_the_standard_deviation_it_should_and_comes_from_the_key(key):
    net = jaxnet.MLP((200, 100, 3), ("tanh", "softmax"))
    params, X, Y, _ = cases.point(net, key, dtype=jnp.float32)
    plain = jaxnet.clipped_grads(net, params, X, Y, 0.5)
    noisy = jaxnet.clipped_grads(net, params, X, Y, 0.5, key, 3.0)
    noise = np.concatenate([np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (noisy, plain)), strict=True)])
    np.testing.assert_allclose(noise.std(), 1.5, rtol=0.02)
    assert abs(noise.mean()) < 0.05
    assert np.array_equal(jaxnet.clipped_grads(net, params, X, Y, 0.5, key, 3.0)[0].W, noisy[0].W)


def test_norms_of_float16_are_summed_in_float32(key):
    """The square of 300 is no float16, that of 2e-4 has hardly a digit there."""
    net = jaxnet.MLP((4, 1), ("identity",))
    params, X, _, _ = cases.point(net, key, m=5, dtype=jnp.float32)
    params, X = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), (params, X))
    for size in (300.0, 2e-4):
        Y = jnp.full((1, 5), -size, jnp.float16)
        zero = jax.tree.map(jnp.zeros_like, params)  # predicts 0: ∂ℓ/∂z is the size
        found = np.float64(jaxnet.per_example_norms(net, zero, X, Y))
        true = size * np.sqrt(1 + (np.float64(X) ** 2).sum(axis=0))
        np.testing.assert_allclose(found, true, rtol=0.01)
        clipped = jaxnet.clipped_grads(net, zero, X, Y, size / 2)
        np.testing.assert_allclose(clipped[0].b[0, 0], (size / 2 / true * size).sum(), rtol=0.03)


def test_an_example_without_gradient_is_not_divided_by_zero(key):
    net = cases.NETS["price"]
    params, X, _, _ = cases.point(net, key, dtype=jnp.float32)
    A = jaxnet.predict(net, params, X)
    grads = jaxnet.clipped_grads(net, params, X, A, 1.0)  # predictions as targets: every gradient is 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads))


def test_memory_is_that_of_a_step_not_of_m_gradients():
    """Row 6 of the benchmarks: 784-256-128-10, batch 512: vmap(grad) holds 482 MB; ours at least 50 times less."""
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
    with pytest.raises(ValueError, match=r"max_norm is 0\.0; expected a finite number above 0"):
        jaxnet.clipped_grads(net, params, X, Y, jnp.float32(0))
    for not_one_number in (jnp.ones(1), jnp.asarray(True), jnp.asarray(1j), key, "1"):
        with pytest.raises(ValueError, match=r"max_norm is [\s\S]*; expected a finite number above 0"):
            jaxnet.clipped_grads(net, params, X, Y, not_one_number)
        if not isinstance(not_one_number, str):
            with pytest.raises(ValueError, match=r"max_norm is [\s\S]*; expected a finite number above 0"):
                jax.jit(lambda max_norm: jaxnet.clipped_grads(net, params, X, Y, max_norm))(not_one_number)
    with pytest.raises(ValueError, match=r"noise_multiplier is 1.0 but key is None; give a JAX random key"):
        jaxnet.clipped_grads(net, params, X, Y, 1.0, noise_multiplier=1.0)
    with pytest.raises(TypeError, match="key is 7; expected one JAX random key"):
        jaxnet.clipped_grads(net, params, X, Y, 1.0, 7, noise_multiplier=1.0)
    for noise in (-1, jnp.float32(-1), float("nan")):
        with pytest.raises(ValueError, match=r"noise_multiplier is .*; .* number above 0, or 0 for no noise"):
            jaxnet.clipped_grads(net, params, X, Y, 1.0, key, noise)
    with pytest.raises(ValueError, match="Y has 5 examples but X has 6"):
        jaxnet.per_example_grads(net, params, X, Y[:, 1:])


def test_norms_whose_squares_overflow(key):
    """A gradient of 1e25 is clipped, and not dropped; one of 1e-25 is kept."""
    net = cases.NETS["price"]
    params, X, Y, _ = cases.point(net, key, m=4, dtype=jnp.float32)
    hidden, output = jax.tree.map(jnp.zeros_like, params)
    for scale in (1e25, 1e-25):
        biased = (hidden, output._replace(b=jnp.full((1, 1), scale)))  # A = scale, and dz is A - 0
        norms = jaxnet.per_example_norms(net, biased, X, 0 * Y)
        np.testing.assert_allclose(norms, np.full(4, scale), rtol=1e-6)
        grads = jaxnet.clipped_grads(net, biased, X, 0 * Y, 0.5)
        np.testing.assert_allclose(grads[-1].b, [[4 * min(scale, 0.5)]], rtol=1e-6)


def test_weights_are_a_mask_of_padding(key):
    """A batch of fixed size under jit: padded examples add nothing, and others count as they should."""
    net = cases.NETS["binary"]
    params, X, Y, _ = cases.point(net, key, m=7, dtype=jnp.float32)
    mask = jnp.array([1.0, 1, 0, 1, 0, 1, 1])
    there = np.flatnonzero(mask)
    want = jaxnet.clipped_grads(net, params, X[:, there], Y[:, there], 0.3)
    masked = jax.jit(jaxnet.clipped_grads, static_argnums=0)
    assert_trees_close(masked(net, params, X, Y, 0.3, weights=mask), want, 1e-6)
    twice = jaxnet.clipped_grads(net, params, X, Y, 0.3, weights=2 * mask.astype(int))
    assert_trees_close(twice, jax.tree.map(lambda g: 2 * g, want), 1e-6)


def test_a_batch_that_drew_nobody_is_the_noise_alone(key):
    net = cases.NETS["binary"]
    params, X, Y, _ = cases.point(net, key, m=7, dtype=jnp.float32)
    for lift in (lambda f: f, lambda f: jax.jit(f, static_argnums=0)):
        nobody = lift(jaxnet.clipped_grads)(net, params, X[:, :0], Y[:, :0], 0.5)
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(nobody))
        noise = lift(jaxnet.clipped_grads)(net, params, X[:, :0], Y[:, :0], 0.5, key, 2.0)
        masked = jaxnet.clipped_grads(net, params, X, Y, 0.5, key, 2.0, weights=jnp.zeros(7))
        assert_trees_close(noise, masked, 1e-6)

"""normal_like draws what jax.random.normal draws, and Threefry what its authors published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet._xla.normal import normal_like, words

TREE = {"W": jnp.zeros((37, 5)), "b": jnp.zeros((37, 1)), "empty": jnp.zeros((0, 3)), "one": jnp.zeros(())}


def as_one(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_known_answers():
    """Of Threefry-2x32-20, from the authors' kat_vectors: the words of the counter (0, place) by the key, XORed."""
    zero = jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32))
    ones = jax.random.wrap_key_data(jnp.full(2, 0xFFFFFFFF, jnp.uint32))
    assert int(words(zero, 0, ())) == 0x6B200159 ^ 0x99BA4EFE
    np.testing.assert_array_equal(words(ones, 3, (4, 5)), jax.random.bits(ones, (23,))[3:].reshape(4, 5))


def test_the_numbers_are_those_of_jax_in_one_draw(key):
    numbers = jax.jit(normal_like)(key, TREE)
    expected = np.asarray(jax.random.normal(key, (37 * 6 + 1,)))
    np.testing.assert_allclose(as_one(numbers), expected, rtol=1e-6, atol=1e-6)
    assert jax.tree.map(jnp.shape, numbers) == jax.tree.map(jnp.shape, TREE)
    lifted = jax.vmap(normal_like, in_axes=(0, None))(jax.random.split(key, 3), TREE)
    third = normal_like(jax.random.split(key, 3)[2], TREE)
    np.testing.assert_allclose(lifted["W"][2], third["W"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("impl", ["rbg", "threefry2x32"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "float32"])
def test_other_keys_and_dtypes_are_left_to_jax(impl, dtype, x64):
    key = jax.random.key(5, impl=impl)
    tree = [jnp.zeros((3, 4), dtype), jnp.zeros(2, dtype)]
    numbers = normal_like(key, tree)
    assert {leaf.dtype.name for leaf in numbers} == {dtype}
    np.testing.assert_allclose(as_one(numbers), jax.random.normal(key, (14,), dtype), rtol=1e-6, atol=1e-6)


def test_raw_keys(key):
    """As older programs hold them."""
    raw = jax.random.PRNGKey(7)
    np.testing.assert_array_equal(normal_like(raw, TREE)["W"], normal_like(jax.random.wrap_key_data(raw), TREE)["W"])


def test_nothing_is_looped_over(key):
    """A loop of rounds is what costs JAX's own draw its time on a CPU."""
    assert "while" not in jax.jit(normal_like).lower(key, TREE).as_text()

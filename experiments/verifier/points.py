"""Random points (params, X, Y) for checking gradients: `random_problem`, and shapes that show a kind of bug."""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Layer(NamedTuple):
    """One layer: W (n, n_prev), b (n, 1)."""

    W: jax.Array
    b: jax.Array


@partial(jax.jit, static_argnums=(0, 1, 3))
def random_problem(sizes, m, key, dtype=jnp.float32):
    """Random params, X (sizes[0], m) and one-hot Y (sizes[-1], m): for any experiment that needs a net and examples.

    W is normal over √n_prev, b normal over 4, so that every term of a gradient counts; X is normal and the labels
    are spread evenly over the classes.
    """
    keys = iter(jax.random.split(key, 2 * len(sizes) + 1))
    params = tuple(
        Layer(
            jax.random.normal(next(keys), (n, n_prev), dtype) / n_prev**0.5,
            jax.random.normal(next(keys), (n, 1), dtype) / 4,
        )
        for n_prev, n in itertools.pairwise(sizes)
    )
    X = jax.random.normal(next(keys), (sizes[0], m), dtype)
    labels = jax.random.permutation(next(keys), jnp.arange(m) % sizes[-1])
    return params, X, jax.nn.one_hot(labels, sizes[-1], dtype=dtype, axis=0)


def small(key, dtype=jnp.float32):
    """5-6-6, m = 6: 78 parameters, square on purpose so that a transposition is silent, and m = n."""
    return random_problem((5, 6, 6), 6, key, dtype)


def uneven(key, dtype=jnp.float32):
    """5-6-6, m = 9: the batch is no layer's size, so that 1/n for 1/m shows."""
    return random_problem((5, 6, 6), 9, key, dtype)


def square(key, dtype=jnp.float32):
    """6-6-6-6, m = 9: three layers of equal shape, so that leaves can be swapped and X can stand for A[1]."""
    return random_problem((6, 6, 6, 6), 9, key, dtype)


def large(key, dtype=jnp.float32):
    """784-1000-1000, m = 64: 1,786,000 parameters."""
    return random_problem((784, 1000, 1000), 64, key, dtype)


def large_square(key, dtype=jnp.float32):
    """800-800-800-800, m = 64: three layers of equal shape, 1,922,400 parameters."""
    return random_problem((800, 800, 800, 800), 64, key, dtype)


def long_batch(key, dtype=jnp.float32):
    """5-6-6, m = 100,000, all of class 0 and much alike: a running sum keeps rounding the same way."""
    params, X, Y = random_problem((5, 6, 6), 100_000, key, dtype)
    return params, X / 1024, jnp.zeros_like(Y).at[0].set(1)


def with_padding(base):
    """The base point whose last two examples are padding: columns of zeros in X and Y."""

    def padded(key, dtype=jnp.float32):
        params, X, Y = base(key, dtype)
        real = (jnp.arange(X.shape[1]) < X.shape[1] - 2)[None, :].astype(dtype)
        return params, X * real, Y * real

    return padded


def with_saturated_example(base):
    """The base point, but example 0 alone turns hidden unit 0 on: its logit 0 is -4000, its softmax 0."""

    def saturated(key, dtype=jnp.float32):
        ((W1, b1), (W2, b2)), X, Y = base(key, dtype)
        W1 = W1.at[0].set(0).at[0, 0].set(40)
        b1 = b1.at[0].set(-20)
        W2 = W2.at[0, 0].set(-2000)
        b2 = b2.at[0].set(-2000)
        X = X.at[0].set(0).at[0, 0].set(1)
        Y = Y.at[:, 0].set(0).at[1, 0].set(1)
        return (Layer(W1, b1), Layer(W2, b2)), X, Y

    return saturated

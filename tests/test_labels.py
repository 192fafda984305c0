"""Labels as columns of targets: nothing wraps around, nothing is dropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet


def test_one_hot():
    Y = jaxnet.one_hot([2, 0, 1, 2], 3)
    np.testing.assert_array_equal(Y, [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]])
    assert Y.dtype == jnp.float32
    for dtype in (jnp.bfloat16, jnp.int8, bool):
        assert jaxnet.one_hot(np.array([1], np.uint8), 2, dtype).dtype == dtype


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, -1, 1], ValueError, r"labels\[1\] is -1; expected 0 to 2"),
        ([1, 2, 3], ValueError, r"labels\[2\] is 3; expected 0 to 2 .* number the classes from 0"),
        (np.array([0, 2**40]), ValueError, r"labels\[1\] is 1099511627776"),
        ([[0, 1]], ValueError, r"shape \(1, 2\); expected \(m,\)"),
        ([0.0, 1.0], TypeError, "dtype float64; expected integers"),
        (
            ["cat", "dog"],
            TypeError,
            r"expected integers: number the classes from 0, as np\.unique\(labels, return_inverse=True\)\[1\]",
        ),
        (np.array([True, False]), TypeError, "labels has dtype bool; expected integers"),
        (np.ma.masked_array([1, 2], [0, 1]), TypeError, "labels is masked at some places"),
        ([1, [2]], ValueError, "labels is ragged"),
        (None, TypeError, "labels is None; expected an array"),
        (jax.random.split(jax.random.key(0), 3), TypeError, "labels has dtype key"),
    ],
)
def test_one_hot_refuses(labels, error, message, untyped):
    with pytest.raises(error, match=message):
        jaxnet.one_hot(labels, 3)


@pytest.mark.parametrize("n_classes", [0, 2.5])
def test_one_hot_refuses_a_number_of_classes(n_classes, untyped):
    with pytest.raises(ValueError, match=f"n_classes is {n_classes}; expected an integer"):
        jaxnet.one_hot([0, 1], n_classes)


def test_one_hot_refuses_what_no_memory_holds(untyped):
    """Told from the sizes alone, before any of it is allocated."""
    for n_classes in (2**31, 10**30):
        with pytest.raises(
            ValueError, match=f"n_classes is {n_classes}; one_hot of 3 labels would hold {3 * n_classes}"
        ):
            jaxnet.one_hot([0, 1, 2], n_classes)


def test_one_hot_refuses_a_dtype(untyped):
    for dtype in ("foo", complex, object, ">f4"):
        with pytest.raises(TypeError, match=r"dtype is .*; expected a dtype of real numbers"):
            jaxnet.one_hot([0, 1], 2, dtype)
    with pytest.raises(ValueError, match="dtype is float64, but 64-bit is off in JAX"):
        jaxnet.one_hot([0, 1], 2, np.float64)


def test_one_hot_refuses_traced_labels(untyped):
    with pytest.raises(TypeError, match="labels is traced, and has no values to check yet; call this outside jit"):
        jax.jit(lambda labels: jaxnet.one_hot(labels, 3))(jnp.arange(3))

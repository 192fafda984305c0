"""Labels in and out: nothing wraps around, nothing is dropped."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet


def test_one_hot():
    Y = jaxnet.one_hot([2, 0, 1, 2], 3)
    np.testing.assert_array_equal(Y, [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]])
    assert Y.dtype == jnp.float32
    assert jaxnet.one_hot(np.array([1], np.uint8), 2, jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, -1, 1], ValueError, r"labels\[1\] is -1; expected 0 to 2"),
        ([1, 2, 3], ValueError, r"labels\[2\] is 3; expected 0 to 2 .* number the classes from 0"),
        (np.array([0, 2**40]), ValueError, r"labels\[1\] is 1099511627776"),
        ([[0, 1]], ValueError, r"shape \(1, 2\); expected \(m,\)"),
        ([0.0, 1.0], TypeError, "dtype float64; expected integers"),
        (["cat", "dog"], TypeError, "expected integers: number the classes from 0"),
    ],
)
def test_one_hot_refuses(labels, error, message, untyped):
    with pytest.raises(error, match=message):
        jaxnet.one_hot(labels, 3)


def test_accuracy_of_several_classes():
    A = jnp.array([[0.7, 0.1, 0.4], [0.2, 0.8, 0.5], [0.1, 0.1, 0.1]])
    Y = jaxnet.one_hot([0, 1, 0], 3)
    np.testing.assert_allclose(jaxnet.accuracy(A, Y), 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(jaxnet.accuracy(A, Y, jnp.array([1.0, 1.0, 2.0])), 0.5)


def test_accuracy_of_two_classes():
    assert jaxnet.accuracy(jnp.array([[0.9, 0.4, 0.6, 0.1]]), jnp.array([[1.0, 1.0, 0.0, 0.0]])) == 0.5


def test_accuracy_is_exactly_one_where_all_is_right():
    for m in (3, 22, 1999, 70_000):
        assert jaxnet.accuracy(jnp.ones((1, m)), jnp.ones((1, m))) == 1.0
    assert jaxnet.accuracy(jnp.ones((1, 70_000), jnp.float16), jnp.ones((1, 70_000), jnp.float16)) == 1.0


def test_one_half_is_class_zero():
    assert jaxnet.accuracy(jnp.array([[0.5]]), jnp.array([[1.0]])) == 0.0


def test_nan_is_never_right():
    for rows in (1, 3):
        assert jaxnet.accuracy(jnp.full((rows, 4), jnp.nan), jnp.zeros((rows, 4))) == 0.0


def test_an_undecided_classifier_is_not_all_right():
    """With zero weights all probabilities tie; that is one class for every example, not accuracy 1."""
    assert jaxnet.accuracy(jnp.full((2, 4), 0.5), jaxnet.one_hot([0, 1, 1, 1], 2)) == 0.25


def test_accuracy_refuses_other_shapes(untyped):
    with pytest.raises(ValueError, match=r"A has shape \(2, 3\) but Y has \(2, 4\)"):
        jaxnet.accuracy(jnp.ones((2, 3)), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"weights has shape \(1,\); expected \(12,\)"):
        jaxnet.accuracy(jnp.ones((1, 12)), jnp.ones((1, 12)), jnp.array([2.0]))


@pytest.mark.parametrize("n_classes", [0, 2.5])
def test_one_hot_refuses_a_number_of_classes(n_classes, untyped):
    with pytest.raises(ValueError, match=f"n_classes is {n_classes}; expected an integer"):
        jaxnet.one_hot([0, 1], n_classes)

"""Accuracy: of two classes, of several, of labels; exact where all is right, and never right of a NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.metrics import accuracy_of


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


LABELS = (np.random.default_rng(0).random((3, 60)) < 0.4).astype(np.float32)  # three labels an example, any of them


def test_accuracy_of_labels():
    """Each of an example's labels counts, however many it has; the largest output says nothing."""
    A = np.clip(LABELS, 0.1, 0.9 - 0.1 * np.arange(3, dtype=np.float32)[::-1, None])
    for lift in (lambda f: f, jax.jit):
        assert lift(jaxnet.accuracy)(jnp.asarray(A), jnp.asarray(LABELS)) == 1.0
        one_wrong = A.copy()
        one_wrong[1, 7] = 1 - one_wrong[1, 7]
        np.testing.assert_allclose(lift(jaxnet.accuracy)(jnp.asarray(one_wrong), jnp.asarray(LABELS)), 179 / 180, 1e-6)
    weights = jnp.arange(60.0)
    np.testing.assert_allclose(jaxnet.accuracy(one_wrong, LABELS, weights), 1 - 7 / 3 / weights.sum(), rtol=1e-6)
    assert jaxnet.accuracy(jnp.asarray(A).at[0, 0].set(jnp.nan), jnp.asarray(LABELS)) < 1


def test_accuracy_of_soft_targets_is_of_classes():
    """Columns of probabilities, in any precision, sum to one."""
    Y = jax.nn.softmax(5 * jax.random.normal(jax.random.key(0), (4, 30)), axis=0)
    for dtype in (jnp.float32, jnp.bfloat16):
        assert jaxnet.accuracy(Y.astype(dtype), Y.astype(dtype)) == 1.0
        assert jaxnet.accuracy(Y[::-1].astype(dtype), Y.astype(dtype)) < 0.5


def test_fit_reports_the_accuracy_of_labels():
    X = np.random.default_rng(1).normal(size=(3, 60)).astype(np.float32)
    net, Y = jaxnet.MLP((3, 3), ("sigmoid",)), (X > 0).astype(np.float32)
    result = jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=optax.sgd(2.0), validation=(X, Y), batch_size=None)
    A = jaxnet.predict(net, result.params, X)
    right = ((np.asarray(A) > 0.5) == (Y > 0.5)).mean()
    np.testing.assert_allclose(result.history["validation_accuracy"][-1], right, rtol=1e-6)
    np.testing.assert_allclose(jaxnet.accuracy(A, Y), right, rtol=1e-6)
    assert right > 0.9 and result.history["accuracy"][0] < right


def test_a_network_with_one_label_in_each_example_is_judged_by_labels():
    """As its output says, and not by what the targets happen to look like."""
    net, A, Y = jaxnet.MLP((3, 2), ("sigmoid",)), jnp.array([[0.9], [0.8]]), jnp.array([[1.0], [0.0]])
    assert accuracy_of(net, A, Y) == 0.5 and jaxnet.accuracy(A, Y) == 1.0


REFUSED = {
    "labels": ((np.arange(4), np.arange(4)), r"A has shape \(4,\); expected \(n_y, m\).*one_hot\(labels, n_classes\)"),
    "empty": ((np.ones((2, 0)), np.ones((2, 0))), r"A has shape \(2, 0\); expected"),
    "a regression's": ((np.ones((1, 2)), np.array([[0.5, 7.0]])), "Y holds 7.0 at row 0, column 1 .* from 0 to 1"),
    "NaN": ((jnp.ones((2, 3)), jnp.ones((2, 3)).at[1, 2].set(jnp.nan)), "Y holds nan at row 1, column 2"),
    "masked": ((np.ones((1, 2)), np.ma.masked_array(np.ones((1, 2)), [[0, 1]])), "Y is masked"),
    "complex": ((np.ones((1, 2)), np.ones((1, 2), complex)), "Y is complex"),
    "None": ((None, np.ones((1, 2))), "A is None"),
    "negative": ((np.ones((1, 2)), np.ones((1, 2)), [1.0, -1.0]), r"weights holds -1.0 at position \(1,\)"),
    "NaN weight": ((np.ones((1, 2)), np.ones((1, 2)), jnp.array([1.0, jnp.nan])), "weights holds nan"),
    "no weight": ((np.ones((1, 2)), np.ones((1, 2)), jnp.zeros(2)), "weights are all 0"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_accuracy_refuses(case, untyped):
    arguments, message = case
    with pytest.raises((TypeError, ValueError), match=message):
        jaxnet.accuracy(*arguments)


def test_weights_of_few_bits_are_summed_in_float32():
    assert jaxnet.accuracy(jnp.ones((1, 70_000)), jnp.ones((1, 70_000)), jnp.ones(70_000, jnp.float16)) == 1.0

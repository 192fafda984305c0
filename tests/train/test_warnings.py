"""Warnings: one for each symptom, none without it, and silenced as any other."""

import warnings

import jax
import numpy as np
import optax
import pytest

import jaxnet
from tests.train.flower import fit


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (0.0, "the cost never changed: .* is the learning rate 0"),
        (-0.1, "the cost never fell: .* is the learning rate neg"),
    ],
)
@pytest.mark.parametrize("batch_size", [None, 50])
def test_a_rate_that_is_no_descent(rate, message, batch_size):
    with pytest.warns(jaxnet.TrainingWarning, match=message) as caught:
        fit(optimizer=optax.sgd(rate), batch_size=batch_size, epochs=5)
    assert len(caught) == 1


def test_no_warning_where_the_cost_falls_or_is_zero():
    net, X, Y = jaxnet.MLP((1, 1), ("identity",)), np.ones((1, 4)), np.zeros((1, 4))
    with warnings.catch_warnings(action="error"):
        fit(epochs=5)
        fit(epochs=2, optimizer=optax.sgd(0.0))  # of two epochs nothing can be told
        start = jaxnet.init(net, jax.random.key(0), "zeros")
        jaxnet.fit(net, X, Y, params=start, key=jax.random.key(0), optimizer=optax.sgd(0.1), batch_size=None, steps=3)


def test_it_is_silenced_as_any_other():
    with warnings.catch_warnings(action="error"):
        warnings.simplefilter("ignore", jaxnet.TrainingWarning)
        fit(optimizer=optax.sgd(0.0), epochs=3)

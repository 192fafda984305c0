"""A small fit, 2-4-1 on sixty points of the flower: the tests of training change one thing of it at a time."""

import jax
import numpy as np
import optax

import jaxnet
from jaxnet.datasets import flower

NET = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
X, Y = (array.astype(np.float32) for array in flower(60))
BATCHES = [(X[:, i : i + 16], Y[:, i : i + 16]) for i in range(0, 60, 16)]  # the last has 12 examples
OPTIMIZER = optax.sgd(0.5, momentum=0.9)


def fit(X=X, Y=Y, **changes):
    settings = {"key": jax.random.key(3), "optimizer": OPTIMIZER, "epochs": 5, "batch_size": 16}
    return jaxnet.fit(NET, X, Y, **settings | changes)


def fit_batches(batches, **changes):
    """`fit` on a stream."""
    settings = {"key": jax.random.key(3), "optimizer": OPTIMIZER, "epochs": 3}
    return jaxnet.fit(NET, batches, **settings | changes)

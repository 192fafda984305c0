"""The work in Keras on JAX: a model that is built and compiled once, and starts anew for each training.

What Keras has compiled lives as long as its model: with a new one each, every training would compile again.
"""

import os

import numpy as np

import jaxnet
from experiments.benchmarks.benchmark import Contestant
from experiments.benchmarks.peers.jax import OTHER_ORDER
from experiments.benchmarks.workload import Workload

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported, below

STEPS = 16  # in one call, steps_per_execution: 2.4x as fast as one for 64-32-10, and 44 are no faster


def compiled(sizes, hidden, optimizer, loss):
    """Return the model and restart(weights), which gives it those and its optimizer the state of a new one."""
    import keras

    layers = [keras.layers.Dense(n, hidden) for n in sizes[1:-1]] + [keras.layers.Dense(sizes[-1])]
    model = keras.Sequential([keras.Input((sizes[0],)), *layers])
    model.compile(optimizer, loss, steps_per_execution=STEPS)
    optimizer.build(model.trainable_variables)
    fresh = [np.array(variable) for variable in optimizer.variables]

    def restart(weights):
        model.set_weights(weights)
        for variable, value in zip(optimizer.variables, fresh, strict=True):
            variable.assign(value)

    return model, restart


def sequential(work: Workload) -> Contestant:
    """Model.fit from our start; it shuffles by itself."""

    def prepare():
        import keras

        kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[work.optimizer]
        losses = keras.losses.BinaryCrossentropy if work.sizes[-1] == 1 else keras.losses.CategoricalCrossentropy
        model, restart = compiled(work.sizes, work.hidden, kind(work.rate), losses(from_logits=True))
        rows, targets = np.ascontiguousarray(work.X.T), np.ascontiguousarray(work.Y.T)
        start = [np.asarray(p) for W, b in work.params for p in (W.T, b[:, 0])]

        def run():
            restart(start)
            model.fit(rows, targets, work.batch_size or work.m, epochs=work.epochs, verbose=0)
            found = iter(model.get_weights())
            return tuple(jaxnet.Layer(W.T, b[:, None]) for W, b in zip(found, found, strict=True))

        return run

    return Contestant("Keras on JAX", prepare, work.cost, "keras", tolerance=OTHER_ORDER)

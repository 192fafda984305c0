"""The work in Keras on JAX: a model that is built and compiled once, and starts anew for each training.

What Keras has compiled lives as long as its model: with a new one each, every training would compile again.
"""

import os

import numpy as np

from experiments.benchmarks.benchmark import OTHER_ORDER, Implementation
from experiments.benchmarks.peers import convert
from experiments.benchmarks.workload import Workload

STEPS = 16  # in one call, Keras' steps_per_execution: more are no faster for 64-32-10


def keras_on_jax():
    """The module keras with JAX behind it; Keras reads its environment when it is first imported."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras


def reusable_model(sizes, hidden, optimizer, loss):
    """The compiled model, and restart(weights), which gives it those and its optimizer the state of a new one."""
    keras = keras_on_jax()
    layers = [keras.layers.Dense(n, hidden) for n in sizes[1:-1]] + [keras.layers.Dense(sizes[-1])]
    model = keras.Sequential([keras.Input((sizes[0],)), *layers])
    model.compile(optimizer, loss, steps_per_execution=STEPS)
    optimizer.build(model.trainable_variables)
    fresh = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]

    def restart(weights):
        model.set_weights(weights)
        for variable, value in zip(optimizer.variables, fresh, strict=True):
            variable.assign(value)

    return model, restart


def sequential(work: Workload) -> Implementation:
    """Model.fit from our start; it shuffles by itself."""

    def prepare():
        keras = keras_on_jax()
        kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[work.optimizer]
        losses = keras.losses.BinaryCrossentropy if work.sizes[-1] == 1 else keras.losses.CategoricalCrossentropy
        model, restart = reusable_model(work.sizes, work.hidden, kind(work.learning_rate), losses(from_logits=True))
        rows, targets = np.ascontiguousarray(work.X.T), np.ascontiguousarray(work.Y.T)
        start = convert.to_keras(work.params)

        def run():
            restart(start)
            model.fit(rows, targets, work.batch_size or work.m, epochs=work.epochs, verbose=0)
            return convert.from_keras(model.get_weights())

        return run

    return Implementation("Keras on JAX", prepare, work.cost, "keras", tolerance=OTHER_ORDER)

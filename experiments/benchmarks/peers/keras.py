"""The work in Keras on JAX: a model that is built and compiled once, and starts anew for each training.

What Keras has compiled lives as long as its model: with a new one each, every training would compile again.
"""

import os

import numpy as np

from experiments.benchmarks.benchmark import OTHER_ORDER, Implementation
from experiments.benchmarks.workload import Workload
from jaxnet import convert

STEPS = 16  # in one call, Keras' steps_per_execution: more are no faster for 64-32-10


def keras_on_jax():
    """The module keras with JAX behind it; Keras reads its environment when it is first imported."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras


def reusable_model(net, params, optimizer, loss):
    """The compiled model, and restart(), which gives it those params and its optimizer the state of a new one."""
    keras = keras_on_jax()
    model = convert.to_keras(net, params, logits=True)
    start = model.get_weights()
    model.compile(optimizer, loss, steps_per_execution=STEPS)
    optimizer.build(model.trainable_variables)
    fresh = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]

    def restart():
        model.set_weights(start)
        for variable, value in zip(optimizer.variables, fresh, strict=True):
            variable.assign(value)

    return model, restart


def sequential(work: Workload) -> Implementation:
    """Model.fit from our start; it shuffles by itself."""

    def prepare():
        keras = keras_on_jax()
        kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[work.optimizer]
        losses = keras.losses.BinaryCrossentropy if work.sizes[-1] == 1 else keras.losses.CategoricalCrossentropy
        model, restart = reusable_model(work.net, work.params, kind(work.learning_rate), losses(from_logits=True))
        rows, targets = np.ascontiguousarray(work.X.T), np.ascontiguousarray(work.Y.T)

        def run():
            restart()
            model.fit(rows, targets, work.batch_size or work.m, epochs=work.epochs, verbose=0)
            model.get_weights()  # waits for the last step
            return model

        return run

    cost = lambda model: work.cost(convert.from_keras(model)[1])
    return Implementation("Keras on JAX", prepare, cost, "keras", tolerance=OTHER_ORDER)

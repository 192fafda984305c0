"""The work in NumPy: the notes' six formulas once more, in the form that NumPy runs fastest, as a peer should be."""

import numpy as np

import jaxnet
from experiments.benchmarks.benchmark import Implementation
from experiments.benchmarks.workload import Workload


def six_formulas(work: Workload) -> Implementation:
    """Gradient descent of 2-n-1 with tanh and a sigmoid, as the notes write it."""

    def prepare():
        X, Y, m = work.X, work.Y, np.float32(work.m)

        def run():
            (W1, b1), (W2, b2) = ((np.array(W), np.array(b)) for W, b in work.params)
            for _ in range(work.epochs):
                A1 = np.tanh(W1 @ X + b1)
                A2 = 1 / (1 + np.exp(-(W2 @ A1 + b2)))
                dZ2 = A2 - Y
                dW2, db2 = dZ2 @ A1.T / m, dZ2.sum(axis=1, keepdims=True) / m
                dZ1 = W2.T @ dZ2 * (1 - A1 * A1)
                dW1, db1 = dZ1 @ X.T / m, dZ1.sum(axis=1, keepdims=True) / m
                W1, b1, W2, b2 = (p - work.learning_rate * d for p, d in ((W1, dW1), (b1, db1), (W2, dW2), (b2, db2)))
            return jaxnet.Layer(W1, b1), jaxnet.Layer(W2, b2)

        return run

    return Implementation("NumPy", prepare, work.cost, tolerance=1e-2)

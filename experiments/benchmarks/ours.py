"""The work in jaxnet, as its users write it."""

import jax
import numpy as np

import jaxnet
from experiments.benchmarks.benchmark import Implementation
from experiments.benchmarks.workload import Workload


def fit(work: Workload, device=None, name="jaxnet.fit", metrics: tuple[str, ...] | None = None) -> Implementation:
    """`jaxnet.fit`, all of it: checks, transfers, history; metrics None are its default, cost and accuracy."""
    options = {} if metrics is None else {"metrics": metrics}

    def prepare():
        def run():
            result = jaxnet.fit(
                work.net,
                work.X,
                work.Y,
                key=jax.random.key(1),
                optimizer=work.gradient_transformation,
                epochs=work.epochs,
                batch_size=work.batch_size,
                params=work.params,
                precision=work.precision,
                progress=False,
                device=device,
                **options,
            )
            return jax.block_until_ready(result.params)

        return run

    return Implementation(name, prepare, work.cost)


def sweep(work: Workload, learning_rates: np.ndarray, device=None) -> Implementation:
    """`jaxnet.sweep`, a net for each learning rate; the cost is the median of the members' last ones."""

    def prepare():
        def run():
            result = jaxnet.sweep(
                work.net,
                work.X,
                work.Y,
                keys=jax.random.split(jax.random.key(0), len(learning_rates)),
                learning_rate=learning_rates,
                epochs=work.epochs,
                batch_size=work.batch_size,
                precision=work.precision,
                progress=False,
                device=device,
            )
            return result.history["cost"][:, -1]

        return run

    return Implementation("jaxnet.sweep", prepare, np.median)

"""The work in jaxnet, as its users write it."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from experiments.benchmarks.benchmark import Implementation
from experiments.benchmarks.workload import Workload
from jaxnet.parallel import meshes


def fit(
    work: Workload, device=None, name="jaxnet.fit", metrics: tuple[str, ...] | None = None, privacy=None
) -> Implementation:
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
                privacy=privacy,
                **options,
            )
            return jax.block_until_ready(result.params)

        return run

    return Implementation(name, prepare, work.cost)


def steps(work: Workload, device=None, name="jaxnet.train_step in a scan") -> Implementation:
    """The steps alone, of full batches that lie on the device: what the peers are timed at; no check, no transfer."""

    def prepare():
        step = jaxnet.train_step(work.net, work.gradient_transformation, precision=work.precision, metrics=("cost",))

        @jax.jit
        def train(params, X, Y):
            opt_state = work.gradient_transformation.init(params)
            state = jaxnet.TrainState(params, opt_state, jnp.int32(0), jax.random.key(1))
            return jax.lax.scan(lambda state, _: step(state, X, Y), state, length=work.steps)[0].params

        where = meshes.device(device)
        arguments = jax.block_until_ready(jax.device_put((work.params, work.X, work.Y), where))
        return lambda: jax.block_until_ready(train(*arguments))

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

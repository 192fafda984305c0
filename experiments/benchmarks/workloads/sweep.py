"""Row 5: 64 nets at once, eight rates with eight starts each."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from experiments.benchmarks.benchmark import Contestant, Race
from experiments.benchmarks.peers import jax as in_jax
from experiments.benchmarks.peers import torch_sweep
from experiments.benchmarks.peers.torch_sweep import CLOSE
from experiments.benchmarks.workload import digits

RATES = np.float32([0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3])

WHY = (
    "Each of the two cores runs its members in one kernel; a model-step costs what a step of row 1 does, halved by the "
    "two cores. vmap of jax.grad gains from products over many nets at once, and so do torch's stacked nets: 40x those "
    "would be 0.47 us a model-step, 1 us a step on a core, of which the products alone take 2.8. Tried, as in row 1: "
    "other forms of the products, of the gathering, of the threads."
)


def races(config) -> list[Race]:
    """64-32-10, 20 epochs of digits, batch 32."""
    work, copies = digits((64, 32, 10), 32, 3 if config.quick else 20, 0.1), 2 if config.quick else 8
    rates = np.repeat(RATES, copies)
    peers = (
        *(torch_sweep.stacked(work, rates, threads) for threads in (1, 2)),
        torch_sweep.one_by_one(work, rates),
        grid_search(work, copies),
    )
    return [
        Race(
            f"5 sweep: {len(rates)} nets 64-32-10, {work.epochs} epochs of digits",
            (*in_one_program(work, rates, config.device), *peers),
            "us a model-step",
            1e6 / (len(rates) * work.steps),
            ">= 300,000 model-steps/s (3.3 us each), >= 40x torch, >= 2.5x vmap",
            {"torch": 40, "vmap of jax.grad": 2.5},
            3.33,
            WHY,
        )
    ]


def in_one_program(work, rates, device=None) -> tuple[Contestant, Contestant]:
    """`jaxnet.sweep`, and vmap of a training by jax.grad; a net for each of the rates."""
    n = len(rates)

    def sweep():
        def run():
            result = jaxnet.sweep(
                work.net,
                work.X,
                work.Y,
                keys=jax.random.split(jax.random.key(0), n),
                learning_rate=rates,
                epochs=work.epochs,
                batch_size=work.batch_size,
                precision=work.precision,
                progress=False,
                device=device,
            )
            return result.history["cost"][:, -1]

        return run

    def vmapped():
        X, Y = jnp.asarray(work.X.T), jnp.asarray(work.Y.T)

        def train(key, rate):
            init_key, key = jax.random.split(key)
            params = in_jax.by_rows(jaxnet.init(work.net, init_key))

            def step(params, i):
                loss = lambda p: in_jax.loss_of_logits(in_jax.plain_forward(work, p, X[i]), Y[i])  # noqa: E731
                J, grads = jax.value_and_grad(loss)(params)
                return jax.tree.map(lambda p, g: p - rate * g, params, grads), J

            def epoch(params, key):
                order = jax.random.permutation(key, work.m).reshape(-1, work.batch_size)
                params, costs = jax.lax.scan(step, params, order)
                return params, costs.mean()

            return jax.lax.scan(epoch, params, jax.random.split(key, work.epochs))[1][-1]

        every = jax.jit(jax.vmap(train))
        return lambda: jax.block_until_ready(every(jax.random.split(jax.random.key(0), n), rates))

    return (
        Contestant("jaxnet.sweep", sweep, np.median),
        Contestant("vmap of jax.grad", vmapped, np.median, tolerance=CLOSE),
    )


def grid_search(work, copies) -> Contestant:
    """GridSearchCV over the rates and as many random states, on both cores."""

    def prepare():
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.model_selection import GridSearchCV, ShuffleSplit
        from sklearn.neural_network import MLPClassifier

        rows = np.ascontiguousarray(work.X.T)

        def minus_cost(model, X, y):
            return -model.loss_  # of its last epoch, as everybody's

        def run():
            base = MLPClassifier(
                (32,),
                solver="sgd",
                alpha=0.0,
                momentum=0.0,
                nesterovs_momentum=False,
                batch_size=work.batch_size,
                max_iter=work.epochs,
                tol=0.0,
                n_iter_no_change=work.epochs + 1,
            )
            grid = {"learning_rate_init": [float(r) for r in RATES], "random_state": list(range(copies))}
            nearly_all = ShuffleSplit(1, train_size=work.m - 8, test_size=8, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                search = GridSearchCV(base, grid, n_jobs=2, cv=nearly_all, refit=False, scoring=minus_cost)
                return -search.fit(rows, work.labels).cv_results_["mean_test_score"]

        return run

    return Contestant("GridSearchCV, 2 jobs", prepare, np.median, "sklearn", tolerance=CLOSE)

"""Row 1: tiny nets by mini-batches, where the price of starting each operation decides."""

from experiments.benchmarks.benchmark import Race
from experiments.benchmarks.peers import jax as in_jax
from experiments.benchmarks.peers import keras as in_keras
from experiments.benchmarks.peers import sklearn as in_sklearn
from experiments.benchmarks.peers import torch as in_torch
from experiments.benchmarks.workload import clusters, digits

WHY = (
    "In one kernel (jaxnet/one_kernel.py) a step of 64-32-10 takes about 6 us on this kind of core: 2.8 its five "
    "products in XLA's own tiled loops, 1.2 the rows of its mini-batch gathered and turned, 0.7 its 320 exponentials, "
    "0.3 the norm, 0.2 the accuracy. fit itself, its checks and its start, costs 1 to 2 ms a call, 0.2 "
    "to 0.4 us of each of 5,000 steps. Tried, no better: "
    "the default program (13 to 17 us), without threads (12.5), products as broadcasts (11 us for W X alone) or as "
    "sums of outer products (3.1), rows copied one by one, vectors of 512 bits."
)


def races(config) -> list[Race]:
    """64-32-10 on digits for 10,000 steps; 2-8-2 and 8-16-4."""
    share = 0.1 if config.quick else 1
    works = {
        "64-32-10, batch 32, digits": digits((64, 32, 10), 32, max(2, round(227 * share)), 0.1),
        "2-8-2, batch 4": clusters((2, 8, 2), 400, 4, max(2, round(50 * share)), 0.05, hidden="tanh"),
        "8-16-4, batch 8": clusters((8, 16, 4), 800, 8, max(2, round(50 * share)), 0.05, hidden="tanh"),
    }
    found = []
    for name, work in works.items():
        peers = (
            in_jax.grad_in_scan(work),
            in_jax.grad_in_a_loop(work),
            in_sklearn.classifier(work),
            in_torch.eager(work, 1),
            in_torch.eager(work, 2),
            in_torch.eager(work, 1, compiled=True),
            in_jax.equinox(work),
            in_jax.nnx(work),
            in_keras.sequential(work),
        )
        first = name.startswith("64")
        found.append(
            Race(
                f"1 tiny: {name}, SGD, {work.steps:,} steps",
                (in_jax.ours(work), *peers),
                "us a step",
                1e6 / work.steps,
                "<= 5 us a step, >= 50x torch, >= 25x scikit-learn, >= 2x jax.grad in a scan",
                {"torch": 50, "scikit-learn": 25, "jax.grad in a scan": 2},
                5.0 if first else None,
                WHY,
            )
        )
    return found

"""Row 2: the notes' planar classifier, 2-4-1 on 400 points, full batch."""

from experiments.benchmarks.benchmark import Race
from experiments.benchmarks.peers import jax as in_jax
from experiments.benchmarks.peers import numpy as in_numpy
from experiments.benchmarks.peers import sklearn as in_sklearn
from experiments.benchmarks.peers import torch as in_torch
from experiments.benchmarks.workload import flower

WHY = (
    "In one kernel a step takes 3.1 us; the default program 6.1, one kernel with XLA's products 5.2. Of the 3.1 the "
    "cost's softplus is 0.9, the two sums dW about 0.8, db 0.35. Tried and no better: sums by lanes of 16, a "
    "library's products, no guards."
)


def races(config) -> list[Race]:
    """10,000 steps at rate 1.2."""
    work = flower(1_000 if config.quick else 10_000, 1.2)
    peers = (
        in_jax.grad_in_scan(work),
        in_jax.grad_in_a_loop(work),
        in_numpy.notes(work),
        in_sklearn.classifier(work),
        in_torch.eager(work, 1),
        in_jax.equinox(work),
    )
    return [
        Race(
            f"2 planar: 2-4-1, m = 400, full batch, {work.steps:,} steps",
            (in_jax.ours(work), *peers),
            "s",
            1.0,
            "<= 0.020 s, >= 1.5x jax.grad in a scan",
            {"jax.grad in a scan": 1.5},
            0.020,
            WHY,
        )
    ]

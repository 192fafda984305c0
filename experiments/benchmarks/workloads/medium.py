"""Row 3: a mid-sized net in float32 with Adam."""

from experiments.benchmarks.benchmark import BEST_PEER, Race
from experiments.benchmarks.peers import jax as in_jax
from experiments.benchmarks.peers import keras as in_keras
from experiments.benchmarks.peers import sklearn as in_sklearn
from experiments.benchmarks.peers import torch as in_torch
from experiments.benchmarks.workload import clusters

EPOCHS = 5  # fit checks and turns its data once

WHY = (
    "A step is what jax.grad's is too: products of 0.3 GFLOP in all, most of its time, and Adam's passes over 2 MB "
    "each of params, gradient and moments, of which XLA makes three. What jax.grad's loop does not have: the norm of "
    "the gradient, one more pass and 7 % of a step, the accuracy, 2 %, and the rows of 64 MB of data, 15 ms to turn "
    "and up to 150 ms where a virtual machine has to find the memory first. Tried, no better: the norm as a dot "
    "product or by blocks, other fusions for a library, W read across (10 % slower)."
)


def races(config) -> list[Race]:
    """784-512-256-10, batch 128, epochs of 20,480."""
    work = clusters((784, 512, 256, 10), 2_560 if config.quick else 20_480, 128, EPOCHS, 1e-3, optimizer="adam")
    peers = (
        in_jax.grad_in_scan(work),
        in_torch.eager(work, 1),
        in_torch.eager(work, 2),
        in_torch.eager(work, 2, compiled=True),
        in_sklearn.classifier(work),
        in_keras.sequential(work),
    )
    return [
        Race(
            f"3 mid: 784-512-256-10, batch 128, Adam, epochs of {work.m:,}",
            (in_jax.ours(work), *peers),
            "s an epoch",
            1.0 / work.epochs,
            ">= 1.3x the best peer",
            {BEST_PEER: 1.3},
            why=WHY,
        )
    ]

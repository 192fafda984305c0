"""Row 3: a mid-sized net in float32 with Adam."""

from experiments.benchmarks import in_jax, in_sklearn, in_torch
from experiments.benchmarks.contest import Race
from experiments.benchmarks.workload import clusters

EPOCHS = 5  # fit checks and turns its data once

WHY = (
    "A step is what jax.grad's is too: products of 0.3 GFLOP in all, most of its time, and Adam's three "
    "passes over 2 MB each of params, gradient and moments. The norm and the accuracy, which jax.grad does not have, "
    "are about 4 % more; checking and turning 64 MB of data is spread over the epochs."
)


def races(config) -> list[Race]:
    """784-512-256-10, batch 128, epochs of 20,480."""
    work = clusters((784, 512, 256, 10), 2_560 if config.quick else 20_480, 128, EPOCHS, 1e-3, optimizer="adam")
    peers = (
        in_jax.grad_in_scan(work),
        in_torch.eager(work, 1),
        in_torch.eager(work, 2),
        in_torch.eager(work, 2, fused=True),
        in_torch.eager(work, 2, compiled=True, fused=True),
        in_sklearn.classifier(work),
        in_sklearn.keras(work),
    )
    goals = {peer.name: 1.3 for peer in peers}
    return [
        Race(
            f"3 mid: 784-512-256-10, batch 128, Adam, epochs of {work.m:,}",
            (in_jax.ours(work), *peers),
            "s an epoch",
            1.0 / work.epochs,
            ">= 1.3x the best peer",
            goals,
            why=WHY,
        )
    ]

"""Row 3: a mid-sized net in float32 with Adam."""

from experiments.benchmarks import in_jax, in_sklearn, in_torch
from experiments.benchmarks.contest import Race
from experiments.benchmarks.workload import clusters


def races(config) -> list[Race]:
    """784-512-256-10, batch 128, an epoch of 20,480."""
    work = clusters((784, 512, 256, 10), 2_560 if config.quick else 20_480, 128, 1, 1e-3, optimizer="adam")
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
            f"3 mid: 784-512-256-10, batch 128, Adam, an epoch of {work.m:,}",
            (in_jax.ours(work), *peers),
            "s",
            1.0,
            ">= 1.3x the best peer",
            goals,
        )
    ]

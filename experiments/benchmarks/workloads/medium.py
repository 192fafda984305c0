"""Row 3: a net of medium size in float32 with Adam."""

from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import BEST_PEER, Benchmark
from experiments.benchmarks.workload import clusters

ROW = 3
EPOCHS = 5  # fit checks and transposes its data once
COST_ALONE = "jaxnet.fit, cost alone"  # what the peers measure
EXPLANATION = (
    "A step is what jax.grad's is too: its products, most of its time, and Adam's passes over the params, the gradient "
    "and the moments. What jax.grad's loop does not have: once a training the check and the transpose of the data. "
    "With its default metrics fit reads the accuracy as well. Tried, no better: other fusions for a library, W read "
    "across."
)


def benchmarks(config) -> list[Benchmark]:
    """784-512-256-10, batch 128, epochs of 20,480."""
    m = 2_560 if config.quick else 20_480
    work = clusters((784, 512, 256, 10), m, 128, EPOCHS, 1e-3, optimizer="adam")
    return [
        Benchmark(
            f"3 medium: 784-512-256-10, batch 128, Adam, epochs of {work.m:,}",
            (
                ours.fit(work),
                ours.fit(work, name=COST_ALONE, metrics=("cost",)),
                peers.jax.grad_in_scan(work),
                peers.torch.eager(work, 1),
                peers.torch.eager(work, 2),
                peers.torch.eager(work, 2, compiled=True),
                peers.sklearn.classifier(work),
                peers.keras.sequential(work),
            ),
            "s an epoch",
            1.0 / work.epochs,
            ">= 1.3x the best peer",
            {BEST_PEER: 1.3},
            reference=COST_ALONE,
            explanation=EXPLANATION,
        )
    ]

"""Row 2: the notes' planar classifier, 2-4-1 on 400 points, full batch."""

from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import Benchmark
from experiments.benchmarks.workload import flower

ROW = 2
EXPLANATION = (
    "In one kernel a step is little more than its elementwise functions and the sums over the examples, dW, db and the "
    "cost. Tried, no better: the default program, XLA's own products in the kernel, sums by lanes, no guard against "
    "what is not finite."
)


def benchmarks(config) -> list[Benchmark]:
    """10,000 steps at learning rate 1.2."""
    work = flower(1_000 if config.quick else 10_000, 1.2)
    return [
        Benchmark(
            f"2 planar: 2-4-1, m = 400, full batch, {work.steps:,} steps",
            (
                ours.fit(work),
                peers.jax.grad_in_scan(work),
                peers.jax.grad_in_loop(work),
                peers.numpy.six_formulas(work),
                peers.sklearn.classifier(work),
                peers.torch.eager(work, 1),
                peers.jax.equinox(work),
            ),
            "s",
            1.0,
            "<= 0.020 s, >= 1.5x jax.grad in a scan",
            {"jax.grad in a scan": 1.5},
            limit=0.020,
            explanation=EXPLANATION,
        )
    ]

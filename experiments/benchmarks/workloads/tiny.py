"""Row 1: tiny nets by mini-batches, where the price of starting each operation decides."""

from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import Benchmark
from experiments.benchmarks.workload import clusters, digits

ROW = 1
EXPLANATION = (
    "In one kernel (jaxnet/_xla/small_call.py) a step is its products, in XLA's own tiled loops, the gathering of its "
    "mini-batch and its exponentials; fit's checks and its start are the same for every call. Tried, no better: the "
    "default program, with threads and without; products as broadcasts or as sums of outer products; rows copied one "
    "by one; wider vectors."
)


def benchmarks(config) -> list[Benchmark]:
    """64-32-10 on digits for 10,000 steps; 2-8-2 and 8-16-4."""
    share = 0.1 if config.quick else 1
    works = {
        "64-32-10, batch 32, digits": digits((64, 32, 10), 32, max(2, round(227 * share)), 0.1),
        "2-8-2, batch 4": clusters((2, 8, 2), 400, 4, max(2, round(50 * share)), 0.05, hidden="tanh"),
        "8-16-4, batch 8": clusters((8, 16, 4), 800, 8, max(2, round(50 * share)), 0.05, hidden="tanh"),
    }
    return [
        Benchmark(
            f"1 tiny: {name}, SGD, {work.steps:,} steps",
            (
                ours.fit(work),
                peers.jax.grad_in_scan(work),
                peers.jax.grad_in_loop(work),
                peers.sklearn.classifier(work),
                peers.torch.eager(work, 1),
                peers.torch.eager(work, 2),
                peers.torch.eager(work, 1, compiled=True),
                peers.jax.equinox(work),
                peers.jax.nnx(work),
                peers.keras.sequential(work),
            ),
            "us a step",
            1e6 / work.steps,
            "<= 5 us a step, >= 50x torch, >= 25x scikit-learn, >= 2x jax.grad in a scan",
            {"torch": 50, "scikit-learn": 25, "jax.grad in a scan": 2},
            limit=5.0 if name.startswith("64") else None,
            explanation=EXPLANATION,
        )
        for name, work in works.items()
    ]

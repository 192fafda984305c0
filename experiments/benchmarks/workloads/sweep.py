"""Row 5: 64 nets at once, eight learning rates with eight starts each."""

import numpy as np

from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import Benchmark
from experiments.benchmarks.workload import digits

ROW = 5
LEARNING_RATES = np.float32([0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3])
EXPLANATION = (
    "Each core trains its members one after the other in one kernel, so a model-step costs what a step of row 1 does, "
    "divided by the cores. vmap of jax.grad and torch's stacked nets gain from products over many nets at once. Tried, "
    "no better, as in row 1: other forms of the products, of the gathering, of the threads."
)


def benchmarks(config) -> list[Benchmark]:
    """64-32-10, 20 epochs of digits, batch 32."""
    work, copies = digits((64, 32, 10), 32, 3 if config.quick else 20, 0.1), 2 if config.quick else 8
    learning_rates = np.repeat(LEARNING_RATES, copies)
    n = len(learning_rates)
    return [
        Benchmark(
            f"5 sweep: {n} nets 64-32-10, {work.epochs} epochs of digits",
            (
                ours.sweep(work, learning_rates, config.device),
                peers.jax.vmap_of_grad(work, learning_rates),
                peers.torch_sweep.stack(work, learning_rates, 1),
                peers.torch_sweep.stack(work, learning_rates, 2),
                peers.torch_sweep.loop(work, learning_rates),
                peers.sklearn.grid_search(work, LEARNING_RATES, copies),
            ),
            "us a model-step",
            1e6 / (n * work.steps),
            ">= 300,000 model-steps/s (3.3 us each), >= 40x torch, >= 2.5x vmap",
            {"torch": 40, "vmap of jax.grad": 2.5},
            limit=3.33,
            explanation=EXPLANATION,
        )
    ]

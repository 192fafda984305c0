"""Row 4: a wide net with operands in bfloat16, master weights and sums in float32."""

import dataclasses

from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import Benchmark, Implementation
from experiments.benchmarks.workload import clusters

ROW = 4
EPOCHS = 5  # fit checks and transposes its data once
TOLERANCE = 0.25  # of a final cost in another precision, or after another order of the examples
EXPLANATION = (
    "A processor without units for bfloat16 gains little from it, and the transposes and roundings before each product "
    "cost part of that; torch's library does the same products in less time. Tried, no better: "
    "plain transposes, which XLA folds back into a product on its slow path (jaxnet/_xla/matmul.py)."
)


def benchmarks(config) -> list[Benchmark]:
    """784-1024-1024-10, batch 512, SGD, epochs of 20,480."""
    m = 2_048 if config.quick else 20_480
    work = clusters((784, 1024, 1024, 10), m, 512, EPOCHS, 0.05, precision="bfloat16")
    exact = dataclasses.replace(work, precision="float32")

    def renamed(implementation, name) -> Implementation:
        return dataclasses.replace(implementation, name=name, tolerance=TOLERANCE)

    return [
        Benchmark(
            f"4 wide bf16: 784-1024-1024-10, batch 512, SGD, epochs of {m:,}",
            (
                ours.fit(work, name="jaxnet.fit bfloat16"),
                renamed(ours.fit(exact), "jaxnet.fit float32"),
                renamed(peers.jax.grad_in_scan(work), "jax.grad bfloat16"),
                renamed(peers.jax.grad_in_scan(exact), "jax.grad float32"),
                renamed(peers.torch.eager(work, 2, autocast=True), "torch autocast"),
                renamed(peers.torch.eager(exact, 2), "torch float32"),
            ),
            "s an epoch",
            1.0 / work.epochs,
            ">= 1.5x torch autocast, >= 3x jax.grad bfloat16",
            {"torch autocast": 1.5, "jax.grad bfloat16": 3},
            explanation=EXPLANATION,
        )
    ]

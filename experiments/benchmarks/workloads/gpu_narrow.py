"""Row 11: narrow nets, a tiny net and a sweep of tiny nets on an accelerator.

Products of float32 may be rounded to TF32 in all of them, as jax.grad has them on a GPU by default.
"""

import dataclasses

import numpy as np

from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import Benchmark, Implementation
from experiments.benchmarks.workload import clusters, digits
from experiments.benchmarks.workloads.sweep import LEARNING_RATES

ROW = 11
FUSED = (
    "not timed: tiny-cuda-nn, a CUDA library that has to be built for its GPU and computes in half precision; its "
    "README draws fully fused nets of these widths on an RTX 3090 beside TensorFlow 2.5 with XLA, which is usually "
    "read as 5 to 10 times as fast"
)
MANY = "not timed: a loop over nets in torch, and GridSearchCV: at their pace in row 5 a run takes minutes"


def benchmarks(config) -> list[Benchmark]:
    """Widths 64 and 128 with 5 hidden layers; 64-32-10; 4,096 of these at once. Tiny on a CPU."""
    full = config.device == "gpu" and not config.quick
    device = "cuda" if config.device == "gpu" else "cpu"

    def all_of(work):
        return ours.fit(work, device=config.device), peers.jax.grad_in_scan(work), *torch_forms(work, device, full)

    found = []
    for width in (64, 128):
        m, steps = (2**18, 50) if full else (512, 3)
        work = clusters((width,) * 6 + (10,), m, None, steps, 1e-2, precision="tf32")
        found.append(
            Benchmark(
                f"11 GPU narrow: width {width}, 5 hidden layers, batch {m:,}",
                all_of(work),
                "ms a step",
                1e3 / work.steps,
                ">= 5x jax.grad",
                {"jax.grad in a scan": 5} if full else {},
                notes=(FUSED,),
            )
        )
    work = digits((64, 32, 10), 32, 2_272 if full else 3, 0.1, precision="tf32")
    found.append(
        Benchmark(
            f"11 GPU tiny: 64-32-10, batch 32, {work.steps:,} steps",
            all_of(work),
            "us a step",
            1e6 / work.steps,
            "<= 6 us a step",
            limit=6.0 if full else None,
        )
    )
    work = dataclasses.replace(work, epochs=20 if full else 1)
    learning_rates = np.repeat(LEARNING_RATES, 512 if full else 1)
    stacks = (peers.torch_sweep.stack(work, learning_rates, 1, graph, device) for graph in (False, True))
    found.append(
        Benchmark(
            f"11 GPU sweep: {len(learning_rates):,} nets 64-32-10, {work.epochs} epochs of digits",
            (ours.sweep(work, learning_rates, config.device), peers.jax.vmap_of_grad(work, learning_rates), *stacks),
            "us a model-step",
            1e6 / (len(learning_rates) * work.steps),
            ">= 2e7 model-steps/s (0.05 us each)",
            limit=0.05 if full else None,
            notes=(MANY,),
        )
    )
    return found


def torch_forms(work, device, full) -> tuple[Implementation, ...]:
    """torch eager, compiled, and both as CUDA graphs."""
    compiled = peers.torch.eager(work, 1, compiled=True, device=device)
    return (
        peers.torch.eager(work, 1, device=device),
        compiled if full else dataclasses.replace(compiled, needs="the full size: it compiles for minutes"),
        peers.torch.cuda_graph(work, device=device),
        peers.torch.cuda_graph(work, compiled=True, device=device),
    )

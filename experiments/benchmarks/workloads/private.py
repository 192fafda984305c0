"""Row 12: private training (DP-SGD) by `fit`, beside the plain one."""

from dataclasses import replace

import jaxnet
from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import Benchmark, Implementation
from experiments.benchmarks.workload import Workload, clusters

ROW = 12
MAX_NORM, NOISE, DELTA = 1.0, 1.0, 1e-5
EXPLANATION = (
    "Clipping alone is within the goal. The noise is a normal number for each param in each step, of 20 rounds of "
    "Threefry and an inverse of erf, beside some 500 multiply-adds a param of the step itself. Tried, no better: "
    "Philox (jax.random's rbg), Box-Muller, both words of a round trip, another inverse of erf."
)


def benchmarks(config) -> list[Benchmark]:
    """784-256-10, batches of 256, which private training draws by Poisson sampling."""
    m = 512 if config.quick else 20_480
    work = clusters((784, 256, 10), m, 256, 1 if config.quick else 3, 0.1)
    plain = replace(ours.fit(work, name="jaxnet.fit, plain", metrics=("cost",)), tolerance=float("inf"))
    return [
        Benchmark(
            f"12 private: 784-256-10, batch 256, {work.steps:,} steps",
            (
                private_fit(work, NOISE, "jaxnet.fit, private"),
                private_fit(work, 0.0, "jaxnet.fit, clipping alone"),
                plain,
                peers.jax.private_in_scan(work, MAX_NORM, NOISE),
                peers.torch.opacus_training(work, MAX_NORM, NOISE),
            ),
            "ms a step",
            1e3 / work.steps,
            "<= 1.2x the plain fit",
            {plain.name: 1 / 1.2},
            explanation=EXPLANATION,
            notes=("no two private trainings have the same noise, and their costs are not compared",),
        )
    ]


def private_fit(work: Workload, noise_multiplier: float, name: str) -> Implementation:
    """`jaxnet.fit` with privacy, all of it, the accountant's epsilon too."""
    privacy = jaxnet.Privacy(MAX_NORM, noise_multiplier, DELTA)
    plain = ours.fit(work, name=name, metrics=("cost",), privacy=privacy)
    return replace(plain, package="dp_accounting", tolerance=float("inf"))

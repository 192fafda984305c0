"""Row 4: a wide net with operands in bfloat16, master weights and sums in float32."""

import dataclasses

from experiments.benchmarks import in_jax, in_torch
from experiments.benchmarks.contest import Contestant, Race
from experiments.benchmarks.workload import clusters


def races(config) -> list[Race]:
    """784-1024-1024-10, batch 512, SGD, an epoch of 20,480."""
    m = 2_048 if config.quick else 20_480
    work = clusters((784, 1024, 1024, 10), m, 512, 1, 0.05, precision="bfloat16")
    exact = dataclasses.replace(work, precision="float32")

    def renamed(contestant, name) -> Contestant:
        return dataclasses.replace(contestant, name=name, tolerance=0.25)

    peers = (
        renamed(in_jax.ours(exact), "jaxnet.fit float32"),
        renamed(in_jax.grad_in_scan(work), "jax.grad bfloat16"),
        renamed(in_jax.grad_in_scan(exact), "jax.grad float32"),
        renamed(in_torch.eager(work, 2, autocast=True), "torch autocast"),
        renamed(in_torch.eager(exact, 2), "torch float32"),
    )
    return [
        Race(
            f"4 wide bf16: 784-1024-1024-10, batch 512, SGD, an epoch of {m:,}",
            (in_jax.ours(work, name="jaxnet.fit bfloat16"), *peers),
            "s",
            1.0,
            ">= 1.5x torch autocast, >= 3x jax.grad bfloat16",
            {"torch autocast": 1.5, "jax.grad bfloat16": 3},
        )
    ]

"""Row 4: a wide net with operands in bfloat16, master weights and sums in float32."""

import dataclasses

from experiments.benchmarks.benchmark import Contestant, Race
from experiments.benchmarks.peers import jax as in_jax
from experiments.benchmarks.peers import torch as in_torch
from experiments.benchmarks.workload import clusters

EPOCHS = 5  # fit checks and turns its data once

WHY = (
    "A processor without AMX multiplies bfloat16 by AVX-512, at most 2.6 times as fast as float32 (3.6 ms against 9.5 "
    "for 1024 x 1024 by 1024 x 512), and 512 columns are turned and rounded once a product. torch's library is "
    "faster: all products of a step with their roundings, each by itself, take 7.0 ms there and 9.9 by XLA's. Tried: "
    "plain transposes, which XLA folds back into a product on its slow path (jaxnet/precision.py)."
)


def races(config) -> list[Race]:
    """784-1024-1024-10, batch 512, SGD, epochs of 20,480."""
    m = 2_048 if config.quick else 20_480
    work = clusters((784, 1024, 1024, 10), m, 512, EPOCHS, 0.05, precision="bfloat16")
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
            f"4 wide bf16: 784-1024-1024-10, batch 512, SGD, epochs of {m:,}",
            (in_jax.ours(work, name="jaxnet.fit bfloat16"), *peers),
            "s an epoch",
            1.0 / work.epochs,
            ">= 1.5x torch autocast, >= 3x jax.grad bfloat16",
            {"torch autocast": 1.5, "jax.grad bfloat16": 3},
            why=WHY,
        )
    ]

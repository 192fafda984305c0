"""Row 10: a wide net in bfloat16 on an accelerator, against what its matrix units do in one product."""

import dataclasses
import time

import jax
import jax.numpy as jnp

from experiments.benchmarks import ours, peers
from experiments.benchmarks.benchmark import Benchmark, measure
from experiments.benchmarks.workload import clusters

ROW = 10
TORCH = 1.05  # times ours that torch.compile is to take


def records(config) -> list[dict]:
    """8 layers of 8192, batch 16,384, full batches; tiny on a CPU, to see that it runs."""
    on_gpu = config.device == "gpu"
    n, m, steps = (8192, 16_384, 20) if on_gpu and not config.quick else (64, 128, 3)
    found = []
    for optimizer, share in (("sgd", 0.90), ("adamw", 0.86)):
        work = clusters((n,) * 9, m, None, steps, 1e-3, precision="bfloat16", optimizer=optimizer)
        device = "cuda" if on_gpu else "cpu"
        compiled = peers.torch.eager(work, 1, autocast=True, compiled=True, device=device)
        others = (
            peers.jax.grad_in_scan(work),
            peers.jax.nnx(work),
            peers.torch.eager(work, 1, autocast=True, device=device),
            compiled if on_gpu else dataclasses.replace(compiled, needs="the full size: it compiles for minutes"),
        )
        the_steps = ours.steps(work, device=config.device)
        benchmark = Benchmark(
            f"10 GPU wide: 8 layers of {n}, batch {m:,}, bfloat16, {optimizer}",
            (ours.fit(work, device=config.device), the_steps, *others),
            "ms a step",
            1e3 / work.steps,
            f">= {share:.0%} of one product's speed, >= {TORCH:g}x torch.compile",
            {compiled.name: TORCH} if on_gpu else {},
            reference=the_steps.name,  # fit reads 1 GB on the host as well, checks and copies it
        )
        record = measure(benchmark, config.rounds)
        flops = (3 * len(work.params) - 1) * 2 * n * n * m  # no derivative by X
        speed = flops / (record["rows"][record["ours"]]["median"] / 1e3)
        peak = product_speed(n, config.device)
        if on_gpu:
            record["goals"][f">= {share:.0%} of the product"] = speed >= share * peak
        record["notes"] += [
            f"{speed / 1e12:.3g} TFLOP/s; one product of two {n} x {n} does {peak / 1e12:.3g}: {speed / peak:.0%}"
        ]
        found.append(record)
    return found


def product_speed(n, device) -> float:
    """Operations a second of one bfloat16 product, the best of a few runs of ten."""
    with jax.default_device(jax.devices(device)[0]):
        A = jnp.ones((n, n), jnp.bfloat16)
        run = jax.jit(lambda A: jax.lax.fori_loop(0, 10, lambda _, B: (A @ B).astype(jnp.bfloat16), A))
        jax.block_until_ready(run(A))
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(run(A))
            best = min(best, time.perf_counter() - start)
    return 10 * 2 * n**3 / best

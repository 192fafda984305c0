"""Row 11: narrow nets, a tiny net and a sweep of tiny nets on an accelerator."""

from experiments.benchmarks import in_jax, in_torch, row05_sweep
from experiments.benchmarks.contest import Race
from experiments.benchmarks.workload import clusters, digits


def races(config) -> list[Race]:
    """Widths 64 and 128 with 5 hidden layers; 64-32-10; 4,096 of these at once. Tiny on a CPU."""
    on_gpu = config.device == "gpu" and not config.quick
    device = "cuda" if config.device == "gpu" else "cpu"
    found = []
    for width in (64, 128):
        m, steps = (2**18, 50) if on_gpu else (512, 3)
        work = clusters((width,) * 6 + (10,), m, None, steps, 1e-2)
        peers = (
            in_jax.grad_in_scan(work),
            in_torch.eager(work, 1, device=device),
            *((in_torch.eager(work, 1, compiled=True, device=device),) if on_gpu else ()),
        )
        found.append(
            Race(
                f"11 GPU narrow: width {width}, 5 hidden layers, batch {m:,}",
                (in_jax.ours(work, device=config.device), *peers),
                "ms a step",
                1e3 / work.steps,
                ">= 5x jax.grad",
                {"jax.grad in a scan": 5} if on_gpu else {},
            )
        )
    work = digits((64, 32, 10), 32, 2_272 if on_gpu else 10, 0.1)
    found.append(
        Race(
            f"11 GPU tiny: 64-32-10, batch 32, {work.steps:,} steps",
            (in_jax.ours(work, device=config.device), in_jax.grad_in_scan(work)),
            "us a step",
            1e6 / work.steps,
            "<= 6 us a step",
            limit=6.0 if on_gpu else None,
        )
    )
    many = row05_sweep.race(digits((64, 32, 10), 32, 20 if on_gpu else 1, 0.1), 512 if on_gpu else 1, config.device)
    keep = many.contestants[:2]
    goal = ">= 2e7 model-steps/s (0.05 us each)"
    found.append(
        Race(
            many.title.replace("5 sweep", "11 GPU sweep"), keep, many.unit, many.per, goal, {}, 0.05 if on_gpu else None
        )
    )
    return found

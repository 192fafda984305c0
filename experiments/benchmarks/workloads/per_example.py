"""Row 6: clipped sums of per-example gradients (DP-SGD), beside the plain gradient of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments.benchmarks import peers
from experiments.benchmarks.benchmark import Benchmark, Implementation, measure
from experiments.benchmarks.workload import clusters

ROW = 6
MAX_NORM = 1.0
EXPLANATION = (
    "The clipped sum needs every layer's dZ before it can scale one: a second round of products after the norms, where "
    "the plain gradient has done with a layer at once."
)


def records(config) -> list[dict]:
    """784-256-128-10, batch 512: time, and temporary memory as the compiler reports it."""
    m = 128 if config.quick else 512
    work = clusters((784, 256, 128, 10), m, m, 1, 0.1)
    net, params, X, Y = work.net, work.params, jnp.asarray(work.X), jnp.asarray(work.Y)

    def clipped(params, X, Y):
        return jaxnet.clipped_grads(net, params, X, Y, MAX_NORM)

    def noisy(params, X, Y):
        return jaxnet.clipped_grads(net, params, X, Y, MAX_NORM, jax.random.key(0), noise_multiplier=1.0)

    def norms(params, X, Y):
        return jaxnet.per_example_norms(net, params, X, Y)

    def plain(params, X, Y):
        return jaxnet.value_and_grad(net, params, X, Y)[1]

    def each(params, X, Y):
        one = lambda x, y: jax.grad(jaxnet.cost, argnums=1)(net, params, x[:, None], y[:, None])
        return jax.vmap(one, in_axes=1)(X, Y)

    def naive(params, X, Y):
        grads = each(params, X, Y)
        norms = jnp.sqrt(sum(jnp.sum(g**2, axis=(1, 2)) for g in jax.tree.leaves(grads)))
        scale = jnp.minimum(1, MAX_NORM / norms)
        return jax.tree.map(lambda g: jnp.tensordot(scale, g, 1), grads)

    def by_optax(params, X, Y):
        private = optax.contrib.differentially_private_aggregate(MAX_NORM, 0.0, 0)
        mean, _ = private.update(each(params, X, Y), private.init(params))
        return jax.tree.map(lambda g: g * m, mean)

    functions = {
        "jaxnet.clipped_grads": (clipped, 1e-3),
        "plain gradient (ours)": (plain, np.inf),
        "vmap(jax.grad), clipped": (naive, 1e-3),
        "optax.contrib differentially_private": (by_optax, 1e-3),
    }
    programs = {name: jax.jit(f).lower(params, X, Y).compile() for name, (f, _) in functions.items()}

    def implementation(name):
        def run():
            return jax.block_until_ready(programs[name](params, X, Y))

        return Implementation(name, lambda: run, optax.tree.norm, tolerance=functions[name][1])

    by_opacus = (peers.torch.opacus_clipped_sum(work, MAX_NORM, ghost) for ghost in (False, True))
    benchmark = Benchmark(
        f"6 per-example: clipped sum, 784-256-128-10, batch {m}",
        (*map(implementation, functions), *by_opacus),
        "ms",
        1e3,
        "<= 1.10x the plain gradient, >= 5x faster than vmap(jax.grad), >= 50x less temporary memory",
        {"plain gradient (ours)": 1 / 1.10, "vmap(jax.grad), clipped": 5},
        explanation=EXPLANATION,
    )
    record = measure(benchmark, config.rounds)
    memory = {name: program.memory_analysis().temp_size_in_bytes for name, program in programs.items()}
    naive_size = memory["vmap(jax.grad), clipped"]
    ratio = naive_size / memory["jaxnet.clipped_grads"]
    record["memory"], record["memory_target"] = memory, naive_size / 50
    record["goals"][">= 50x less temporary memory"] = ratio >= 50
    sizes = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in memory.items())
    record["notes"] += [f"temporary memory: {sizes} ({ratio:.0f}x)"]
    others = {"jaxnet.per_example_norms": norms, "jaxnet.clipped_grads with noise": noisy}
    for name, function in others.items():
        size = jax.jit(function).lower(params, X, Y).compile().memory_analysis().temp_size_in_bytes
        record["notes"] += [f"{name}, not timed: {size / 1e6:.2f} MB"]
    return [record]

"""Row 9: what a step holds, 32 layers of 1024 units and 8,192 examples; its time on fewer examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from experiments.benchmarks import peers
from experiments.benchmarks.benchmark import Benchmark, Implementation, measure

ROW = 9
PLAIN = {
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
MOST = {"relu": 0.55, "softplus": 0.55, "gelu": 0.4, "silu": 0.4, "tanh": 1.01}
THREADS = {"cpu": (1, 2), "cuda": (1,)}  # of torch


def records(config) -> list[dict]:
    """One record an activation."""
    layers, n, m, few = (4, 64, 512, 64) if config.quick else (32, 1024, 8192, 256)
    return [record(config, name, layers, n, m, few) for name in PLAIN]


def record(config, name, layers, n, m, few) -> dict:
    """Bytes on m examples, milliseconds on a few of them."""
    net = jaxnet.MLP((n,) * (layers + 1), (name,) * (layers - 1) + ("identity",))
    params = jaxnet.init(net, jax.random.key(0))

    def by_hand(params, X, Y):
        return jaxnet.value_and_grad(net, params, X, Y)

    def by_grad(wrap):
        def cost(params, X, Y):
            A = X
            for number, (W, b) in enumerate(params, start=1):
                last = number == len(params)
                A = wrap(lambda W, b, A, last=last: W @ A + b if last else PLAIN[name](W @ A + b))(W, b, A)
            return jnp.mean(jnp.sum((A - Y) ** 2, axis=0)) / 2

        return jax.value_and_grad(cost)

    functions = {"jaxnet": by_hand, "jax.grad": by_grad(lambda f: f), "jax.checkpoint": by_grad(jax.checkpoint)}

    def step(gradient):
        def update(params, X, Y):
            J, grads = gradient(params, X, Y)
            return J, jax.tree.map(lambda p, g: p - np.float32(1e-3) * g, params, grads)

        return update

    def compiled(function, m):
        X = jax.ShapeDtypeStruct((n, m), jnp.float32)
        return jax.jit(step(function)).lower(params, X, X).compile()

    memory = {key: compiled(f, m).memory_analysis().temp_size_in_bytes for key, f in functions.items()}
    X = jax.random.normal(jax.random.key(1), (n, few))

    def implementation(key):
        def prepare():
            program = compiled(functions[key], few)
            return lambda: jax.block_until_ready(program(params, X, X))[0]

        return Implementation(key, prepare)

    device = "cuda" if config.device == "gpu" else "cpu"
    by_torch = [peers.torch_memory.implementation(net, params, X, threads, device) for threads in THREADS[device]]
    benchmark = Benchmark(
        f"9 memory: {layers} layers of {n}, {name}; ms on {few} examples",
        (*map(implementation, functions), *by_torch),
        "ms",
        1e3,
        f"<= {MOST[name]:g}x the memory of jax.grad on {m:,} examples, <= 1.05x the time",
        {"jax.grad": 1 / 1.05},
    )
    found = measure(benchmark, config.rounds)
    ratio = memory["jaxnet"] / memory["jax.grad"]
    found["memory"], found["memory_target"] = memory, MOST[name] * memory["jax.grad"]
    found["goals"][f"<= {MOST[name]:g}x the memory of jax.grad"] = ratio <= MOST[name]
    sizes = ", ".join(f"{key} {size / 1e6:,.0f} MB" for key, size in memory.items())
    found["notes"] += [f"temporary memory on {m:,} examples, as XLA reports it: {sizes} ({ratio:.2f}x jax.grad)"]
    found["notes"] += [f"timed on {few}, for {m:,} take {m // few} times as long, of the same operations"]
    if not by_torch[0].absence:
        found["torch_memory"], what = peers.torch_memory.memory(net, params, m, device)
        found["notes"] += [f"torch on {m:,} examples: {found['torch_memory'] / 1e6:,.0f} MB, {what}"]
    return found

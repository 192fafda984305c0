"""Row 8: from the end of the imports to the end of the first step, in a fresh process, cold and with a warm cache."""

import os
import subprocess
import sys
import tempfile

import numpy as np

from experiments.benchmarks.benchmark import Benchmark, Implementation, measure

ROW = 8
OURS = """
import time, numpy as np, jax, optax, jaxnet
X, Y = np.ones((784, 32), np.float32), np.eye(10, dtype=np.float32)[:, np.arange(32) % 10]
start = time.perf_counter()
net = jaxnet.MLP((784, 512, 10), ("relu", "softmax"))
optimizer = optax.sgd(0.1)
params = jaxnet.init(net, jax.random.key(0))
state = jaxnet.TrainState(params, optimizer.init(params), np.int32(0), jax.random.key(0))
step = jax.jit(jaxnet.train_step(net, optimizer))
state, metrics = jax.block_until_ready(step(state, X, Y))
print(time.perf_counter() - start, metrics["cost"])
"""
GRAD = """
import time, numpy as np, jax, jax.numpy as jnp
X, Y = np.ones((32, 784), np.float32), np.eye(10, dtype=np.float32)[np.arange(32) % 10]
start = time.perf_counter()
{normal}
scales = (2 / 784) ** 0.5, (2 / 512) ** 0.5
params = [(s * normal(shape), np.zeros(shape[1], np.float32)) for s, shape in zip(scales, ((784, 512), (512, 10)))]

def loss(params, X, Y):
    (W1, b1), (W2, b2) = params
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(jax.nn.relu(X @ W1 + b1) @ W2 + b2), axis=1))

@jax.jit
def step(params, X, Y):
    J, grads = jax.value_and_grad(loss)(params, X, Y)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), J

params, J = jax.block_until_ready(step(params, X, Y))
print(time.perf_counter() - start, J)
"""
BY_NUMPY = "rng = np.random.default_rng(0); normal = lambda shape: rng.standard_normal(shape, np.float32)"
BY_JAX = "keys = iter(jax.random.split(jax.random.key(0))); normal = lambda shape: jax.random.normal(next(keys), shape)"
TORCH = """
import time, torch
X, Y = torch.ones(32, 784), torch.arange(32) % 10
start = time.perf_counter()
model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
parameters = tuple(model.parameters())
J = {compiled}(lambda: torch.nn.functional.cross_entropy(model(X), Y))()
grads = torch.autograd.grad(J, parameters)
with torch.no_grad():
    torch._foreach_add_(parameters, grads, alpha=-0.1)
print(time.perf_counter() - start, J.item())
"""
KERAS = """
import time, numpy as np, keras
X, Y = np.ones((32, 784), np.float32), np.eye(10, dtype=np.float32)[np.arange(32) % 10]
start = time.perf_counter()
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(512, "relu"), keras.layers.Dense(10)])
model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(from_logits=True))
J = model.train_on_batch(X, Y)
print(time.perf_counter() - start, float(J))
"""

EXPLANATION = (
    "Cold, compiling takes it: the step with its guard against what is not finite, and the random start, "
    "a program for the keys and one a layer, by few passes of the compiler (jaxnet/_xla/compile.py). Warm, what is "
    "left is tracing, loading and the first calls. Tried: the step by fewer passes compiles faster, and then runs more "
    "slowly. A start drawn by NumPy compiles nothing, nor does torch eager."
)


def records(config) -> list[dict]:
    """784-512-10 with SGD: nothing compiled before, and with a full compilation cache."""
    with tempfile.TemporaryDirectory() as cache:
        benchmarks = benchmark(config, "cold", None, 300.0), benchmark(config, "warm", cache, 50.0)
        return [measure(each, config.rounds) for each in benchmarks]


def benchmark(config, kind, cache: str | None, limit) -> Benchmark:
    """A process each for a run; the warm-up fills the cache, where there is one, and the disk's."""
    where = environment(cache) | ({"JAX_PLATFORMS": config.device} if config.device else {})

    def implementation(name, code, package, needs=None) -> Implementation:
        def run():
            command = [sys.executable, "-c", code]
            process = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | where)
            if process.returncode:
                raise RuntimeError((process.stderr.strip().splitlines() or ["no message"])[-1])
            return [float(word) for word in process.stdout.split()[-2:]]

        seconds, cost = (lambda found: found[0]), (lambda found: found[1])
        return Implementation(name, lambda: run, cost, package, tolerance=np.inf, clock=seconds, needs=needs)

    full = "the full size: it compiles for seconds" if config.quick else None
    return Benchmark(
        f"8 start, {kind}: import done to the first step of 784-512-10",
        (
            implementation("jaxnet", OURS, "jax"),
            implementation("jax.grad, start by NumPy", GRAD.format(normal=BY_NUMPY), "jax"),
            implementation("jax.grad, start by jax.random", GRAD.format(normal=BY_JAX), "jax"),
            implementation("torch eager", TORCH.format(compiled=""), "torch"),
            implementation("torch.compile", TORCH.format(compiled="torch.compile"), "torch", full),
            implementation("Keras on JAX", KERAS, "keras"),
        ),
        "ms",
        1e3,
        f"<= {limit:g} ms {kind}",
        limit=limit,
        explanation=EXPLANATION,
        notes=("final cost: each at a start of its own",),
    )


def environment(cache: str | None) -> dict[str, str]:
    """Where JAX and torch.compile keep what they compiled: in the cache, all of it, or nowhere."""
    if cache is None:
        return {
            "KERAS_BACKEND": "jax",
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        }
    return {
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "TORCHINDUCTOR_CACHE_DIR": cache,
    }

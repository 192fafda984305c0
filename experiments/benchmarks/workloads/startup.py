"""Row 8: from the end of the imports to the end of the first step, in a fresh process, cold and with a warm cache."""

import os
import subprocess
import sys
import tempfile

import numpy as np

from experiments.benchmarks import benchmark as contest
from experiments.benchmarks.benchmark import Contestant, Race

OURS = """
import time, numpy as np, jax, optax, jaxnet
X, Y = np.ones((784, 32), np.float32), np.eye(10, dtype=np.float32)[:, np.arange(32) % 10]
began = time.perf_counter()
net = jaxnet.MLP((784, 512, 10), ("relu", "softmax"))
optimizer = optax.sgd(0.1)
params = jaxnet.init(net, jax.random.key(0))
state = jaxnet.TrainState(params, optimizer.init(params), np.int32(0), jax.random.key(0))
step = jax.jit(jaxnet.train_step(net, optimizer))
state, metrics = jax.block_until_ready(step(state, X, Y))
print(time.perf_counter() - began, metrics["cost"])
"""
GRAD = """
import time, numpy as np, jax, jax.numpy as jnp
X, Y = np.ones((32, 784), np.float32), np.eye(10, dtype=np.float32)[np.arange(32) % 10]
began = time.perf_counter()
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
print(time.perf_counter() - began, J)
"""
BY_NUMPY = "rng = np.random.default_rng(0); normal = lambda shape: rng.standard_normal(shape, np.float32)"
BY_JAX = "keys = iter(jax.random.split(jax.random.key(0))); normal = lambda shape: jax.random.normal(next(keys), shape)"
TORCH = """
import time, torch
X, Y = torch.ones(32, 784), torch.arange(32) % 10
began = time.perf_counter()
model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
parameters = tuple(model.parameters())
J = {compiled}(lambda: torch.nn.functional.cross_entropy(model(X), Y))()
grads = torch.autograd.grad(J, parameters)
with torch.no_grad():
    torch._foreach_add_(parameters, grads, alpha=-0.1)
print(time.perf_counter() - began, J.item())
"""
KERAS = """
import time, numpy as np, keras
X, Y = np.ones((32, 784), np.float32), np.eye(10, dtype=np.float32)[np.arange(32) % 10]
began = time.perf_counter()
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(512, "relu"), keras.layers.Dense(10)])
model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(from_logits=True))
J = model.train_on_batch(X, Y)
print(time.perf_counter() - began, float(J))
"""

WHY = (
    "Cold, compiling takes it: 0.24 s for the step, of which its formulas are 0.13, the guard against what is not "
    "finite 0.05, the norm 0.03; 0.2 s for the random start (a program for the keys and one a layer, threefry and the "
    "inverse error function by few passes of the compiler: jaxnet/once.py; it was 0.5), 50 ms for the key. Warm, "
    "what is left is tracing, loading and the first calls. Tried: the step by fewer passes compiles in 0.06 to 0.18 s, "
    "and then runs 1.3 to 2.5 times as long. A start drawn by NumPy compiles nothing, nor does torch eager."
)


def records(config) -> list[dict]:
    """784-512-10 with SGD: nothing compiled before, and all that can be kept."""
    with tempfile.TemporaryDirectory() as cache:
        races = race(config, "cold", None, 300.0), race(config, "warm", cache, 50.0)
        return [contest.run(each, config.rounds) for each in races]


def race(config, kind, cache: str | None, limit) -> Race:
    """A process each for a run; the warm-up fills the cache, where there is one, and the disk's."""
    where = environment(cache) | ({"JAX_PLATFORMS": config.device} if config.device else {})

    def contestant(name, code, package, needs=None) -> Contestant:
        def run():
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | where)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
            return [float(word) for word in done.stdout.split()[-2:]]

        seconds, cost = (lambda found: found[0]), (lambda found: found[1])
        return Contestant(name, lambda: run, cost, package, tolerance=np.inf, clock=seconds, needs=needs)

    full = "the full size: it compiles for seconds" if config.quick else None
    return Race(
        f"8 start, {kind}: import done to the first step of 784-512-10",
        (
            contestant("jaxnet", OURS, "jax"),
            contestant("jax.grad, start by NumPy", GRAD.format(normal=BY_NUMPY), "jax"),
            contestant("jax.grad, start by jax.random", GRAD.format(normal=BY_JAX), "jax"),
            contestant("torch eager", TORCH.format(compiled=""), "torch"),
            contestant("torch.compile", TORCH.format(compiled="torch.compile"), "torch", full),
            contestant("Keras on JAX", KERAS, "keras"),
        ),
        "ms",
        1e3,
        f"<= {limit:g} ms {kind}",
        limit=limit,
        why=WHY,
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

"""Row 8: from the end of the imports to the end of the first step, in a fresh process, cold and with a warm cache."""

import importlib.util
import statistics
import subprocess
import sys
import tempfile

OURS = """
import sys, time, numpy as np, jax, optax, jaxnet
from experiments.experiment import keep_compiled
cache, platform = sys.argv[1:]
if cache:
    keep_compiled(cache)
if platform:
    jax.config.update("jax_platforms", platform)
X, Y = np.ones((784, 32), np.float32), np.eye(10, 32, dtype=np.float32)
began = time.perf_counter()
net = jaxnet.MLP((784, 512, 10), ("relu", "softmax"))
optimizer = optax.sgd(0.1)
params = {params}
state = jaxnet.TrainState(params, optimizer.init(params), np.int32(0), jax.random.key(0))
step = jax.jit(jaxnet.train_step(net, optimizer, gradient="{gradient}"))
jax.block_until_ready(step(state, X, Y))
print(time.perf_counter() - began)
"""
TORCH = """
import sys, time, numpy as np, torch
X, Y = torch.ones(32, 784), torch.arange(32) % 10
began = time.perf_counter()
model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = {compiled}(lambda: torch.nn.functional.cross_entropy(model(X), Y))
loss().backward()
optimizer.step()
print(time.perf_counter() - began)
"""
KERAS = """
import os, sys, time, numpy as np
os.environ["KERAS_BACKEND"] = "jax"
import keras
X, Y = np.ones((32, 784), np.float32), np.eye(10, dtype=np.float32)[np.arange(32) % 10]
began = time.perf_counter()
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(512, "relu"), keras.layers.Dense(10)])
model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(from_logits=True))
model.train_on_batch(X, Y)
print(time.perf_counter() - began)
"""
DRAWN = "jaxnet.init(net, jax.random.key(0))"
CODES = {
    "jaxnet, cold": (OURS.format(params=DRAWN, gradient="manual"), "jax", False),
    "jaxnet, warm cache": (OURS.format(params=DRAWN, gradient="manual"), "jax", True),
    "jax.grad, cold": (OURS.format(params=DRAWN, gradient="autodiff"), "jax", False),
    "jax.grad, warm cache": (OURS.format(params=DRAWN, gradient="autodiff"), "jax", True),
    "torch eager": (TORCH.format(compiled=""), "torch", False),
    "torch.compile": (TORCH.format(compiled="torch.compile"), "torch", False),
    "Keras on JAX": (KERAS, "keras", False),
}
GOALS = {"jaxnet, cold": 300.0, "jaxnet, warm cache": 50.0}

WHY = (
    "Compiling takes it: about 0.25 s for the step, 0.2 s for the random start (threefry and the inverse error "
    "function, once a layer, by few passes of the compiler: jaxnet/once.py; it was 0.4), 70 ms to start the backend "
    "and 70 ms to trace. Warm, what is left is tracing, loading and the first calls. Tried: the step by fewer passes "
    "compiles in 0.06 to 0.18 s, and then runs 1.3 to 2.5 times as long."
)


def records(config) -> list[dict]:
    """784-512-10 with SGD."""
    codes = {name: code for name, code in CODES.items() if not (config.quick and "compile" in name)}
    times, refused, absent = {name: [] for name in codes}, {}, []
    with tempfile.TemporaryDirectory() as cache:
        for round_ in range(1 + (1 if config.quick else config.rounds)):
            for name, (code, package, warm) in codes.items():
                if importlib.util.find_spec(package) is None:
                    absent.append(f"{name} ({package} is not installed)")
                    continue
                done = subprocess.run(
                    [sys.executable, "-c", code, cache if warm else "", config.device or ""],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    refused[name] = (done.stderr.strip().splitlines() or ["no word"])[-1][:160]
                elif round_:  # the first one fills caches: the disk's, and the compilation cache
                    times[name].append(1e3 * float(done.stdout.split()[-1]))
    ours = "jaxnet, cold"
    rows = {
        name: {
            "median": statistics.median(t),
            "min": min(t),
            "ratio": statistics.median(t) / statistics.median(times[ours]),
            "cost": float("nan"),
        }
        for name, t in times.items()
        if t
    }
    return [
        {
            "title": "8 start: import done to the first step of 784-512-10",
            "unit": "ms",
            "ours": ours,
            "rows": rows,
            "goal": "<= 300 ms cold, <= 50 ms with the persistent cache",
            "goals": {f"<= {limit:g} ms {name}": rows[name]["median"] <= limit for name, limit in GOALS.items()},
            "limits": [*GOALS.values()],
            "why": WHY,
            "absent": sorted(set(absent)),
            "refused": refused,
            "rounds": config.rounds,
        }
    ]

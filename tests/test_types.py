"""What a type checker says of a user's program: nothing of calls that run, and where one would not, which line."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAM = """
from pathlib import Path

import jax
import numpy as np
import optax
import pandas as pd

import jaxnet

X = np.ones((2, 8))
Y, weights = np.ones((1, 8)), np.ones(8, np.float32)
net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
jaxnet.MLP([2, 1], ["sigmoid"], "squared_error")
jaxnet.MLP(2, ("sigmoid",))  # error: reportArgumentType
result = jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=optax.sgd(0.1), validation=(X, Y), patience=3)
jaxnet.fit(net, [[0.0, 1.0], [2.0, 3.0]], [[0, 1]], key=jax.random.key(0), checkpoint=Path("run"), every="60s")
jaxnet.fit(net, X, Y, key=jax.random.key(0), epochs="3")  # error: reportArgumentType
jaxnet.fit(net, X, Y, epoch=3)  # error: reportCallIssue
jaxnet.fit(X, Y, key=jax.random.key(0))  # error: reportArgumentType
params = result.params
result.history["cost"].argmin()
result.histroy  # error: reportAttributeAccessIssue
reveal_type(jaxnet.predict(net, params, X), expected_text="Array")
jaxnet.predict(net, params, X, precision="bfloat16")
jaxnet.predict(net, params, [[0.0, 1], (2.0, np.float32(3))])
jaxnet.predict(net, params, pd.DataFrame(X))
jaxnet.predict(net, params)  # error: reportCallIssue
jaxnet.predict(params, net, X)  # error: reportArgumentType, reportArgumentType
jaxnet.predict(net, params, "X")  # error: reportArgumentType
reveal_type(jaxnet.cost(net, params, X, Y, weights), expected_text="Array")
J, grads = jaxnet.value_and_grad(net, params, X, Y)
reveal_type(grads, expected_text="tuple[Layer, ...]")
A, cache = jaxnet.forward(net, params, X)
jaxnet.backward(net, params, cache, np.ones((1, 8)))
jaxnet.cost(net, params, [[0.0], [1.0]], [[1]], [1.0])
jaxnet.forward(net, params, None)  # error: reportArgumentType
reveal_type(jaxnet.accuracy(np.ones((1, 8)), Y), expected_text="Array")
jaxnet.accuracy([[0.9, 0.1]], [[1, 0]])
reveal_type(jaxnet.one_hot(np.array([0, 2]), 3), expected_text="Array")
jaxnet.one_hot([0, 2], n_classes="3")  # error: reportArgumentType
jaxnet.per_example_grads(net, params, X, Y)
jaxnet.per_example_norms(net, params, X, Y)
jaxnet.clipped_grads(net, params, X, Y, 1.0, jax.random.key(1), 0.5, weights=weights)
jaxnet.save(Path("net.safetensors"), net, params)
reveal_type(jaxnet.load("net.safetensors"), expected_text="tuple[MLP, tuple[Layer, ...]]")
jaxnet.sweep(net, X, Y, keys=jax.random.key(0), learning_rate=[0.1, 0.2]).best.bit_length()
if jaxnet.check_gradients(lambda p: p @ p, jax.grad(lambda p: p @ p), np.ones(3)).passed:
    print(jaxnet.train.checkpoint.latest("run"), jaxnet.verify.check_vjp, jaxnet.parallel.mesh())
jaxnet.fitt  # error: reportAttributeAccessIssue
"""


def test_a_type_checker_takes_what_runs_and_refuses_what_does_not(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    found = {}
    for problem in json.loads(done.stdout)["generalDiagnostics"]:
        if problem["severity"] == "error":
            line = problem["range"]["start"]["line"]
            found.setdefault(line, []).append(problem.get("rule") or problem["message"])
    marked = [re.search("# error: (.*)", line) for line in PROGRAM.splitlines()]
    expected = {number: match[1].split(", ") for number, match in enumerate(marked) if match}
    assert found == expected

"""Small programs as a single call: the same numbers, really one piece, and the plain program where that is refused."""

import re
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet._xla import small_call
from jaxnet._xla.compile import with_fallback
from jaxnet.train.batches import Data
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import jit_chunk, run_chunk, run_epochs_in_a_single_call, run_small_chunk
from jaxnet.train.state import TrainState, loop_start
from tests.marks import slow_but

NETS = {
    "2-4-1": (jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), None, 300),
    "8-16-4": (jaxnet.MLP((8, 16, 4), ("relu", "softmax")), 8, 300),
    "few examples": (jaxnet.MLP((5, 6, 3), ("gelu", "softmax")), 7, 50),
}


def arguments(net, batch_size, m, dtype, epochs=3):
    keys = jax.random.split(jax.random.key(3), 3)
    X = jax.random.normal(keys[0], (net.sizes[0], m), dtype)
    classes = max(net.sizes[-1], 2)
    Y = jax.nn.one_hot(jax.random.randint(keys[1], (m,), 0, classes), classes, axis=0, dtype=dtype)[-net.sizes[-1] :]
    data = Data(X.T, Y.T, None) if batch_size else Data(X, Y, None)
    optimizer = optax.sgd(0.3)
    params = jaxnet.init(net, keys[2], dtype=dtype)
    precision = "float64" if dtype == jnp.float64 else "float32"
    config = FitConfig(net, optimizer, precision=precision, batch_size=batch_size)
    state = TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(1))
    loop = jax.tree.map(jnp.copy, loop_start(state, tracks_best=False))
    return config, loop, data, None, jnp.int32(epochs), epochs


@pytest.mark.parametrize("name", slow_but(["few examples"], NETS))
def test_a_single_call_trains_as_the_plain_program(name, x64):
    (small, log, _), (plain, plain_log, _) = (
        run(*arguments(*NETS[name], jnp.float64)) for run in (run_small_chunk, run_chunk)
    )
    chex.assert_trees_all_close(small.state.params, plain.state.params, rtol=1e-12, atol=1e-13)
    chex.assert_trees_all_close(log, plain_log, rtol=1e-12)


@pytest.mark.parametrize("name", slow_but(["8-16-4"], NETS))
def test_it_is_a_single_call(name):
    small = jit_chunk(run_epochs_in_a_single_call, compiler_options=small_call.OPTIONS)
    given = arguments(*NETS[name], jnp.float32)
    text = small.lower(*given).compile().as_text()
    entry = text[text.index("ENTRY") :]
    assert entry.count(" call(") == 1 and 'xla_cpu_small_call="true"' in entry
    assert "ynn_fusion" not in text and " while(" not in entry
    assert not re.search(r" call\(.*_where", text)  # small functions within are fused


def test_a_refused_program_is_compiled_as_usual():
    asked = []

    def refuses(*arguments):
        asked.append(arguments)
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: Fusion kind not implemented on CPU")

    run = with_fallback(refuses, lambda static, x: x + 1)
    assert run("static", 1) == run("static", 1) == 2
    assert len(asked) == 1  # not again


def test_a_failure_while_running_is_not_a_refusal():
    x = jnp.ones(3)

    def fails(static, x):
        x.delete()
        raise jax.errors.JaxRuntimeError("INTERNAL: out of memory")

    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        with_fallback(fails, lambda static, x: x)("static", x)


@pytest.mark.parametrize(
    "sizes, m, batch_size, small",
    [((2, 4, 1), 400, None, True), ((64, 32, 10), 1437, 32, True), ((64, 32, 10), 60_000, 32, False),
     ((784, 8, 10), 1000, 8, False), ((64, 4, 10), 256, None, False), ((2, 50, 1), 400, None, False),
     ((64, 128, 64, 10), 1437, 64, False), ((64, 10), 1437, 128, True)],
)  # fmt: skip
def test_small_is_what_was_measured_faster(sizes, m, batch_size, small):
    assert small_call.fits("cpu", sizes, m, batch_size) == small
    assert not small_call.fits("gpu", sizes, m, batch_size)


def test_fit_is_the_same_whether_small_or_not(monkeypatch):
    X = np.random.default_rng(0).normal(size=(4, 90)).astype(np.float32)
    Y = (X.sum(axis=0, keepdims=True) > 0).astype(np.float32)
    net = jaxnet.MLP((4, 5, 1), ("tanh", "sigmoid"))

    def params():
        optimizer = optax.sgd(0.1)
        return jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=optimizer, batch_size=30, epochs=4).params

    small = params()
    monkeypatch.setattr("jaxnet._xla.small_call.fits", lambda *sizes: False)
    chex.assert_trees_all_close(params(), small, rtol=1e-5, atol=1e-6)


def test_without_jax_s_private_names_training_goes_on(monkeypatch):
    """Names that JAX has moved cost speed: no network is small then, and a single call is the plain function."""
    monkeypatch.setattr(small_call, "set_xla_metadata", None)
    assert not small_call.fits("cpu", (2, 4, 1), 400, None)
    assert small_call.single_call(abs) is abs


def test_import_without_the_modules_that_may_move():
    """In a process of its own, in which jax.experimental.xla_metadata and jax.extend cannot be imported."""
    program = (
        "import sys; sys.modules['jax.experimental.xla_metadata'] = sys.modules['jax.extend.core'] = None\n"
        "import jax, jaxnet; from jaxnet._xla import small_call\n"
        "assert small_call.set_xla_metadata is None\n"
        "net = jaxnet.MLP((2, 4, 1), ('tanh', 'sigmoid'))\n"
        "X, Y = jaxnet.datasets.flower(40)\n"
        "print(jaxnet.fit(net, X, Y, key=jax.random.key(0), epochs=2, batch_size=None).history['cost'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0 and done.stdout.startswith("["), done.stderr

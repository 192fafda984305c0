"""A network that is exported: one program for any number of examples and three platforms, run without our code."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.mlp import LayerCache

NET = jaxnet.MLP((3, 5, 2), ("gelu", "softmax"))
PLATFORMS = ("cpu", "cuda", "tpu")
ELSEWHERE = """
import sys
from pathlib import Path
from typing import NamedTuple

import jax, jax.export, numpy as np

class Layer(NamedTuple):
    W: jax.Array
    b: jax.Array

jax.export.register_namedtuple_serialization(Layer, serialized_name="jaxnet.Layer")
folder = Path(sys.argv[1])
program = jax.export.deserialize(bytearray((folder / "net.bin").read_bytes()))
arrays = dict(np.load(folder / "arrays.npz"))
params = tuple(Layer(arrays[f"W{l}"], arrays[f"b{l}"]) for l in range(2))
found = {name: program.call(params, arrays[name]) for name in ("one", "many")}
assert "jaxnet" not in sys.modules
np.savez(folder / "found.npz", **found)
"""


def exported(function, *arguments):
    """The function's program for arguments with m examples, m a symbol."""
    (m,) = jax.export.symbolic_shape("m")
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    X = jax.ShapeDtypeStruct((NET.sizes[0], m), jnp.float32)
    return jax.export.export(jax.jit(function), platforms=PLATFORMS)(*shapes, X)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_program_for_any_number_of_examples_in_another_process(precision, tmp_path):
    params = jaxnet.init(NET, jax.random.key(0))
    program = exported(lambda params, X: jaxnet.predict(NET, params, X, precision), params)
    assert program.platforms == PLATFORMS
    (tmp_path / "net.bin").write_bytes(program.serialize())
    X = {"one": np.ones((3, 1), np.float32), "many": np.random.default_rng(0).normal(size=(3, 17)).astype(np.float32)}
    numbers = {f"{name}{l}": leaf for l, layer in enumerate(params) for name, leaf in layer._asdict().items()}
    np.savez(tmp_path / "arrays.npz", **X, **numbers)
    subprocess.run([sys.executable, "-c", ELSEWHERE, tmp_path], check=True, cwd=tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        for name in X:
            np.testing.assert_allclose(found[name], jaxnet.predict(NET, params, X[name], precision), atol=1e-6)


def test_a_program_that_has_jaxnet_knows_its_layers_by_importing_one(tmp_path):
    program = exported(lambda params, X: jaxnet.predict(NET, params, X), jaxnet.init(NET, jax.random.key(0)))
    (tmp_path / "net.bin").write_bytes(program.serialize())
    read = "import jax.export; jax.export.deserialize(bytearray(open('net.bin', 'rb').read()))"
    subprocess.run([sys.executable, "-c", f"from jaxnet import Layer; {read}"], check=True, cwd=tmp_path)


def test_params_may_be_part_of_the_program():
    params, X = jaxnet.init(NET, jax.random.key(0)), np.ones((3, 4), np.float32)
    program = exported(lambda X: jaxnet.predict(NET, params, X))
    np.testing.assert_allclose(program.call(X), jaxnet.predict(NET, params, X), atol=1e-6)


def test_the_names_in_a_serialised_program_are_ours():
    """Passes of a network and its gradients too, which hold Layers and LayerCaches."""
    params, X = jaxnet.init(NET, jax.random.key(0)), np.ones((3, 4), np.float32)
    passes = exported(lambda params, X: jaxnet.forward(NET, params, X), params)
    _, cache = jax.export.deserialize(passes.serialize()).call(params, X)
    assert all(type(layer) is LayerCache for layer in cache)
    gradient = exported(jax.grad(lambda params, X: jaxnet.apply(NET)(params, X)[0].sum()), params)
    found = jax.export.deserialize(gradient.serialize()).call(params, X)
    want = jax.grad(lambda params: jaxnet.predict(NET, params, jnp.asarray(X))[0].sum())(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, want)

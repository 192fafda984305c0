"""Several devices give one device's numbers, with one all-reduce of the gradient's size."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from experiments.collectives import collectives
from jaxnet import parallel
from jaxnet.parallel import meshes
from tests import cases
from tests.comparison import assert_trees_close
from tests.marks import slow_but

NET = jaxnet.MLP((5, 8, 6, 3), ("tanh", "relu", "softmax"))
OPTIMIZER = optax.sgd(0.3, momentum=0.9)


@pytest.mark.parametrize(
    ("batch_size", "m", "weighted"),
    slow_but(
        [(None, 61, True), (20, 64, False)],  # full batch, padded and weighted; mini-batches, padded
        [(batch_size, *examples) for batch_size in (None, 16, 20) for examples in ((64, False), (61, True))],
    ),
)
def test_eight_devices_train_as_one(batch_size, m, weighted, key, x64):
    _, X, Y, weights = cases.point(NET, key, m=m)
    settings = {"key": key, "optimizer": OPTIMIZER, "epochs": 3, "batch_size": batch_size}
    settings |= {"weights": weights if weighted else None, "validation": (X[:, :9], Y[:, :9])}
    one = jaxnet.fit(NET, X, Y, **settings)
    eight = jaxnet.fit(NET, X, Y, **settings, mesh=parallel.mesh())
    assert len(eight.params[0].W.sharding.device_set) == 8
    assert_trees_close(jax.tree.map(np.asarray, eight.params), jax.tree.map(np.asarray, one.params), 1e-12)
    assert_trees_close(eight.history, one.history, 1e-12)


def test_training_moves_from_one_device_to_a_mesh_and_back(key):
    _, X, Y, _ = cases.point(NET, key, m=32, dtype=jnp.float32)
    settings = {"optimizer": OPTIMIZER, "batch_size": 16}
    result = jaxnet.fit(NET, X, Y, key=key, epochs=1, **settings)
    for epochs, mesh in ((2, parallel.mesh(4)), (3, None)):
        result = jaxnet.fit(NET, X, Y, epochs=epochs, resume=result, mesh=mesh, **settings)
        assert len(result.params[0].W.devices()) == (1 if mesh is None else 4)
    whole = jaxnet.fit(NET, X, Y, key=key, epochs=3, **settings)
    assert_trees_close(result.params, whole.params, rtol=1e-4)


@pytest.mark.parametrize("n_devices", [2, 8])
def test_one_all_reduce_of_the_gradient_s_bytes(n_devices, key):
    """The gradient and the metrics' two sums (cost, accuracy), whatever the number of devices: nothing else moves."""
    mesh = parallel.mesh(n_devices)
    params, X, Y, _ = cases.point(NET, key, m=64, dtype=jnp.float32)
    state = jaxnet.TrainState(params, OPTIMIZER.init(params), jnp.int32(0), key)
    state = jax.device_put(state, meshes.replicated(mesh))
    X, Y = jax.device_put((X, Y), meshes.columns(mesh))
    step = jax.jit(jaxnet.train_step(NET, OPTIMIZER)).lower(state, X, Y).compile()
    gradient = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert collectives(step, n_devices) == [("all-reduce", gradient + 2 * 4, n_devices)]


def test_one_compilation_for_all_chunks(key, monkeypatch, compiled):
    monkeypatch.setattr("jaxnet.train.in_memory.CHUNK_STEPS", 4)
    _, X, Y, _ = cases.point(NET, key, m=32, dtype=jnp.float32)
    jaxnet.fit(NET, X, Y, key=key, optimizer=OPTIMIZER, epochs=9, batch_size=16, mesh=parallel.mesh(4))
    assert compiled.count("jit(run_epochs)") == 1


@pytest.mark.usefixtures("untyped")
def test_bad_arguments(key):
    _, X, Y, _ = cases.point(NET, key, m=32, dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"data is 9, but JAX finds 8; give at most 8, or None .*num_cpu_devices"):
        parallel.mesh(9)
    with pytest.raises(ValueError, match="data is 0"):
        parallel.mesh(0)
    with pytest.raises(ValueError, match="mesh is 8; expected one with the axis 'data'"):
        jaxnet.fit(NET, X, Y, key=key, mesh=8, batch_size=None)
    with pytest.raises(ValueError, match="device is 'cpu' beside a mesh"):
        jaxnet.fit(NET, X, Y, key=key, mesh=parallel.mesh(), device="cpu", batch_size=None)
    with pytest.raises(ValueError, match="device is 'gpu', but JAX finds only cpu"):
        meshes.device("gpu")


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("wrong", [8, "data", jax.devices, object()], ids=["number", "name", "function", "object"])
def test_what_is_not_a_mesh(wrong):
    with pytest.raises(ValueError, match=r"mesh is .*; expected one with the axis 'data'"):
        parallel.layout(NET, wrong)


def test_what_is_public():
    """A mesh, a layout, a start, and nothing beyond it."""
    names = {name for name, thing in vars(parallel).items() if not name.startswith("_") and not inspect.ismodule(thing)}
    assert names == {"mesh", "layout", "start"} == {*parallel.__all__}

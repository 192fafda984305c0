"""A member of a team of two processes with two CPU devices each, and how a test runs both.

`python -m tests.parallel.member CASE DIRECTORY` is one of them; each writes what it saw to DIRECTORY/INDEX.json.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax

import jaxnet
from jaxnet import parallel
from jaxnet.parallel import meshes, placing
from jaxnet.train import checkpoint_files, loop, windows
from tests.train.checkpointed import digest

NET = jaxnet.MLP((2, 8, 4, 1), ("tanh", "tanh", "sigmoid"))
SETTINGS = {"optimizer": optax.adam(0.01), "epochs": 2, "progress": False}
LAYOUTS = (("data", 4, 1), ("fsdp", 4, 1), ("tensor", 1, 4), ("tensor", 2, 2), ("fsdp+tensor", 2, 2))
BATCH = 32
SECONDS = 240  # after which a member is killed


def data():
    """203 examples, which no number of devices divides."""
    X, Y = (array[:, :203].astype(np.float32) for array in jaxnet.datasets.flower(204))
    return X, Y, np.linspace(0.5, 2, 203, dtype=np.float32)


def batches(X, Y, weights, part=slice(None)):
    """Seven batches of columns, the last of them smaller, of which a process takes a part."""
    cut = np.array_split(np.arange(X.shape[1]), 7)
    return [(X[:, own], Y[:, own], weights[own]) for own in (columns[part] for columns in cut)]


def part_of(columns):
    """This process's half of the columns: of an odd number of them one has more."""
    return np.array_split(columns, 2)[jax.process_index()]


# ---- the two of them -------------------------------------------------------------------------------------------------
def run(case, directory, environment=None, act=None, expected=(0, 0)):
    """Run both; act(processes) may do something to them meanwhile. Return what each wrote, and its standard error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for index in range(2):
        own = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}
        own |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "PYTHONUNBUFFERED": "1", **(environment or {})}
        command = ["timeout", "-s", "KILL", str(SECONDS), sys.executable, "-m", "tests.parallel.member"]
        with open(directory / f"{index}.err", "w") as errors:
            processes.append(
                subprocess.Popen(
                    [*command, case, str(directory)], env=os.environ | own, stderr=errors, stdout=subprocess.DEVNULL
                )
            )
    if act:
        act(directory, processes)
    statuses = tuple(process.wait() for process in processes)
    errors = [(directory / f"{index}.err").read_text() for index in range(2)]
    assert expected in (None, statuses), (statuses, *(text[-3000:] for text in errors))
    files = [directory / f"{index}.json" for index in range(2)]
    return [json.loads(file.read_text()) if file.exists() else None for file in files], errors


def kill(index, signum):
    """Send one of them a signal once it has trained for three epochs."""

    def act(directory, processes):
        seen = directory / f"{index}.pid"
        while not (seen.exists() and seen.read_text().endswith("\n")):
            assert all(process.poll() is None for process in processes), "ended before"
            time.sleep(0.05)
        os.kill(int(seen.read_text()), signum)

    return act


# ---- what each does --------------------------------------------------------------------------------------------------
def fit(*arguments, **options):
    """A short fit whose result is told: the digest of what every process has whole, the cost, and the params."""
    result = jaxnet.fit(NET, *arguments, **{"key": jax.random.key(0)} | SETTINGS | options)
    return told(result)


def told(result):
    """What a result is."""
    whole = placing.on_the_host(result)
    return {
        "digest": digest(whole),
        "params": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(whole.params)],
        "history": {name: values.tolist() for name, values in result.history.items()},
    }


def layouts(directory):
    """Every layout, on data that both have."""
    X, Y, weights = data()
    validation = (X[:, :50], Y[:, :50])
    return {
        f"{layout} {data_} {model}": fit(
            X, Y, weights=weights, batch_size=BATCH, mesh=parallel.mesh(data_, model), layout=layout,
            validation=validation,
        )
        for layout, data_, model in LAYOUTS
    }  # fmt: skip


def parts(directory):
    """Data of which each has a part: a full batch, streams of batches that differ in width and number, a file."""
    X, Y, weights = data()
    X, Y, weights = X[:, :200], Y[:, :200], weights[:200]
    mesh, own = parallel.mesh(), slice(100 * jax.process_index(), 100 * jax.process_index() + 100)
    columns = meshes.columns(mesh)
    X_all, Y_all = (jax.make_array_from_process_local_data(columns, array[:, own]) for array in (X, Y))
    weights_all = jax.make_array_from_process_local_data(meshes.vector(mesh), weights[own])
    mine = [*map(part_of, np.array_split(np.arange(200), 7))]
    if jax.process_index() == 1:
        mine[-1:] = np.array_split(mine[-1], 2)  # one batch more
    halves = [(X[:, own], Y[:, own], weights[own]) for own in mine]
    same = batches(*data())
    return {
        "full": fit(
            X_all, Y_all, weights=weights_all, batch_size=None, mesh=mesh, layout="fsdp", validation=(X_all, Y_all)
        ),
        "mini": fit(X_all, Y_all, weights=weights_all, batch_size=BATCH, mesh=mesh, epochs=20),
        "stream": fit(halves, mesh=mesh, layout="fsdp"),
        "same stream": fit(same, mesh=parallel.mesh(1, 4), layout="tensor"),
    }


def file(directory):
    """A file that each has, and reads its part of."""
    X, Y, _ = (array[..., :200] for array in data())
    mapped = np.lib.format.open_memmap(directory / f"{jax.process_index()}.npy", "w+", np.float32, X.shape)
    mapped[:] = X
    windows.SMALL_FILE = 1
    return fit(mapped, Y, batch_size=BATCH, mesh=parallel.mesh())


def no_room(*arguments):
    """In place of a writer's beginning."""
    raise OSError("no space left")


def disagreements(directory):
    """What is not the same in both, and what only one of them does."""
    X, Y, _ = data()
    second = jax.process_index() == 1
    mesh = parallel.mesh()
    seen, errors = {}, {}

    def met(name, *arguments, call=fit, **options):
        try:
            call(*arguments, **options)
        except Exception as error:
            errors[name] = [type(error).__name__, str(error)]

    def in_one(state, history):
        if second:
            raise LookupError("mine")

    def stops(state, history):
        return second and state.epoch == 3

    def changes(state, history):
        return jaxnet.scale_learning_rate(state, 0.5 if second else 0.25)

    met("epochs", X, Y, epochs=2 + second, mesh=mesh)
    met("optimizer", X, Y, optimizer=optax.sgd(0.1 + second), mesh=mesh)
    met("layout", X, Y, mesh=mesh, layout="fdsp" if second else "fsdp")
    met("X", X + second, Y, mesh=mesh)
    met("key", X, Y, key=jax.random.key(int(second)), mesh=mesh)
    met("callback", X, Y, callbacks=in_one, mesh=mesh)
    met("X of one", X * (np.nan if second else 1), Y, mesh=mesh)
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    met("rates", X, Y, callbacks=changes, optimizer=injected, mesh=mesh)
    met("stream", [(X, Y), (X * np.nan, Y)] if second else [(X, Y), (X, Y)], mesh=mesh)
    met("stream of one place", [(X + second, Y)], mesh=parallel.mesh(1, 4), layout="tensor")
    params = jaxnet.fit(NET, X, Y, key=jax.random.key(0), mesh=mesh, layout="fsdp", **SETTINGS).params
    met("save", directory / f"{second}.safetensors", NET, params, call=jaxnet.save)
    keys = jax.random.split(jax.random.key(0), 4)
    met("sweep", NET, X, Y, keys=keys, learning_rate=0.1, mesh=mesh, call=jaxnet.sweep)
    met("checkpoint", X, Y, mesh=mesh, checkpoint=directory / f"of process {int(second)}")
    begin = checkpoint_files.Writer.begin
    if not second:
        checkpoint_files.Writer.begin = no_room
    met("disk", X, Y, mesh=mesh, checkpoint=directory / "full", epochs=3)
    checkpoint_files.Writer.begin = begin
    columns = [array[:, 100 * second : 100 * second + 100] for array in (X, Y)]
    own = [jax.make_array_from_process_local_data(meshes.columns(mesh), part) for part in columns]
    seen["parts of validation"] = fit(X, Y, mesh=mesh, validation=tuple(own))["history"]
    seen["stopped"] = fit(X, Y, batch_size=None, mesh=mesh, epochs=9, callbacks=stops)["history"]["cost"]
    bar = loop.progress_bar
    loop.progress_bar = lambda shown, *units, **more: seen.update(has_a_bar=shown) or bar(shown, *units, **more)
    fit(X, Y, batch_size=None, mesh=mesh, progress=True)
    loop.progress_bar = bar
    seen["device"] = str(fit(X, Y, batch_size=None, device="cpu")["digest"])
    seen["errors"] = errors
    return seen


def trained(directory, epochs, resume=False, layout="fsdp", callbacks=()):
    """A training with checkpoints."""
    X, Y, _ = data()
    options = {"epochs": epochs, "batch_size": BATCH, "layout": layout, "mesh": parallel.mesh()}
    options |= {"key": jax.random.key(0), "callbacks": callbacks, "resume": resume}
    return told(jaxnet.fit(NET, X, Y, checkpoint=directory / "run", **SETTINGS | options))


def saved(directory):
    """Three epochs with a checkpoint of each."""
    return trained(directory, 3)


def gone_on(directory):
    """Up to six epochs, from what is there."""
    return trained(directory, 6, resume=True)


def long(directory):
    """A training that would not end."""

    def note(state, history):
        if state.epoch == 3:
            (directory / f"{jax.process_index()}.pid").write_text(f"{os.getpid()}\n")
        time.sleep(0.05)

    return trained(directory, 100_000, callbacks=note, resume=True)


def hung(directory):
    """A callback of one process that never returns."""

    def hang(state, history):
        while jax.process_index() == 1 and state.epoch == 2:
            time.sleep(1)

    return trained(directory, 9, callbacks=hang)


def finished(directory):
    """Go on from the last checkpoint, for three epochs more; and the same without a break."""
    last = jaxnet.train.checkpoint.latest(directory / "run")
    resumed = trained(directory, last + 3, resume=True)
    whole = trained(directory / "whole", last + 3)
    return {"last": last, "resumed": resumed["digest"], "whole": whole["digest"]}


if __name__ == "__main__":
    case, place = sys.argv[1], Path(sys.argv[2])
    parallel.start()
    assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
    saw = globals()[case](place)
    (place / f"{jax.process_index()}.json").write_text(json.dumps(saw))

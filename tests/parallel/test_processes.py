"""Two processes of two devices each train as one process does, and neither outlives the other."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import jaxnet
from jaxnet import parallel
from jaxnet.parallel import processes
from tests.parallel import member

TOLERANCE = 1e-6  # of float32


@pytest.fixture(autouse=True)
def as_for_users():
    """The bias correction of Adam in a stream's step promotes a float by an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def assert_as_one_process(seen, X, Y=None, **options):
    """Both have the same bits, and numbers of a fit on one device."""
    first, second = seen
    assert first["digest"] == second["digest"]
    one = jaxnet.fit(member.NET, X, Y, **{"key": jax.random.key(0)} | member.SETTINGS | options)
    for leaf, expected in zip(first["params"], jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(np.asarray(leaf, np.float32), expected, atol=TOLERANCE, rtol=TOLERANCE)
    for name, values in one.history.items():
        np.testing.assert_allclose(first["history"][name], values, rtol=1e-5)


def test_every_layout_trains_as_one_process_does(tmp_path):
    seen, _ = member.run("layouts", tmp_path)
    X, Y, weights = member.data()
    names = [f"{layout} {data} {model}" for layout, data, model in member.LAYOUTS]
    assert list(seen[0]) == names
    for name in names:
        assert_as_one_process(
            [each[name] for each in seen], X, Y, weights=weights, batch_size=member.BATCH,
            validation=(X[:, :50], Y[:, :50]),
        )  # fmt: skip


@pytest.mark.slow
def test_each_process_gives_its_part_of_the_data(tmp_path):
    seen, errors = member.run("parts", tmp_path)
    assert "Warning" not in errors[0] + errors[1]
    X, Y, weights = (array[..., :200] for array in member.data())
    get = lambda name: [each[name] for each in seen]
    assert_as_one_process(get("full"), X, Y, weights=weights, batch_size=None, validation=(X, Y))
    cuts = [np.array_split(part, 2) for part in np.array_split(np.arange(200), 7)]
    last = np.array_split(cuts[-1][1], 2)
    order = [*map(np.concatenate, cuts[:-1]), np.concatenate([cuts[-1][0], last[0]]), last[1]]
    assert_as_one_process(get("stream"), [(X[:, own], Y[:, own], weights[own]) for own in order])
    assert_as_one_process(get("same stream"), member.batches(*member.data()))
    first, second = get("mini")  # each draws from its own, so no fit on one device has these batches
    assert first == second and first["history"]["cost"][-1] < 0.8 * first["history"]["cost"][0]


@pytest.mark.slow
def test_a_file_that_is_mapped_is_trained_on_as_by_one_process(tmp_path, monkeypatch):
    seen, _ = member.run("file", tmp_path)
    X, Y, _ = (array[..., :200] for array in member.data())
    file = np.lib.format.open_memmap(tmp_path / "one.npy", "w+", np.float32, X.shape)
    file[:] = X
    monkeypatch.setattr("jaxnet.train.windows.SMALL_FILE", 1)
    assert_as_one_process(seen, file, Y, batch_size=member.BATCH)


@pytest.mark.slow
def test_processes_that_disagree_stop_together(tmp_path):
    (first, second), _ = member.run("disagreements", tmp_path)
    for name in ("epochs", "optimizer", "X", "key"):
        for index, saw in enumerate((first, second)):
            kind, text = saw["errors"][name]
            assert kind == "ValueError" and text.startswith(f"{name} of process 1 is not that of process 0"), text
            assert f"in process {index}, it is" in text, text
    for name in ("callback", "X of one", "stream", "layout"):
        kind, text = first["errors"][name]
        assert kind == "OtherProcessError" and "process 1 of 2 has failed" in text, (name, kind, text)
    assert second["errors"]["callback"] == ["LookupError", "mine"]
    assert second["errors"]["layout"][1].startswith("layout is 'fdsp'; expected one of")
    assert "nan" in second["errors"]["X of one"][1] and second["errors"]["stream"][1].startswith("batch 1 X holds nan")
    for saw in (first, second):
        assert "the answer of callbacks[0] of process 1" in saw["errors"]["rates"][1]
        assert "params[0].W is an array of which other processes have a part" in saw["errors"]["save"][1]
        assert "mesh has devices of several processes; expected those of one" in saw["errors"]["sweep"][1]
        assert saw["errors"]["stream of one place"][1].startswith("batches differ between processes")
        kind, text = saw["errors"]["checkpoint"]
        assert kind == "ValueError" and "process 1 of 2 does not see what process 0 writes" in text, text
    assert [path.name for path in (tmp_path / "of process 0").iterdir()] == [".lock"]
    assert first["stopped"] == second["stopped"] and len(first["stopped"]) == 3
    assert second["errors"]["disk"][0] == "OtherProcessError" and first["errors"]["disk"] == [
        "OSError",
        "no space left",
    ]
    X, Y, _ = member.data()
    one = jaxnet.fit(member.NET, X, Y, key=jax.random.key(0), validation=(X[:, :200], Y[:, :200]), **member.SETTINGS)
    assert first["parts of validation"] == second["parts of validation"]
    np.testing.assert_allclose(first["parts of validation"]["validation_cost"], one.history["validation_cost"], 1e-5)
    assert (first["has_a_bar"], second["has_a_bar"]) == (True, False)
    assert first["device"] == second["device"]


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_is_gone_on_from_in_one(tmp_path):
    seen, _ = member.run("saved", tmp_path)
    assert seen[0]["digest"] == seen[1]["digest"]
    X, Y, _ = member.data()
    options = member.SETTINGS | {"key": jax.random.key(0), "batch_size": member.BATCH, "epochs": 6}
    with pytest.warns(jaxnet.TrainingWarning, match="devices 4, now 2.*layout 'fsdp', now 'data'"):
        resumed = jaxnet.fit(
            member.NET, X, Y, checkpoint=tmp_path / "run", resume=True, mesh=parallel.mesh(2), **options
        )
    whole = jaxnet.fit(member.NET, X, Y, **options)
    for leaf, expected in zip(jax.tree.leaves(resumed.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(leaf, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
def test_a_checkpoint_of_one_process_is_gone_on_from_in_two(tmp_path):
    X, Y, _ = member.data()
    options = member.SETTINGS | {"key": jax.random.key(0), "batch_size": member.BATCH, "epochs": 3}
    jaxnet.fit(member.NET, X, Y, checkpoint=tmp_path / "run", mesh=parallel.mesh(2), **options)
    seen, errors = member.run("gone_on", tmp_path)
    assert all("devices 2, now 4; layout 'data', now 'fsdp'" in text for text in errors), errors
    assert_as_one_process(seen, X, Y, batch_size=member.BATCH, epochs=6)


# ---- faults ----------------------------------------------------------------------------------------------------------
def gone_on_from(tmp_path):
    """What is left in the directory goes on exactly, in both."""
    for file in tmp_path.glob("*.json"):
        file.unlink()
    (first, second), _ = member.run("finished", tmp_path)
    assert first == second and first["last"] >= 1
    assert first["resumed"] == first["whole"]


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1], ids=["coordinator", "worker"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_stops_ends_the_other_within_the_heartbeat(index, signum, tmp_path):
    began = []

    def act(directory, processes):
        member.kill(index, signum)(directory, processes)
        began.append(time.monotonic())
        assert processes[1 - index].wait(60) not in (0, -signal.SIGKILL)
        began.append(time.monotonic())
        if signum == signal.SIGSTOP:
            os.kill(int((directory / f"{index}.pid").read_text()), signal.SIGKILL)

    member.run("long", tmp_path, {"JAXNET_HEARTBEAT_TIMEOUT": "10"}, act, expected=None)
    assert began[1] - began[0] < 15  # the heartbeat's 10, and JAX's own end
    gone_on_from(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("index", "signum"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_signal_to_one_process_saves_at_an_agreed_step_and_ends_both(index, signum, tmp_path):
    _, errors = member.run("long", tmp_path, act=member.kill(index, signum), expected=None)
    assert all(("KeyboardInterrupt" in text) == (signum == signal.SIGINT) for text in errors)
    assert not any("terminating" in text.lower() for text in errors)  # which a process that is missed says
    gone_on_from(tmp_path)


@pytest.mark.slow
def test_a_process_that_takes_no_step_is_ended_with_its_stacks(tmp_path):
    seen, errors = member.run("hung", tmp_path, {"JAXNET_STEP_TIMEOUT": "20"}, expected=None)
    assert seen == [None, None]
    told = [text for text in errors if "has taken no step for 20 s" in text]
    assert told and any("in hang" in text for text in told)
    gone_on_from(tmp_path)


def test_the_first_step_has_time_to_be_compiled(monkeypatch, capfd):
    limits = {"JAXNET_STEP_TIMEOUT": 0.2, "JAXNET_START_TIMEOUT": 5}
    monkeypatch.setattr(processes, "seconds", limits.get)
    exits = threading.Semaphore(0)
    monkeypatch.setattr(processes.os, "_exit", lambda status: exits.release())
    team = processes.Team(None)
    team.number = 2
    with team.watched() as step_taken:
        assert not exits.acquire(timeout=0.6)
        step_taken()
        assert exits.acquire(timeout=3)
    limits["JAXNET_START_TIMEOUT"] = 0
    with team.watched():
        assert exits.acquire(timeout=10)  # and not for ever
    assert "process 0 of 2 has taken no step for 0.2 s" in capfd.readouterr().err


# ---- the start -------------------------------------------------------------------------------------------------------
def of_launcher(address, number, index, **others):
    """What parallel.start() of a process says."""
    given = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": number, "JAX_PROCESS_ID": index, **others}
    given = {name: value for name, value in given.items() if value is not None}
    command = ["timeout", "-s", "KILL", "60", sys.executable, "-c", "import jaxnet\njaxnet.parallel.start()"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | given
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, (done.returncode, done.stderr[-2000:])
    kinds = ("OSError:", "TimeoutError:", "ValueError:")
    return [line for line in done.stderr.splitlines() if line.startswith(kinds)][-1]


def test_an_address_where_nobody_can_listen_or_answer_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = of_launcher(address, "2", "0")
    assert said.startswith("OSError:") and f"process 0 cannot listen at {address} (Address already in use)" in said
    said = of_launcher("127.0.0.1:1", "2", "1", JAXNET_START_TIMEOUT="2")
    assert said.startswith("TimeoutError: process 1 could not reach the coordinator at 127.0.0.1:1 within 2 s"), said
    said = of_launcher("nowhere.invalid:1", "2", "1", JAXNET_START_TIMEOUT="2")
    assert said.startswith("TimeoutError: process 1 could not reach the coordinator at nowhere.invalid:1"), said


def test_where_no_launcher_tells_anything_that_is_told():
    said = of_launcher(None, None, None)
    assert said.endswith("no launcher that JAX knows tells them; set " + ", ".join(processes.NAMES.values())), said


def test_a_process_that_is_missing_at_the_start_is_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    said = of_launcher(address, "2", "0", JAXNET_START_TIMEOUT="3")
    assert said.startswith(f"TimeoutError: not all processes of 2 have come to {address} within 3 s"), said


def test_the_coordinator_of_a_loopback_address_listens_there_alone(monkeypatch):
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: given.update(options))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    parallel.start(address, 1, 0)
    assert given["coordinator_bind_address"] == given["coordinator_address"] == address


@pytest.mark.parametrize(
    ("launcher", "says"),
    [
        ((None, "2", "1"), "coordinator_address of this process is not set, beside num_processes='2', process_id='1'"),
        (("127.0.0.1:1", None, None), "num_processes and process_id of this process are not set"),
        (("127.0.0.1", "2", "0"), "coordinator_address is '127.0.0.1'; expected 'host:port' of process 0"),
        (("127.0.0.1:1", "2", "2"), "process_id is 2 of 2 processes; expected 0 to 1"),
        (("127.0.0.1:1", "two", "0"), "num_processes is 'two'"),
    ],
)
def test_a_launcher_that_is_half_set_is_told(launcher, says, monkeypatch):
    for name, value in zip(("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID"), launcher, strict=True):
        if value is None:
            monkeypatch.delenv(f"JAX_{name}", raising=False)
        else:
            monkeypatch.setenv(f"JAX_{name}", value)
    with pytest.raises(ValueError, match=says.replace("(", "\\(")):
        parallel.start()


def test_seconds_of_the_environment_are_checked(monkeypatch):
    monkeypatch.setenv("JAXNET_HEARTBEAT_TIMEOUT", "0")
    with pytest.raises(ValueError, match="JAXNET_HEARTBEAT_TIMEOUT is '0'; expected a whole number of seconds"):
        parallel.start("127.0.0.1:1", 1, 0)

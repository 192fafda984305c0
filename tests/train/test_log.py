"""The history on disk, line by line: whole after each epoch, without an epoch twice, and of one training."""

import csv
import errno
import json
import struct

import jax
import numpy as np
import optax
import pytest

import jaxnet
from tests.train.flower import NET, X, Y, fit

METRICS = ("cost", "accuracy", "gradient_norm")


def read(file):
    """The numbers of each line by name, as text or as JSON has them."""
    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            return [{name: float(text) for name, text in row.items()} for row in csv.DictReader(stream)]
    return [json.loads(line) for line in file.read_text().splitlines()]


def assert_log_of(file, history):
    rows = read(file)
    assert [row["epoch"] for row in rows] == list(range(1, len(history["cost"]) + 1))
    assert {name for row in rows for name in row} == {"epoch", *history}
    for name, values in history.items():
        np.testing.assert_array_equal(np.array([row[name] for row in rows], values.dtype), values)


@pytest.fixture(params=["history.jsonl", "history.csv"])
def file(request, tmp_path):
    return tmp_path / request.param


def test_a_line_after_each_epoch(file):
    seen = []
    look = lambda loop, history: seen.append((len(read(file)), len(history["cost"])))
    result = fit(metrics=METRICS, validation=(X, Y), callbacks=[jaxnet.log_to(file), look])
    assert seen == [(n, n) for n in range(1, 6)]
    assert_log_of(file, result.history)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_resumed_training_goes_on_where_it_stands(file):
    """Killed after epoch 4 with a line half written, resumed from epoch 2: epochs 3 and 4 stand there once."""
    first = fit(epochs=2, callbacks=jaxnet.log_to(file))
    fit(epochs=4, resume=first, key=None, callbacks=jaxnet.log_to(str(file)))
    with file.open("a") as stream:
        stream.write(file.read_text().splitlines()[-1][:5])
    assert_log_of(file, fit(epochs=6, resume=first, key=None, callbacks=jaxnet.log_to(file)).history)


def test_a_resumed_training_that_goes_another_way_replaces_what_it_trains_again(file):
    first = fit(epochs=2, callbacks=jaxnet.log_to(file))
    fit(epochs=4, resume=first, key=None, callbacks=jaxnet.log_to(file))
    other = fit(X[:, ::-1], epochs=3, resume=first, key=None, callbacks=jaxnet.log_to(file))
    assert_log_of(file, other.history)


def test_earlier_epochs_are_in_a_log_that_begins_late(file):
    resumed = fit(resume=fit(epochs=3), key=None, callbacks=jaxnet.log_to(file))
    assert_log_of(file, resumed.history)


def test_a_training_that_begins_overwrites_the_file(file):
    """A second run of a script, the same or changed: shorter, from another key, of other metrics."""
    log = jaxnet.log_to(file)
    fit(callbacks=log)
    for changes in ({"epochs": 3}, {"key": jax.random.key(8)}, {"metrics": ("cost",), "epochs": 1}):
        assert_log_of(file, fit(**changes, callbacks=log).history)
        assert_log_of(file, fit(**changes, callbacks=jaxnet.log_to(file)).history)


def test_a_resumed_training_refuses_to_go_on_in_the_log_of_another(file):
    """Even where its first epoch has the same cost, as in full batch at another rate."""
    same_start = {"batch_size": None, "metrics": ("cost",)}
    first = fit(**same_start, epochs=2, optimizer=optax.sgd(0.1))
    for changes in ({"key": jax.random.key(8)}, {"optimizer": optax.sgd(0.2)}):
        fit(**same_start | {"optimizer": optax.sgd(0.1)} | changes, callbacks=jaxnet.log_to(file))
        text = file.read_bytes()
        with pytest.raises(ValueError, match=r"holds the log of another training than the .* another path, or remove"):
            fit(**same_start, optimizer=optax.sgd(0.1), resume=first, key=None, callbacks=jaxnet.log_to(file))
        assert file.read_bytes() == text


def test_a_file_that_is_removed_meanwhile_is_written_whole(file):
    remove = lambda loop, history: file.unlink() if loop.epoch == 3 else None
    assert_log_of(file, fit(callbacks=[jaxnet.log_to(file), remove]).history)


@pytest.mark.usefixtures("untyped")
def test_epochs_that_are_undone_leave_no_line(file):
    """A callback is called again with the history before them; before the first epoch there is no file."""
    log, costs = jaxnet.log_to(file), np.float32([0.5, 0.25, 0.125])
    log(None, {})
    for epochs in (0, 0, 1, 1, 2, 2, 3):
        log(None, {"cost": costs[:epochs]})
        assert (len(read(file)) if file.exists() else 0) == epochs
    assert_log_of(file, {"cost": costs})


@pytest.mark.usefixtures("untyped")
def test_what_json_has_no_number_for_is_null(file):
    jaxnet.log_to(file)(None, {"cost": np.array([np.nan, 0.1], np.float32), "skipped": np.array([2, 0])})
    want = {
        ".jsonl": '{"epoch": 1, "cost": null, "skipped": 2}\n{"epoch": 2, "cost": 0.1, "skipped": 0}\n',
        ".csv": "epoch,cost,skipped\n1,nan,2\n2,0.1,0\n",
    }
    assert file.read_text() == want[file.suffix]


def test_a_sweep_has_a_number_for_each_net(file):
    result = jaxnet.sweep(
        NET, X, Y, keys=jax.random.split(jax.random.key(0), 2), learning_rate=0.1, batch_size=16, epochs=2,
        metrics=("cost",), callbacks=jaxnet.log_to(file),
    )  # fmt: skip
    rows = read(file)
    names = ("cost_0", "cost_1")
    found = [row["cost"] if file.suffix == ".jsonl" else [row[name] for name in names] for row in rows]
    np.testing.assert_array_equal(np.array(found, np.float32), result.history["cost"].T)


@pytest.mark.usefixtures("untyped")
def test_the_first_of_several_processes_writes(file, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    jaxnet.log_to(file)(None, {"cost": np.ones(1)})
    assert not file.exists()


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, TypeError, "path is 3; expected the path of a file"),
        ("history.txt", ValueError, r"path is 'history.txt'; expected .* ends with .jsonl or .csv"),
        ("a\0.csv", ValueError, "expected the path of a file"),
        ("absent/history.csv", OSError, "there is no directory absent"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_is_refused_at_once(path, error, message):
    with pytest.raises(error, match=message):
        jaxnet.log_to(path)


@pytest.mark.usefixtures("untyped")
def test_a_full_disk_is_named(file, monkeypatch):
    log = jaxnet.log_to(file)
    log(None, {"cost": np.ones(1)})
    full = OSError(errno.ENOSPC, "No space left on device")

    def open_full(*arguments, **options):
        raise full

    monkeypatch.setattr(type(file), "open", open_full)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\); give the path of"):
        log(None, {"cost": np.ones(2)})


def events(folder):
    """(step, name, value) of what is in files for TensorBoard: records of a length, its CRC, bytes and theirs."""
    from tensorboardX.proto.event_pb2 import Event

    for file in folder.iterdir():
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            yield from ((event.step, value.tag, value.simple_value) for value in event.summary.value)
            content = content[16 + length :]


@pytest.mark.filterwarnings("default")  # it warns of its own code
def test_the_recipe_for_tensorboard(tmp_path):
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "run")) as writer:

        def to_tensorboard(loop, history):
            for name, values in history.items():
                writer.add_scalar(name, values[-1], int(loop.epoch))

        result = fit(epochs=3, callbacks=to_tensorboard)
    want = {(n, name, value) for name, values in result.history.items() for n, value in enumerate(values.tolist(), 1)}
    assert set(events(tmp_path / "run")) == want

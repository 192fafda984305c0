"""Checkpoints: the same bits after any kill, no damaged file loaded in silence, nothing lost at a failed save."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet import digests
from jaxnet.array_files import DamagedFileError
from jaxnet.atomic_files import NotSavedError
from jaxnet.lock import LockedError, only_user
from jaxnet.train import checkpoint, optimizers
from jaxnet.train import checkpoint_files as files
from jaxnet.train.history import History
from tests.train.checkpointed import EPOCHS, NET, OPTIMIZER, X, Y, digest, train

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("implicit_promotion")


def names(directory):
    return sorted(int(path.name) for path in Path(directory).iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def whole():
    """The digest of the training that nothing interrupts."""
    with jax.numpy_dtype_promotion("standard"):
        return digest(train(None, resume=None))


# What is saved comes back


def test_training_in_parts_is_the_whole_one_bit_for_bit(tmp_path, whole):
    """To 7 epochs, to 13 and to 40: raising epochs goes on exactly, and a finished training stays as it is."""
    for epochs in (7, 13, EPOCHS, EPOCHS):
        result = train(tmp_path, epochs=epochs)
    assert digest(result) == whole == digest(checkpoint.restore(tmp_path, NET, OPTIMIZER))


INJECTED = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9)
OTHERS = {
    "a raw key": {"key": jnp.array([7, 9], jnp.uint32)},
    "another kind of key": {"key": jax.random.key(3, impl="rbg")},
    "no validation": {"validation": None, "patience": None},
    "all metrics": {"metrics": ["cost", "accuracy", "gradient_norm"], "on_nonfinite": "skip"},
    "MultiSteps": {"optimizer": optax.MultiSteps(optax.adam(1e-2), 4).gradient_transformation()},
    "a typed key in the state": {"optimizer": optax.noisy_sgd(0.1, key=0), "key": jax.random.key(3, impl="rbg")},
    "a typed key in a closure": {"optimizer": optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(5)), OPTIMIZER)},
    "full batch, tol": {"batch_size": None, "tol": 1e-9, "validation": None, "patience": None},
    "a rate that falls": {"optimizer": INJECTED, "callbacks": jaxnet.reduce_on_plateau(0.5, patience=1)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_state_comes_back_bit_for_bit(tmp_path, name):
    settings = {"epochs": 6, **OTHERS[name]}
    expected = digest(train(None, resume=None, **settings))
    train(tmp_path, **settings | {"epochs": 3})
    assert digest(train(tmp_path, **settings)) == expected


def test_float64_comes_back_and_is_not_rounded(tmp_path, x64):
    del x64
    settings = {"epochs": 4, "precision": "float64"}
    result = train(tmp_path, **settings)
    assert result.params[0].W.dtype == np.float64
    assert digest(checkpoint.restore(tmp_path, NET, OPTIMIZER)) == digest(result)
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"trained in float64, but 64-bit is off in JAX"):
        checkpoint.restore(tmp_path, NET, OPTIMIZER)


def test_a_result_is_saved_and_restored_by_hand(tmp_path):
    result = train(None, resume=None, epochs=4)
    assert checkpoint.latest(tmp_path / "new") is None
    path = checkpoint.save(tmp_path / "new", NET, result)
    assert path == tmp_path / "new" / "00000004" and checkpoint.latest(tmp_path / "new") == 4
    assert digest(checkpoint.restore(tmp_path / "new", NET, OPTIMIZER)) == digest(result)


def test_the_position_of_a_stream_is_saved(tmp_path):
    class Loader:
        done = 0

        def __iter__(self):
            while True:
                self.done += 1
                yield X[:, self.done % 7 :], Y[:, self.done % 7 :]

        def state_dict(self):
            return {"done": self.done}

        def load_state_dict(self, state):
            self.done = state["done"]

    def stream(directory, epochs):
        common = {
            "key": jax.random.key(3),
            "optimizer": OPTIMIZER,
            "steps_per_epoch": 5,
            "resume": directory is not None,
        }
        return jaxnet.fit(NET, Loader(), epochs=epochs, checkpoint=directory, **common)

    expected = stream(None, 6)
    stream(tmp_path, 2)
    assert digest(stream(tmp_path, 6)) == digest(expected)


# When, and which are kept


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    """The validation targets are inverted: it is worse with every epoch, and the first is the best."""
    train(tmp_path, epochs=9, keep=2)
    assert names(tmp_path) == [1, 8, 9]


def test_an_epoch_without_a_number_is_not_the_best(tmp_path):
    """Its one step was refused by the optimizer."""
    settings = {"key": jax.random.key(3), "optimizer": optax.apply_if_finite(optax.sgd(0.1), 9), "steps_per_epoch": 1}
    batches = [(X * np.float32(1e30), Y), *[(X, Y)] * 4]
    result = jaxnet.fit(
        jaxnet.MLP((2, 1), ("identity",)), batches, epochs=5, checkpoint=tmp_path, keep=1, every=1, **settings
    )
    assert np.isnan(result.history["cost"][0]) and result.history["cost"][1:].argmin() == 3
    assert names(tmp_path) == [5]


def test_every_so_many_epochs_and_where_training_ends(tmp_path):
    saved = []
    train(tmp_path, epochs=8, every=3, callbacks=lambda loop, history: saved.append(names(tmp_path)))
    assert names(tmp_path) == [3, 6, 8] and saved[2] == [] and saved[7][0] == 3


@pytest.mark.usefixtures("untyped")
def test_every_so_many_seconds(tmp_path):
    train(tmp_path / "a", epochs=np.int64(5), every="1000s", patience=np.int64(100))
    assert names(tmp_path / "a") == [5]
    train(tmp_path / "b", epochs=5, every="0.001s", keep=9, callbacks=lambda loop, history: None)
    assert names(tmp_path / "b") == [1, 2, 3, 4, 5]


def test_what_interrupts_training_is_saved_first(tmp_path):
    class StopError(Exception):
        pass

    def stop(loop, history):
        if loop.epoch == 4:
            raise StopError

    with pytest.raises(StopError) as caught:
        train(tmp_path, every=100, callbacks=stop)
    assert names(tmp_path) == [4] and int(caught.value.result.loop.epoch) == 4


def test_the_epoch_before_one_that_is_not_finite_is_saved(tmp_path):
    """With a rate that does not diverge it can be gone on from."""
    rate = lambda step: jnp.where(step < 9, 0.1, jnp.inf)
    with pytest.raises(jaxnet.NotFiniteError) as caught:
        train(tmp_path, optimizer=optax.sgd(rate), every=100)
    assert names(tmp_path) == [int(caught.value.result.loop.epoch)]
    with pytest.warns(jaxnet.TrainingWarning, match="an optimizer with other hyperparameters"):
        result = train(tmp_path, optimizer=optax.sgd(lambda step: 0.1), epochs=6)
    assert int(result.loop.epoch) == 6


def test_ctrl_c_before_a_callback_waits_for_it(tmp_path, monkeypatch):
    """What the callback changes is in the checkpoint of its epoch, whenever the signal came."""

    def extend(self, log, epochs):
        extended(self, log, epochs)
        signal.raise_signal(signal.SIGINT)

    extended = History.extend
    monkeypatch.setattr(History, "extend", extend)
    halve = lambda loop, history: jaxnet.scale_learning_rate(loop, 0.5)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(tmp_path, optimizer=INJECTED, callbacks=halve)
    for result in (caught.value.result, checkpoint.restore(tmp_path, NET, INJECTED)):
        assert int(result.loop.epoch) == 1
        assert float(result.state.opt_state.hyperparams["learning_rate"]) == pytest.approx(0.05)


def test_a_callback_s_change_is_in_the_checkpoint_of_its_epoch(tmp_path):
    halve = lambda loop, history: jaxnet.scale_learning_rate(loop, 0.5)
    train(tmp_path, optimizer=INJECTED, epochs=3, callbacks=halve)
    restored = checkpoint.restore(tmp_path, NET, INJECTED)
    assert float(restored.state.opt_state.hyperparams["learning_rate"]) == pytest.approx(0.1 / 8)


# Damage


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with the checkpoints of epochs 2 and 3, and the digests of both."""
    directory = tmp_path_factory.mktemp("saved")
    with jax.numpy_dtype_promotion("standard"):
        results = [train(directory, epochs=epochs, keep=2) for epochs in (2, 3)]
    shutil.rmtree(directory / "00000001", ignore_errors=True)
    assert names(directory) == [2, 3]
    return directory, [digest(result) for result in results]


def damage(file, rng):
    """Flip a bit, cut, or delete."""
    content = bytearray(file.read_bytes())
    how = rng.choice(["flip"] * 8 + ["cut", "delete"])
    if how == "delete":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif content:
        bit = rng.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_no_damage_is_loaded_in_silence(saved, tmp_path, count):
    """Bits, cuts and deletions over all files of the newest: what comes is it, or the one before it and a warning."""
    directory, (before, newest) = saved
    found = 0
    for trial in range(count):
        rng = random.Random(trial)  # of each trial its own: what one draws depends on the sizes of files
        copy = tmp_path / str(trial)
        shutil.copytree(directory, copy)
        files = sorted((copy / "00000003").rglob("*"), key=lambda path: (path.parent, path.stat().st_size, path))
        files = [path for path in files if path.is_file()]  # by size, as Orbax draws the names of some
        sizes = [1 + path.stat().st_size for path in files]
        damage(rng.choices(files, sizes)[0] if trial % 2 else rng.choice(files), rng)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            result = digest(checkpoint.restore(copy, NET, OPTIMIZER))
        texts = [str(warning.message) for warning in told if warning.category is jaxnet.TrainingWarning]
        if texts:
            found += 1
            assert result == before and len(texts) == 1 and f"{copy}/00000003 is damaged" in texts[0], texts
        else:
            assert result == newest
        shutil.rmtree(copy)
    assert found > 0.4 * count  # Orbax reads a part of many files


def test_training_goes_on_from_the_newest_whole_one_and_writes_over_the_damaged(saved, tmp_path, whole):
    shutil.copytree(saved[0], tmp_path / "run")
    for file in (tmp_path / "run" / "00000003" / "record").iterdir():
        file.write_bytes(b"")  # empty metadata
    with pytest.warns(
        jaxnet.TrainingWarning, match=r"00000003 is damaged: its record .*training goes on from .*00000002"
    ):
        assert digest(train(tmp_path / "run")) == whole
    assert names(tmp_path / "run")[-3:] == [EPOCHS - 2, EPOCHS - 1, EPOCHS]


def test_the_one_that_is_gone_on_from_stays_until_another_is_whole(saved, tmp_path):
    """The newer one is damaged, and does not count among those to keep."""
    shutil.copytree(saved[0], tmp_path / "run")
    (tmp_path / "run" / "00000003" / "record" / "metadata").unlink()
    seen = []
    with pytest.warns(jaxnet.TrainingWarning, match="00000003 is damaged"):
        train(tmp_path / "run", every=2, keep=1, epochs=6, callbacks=lambda *_: seen.append(names(tmp_path / "run")))
    assert seen[0] == seen[1] == [2, 3] and names(tmp_path / "run") == [2, 6]  # the best, and the last


def test_bad_input_is_told_as_without_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 99 but X has 60 examples") as caught:
        train(tmp_path, batch_size=99)
    assert not hasattr(caught.value, "__notes__") and names(tmp_path) == []


def test_where_none_is_whole_nothing_begins(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    for file in (tmp_path / "run").rglob("manifest.ocdbt"):
        file.unlink()
    with pytest.raises(DamagedFileError, match=r"no checkpoint that is whole \(.*00000003 is damaged.*00000002"):
        train(tmp_path / "run")
    with pytest.raises(DamagedFileError, match="has no checkpoint; expected a directory that fit"):
        checkpoint.restore(tmp_path / "none", NET)


def rewritten(path, change):
    """Change a record, and make its digest right."""
    file = path / "record" / "metadata"
    record = json.loads(file.read_text())
    del record["sha256"]
    change(record)
    record["sha256"] = digests.of_record(record)
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(version=2), "is of version 2 of the format; this jaxnet reads version 1: update"),
        (lambda record: record["net"].update(sizes=[2, 9, 1]), r"another network: net.sizes is \[2, 9, 1\] there; exp"),
        (lambda record: record["net"].update(l2=0.1), r"another network: net.l2 is 0.1 there; expected 0.0: give"),
        (lambda record: record["leaves"].pop(0), r"\.state\.params\[0\]\.W is missing there; expected float32\[4, 2\]"),
        (
            lambda record: record["leaves"].append(["x", "float32", [1], ""]),
            r"x is float32\[1\] there; expected nothing",
        ),
        (
            lambda record: record["leaves"][0].__setitem__(2, [2**40]),
            r"\[0\]\.W is float32\[1099511627776\] there; exp",
        ),
        (
            lambda record: record["keys"].update({".state.params[0].W": "rbg"}),
            r"\.state\.params\[0\]\.W is rbg of float32\[4, 2\] there; expected float32\[4, 2\]",
        ),
    ],
)
def test_what_is_of_another_kind_is_an_error_at_once(saved, tmp_path, change, message):
    """Never the one before it: that is of the same kind."""
    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", change)
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(tmp_path / "run", NET, OPTIMIZER)


@pytest.mark.parametrize("field", ["l2", "dropout"])
def test_a_checkpoint_of_a_time_without_penalty_or_dropout_is_one_with_0(saved, tmp_path, field):
    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", lambda record: record["net"].pop(field))
    assert int(checkpoint.restore(tmp_path / "run", NET, OPTIMIZER).loop.epoch) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(epoch=7),
        lambda record: record["keys"].update({".state.key": "os.system"}),
        lambda record: record.update(keys=[]),
        lambda record: record["leaves"].reverse(),
        lambda record: record.update(leaves=3),
    ],
)
def test_a_record_that_does_not_fit_is_damage(saved, tmp_path, change):
    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", change)
    with pytest.warns(jaxnet.TrainingWarning, match="00000003 is damaged"):
        assert digest(checkpoint.restore(tmp_path / "run", NET, OPTIMIZER)) == saved[1][0]


def test_the_first_path_that_differs_is_named(saved):
    with pytest.raises(ValueError, match=r"net\.sizes is \[2, 4, 1\] there; expected \[2, 5, 1\]"):
        checkpoint.restore(saved[0], jaxnet.MLP((2, 5, 1), ("tanh", "sigmoid")), OPTIMIZER)
    with pytest.raises(ValueError, match=r"\.state\.opt_state\[0\]\.count is int32\[\] there; expected nothing"):
        checkpoint.restore(saved[0], NET, optax.sgd(0.1))
    with (
        pytest.raises(ValueError, match="precision is 'float64' but resume was trained in float32"),
        jax.enable_x64(True),
    ):
        train(saved[0], precision="float64")


OTHER_UPDATE = "other settings .an optimizer with other hyperparameters.: it goes on, but not as it would have"
OTHER_START = "goes on with the state that was saved, and the new number has no effect; to change a rate, let"


def test_settings_that_changed_are_told(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    with pytest.warns(jaxnet.TrainingWarning, match=r"other settings \(batch_size 16, now 20; patience 100, now 50\)"):
        train(tmp_path / "run", batch_size=20, patience=50, epochs=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rate: optax.adam(rate), OTHER_UPDATE),
        (lambda rate: optax.adam(optax.cosine_decay_schedule(0.01, int(1000 * rate))), OTHER_UPDATE),
        (lambda rate: optax.inject_hyperparams(optax.sgd)(rate), OTHER_START),
        (lambda rate: optax.noisy_sgd(0.1, key=jax.random.key(int(100 * rate))), OTHER_START),
    ],
    ids=["a rate", "a schedule", "a rate in the state", "a key in the state"],
)
def test_hyperparameters_that_changed_are_told(tmp_path, make, message):
    train(tmp_path, epochs=1, optimizer=make(0.1))
    train(tmp_path, epochs=2, optimizer=make(0.1))  # warnings are errors
    with pytest.warns(jaxnet.TrainingWarning, match=message) as told:
        train(tmp_path, epochs=3, optimizer=make(0.2))
    assert len(told) == 1


def test_a_checkpoint_of_an_earlier_jaxnet_is_gone_on_from(saved, tmp_path):
    """It knew one key, and one digest of an optimizer."""

    def earlier(record):
        record["key"] = record.pop("keys")[".state.key"]
        del record["settings"]["optimizer_init"]
        record["settings"]["optimizer"] = "of both programs"

    shutil.copytree(saved[0], tmp_path / "run")
    rewritten(tmp_path / "run" / "00000003", earlier)
    assert digest(train(tmp_path / "run", epochs=3)) == saved[1][1]  # warnings are errors


def test_another_version_of_jax_is_told(tmp_path, monkeypatch):
    train(tmp_path, epochs=1)
    version = jax.__version__
    monkeypatch.setattr(jax, "__version__", "9.9")
    monkeypatch.setattr(optimizers, "digest", lambda *_: ("as another", "JAX writes them"))
    with pytest.warns(jaxnet.TrainingWarning, match=rf"other settings \(jax '{version}', now '9.9'\)"):
        train(tmp_path, epochs=2)


# The directory


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": 3}, "checkpoint is an int; expected the path of a directory"),
        ({"checkpoint": "a\0b"}, "without null characters"),
        ({"checkpoint": None}, "resume is True without checkpoint; give the directory"),
        ({"every": 0}, "every is 0; expected an integer of at least 1 epochs, or seconds such as '60s'"),
        ({"every": "soon"}, "every is 'soon'; expected"),
        ({"every": "0s"}, "every is '0s'; expected"),
        ({"keep": 0}, "keep is 0; expected an integer of at least 1"),
        ({"checkpoint": "gs://bucket/run"}, "expected the path of a local directory"),
        ({"checkpoint": ""}, "checkpoint is empty; expected the path of a directory"),
        ({"checkpoint": None, "resume": None, "every": 2}, "every is 2 without checkpoint, and nothing would be saved"),
        ({"checkpoint": None, "resume": None, "keep": 2}, "keep is 2 without checkpoint, and nothing would be saved"),
        ({"resume": None}, "has checkpoints of an earlier training, up to epoch 3; give resume=True to go on from"),
    ],
)
def test_fit_refuses(saved, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        train(
            **{"directory": saved[0]}
            | {"directory" if name == "checkpoint" else name: v for name, v in changes.items()}
        )


@pytest.mark.usefixtures("untyped")
def test_by_hand_the_directory_has_its_own_name(tmp_path):
    result = train(None, resume=None, epochs=1)
    restore, save = lambda it: checkpoint.restore(it, NET), lambda it: checkpoint.save(it, NET, result)
    for call in (checkpoint.latest, restore, save):
        with pytest.raises(TypeError, match="directory is an int; expected the path of a directory"):
            call(3)
        with pytest.raises(ValueError, match="directory is 'gs://bucket'; expected the path of a local directory"):
            call("gs://bucket")
    with only_user(tmp_path), pytest.raises(LockedError, match="or give another directory"):
        checkpoint.save(tmp_path, NET, result)


def test_a_checkpoint_of_no_epoch_is_one(tmp_path):
    """Of a training that was interrupted in its first."""
    checkpoint.save(tmp_path, NET, train(None, resume=None, epochs=1)._replace(history={}, loop=at_the_start()))
    with pytest.raises(ValueError, match="has checkpoints of an earlier training, up to epoch 0"):
        train(tmp_path, resume=None)
    assert int(train(tmp_path, epochs=2).loop.epoch) == 2


def at_the_start():
    settings = {"key": jax.random.key(3), "optimizer": OPTIMIZER, "validation": (X[:, :20], 1 - Y[:, :20])}
    with pytest.raises(KeyboardInterrupt) as caught:
        jaxnet.fit(NET, Interrupted(), patience=100, steps_per_epoch=4, **settings)
    return caught.value.result.loop


class Interrupted:
    def __iter__(self):
        yield X, Y
        raise KeyboardInterrupt


def test_what_is_not_newer_is_not_saved_beside_what_there_is(saved):
    with pytest.raises(ValueError, match=r"result is of epoch 2, but .* has a checkpoint of epoch 3, which restore"):
        checkpoint.save(saved[0], NET, train(None, resume=None, epochs=2))


def test_a_file_is_no_directory_of_checkpoints(tmp_path):
    (tmp_path / "file").write_text("")
    for call in (lambda: checkpoint.latest(tmp_path / "file"), lambda: checkpoint.restore(tmp_path / "file", NET)):
        with pytest.raises(NotADirectoryError, match="file is a file; expected a directory of checkpoints"):
            call()


def test_another_number_of_steps_in_an_epoch_is_told(tmp_path):
    settings = {"key": jax.random.key(3), "optimizer": OPTIMIZER, "checkpoint": tmp_path, "resume": True}
    jaxnet.fit(NET, [(X, Y)], steps_per_epoch=2, epochs=1, **settings)
    with pytest.warns(jaxnet.TrainingWarning, match=r"other settings \(steps_per_epoch 2, now 3\)"):
        jaxnet.fit(NET, [(X, Y)], steps_per_epoch=3, epochs=2, **settings)


def test_a_directory_that_cannot_be_made_is_told_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    began = []
    with pytest.raises(
        NotSavedError, match=r"file/run cannot be written \(Not a directory\); give a directory that can"
    ):
        train(tmp_path / "file" / "run", callbacks=lambda loop, history: began.append(loop))
    assert not began


HOLDS = """
import sys, time
from pathlib import Path
from jaxnet.lock import only_user
with only_user(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(99)
"""


def test_one_training_at_a_time_uses_a_directory(tmp_path):
    with only_user(tmp_path), pytest.raises(LockedError, match=r"another program is at work in .*; wait for its end"):
        train(tmp_path)
    program = [sys.executable, "-c", HOLDS, tmp_path]
    with subprocess.Popen(program, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.readline()
        with pytest.raises(LockedError):
            train(tmp_path, epochs=1)
        other.kill()
    assert int(train(tmp_path, epochs=1).loop.epoch) == 1  # a dead process holds nothing


def test_without_orbax_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r'pip install "jaxnet\[checkpoint\]"'):
        train(tmp_path)


# Saves that fail


def test_a_save_that_failed_in_the_background_is_raised_at_the_next(tmp_path, monkeypatch):
    failed = []

    def fail_once(*arguments, **keywords):
        if not failed:
            failed.append(True)
            raise OSError("no space left on device")
        return move(*arguments, **keywords)

    move = os.rename
    monkeypatch.setattr(os, "rename", fail_once)  # the last thing that a save does, in Orbax's thread
    seen = []
    with pytest.raises(NotSavedError, match=r"00000001 cannot be saved \(no space left"):
        train(tmp_path, callbacks=lambda loop, history: seen.append(int(loop.epoch)))
    assert failed and seen == [1, 2]


def test_a_last_save_that_failed_has_the_result(tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError("no space left on device")

    expected = train(None, resume=None, epochs=3)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(NotSavedError, match="00000003 cannot be saved") as caught:
        train(tmp_path, epochs=3, every=3)
    assert digest(caught.value.result) == digest(expected)


def test_saves_of_several_trainings_are_one_at_a_time(tmp_path, monkeypatch):
    """A save begins when another writer's is done; what that met is raised by its own."""

    def fail_when_told(source, target, **keywords):
        if "/first/" in str(target) and str(target).endswith("00000001"):
            assert go_on.wait(timeout=60)
            raise OSError("no space left on device")
        return move(source, target, **keywords)

    go_on, move = threading.Event(), os.rename
    monkeypatch.setattr(os, "rename", fail_when_told)
    result = train(None, resume=None, epochs=1)
    first, second = files.Writer(), files.Writer()
    first.begin(tmp_path / "first", NET, {}, result)
    thread = threading.Thread(target=second.begin, args=(tmp_path / "second", NET, {}, result), daemon=True)
    thread.start()
    thread.join(timeout=0.5)
    waits = thread.is_alive() and not list(tmp_path.glob("second/*"))
    go_on.set()
    thread.join(timeout=60)
    second.close()
    assert waits and names(tmp_path / "second") == [1]
    with pytest.raises(NotSavedError, match=r"first/00000001 cannot be saved \(no space left"):
        first.close()


def test_places_in_the_streams_of_another_number_of_processes_are_told_and_left_out(tmp_path):
    writer = files.Writer()
    writer.begin(tmp_path, NET, {}, train(None, resume=None, epochs=1), positions=["here", "there"])
    writer.close()
    with pytest.warns(jaxnet.TrainingWarning, match="checkpoints of 2 processes, each with a place in its own stream"):
        assert checkpoint.restore(tmp_path, NET, OPTIMIZER).position is None
    with pytest.warns(jaxnet.TrainingWarning, match="and now there are 1: batches begin"):
        train(tmp_path, epochs=2)


def test_a_fit_with_checkpoints_may_run_in_a_callback_of_another(tmp_path):
    train(tmp_path / "outer", epochs=2, callbacks=lambda loop, _: train(tmp_path / f"{loop.epoch}", epochs=2) and None)
    assert names(tmp_path / "outer") == names(tmp_path / "1") == names(tmp_path / "2") == [1, 2]


DISK_FULL = """
import resource, signal, sys
from tests.train.checkpointed import *
train(sys.argv[1], epochs=3)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(loop, history):
    if loop.epoch == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        if sys.argv[2] == "6":
            signal.raise_signal(signal.SIGTERM)
try:
    train(sys.argv[1], callbacks=fill, epochs=int(sys.argv[2]))
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param(40, id="at the next step", marks=pytest.mark.slow),
        pytest.param(5, id="at the end"),
        pytest.param(6, id="at SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_an_error_and_what_was_saved_stays(tmp_path, whole, epochs):
    run = subprocess.run(
        [sys.executable, "-c", DISK_FULL, tmp_path, str(epochs)], capture_output=True, text=True, cwd=ROOT
    )
    told = r"NotSavedError .*0000000[456] cannot be saved .*those before it are as they were"
    assert re.search(told, run.stdout), run
    assert 3 in names(tmp_path)
    assert digest(train(tmp_path)) == whole


# Kills and signals, of a program of its own


def begun(directory, *program):
    """A process that ends with its block."""
    program = [sys.executable, *(program or ("-m", "tests.train.checkpointed")), directory]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def until(program, word, least=0):
    """Read what it prints, up to a line of that word and of at least that number."""
    for line in program.stdout:
        if line.startswith(word) and (not least or int(line.split()[1]) >= least):
            return line
    pytest.fail(program.stderr.read())


def finished(directory):
    """The digest that the program prints when it is started and left alone."""
    with begun(directory) as program:
        return until(program, "digest").split()[1]


@pytest.mark.parametrize(
    "kills", [2, pytest.param(8, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.long)]
)
def test_killed_at_any_moment_the_end_is_the_same(tmp_path, whole, kills):
    """With kill -9, in steps and in saves; what is lost is what came after the last checkpoint."""
    rng = random.Random(kills)
    for kill in range(kills):
        if kill % 5 == 0:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        with begun(tmp_path / "run") as program:
            until(program, *(("epoch", 1 + 7 * (kill % 5) + rng.randrange(7)) if kill % 10 else ("begins",)))
            time.sleep(rng.random() * 0.15)  # about as long as an epoch and its save
            program.kill()
        if kill % 5 == 4 or kill == kills - 1:
            assert finished(tmp_path / "run") == whole


def test_sigterm_saves_and_exits_with_0(tmp_path, whole):
    with begun(tmp_path) as program:
        until(program, "epoch", 5)
        program.terminate()
        assert program.wait(timeout=60) == 0, program.stderr.read()
    assert 5 <= names(tmp_path)[-1] < EPOCHS
    assert finished(tmp_path) == whole


def test_ctrl_c_saves_and_ends_as_python_does(tmp_path, whole):
    with begun(tmp_path) as program:
        until(program, "epoch", 5)
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=60) == -signal.SIGINT  # 130 for a shell
    assert 5 <= names(tmp_path)[-1] < EPOCHS
    assert finished(tmp_path) == whole


LONG_EPOCH = """
import sys
from jaxnet.train import signals
from tests.train.checkpointed import *
wait = signals.wait
signals.wait = lambda array: (print("computing", flush=True), wait(array))
net = jaxnet.MLP((512, 512, 512, 1), ("tanh", "tanh", "sigmoid"))
X, Y = np.ones((512, 40_000), np.float32), np.arange(40_000, dtype=np.float32)[None] % 2
jaxnet.fit(net, X[:, :8], Y[:, :8], key=jax.random.key(0), epochs=1, batch_size=4, checkpoint=sys.argv[1])
jaxnet.fit(net, X, Y, epochs=2, batch_size=4, checkpoint=sys.argv[1], resume=True)
"""


def test_a_second_ctrl_c_quits_at_once(tmp_path):
    """Within an epoch that takes a minute; what is on disk stays whole."""
    with begun(tmp_path, "-c", LONG_EPOCH) as program:
        until(program, "computing")
        until(program, "computing")  # the long one
        program.send_signal(signal.SIGINT)
        time.sleep(1)
        assert program.poll() is None  # the first waits for the end of the epoch
        program.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert program.wait(timeout=60) == -signal.SIGINT
        assert time.monotonic() - began < 10
    net = jaxnet.MLP((512, 512, 512, 1), ("tanh", "tanh", "sigmoid"))
    assert int(checkpoint.restore(tmp_path, net).loop.epoch) == 1


def test_in_another_thread_no_signal_is_touched(tmp_path):
    seen = []

    def run():
        note = lambda loop, history: seen.append((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)))
        train(tmp_path, epochs=1, callbacks=note)

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_handler_of_sigterm_is_put_back(tmp_path):
    seen = []
    train(tmp_path, epochs=1, callbacks=lambda loop, history: seen.append(signal.getsignal(signal.SIGTERM)))
    assert seen[0] is not signal.SIG_DFL and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

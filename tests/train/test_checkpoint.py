"""Checkpoints: the same bits after any kill, no damaged file loaded in silence, nothing lost at a failed save."""

import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.atomic_files import NotSavedError
from jaxnet.lock import LockedError, only_user
from jaxnet.train import checkpoint
from jaxnet.train.history import History
from tests.train.checkpointed import EPOCHS, NET, OPTIMIZER, ROOT, X, Y, digest, names, train

pytestmark = pytest.mark.usefixtures("implicit_promotion")


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

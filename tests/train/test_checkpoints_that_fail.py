"""A save that fails is an error with the result, and what was saved before stays."""

import os
import re
import subprocess
import sys
import threading

import pytest

import jaxnet
from jaxnet.atomic_files import NotSavedError
from jaxnet.train import checkpoint
from jaxnet.train import checkpoint_files as files
from tests.train.checkpointed import NET, OPTIMIZER, ROOT, digest, names, train

pytestmark = pytest.mark.usefixtures("implicit_promotion")


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

"""A training that is killed or interrupted at any moment goes on to the same end."""

import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

import jaxnet
from jaxnet.train import checkpoint
from tests.train.checkpointed import EPOCHS, ROOT, names, train

pytestmark = pytest.mark.usefixtures("implicit_promotion")


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

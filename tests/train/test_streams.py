"""`fit(net, batches)`: a loop over the batches in Python as the reference, bounded memory, nothing lost at failures."""

import subprocess
import sys
import threading
import weakref
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from tests.train.flower import BATCHES, NET, OPTIMIZER, X, Y, fit_batches

pytestmark = pytest.mark.usefixtures("implicit_promotion")


def trained_in_python(batches, epochs=3, optimizer=OPTIMIZER):
    """The state and the costs of each epoch, of a loop of `train_step` that starts as `fit` does."""
    init_key, key = jax.random.split(jax.random.key(3))
    params = jaxnet.init(NET, init_key)
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), key)
    step, costs = jax.jit(jaxnet.train_step(NET, optimizer)), []
    for _ in range(epochs):
        measured = []
        for batch in batches:
            state, metrics = step(state, *map(jnp.asarray, batch))
            measured.append((float(metrics["cost"]), batch[0].shape[1] if len(batch) == 2 else batch[2].sum()))
        cost, weight = zip(*measured, strict=True)
        costs.append(np.average(cost, weights=weight))
    return state, np.array(costs)


WEIGHTED = [(X, Y, np.arange(X.shape[1], dtype=np.float32)) for X, Y in BATCHES]


@pytest.mark.parametrize("batches", [BATCHES, WEIGHTED], ids=["plain", "weighted"])
def test_a_stream_is_a_loop_of_steps_over_its_batches(batches):
    """The cost is the mean over the examples, also where the last batch is smaller, or an example weighs more."""
    state, costs = trained_in_python(batches)
    result = fit_batches(batches)
    chex.assert_trees_all_close(result.params, state.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.history["cost"], costs, rtol=1e-6)
    assert int(result.state.step) == 12 and int(result.loop.epoch) == 3


class Loader:
    """Gives what a loader of another library may: a new pass at each `iter`, lists of tensors with `__array__`."""

    def __iter__(self):
        return ([Tensor(X), Tensor(Y)] for X, Y in BATCHES)


class Tensor:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


def endless():
    while True:
        yield from BATCHES


def reused_buffers():
    """A reader that fills the same two arrays again and again."""
    X_buffer, Y_buffer = np.zeros((2, 16), np.float32), np.zeros((1, 16), np.float32)
    for X_batch, Y_batch in BATCHES * 3:
        m = X_batch.shape[1]
        X_buffer[:, :m], Y_buffer[:, :m] = X_batch, Y_batch
        yield X_buffer[:, :m], Y_buffer[:, :m]


@pytest.mark.parametrize(
    ("batches", "steps_per_epoch"),
    [(tuple(BATCHES), None), (Loader(), None), (Loader(), 4), (endless(), 4), (reused_buffers(), 4)],
    ids=["tuple", "loader", "loader by steps", "generator", "reused buffers"],
)
def test_every_iterable_of_the_same_batches_gives_the_same_bits(batches, steps_per_epoch):
    result, expected = fit_batches(batches, steps_per_epoch=steps_per_epoch), fit_batches(BATCHES)
    chex.assert_trees_all_equal(result.params, expected.params)
    assert result.history["cost"].tolist() == expected.history["cost"].tolist()


def test_an_epoch_of_some_steps_reads_on_where_the_last_ended():
    """Of 4 batches 3 are an epoch: the second begins with the fourth, and goes on with the first."""
    result = fit_batches(BATCHES, steps_per_epoch=3, epochs=4)
    chex.assert_trees_all_equal(result.params, fit_batches(BATCHES, epochs=3).params)
    assert len(result.history["cost"]) == 4


def test_one_batch_is_read_while_the_last_is_computed_and_no_more_are_held():
    read, held = [], []

    class Array(np.ndarray):
        """An array that can be counted."""

    def batches():
        for X_batch, Y_batch in BATCHES * 10:
            counted = X_batch.view(Array)
            read.append(weakref.ref(counted))
            held.append(sum(reference() is not None for reference in read))
            yield counted, Y_batch
            del counted

    fit_batches(batches(), steps_per_epoch=20, epochs=2)
    assert len(held) == 40 and max(held) <= 2


@pytest.mark.parametrize("validation", [(X, Y), BATCHES, Loader()], ids=["arrays", "batches", "loader"])
def test_validation_is_measured_on_arrays_and_on_batches(validation):
    result = fit_batches(BATCHES, validation=validation, patience=50)
    J = [
        float(jaxnet.cost(NET, fit_batches(BATCHES, epochs=n).params, jnp.asarray(X), jnp.asarray(Y)))
        for n in (1, 2, 3)
    ]
    np.testing.assert_allclose(result.history["validation_cost"], J, rtol=1e-5)
    assert result.loop.best_score == result.history["validation_cost"].min()


def test_tol_and_callbacks_see_the_epochs_of_a_stream():
    assert len(fit_batches(BATCHES, epochs=100, tol=1e9).history["cost"]) == 11
    seen = []
    fit_batches(BATCHES, callbacks=lambda loop, history: seen.append((int(loop.epoch), history["cost"].size)))
    assert seen == [(1, 1), (2, 2), (3, 3)]


# What goes wrong


def test_a_step_that_is_not_finite_is_undone_and_named():
    broken = jaxnet.MLP((2, 4, 1), ("tanh", "identity"))
    batches = [(X, Y), (X, Y), (X, np.full_like(Y, 3e38)), (X, Y)]
    with pytest.raises(jaxnet.NotFiniteError, match=r"at step 3 \(epoch 1\).*largest \|X\|.*\|Y\| 3e\+38") as caught:
        jaxnet.fit(broken, batches, key=jax.random.key(3), optimizer=optax.sgd(0.1), epochs=2)
    result = caught.value.result
    assert int(result.state.step) == 2 and int(result.loop.epoch) == 0 and result.history == {}
    chex.assert_tree_all_finite(result.params)
    two = jaxnet.fit(broken, batches[:2], key=jax.random.key(3), optimizer=optax.sgd(0.1), epochs=1)
    chex.assert_trees_all_equal(result.params, two.params)


def test_skipped_steps_are_counted_and_leave_the_rest():
    net = jaxnet.MLP((2, 4, 1), ("tanh", "identity"))
    batches = [(X, Y), (X, np.full_like(Y, 3e38)), (X, Y)]
    common = {"key": jax.random.key(3), "optimizer": optax.sgd(0.1), "epochs": 2, "on_nonfinite": "skip"}
    result = jaxnet.fit(net, batches, **common)
    assert result.history["skipped"].tolist() == [1, 1]
    without = jaxnet.fit(net, [batches[0], batches[2]], **common)
    chex.assert_trees_all_equal(result.params, without.params)
    assert result.history["cost"].tolist() == without.history["cost"].tolist()
    with pytest.raises(jaxnet.NotFiniteError, match="and at all others of that epoch"):
        jaxnet.fit(net, batches[1:2], **common)


def test_an_epoch_of_which_the_optimizer_refuses_all_is_measured_as_nan():
    """As of data in memory; and no such step counts as skipped."""
    net, guarded = jaxnet.MLP((2, 1), ("identity",)), optax.apply_if_finite(optax.sgd(0.1), 9)
    common = {"key": jax.random.key(3), "optimizer": guarded, "epochs": 1, "metrics": ["cost", "gradient_norm"]}
    far = X * np.float32(1e20)
    for on_nonfinite in ("raise", "skip"):
        for data in ({"X": [(far, Y)]}, {"X": far, "Y": Y, "batch_size": 60}):
            result = jaxnet.fit(net, **data, on_nonfinite=on_nonfinite, **common)
            assert np.isnan([result.history[name] for name in common["metrics"]]).all()
            assert result.history.get("skipped", [0]) == [0]


def test_a_validation_cost_that_is_not_finite_is_named():
    net = jaxnet.MLP((2, 4, 1), ("tanh", "identity"))
    far = [(X, Y), (X, np.full_like(Y, 3e38))]
    with pytest.raises(
        jaxnet.NotFiniteError, match=r"validation cost is inf after epoch 1.*validation \|X\|"
    ) as caught:
        jaxnet.fit(net, [(X, Y)], key=jax.random.key(3), validation=far)
    assert int(caught.value.result.loop.epoch) == 0


def test_what_interrupts_an_epoch_leaves_the_one_before():
    class BrokenError(Exception):
        pass

    def batches(error):
        yield from BATCHES * 2
        yield BATCHES[0]
        raise error

    for error in (BrokenError("the disk is gone"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            fit_batches(batches(error), steps_per_epoch=4, epochs=9)
        result = caught.value.result
        assert int(result.loop.epoch) == 2 and int(result.state.step) == 8
        again = fit_batches(BATCHES, resume=result, key=None, epochs=3)
        chex.assert_trees_all_equal(again.params, fit_batches(BATCHES).params)


def test_ctrl_c_is_taken_at_the_next_step():
    import signal

    read = []

    def batches():
        for batch in BATCHES * 100:
            read.append(batch)
            if len(read) == 10:
                signal.raise_signal(signal.SIGINT)
            yield batch

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt) as caught:
        fit_batches(batches(), steps_per_epoch=400, epochs=1)
    assert len(read) <= 12 and int(caught.value.result.loop.epoch) == 0


LIMITED = """
import resource, sys
import jax, jaxnet, numpy as np
net, rng = jaxnet.MLP((256, 4, 1), ("tanh", "sigmoid")), np.random.default_rng(0)
X, Y = rng.normal(size=(256, 4096)).astype(np.float32), (rng.random((1, 4096)) < 0.5).astype(np.float32)
jaxnet.fit(net, [(X, Y)], key=jax.random.key(0), epochs=1, steps_per_epoch=2)  # compiled, and its threads begun
held = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + MOST, held + MOST))
"""
A_GENERATOR = """
result = jaxnet.fit(net, ((X.copy(), Y) for _ in range(150)), key=jax.random.key(0), steps_per_epoch=150, epochs=1)
assert int(result.state.step) == 150
"""
A_FILE = """
file = np.memmap(sys.argv[1], np.float32, "w+", shape=(4 * 2**20, 256)).T  # 4 GiB of zeros that take no room
Y = np.arange(4 * 2**20, dtype=np.float32)[None] % 2
result = jaxnet.fit(net, file, Y, key=jax.random.key(0), batch_size=4096, epochs=1)
assert int(result.state.step) == 1024 and abs(result.history["cost"][-1] - 0.6931) < 1e-3
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells a process's memory there, and limits all of it"
)
@pytest.mark.parametrize(
    ("data", "limit"),
    [(A_GENERATOR, 128 * 2**20), pytest.param(A_FILE, 512 * 2**20, marks=pytest.mark.slow)],
    ids=["600 MiB of batches in 128", "a file of 4 GiB in 512 MiB"],
)
def test_memory_does_not_grow_with_the_data(tmp_path, data, limit):
    """In a process that may not have as much."""
    source = LIMITED.replace("MOST", str(limit)) + data
    run = subprocess.run([sys.executable, "-c", source, tmp_path / "X"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# What is refused


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("batches", "changes", "message"),
    [
        ([], {}, "batches is empty; expected an iterable of batches"),
        ([X], {}, r"batch 0 is a ndarray; expected \(X, Y\) or \(X, Y, weights\), with examples as columns"),
        ([(X, Y, None, X)], {}, "batch 0 is a tuple of 4; expected"),
        ([(X, Y), (X.T, Y)], {}, "batch 1 X has shape .* it reads as 60 examples in rows"),
        ([(X, Y), (X, Y - 1)], {}, "batch 1 Y holds -1"),
        ([(X, Y, -np.ones(60))], {}, "batch 0 weights holds -1"),
        ([(X, Y, np.zeros(60))], {}, "batches of a whole epoch have weights that are all 0"),
        (BATCHES, {"validation": [(X, Y, np.zeros(60))]}, "validation batches have weights that are all 0"),
        ([(X, Y, np.ones(59))], {}, r"batch 0 weights has shape \(59,\)"),
        (iter(BATCHES), {}, "batches is a list_iterator, which is read to the end once, and there are 3 epochs"),
        (iter(BATCHES), {"steps_per_epoch": 3}, "batches ended after 4 of them, 1 in this epoch; expected more"),
        (X, {}, "X is a ndarray without Y; expected Y beside it, or in its place an iterable of batches"),
        (None, {}, "X is None without Y"),
        (BATCHES, {"weights": np.ones(60)}, "weights is given beside batches, which bring their own"),
        (BATCHES, {"batch_size": 8}, "batch_size is given beside batches"),
        (BATCHES, {"steps_per_epoch": 0}, "steps_per_epoch is 0; expected an integer of at least 1, or None"),
        (BATCHES, {"Y": Y}, "X is ragged|X has shape"),
        (BATCHES, {"validation": iter(BATCHES)}, "validation is a list_iterator, which is read to the end once"),
        (BATCHES, {"validation": X}, "validation is a ndarray; expected a tuple"),
        (BATCHES, {"validation": [(X, Y), (X, -Y)]}, "validation batch 1 Y holds -1"),
        (BATCHES, {"steps": 3}, "steps is 3 with batch_size 'auto'"),
    ],
)
def test_fit_refuses(batches, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit_batches(batches, **changes)


def test_arrays_have_no_steps_per_epoch():
    with pytest.raises(ValueError, match="steps_per_epoch is 3 with X and Y, of which an epoch takes all"):
        jaxnet.fit(NET, X, Y, key=jax.random.key(0), steps_per_epoch=3)


def test_eight_devices_give_one_device_s_numbers():
    one, eight = fit_batches(BATCHES), fit_batches(BATCHES, mesh=jaxnet.parallel.mesh(8))
    chex.assert_trees_all_close(jax.device_get(eight.params), jax.device_get(one.params), rtol=1e-5, atol=1e-6)

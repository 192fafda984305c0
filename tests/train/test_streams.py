"""`fit(net, batches)`: a loop over the batches in Python as the reference, bounded memory, nothing lost at failures."""

import json
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
from jaxnet.train import streams
from tests.train.flower import NET, OPTIMIZER, X, Y

pytestmark = pytest.mark.usefixtures("implicit_promotion")
BATCHES = [(X[:, i : i + 16], Y[:, i : i + 16]) for i in range(0, 60, 16)]  # the last has 12 examples


def fit(batches, **changes):
    settings = {"key": jax.random.key(3), "optimizer": OPTIMIZER, "epochs": 3}
    return jaxnet.fit(NET, batches, **settings | changes)


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
    result = fit(batches)
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
    result, expected = fit(batches, steps_per_epoch=steps_per_epoch), fit(BATCHES)
    chex.assert_trees_all_equal(result.params, expected.params)
    assert result.history["cost"].tolist() == expected.history["cost"].tolist()


def test_an_epoch_of_some_steps_reads_on_where_the_last_ended():
    """Of 4 batches 3 are an epoch: the second begins with the fourth, and goes on with the first."""
    result = fit(BATCHES, steps_per_epoch=3, epochs=4)
    chex.assert_trees_all_equal(result.params, fit(BATCHES, epochs=3).params)
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

    fit(batches(), steps_per_epoch=20, epochs=2)
    assert len(held) == 40 and max(held) <= 2


@pytest.mark.parametrize("validation", [(X, Y), BATCHES, Loader()], ids=["arrays", "batches", "loader"])
def test_validation_is_measured_on_arrays_and_on_batches(validation):
    result = fit(BATCHES, validation=validation, patience=50)
    J = [float(jaxnet.cost(NET, fit(BATCHES, epochs=n).params, jnp.asarray(X), jnp.asarray(Y))) for n in (1, 2, 3)]
    np.testing.assert_allclose(result.history["validation_cost"], J, rtol=1e-5)
    assert result.loop.best_score == result.history["validation_cost"].min()


def test_tol_and_callbacks_see_the_epochs_of_a_stream():
    assert len(fit(BATCHES, epochs=100, tol=1e9).history["cost"]) == 11
    seen = []
    fit(BATCHES, callbacks=lambda loop, history: seen.append((int(loop.epoch), history["cost"].size)))
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


class Numbered:
    """Notes which of its batches are read."""

    def __init__(self, batches):
        self.batches, self.read = batches, []

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            self.read.append(number)
            yield batch


class NumberedLoader(Numbered):
    """As torchdata's: it tells where it stands, and goes on there at the next `iter`."""

    done = 0

    def __iter__(self):
        while self.done < len(self.batches):
            self.done += 1
            self.read.append(self.done - 1)
            yield self.batches[self.done - 1]
        self.done = 0

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


class NumberedIterator(Numbered):
    """As Grain's, without end: an iterator that tells where it stands."""

    next_index = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.next_index += 1
        self.read.append((self.next_index - 1) % len(self.batches))
        return self.batches[self.read[-1]]

    def get_state(self):
        return {"next_index": self.next_index}

    def set_state(self, state):
        self.next_index = state["next_index"]


LINEAR = jaxnet.MLP((2, 4, 1), ("tanh", "identity"))


def rolled_back(batches, rate, **changes):
    """Trained on a regression; a callback lowers a rate that no epoch bears."""
    lower = lambda loop, history: jaxnet.scale_learning_rate(loop, 1e-30) if loop.rollbacks else None
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    settings = {"key": jax.random.key(3), "optimizer": optimizer, "on_nonfinite": "rollback", "callbacks": lower}
    return jaxnet.fit(LINEAR, batches, **settings | changes)


@pytest.mark.parametrize(
    ("make", "steps_per_epoch"),
    [(Numbered, None), (Numbered, 8), (NumberedLoader, None), (NumberedLoader, 3), (NumberedIterator, 3)],
)
def test_an_epoch_that_was_undone_is_tried_again_with_the_same_batches(make, steps_per_epoch):
    """As if the rate had been the lower one from the start: no batch is lost."""
    common = {"epochs": 2, "steps_per_epoch": steps_per_epoch}
    result, expected = (rolled_back(make(BATCHES * 2), rate, **common) for rate in (1e29, 0.1))
    chex.assert_trees_all_close(result.params, expected.params, rtol=1e-4)
    assert int(result.state.step) == 2 * (steps_per_epoch or 8) and result.position == expected.position


@pytest.mark.parametrize("make", [Numbered, NumberedLoader, NumberedIterator])
def test_an_epoch_within_a_pass_is_undone_also_when_all_of_it_was_read(make):
    """The second of one batch each: its validation is not finite."""
    rates = {1: 1e30, 2: 1.0}

    def raise_and_lower(loop, history):
        return jaxnet.scale_learning_rate(loop, 1e-30 if loop.rollbacks else rates[int(loop.epoch)])

    source, common = make(BATCHES), {"epochs": 2, "steps_per_epoch": 1, "validation": (X, Y)}
    result = rolled_back(source, 0.1, callbacks=raise_and_lower, **common)
    expected = rolled_back(make(BATCHES), 0.1, **common)
    chex.assert_trees_all_close(result.params, expected.params, rtol=1e-4)
    assert source.read == ([0, 1, 0, 1] if make is Numbered else [0, 1, 1]) and result.position == expected.position


def test_batches_that_cannot_be_read_again_are_not_rolled_back():
    for batches in (endless(), iter(BATCHES)):
        with pytest.raises(ValueError, match=r"'rollback' but batches is a \w+, of which an epoch cannot be"):
            rolled_back(batches, 0.1, steps_per_epoch=2, epochs=1)
        assert next(batches) is BATCHES[0]  # none is read


def test_the_position_beside_an_epoch_that_failed_is_where_it_began():
    """Also where all of it had been read."""
    batches = NumberedIterator([(X, Y), (X, np.full_like(Y, 3e38))])
    with pytest.raises(jaxnet.NotFiniteError) as caught:
        rolled_back(batches, 0.1, on_nonfinite="raise", steps_per_epoch=1, epochs=2)
    assert json.loads(caught.value.result.position)["state"] == {"next_index": 1}


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
            fit(batches(error), steps_per_epoch=4, epochs=9)
        result = caught.value.result
        assert int(result.loop.epoch) == 2 and int(result.state.step) == 8
        again = fit(BATCHES, resume=result, key=None, epochs=3)
        chex.assert_trees_all_equal(again.params, fit(BATCHES).params)


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
        fit(batches(), steps_per_epoch=400, epochs=1)
    assert len(read) <= 12 and int(caught.value.result.loop.epoch) == 0


# Going on


class Positioned:
    """Like Grain's: its iterator tells where it stands, and can be set there."""

    def __init__(self, state_in):
        self.state_in = state_in  # dict or bytes, as Grain's data sets and loaders have it

    def __iter__(self):
        return PositionedIterator(self.state_in)


class PositionedIterator:
    def __init__(self, state_in):
        self.state_in, self.next_index = state_in, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.next_index == 40:
            raise StopIteration
        self.next_index += 1
        return BATCHES[(self.next_index * 7) % 4]

    def get_state(self):
        state = {"next_index": self.next_index}
        return state if self.state_in is dict else json.dumps(state).encode()

    def set_state(self, state):
        self.next_index = (state if self.state_in is dict else json.loads(state))["next_index"]


class Stateful:
    """Like torchdata's: the loader itself tells."""

    def __init__(self):
        self.done = 0

    def __iter__(self):
        while self.done < 40:
            self.done += 1
            yield BATCHES[(self.done * 7) % 4]

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


@pytest.mark.parametrize("make", [lambda: Positioned(dict), lambda: Positioned(bytes), Stateful])
def test_a_stream_that_can_tell_its_position_goes_on_there_bit_for_bit(make):
    common = {"steps_per_epoch": 5}
    whole = fit(make(), epochs=6, **common)
    first = fit(make(), epochs=2, **common)
    rest = fit(make(), epochs=6, resume=first, key=None, **common)
    chex.assert_trees_all_equal(rest.params, whole.params)
    assert rest.history["cost"].tolist() == whole.history["cost"].tolist()
    assert first.position != whole.position == rest.position


@pytest.mark.parametrize("steps_per_epoch", [40, 20])
def test_a_stream_that_stood_at_the_end_of_a_pass_begins_the_next(steps_per_epoch):
    """A pass has 40 batches."""
    common = {"steps_per_epoch": steps_per_epoch}
    whole = fit(Positioned(dict), epochs=80 // steps_per_epoch, **common)
    half = fit(Positioned(dict), epochs=40 // steps_per_epoch, **common)
    rest = fit(Positioned(dict), epochs=80 // steps_per_epoch, resume=half, key=None, **common)
    chex.assert_trees_all_equal(rest.params, whole.params)


def test_a_training_that_is_done_reads_nothing():
    """And still knows where it stood."""
    first = fit(Positioned(dict), epochs=1, steps_per_epoch=5)
    again = fit(iter(()), epochs=1, steps_per_epoch=5, resume=first, key=None)
    chex.assert_trees_all_equal(again.params, first.params)
    assert again.position == first.position is not None


def test_a_position_that_the_iterable_cannot_be_set_to_is_refused():
    first = fit(Positioned(dict), epochs=1, steps_per_epoch=5)
    with pytest.raises(ValueError, match="batches is a list, which cannot be set to where"):
        fit(BATCHES, epochs=2, steps_per_epoch=5, resume=first, key=None)
    assert fit(BATCHES, epochs=2, steps_per_epoch=5, resume=first._replace(position=None), key=None).loop.epoch == 2


def test_a_position_that_json_cannot_hold_is_told_once():
    class Opaque(Stateful):
        def state_dict(self):
            return {"generator": object()}

    with pytest.warns(jaxnet.TrainingWarning, match="batches tell a position that JSON cannot hold") as told:
        assert fit(Opaque(), steps_per_epoch=2, epochs=2).position is None
    assert len(told) == 1


def test_a_position_that_no_fit_has_told_is_named():
    first = fit(Positioned(dict), epochs=1, steps_per_epoch=5)
    with pytest.raises(ValueError, match=r"resume\.position is 'zz'; expected what an earlier fit returned there"):
        fit(Positioned(dict), epochs=2, steps_per_epoch=5, resume=first._replace(position="zz"), key=None)


# Files


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """Makes a function that maps an array by columns from a file of rows; files of any size are streamed."""
    monkeypatch.setattr(streams, "SMALL_FILE", 0)
    monkeypatch.setattr(streams, "WINDOW", 800)  # bytes: 4 batches of 16 examples of 12 bytes

    def map_columns(array):
        np.save(tmp_path / "rows.npy", array.T)
        return np.load(tmp_path / "rows.npy", mmap_mode="r").T

    return map_columns


def test_an_epoch_over_a_file_takes_every_example_once_in_a_new_order(mapped):
    stream = streams.stream(NET, mapped(X), Y, np.arange(1, 61), 8, None)
    stream.begin(None, 2, lambda X: X.dtype)
    orders = [np.concatenate([w for _, _, w in stream.epoch(jax.random.key(n))]) * 60 for n in (0, 1, 0)]
    for order in orders:
        np.testing.assert_allclose(np.sort(order), np.arange(1, 61), rtol=1e-6)
    assert orders[0].tolist() == orders[2].tolist() != orders[1].tolist() and (np.diff(orders[0]) < 0).any()
    for X_batch, Y_batch, w in stream.epoch(jax.random.key(2)):
        np.testing.assert_array_equal(X_batch, X[:, np.rint(w * 60).astype(int) - 1])
        np.testing.assert_array_equal(Y_batch, Y[:, np.rint(w * 60).astype(int) - 1])


def test_training_on_a_file_learns_resumes_and_validates(mapped):
    file = mapped(X)
    common = {"batch_size": 16, "optimizer": OPTIMIZER, "validation": (file, Y), "weights": np.ones(60)}
    whole = jaxnet.fit(NET, file, Y, key=jax.random.key(3), epochs=6, **common)
    part = jaxnet.fit(NET, file, Y, key=jax.random.key(3), epochs=2, **common)
    rest = jaxnet.fit(NET, file, Y, epochs=6, resume=part, **common)
    chex.assert_trees_all_equal(rest.params, whole.params)
    J = float(jaxnet.cost(NET, whole.params, jnp.asarray(X), jnp.asarray(Y)))
    np.testing.assert_allclose(whole.history["validation_cost"][-1], J, rtol=1e-5)
    assert whole.history["cost"][-1] < whole.history["cost"][0]


def test_a_number_in_a_file_that_is_not_finite_is_named_by_its_columns(mapped):
    bad = X.copy()
    bad[1, 37] = np.nan
    with pytest.raises(ValueError, match="columns 0 to 59 of X holds nan at row 1, column 37 "):
        jaxnet.fit(NET, mapped(bad), Y, key=jax.random.key(0), batch_size=60)


def test_a_window_of_a_file_of_bytes_is_no_larger_as_floats(mapped):
    """Of 12 bytes an example in training, 66 make 800: 64 in batches of 16."""
    pixels, labels = np.ones((2, 300), np.uint8), np.zeros((1, 300), np.uint8)
    labels[0, 70] = 2
    with pytest.raises(ValueError, match="columns 64 to 127 of Y holds 2"):
        jaxnet.fit(NET, mapped(pixels), labels, key=jax.random.key(0), batch_size=16)


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
        fit(batches, **changes)


def test_arrays_have_no_steps_per_epoch():
    with pytest.raises(ValueError, match="steps_per_epoch is 3 with X and Y, of which an epoch takes all"):
        jaxnet.fit(NET, X, Y, key=jax.random.key(0), steps_per_epoch=3)


def test_eight_devices_give_one_device_s_numbers():
    one, eight = fit(BATCHES), fit(BATCHES, mesh=jaxnet.parallel.mesh(8))
    chex.assert_trees_all_close(jax.device_get(eight.params), jax.device_get(one.params), rtol=1e-5, atol=1e-6)

"""Iterables that tell where they stand: a training goes on there, and an epoch that was undone is read again."""

import json
from itertools import cycle

import chex
import jax
import numpy as np
import optax
import pytest

import jaxnet
from tests.train.flower import BATCHES, X, Y, fit_batches

pytestmark = pytest.mark.usefixtures("implicit_promotion")


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
    whole = fit_batches(make(), epochs=6, **common)
    first = fit_batches(make(), epochs=2, **common)
    rest = fit_batches(make(), epochs=6, resume=first, key=None, **common)
    chex.assert_trees_all_equal(rest.params, whole.params)
    assert rest.history["cost"].tolist() == whole.history["cost"].tolist()
    assert first.position != whole.position == rest.position


@pytest.mark.parametrize("steps_per_epoch", [40, 20])
def test_a_stream_that_stood_at_the_end_of_a_pass_begins_the_next(steps_per_epoch):
    """A pass has 40 batches."""
    common = {"steps_per_epoch": steps_per_epoch}
    whole = fit_batches(Positioned(dict), epochs=80 // steps_per_epoch, **common)
    half = fit_batches(Positioned(dict), epochs=40 // steps_per_epoch, **common)
    rest = fit_batches(Positioned(dict), epochs=80 // steps_per_epoch, resume=half, key=None, **common)
    chex.assert_trees_all_equal(rest.params, whole.params)


def test_a_training_that_is_done_reads_nothing():
    """And still knows where it stood."""
    first = fit_batches(Positioned(dict), epochs=1, steps_per_epoch=5)
    again = fit_batches(iter(()), epochs=1, steps_per_epoch=5, resume=first, key=None)
    chex.assert_trees_all_equal(again.params, first.params)
    assert again.position == first.position is not None


def test_a_position_that_the_iterable_cannot_be_set_to_is_refused():
    first = fit_batches(Positioned(dict), epochs=1, steps_per_epoch=5)
    with pytest.raises(ValueError, match="batches is a list, which cannot be set to where"):
        fit_batches(BATCHES, epochs=2, steps_per_epoch=5, resume=first, key=None)
    first = first._replace(position=None)
    assert fit_batches(BATCHES, epochs=2, steps_per_epoch=5, resume=first, key=None).loop.epoch == 2


def test_a_position_that_json_cannot_hold_is_told_once():
    class Opaque(Stateful):
        def state_dict(self):
            return {"generator": object()}

    with pytest.warns(jaxnet.TrainingWarning, match="batches tell a position that JSON cannot hold") as told:
        assert fit_batches(Opaque(), steps_per_epoch=2, epochs=2).position is None
    assert len(told) == 1


def test_a_position_that_no_fit_has_told_is_named():
    first = fit_batches(Positioned(dict), epochs=1, steps_per_epoch=5)
    with pytest.raises(ValueError, match=r"resume\.position is 'zz'; expected what an earlier fit returned there"):
        fit_batches(Positioned(dict), epochs=2, steps_per_epoch=5, resume=first._replace(position="zz"), key=None)


# Undone


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
    for batches in (cycle(BATCHES), iter(BATCHES)):
        with pytest.raises(ValueError, match=r"'rollback' but batches is a \w+, of which an epoch cannot be"):
            rolled_back(batches, 0.1, steps_per_epoch=2, epochs=1)
        assert next(batches) is BATCHES[0]  # none is read


def test_the_position_beside_an_epoch_that_failed_is_where_it_began():
    """Also where all of it had been read."""
    batches = NumberedIterator([(X, Y), (X, np.full_like(Y, 3e38))])
    with pytest.raises(jaxnet.NotFiniteError) as caught:
        rolled_back(batches, 0.1, on_nonfinite="raise", steps_per_epoch=1, epochs=2)
    assert json.loads(caught.value.result.position)["state"] == {"next_index": 1}

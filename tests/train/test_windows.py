"""`fit` on a file that is mapped: every example once an epoch, in a new order, of which a window is in memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.train import windows
from tests.train.flower import NET, OPTIMIZER, X, Y

pytestmark = pytest.mark.usefixtures("implicit_promotion")


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """Makes a function that maps an array by columns from a file of rows; files of any size are streamed."""
    monkeypatch.setattr(windows, "SMALL_FILE", 0)
    monkeypatch.setattr(windows, "WINDOW", 800)  # bytes: 4 batches of 16 examples of 12 bytes

    def map_columns(array):
        np.save(tmp_path / "rows.npy", array.T)
        return np.load(tmp_path / "rows.npy", mmap_mode="r").T

    return map_columns


def test_an_epoch_over_a_file_takes_every_example_once_in_a_new_order(mapped):
    stream = windows.Windows(NET, mapped(X), Y, np.arange(1, 61), 8)
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

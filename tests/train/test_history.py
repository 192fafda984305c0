"""A history is the epochs of its chunks, one after the other."""

import numpy as np

from jaxnet.train.history import History


def test_chunks_are_joined_and_cut_to_the_epochs_that_ran():
    history = History({"cost": np.array([9.0])})
    history.extend({"cost": np.array([3.0, 2.0, 0.0])}, 2)  # room for three epochs, two ran
    assert history.last("cost") == 2.0
    arrays = history.arrays()
    assert arrays["cost"].tolist() == [9.0, 3.0, 2.0]
    arrays["cost"][:] = 0  # the caller's own
    assert history.arrays()["cost"].tolist() == [9.0, 3.0, 2.0]


def test_the_last_axis_is_the_epoch():
    history = History()
    history.extend({"cost": np.ones((5, 3))}, 2)
    history.extend({"cost": np.zeros((5, 3))}, 1)
    assert history.arrays()["cost"].shape == (5, 3) and history.last("cost").tolist() == [0.0] * 5


def test_without_an_epoch_there_are_no_metrics():
    assert History().arrays() == {}

"""A training with checkpoints that nothing interrupts, and a directory of two of them."""

import shutil

import jax
import pytest

from tests.train.checkpointed import digest, names, train


@pytest.fixture(scope="module")
def whole():
    """The digest of the training that nothing interrupts."""
    with jax.numpy_dtype_promotion("standard"):
        return digest(train(None, resume=None))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with the checkpoints of epochs 2 and 3, and the digests of both."""
    directory = tmp_path_factory.mktemp("saved")
    with jax.numpy_dtype_promotion("standard"):
        results = [train(directory, epochs=epochs, keep=2) for epochs in (2, 3)]
    shutil.rmtree(directory / "00000001", ignore_errors=True)
    assert names(directory) == [2, 3]
    return directory, [digest(result) for result in results]

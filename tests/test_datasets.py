"""MNIST from a user's own files: read as they are, checked, and refused with a sentence where they are wrong."""

import gzip
import hashlib
import sys

import numpy as np
import pytest

from jaxnet import datasets
from jaxnet.datasets import IDX_FILES, mnist

RANDOM = np.random.default_rng(0)
TRAIN, TEST = (RANDOM.integers(0, 256, (m, 28, 28), np.uint8) for m in (12, 5))
LABELS, LABELS_TEST = (RANDOM.integers(0, 10, m).astype(np.uint8) for m in (12, 5))
ARRAYS = (TRAIN, LABELS, TEST, LABELS_TEST)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture
def directory(tmp_path):
    """The four IDX files, one of them packed."""
    for name, array in zip(IDX_FILES, ARRAYS, strict=True):
        (tmp_path / name).write_bytes(idx(array))
    packed = tmp_path / IDX_FILES[0]
    packed.with_name(packed.name + ".gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    return tmp_path


@pytest.fixture
def npz(tmp_path):
    file = tmp_path / "mnist.npz"
    np.savez(file, x_train=TRAIN, y_train=LABELS, x_test=TEST, y_test=LABELS_TEST)
    return file


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_both_kinds_of_file_hold_the_same_digits(directory, npz):
    one, other = mnist(path=directory), mnist(path=npz, sha256=[digest(npz)])
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.X.shape == (784, 12) and one.X.dtype == np.float32
    np.testing.assert_array_equal(one.labels, LABELS)
    np.testing.assert_array_equal(one.raw_test, TEST.reshape(5, 784).T)
    np.testing.assert_allclose((one.X.mean(), one.X.std()), (0, 1), atol=1e-5)


def test_mlxtends_digits_are_shuffled_and_stratified():
    split = mnist(seed=1)
    assert split.X.shape == (784, 4000) and split.X_test.shape == (784, 1000)
    assert np.bincount(split.labels_test).tolist() == [100] * 10 and len(set(split.labels[:50])) > 5
    assert not np.array_equal(split.labels, mnist(seed=2).labels)


def replaced(name, change):
    def spoil(directory):
        file = directory / name
        file.write_bytes(change(file.read_bytes()))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / IDX_FILES[2]).unlink(), "has no t10k-images-idx3-ubyte, nor t10k-images-idx3-ubyte.gz"),
        (replaced(IDX_FILES[2], lambda b: b[:-1]), r"holds 3919 values but says \(5, 28, 28\); it is cut short"),
        (replaced(IDX_FILES[2], lambda b: b"PNG" + b), "is not an IDX file of bytes: it begins with 504e4700"),
        (replaced(IDX_FILES[2], lambda b: b""), "begins with nothing"),
        (replaced(IDX_FILES[0] + ".gz", lambda b: b[: len(b) // 2]), "cannot be unpacked"),
        (replaced(IDX_FILES[1], lambda b: idx(LABELS[:7])), r"images have shape \(12, 28, 28\) and labels \(7,\)"),
        (replaced(IDX_FILES[3], lambda b: idx(LABELS_TEST + 20)), "test labels go from .* expected digits 0 to 9"),
        (replaced(IDX_FILES[2], lambda b: idx(TEST[:, :20])), r"test images have shape \(5, 20, 28\)"),
    ],
)
def test_damaged_files_are_refused(spoil, message, directory):
    spoil(directory)
    with pytest.raises(ValueError, match=message):
        mnist(path=directory)


def test_another_file_than_the_digests_is_refused(directory, npz):
    with pytest.raises(ValueError, match=f"has sha256 {digest(npz)}; expected 00"):
        mnist(path=npz, sha256=["00"])
    with pytest.raises(ValueError, match=r"sha256 has 1 digests but 4 files are read: train-images-idx3-ubyte\.gz,"):
        mnist(path=directory, sha256=["00"])
    with pytest.raises(ValueError, match="sha256 is given without a path"):
        mnist(sha256=["00"])


def test_what_is_not_mnist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected an \.npz file, or a directory with"):
        mnist(path=tmp_path / "nowhere.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match=r"is not an \.npz file with x_train"):
        mnist(path=tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", x=TRAIN)
    with pytest.raises(ValueError, match="x_train"):
        mnist(path=tmp_path / "other.npz")


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'sklearn.datasets is not installed; pip install "jaxnet\[experiments\]"'):
        datasets.moons()

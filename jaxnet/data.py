"""Data sets as NumPy arrays, on the host: examples as columns, split and standardised, ready for `fit`."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Split(NamedTuple):
    """A data set in two parts; X's features have mean 0 and deviation 1 over the training part."""

    X: Float[np.ndarray, "n_x m"]
    labels: Int[np.ndarray, " m"]
    X_test: Float[np.ndarray, "n_x m_test"]
    labels_test: Int[np.ndarray, " m_test"]
    raw_test: Float[np.ndarray, "n_x m_test"]  # before standardising, to look at


def digits(seed: int = 0, test_share: float = 0.2) -> Split:
    """Return scikit-learn's 1,797 real handwritten digits, 8x8 grey values, in a stratified random split.

    Pixels that never vary stay 0. Needs scikit-learn (pip install "jaxnet[experiments]").

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    doi 10.24432/C50P49 (CC BY 4.0), as it ships in scikit-learn.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_digits(return_X_y=True)
    train, test, labels, labels_test = train_test_split(
        rows, labels, test_size=test_share, stratify=labels, random_state=seed
    )
    scaler = StandardScaler().fit(train)
    X, X_test = (scaler.transform(part).T.astype(np.float32) for part in (train, test))
    return Split(X, labels, X_test, labels_test, test.T.astype(np.float32))


def flower(m: int = 400, petals: int = 4) -> tuple[Float[np.ndarray, "2 m"], Float[np.ndarray, "1 m"]]:
    """Return X and Y of a flower in the plane whose petals belong to two classes in turn; always the same points.

    r = petals sin(4 t) + noise, at angles t + noise: class 0 on one half turn, class 1 on the other; m is even.

    Source: the planar-data exercise of the public course that the lecture notes follow.
    """
    random = np.random.RandomState(1)
    X, Y = np.zeros((2, m)), np.zeros((1, m))
    for label in range(2):
        half = slice(label * m // 2, (label + 1) * m // 2)
        t = np.linspace(label * 3.12, (label + 1) * 3.12, m // 2) + random.randn(m // 2) * 0.2
        r = petals * np.sin(4 * t) + random.randn(m // 2) * 0.2
        X[:, half] = r * np.sin(t), r * np.cos(t)
        Y[:, half] = label
    return X, Y


def moons(m: int = 400, seed: int = 0) -> tuple[Float[np.ndarray, "2 m"], Float[np.ndarray, "1 m"]]:
    """Return X and Y of two half moons in the plane, one of each class, that a curve separates and no line does.

    Needs scikit-learn (pip install "jaxnet[experiments]").

    Source: scikit-learn's generator make_moons (BSD 3-clause), with a deviation of 0.1 about each moon.
    """
    from sklearn.datasets import make_moons

    rows, labels = make_moons(m, noise=0.1, random_state=seed)
    return rows.T, labels[None, :].astype(float)

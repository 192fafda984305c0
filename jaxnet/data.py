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

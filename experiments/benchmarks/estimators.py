"""jaxnet.estimator beside scikit-learn's: the same arguments, data and seeds; the same scores, and the time of a fit.

    python -m experiments.benchmarks.estimators

Both have 100 hidden units, Adam, batches of 128, no penalty and at most 200 epochs; a fit begins at a random start, so
scores differ by chance: two means are the same within noise where they differ by at most twice the standard error of
their difference. The first fit of ours is compiled, and is timed by itself.
"""

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SEEDS = range(10)
DATA = ("digits", "breast_cancer", "wine", "diabetes")  # as scikit-learn names them
ARGUMENTS = {"alpha": 0.0, "batch_size": 128, "max_iter": 200}


class Comparison(NamedTuple):
    """Scores of both, one a seed, accuracy or R², and the seconds of their fits."""

    ours: np.ndarray
    theirs: np.ndarray
    seconds: np.ndarray
    their_seconds: np.ndarray

    @property
    def is_within_noise(self) -> bool:
        """Whether the means differ by at most twice the standard error of their difference."""
        error = np.sqrt((self.ours.var(ddof=1) + self.theirs.var(ddof=1)) / len(self.ours))
        return bool(abs(self.ours.mean() - self.theirs.mean()) <= 2 * error)


def model(module, name: str, seed: int):
    """The estimator of that module, on features, and numbers to be told, of unit scale."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "diabetes":
        regressor = module.MLPRegressor(random_state=seed, **ARGUMENTS)
        return make_pipeline(StandardScaler(), TransformedTargetRegressor(regressor, transformer=StandardScaler()))
    return make_pipeline(StandardScaler(), module.MLPClassifier(random_state=seed, **ARGUMENTS))


def fitted(make: Callable, X, X_test, y, y_test) -> tuple[float, float]:
    """The score on the test data, and the seconds of the fit."""
    from sklearn.exceptions import ConvergenceWarning

    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # both stop at max_iter where they have not converged
        trained = make().fit(X, y)
    return trained.score(X_test, y_test), time.perf_counter() - begin


def compare(name: str, seeds=SEEDS) -> Comparison:
    """Fit both for each seed, which also splits the data."""
    from sklearn import datasets, neural_network
    from sklearn.model_selection import train_test_split

    from jaxnet import estimator

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    results = []
    for seed in seeds:
        parts = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=None if name == "diabetes" else y)
        for module in (estimator, neural_network):
            results.append(fitted(lambda module=module, seed=seed: model(module, name, seed), *parts))
    scores, seconds = np.array(results).reshape(-1, 2, 2).transpose(2, 1, 0)
    return Comparison(*scores, *seconds)


def main() -> None:
    """Print the table."""
    print("| data | jaxnet | scikit-learn | within noise | jaxnet, s a fit (first) | scikit-learn, s a fit |")
    print("|---|---|---|---|---|---|")
    for name in DATA:
        found = compare(name)
        ours, theirs = (f"{s.mean():.4f} ± {s.std(ddof=1):.4f}" for s in found[:2])
        first, rest, their = found.seconds[0], np.median(found.seconds[1:]), np.median(found.their_seconds)
        noise = "yes" if found.is_within_noise else "**no**"
        print(f"| {name} | {ours} | {theirs} | {noise} | {rest:.2f} ({first:.2f}) | {their:.2f} |", flush=True)


if __name__ == "__main__":
    main()

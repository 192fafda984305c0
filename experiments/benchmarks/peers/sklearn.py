"""The work in scikit-learn: MLPClassifier without regularisation, momentum or early stopping; it shuffles by itself."""

import contextlib
import warnings

import numpy as np

from experiments.benchmarks.benchmark import OTHER_ORDER, Implementation
from experiments.benchmarks.workload import Workload
from jaxnet import convert


@contextlib.contextmanager
def without_convergence_warnings():
    """A training of a fixed number of epochs is not to converge."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def plain_settings(epochs: int) -> dict:
    """MLPClassifier's settings for so many epochs of the plain cost."""
    return {
        "alpha": 0.0,
        "momentum": 0.0,
        "nesterovs_momentum": False,  # of no momentum the same steps, in less time
        "max_iter": epochs,
        "tol": 0.0,
        "n_iter_no_change": epochs + 1,
    }


def classifier(work: Workload) -> Implementation:
    """MLPClassifier.fit from our start."""

    def prepare():
        from sklearn.neural_network import MLPClassifier

        class FromOurStart(MLPClassifier):
            def _init_coef(self, fan_in, fan_out, dtype):
                W, b = next(self.start)
                return np.array(W, dtype), np.array(b, dtype)

        rows = np.ascontiguousarray(work.X.T)
        start = convert.to_sklearn(work.net, work.params)

        def run():
            model = FromOurStart(
                work.sizes[1:-1],
                activation=work.hidden,
                solver=work.optimizer,
                batch_size=work.batch_size or work.m,
                learning_rate_init=work.learning_rate,
                shuffle=work.batch_size is not None,
                random_state=0,
                **plain_settings(work.epochs),
            )
            model.start = zip(start.coefs_, start.intercepts_, strict=True)
            with without_convergence_warnings():
                model.fit(rows, work.labels)
            return model

        return run

    cost = lambda model: work.cost(convert.from_sklearn(model, output=work.net.activations[-1])[1])
    return Implementation("scikit-learn", prepare, cost, "sklearn", tolerance=OTHER_ORDER)


def grid_search(work: Workload, learning_rates: np.ndarray, copies: int) -> Implementation:
    """GridSearchCV over the learning rates and as many random states, on two cores."""

    def prepare():
        from sklearn.model_selection import GridSearchCV, ShuffleSplit
        from sklearn.neural_network import MLPClassifier

        rows = np.ascontiguousarray(work.X.T)

        def minus_cost(model, X, y):
            return -model.loss_  # of its last epoch, as of all here

        def run():
            base = MLPClassifier((32,), solver="sgd", batch_size=work.batch_size, **plain_settings(work.epochs))
            grid = {"learning_rate_init": learning_rates.tolist(), "random_state": list(range(copies))}
            nearly_all = ShuffleSplit(1, train_size=work.m - 8, test_size=8, random_state=0)
            with without_convergence_warnings():
                search = GridSearchCV(base, grid, n_jobs=2, cv=nearly_all, refit=False, scoring=minus_cost)
                return -search.fit(rows, work.labels).cv_results_["mean_test_score"]

        return run

    return Implementation("GridSearchCV, 2 jobs", prepare, np.median, "sklearn", tolerance=OTHER_ORDER)

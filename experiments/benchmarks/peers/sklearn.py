"""The work in scikit-learn: MLPClassifier."""

import warnings

import numpy as np

import jaxnet
from experiments.benchmarks.benchmark import Contestant
from experiments.benchmarks.peers.jax import OTHER_ORDER
from experiments.benchmarks.workload import Workload


def classifier(work: Workload) -> Contestant:
    """MLPClassifier.fit from our start, without regularisation, momentum or early stopping; it shuffles by itself."""

    def prepare():
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        class FromOurStart(MLPClassifier):
            def _init_coef(self, fan_in, fan_out, dtype):
                W, b = next(self.start)
                if len(W) == 2 and fan_out == 1:  # of two classes it knows the second's unit less the first's
                    W, b = W[1:] - W[:1], b[1:] - b[:1]
                return np.array(W.T, dtype), np.array(b[:, 0], dtype)

        rows = np.ascontiguousarray(work.X.T)

        def run():
            model = FromOurStart(
                work.sizes[1:-1],
                activation=work.hidden,
                solver=work.optimizer,
                alpha=0.0,
                momentum=0.0,
                nesterovs_momentum=False,  # of no momentum the same steps, 1.06x as fast
                batch_size=work.batch_size or work.m,
                learning_rate_init=work.rate,
                max_iter=work.epochs,
                tol=0.0,
                n_iter_no_change=work.epochs + 1,
                shuffle=work.batch_size is not None,
                random_state=0,
            )
            model.start = iter([(np.asarray(W), np.asarray(b)) for W, b in work.params])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(rows, work.labels)
            pairs = zip(model.coefs_, model.intercepts_, strict=True)
            *hidden, last = (jaxnet.Layer(W.T, b[:, None]) for W, b in pairs)
            if work.sizes[-1] == 2:
                last = jaxnet.Layer(*(np.vstack([np.zeros_like(leaf), leaf]) for leaf in last))
            return *hidden, last

        return run

    return Contestant("scikit-learn", prepare, work.cost, "sklearn", tolerance=OTHER_ORDER)

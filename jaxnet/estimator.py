"""scikit-learn's face: `MLPClassifier` and `MLPRegressor`, translations of their arguments into those of `fit`.

This is the door for rows: X (m, n) and y (m,), or (m, n_y) of several labels or outputs, arrays or frames. Names and
meanings are those of sklearn.neural_network, compared one by one in jaxnet/README.md. Needs the extra "sklearn".

Legend: X (m, n) and y here, X.T (n, m) and Y (n_y, m) in `fit`.
"""

import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import issparse

from jaxnet import checks
from jaxnet._arguments import choice, count, from_zero, positive, share, type_name
from jaxnet._xla import buckets
from jaxnet.activations import ACTIVATIONS, ELSEWHERE, OR_OWN, Activation
from jaxnet.labels import one_hot
from jaxnet.mlp import MLP, Layer, Params
from jaxnet.network import predict
from jaxnet.train import inputs, optimizers
from jaxnet.train.fit import fit
from jaxnet.train.progress import ALWAYS
from jaxnet.train.result import FitResult
from jaxnet.train.state import TrainState, loop_start
from jaxnet.train.warnings import warn
from jaxnet.values import host_array, masking_weights, real_numbers

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        f"jaxnet.estimator needs scikit-learn 1.6 or newer ({error}); pip install 'jaxnet[sklearn]'"
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor"]
FLOATS = (np.float64, np.float32)
Examples = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # rows of X, of targets that are encoded, and weights


class _MLP(BaseEstimator):
    """What classifier and regressor share."""

    params_: Params
    result_: FitResult
    net_: MLP

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        optimizer: Any = "adam",
        alpha: float = 0.0,
        dropout: Any = 0.0,
        batch_size: Any = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        random_state: Any = None,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        precision: str = "float32",
        device: str | None = None,
        verbose: bool = False,
    ):
        """Keep the arguments as they are; they are checked where they are used, as scikit-learn asks."""
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.alpha = alpha
        self.dropout = dropout
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.precision = precision
        self.device = device
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:  # fmt: skip
        """Train, from the start or, with warm_start, from where the last training ended.

        Args:
            X: (m, n), rows.
            y: (m,), or (m, n_y).
            sample_weight: (m,), what each example counts beside the others of its batch.
            X_val: rows to measure on after each epoch, and, with early_stopping, to stop by; else early_stopping sets
                a validation_fraction of X aside, of classes the same share of each.
            y_val: their targets.
            sample_weight_val: their weights.

        Raises:
            ValueError, TypeError: an argument does not fit, here or as `jaxnet.fit` says it.
            NotFiniteError: the cost or the params became NaN or infinite.
        """
        with self._as_it_was_if_it_fails():
            for name in ("early_stopping", "warm_start"):
                if not isinstance(value := getattr(self, name), bool | np.bool_):
                    raise ValueError(f"{name} is {value!r}; expected True or False")
            earlier = self.result_ if self.warm_start and hasattr(self, "result_") else None
            rng = check_random_state(self.random_state)
            X, y = self._read(X, y, is_first=earlier is None)
            self._learn_targets(y, is_first=earlier is None)
            examples, held_out = (X, self._encoded("y", y), sample_weight), None
            if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
                raise ValueError(
                    "X_val, y_val or sample_weight_val is given alone; give X_val and y_val, or none of them"
                )
            if X_val is not None:
                X_val, y_val = self._read_validation(X_val, y_val, y)
                held_out = X_val, self._encoded("y_val", y_val), sample_weight_val
            elif self.early_stopping:
                examples, held_out = self._split(*examples, rng)
            patience = None  # scikit-learn stops where there are more such epochs in a row than n_iter_no_change
            if self.tol is not None and self.n_iter_no_change != np.inf:
                patience = count("n_iter_no_change", self.n_iter_no_change) + 1
            self._train(examples, held_out, rng, count("max_iter", self.max_iter), earlier, patience)
        if patience is not None and self.result_.loop.epochs_since_best < patience:
            watched = "the validation cost" if self.early_stopping else "the cost of training"
            warnings.warn(
                f"max_iter is {self.max_iter}, and {watched} may still fall; give more, or tol=None to take it so",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def __sklearn_tags__(self) -> Any:
        """That X may be sparse; it is made dense."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def coefs_(self) -> list[np.ndarray]:
        """W of each layer as scikit-learn has it, (n_prev, n)."""
        check_is_fitted(self)
        return [np.asarray(layer.W).T for layer in self.params_]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """b of each layer as scikit-learn has it, (n,)."""
        check_is_fitted(self)
        return [np.asarray(layer.b)[:, 0] for layer in self.params_]

    @contextlib.contextmanager
    def _as_it_was_if_it_fails(self) -> Iterator[None]:
        """Keep what an earlier fit has learned, classes beside params, where this one raises."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    # ---- of each kind ----

    def _learn_targets(self, y: np.ndarray, is_first: bool, is_part: bool = False) -> None:
        """Take from y, which may be a part of them, what targets there are."""

    def _encoded(self, argument: str, y: np.ndarray) -> np.ndarray:
        """Targets by which examples can be split: numbers of classes (m,), or (m, n_y)."""
        return real_numbers(argument, y)

    def _targets(self, y: np.ndarray) -> Any:
        """Encoded targets as Y (n_y, m)."""
        return y.reshape(len(y), -1).T

    def _output(self, y: np.ndarray) -> str:
        """The activation of the last layer."""
        return "identity"

    def _class_weights(self, y: np.ndarray) -> np.ndarray | None:
        """What each class counts, (k,)."""
        return None

    # ---- translation ----

    def _read(self, X: Any, y: Any, is_first: bool) -> tuple[np.ndarray, np.ndarray]:
        """X and y as arrays, by scikit-learn's checks; the first time sets n_features_in_ and feature_names_in_."""
        is_number = isinstance(self, RegressorMixin)
        how = {"multi_output": True, "dtype": FLOATS, "y_numeric": is_number, "accept_sparse": "csr"}
        X, y = (_dense(part) for part in validate_data(self, X, y, reset=is_first, **how))
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _read_validation(self, X_val: Any, y_val: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X_val and y_val as arrays, by the same checks, whose words for them are X and y."""
        try:
            X_val, y_val = self._read(X_val, y_val, is_first=False)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind("of X_val and y_val: " + re.sub(r"\b([Xy])\b", r"\1_val", str(error))) from error
        if y_val.shape[1:] != y.shape[1:]:
            expected = (len(y_val), *y.shape[1:])
            raise ValueError(f"y_val has shape {y_val.shape} beside y of shape {y.shape}; expected {expected}")
        return X_val, y_val

    def _split(self, X, y, sample_weight, rng) -> tuple[Examples, Examples]:
        """Training and validation examples."""
        test_size = share("validation_fraction", self.validation_fraction)
        stratify = y if isinstance(self, ClassifierMixin) and y.ndim == 1 else None
        weights = None if sample_weight is None else _weights("sample_weight", sample_weight, len(y))
        parts = train_test_split(np.arange(len(y)), test_size=test_size, random_state=rng, stratify=stratify)
        train, held_out = ((X[rows], y[rows], None if weights is None else weights[rows]) for rows in parts)
        return train, held_out

    def _columns(
        self, examples: Examples, of_class: np.ndarray | None, dtype: np.dtype, suffix: str = ""
    ) -> tuple[Any, Any, Any]:
        """Examples as `fit` takes them, read by the names of this door; an example counts times what its class does."""
        X, y, weights = examples
        weights = None if weights is None else _weights(f"sample_weight{suffix}", weights, len(y))
        if of_class is not None:
            weights = of_class[y] * (1.0 if weights is None else weights)
        rows = {f"X{suffix}": X, f"y{suffix}": y.reshape(len(y), -1)}
        for argument, given in rows.items():
            inputs.refuse_merged(argument, given.T, host_array(argument, given, dtype).T, "column")
        return X.T, self._targets(y), weights

    def _network(self, n_x: int, n_y: int, output: str) -> MLP:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if isinstance(sizes, Iterable) else [sizes]
        sizes = [count(f"hidden_layer_sizes[{position}]", size) for position, size in enumerate(sizes)]
        names = self.activation
        is_one = isinstance(names, str | Activation) or not isinstance(names, Sequence)
        names = [names] * len(sizes) if is_one else list(names)
        names = ["sigmoid" if name == "logistic" else name for name in names]
        known = [name for name in ACTIVATIONS if name != "softmax"]
        names = [
            name if isinstance(name, Activation) else choice("activation", name, known, OR_OWN, ELSEWHERE)
            for name in names
        ]
        if len(names) != len(sizes):
            raise ValueError(
                f"activation has {len(names)} names but hidden_layer_sizes {len(sizes)} widths; give one for each, or"
                " one name for all"
            )
        return MLP((n_x, *sizes, n_y), (*names, output), dropout=self._rates(len(sizes)))

    def _rates(self, n_hidden: int) -> Any:
        """Rates of dropout of all layers, or one of the hidden ones."""
        if not isinstance(self.dropout, Sequence | np.ndarray) or isinstance(self.dropout, str):
            return self.dropout
        if len(self.dropout) != n_hidden:
            raise ValueError(
                f"dropout has {len(self.dropout)} rates but hidden_layer_sizes {n_hidden} widths; give one for each, or"
                " one for all"
            )
        return [*self.dropout, 0]

    def _chosen(self, batch_size: int) -> Any:
        """The optimizer: by name, with alpha's penalty, or as it was given."""
        rate, alpha = positive("learning_rate_init", self.learning_rate_init), from_zero("alpha", self.alpha)
        if self.optimizer is None or isinstance(self.optimizer, str):
            return optimizers.Named(self.optimizer or optimizers.DEFAULT, rate, l2=alpha / batch_size)
        for name, value, default in (("learning_rate_init", rate, optimizers.RATE), ("alpha", alpha, 0.0)):
            if value != default:
                raise ValueError(
                    f"{name} is {value:g} beside {type_name(self.optimizer)} as optimizer, which has its own rate and"
                    f" decay; leave out {name}, or give the optimizer by its name, such as optimizer='adam'"
                )
        return self.optimizer

    def _train(
        self, examples: Examples, held_out: Examples | None, rng: Any, epochs: int, earlier: FitResult | None,
        patience: int | None, is_part: bool = False,
    ) -> None:  # fmt: skip
        """Train for so many epochs more, and take over what came of it."""
        of_class, precision = self._class_weights(examples[1]), checks.policy(self.precision)
        dtype = inputs.working_dtype(examples[0], None if earlier is None else earlier.loop.params, precision)
        X, Y, weights = self._columns(examples, of_class, dtype)
        validation = None if held_out is None else self._columns(held_out, of_class, dtype, "_val")
        net, m = self._network(len(X), len(Y), self._output(examples[1])), X.shape[1]
        is_number = self.batch_size is not None and not isinstance(self.batch_size, str)
        if is_number and count("batch_size", self.batch_size) > m and not is_part:
            warn(f"batch_size is {self.batch_size} but there are {m} examples; taken as {m}", stacklevel=4)
        batch_size = lambda m: inputs.batch_size(min(self.batch_size, m) if is_number else self.batch_size, m)
        chosen = self._chosen(batch_size(m) or m)
        weights = np.ones(m) if weights is None else weights  # a part has some, and the same bits as the whole
        if is_part:
            X, Y, weights = _padded(X, Y, weights)
        params = _start(net, rng, dtype) if earlier is None else None
        key = jax.random.key(rng.randint(2**31 - 1))
        if is_part and params is not None:
            earlier, key, params = _begun(params, key, chosen), None, None
        elif earlier is not None:
            self._refuse_another(earlier, net, chosen, validation is not None, is_part)
            earlier, key = _going_on(earlier, chosen, patience), None
        stopping: dict[str, Any] = {}
        if patience is not None:
            monitor = "validation_cost" if self.early_stopping else "cost"
            stopping = {"patience": patience, "monitor": monitor, "min_delta": from_zero("tol", self.tol)}
        self.result_ = result = fit(
            net, X, Y, key=key, params=params, resume=earlier, optimizer=chosen, weights=weights, validation=validation,
            epochs=epochs + (0 if earlier is None else int(earlier.loop.epoch)), batch_size=batch_size(X.shape[1]),
            metrics=("cost",), precision=self.precision, progress=bool(self.verbose) and ALWAYS, device=self.device,
            **stopping,
        )  # fmt: skip
        self.net_, self.params_ = net, result.params if self.early_stopping else result.loop.params
        self.n_iter_, self.n_layers_, self.n_outputs_ = int(result.loop.epoch), len(net.sizes), net.sizes[-1]
        self.loss_curve_ = result.history["cost"].tolist()
        self.validation_curve_ = result.history["validation_cost"].tolist() if validation else None
        self.loss_ = self.loss_curve_[-1]

    def _refuse_another(self, earlier: FitResult, net: MLP, chosen: Any, validates: bool, is_part: bool) -> None:
        """Refuse arguments with which the earlier training cannot go on, by the names that they have here."""
        before, state, params = self.net_, earlier.loop.state.opt_state, earlier.loop.params
        trained, transformation = params[0].W.dtype, optimizers.chosen(chosen).transformation
        optimizer = repr(self.optimizer) if isinstance(self.optimizer, str) else type_name(self.optimizer)
        is_rounded = jax.dtypes.canonicalize_dtype(trained) != trained
        outputs = lambda net: f"{net.sizes[-1]} of {net.activations[-1]}"
        with_validation = {True: "with X_val or early_stopping", False: "without X_val and early_stopping"}
        validated = "validation_cost" in earlier.history if earlier.history else validates
        differences = {
            f"hidden_layer_sizes is {self.hidden_layer_sizes!r}, but was {before.sizes[1:-1]}": (
                net.sizes[1:-1] != before.sizes[1:-1]
            ),
            f"y asks for outputs {outputs(net)}, but asked for {outputs(before)}": outputs(net) != outputs(before),
            f"precision is {self.precision!r}, but params were {trained}": self.precision == "float64" != trained,
            "JAX's 64-bit is off, but was on": is_rounded,
            f"optimizer is {optimizer}, but was another": not (
                is_rounded or optimizers.is_state_of(state, transformation, params)
            ),
            f"fit is {with_validation[validates]}, but was {with_validation[validated]}": validates != validated,
        }
        door, anew = ("partial_fit", "call fit") if is_part else ("warm_start", "set warm_start=False")
        for difference, is_there in differences.items():
            if is_there:
                raise ValueError(
                    f"{difference} in the training that {door} goes on from; give what it had, or {anew} to begin anew"
                )

    def _part(self, X: np.ndarray, y: np.ndarray, sample_weight: Any) -> None:
        """Train for one epoch on a part of the data, from where the last training ended."""
        if self.early_stopping:
            raise ValueError("early_stopping is True in partial_fit, which sets nothing aside; take fit, or False")
        rng = check_random_state(self.random_state)
        earlier = getattr(self, "result_", None)
        self._train((X, self._encoded("y", y), sample_weight), None, rng, 1, earlier, None, is_part=True)

    def _answers(self, X: Any) -> np.ndarray:
        """A[L] by rows, (m, n_y)."""
        check_is_fitted(self)
        X = _dense(validate_data(self, X, dtype=FLOATS, reset=False, accept_sparse="csr"))
        host_array("X", X, self.params_[0].W.dtype)  # told by rows here
        return np.asarray(predict(self.net_, self.params_, X.T, self.precision)).T


class MLPClassifier(ClassifierMixin, _MLP):
    """A multi-layer perceptron that tells classes (m,) of any type, or labels (m, n_y), apart by cross-entropy.

    Args:
        hidden_layer_sizes: widths of the hidden layers; () is logistic regression.
        activation: of the hidden layers, a name for all or one for each; "logistic" is "sigmoid". Or your own, an
            `Activation`.
        optimizer: a name, such as "adam", "nesterov" or "adamw", or an optimizer of optax.
        alpha: of a penalty alpha/2 Σ‖W‖² over the number of a batch's examples.
        dropout: the share of its units that a hidden layer drops in training, for all or one for each.
        batch_size: examples a step; "auto" is 128, None all of them.
        learning_rate_init: of an optimizer by name; it is data, and so is alpha: a grid of them is one program.
        max_iter: the most epochs of a fit.
        random_state: an int, a RandomState of NumPy or None, for weights, order and split.
        tol: by how much a cost has to be below the lowest so far to count as lower; None never stops before max_iter.
        n_iter_no_change: stop after more epochs than this in a row without a lower cost, as scikit-learn does.
        early_stopping: watch the validation cost, and keep the params of its best epoch.
        validation_fraction: of the examples, set aside by early_stopping where fit is given none.
        warm_start: have fit go on where the last one ended, exactly.
        precision: of products, as in `jaxnet.fit`.
        device: "cpu", "gpu" or "tpu".
        verbose: show a progress bar, on a terminal or not.
        class_weight: {class: weight}, or "balanced"; times the sample weights, of validation examples too.

    Attributes:
        classes_: (k,), sorted.
        net_, params_, result_: the MLP, its params, and the `FitResult` of the last training.
        loss_curve_: J of each epoch, the mean over its steps as in `fit`'s history, without alpha's part.
        validation_curve_: J of the validation data after each epoch; None without any.
        n_iter_: epochs so far.
    """

    classes_: np.ndarray

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        optimizer: Any = "adam",
        alpha: float = 0.0,
        dropout: Any = 0.0,
        batch_size: Any = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        random_state: Any = None,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        precision: str = "float32",
        device: str | None = None,
        verbose: bool = False,
        class_weight: Any = None,
    ):
        """Keep the arguments as they are."""
        super().__init__(
            hidden_layer_sizes, activation, optimizer=optimizer, alpha=alpha, dropout=dropout, batch_size=batch_size,
            learning_rate_init=learning_rate_init, max_iter=max_iter, random_state=random_state, tol=tol,
            n_iter_no_change=n_iter_no_change, early_stopping=early_stopping, validation_fraction=validation_fraction,
            warm_start=warm_start, precision=precision, device=device, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "MLPClassifier":
        """Train for one epoch on a part of the data, from where the last training ended.

        Args:
            X: (m, n), rows.
            y: (m,), or (m, n_y); it need not have all classes.
            classes: all that there are; asked for at the first call, unless y holds labels.
            sample_weight: (m,).

        Raises:
            ValueError, TypeError: as `fit`; there is early_stopping; or class_weight is "balanced".
        """
        with self._as_it_was_if_it_fails():
            is_first = not hasattr(self, "classes_")
            X, y = self._read(X, y, is_first)
            check_classification_targets(y)
            if isinstance(self.class_weight, str):
                raise ValueError(
                    f"class_weight is {self.class_weight!r} in partial_fit, which sees a part of the data; give"
                    " {class: weight}"
                )
            if is_first:
                if classes is None and y.ndim == 1:
                    raise ValueError(
                        "classes is None at the first call of partial_fit; give all classes that there are"
                    )
                self._learn_targets(y if y.ndim == 2 else np.asarray(classes), is_first, is_part=True)
            elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ValueError(f"classes is {classes!r}, but it was {self.classes_} at the first call of partial_fit")
            self._part(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The classes (m,) of rows X (m, n), or of labels which are there, (m, n_y) of 0 and 1."""
        A = self._answers(X)
        if A.shape[1] == 1:
            return self.classes_[(A[:, 0] > 0.5).astype(int)]
        return (A > 0.5).astype(int) if self._tells_labels else self.classes_[A.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of classes (m, k) in the order of classes_, or of labels (m, n_y)."""
        A = self._answers(X)
        return np.hstack([1 - A, A]) if A.shape[1] == 1 else A

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Their logarithms, -inf where a probability rounds to 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def __sklearn_tags__(self) -> Any:
        """That labels are told apart too."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def _tells_labels(self) -> bool:
        return self.net_.activations[-1] == "sigmoid" and self.net_.sizes[-1] > 1

    def _learn_targets(self, y: np.ndarray, is_first: bool, is_part: bool = False) -> None:
        check_classification_targets(y)
        self._check_labels("y", y)
        classes = np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
        if not is_first and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"y has the classes {classes} with warm_start, but had {self.classes_} before; give the same, or take"
                " partial_fit"
            )
        if y.ndim == 2 and len(y) > 1 and not is_part and (y.sum(axis=1) == 1).all():  # a part may happen to be so
            raise ValueError("y has exactly one label in every row, which is a class; give y.argmax(axis=1)")
        if len(classes) < 2:
            given = "classes" if is_part else "y"
            raise ValueError(
                f"{given} holds one class only ({classes[0]}); expected at least two classes to tell apart"
            )
        self.classes_ = classes

    def _check_labels(self, argument: str, y: np.ndarray) -> None:
        if y.ndim == 2 and not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"{argument} has shape {y.shape} and holds more than labels of 0 and 1; expected classes (m,)"
            )

    def _encoded(self, argument: str, y: np.ndarray) -> np.ndarray:
        self._check_labels(argument, y)
        if y.ndim == 2:
            return y
        known = np.isin(y, self.classes_)
        if not known.all():
            raise ValueError(
                f"{argument} holds the class {y[~known].tolist()[0]!r}; expected one of {self.classes_.tolist()}, which"
                " y of the training had"
            )
        return np.searchsorted(self.classes_, y)

    def _targets(self, y: np.ndarray) -> Any:
        if y.ndim == 2:
            return y.T
        return y[None] if len(self.classes_) == 2 else one_hot(y, len(self.classes_))

    def _output(self, y: np.ndarray) -> str:
        return "softmax" if y.ndim == 1 and len(self.classes_) > 2 else "sigmoid"

    def _class_weights(self, y: np.ndarray) -> np.ndarray | None:
        given, classes = self.class_weight, self.classes_.tolist()
        if given is None:
            return None
        if y.ndim == 2:
            raise ValueError("class_weight is given beside labels, which are no classes; give sample_weight")
        if isinstance(given, dict):
            for name in given:
                if name not in classes:
                    raise ValueError(f"class_weight holds the class {name!r}; expected some of {classes}")
            counts = [from_zero(f"class_weight[{name!r}]", given.get(name, 1.0)) for name in classes]
            return np.array(counts, np.float64)
        choice("class_weight", given, ("balanced",), ", or {class: weight}")
        of_class, present = np.ones(len(classes)), np.unique(y)
        of_class[present] = len(y) / (len(present) * np.bincount(y)[present])
        return of_class


class MLPRegressor(RegressorMixin, _MLP):
    """A multi-layer perceptron that answers with numbers (m,), or (m, n_y), by half the squared error.

    Its arguments and attributes are those of `MLPClassifier`, but for classes and their weights.
    """

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train for one epoch on a part of the data, from where the last training ended; raises as `fit`."""
        with self._as_it_was_if_it_fails():
            X, y = self._read(X, y, is_first=not hasattr(self, "result_"))
            self._part(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The numbers (m,), or (m, n_y), for rows X (m, n), in the params' dtype."""
        A = self._answers(X)
        return A[:, 0] if A.shape[1] == 1 else A

    def __sklearn_tags__(self) -> Any:
        """That several numbers are answered too."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _dense(array: Any) -> np.ndarray:
    """A sparse matrix, such as OneHotEncoder makes, as the array that a network multiplies."""
    return array.toarray() if issparse(array) else array


def _weights(argument: str, sample_weight: Any, m: int) -> np.ndarray:
    """Weights of examples, in the words of this door."""
    weights = real_numbers(argument, sample_weight)
    checks.weights_shape(weights, m, argument)
    if not weights.any():
        raise ValueError(f"{argument} is zero for all examples: no weight counts; give one of which some are above 0")
    masking_weights(weights, weights, argument)
    return weights


def _padded(X: np.ndarray, Y: Any, weights: np.ndarray) -> Examples:
    """Columns and weights with examples of weight 0, so that parts of many sizes share few programs."""
    m = X.shape[1]
    width = buckets.bucket(m)
    X, Y = (buckets.padded_columns(np.asarray(columns), width) for columns in (X, Y))
    return X, Y, np.append(weights, np.zeros(width - m))


def _start(net: MLP, rng: Any, dtype: np.dtype) -> Params:
    """W and b as scikit-learn draws them, number for number: uniform up to √(6/(n + n_prev)), of sigmoids √(2/...).

    Source: X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward networks, 2010.
    """
    hidden = net.activations[:-1]
    layers = []
    for n_prev, n, activation in zip(net.sizes[:-1], net.sizes[1:], (*hidden, *(hidden[-1:] or [""])), strict=True):
        bound = np.sqrt((2 if activation == "sigmoid" else 6) / (n_prev + n))
        W, b = rng.uniform(-bound, bound, (n_prev, n)).T, rng.uniform(-bound, bound, n)[:, None]
        layers.append(Layer(jnp.asarray(W, dtype), jnp.asarray(b, dtype)))
    return tuple(layers)


def _begun(params: Params, key: Any, chosen: Any) -> FitResult:
    """A training before its first epoch, as `fit` begins it: data that go on from it need not show all classes."""
    loop_key = jax.random.split(key)[1]
    transformation, _, numbers = optimizers.chosen(chosen)
    opt_state = optimizers.with_numbers(transformation.init(params), numbers)
    loop = loop_start(TrainState(params, opt_state, jnp.int32(0), loop_key), tracks_best=False)
    return FitResult(params, {}, loop)


def _going_on(earlier: FitResult, chosen: Any, patience: int | None) -> FitResult:
    """What to go on from: with the numbers that are set now, and new patience where it had ended."""
    loop, numbers = earlier.loop, optimizers.chosen(chosen).numbers
    if numbers and hasattr(loop.state.opt_state, "hyperparams"):
        opt_state = optimizers.with_numbers(loop.state.opt_state, numbers)
        loop = loop._replace(state=loop.state._replace(opt_state=opt_state))
    if patience is not None and loop.epochs_since_best >= patience:
        loop = loop._replace(epochs_since_best=jnp.int32(-1))
    return earlier._replace(loop=loop)


def __dir__() -> list[str]:
    """The public names."""
    return __all__

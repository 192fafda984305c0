"""scikit-learn's face: its own checks, exact continuation, and `fit` or scikit-learn itself as the witness."""

import dataclasses
import importlib
import pickle
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier as PeerClassifier
from sklearn.neural_network import MLPRegressor as PeerRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import jaxnet
from jaxnet.estimator import MLPClassifier, MLPRegressor, _going_on
from jaxnet.train import optimizers
from tests.comparison import assert_trees_close
from tests.marks import slow_but

pytestmark = [
    pytest.mark.usefixtures("implicit_promotion", "untyped"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
rng = np.random.default_rng(0)
M = 60
X = rng.normal(size=(M, 3)).astype(np.float32)
SCORES = X @ rng.normal(size=(3, 3)).astype(np.float32)
CLASSES = np.array(["cat", "dog", "eel"])[SCORES.argmax(axis=1)]
TWO = np.where(CLASSES == "cat", "yes", "no")
LABELS = (SCORES > 0).astype(int)
NUMBERS = SCORES[:, 0] ** 2
COMMON = {"hidden_layer_sizes": (4,), "random_state": 3, "batch_size": 20, "tol": None}


def classifier(**changes):
    return MLPClassifier(**COMMON | {"max_iter": 3} | changes)


def regressor(**changes):
    return MLPRegressor(**COMMON | {"max_iter": 3} | changes)


def same(one, other):
    """Whether two estimators have the same params and curves, bit for bit."""
    leaves = (jax.tree.leaves(each.params_) for each in (one, other))
    return one.loss_curve_ == other.loss_curve_ and all(map(np.array_equal, *leaves))


# scikit-learn's own checks

ROUNDING = dict.fromkeys(
    ("check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"),
    "it wants seven digits alike, and sums of float32 in another order differ in the last; in float64 it passes below",
)
DTYPE = {
    "check_regressor_multioutput": (
        "it wants float64 of several outputs, and answers are in the params' dtype, which is float32; their shape,"
        " dtype and values are tested below"
    ),
}
DECLARED = {MLPClassifier: ROUNDING, MLPRegressor: ROUNDING | DTYPE}
QUICK = (
    "check_no_attributes_set_in_init", "check_do_not_raise_errors_in_init_or_set_params", "check_estimators_unfitted",
    "check_n_features_in_after_fitting", "check_estimators_nan_inf", "check_estimators_pickle",
    "check_classifiers_one_label", "check_supervised_y_2d", "check_valid_tag_types",
)  # fmt: skip


@pytest.mark.parametrize("make", slow_but([MLPClassifier], [MLPClassifier, MLPRegressor]))
@pytest.mark.filterwarnings("ignore")
def test_a_few_of_scikit_learn_s_checks(make):
    """Those of which any may fail by a slip of translation; all of them are slow."""
    found = set()
    for estimator, check in estimator_checks_generator(make(hidden_layer_sizes=(4,), max_iter=3)):
        name = getattr(check, "func", check).__name__
        if name in QUICK:
            check(estimator)
            found.add(name)
    assert len(found) >= len(QUICK) - 1


@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
@pytest.mark.filterwarnings("ignore")
def test_the_declared_checks_pass_in_float64(make, x64):
    asked = {
        getattr(check, "func", check).__name__: partial(check, each)
        for each, check in estimator_checks_generator(make())
    }
    for name in DECLARED[make]:
        asked[name]()


@pytest.mark.slow
@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_s_checks(make):
    results = check_estimator(make(), expected_failed_checks=DECLARED[make], on_skip=None, on_fail=None)
    by_status = {}
    for result in results:
        by_status.setdefault(result["status"], []).append((result["check_name"], result["exception"]))
    assert "failed" not in by_status, by_status["failed"]
    assert {name for name, _ in by_status["xfail"]} == {*DECLARED[make]}
    assert len(by_status["passed"]) > 50


def test_a_weight_counts_as_often_as_its_row():
    """In full batches, where no order tells rows apart."""
    counts = rng.integers(0, 3, M)
    full = {"batch_size": None, "max_iter": 20}
    weighted = classifier(**full).fit(X, CLASSES, sample_weight=counts)
    rows = np.repeat(np.arange(M), counts)
    repeated = classifier(**full).fit(X[rows], CLASSES[rows])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)


# What it translates to


def drawn(*layers):
    """A key and params, as scikit-learn draws these for layers of (n_prev, n, the factor of its activation)."""
    random, params = np.random.RandomState(3), []
    for n_prev, n, factor in layers:
        bound = (factor / (n_prev + n)) ** 0.5
        W, b = random.uniform(-bound, bound, (n_prev, n)), random.uniform(-bound, bound, n)
        params.append(jaxnet.Layer(jnp.asarray(W.T, jnp.float32), jnp.asarray(b[:, None], jnp.float32)))
    return jax.random.key(random.randint(2**31 - 1)), tuple(params)


def test_it_is_fit():
    own = classifier(hidden_layer_sizes=(4, 5), activation=("relu", "logistic"), dropout=(0.5, 0.1)).fit(X, CLASSES)
    net = jaxnet.MLP((3, 4, 5, 3), ("relu", "sigmoid", "softmax"), dropout=(0.5, 0.1, 0))
    key, params = drawn((3, 4, 6), (4, 5, 2), (5, 3, 2))  # of relu, and twice of logistic
    Y = np.eye(3, dtype=np.float32)[np.searchsorted(["cat", "dog", "eel"], CLASSES)].T
    result = jaxnet.fit(net, X.T, Y, key=key, params=params, epochs=3, batch_size=20)
    assert own.net_ == net and own.loss_curve_ == pytest.approx(result.history["cost"].tolist(), rel=1e-6)
    np.testing.assert_allclose(own.predict_proba(X), jaxnet.predict(net, result.params, X.T).T, atol=1e-6)
    assert [W.shape for W in own.coefs_] == [(3, 4), (4, 5), (5, 3)] and own.intercepts_[0].shape == (4,)


@pytest.mark.parametrize(
    ("make", "peer", "y"), [(classifier, PeerClassifier, CLASSES), (regressor, PeerRegressor, NUMBERS)]
)
def test_a_step_is_scikit_learn_s(make, peer, y):
    """Plain descent on all examples, with alpha: the same params before, the same after."""
    own = make(batch_size=None, alpha=7.0, learning_rate_init=0.1, optimizer="sgd", activation="tanh")
    other = peer(
        hidden_layer_sizes=(4,),
        activation="tanh",
        solver="sgd",
        alpha=7.0,
        learning_rate_init=0.1,
        batch_size=M,
        momentum=0,
    )
    classes = {"classes": np.unique(y)} if make is classifier else {}
    for estimator in (own, other):
        estimator.partial_fit(X, y, **classes)
    other.coefs_, other.intercepts_ = [W.copy() for W in own.coefs_], [b.copy() for b in own.intercepts_]
    for estimator in (own, other):
        estimator.partial_fit(X, y)
    for ours, theirs in zip(own.coefs_ + own.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize(
    ("make", "peer", "y"), [(classifier, PeerClassifier, CLASSES), (regressor, PeerRegressor, NUMBERS)]
)
def test_it_starts_where_scikit_learn_does(make, peer, y, activation):
    common = {"hidden_layer_sizes": (4, 5), "activation": activation, "random_state": 3, "learning_rate_init": 1e-30}
    classes = {"classes": np.unique(y)} if make is classifier else {}
    own, other = (kind(**common).partial_fit(X, y, **classes) for kind in (make, peer))
    for ours, theirs in zip(own.coefs_ + own.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_fit_that_fails_leaves_the_estimator_as_it_was():
    own = classifier().fit(X, CLASSES)
    before = own.predict(X).tolist()
    for change, y in (({"learning_rate_init": -1}, CLASSES + "!"), ({}, np.full(M, "dog"))):
        with pytest.raises(ValueError, match=r"learning_rate_init is -1|y holds one class only"):
            own.set_params(**change).fit(X[:, :2], y)
        own.set_params(learning_rate_init=0.001)
        assert own.predict(X).tolist() == before and own.n_features_in_ == 3


def test_epochs_without_a_lower_cost_may_be_without_end():
    own = classifier(n_iter_no_change=np.inf, tol=1e9, max_iter=15).fit(X, CLASSES)
    assert own.n_iter_ == 15


def test_an_optimizer_of_optax():
    by_name = classifier(optimizer="sgd", learning_rate_init=0.1).fit(X, CLASSES)
    given = classifier(optimizer=optax.sgd(0.1)).fit(X, CLASSES)
    np.testing.assert_allclose(given.predict_proba(X), by_name.predict_proba(X), atol=1e-6)


def test_a_grid_of_rates_and_penalties_is_one_program(compiled):
    pipeline = make_pipeline(StandardScaler(), classifier())
    grid = {"mlpclassifier__learning_rate_init": [0.001, 0.01, 0.1], "mlpclassifier__alpha": [0.0, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, CLASSES)
    assert search.best_score_ > 0.4 and set(search.best_estimator_.classes_) == set(CLASSES)
    assert sum("run_epochs" in name for name in compiled) <= 2  # of folds, and of all examples


# Going on


def test_parts_are_the_whole_bit_for_bit():
    whole = classifier(max_iter=3).fit(X, CLASSES)
    parts, warm = classifier(), classifier(max_iter=1, warm_start=True).fit(X, CLASSES)
    for _ in range(3):
        parts.partial_fit(X, CLASSES, classes=np.unique(CLASSES))
    assert same(parts, whole) and not same(warm, whole)
    assert same(warm.set_params(max_iter=2).fit(X, CLASSES), whole) and warm.n_iter_ == 3
    assert same(pickle.loads(pickle.dumps(warm)).fit(X, CLASSES), warm.fit(X, CLASSES))
    assert same(classifier(max_iter=3).fit(X, CLASSES), whole)  # no warm start: anew


@pytest.mark.parametrize(
    "settings", [{}, {"batch_size": "auto", "alpha": 1.0, "class_weight": {"cat": 3.0}}, {"batch_size": None}]
)
def test_parts_of_many_sizes_share_programs_and_are_steps_on_their_own_examples(settings, compiled):
    """The witness is fit of the very part, which is not padded; 64 is the width of them all."""
    sizes = (60, 45, 33, 50)
    parts, Y = classifier(**settings), np.eye(3)[np.searchsorted(np.unique(CLASSES), CLASSES)].T
    for size in sizes:
        parts.partial_fit(X[:size], CLASSES[:size], classes=np.unique(CLASSES))
    assert sum("run_epochs" in name for name in compiled) <= 1  # none where an earlier test has it
    net, rate = parts.net_, parts.learning_rate_init
    (key, params), result = drawn((3, 4, 6), (4, 3, 6)), None
    for epochs, size in enumerate(sizes, start=1):
        batch_size = size if parts.batch_size == "auto" else parts.batch_size
        chosen = optimizers.Named("adam", rate, l2=parts.alpha / (batch_size or size))
        result = result and _going_on(result, chosen, None)
        weights = np.where(CLASSES[:size] == "cat", 3.0 if parts.class_weight else 1.0, 1.0)
        result = jaxnet.fit(
            net, X[:size].T, Y[:, :size], key=None if result else key, params=None if result else params,
            resume=result, weights=weights, epochs=epochs, batch_size=batch_size, metrics=("cost",), optimizer=chosen,
        )  # fmt: skip
    assert_trees_close(parts.params_, result.params, rtol=1e-5)
    assert parts.loss_curve_ == pytest.approx(result.history["cost"].tolist(), rel=1e-5)


def test_a_part_need_not_show_all_classes():
    parts = classifier()
    for name in np.unique(CLASSES):
        rows = np.flatnonzero(np.char.equal(CLASSES, name))
        parts.partial_fit(X[rows], CLASSES[rows], classes=np.unique(CLASSES))
    assert parts.n_iter_ == 3 and parts.predict_proba(X).shape == (M, 3)


def test_a_rate_that_is_set_anew_is_taken_on():
    warm = classifier(warm_start=True, optimizer="sgd", learning_rate_init=0.1).fit(X, CLASSES)
    before = warm.coefs_[0]
    warm.set_params(learning_rate_init=1e-12).fit(X, CLASSES)
    np.testing.assert_allclose(warm.coefs_[0], before, atol=1e-6)


# Stopping


def test_stopping_by_the_cost_of_training():
    est = classifier(max_iter=400, tol=1e-2, n_iter_no_change=4, learning_rate_init=0.05).fit(X, CLASSES)
    curve = np.array(est.loss_curve_)
    assert est.n_iter_ == len(curve) < 400 and (np.diff(curve)[-5:] > -1e-2).all() and curve[-6] < curve[-7] - 1e-2
    with pytest.warns(ConvergenceWarning, match="max_iter is 3, and the cost of training may still fall"):
        classifier(tol=1e-4).fit(X, CLASSES)
    assert est.set_params(warm_start=True).fit(X, CLASSES).n_iter_ > len(curve)  # asked for more, it trains more


@pytest.mark.parametrize("rate", [0.003, 0.05])
def test_it_stops_at_the_epoch_at_which_scikit_learn_does(rate):
    """scikit-learn's own count, of our costs: steps smaller than tol do not add up."""
    rule = {"tol": 2e-3, "n_iter_no_change": 5}
    theirs = PeerClassifier(**rule)
    theirs.loss_curve_, theirs.best_loss_, theirs._no_improvement_count = [], np.inf, 0
    for cost in classifier(max_iter=600, learning_rate_init=rate).fit(X, CLASSES).loss_curve_:
        theirs.loss_curve_.append(cost)
        theirs._update_no_improvement_count(False, X, CLASSES, None)
        if theirs._no_improvement_count > theirs.n_iter_no_change:
            break
    ours = classifier(max_iter=600, learning_rate_init=rate, **rule).fit(X, CLASSES)
    assert ours.loss_curve_ == theirs.loss_curve_ and 5 < ours.n_iter_ < 600
    assert ours.result_.loop.best_score == np.float32(theirs.best_loss_)


def test_stopping_by_a_set_that_is_given_with_weights():
    """The targets of half of it are wrong, and have weight 0."""
    weights = np.arange(20) % 2
    wrong = np.where(weights == 0, np.roll(CLASSES[:20], 1), CLASSES[:20])
    est = classifier(early_stopping=True, max_iter=30, tol=0.0, n_iter_no_change=3, learning_rate_init=0.3)
    est.fit(X[20:], CLASSES[20:], X_val=X[:20], y_val=wrong, sample_weight_val=weights)
    assert len(est.validation_curve_) == est.n_iter_ < 30
    Y = np.eye(3)[np.searchsorted(est.classes_, wrong)].T
    cost = jaxnet.cost(est.net_, est.params_, X[:20].T, Y, weights)
    assert min(est.validation_curve_) == pytest.approx(float(cost), rel=1e-5)  # the best params are kept


def test_stopping_by_a_fraction_of_each_class():
    y = np.where(np.arange(M) < 12, "rare", "common")
    est = classifier(early_stopping=True, validation_fraction=0.25, max_iter=5, tol=0.0, class_weight="balanced")
    (X_train, y_train, _), (_, y_val, _) = est._split(X, y, None, np.random.RandomState(3))
    assert (len(X_train), (y_train == "rare").sum(), (y_val == "rare").sum()) == (45, 9, 3)
    assert len(est.fit(X, y).validation_curve_) == 5
    again = classifier(early_stopping=True, validation_fraction=0.25, max_iter=5, tol=0.0, class_weight="balanced")
    assert same(again.fit(X, y), est)


@pytest.mark.parametrize("verbose", [True, False, 1, 0])
def test_verbose_shows_a_bar_where_nobody_looks_on(verbose, capsys):
    classifier(verbose=verbose).fit(X, CLASSES)
    out, err = capsys.readouterr()
    assert out == "" and ("3/3" in err and "cost=" in err) == bool(verbose)


# Weights of classes


@pytest.mark.parametrize("weight", ["balanced", {"yes": 5.0, "no": 0.5}])
def test_classes_weigh_what_their_examples_would(weight):
    by_class = classifier(class_weight=weight).fit(X, TWO, sample_weight=1 + np.arange(M) % 2)
    by_hand = classifier().fit(X, TWO, sample_weight=(1 + np.arange(M) % 2) * compute_sample_weight(weight, TWO))
    np.testing.assert_allclose(by_class.predict_proba(X), by_hand.predict_proba(X), atol=1e-6)


def test_classes_weigh_in_validation_as_in_training():
    est = classifier(class_weight="balanced").fit(X, TWO, X_val=X[:20], y_val=TWO[:20])
    weights = compute_sample_weight("balanced", TWO)[:20]
    cost = jaxnet.cost(est.net_, est.params_, X[:20].T, TWO[None, :20] == "yes", weights)
    assert est.validation_curve_[-1] == pytest.approx(float(cost), rel=1e-5)


# Targets of every kind


@pytest.mark.parametrize("y", [CLASSES, TWO, CLASSES == "cat", np.searchsorted(["cat", "dog", "eel"], CLASSES) - 5])
def test_classes_of_any_type(y):
    est = classifier(max_iter=60, learning_rate_init=0.05).fit(X, y)
    p, predicted = est.predict_proba(X), est.predict(X)
    assert (est.classes_ == np.unique(y)).all() and p.shape == (M, len(est.classes_)) and predicted.dtype == y.dtype
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert (est.classes_[p.argmax(axis=1)] == predicted).all()
    assert est.score(X, y) == accuracy_score(y, predicted) > 0.85


def test_labels():
    est = classifier(max_iter=60, learning_rate_init=0.05).fit(X, LABELS)
    assert est.net_.activations[-1] == "sigmoid" and est.predict_proba(X).shape == (M, 3)
    np.testing.assert_array_equal(est.predict(X), (est.predict_proba(X) > 0.5).astype(int))
    assert (est.predict(X) == LABELS).mean() > 0.85
    peer = PeerClassifier((4,), max_iter=3, random_state=0).fit(X, LABELS)
    assert est.predict(X).dtype.kind == peer.predict(X).dtype.kind and est.score(X, LABELS) > 0.5


@pytest.mark.parametrize("y", [NUMBERS, np.stack([NUMBERS, SCORES[:, 1]], axis=1)], ids=["one", "two"])
def test_numbers(y):
    est = regressor(max_iter=100, hidden_layer_sizes=(16,), learning_rate_init=0.05).fit(X, y)
    predicted = est.predict(X)
    assert predicted.shape == y.shape and predicted.dtype == np.float32
    assert est.score(X, y) == pytest.approx(r2_score(y, predicted))
    assert est.score(X, y) > 0.8


def test_frames_and_their_names():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    est = classifier().fit(frame, pd.Series(CLASSES))
    assert est.feature_names_in_.tolist() == ["a", "b", "c"] and est.n_features_in_ == 3
    assert same(est, classifier().fit(X, CLASSES))
    with pytest.raises(ValueError, match="feature names should match"):
        est.predict(frame.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3"):
        classifier().fit(X, CLASSES).predict(X[:, :2])


# What goes wrong


BEFORE = r" in the training that {} goes on from; give what it had, or {} to begin anew"
OTHER_SETTINGS = {
    "widths": ({"hidden_layer_sizes": (5,)}, r"hidden_layer_sizes is \(5,\), but was \(4,\)"),
    "depth": ({"hidden_layer_sizes": (4, 4)}, r"hidden_layer_sizes is \(4, 4\), but was \(4,\)"),
    "name": ({"optimizer": "sgd"}, "optimizer is 'sgd', but was another"),
    "object": ({"optimizer": optax.adam(1e-3)}, "optimizer is a GradientTransformation.*, but was another"),
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_what_cannot_go_on_is_told_by_the_arguments_of_this_door(name):
    changes, difference = OTHER_SETTINGS[name]
    warm = classifier(warm_start=True).fit(X, CLASSES).set_params(**changes)
    with pytest.raises(ValueError, match=difference + BEFORE.format("warm_start", "set warm_start=False")):
        warm.fit(X, CLASSES)
    part = classifier().partial_fit(X, CLASSES, classes=np.unique(CLASSES)).set_params(**changes)
    with pytest.raises(ValueError, match=difference + BEFORE.format("partial_fit", "call fit")):
        part.partial_fit(X, CLASSES)


def test_going_on_with_other_data_or_numbers_is_told_too(x64):
    without, with_ = "without X_val and early_stopping", "with X_val or early_stopping"
    warm = classifier(warm_start=True).fit(X, CLASSES)
    with pytest.raises(ValueError, match=f"fit is {with_}, but was {without} in the training that warm_start"):
        warm.fit(X, CLASSES, X_val=X, y_val=CLASSES)
    with pytest.raises(ValueError, match=f"fit is {without}, but was {with_} in the training that partial_fit"):
        classifier(early_stopping=True).fit(X, CLASSES).set_params(early_stopping=False).partial_fit(X, CLASSES)
    with pytest.raises(ValueError, match="y asks for outputs 2 of identity, but asked for 1 of identity in"):
        regressor(warm_start=True).fit(X, NUMBERS).fit(X, SCORES[:, :2])
    with pytest.raises(ValueError, match="precision is 'float64', but params were float32 in"):
        warm.set_params(precision="float64").fit(X, CLASSES)
    doubles = classifier(warm_start=True).fit(X.astype(float), CLASSES)
    with jax.enable_x64(False), pytest.raises(ValueError, match="JAX's 64-bit is off, but was on in the training"):
        doubles.fit(X, CLASSES)


def test_a_network_with_a_penalty_of_its_own_beside_alpha():
    """Of whoever overrides the network: one penalty is trained with, and two are refused."""

    class Penalised(MLPRegressor):
        def _network(self, *arguments):
            return dataclasses.replace(super()._network(*arguments), l2=0.1)

    assert Penalised((4,), max_iter=2, tol=None).fit(X, NUMBERS).net_.l2 == 0.1
    with pytest.raises(
        ValueError, match=r"net has l2=0\.1 and the optimizer l2=0\.005, the estimators' alpha over the"
    ):
        Penalised((4,), max_iter=2, tol=None, alpha=0.3).fit(X, NUMBERS)


NOT_FINITE, LARGE, STAMPS = X.copy(), X.astype(float), 1.7e9 + np.arange(3.0 * M).reshape(M, 3)
NOT_FINITE[5, 2], LARGE[5, 2] = np.nan, 1e60
DATA = {  # of fit, what is wrong with X or y and, where it is the validation data, with X_val or y_val
    "NaN": ({"X": NOT_FINITE}, "Input X contains NaN"),
    "too large": ({"X": LARGE}, r"X holds 1e\+60 at row 5, column 2 \(1 such\); it overflows float32: rescale X$"),
    "time stamps": ({"X": STAMPS}, "X holds 60 different numbers in column 0, .* subtract the column's mean"),
    "of another length": ({"X": X[:5]}, r"inconsistent numbers of samples: \[5, 60\]"),
    "a large target": ({"y": LARGE[:, 2]}, r"y holds 1e\+60 at row 5, column 0 \(1 such\); .*: rescale y$"),
    "text": ({"y": CLASSES}, "y has dtype <U3; expected real numbers"),
    "NaN as target": ({"y": NOT_FINITE[:, 2]}, "Input y contains NaN"),
}


@pytest.mark.parametrize("name", DATA)
def test_what_is_wrong_with_data_is_told_by_the_name_and_the_rows_that_were_given(name):
    changes, message = DATA[name]
    given = {"X": X, "y": NUMBERS} | changes
    with pytest.raises((ValueError, TypeError), match=rf"^(Found input variables with )?{message}"):
        regressor().fit(**given)
    message = message.replace("X", "X_val").replace("y ", "y_val ").replace("rescale y", "rescale y_val")
    with pytest.raises((ValueError, TypeError), match=rf"^(of X_val and y_val: )?(Found input .* )?{message}"):
        regressor().fit(X, NUMBERS, X_val=given["X"], y_val=given["y"])


def test_validation_data_of_another_kind():
    with pytest.raises(ValueError, match=r"of X_val and y_val: X_val has 2 features, but MLPClassifier is expecting 3"):
        classifier().fit(X, CLASSES, X_val=X[:, :2], y_val=CLASSES)
    with pytest.raises(ValueError, match=r"y_val has shape \(60, 2\) beside y of shape \(60,\); expected \(60,\)"):
        regressor().fit(X, NUMBERS, X_val=X, y_val=SCORES[:, :2])
    with pytest.raises(ValueError, match=r"y_val has shape \(60, 3\) and holds more than labels of 0 and 1"):
        classifier().fit(X, LABELS, X_val=X, y_val=2 * LABELS)
    with pytest.raises(ValueError, match=r"X holds 1e\+60 at row 5, column 2 \(1 such\); it overflows float32"):
        classifier().fit(X, CLASSES).predict(LARGE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "rleu"}, "activation is 'rleu'; .*did you mean 'relu'"),
        ({"activation": ("relu", "tanh")}, "activation has 2 names but hidden_layer_sizes 1 widths; give one for each"),
        ({"hidden_layer_sizes": (4, 0)}, r"hidden_layer_sizes\[1\] is 0"),
        ({"optimizer": "sdg"}, "optimizer is 'sdg'; .*did you mean 'sgd'"),
        ({"optimizer": optax.sgd(0.1), "alpha": 0.1}, "alpha is 0.1 beside a GradientTransformation.* as optimizer"),
        ({"optimizer": optax.sgd(0.1), "learning_rate_init": 0.1}, "learning_rate_init is 0.1 beside"),
        ({"alpha": -1.0}, "alpha is -1.0; expected a finite number above 0, or 0"),
        ({"learning_rate_init": 0.0}, "learning_rate_init is 0.0; expected a finite number above 0"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"early_stopping": "False"}, "early_stopping is 'False'; expected True or False"),
        ({"warm_start": None}, "warm_start is None; expected True or False"),
        ({"tol": 1e-4, "n_iter_no_change": 0}, "n_iter_no_change is 0"),
        ({"tol": -1.0}, "tol is -1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"early_stopping": True, "validation_fraction": 1.5}, "validation_fraction is 1.5"),
        (
            {"class_weight": {"cow": 1.0}},
            r"class_weight holds the class 'cow'; expected some of \['cat', 'dog',",
        ),
        ({"class_weight": "balance"}, "class_weight is 'balance'; .*did you mean 'balanced'"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"device": "tpu"}, "device is 'tpu', but JAX finds only cpu"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        classifier(**changes).fit(X, CLASSES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": np.full(M, "cat")}, r"y holds one class only \(cat\)"),
        ({"y": np.eye(3)[np.arange(M) % 3] + 1}, "y has shape .* and holds more than labels of 0 and 1"),
        ({"y": np.eye(3, dtype=int)[np.arange(M) % 3]}, r"y has exactly one label in every row, .*y.argmax\(axis=1\)"),
        ({"sample_weight": np.zeros(M)}, "sample_weight is zero for all examples"),
        ({"sample_weight": np.ones(M - 1)}, r"sample_weight has shape \(59,\); expected \(60,\)"),
        ({"X_val": X}, "X_val, y_val or sample_weight_val is given alone"),
        ({"X_val": X, "y_val": np.full(M, "cow")}, "y_val holds the class 'cow'; expected one of"),
        ({"X_val": X, "y_val": CLASSES, "sample_weight_val": np.ones(3)}, "sample_weight_val has shape"),
    ],
)
def test_data_that_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(**{"X": X, "y": CLASSES} | given)


def test_one_example_cannot_be_split():
    with pytest.raises(ValueError, match="train set will be empty"):
        regressor(early_stopping=True).fit(X[:1], NUMBERS[:1])


def test_what_does_not_go_on_is_refused():
    est = classifier(warm_start=True).fit(X, CLASSES)
    with pytest.raises(ValueError, match=r"y has the classes .* with warm_start, but had"):
        est.fit(X, TWO)
    with pytest.raises(ValueError, match=r"y holds the class '(yes|no)'; expected one of"):
        est.partial_fit(X, TWO)
    with pytest.raises(ValueError, match=r"classes is .* but it was"):
        est.partial_fit(X, CLASSES, classes=["cat", "dog"])
    with pytest.raises(ValueError, match="classes is None at the first call of partial_fit"):
        classifier().partial_fit(X, CLASSES)
    with pytest.raises(ValueError, match="early_stopping is True in partial_fit"):
        classifier(early_stopping=True).partial_fit(X, CLASSES, classes=np.unique(CLASSES))
    with pytest.raises(ValueError, match="class_weight is 'balanced' in partial_fit"):
        classifier(class_weight="balanced").partial_fit(X, CLASSES, classes=np.unique(CLASSES))
    with pytest.raises(ValueError, match="class_weight is given beside labels"):
        classifier(class_weight="balanced").fit(X, LABELS)


def test_a_batch_larger_than_the_data_is_all_of_them():
    with pytest.warns(jaxnet.TrainingWarning, match="batch_size is 100 but there are 60 examples; taken as 60"):
        large = classifier(batch_size=100).fit(X, CLASSES)
    assert same(large, classifier(batch_size=M).fit(X, CLASSES))


def test_a_clone_has_the_arguments_and_no_training():
    est = classifier(optimizer="nesterov", activation=("relu",)).fit(X, CLASSES)
    other = clone(est)
    assert other.get_params() == est.get_params() and not hasattr(other, "params_")


def test_jaxnet_alone_does_not_load_scikit_learn():
    script = "import sys, jaxnet; sys.exit('sklearn' in sys.modules or 'jaxnet.estimator' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "jaxnet.estimator")
    with pytest.raises(ImportError, match=r"pip install 'jaxnet\[sklearn\]'"):
        importlib.import_module("jaxnet.estimator")


def square(Z):
    return Z * Z


def square_derivative(Z, A):
    return 2 * Z


def test_an_own_activation_goes_through_clone_and_pickle():
    own = jaxnet.Activation(square, square_derivative)
    est = clone(MLPRegressor(**COMMON | {"activation": own, "max_iter": 2})).fit(X, NUMBERS)
    assert est.net_.activations == (own, "identity")
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.predict(X), est.predict(X))


# What newcomers met


def test_a_pipeline_may_make_sparse_features():
    """Of many categories OneHotEncoder makes a sparse matrix; the answers are those of the dense one."""
    names = np.array([f"name {i % 30}" for i in range(M)])[:, None]
    models = [make_pipeline(OneHotEncoder(sparse_output=sparse), classifier()) for sparse in (True, False)]
    sparse, dense = (model.fit(names, CLASSES).predict_proba(names) for model in models)
    np.testing.assert_array_equal(sparse, dense)


def test_a_part_of_the_data_may_have_one_label_in_each_row():
    labels = np.eye(3, dtype=int)[np.arange(M) % 3]
    with pytest.raises(ValueError, match="y has exactly one label in every row, which is a class"):
        classifier().fit(X, labels)
    assert classifier().partial_fit(X, labels).predict(X).shape == (M, 3)


def test_logarithms_of_probabilities():
    model = classifier().fit(X, CLASSES)
    np.testing.assert_array_equal(model.predict_log_proba(X), np.log(model.predict_proba(X)))
    model.params_ = jax.tree.map(lambda leaf: 1e4 * leaf, model.params_)
    assert np.isneginf(model.predict_log_proba(X)).any()


def test_rates_of_dropout_are_of_hidden_layers():
    with pytest.raises(ValueError, match="dropout has 1 rates but hidden_layer_sizes 2 widths; give one for each"):
        classifier(hidden_layer_sizes=(4, 4), dropout=(0.2,)).fit(X, CLASSES)
    with pytest.raises(ValueError, match=r"dropout is '0\.2'; expected a number above 0 and below 1"):
        classifier(dropout="0.2").fit(X, CLASSES)
    with pytest.raises(ValueError, match="there is no hidden layer to drop units of; leave it out"):
        classifier(hidden_layer_sizes=(), dropout=0.2).fit(X, CLASSES)


def test_weights_are_named_as_they_were_given():
    with pytest.raises(ValueError, match=r"sample_weight holds -1\.0"):
        classifier().fit(X, CLASSES, -np.ones(M))
    with pytest.raises(ValueError, match=r"class_weight\['cat'\] is -2; expected a finite number above 0, or 0"):
        classifier(class_weight={"cat": -2}).fit(X, CLASSES)

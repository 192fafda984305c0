"""To and from scikit-learn: a fitted MLPClassifier or MLPRegressor."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxnet._arguments import choice
from jaxnet.convert.parts import Dense, Function, layers_of, library, network, require, shared
from jaxnet.mlp import MLP, Params

OF_SKLEARN = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


def from_sklearn(model: Any, output: str | None = None) -> tuple[MLP, Params]:
    """Return the network and params of an MLPClassifier or MLPRegressor that is fitted.

    Outputs are in the order of model.classes_; of two classes there is one, the probability of the second.

    Args:
        model: the estimator.
        output: "softmax" for two outputs where it has one of two classes, the first's logit 0; None is as it stands.

    Raises:
        ValueError: it is not fitted; or output is unknown.
        TypeError: it is another estimator.
        ImportError: scikit-learn is not installed.
    """
    kinds = library("sklearn.neural_network")
    if isinstance(getattr(model, "net_", None), MLP):
        raise TypeError("model is jaxnet's own estimator, whose network and params are model.net_ and model.params_")
    require("model", model, kinds.MLPClassifier | kinds.MLPRegressor, "an MLPClassifier or MLPRegressor (of a"
             " Pipeline, its last step)")  # fmt: skip
    if not hasattr(model, "coefs_"):
        raise ValueError("model is not fitted, and has no coefs_ yet; call model.fit first")
    hidden = [_known("model.activation", model.activation)] * (len(model.coefs_) - 1)
    names = [*hidden, _known("model.out_activation_", model.out_activation_)]
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    layers = [Dense(W.T, b, f"model.coefs_[{l}]") for l, (W, b) in enumerate(pairs)]
    if output == "softmax" and names[-1] == "sigmoid" and len(layers[-1].W) == 1:
        W, b, place = layers[-1].W, model.intercepts_[-1], layers[-1].place
        layers[-1] = Dense(np.vstack([np.zeros_like(W), W]), np.append(np.zeros_like(b), b), place)
        names[-1] = "softmax"
        output = None
    parts = [part for layer, name in zip(layers, names, strict=True) for part in (layer, Function(name, layer.place))]
    return network("model", parts, output)


def to_sklearn(net: MLP, params: Params, classes: Iterable[Any] | None = None) -> Any:
    """Return a fitted MLPClassifier, or of a net that is no classifier an MLPRegressor, with these params.

    Two softmax outputs become one, the second's logit less the first's. With warm_start=True a fit goes on from there.

    Args:
        net: the network; its hidden layers share an activation: identity, sigmoid, tanh or relu.
        params: its params.
        classes: the labels of the outputs, sorted; None is 0, 1, 2, ...

    Raises:
        ValueError: scikit-learn has no such network, classes do not fit its outputs, or params not the net.
        TypeError: params are not those of the net.
        ImportError: scikit-learn is not installed.
    """
    kinds = library("sklearn.neural_network")
    layers, output = layers_of(net, params, logits=False), net.activations[-1]
    hidden = shared("an MLP of scikit-learn", "activation", net.activations[:-1], "identity")
    for name in {hidden, output} - {"softmax"}:
        choice("net has an activation that", name, OF_SKLEARN)
    if not net.is_classifier and output != "identity":
        raise ValueError(f"net has output {output!r} and squared error; MLPRegressor's output is the identity alone")
    rows = np.zeros((max(2, net.sizes[-1]), net.sizes[0]), layers[0][0].dtype)
    settings = {"hidden_layer_sizes": net.sizes[1:-1], "activation": OF_SKLEARN[hidden], "random_state": 0}
    if net.is_classifier:
        model, Y, labels = kinds.MLPClassifier(**settings), *_targets(net, classes)
        model.partial_fit(rows, Y, classes=labels)  # one step on zeros has it be fitted, by its own hand
    elif classes is not None:
        raise ValueError("classes is given for a net that is no classifier; leave out classes")
    else:
        Y = np.zeros((len(rows), net.sizes[-1]), rows.dtype)
        model = kinds.MLPRegressor(**settings).partial_fit(rows, Y[:, 0] if net.sizes[-1] == 1 else Y)
    *others, (W, b, name) = layers
    if name == "softmax" and len(W) == 2:
        W, b = W[1:] - W[:1], b[1:] - b[:1]
    model.coefs_ = [np.ascontiguousarray(W.T) for W in (*(W for W, *_ in others), W)]
    model.intercepts_ = [*(b for _, b, _ in others), b]
    return model


def _known(argument: str, theirs: str) -> str:
    """Our name of an activation of scikit-learn."""
    names = {own: name for name, own in OF_SKLEARN.items()} | {"softmax": "softmax"}
    return names[choice(argument, theirs, names)]


def _targets(net: MLP, classes: Iterable[Any] | None) -> tuple[np.ndarray, np.ndarray]:
    """An example of each class for MLPClassifier, and its classes."""
    n_y = net.sizes[-1]
    several_labels = net.activations[-1] == "sigmoid" and n_y > 1
    n = 2 if n_y == 1 else n_y
    labels = np.arange(n) if classes is None else np.asarray(list(classes))
    if labels.shape != (n,) or any(labels[:-1] >= labels[1:]):
        raise ValueError(f"classes is {labels.tolist()}; expected {n} different labels, sorted, for {n_y} outputs")
    if several_labels and classes is not None:
        raise ValueError("classes is given for a net of several labels at once, which are columns; leave out classes")
    return (np.eye(n, dtype=int) if several_labels else labels), labels

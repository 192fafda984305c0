"""Networks from and to other libraries: the same predictions there as here, back as they were, or refused by name."""

import functools
import importlib
import sys
from typing import NamedTuple

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from sklearn.neural_network import MLPClassifier, MLPRegressor

import jaxnet
from jaxnet import convert
from jaxnet.activations import ACTIVATIONS
from tests import cases
from tests.comparison import assert_trees_close

pytestmark = [
    pytest.mark.usefixtures("implicit_promotion", "untyped"),
    pytest.mark.filterwarnings("default"),  # of other libraries' code
]
NETS = {
    "classes": jaxnet.MLP((5, 7, 7, 3), ("tanh", "tanh", "softmax")),
    "one label": jaxnet.MLP((5, 7, 1), ("relu", "sigmoid")),
    "labels": jaxnet.MLP((5, 7, 3), ("relu", "sigmoid")),
    "one layer": jaxnet.MLP((5, 2), ("softmax",)),
    "numbers": jaxnet.MLP((5, 7, 2), ("sigmoid", "identity")),
}
OTHERS = {
    "narrowing": jaxnet.MLP((5, 8, 6, 4, 1), ("gelu", "silu", "softplus", "identity")),
    "two activations": jaxnet.MLP((5, 7, 7, 3), ("leaky_relu", "relu", "tanh")),
}
ACTIVATION_NETS = {name: jaxnet.MLP((5, 7, 2), (name, "identity")) for name in cases.HIDDEN}
LIBRARIES = ("torch", "keras", "linen", "nnx", "equinox", "sklearn")


@pytest.fixture(autouse=True)
def keras_on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with jax.numpy_rank_promotion("allow"):  # it adds a bias (n,) to rows
        yield


@functools.cache
def point(net):
    """Params with biases that are not 0, and X (n_x, 6), in float32."""
    params, X, *_ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    return params, X


def rows_of(library, module, net, X):
    """What a module predicts of the columns of X, as rows."""
    rows = np.asarray(X.T)
    match library:
        case "torch":
            return module(importlib.import_module("torch").tensor(rows.copy())).detach().numpy()
        case "keras":
            return np.asarray(module(rows))
        case "linen":
            return module[0].apply(module[1], rows)
        case "nnx":
            return module(jnp.asarray(rows))
        case "equinox":
            return jax.vmap(module)(jnp.asarray(rows))
    if not net.is_classifier:
        return module.predict(rows).reshape(len(rows), -1)
    found = module.predict_proba(rows)
    return found[:, 1:] if net.sizes[-1] == 1 else found


def there_and_back(library, net, **changes):
    params, X = point(net)
    module = getattr(convert, f"to_{library}")(net, params, **changes)
    back = getattr(convert, f"from_{library}")(*(module if library == "linen" else (module,)))
    return module, back, params, X


def required(library):
    pytest.importorskip({"linen": "flax", "nnx": "flax"}.get(library, library))


@pytest.mark.parametrize("name", [*NETS, *OTHERS])
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_same_predictions_there_and_back(library, name):
    required(library)
    net = (NETS | OTHERS)[name]
    if library == "equinox" and net.activations[-1] == "softmax":
        with pytest.raises(ValueError, match=r"'softmax'; equinox\.nn\.MLP applies .* one unit.* logits=True"):
            there_and_back(library, net)
        return
    if name in OTHERS and library in ("equinox", "sklearn"):
        with pytest.raises(ValueError, match=r"has one for all hidden layers: convert to another library"):
            there_and_back(library, net)
        return
    module, (again, found), params, X = there_and_back(library, net)
    A = np.asarray(jaxnet.predict(net, params, X))
    np.testing.assert_allclose(rows_of(library, module, net, X), A.T, rtol=0, atol=1e-6)
    np.testing.assert_allclose(jaxnet.predict(again, found, X), A[-again.sizes[-1] :], rtol=0, atol=1e-6)
    if (library, name) != ("sklearn", "one layer"):  # which holds one output of two
        assert again == net
        assert_trees_close(found, params, 0)


@pytest.mark.parametrize("name", ACTIVATION_NETS)
@pytest.mark.parametrize("library", LIBRARIES[:-1])
def test_every_activation(library, name):
    required(library)
    net = ACTIVATION_NETS[name]
    module, (again, found), params, X = there_and_back(library, net)
    X = 5 * X
    A = np.asarray(jaxnet.predict(net, params, X))
    np.testing.assert_allclose(rows_of(library, module, net, X), A.T, rtol=1e-6, atol=1e-6)
    assert again == net
    assert_trees_close(found, params, 0)


def test_every_activation_is_told_from_the_others():
    module = lambda *functions: nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), *functions)
    for name, g in ACTIVATIONS.items():
        net, _ = convert.from_nnx(module(lambda rows, g=g: g(jnp.asarray(rows).T).T))
        assert net.activations == (name,)


@pytest.mark.parametrize("library", LIBRARIES[:-1])
def test_logits(library):
    """A module that ends before softmax, and back with the softmax that its loss applies."""
    required(library)
    net = NETS["classes"]
    module, (again, _), params, X = there_and_back(library, net, logits=True)
    _, cache = jaxnet.forward(net, params, X)
    np.testing.assert_allclose(rows_of(library, module, net, X), cache[-1].Z.T, rtol=1e-6, atol=1e-6)
    assert again.activations == ("tanh", "tanh", "identity")
    back = getattr(convert, f"from_{library}")
    arguments = module if library == "linen" else (module,)
    assert back(*arguments, output="softmax")[0] == net
    with pytest.raises(ValueError, match="output is 'soft'; expected one of"):
        back(*arguments, output="soft")


@pytest.mark.parametrize("library", [*LIBRARIES[:2], "linen"])
@pytest.mark.usefixtures("x64")
def test_float64_stays(library):
    required(library)
    net = NETS["classes"]
    params, X = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), point(net))
    module = getattr(convert, f"to_{library}")(net, params)
    _, found = getattr(convert, f"from_{library}")(*(module if library == "linen" else (module,)))
    assert_trees_close(found, params, 0)
    atol = 1e-6 if library == "keras" else 1e-14  # it rounds X to its floatx
    np.testing.assert_allclose(rows_of(library, module, net, X), jaxnet.predict(net, params, X).T, rtol=0, atol=atol)


# ---------------------------------------------------------------- modules as their own users write them


def test_a_sequential_of_torch_and_its_state():
    """Nested, without a bias, with dropout that is not yet switched off, softmax at the end; and bfloat16."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    body = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.GELU(), nn.Linear(7, 6, bias=False))
    module = nn.Sequential(body, nn.LeakyReLU(), nn.Identity(), nn.Linear(6, 3), nn.Softmax(dim=1))
    net, params = convert.from_torch(module)
    assert net == jaxnet.MLP((5, 7, 6, 3), ("gelu", "leaky_relu", "softmax"))
    X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    rows = module.eval()(torch.tensor(X.T.copy())).detach().numpy()
    np.testing.assert_allclose(jaxnet.predict(net, params, X), rows.T, rtol=0, atol=1e-6)
    assert_trees_close(convert.from_torch_state(net, module.state_dict()), params, 0)
    assert convert.from_torch(module.bfloat16())[1][0].W.dtype == jnp.bfloat16


def test_a_state_dict_without_torch():
    net, params = NETS["classes"], point(NETS["classes"])[0]
    state = {f"{2 * l}.{name}": np.asarray(leaf) for l, (W, b) in enumerate(params)
             for name, leaf in (("weight", W), ("bias", b[:, 0]))}  # fmt: skip
    assert_trees_close(convert.from_torch_state(net, state), params, 0)
    for wrong, error, message in (
        (
            state | {"0.running_mean": np.ones(7)},
            ValueError,
            "state has '0.running_mean'; expected a weight and a bias",
        ),
        (dict([*state.items()][:2]), ValueError, r"state has 1 weights; expected 3, of the layers of sizes \(5,"),
        (
            state | {"4.weight": state["4.weight"].T},
            ValueError,
            r"state\['4\.weight'\] has shape \(7, 3\); expected \(3, 7\), of layer 3 .*: give its transpose",
        ),
        (
            state | {"0.bias": np.ones(6)},
            ValueError,
            r"state\['0\.bias'\] has shape \(6,\); expected \(7,\), of layer 1 of sizes",
        ),
        ([*state], TypeError, "state is a list; expected a state dict"),
        (state | {"2.weight": np.full((7, 7), np.nan, np.float32)}, ValueError, r"state\['2.weight'\] holds nan"),
    ):
        with pytest.raises(error, match=message):
            convert.from_torch_state(net, wrong)


def test_a_sequential_of_keras():
    pytest.importorskip("keras")
    import keras

    layers = keras.layers
    module = keras.Sequential([
        keras.Input((5,)), layers.Dense(7), layers.LeakyReLU(negative_slope=0.01), layers.Dropout(0.5),
        layers.Dense(6, "gelu", use_bias=False), layers.Activation("linear"), layers.Dense(3), layers.Softmax(),
    ])  # fmt: skip
    net, params = convert.from_keras(module)
    assert net == jaxnet.MLP((5, 7, 6, 3), ("leaky_relu", "gelu", "softmax"))
    X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(jaxnet.predict(net, params, X).T, module.predict_on_batch(X.T), rtol=0, atol=1e-6)


def test_modules_of_flax():
    """As they are written with jax.nn: functions, partials and lambdas, dropout, nested, without a bias."""
    exact = functools.partial(jax.nn.gelu, approximate=False)
    relu = lambda x: jnp.maximum(x, 0)
    X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    rngs = nnx.Rngs(0)
    inner = nnx.Sequential(nnx.Linear(5, 7, rngs=rngs), exact, nnx.Dropout(0.5, rngs=rngs))
    module = nnx.Sequential(inner, nnx.Linear(7, 6, use_bias=False, rngs=rngs), relu, nnx.Linear(6, 3, rngs=rngs))
    net, params = convert.from_nnx(module)
    module.eval()
    np.testing.assert_allclose(jaxnet.predict(net, params, X).T, module(X.T), rtol=0, atol=1e-6)

    inner = linen.Sequential([linen.Dense(7), exact])
    module = linen.Sequential([inner, linen.Dense(6, use_bias=False), relu, linen.Dense(3, name="out")])
    variables = module.init(jax.random.key(0), X.T)
    again, params = convert.from_linen(module, variables)
    np.testing.assert_allclose(jaxnet.predict(net, params, X).T, module.apply(variables, X.T), rtol=0, atol=1e-6)
    assert again == net == jaxnet.MLP((5, 7, 6, 3), ("gelu", "relu", "identity"))


@pytest.mark.parametrize("biases", [True, False])
def test_an_mlp_of_equinox(biases):
    module = equinox.nn.MLP(5, 3, 7, 2, final_activation=jax.nn.sigmoid, use_bias=biases, key=jax.random.key(0))
    net, params = convert.from_equinox(module)
    assert net == jaxnet.MLP((5, 7, 7, 3), ("relu", "relu", "sigmoid"))
    X = jax.random.normal(jax.random.key(1), (5, 4))
    np.testing.assert_allclose(jaxnet.predict(net, params, X).T, jax.vmap(module)(X.T), rtol=0, atol=1e-6)


@pytest.mark.parametrize("targets", ["two", "three", "labels", "number", "numbers"])
def test_estimators_that_are_fitted(targets):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 5)).astype(np.float32)
    y = {
        "two": np.array(["no", "yes"])[rng.integers(2, size=30)], "three": rng.integers(3, size=30),
        "labels": rng.integers(2, size=(30, 3)), "number": rows[:, 0], "numbers": rows[:, :2],
    }[targets]  # fmt: skip
    kind = MLPRegressor if targets.startswith("number") else MLPClassifier
    model = kind(hidden_layer_sizes=(7, 6), activation="logistic", max_iter=3, random_state=0).fit(rows, y)
    net, params = convert.from_sklearn(model)
    assert net.activations[:-1] == ("sigmoid", "sigmoid")
    A = np.asarray(jaxnet.predict(net, params, rows.T)).T
    expected = model.predict(rows).reshape(30, -1) if kind is MLPRegressor else model.predict_proba(rows)
    np.testing.assert_allclose(A, expected[:, -A.shape[1] :], rtol=0, atol=1e-6)

    classes = {"classes": model.classes_} if targets in ("two", "three") else {}
    again = convert.to_sklearn(net, params, **classes)
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    if targets == "two":
        both, params = convert.from_sklearn(model, output="softmax")
        np.testing.assert_allclose(jaxnet.predict(both, params, rows.T).T, expected, rtol=0, atol=1e-6)
        assert both.sizes == (5, 7, 6, 2)


def test_a_network_that_fit_has_trained_goes_on_in_scikit_learn():
    net, (params, X) = NETS["classes"], point(NETS["classes"])
    model = convert.to_sklearn(net, params, classes=("a", "b", "c"))
    assert [*model.classes_] == ["a", "b", "c"] and set(model.predict(np.asarray(X.T))) <= {"a", "b", "c"}
    settings = {"warm_start": True, "max_iter": 1, "learning_rate_init": 1e-6}
    model.set_params(**settings).fit(np.asarray(X.T), ["a", "b", "c"] * 2)
    assert 0 < np.abs(model.coefs_[0] - np.asarray(params[0].W.T)).max() < 1e-5


# ---------------------------------------------------------------- what cannot be


class Built(NamedTuple):
    """A module that is built where it is tested: tests are collected under strict promotion."""

    kind: type
    sizes: tuple


def of_nnx(*layers, output=None):
    """The call that converts a Sequential of these layers."""
    built = lambda layer: layer.kind(*layer.sizes, rngs=nnx.Rngs(0)) if isinstance(layer, Built) else layer
    return lambda: convert.from_nnx(nnx.Sequential(*map(built, layers)), output=output)


LINEAR, NAN = Built(nnx.Linear, (5, 5)), np.array([[0, np.nan], [0, 0]], np.float32)
REFUSED = {
    "a normalisation": (
        of_nnx(LINEAR, Built(nnx.BatchNorm, (5,))),
        r"module\.layers\[1\] is BatchNorm.*; expected a linear layer or one of jaxnet's .*fold it into the linear",
    ),
    "a convolution": (of_nnx(Built(nnx.Conv, (1, 1, (2,)))), r"layers\[0\] is Conv.*flatten the examples"),
    "gelu by tanh": (of_nnx(LINEAR, jax.nn.gelu), r"layers\[1\] is .*gelu.*jaxnet's gelu is the exact one"),
    "relu up to 6": (of_nnx(LINEAR, jax.nn.relu6), r"layers\[1\] is .*relu6.*replace it by one of those"),
    "another slope": (
        of_nnx(LINEAR, functools.partial(jax.nn.leaky_relu, negative_slope=0.2)),
        r"leaky_relu has the slope 0\.01",
    ),
    "log of softmax": (of_nnx(LINEAR, jax.nn.log_softmax), "leave it out and give output='softmax'"),
    "softmax of examples": (
        of_nnx(LINEAR, functools.partial(jax.nn.softmax, axis=0)),
        r"jaxnet's softmax is over the units",
    ),
    "a hidden softmax": (
        of_nnx(LINEAR, jax.nn.softmax, LINEAR),
        r"module\.layers\[1\] \(softmax\) stands before module\.layers\[2\] \(Linear\); expected softmax after",
    ),
    "softmax of one unit": (
        of_nnx(Built(nnx.Linear, (5, 1)), jax.nn.softmax),
        r"module\.layers\[1\] \(softmax\) is over the one unit of module\.layers\[0\] \(Linear\).* take sigmoid",
    ),
    "an output of one unit": (
        of_nnx(Built(nnx.Linear, (5, 1)), output="softmax"),
        r"output \(softmax\) is over the one",
    ),
    "layers that do not fit": (
        of_nnx(LINEAR, jnp.tanh, Built(nnx.Linear, (6, 2))),
        r"module\.layers\[2\] \(Linear\) takes 6 inputs, but module\.layers\[0\] \(Linear\) before it has 5 outputs;",
    ),
    "weights that are not finite": (
        lambda: convert.from_linen(linen.Sequential([linen.Dense(2)]), {"params": {"layers_0": {"kernel": NAN}}}),
        r"the weight of module\.layers\[0\] \(Dense\) holds nan at row 1, column 0",
    ),
    "a layer without its weights": (
        lambda: convert.from_linen(linen.Sequential([linen.Dense(2)]), {"params": {"layers_0": {"bias": NAN[0]}}}),
        r"the params of module\.layers\[0\] \(Dense\) have no 'kernel'; give what module\.init returns",
    ),
    "a nested module without its params": (
        lambda: convert.from_linen(linen.Sequential([linen.Sequential([linen.Dense(2)])]), {"params": {}}),
        r"variables\['params'\] has no 'layers_0', the params of module\.layers\[0\] \(Sequential\)",
    ),
    "two activations": (
        of_nnx(LINEAR, jax.nn.relu, jnp.tanh),
        r"module\.layers\[2\] \(tanh\) follows module\.layers\[1\] \(relu\); expected one .*: remove it, or put",
    ),
    "an activation first": (of_nnx(jnp.tanh, LINEAR), r"layers\[0\] \(tanh\) stands before the first linear layer"),
    "no layer": (of_nnx(jax.nn.relu), "stands before the first linear layer"),
    "nothing": (of_nnx(), "module has no linear layer; expected one at least"),
    "an output that is there": (
        of_nnx(LINEAR, jnp.tanh, output="softmax"),
        r"output is 'softmax' but module\.layers\[1\] \(tanh\) stands at the end of module already; leave out output",
    ),
    "params of another module": (
        lambda: convert.from_linen(linen.Sequential([linen.Dense(3)]), {"params": {"Dense_0": {}}}),
        r"variables\['params'\] has no 'layers_0', the params of module\.layers\[0\]",
    ),
    "not fitted": (lambda: convert.from_sklearn(MLPClassifier()), "model is not fitted.* call model.fit first"),
    "an activation that scikit-learn lacks": (
        lambda: convert.to_sklearn(net := ACTIVATION_NETS["gelu"], point(net)[0]),
        "net has an activation that is 'gelu'; expected one of",
    ),
    "an output that MLPRegressor lacks": (
        lambda: convert.to_sklearn(net := jaxnet.MLP((5, 3), ("tanh",)), point(net)[0]),
        "net has output 'tanh' and squared error; MLPRegressor's output is the identity",
    ),
    "classes of numbers": (
        lambda: convert.to_sklearn(net := NETS["numbers"], point(net)[0], classes=(0, 1)),
        "no classifier; leave out classes",
    ),
    "too few classes": (
        lambda: convert.to_sklearn(net := NETS["classes"], point(net)[0], classes=("a", "b")),
        r"classes is \['a', 'b'\]; expected 3 different labels, sorted",
    ),
    "classes of labels": (
        lambda: convert.to_sklearn(net := NETS["labels"], point(net)[0], classes=("a", "b", "c")),
        "several labels at once",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_mlp_cannot_be_is_named(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda nn: [nn.Linear(5, 5), nn.BatchNorm1d(5)], r"module\[1\] is BatchNorm1d.*\.\.\.; .*fold it"),
        (lambda nn: [nn.Linear(5, 5), nn.GELU(approximate="tanh")], r"module\[1\] is GELU.*the exact one"),
        (
            lambda nn: [nn.Linear(5, 6), nn.Linear(7, 2)],
            r"module\[1\] \(Linear\) takes 7 inputs, but module\[0\] \(Linear",
        ),
        (lambda nn: [nn.Sequential(nn.Conv1d(5, 5, 1))], r"module\[0\]\[0\] is Conv1d"),
        (lambda nn: [nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))], r"module\[0\] is Parametrized"),
    ],
)
def test_what_torch_has_and_an_mlp_has_not(layers, message):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=message):
        convert.from_torch(torch.nn.Sequential(*layers(torch.nn)))


def test_a_state_dict_of_torch_has_a_door_of_its_own():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"module is an OrderedDict; .*; a state dict is for from_torch_state"):
        convert.from_torch(torch.nn.Sequential(torch.nn.Linear(5, 5)).state_dict())


def test_what_keras_has_and_an_mlp_has_not():
    pytest.importorskip("keras")
    import keras

    layers = keras.layers
    for found, message in (
        ([keras.Input((5,)), layers.Dense(5), layers.BatchNormalization()], r"model\.layers\[1\] is <BatchNorm"),
        ([keras.Input((5,)), layers.Dense(5, "leaky_relu")], "slope 0.01"),
        ([layers.Dense(5)], r"model\.layers\[0\] has no weights yet; build the model"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.from_keras(keras.Sequential(found))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_module_of_another_kind_is_named(library):
    required(library)
    arguments = ({"params": {}},) if library == "linen" else ()
    with pytest.raises(TypeError, match=r"(module|model) is a dict; expected an? .*jaxnet\.Layer\(W, b\)"):
        getattr(convert, f"from_{library}")({}, *arguments)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_missing_is_named(library, monkeypatch):
    package = {"linen": "flax", "nnx": "flax"}.get(library, library)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    net = NETS["classes"]
    pip = {"sklearn": "scikit-learn"}.get(package, package)
    with pytest.raises(
        ImportError, match=rf'convert needs {pip}, .*: pip install {pip}, or .* "jaxnet\[(peers|sklearn)'
    ):
        getattr(convert, f"to_{library}")(net, point(net)[0])


def test_params_of_another_net_are_refused():
    with pytest.raises(ValueError, match="params has 3 layers"):
        convert.to_nnx(NETS["one layer"], point(NETS["classes"])[0])


def test_an_own_activation_is_refused_by_its_place(key):
    def double(Z):
        return 2 * Z

    net = jaxnet.MLP((2, 3, 1), (jaxnet.Activation(double, lambda Z, A: jnp.full_like(Z, 2)), "identity"))
    with pytest.raises(ValueError, match=r"net\.activations\[0\] is Activation\(double\), your own, .* around it"):
        jaxnet.convert.to_equinox(net, jaxnet.init(net, key))

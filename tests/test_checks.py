"""Bad input through the public door: each gets an error that names the argument, what it is, and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.sparse import BCOO

import jaxnet

pytestmark = pytest.mark.usefixtures("untyped")

M = 12
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, M)).astype(np.float32)
LABELS = np.arange(M) % 4
Y = np.eye(4, dtype=np.float32)[:, LABELS]
NET = jaxnet.MLP((3, 5, 4), ("tanh", "softmax"))
BINARY = jaxnet.MLP((3, 1), ("sigmoid",))


def fit(net=NET, X=X, Y=Y, **changes):
    settings = {
        "key": jax.random.key(0),
        "optimizer": optax.sgd(0.1),
        "epochs": 1,
        "batch_size": None,
        "progress": False,
    } | changes
    return jaxnet.fit(net, X, Y, **settings)


def changed(array, value, where=(1, 2), dtype=None):
    array = array.astype(dtype or array.dtype)
    array[where] = value
    return array


class Sparse:
    """What a scipy.sparse matrix looks like from here."""

    def toarray(self):
        return X


DATA = {
    "NaN in X": ({"X": changed(X, np.nan)}, r"X holds nan at row 1, column 2 \(1 such\); expected finite"),
    "Inf in X": ({"X": changed(X, np.inf)}, r"X holds inf at row 1, column 2"),
    "NaN in Y": ({"Y": changed(Y, np.nan)}, r"Y holds nan at row 1, column 2"),
    "empty X": ({"X": X[:, :0], "Y": Y[:, :0]}, r"X is empty, its shape is \(3, 0\)"),
    "no features": ({"X": X[:0]}, r"X is empty, its shape is \(0, 12\)"),
    "other length": ({"Y": Y[:, :-1]}, "Y has 11 examples but X has 12"),
    "X in rows": ({"X": X.T}, r"X has shape \(12, 3\); expected \(n_x=3, m\).*12 examples in rows: pass X.T"),
    "Y in rows": ({"Y": Y.T}, r"Y has shape \(12, 4\).*pass Y.T"),
    "X of another width": ({"X": X[:2]}, r"X has shape \(2, 12\); expected \(n_x=3, m\): one example a column$"),
    "1-D X": ({"X": X[0]}, r"X has shape \(12,\).*use X.reshape\(3, -1\)"),
    "3-D X": ({"X": X[None]}, r"X has shape \(1, 3, 12\); expected"),
    "labels for Y": ({"Y": LABELS}, r"Y has shape \(12,\).*use one_hot\(labels, n_classes\)"),
    "a row of labels for Y": ({"Y": LABELS[None]}, r"Y has shape \(1, 12\); .*labels, use one_hot\(Y\[0\], 4\)"),
    "ragged X": ({"X": [[1.0, 2.0], [1.0]]}, "X is ragged"),
    "object X": ({"X": X.astype(object)}, "X has dtype object; expected real numbers"),
    "strings in X": ({"X": X.astype(str)}, "X has dtype .*; expected real numbers: encode text"),
    "complex X": ({"X": X.astype(complex)}, "X is complex"),
    "sparse X": ({"X": Sparse()}, r"X is sparse \(Sparse\); expected a dense array: X.toarray\(\)"),
    "JAX's sparse X": (
        {"X": BCOO((np.ones(1, np.float32), np.zeros((1, 2), np.int32)), shape=(3, M))},
        r"X is sparse \(BCOO\); expected a dense array: X.todense\(\)",
    ),
    "X overflows float32": ({"X": changed(X, 1e39, dtype=float)}, r"X holds 1e\+39 at row 1, .* overflows float32"),
    "label below 0": ({"Y": changed(Y, -1)}, "Y holds -1.0 at row 1, column 2 .*from 0 to 1"),
    "labels 1 and 2": ({"net": BINARY, "Y": LABELS[None] % 2 + 1}, r"Y holds 2.0 at row 0.*number two classes 0 and 1"),
    "column not one-hot": ({"Y": changed(Y, 1, (0, 5))}, r"Y\[:, 5\] sums to 2; expected class probabilities"),
    "one-hot for sigmoids": ({"net": jaxnet.MLP((3, 4), ("sigmoid",))}, "one-hot over 4 classes .* 'softmax'"),
    "one class only": ({"Y": np.eye(4)[:, 0 * LABELS]}, "Y holds one class only"),
    "one binary class": ({"net": BINARY, "Y": np.ones((1, M))}, "Y holds one class only"),
    "class unseen": ({"Y": np.eye(4)[:, LABELS % 3], "validation": (X, Y)}, "class 3 is in the validation targets"),
    "validation of another width": ({"validation": (X[:2], Y)}, r"validation X has shape \(2, 12\)"),
    "NaN in validation": ({"validation": (changed(X, np.nan), Y)}, "validation X holds nan"),
    "validation of another length": ({"validation": (X, Y[:, :4])}, "validation Y has 4 examples but validation X has"),
    "validation labels in one row": ({"validation": (X, LABELS)}, r"validation Y has shape \(12,\)"),
    "validation labels": ({"validation": (X, 2 * Y)}, "validation Y holds 2.0 at row"),
    "X masked": ({"X": np.ma.masked_greater(X, 0)}, "X is masked at some places"),
    "validation of four": (
        {"validation": (X, Y, None, Y)},
        r"validation is a tuple of 4; expected a tuple \(X, Y\), or \(X, Y, weights\)",
    ),
    "validation weights of another shape": (
        {"validation": (X, Y, Y)},
        rf"validation weights has shape \(4, {M}\); expected \({M},\)",
    ),
    "validation weights below 0": ({"validation": (X, Y, -np.ones(M))}, "validation weights holds -1.0 at"),
    "validation weights of 0": ({"validation": (X, Y, np.zeros(M))}, "validation weights are all 0"),
    "validation is a share": ({"validation": 0.2}, r"validation is a float; expected a tuple \(X, Y\)"),
    "weights of another length": ({"weights": np.ones(5)}, r"weights has shape \(5,\); expected \(12,\)"),
    "negative weight": ({"weights": changed(np.ones(M), -1, 3)}, r"weights holds -1.0 at position \(3,\)"),
    "NaN weight": ({"weights": changed(np.ones(M), np.nan, 3)}, "weights holds nan"),
    "all weights 0": ({"weights": np.zeros(M)}, "weights are all 0"),
    "batch_size 0": ({"batch_size": 0}, "batch_size is 0; expected an integer of at least 1"),
    "batch_size > m": ({"batch_size": 13}, "batch_size is 13 but X has 12 examples; pass batch_size=None"),
    "batch_size a float": ({"batch_size": 4.0}, "batch_size is 4.0"),
}  # fmt: skip

SETTINGS = {
    "epochs 0": ({"epochs": 0}, "epochs is 0"),
    "steps of mini-batches": ({"steps": 5, "batch_size": 4}, "steps is 5 with batch_size 4"),
    "patience alone": ({"patience": 3}, "patience needs a validation cost"),
    "monitor unknown": ({"monitor": "loss"}, "monitor is 'loss'; expected one of 'validation_cost', 'validation_acc"),
    "monitor of training alone": ({"monitor": "cost"}, "monitor is 'cost' without patience"),
    "monitor cost not measured": (
        {"monitor": "cost", "patience": 3, "metrics": ["accuracy"]},
        r"monitor is 'cost' but metrics is \('accuracy',\); measure 'cost', or",
    ),
    "monitor alone": ({"monitor": "validation_accuracy"}, "monitor is 'validation_accuracy' without patience"),
    "monitor not measured": (
        {"monitor": "validation_accuracy", "patience": 3, "validation": (X, Y), "metrics": ["cost"]},
        r"monitor is 'validation_accuracy' but metrics is \('cost',\); measure 'accuracy'",
    ),
    "min_delta alone": ({"min_delta": 0.1}, "min_delta is 0.1 without patience"),
    "min_delta below 0": ({"min_delta": -0.1}, "min_delta is -0.1; expected a finite number above 0, or 0"),
    "tol 0": ({"tol": 0}, "tol is 0; expected a finite number above 0"),
    "tol NaN": ({"tol": float("nan")}, "tol is nan"),
    "gradient": ({"gradient": "autodif"}, "gradient is 'autodif'; .*'manual', .*did you mean 'autodiff'"),
    "precision": ({"precision": "float16"}, "precision is 'float16'; .*did you mean 'bfloat16'"),
    "x64 off": ({"precision": "float64"}, "precision is float64, but 64-bit is off"),
    "optimizer a number": ({"optimizer": 0.1}, r"optimizer is 0\.1; expected a name, .*'lion', or an optax.Gradient"),
    "optimizer misspelt": (
        {"optimizer": "sdg"},
        "optimizer is 'sdg'; expected one of 'sgd', .*'lion', or an optimizer of optax; did you mean 'sgd'",
    ),
    "learning_rate 0": ({"optimizer": "sgd", "learning_rate": 0}, "learning_rate is 0; .* above 0; a schedule"),
    "learning_rate NaN": ({"optimizer": "sgd", "learning_rate": float("nan")}, "learning_rate is nan"),
    "learning_rate that is 0 in float32": (
        {"optimizer": None, "learning_rate": 1e-60},
        "optimizer has learning_rate 0; expected a finite number above 0",
    ),
    "learning_rate a schedule": (
        {"optimizer": "adam", "learning_rate": optax.constant_schedule(0.1)},
        r"learning_rate is <function .*; expected .* above 0; .*optimizer=optax\.adam\(schedule\)",
    ),
    "learning_rate beside an object": (
        {"optimizer": optax.sgd(0.1), "learning_rate": 0.1},
        "learning_rate is 0.1 beside a GradientTransformation.* as optimizer, .*; leave it out, or give the optimizer",
    ),
    "device unknown": ({"device": "cuda"}, "device is 'cuda'; expected one of 'cpu', 'gpu', 'tpu'"),
    "device in capitals": ({"device": "GPU"}, "device is 'GPU'; .*did you mean 'gpu'"),
    "device absent": ({"device": "tpu"}, "device is 'tpu', but JAX finds only cpu"),
    "a batch of keys": ({"key": jax.random.split(jax.random.key(0), 2)}, "expected one JAX random key"),
    "net left out": ({"net": X}, "net is a ndarray; expected an MLP"),
    "several rates": (
        {"optimizer": "adam", "learning_rate": [0.1, 0.2]},
        r"learning_rate is \[0\.1, 0\.2\]; .*; several are for jaxnet.sweep\(learning_rate=\)",
    ),
    "net a tuple": ({"net": (3, 4)}, r"net is \(3, 4\); expected an MLP"),
    "callbacks no list": ({"callbacks": 3}, r"callbacks is 3; expected functions \(loop_state, history\), or one"),
    "params empty": ({"params": ()}, "params has 0 layers; expected a tuple of 2 Layer"),
    "params in a state": ({"params": jaxnet.TrainState((), (), 0, None)}, "params is a TrainState; .*give its .params"),
    "params a name": ({"params": "he"}, "params is a str; expected a tuple of 2 Layer"),
    "params of arrays": ({"params": (X, X)}, r"params\[0\] is a ndarray; expected a Layer: jaxnet"),
    "keys for X": ({"X": jax.random.split(jax.random.key(0), (3, M))}, r"X has dtype key<fry>; expected real numbers"),
    "callbacks of one argument": (
        {"callbacks": [lambda history: None]},
        r"callbacks\[0\] takes \(history\); expected a function \(loop_state, history\)",
    ),
    "callbacks a function of none": ({"callbacks": lambda: None}, r"callbacks takes \(\); expected a function"),
    "callbacks a number": ({"callbacks": [3]}, r"callbacks\[0\] is 3; expected a function"),
    "key a seed": ({"key": 0}, r"key is 0; expected one JAX random key, such as jax.random.key\(0\)"),
    "params of another net": ({"params": jaxnet.init(BINARY, jax.random.key(0))}, "params has 1 layer; expected"),
}  # fmt: skip

NETWORKS = {
    "no layers": (((3,), ()), "sizes is .*at least two numbers"),
    "width 0": (((3, 0, 1), ("tanh", "sigmoid")), r"sizes\[1\] is 0; expected an integer of at least 1"),
    "negative width": (((-3, 1), ("sigmoid",)), r"sizes\[0\] is -3"),
    "width a float": (((3, 2.5, 1), ("tanh", "sigmoid")), r"sizes\[1\] is 2.5"),
    "width a bool": (((3, True), ("sigmoid",)), r"sizes\[1\] is True"),
    "sizes a number": ((3, ("sigmoid",)), "sizes is 3"),
    "one name for all": (((3, 4, 1), "tanh"), "activations is 'tanh'; expected one name per layer"),
    "a name too few": (((3, 4, 1), ("sigmoid",)), "activations has 1 names but sizes .* make 2 layers"),
    "width that no machine holds": (((3, 10**30), ("tanh",)), r"sizes\[1\] is 10{30}; expected at most 2147483647"),
    "misspelt": (((3, 1), ("sigmiod",)), r"activations\[0\] is 'sigmiod'; expected one of .*did you mean 'sigmoid'"),
    "a function alone": (
        ((3, 1), (np.sin,)),
        r"is <ufunc 'sin'>; expected .*, or a pair .*Activation\(g, derivative\)",
    ),
    "Keras' name": (((3, 1), ("swish",)), "is 'swish'; expected one of .*did you mean 'silu'"),
    "scikit-learn's name": (((3, 1), ("Logistic",)), "is 'Logistic'; expected one of .*did you mean 'sigmoid'"),
    "a loss elsewhere": (((3, 1), ("tanh",), "MSE"), "loss is 'MSE'; .*did you mean 'squared_error'"),
    "a function": (((3, 1), (jax.nn.relu,)), r"activations\[0\] is <.*>; expected one of .*did you mean 'relu'"),
    "capitals": (((3, 1), ("ReLU",)), r"activations\[0\] is 'ReLU'; expected one of .*did you mean 'relu'"),
    "hidden softmax": (((3, 4, 2), ("softmax", "softmax")), r"activations\[0\] is 'softmax' in a hidden layer"),
    "softmax of one": (((3, 1), ("softmax",)), "softmax with one output is always 1"),
    "loss misspelt": (((3, 1), ("sigmoid",), "crossentropy"), "loss is 'crossentropy'; .*did you mean 'cross_entropy'"),
    "cross-entropy of numbers": (((3, 1), ("relu",), "cross_entropy"), "'cross_entropy' with output activation 'relu'"),
    "squared error of softmax": (((3, 2), ("softmax",), "squared_error"), "'squared_error' with a softmax output"),
    "penalty below 0": (((3, 1), ("sigmoid",), None, -0.1), "l2 is -0.1; expected a finite number above 0, or 0"),
    "penalty not a number": (((3, 1), ("sigmoid",), None, float("nan")), "l2 is nan; expected a finite number"),
}


@pytest.mark.parametrize("case", [*DATA.values(), *SETTINGS.values()], ids=[*DATA, *SETTINGS])
def test_fit_refuses(case):
    changes, message = case
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**changes)


@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
def test_network_refuses(case):
    arguments, message = case
    with pytest.raises(ValueError, match=message):
        jaxnet.MLP(*arguments)


@pytest.mark.parametrize("scheme", ["hee", -0.1, 0, float("nan"), True, None])
def test_init_refuses_scheme(scheme):
    message = "did you mean 'he'" if scheme == "hee" else f"scheme is {scheme}; expected"
    with pytest.raises(ValueError, match=message):
        jaxnet.init(NET, jax.random.key(0), scheme)


@pytest.mark.parametrize(("scheme", "dtype"), [(1e300, "float32"), (1e-300, "float32"), (1e5, "float16")])
def test_init_refuses_a_scale_that_the_dtype_cannot_hold(scheme, dtype):
    with pytest.raises(ValueError, match=rf"scheme is .*; expected .*, or {dtype} holds no randn \* scheme"):
        jaxnet.init(NET, jax.random.key(0), scheme, dtype)


@pytest.mark.parametrize("scalar", [np.float32, np.array, jnp.float32])
def test_init_takes_a_scale_of_any_kind(scalar):
    key = jax.random.key(0)
    want = jaxnet.init(NET, key, 0.25, jnp.bfloat16)
    assert (jaxnet.init(NET, key, scalar(0.25), jnp.bfloat16)[0].W == want[0].W).all()
    traced = jax.jit(lambda scale: jaxnet.init(NET, key, scale, jnp.bfloat16))(scalar(0.25))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(traced)} == {"bfloat16"}
    assert (traced[0].W == want[0].W).all()
    with pytest.raises(
        ValueError, match=r"scheme is -1\.0; expected a finite number above 0, or one of 'he', 'xavier'"
    ):
        jaxnet.init(NET, key, scalar(-1.0))


@pytest.mark.parametrize("key", [0, None, jax.random.split(jax.random.key(0)), jnp.zeros(3, jnp.uint32)])
def test_init_refuses_key(key):
    with pytest.raises(TypeError, match=r"key is [\s\S]*; expected one JAX random key, such as jax.random.key\(0\)"):
        jaxnet.init(NET, key)


@pytest.mark.parametrize("lift", [lambda f: f, jax.jit])
def test_init_takes_keys_of_either_kind(lift):
    start = lift(lambda key: jaxnet.init(NET, key))
    typed, raw = start(jax.random.key(5)), start(jax.random.PRNGKey(5))
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (typed, raw)), strict=True))


def test_init_refuses_dtype():
    with pytest.raises(ValueError, match="dtype is float64, but 64-bit is off"):
        jaxnet.init(NET, jax.random.key(0), dtype=jnp.float64)
    for dtype in (jnp.int32, "foo", ">f4", np.longdouble, None):
        with pytest.raises(
            (TypeError, ValueError), match=r"dtype is .*; expected a floating dtype|dtype is float64, but"
        ):
            jaxnet.init(NET, jax.random.key(0), dtype=dtype)


PARAMS = jaxnet.init(NET, jax.random.key(0))
STATE = jaxnet.TrainState(PARAMS, optax.sgd(0.1).init(PARAMS), jnp.int32(0), jax.random.key(0))
BROADCASTING = (PARAMS[0]._replace(b=jnp.zeros(5)), PARAMS[1])  # JAX would silently add (5,) to (5, 5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (BROADCASTING, r"params\[0\].b has shape \(5,\); expected \(5, 1\)"),
        ((PARAMS[1], PARAMS[0]), r"params\[0\].W has shape \(4, 5\); expected \(5, 3\)"),
        (list(PARAMS), "params is a list; expected a tuple of 2"),
        (
            tuple(map(tuple, PARAMS)),
            r"params\[0\] is a tuple; expected a Layer: jaxnet.Layer\(W, b\) for each of the 2",
        ),
        ((PARAMS[0]._replace(b=[[0.0]] * 5), PARAMS[1]), r"params\[0\].b is a list; .* jnp.asarray\(params\[0\].b\)"),
        ((PARAMS[0], jax.tree.map(jnp.bfloat16, PARAMS[1])), r"params\[1\].W is bfloat16 but params\[0\].W is float32"),
    ],
)
@pytest.mark.parametrize("function", ["forward", "cost", "value_and_grad", "predict"])
def test_params_are_checked_when_traced(params, message, function):
    targets = (Y,) if function in ("cost", "value_and_grad") else ()
    with pytest.raises((ValueError, TypeError), match=message):
        jax.jit(getattr(jaxnet, function), static_argnums=0)(NET, params, X, *targets)


def test_inputs_are_checked_when_traced():
    with pytest.raises(ValueError, match=r"pass X\.T"):
        jaxnet.predict(NET, PARAMS, X.T)
    with pytest.raises(ValueError, match=r"X has shape \(2, 12\); expected \(n_x=3, m\): one example a column$"):
        jaxnet.predict(NET, PARAMS, X[:2])
    with pytest.raises(ValueError, match=r"weights has shape \(1, 12\); expected \(12,\)"):
        jaxnet.cost(NET, PARAMS, X, Y, jnp.ones((1, M)))
    _, cache = jaxnet.forward(NET, PARAMS, jnp.asarray(X))
    with pytest.raises(ValueError, match=r"dZ has shape \(1, 12\); expected \(4, 12\)"):
        jaxnet.backward(NET, PARAMS, cache, jnp.ones((1, M)))
    with pytest.raises(ValueError, match=r"cache holds shapes .* not those of sizes \(3, 5, 4\)"):
        jaxnet.backward(NET, PARAMS, cache[:-1], jnp.ones((4, M)))
    narrow = (*cache[:-1], cache[-1]._replace(Z=cache[-1].Z[:, :1]))  # JAX would silently broadcast it
    with pytest.raises(ValueError, match="cache holds shapes"):
        jaxnet.backward(NET, PARAMS, narrow, jnp.ones((4, M)))
    for wrong in ([], None, 3, cache[0]):
        with pytest.raises((TypeError, ValueError), match=r"cache .*[;:] pass forward's cache"):
            jaxnet.backward(NET, PARAMS, wrong, jnp.ones((4, M)))
    with pytest.raises(ValueError, match="params is a str; expected a tuple of 2"):
        jaxnet.forward(NET, "he", jnp.asarray(X))


@pytest.mark.parametrize(
    ("name", "given"),
    [("X", (X.tolist(), Y)), ("Y", (X, Y.tolist())), ("weights", (X, Y, [1.0] * M)), ("weights", (X, Y, (1.0,) * M))],
)
def test_lists_inside_jit_are_trees_of_numbers(name, given):
    step = jax.jit(jaxnet.train_step(NET, optax.sgd(0.1), "autodiff"))
    with pytest.raises(TypeError, match=rf"{name} is a \w+ of traced numbers; expected an array"):
        step(STATE, *given)


class Frame:
    """A table as other libraries have it: no array, but readable as one."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array.astype(dtype or self._array.dtype)

    def __len__(self):
        return len(self._array)


PIXELS = np.arange(3 * M).reshape(3, M) % 7  # small integers: the same numbers in every dtype
AS = {
    "list": lambda array: array.tolist(),
    "tuple": lambda array: tuple(map(tuple, array)) if array.ndim == 2 else tuple(array),
    "frame": Frame,
    "bytes": lambda array: array.astype(np.uint8),
    "bools": lambda array: array > 0,
    "doubles": lambda array: array.astype(np.float64),
    "another byte order": lambda array: array.astype(">f4"),
    "across": lambda array: np.asfortranarray(array[..., ::-1])[..., ::-1],
    "memory": lambda array: memoryview(np.ascontiguousarray(array)),
    "no mask": np.ma.masked_array,
    "JAX's integers": lambda array: jnp.asarray(array, jnp.int32),
    "JAX's bfloat16": lambda array: jnp.asarray(array, jnp.bfloat16),
}


@pytest.mark.parametrize("kind", AS)
def test_every_function_takes_what_fit_takes(kind):
    """Of whatever kind of numbers X, Y and weights are: all are cast to the params' dtype."""
    given = PIXELS > 0 if kind == "bools" else PIXELS
    plain = [np.asarray(array, np.float32) for array in (given, Y, np.arange(M) % 3 > 0)]
    X, Y_, weights = (AS[kind](array) for array in plain)
    for function, arguments in {
        jaxnet.cost: (X, Y_, weights),
        jaxnet.predict: (X,),
        lambda net, p, *a: jaxnet.value_and_grad(net, p, *a)[1][0].W: (X, Y_, weights),
        lambda net, p, *a: jaxnet.train_step(net, optax.sgd(0.1))(STATE, *a)[0].params[0].W: (X, Y_, weights),
        jaxnet.per_example_norms: (X, Y_),
        lambda net, p, *a: fit(net, a[0], a[1], weights=a[2], params=p).params[0].W: (X, Y_, weights),
        lambda net, p, *a: jaxnet.accuracy(*a): (Y_, Y_, weights),
    }.items():
        np.testing.assert_array_equal(
            function(NET, PARAMS, *arguments),
            function(NET, PARAMS, *plain[: len(arguments)]) if arguments[0] is X else 1.0,
        )


UNREADABLE = {
    "None": (None, "X is None; expected an array"),
    "a dict": ({"a": 1}, "X is a dict; expected an array"),
    "a name": ("a", "X is a str; expected an array"),
    "an object": (object(), "X has dtype object and holds an object at all"),
    "a generator": ((X[:, i] for i in range(M)), r"X is a generator, which .* to the end; .*np.stack\(list\(X"),
    "ragged": ([[1.0], [1.0, 2.0]], "X is ragged"),
    "numbers as objects": (X.astype(object), r"X has dtype object; .* in a dtype of numbers: X.astype\(float\)"),
    "a gap": (changed(X, None, dtype=object), "X has dtype object and holds None at row 1, column 2"),
    "dates": (X.astype("datetime64[s]"), r"X has dtype datetime64\[s\]; expected real numbers"),
    "durations": (X.astype("timedelta64[s]"), r"X has dtype timedelta64\[s\]; expected real numbers"),
    "complex": (X.astype(complex), "X is complex"),
    "JAX's complex": (jnp.asarray(X, complex), "X is complex64; expected real numbers"),
    "NaN": (changed(X, np.nan), "X holds nan at row 1, column 2"),
    "overflow": (changed(X, 1e39, dtype=float), "X holds 1e.39 at row 1, column 2 .* it overflows float32"),
    "masked": (np.ma.masked_greater(X, 0), "X is masked"),
    "sparse": (Sparse(), r"X is sparse \(Sparse\); expected a dense array: X.toarray"),
    "keys": (jax.random.split(jax.random.key(0), (3, M)), "X is key<fry>; expected real numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE.values(), ids=UNREADABLE)
def test_every_function_refuses_in_the_same_words(case):
    given, message = case
    for call in (
        lambda: jaxnet.predict(NET, PARAMS, given),
        lambda: jaxnet.cost(NET, PARAMS, given, Y),
        lambda: jaxnet.per_example_norms(NET, PARAMS, given, Y),
        lambda: jaxnet.train_step(NET, optax.sgd(0.1))(STATE, given, Y),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_what_a_tensor_says_of_itself_is_told():
    class Tensor(Frame):
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("requires grad: use tensor.detach()")

    with pytest.raises(
        TypeError, match=r"X is a Tensor that NumPy cannot read \(requires grad: use tensor.detach\(\)\)"
    ):
        fit(X=Tensor(X))


@pytest.mark.usefixtures("x64")
def test_nothing_is_rounded_silently():
    """A JAX array has the dtype that it was given, and its values are not read: doubles are not cast to float32."""
    wide = jnp.asarray(X, jnp.float64)
    for call in (jaxnet.predict, jax.jit(jaxnet.forward, static_argnums=0)):
        with pytest.raises(TypeError, match="X is float64 but the params are float32; cast one"):
            call(NET, PARAMS, wide)
    with pytest.raises(TypeError, match="Y is float64 but X is float32"):
        jaxnet.cost(NET, PARAMS, X, jnp.asarray(Y, jnp.float64))
    doubles = jaxnet.init(NET, jax.random.key(0), dtype=jnp.float64)
    off = r"params\[0\]\.W is float64 but JAX, whose 64-bit is off, computes in float32; switch it on"
    with jax.enable_x64(False), pytest.raises(TypeError, match=off):
        jaxnet.predict(NET, doubles, X)


@pytest.mark.parametrize("order", ["<", ">"])
def test_params_of_numpy(order):
    """As another program wrote them, in any order of their bytes; a jitted function of JAX's own would misread one."""
    other = jax.tree.map(lambda leaf: np.asarray(leaf).astype(f"{order}f4"), PARAMS)
    for _ in range(2):
        np.testing.assert_array_equal(jaxnet.predict(NET, other, X), jaxnet.predict(NET, PARAMS, X))
    with pytest.raises(TypeError, match=r"params\[0\].W is float128|params\[0\].W is longdouble"):
        jaxnet.predict(NET, jax.tree.map(lambda leaf: leaf.astype(np.longdouble), other), X)


def test_time_stamps_that_float32_merges():
    """Sixty seconds of this century are one number in float32."""
    seconds = 1.7e9 + np.arange(60.0)[None]
    net, Y = jaxnet.MLP((1, 1), ("identity",)), np.zeros((1, 60))
    message = "holds 60 different numbers in row 0, from 1700000000 to 1700000059, of which float32 keeps 1 apart"
    with pytest.raises(ValueError, match=f"X {message}; subtract the row's mean"):
        fit(net, seconds, Y)
    with pytest.raises(ValueError, match=f"Y {message}"):
        fit(net, Y, seconds)
    with pytest.raises(ValueError, match=f"validation X {message}"):
        fit(net, seconds - seconds.mean(), Y, validation=(seconds.astype(np.int64), Y))
    fit(net, np.where(seconds > 1.7e9, 0.1 + 0.2, 0.3), Y)  # constant but for rounding
    with jax.enable_x64(True), pytest.warns(jaxnet.TrainingWarning, match=r"X is as large as 1\.7e\+09"):
        fit(net, seconds, Y)


@pytest.mark.parametrize("state", [PARAMS, (PARAMS, (), 0, jax.random.key(0)), None])
def test_train_step_refuses_what_is_not_a_state(state):
    for lift in (jax.jit, lambda step: step):
        with pytest.raises(
            TypeError, match=r"state is (a \w+|None); expected a TrainState.*optimizer.init\(params\), jnp.int32"
        ):
            lift(jaxnet.train_step(NET, optax.sgd(0.1)))(state, X, Y)


def test_train_step_is_checked_when_made():
    with pytest.raises(ValueError, match="gradient is 'hand'"):
        jaxnet.train_step(NET, optax.sgd(0.1), "hand")
    with pytest.raises(TypeError, match=r"optimizer is 0\.1"):
        jaxnet.train_step(NET, 0.1)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float64, np.float16])
def test_other_numbers_are_taken_as_they_are(dtype):
    """Integers, booleans and doubles are cast once, on the host; nothing overflows on the way."""
    result = fit(X=(10 * np.abs(X)).astype(dtype), Y=Y.astype(dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {np.dtype(np.float32)}


def test_a_frame_of_doubles_is_trained_in_float64(x64):
    """As the array that it holds: with 64-bit on, a frame and a list of doubles are doubles."""
    for given in (X.astype(float), Frame(X.astype(float)), X.astype(float).tolist()):
        assert fit(X=given).params[0].W.dtype == jnp.float64


def test_weights_that_vanish_in_float32():
    tiny = np.full(M, 1e-300)
    for call in (
        lambda: jaxnet.cost(NET, PARAMS, X, Y, tiny),
        lambda: jaxnet.accuracy(Y, Y, tiny),
    ):
        with pytest.raises(ValueError, match="weights are all 0 in float32; divide them by the largest"):
            call()
    np.testing.assert_allclose(
        fit(weights=tiny).history["cost"], fit().history["cost"], rtol=1e-6
    )  # their ratios count


def test_huge_integers_keep_their_value():
    """int64 values that JAX would turn into 0 without a word."""
    net = jaxnet.MLP((3, 1), ("identity",))
    result = fit(net, X, np.full((1, M), 2**40), params=jaxnet.init(net, jax.random.key(0), "zeros"))
    np.testing.assert_allclose(result.history["cost"], 0.5 * 2.0**80, rtol=1e-6)


def test_a_binary_class_that_training_never_saw():
    with pytest.raises(ValueError, match="Y holds one class only"):
        fit(net=BINARY, Y=np.zeros((1, M)), validation=(X, np.ones((1, M))))


def test_multi_label_validation_may_look_one_hot():
    """Three of four labels at once in training; two validation examples with one each are no error."""
    net = jaxnet.MLP((3, 4), ("sigmoid",))
    assert np.isfinite(fit(net=net, Y=1 - Y, validation=(X[:, :2], Y[:, :2])).history["validation_cost"]).all()


def test_soft_labels_are_targets_too():
    soft = np.full((4, M), 0.25)
    assert np.isfinite(fit(Y=soft).history["cost"]).all()
    thirds = np.repeat([[0.1], [0.2], [0.3], [0.4]], M, axis=1).astype(np.float16)  # their sum is 1 to three digits
    assert np.isfinite(fit(X=X.astype(np.float16), Y=thirds).history["cost"]).all()
    assert np.isfinite(fit(Y=thirds, validation=(X, thirds)).history["cost"]).all()
    with pytest.raises(ValueError, match=r"Y\[:, 0\] sums to 0\.96"):
        fit(Y=np.full((4, M), 0.24))
    with pytest.raises(ValueError, match=r"Y\[:, 0\] sums to 0\.9998"):
        fit(X=X.astype(np.float16), Y=thirds.astype(np.float32))


def test_a_constant_feature_is_not_divided_by_zero():
    from jaxnet import datasets

    split = datasets.digits()
    constant = np.flatnonzero(split.X.std(axis=1) == 0)
    assert constant.size and (split.X[constant] == 0).all() and np.isfinite(split.X).all()

"""Cases of what surrounds the two passes: networks, their start, training, devices, the verifier."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from tests.fuzz.arguments import EITHER, FINE, WRONG, Given, array_like, function, is_real, junk, pick, plain
from tests.fuzz.calls import (
    DRAWN,
    FITTED,
    NETS,
    POSITIVE,
    RATE,
    SGD,
    Meant,
    Problem,
    _cast,
    changed,
    draws,
    fine,
    layers,
    metrics_like,
    network_arguments,
    optimizers,
    params_like,
    point,
    setting,
    settled,
    unlike_layers,
)
from tests.fuzz.outcomes import Case

M = 8  # examples of a fit
KEY = jax.random.key(0)

# ---- networks and their start ----


@draws("MLP", 6)
def mlp(rng) -> Case:
    own = NETS[pick(rng, NETS)]
    change = changed(rng, "sizes", "activations", "loss")
    given = {"sizes": fine(own.sizes), "activations": fine(own.activations), "loss": fine(own.loss)}
    if "sizes" in change:
        at, odd = int(rng.integers(len(own.sizes))), junk(rng, "3", "10**30").value
        one_odd = tuple(odd if i == at else n for i, n in enumerate(own.sizes))
        right = (list(own.sizes), tuple(map(np.int64, own.sizes)))
        wrong = ((), (3,), own.sizes[:1], own.sizes[:-1] + (0,), own.sizes[:-1] + (2.5,), one_odd, iter(own.sizes))
        given["sizes"] = setting(rng, right, wrong, (np.array(own.sizes), range(3, 3 + len(own.sizes))))
    if "activations" in change:
        names, at, odd = own.activations, int(rng.integers(len(own.activations))), junk(rng).value
        one_odd = tuple(odd if i == at else name for i, name in enumerate(names))
        wrong = (
            (*names[:-1], "sigmiod"),
            (*names, "tanh"),
            names[:-1],
            names[-1],
            ("softmax", *names[1:]) if len(names) > 1 else (),
            one_odd,
        )
        given["activations"] = setting(rng, (list(names),), wrong, (np.array(names), dict.fromkeys(names)))
    if "loss" in change:
        other = "squared_error" if own.loss == "cross_entropy" else "cross_entropy"
        fits = other == "squared_error" and own.activations[-1] == "sigmoid"
        right = (own.loss, *((other,) if fits else ()))
        given["loss"] = setting(
            rng, right, ("mse", "Cross_entropy", *(() if fits else (other,))), (None,), leave_out=("None",)
        )
    if "activations" in change and "loss" in change:
        given["loss"] = given["loss"].refused_if(True, EITHER)

    def check(net):
        wanted = tuple(int(n) for n in given["sizes"].value)
        return None if net.sizes == wanted and net.activations == own.activations and hash(net) else repr(net)

    return Case("MLP", given, jaxnet.MLP, check, {})


def key_like(rng) -> Given:
    """A random key, or what is none."""
    right = (jax.random.key(1), jax.random.PRNGKey(1), np.array([0, 1], np.uint32))
    wrong = (jax.random.split(KEY, 2), np.array([0, 1]), [0, 1], np.zeros(3, np.uint32), 0)
    return setting(rng, right, wrong, leave_out=("a key",))


@draws("init", 4)
def init(rng) -> Case:
    own = NETS[pick(rng, NETS)]
    change = changed(rng, "net", "key", "scheme", "scheme", "dtype")
    given = {"net": fine(own), "key": fine(KEY, "a key"), "scheme": fine("he"), "dtype": fine(np.float32, "float32")}
    if "net" in change:
        wide = Given(jaxnet.MLP((3, 10**30), ("tanh",)), WRONG, "10**30 units")
        given["net"] = wide if rng.random() < 0.2 else junk(rng)
        given["net|sizes"] = given.pop("net")
    if "key" in change:
        given["key"] = key_like(rng)
    if "scheme" in change:
        right = ("xavier", "lecun", "zeros", 0.01, 1, np.float32(2), jnp.float32(0.5))
        wrong = ("He", 0, -1.0, 1e300, 1e39, 1e-300, np.array([1.0, 2.0]))
        given["scheme"] = setting(rng, right, wrong, leave_out=POSITIVE)
    if "dtype" in change:
        right = ("float16", jnp.bfloat16, np.dtype("float32"), "float32")
        wrong = (np.float64, int, "foo", complex, object, ">f4", "U3")
        given["dtype"] = setting(
            rng, right, wrong, (None, float, np.longdouble, jnp.float8_e4m3fn), leave_out=("None",)
        )

    def check(params):
        scheme, zeros = given["scheme"].value, given["scheme"].value == "zeros"
        scale = 1.5 if isinstance(scheme, str) else float(scheme)
        for layer, n, n_prev in zip(params, own.sizes[1:], own.sizes, strict=False):
            W, b = (np.asarray(leaf).astype(float) for leaf in layer)
            if (
                W.shape != (n, n_prev)
                or b.shape != (n, 1)
                or b.any()
                or np.abs(W).max() > 6 * scale
                or W.any() == zeros
            ):
                return f"got {layer}"
            if given["dtype"].status == FINE and layer.W.dtype != jnp.dtype(given["dtype"].value):
                return f"dtype {layer.W.dtype}"
        return None

    def call(key, scheme, dtype, **net):
        return jaxnet.init(*net.values(), key, scheme, dtype)

    return Case("init", given, call, check, {})


# ---- training ----

DATA = ("X", "Y", "weights")


def fitted_targets(given: Given, net, also: str = "") -> Given:
    """Targets that training takes: of several classes, each column of softmax's summing to 1."""
    values, softmax = given.meaning, net.activations[-1] == "softmax"
    if values is None or net.loss != "cross_entropy" or values.ndim != 2 or not values.size:
        return given
    if softmax:
        given = given.refused_if(bool((np.abs(values.sum(axis=0) - 1) > 1e-1).any()))
    hard = ((values == 0) | (values == 1)).all()
    classes = np.unique(values.argmax(axis=0) if softmax else values[0] > 0.5)
    return given.refused_if(bool(hard and len(classes) == 1 and values.shape[1] > 1))


def training_data(rng, own, change) -> dict[str, Given]:
    """X, Y and weights on their way into training, where every array is read."""
    params = Given(None, FINE, "", Meant([], np.dtype(np.float32)))
    given = network_arguments(rng, DATA, own, change & set(DATA))
    given = settled({"params": params, **given}, own.net, all_read=True)
    given["Y"] = fitted_targets(given["Y"], own.net)
    return {name: given[name] for name in DATA}


def validation_like(rng, own) -> Given:
    """A pair (X, Y) to validate on, or what is none."""
    X, Y = own.X.astype(np.float32), own.Y.astype(np.float32)
    if rng.random() < 0.5:
        right = ((X, Y), (X.tolist(), Y.tolist()), (X, Y.astype(int) if own.net.loss == "cross_entropy" else Y))
        wrong = (
            (X,),
            (X, Y, Y),
            (X, None),
            (X.T, Y),
            (X[:, :3], Y),
            (X * np.nan, Y),
            (X, Y * np.nan),
            (None, Y),
            (X.astype(str), Y),
        )
        return setting(rng, right, wrong, ([X, Y], {"X": X, "Y": Y}), junk_too=False)
    return junk(rng, "None")


@draws("fit", 8)
def fit(rng) -> Case:
    own = point(rng, pick(rng, FITTED), M, several_classes=True)
    names = (
        "net", "key", "optimizer", "epochs", "steps", "batch_size", "params", "validation", "patience", "tol", "metrics",
        "gradient", "precision", "callbacks", "device", "mesh", "resume",
    )  # fmt: skip
    change = changed(rng, *names, *DATA * 6)
    given = training_data(rng, own, change)
    given["net"] = junk(rng) if "net" in change else fine(own.net)
    start = Given(
        layers(_cast(own.params, np.float32)), FINE, "numpy", Meant(_cast(own.params, np.float64), np.dtype(np.float32))
    )
    if "params" in change:
        start = params_like(rng, own.params)
        if start.value is None:
            start = start._replace(status=FINE)
    given["params"] = start
    given |= {"key": fine(KEY, "a key"), "optimizer": fine(SGD, "sgd"), "epochs": fine(1), "batch_size": fine(None)}
    odd = {
        "key": lambda: key_like(rng),
        "optimizer": lambda: _none_is_fine(optimizers(rng)),
        "epochs": lambda: setting(rng, (np.int64(1),), (0, -1, 1.0, "1"), (jnp.int32(1),), leave_out=("3", "10**30", "jax 0-d")),
        "steps": lambda: _none_is_fine(setting(rng, (1,), (0, -1, 1.5), leave_out=("3", "10**30", "jax 0-d"))),
        "batch_size": lambda: _none_is_fine(setting(rng, (M,), (0, -1, M + 1, 2.5, "all"), leave_out=("3", "jax 0-d"))),
        "validation": lambda: validation_like(rng, own),
        "patience": lambda: _none_is_fine(setting(rng, (), (0, 3, -1, 1.5))),
        "tol": lambda: _none_is_fine(setting(rng, (1e-4,), (0, -1e-4, "1e-4"), leave_out=POSITIVE)),
        "metrics": lambda: metrics_like(rng, own.net),
        "gradient": lambda: setting(rng, ("autodiff",), ("auto", 1)),
        "precision": lambda: setting(rng, (), ("float64", "high")),
        "callbacks": lambda: setting(rng, ((), [], function, [function]), ((3,), [None]), leave_out=("a function", "a class", "[]", "()", "{}")),
        "device": lambda: _none_is_fine(setting(rng, ("cpu",), ("gpu", "tpu", "cuda", "CPU", 0))),
        "mesh": lambda: _none_is_fine(setting(rng, (), (jax.make_mesh((1,), ("x",), devices=jax.devices()[:1]), jax.devices()))),
        "resume": lambda: _none_is_fine(setting(rng, (), (_another_result(),))),
    }  # fmt: skip
    for name in change & set(odd):
        given[name] = odd[name]()
    if "optimizer" in change and given["optimizer"].value is None:
        given["optimizer"] = given["optimizer"]._replace(status=EITHER)
    if "validation" in given and given["X"].meaning is None:
        given["validation"] = given["validation"].refused_if(True, EITHER)
    if "resume" in given:
        given["key"], given["params"] = (given[name].refused_if(True, EITHER) for name in ("key", "params"))

    def check(got):
        if given["params"].value is None or given["optimizer"].value is None:
            return None if all(np.isfinite(layer.W).all() for layer in got.params) else f"got {got.params}"
        with np.errstate(all="ignore"):
            meant = Meant(_cast(given["params"].meaning.params, np.float64), np.dtype(np.float32))
            problem = Problem.of(given | {"params": Given(None, FINE, "", meant)}, own.net)
            finite = all(np.isfinite(W).all() for W, _ in problem.params)
            if isinstance(got, jaxnet.NotFiniteError):
                return None if problem.overflows or not finite else f"NotFiniteError: {got}"
            return _unlike_a_step(got.params, got.history, problem)

    return Case("fit", given, lambda **arguments: jaxnet.fit(progress=False, **arguments), check, {})


def _unlike_a_step(params, history, problem) -> str | None:
    """What is wrong with one step of gradient descent on all examples."""
    J, J_error = problem.cost()
    want, errors = problem.gradients()
    if "cost" in history and not (abs(history["cost"][0] - J) <= J_error or problem.overflows):
        return f"cost {history['cost']}; expected {J}"
    wanted = [
        tuple(v - RATE * g for v, g in zip(*pair, strict=True))
        for pair in zip(problem.params, want.params, strict=True)
    ]
    off = [
        tuple(RATE * o + problem.eps * np.abs(v) for v, o in zip(*pair, strict=True))
        for pair in zip(problem.params, errors.params, strict=True)
    ]
    return unlike_layers("params", params, wanted, off, problem)


def _none_is_fine(given: Given) -> Given:
    return given._replace(status=FINE) if given.value is None else given


@cache
def _another_result():
    net = jaxnet.MLP((2, 2), ("tanh",))
    return jaxnet.fit(
        net, np.ones((2, M)), np.ones((2, M)), key=KEY, optimizer=SGD, epochs=1, batch_size=None, progress=False
    )


@draws("sweep", 3)
def sweep(rng) -> Case:
    own = point(rng, "softmax", M, several_classes=True)
    names = ("net", "keys", "learning_rate", "init_scale", "optimizer", "epochs", "batch_size", "metrics", "device")
    change = changed(rng, *names, *DATA * 2)
    given = training_data(rng, own, change)
    given |= {"net": fine(own.net), "keys": fine(KEY, "a key"), "learning_rate": fine(RATE), "batch_size": fine(None)}
    given |= {"epochs": fine(1), "init_scale": fine(None)}
    rates = np.array([RATE])
    odd = {
        "net": lambda: junk(rng),
        "keys": lambda: setting(rng, (jax.random.key(3), jax.random.PRNGKey(3), jax.random.split(KEY, 1)), (0, [0, 1], np.zeros((0, 2), np.uint32)), leave_out=("a key",)),
        "learning_rate": lambda: _scalar_like(rng, rates, negative=True),
        "init_scale": lambda: _none_is_fine(_scalar_like(rng, rates, negative=False)),
        "optimizer": lambda: setting(rng, (optax.sgd,), (SGD, 0.1, "sgd", optax.sgd(0.1)), leave_out=("a function", "a class")),
        "epochs": lambda: setting(rng, (1,), (0, -1, 1.5, "1"), leave_out=("3", "10**30", "jax 0-d")),
        "batch_size": lambda: _none_is_fine(setting(rng, (), (0, M + 1, 2.5), leave_out=("3", "jax 0-d"))),
        "metrics": lambda: metrics_like(rng, own.net),
        "device": lambda: _none_is_fine(setting(rng, ("cpu",), ("gpu", "cuda"))),
    }  # fmt: skip
    for name in change & set(odd):
        given[name] = odd[name]()

    def check(got):
        rate, scale = (given[name].meaning for name in ("learning_rate", "init_scale"))
        keys = given["keys"].value
        keys = keys if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(keys)
        init_key, _ = jax.random.split(keys.reshape(-1)[0])
        start = jaxnet.init(own.net, init_key, "he" if scale is None or np.isnan(scale).all() else 1.0)
        factor = 1 if scale is None or np.isnan(scale).all() else float(np.float32(np.ravel(scale)[0]))
        params = [(np.asarray(W, np.float64) * factor, np.asarray(b, np.float64)) for W, b in start]
        with np.errstate(all="ignore"):
            problem = Problem.of(
                given | {"params": Given(None, FINE, "", Meant(params, np.dtype(np.float32)))}, own.net
            )
            J, J_error = problem.cost()
        first = got.history["cost"][0, 0]
        moderate = np.abs(np.ravel(rate)).max() < 10
        if got.failed[0] and not problem.overflows and moderate:
            return "failed"
        return None if abs(first - J) <= J_error or problem.overflows or not moderate else f"cost {first}; expected {J}"

    return Case("sweep", given, lambda **arguments: jaxnet.sweep(progress=False, **arguments), check, {})


def _scalar_like(rng, values, negative: bool) -> Given:
    """A number, or one for each member: in any dress."""
    given = array_like(rng, values)
    if given.meaning is None:
        return given if given.value is None or given.status == FINE else _number(given, negative)
    bad = np.isnan(given.meaning) if negative else (given.meaning < 0) | np.isinf(given.meaning)
    shape = given.meaning.shape
    given = given.refused_if(bool(bad.any()))
    return given.refused_if(len(shape) > 1 or given.meaning.size != 1, EITHER)


def _number(given: Given, negative: bool) -> Given:
    """Junk that is a number after all."""
    try:
        value = np.asarray(given.value)
    except ValueError:
        return given
    if not is_real(value.dtype) or value.size != 1:
        return given
    number = value.astype(np.float64)
    bad = np.isnan(number).any() if negative else ((number < 0) | np.isinf(number)).any()
    return Given(given.value, WRONG if bad else EITHER, given.note, number)


# ---- devices ----


@draws("parallel.device", 1)
def device(rng) -> Case:
    name = setting(rng, (None, "cpu"), ("gpu", "tpu", "cuda", "CPU", 0, ["cpu"]), leave_out=("None",))
    check = lambda got: None if got is None or got.platform == "cpu" else f"got {got}"
    return Case(
        "parallel.device", {"device|name": name}, lambda **given: jaxnet.parallel.device(*given.values()), check, {}
    )


@draws("parallel.mesh", 1)
def mesh(rng) -> Case:
    n = setting(
        rng, (None, 1, 2, np.int64(2)), (0, -1, 9, 1.5, "2", [1]), (jnp.int32(1),), leave_out=("None", "3", "jax 0-d")
    )
    check = lambda got: None if got.size == (n.value or len(jax.devices())) else f"got {got}"
    return Case("parallel.mesh", {"n_devices": n}, jaxnet.parallel.mesh, check, {})


def _mesh_like(rng, or_none: bool) -> Given:
    if rng.random() < 0.4:
        return Given(jaxnet.parallel.mesh(2), FINE, "a mesh")
    given = setting(rng, (), (jax.devices(), jaxnet.parallel.mesh(2).devices, "data"))
    return given._replace(status=FINE) if or_none and given.value is None else given


@draws("parallel.columns", 1)
def columns(rng) -> Case:
    given = {"mesh": _mesh_like(rng, or_none=False)}
    check = lambda got: None if tuple(got.spec) == (None, "data") else f"got {got}"
    return Case("parallel.columns", given, jaxnet.parallel.columns, check, {})


@draws("parallel.replicated", 1)
def replicated(rng) -> Case:
    given = {"mesh": _mesh_like(rng, or_none=False)}
    check = lambda got: None if got.is_fully_replicated else f"got {got}"
    return Case("parallel.replicated", given, jaxnet.parallel.replicated, check, {})


@draws("parallel.split_columns", 2)
def split_columns(rng) -> Case:
    values = rng.normal(size=(3, 4))
    change = changed(rng, "X", "mesh")
    given = {"X": plain(rng, values), "mesh": Given(jaxnet.parallel.mesh(2), FINE, "a mesh")}
    if "mesh" in change:
        given["mesh"] = _mesh_like(rng, or_none=True)
    if "X" in change:
        X = array_like(rng, values)
        usual_array = isinstance(X.value, np.ndarray | jax.Array) and X.status == FINE
        X = X.refused_if(not usual_array, EITHER) if X.status != WRONG or X.meaning is not None else X
        if X.meaning is not None:
            X = X.refused_if(X.meaning.ndim != 2, EITHER)
            X = X.refused_if(X.meaning.ndim == 2 and X.meaning.shape[1] % 2 == 1)
        given["X"] = X
    if given["mesh"].value is None:  # X stays as it is
        given["X"] = (
            given["X"].refused_if(False)._replace(status=EITHER if given["X"].status == WRONG else given["X"].status)
        )

    def check(got):
        if given["mesh"].value is None:
            return None if got is given["X"].value or np.shape(got) == np.shape(given["X"].value) else f"got {got}"
        with np.errstate(all="ignore"):
            close = np.allclose(np.asarray(got).astype(float), given["X"].meaning, rtol=1e-2, equal_nan=True)
        wide = not np.isfinite(given["X"].meaning.astype(np.float32)).all() or np.abs(given["X"].meaning).max() > 2**30
        return None if close or wide else f"got {got}"

    return Case("parallel.split_columns", given, jaxnet.parallel.split_columns, check, {})


@draws("parallel.padding", 2)
def padding(rng) -> Case:
    change = changed(rng, "m", "mesh")
    given = {"m": fine(3), "mesh": Given(jaxnet.parallel.mesh(2), FINE, "a mesh")}
    if "m" in change:
        given["m"] = setting(
            rng, (5, np.int64(4)), (-1, 2.5, "3", [3]), (0, jnp.int32(3)), leave_out=("3", "0", "10**30", "jax 0-d")
        )
    if "mesh" in change:
        given["mesh"] = _mesh_like(rng, or_none=True)
    if given["mesh"].value is None:
        given["m"] = given["m"]._replace(status=EITHER) if given["m"].status == WRONG else given["m"]
    check = lambda got: (
        None if given["mesh"].value is None or (given["m"].value + got) % 2 == 0 <= got < 2 else f"got {got}"
    )
    return Case("parallel.padding", given, jaxnet.parallel.padding, check, {})


# ---- the verifier ----


def _square(params, *others):
    return (params**2).sum()


def _its_gradient(params, *others):
    return 2 * params


@jax.custom_vjp
def _ruled(x):
    return x**2


_ruled.defvjp(lambda x: (x**2, x), lambda x, c: (2 * x * c,))
POINT = np.array([0.5, -1.5, 2.0], np.float32)


def _verifier_settings(rng, change) -> dict[str, Given]:
    odd = {
        "key": lambda: _none_is_fine(setting(rng, (3, jax.random.key(1)), (1.5, "a", [1, 2], jax.random.split(KEY, 2)), leave_out=("a key", "3", "-1", "0", "10**30", "True"))),
        "directions": lambda: setting(rng, (2,), (0, -1, 1.5), leave_out=("3", "10**30", "True", "jax 0-d", "float32 0-d")),
        "kinks": lambda: setting(rng, ("strict",), ("Strict", "convex")),
        "witnesses": lambda: setting(rng, ("fast",), ("all", "Full")),
        "variants": lambda: setting(rng, (("eager",), ["eager", "jit"], ()), (("jax",), "jit", ("eager", 3)), leave_out=("[]", "()", "{}")),
    }  # fmt: skip
    return {name: odd[name]() for name in odd if name in change}


@draws("check_gradients", 2)
def check_gradients(rng) -> Case:
    names = (
        "loss",
        "grad_fn",
        "params",
        "argnums",
        "has_aux",
        "reference",
        "key",
        "directions",
        "kinks",
        "witnesses",
        "variants",
    )
    change = changed(rng, *names)
    given = {
        "loss": Given(_square, FINE, "a square"),
        "grad_fn": Given(_its_gradient, FINE, "its gradient"),
        "params": fine(POINT),
    }
    odd = {
        "loss": lambda: junk(rng, "a function", "a class"),
        "grad_fn": lambda: junk(rng, "a function", "a class"),
        "params": lambda: junk(rng, "float32 0-d", "jax 0-d", "2.5", "nan", "inf", "1j", "{'W': 1}", "a list of dicts", "frame of text", "frame with NA", "ragged", "ShapeDtypeStruct"),
        "argnums": lambda: setting(rng, (0,), (1, -5, "a", 0.5, (0, 7)), leave_out=("0", "-1", "[]", "()", "{}")),
        "has_aux": lambda: setting(rng, (False,), (True,), junk_too=False),
        "reference": lambda: _none_is_fine(junk(rng, "a function", "a class")),
    }  # fmt: skip
    for name in change & set(odd):
        given[name] = odd[name]()
    given |= _verifier_settings(rng, change)
    check = lambda report: None if report.verdict == "PASS" else f"verdict {report.verdict}"
    return Case("check_gradients", given, jaxnet.check_gradients, check, {})


@draws("check_vjp", 1)
def check_vjp(rng) -> Case:
    change = changed(rng, "f", "primals", "argnums", "cotangents", "key", "directions", "kinks", "witnesses")
    given = {"f": Given(_ruled, FINE, "a ruled square"), "primals": fine(POINT)}
    odd = {
        "f": lambda: junk(rng, "a function", "a class"),
        "primals": lambda: junk(rng, "float32 0-d", "jax 0-d", "2.5", "nan", "inf", "1j"),
        "argnums": lambda: setting(rng, (0, None), (1, -5, "a", 0.5), leave_out=("0", "-1", "None", "[]", "()", "{}")),
        "cotangents": lambda: setting(rng, (1,), (0, -1, 1.5, "2"), leave_out=("3", "10**30", "True", "jax 0-d", "float32 0-d")),
    }  # fmt: skip
    for name in change & set(odd):
        given[name] = odd[name]()
    given |= _verifier_settings(rng, change)

    def call(f, primals, **options):
        return jaxnet.check_vjp(f, primals, **options)

    check = lambda report: None if report.verdict == "PASS" else f"verdict {report.verdict}"
    return Case("check_vjp", given, call, check, {})


ALL = DRAWN  # every function has entered itself

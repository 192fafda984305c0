"""Cases of train_step, fit and sweep: one step of gradient descent on all examples."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from tests.fuzz.arguments import (
    COUNTS,
    EITHER,
    EMPTY,
    FINE,
    FUNCTIONS,
    NUMBERS,
    POSITIVE,
    WRONG,
    Given,
    Setting,
    changed,
    fine,
    function,
    junk,
    pick,
)
from tests.fuzz.arrays import DTYPES, array_like
from tests.fuzz.calls.construction import KEY, KEYS
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import (
    DATA,
    FEW,
    FLOAT32,
    Meant,
    Point,
    Problem,
    cast,
    layers,
    network_arguments,
    params_like,
    plain_params,
    point,
    settled,
    unlike,
    unlike_layers,
)

M = 8  # examples of a fit
RATE = 0.1
SGD, ADAM = optax.sgd(RATE), optax.adam(RATE)
OPTIMIZERS = Setting(wrong=(0.1, "SGD", optax.sgd, (SGD,)))
GRADIENTS = Setting(right=("autodiff",), wrong=("auto", "Manual", 1))


def metrics_of(net) -> Setting:
    """Names of metrics that the network has, or what is none."""
    return Setting(
        right=(("cost",), ["cost", "gradient_norm"], (), {"cost"}),
        wrong=("cost", ("nope",), ("cost", 3), *(() if net.is_classifier else (("accuracy",),))),
        leave_out=EMPTY,
        optional=True,
    )


@draws("train_step", 6)
def train_step(rng) -> Case:
    own = point(rng, pick(rng, FEW), 3)
    names = ("params", *DATA)
    change = changed(rng, "net", "optimizer", "gradient", "precision", "metrics", "state", "state", *names * 3)
    given = settled(network_arguments(rng, ("net", *names, "precision"), own, change), own.net)
    given["optimizer"] = OPTIMIZERS.drawn(rng) if "optimizer" in change else fine(SGD, "sgd")
    given["gradient"] = GRADIENTS.drawn(rng) if "gradient" in change else fine("manual")
    given["metrics"] = metrics_of(own.net).drawn(rng) if "metrics" in change else fine(None)
    params = given.pop("params")
    state = jaxnet.TrainState(params.value, SGD.init(layers(own.params)), jnp.int32(0), KEY.value)
    if "state" in change:
        odd = state_like(rng, state, own)
        if odd.note == "sgd's, for adam":
            given["optimizer"] = fine(ADAM, "adam")
        given["state|opt_state|optimizer|params"] = odd.refused_if(params.status != FINE, params.status)
    else:
        given["state|params"] = params._replace(value=state)

    def call(net, optimizer, gradient, precision, metrics, X, Y, weights, **state):
        step = jaxnet.train_step(net, optimizer, gradient, precision, metrics)
        return step(*state.values(), X, Y, weights)

    def complaint(answer):
        new, measured = answer
        problem = Problem.of(given | {"params": params}, own.net)
        finite, (J, error) = bool(measured["finite"]), problem.cost()
        (after, errors), weights = problem.step(RATE), problem.weights
        known = np.isfinite(J) and all(np.isfinite(leaf).all() for layer in after for leaf in layer)
        if finite != known and not problem.overflows:
            return f"finite is {finite}"
        if not finite or (weights is not None and not weights.sum() > 0):  # the state comes back unchanged
            after, errors = problem.params, [(0 * W, 0 * b) for W, b in problem.params]
        text = "cost" in measured and unlike("cost", measured["cost"], J, error, problem)
        return text or unlike_layers("params", new.params, after, errors, problem)

    usual = {"weights": None} | own.usual(given) | {"optimizer": SGD, "gradient": "manual", "precision": "float32"}
    usual |= {"metrics": None, "state": state._replace(params=layers(cast(own.params, np.float32)))}
    return Case("train_step", given, call, complaint, usual)


def state_like(rng, state, own: Point) -> Given:
    """What is no state of this optimizer."""
    params = layers(cast(own.params, np.float32))
    wrong = {
        "sgd's, for adam": state,
        "no opt_state": state._replace(opt_state=None),
        "a tuple": tuple(state),
        "params": params,
    }
    undecided = {
        "adam's": state._replace(opt_state=ADAM.init(params)),  # sgd reads none
        "step as int": state._replace(step=0),
        "no key": state._replace(key=None),
    }
    name = pick(rng, [*wrong, *undecided, "junk", "junk"])
    if name == "junk":
        return junk(rng)
    return Given((wrong | undecided)[name], WRONG if name in wrong else EITHER, name)


# ---- fit ----


def training_data(rng, own: Point, change) -> dict[str, Given]:
    """X, Y and weights on their way into training."""
    given = settled(network_arguments(rng, DATA, own, change), own.net, FLOAT32)
    given["Y"] = several_classes(given["Y"], own.net)
    return given


def several_classes(given: Given, net) -> Given:
    """Targets that training takes: of at least two classes, each column of softmax's summing to 1."""
    Y, softmax = given.meaning, net.activations[-1] == "softmax"
    if Y is None or net.loss != "cross_entropy" or Y.ndim != 2 or not Y.size:
        return given
    given = given.refused_if(softmax and (np.abs(Y.sum(axis=0) - 1) > 0.1).any())
    classes = np.unique(Y.argmax(axis=0) if softmax else Y[0] > 0.5)
    return given.refused_if(((Y == 0) | (Y == 1)).all() and len(classes) == 1 < Y.shape[1])


def validation_of(own: Point) -> Setting:
    """What to validate on, (X, Y) or (X, Y, weights), or what is none."""
    X, Y = own.X.astype(np.float32), own.Y.astype(np.float32)
    return Setting(
        right=((X, Y), (X.tolist(), Y.tolist()), (np.matrix(X), Y.astype(np.longdouble)), (X, Y, [1] * X.shape[1])),
        wrong=(
            (X,),
            (X, Y, Y),
            (X, Y, -np.ones(X.shape[1])),
            (X, None),
            (X.T, Y),
            (X[:, :3], Y),
            (X * np.nan, Y),
            (X, Y * np.nan),
            (X.astype(str), Y),
        ),
        either=([X, Y],),
        optional=True,
    )


@cache
def another_result() -> jaxnet.FitResult:
    """Of a network of other widths."""
    net, ones = jaxnet.MLP((2, 2), ("tanh",)), np.ones((2, M), np.float32)
    return jaxnet.fit(net, ones, ones, key=KEY.value, optimizer=SGD, epochs=1, batch_size=None, progress=False)


def settings_of_fit(own: Point) -> dict[str, Setting]:
    """All but the data: what is right leaves the answer as it is."""
    mesh_of_x = jax.make_mesh((1,), ("x",), devices=jax.devices()[:1])
    return {
        "key": KEYS,
        "optimizer": OPTIMIZERS,
        # Beside an object, which has its own, any is wrong.
        "learning_rate": Setting(wrong=(0, -1.0), either=(0.1,), leave_out=POSITIVE, optional=True),
        "epochs": Setting((np.int64(1),), (0, -1, 1.0, "1"), (jnp.int32(1),), COUNTS),
        "steps": Setting((1,), (0, -1, 1.5), leave_out=COUNTS, optional=True),
        "steps_per_epoch": Setting(wrong=(1, 0, -1), optional=True),  # of batches, and these are arrays
        "checkpoint": Setting(wrong=(3, b"run", "run\0", ["run"]), leave_out=("a text", "path"), optional=True),
        "every": Setting((1,), (2, "60s", 0, -1, 1.5, "0s", "-1s", "60", "1m", None)),  # without a checkpoint
        "keep": Setting((3,), (2, 0, -1, 1.5, "3", None), leave_out=COUNTS),
        "batch_size": Setting((M,), (0, -1, M + 1, 2.5, "all"), leave_out=("3", "jax 0-d"), optional=True),
        "validation": validation_of(own),
        "patience": Setting(wrong=(0, 3, -1, 1.5), optional=True),  # there is nothing to validate on
        "monitor": Setting(("validation_cost",), ("validation_accuracy", "loss")),
        "min_delta": Setting((0, np.float32(0)), (0.1, -0.1, "0")),
        "tol": Setting((1e-4,), (0, -1e-4, "1e-4"), leave_out=POSITIVE, optional=True),
        "metrics": metrics_of(own.net),
        "on_nonfinite": Setting(("skip",), ("rollback", "ignore")),  # without callbacks
        "gradient": GRADIENTS,
        "precision": Setting(wrong=("float64", "high")),
        "callbacks": Setting(((), [], function, [function]), ((3,), [None]), leave_out=(*EMPTY, *FUNCTIONS)),
        "device": Setting(("cpu",), ("gpu", "tpu", "cuda", "CPU", 0), optional=True),
        "mesh": Setting(wrong=(mesh_of_x, jax.devices()), optional=True),
        "resume": Setting((False,), (another_result(), True), optional=True),  # True needs a checkpoint
    }


@draws("fit", 8)
def fit(rng) -> Case:
    own = point(rng, pick(rng, FEW), M, several_classes=True)
    settings = settings_of_fit(own)
    change = changed(rng, "net", "params", "params", *settings, *DATA * 6)
    given = training_data(rng, own, change)
    given |= {"net": junk(rng) if "net" in change else fine(own.net, str(own.net.activations)), "key": KEY}
    given["params"] = params_like(rng, own.params) if "params" in change else plain_params(rng, own.params)
    given |= {"optimizer": fine(SGD, "sgd"), "epochs": fine(1), "batch_size": fine(None)}
    given |= {name: settings[name].drawn(rng) for name in settings if name in change}
    defaults = [name for name in ("params", "optimizer") if given[name].value is None]
    for name in defaults:
        given[name] = given[name]._replace(status=FINE)
    together = {  # what may be refused beside another
        "steps": ("steps", "batch_size") if given["batch_size"].value is not None else (),
        "resume": ("key", "params"),
    }
    for name in together:
        if name in given and given[name].value is not None:
            given |= {other: given[other].refused_if(True, EITHER) for other in together[name]}

    def complaint(answer):
        if defaults:  # drawn, or updated, by what is no concern here
            finite = isinstance(answer, jaxnet.FitResult) and all(np.isfinite(W).all() for W, _ in answer.params)
            return None if finite else f"got {answer}"
        meant = Meant(given["params"].meaning.params, FLOAT32)  # 16-bit params are trained in float32
        problem = Problem.of(given | {"params": given["params"]._replace(meaning=meant)}, own.net)
        if isinstance(answer, jaxnet.NotFiniteError):
            known = all(np.isfinite(W).all() for W, _ in problem.params)
            return f"got {answer!r}" if known and not problem.overflows else None
        J, error = problem.cost()
        if "cost" in answer.history and not (abs(answer.history["cost"][0] - J) <= error or problem.overflows):
            return f"cost is {answer.history['cost']}; expected {J}"
        return unlike_layers("params", answer.params, *problem.step(RATE), problem)

    return Case("fit", given, lambda **arguments: jaxnet.fit(progress=False, **arguments), complaint)


@draws("fit of a stream", 3)
def fit_of_a_stream(rng) -> Case:
    """One epoch of one batch: a step on all examples, as above."""
    own = point(rng, pick(rng, FEW), M)
    change = changed(rng, "net", "params", *DATA * 6)
    given = settled(network_arguments(rng, DATA, own, change), own.net, FLOAT32)
    Y = given["Y"].meaning
    if own.net.activations[-1] == "softmax" and Y is not None and Y.ndim == 2 and Y.size:
        given["Y"] = given["Y"].refused_if((np.abs(Y.sum(axis=0) - 1) > 0.1).any())
    given |= {"net": junk(rng) if "net" in change else fine(own.net, str(own.net.activations))}
    given["params"] = params_like(rng, own.params) if "params" in change else plain_params(rng, own.params)
    if given["params"].value is None:  # drawn by what is no concern here
        given["params"] = plain_params(rng, own.params)

    def call(net, params, X, Y, weights):
        common = {"key": KEY.value, "optimizer": SGD, "epochs": 1, "progress": False}
        return jaxnet.fit(net, [(X, Y, weights)], params=params, **common)

    def complaint(answer):
        meant = Meant(given["params"].meaning.params, FLOAT32)
        problem = Problem.of(given | {"params": given["params"]._replace(meaning=meant)}, own.net)
        weights = problem.weights
        if isinstance(answer, jaxnet.NotFiniteError):
            known = all(np.isfinite(W).all() for W, _ in problem.params)
            counts = weights is None or weights.sum() > 0
            return f"got {answer!r}" if known and counts and not problem.overflows else None
        J, error = problem.cost()
        if not (abs(answer.history["cost"][0] - J) <= error or problem.overflows):
            return f"cost is {answer.history['cost']}; expected {J}"
        return unlike_layers("params", answer.params, *problem.step(RATE), problem)

    return Case("fit of a stream", given, call, complaint)


# ---- sweep ----


def rates_like(rng, may_be_below_0: bool) -> Given:
    """A number, or one for each member, as somebody may give them."""
    given = array_like(rng, np.array([RATE]), dtypes=tuple(name for name in DTYPES if name != "object"))
    if "objects" in given.note:  # which NumPy takes for the numbers that they are
        given = given._replace(status=EITHER)
    values = given.meaning
    if values is None:
        return number_like(given, may_be_below_0)
    given = given.refused_if(np.isnan(values).any() if may_be_below_0 else ((values < 0) | np.isinf(values)).any())
    odd = values.ndim > 1 or values.size != 1 or not (values > 0).all() or np.isinf(values).any()
    return given.refused_if(odd, EITHER)


def number_like(given: Given, may_be_below_0: bool) -> Given:
    """Junk, which may be a number after all."""
    if given.note not in (*NUMBERS, "-1", "0", "True") or isinstance(given.value, complex):
        return given
    number = float(given.value)
    bad = np.isnan(number) if may_be_below_0 else number < 0 or np.isinf(number)
    return Given(given.value, EITHER, given.note, np.array(number)).refused_if(bad)


@draws("sweep", 3)
def sweep(rng) -> Case:
    own = point(rng, "softmax", M, several_classes=True)
    settings = {
        "keys": Setting(
            right=(jax.random.key(3), jax.random.PRNGKey(3), jax.random.split(KEY.value, 1)),
            wrong=(0, [0, 1], np.zeros((0, 2), np.uint32)),
            leave_out=("a key",),
        ),
        "optimizer": Setting((optax.sgd, "sgd"), (SGD, 0.1, "SGD"), leave_out=FUNCTIONS),
        "epochs": Setting((1,), (0, -1, 1.5, "1"), leave_out=COUNTS),
        "batch_size": Setting((), (0, M + 1, 2.5), leave_out=("3", "jax 0-d"), optional=True),
        "metrics": metrics_of(own.net),
        "device": Setting(("cpu",), ("gpu", "cuda"), optional=True),
    }
    change = changed(rng, "net", "learning_rate", "init_scale", *settings, *DATA * 2)
    given = training_data(rng, own, change)
    given |= {"net": junk(rng) if "net" in change else fine(own.net, "softmax"), "keys": KEY, "batch_size": fine(None)}
    given |= {"epochs": fine(1), "learning_rate": fine(RATE), "init_scale": fine(None)}
    given |= {name: settings[name].drawn(rng) for name in settings if name in change}
    if "learning_rate" in change:
        given["learning_rate"] = rates_like(rng, may_be_below_0=True)
    if "init_scale" in change:
        scales = rates_like(rng, may_be_below_0=False)
        given["init_scale"] = scales._replace(status=FINE) if scales.value is None else scales

    def complaint(answer):
        scale = given["init_scale"].meaning
        standard = scale is None or np.isnan(scale).all()
        start = jaxnet.init(own.net, first_key(given["keys"].value), "he" if standard else 1.0)
        factor = 1.0 if standard else float(np.ravel(scale)[0].astype(np.float32))
        params = [(factor * np.asarray(W, np.float64), np.asarray(b, np.float64)) for W, b in start]
        problem = Problem.of(given | {"params": fine(None)._replace(meaning=Meant(params, FLOAT32))}, own.net)
        (J, error), moderate = problem.cost(), np.abs(given["learning_rate"].meaning).max() < 10
        if problem.overflows or not moderate:  # then the member may fail
            return None
        found = answer.history["cost"][0, 0]
        return None if abs(found - J) <= error and not answer.failed[0] else f"cost is {found}; expected {J}"

    return Case("sweep", given, lambda **arguments: jaxnet.sweep(progress=False, **arguments), complaint)


def first_key(keys):
    """That of the first member's initial weights."""
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    return jax.random.split((keys if typed else jax.random.wrap_key_data(keys)).reshape(-1)[0])[0]

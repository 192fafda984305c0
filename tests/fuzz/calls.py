"""A case for each public function: how its arguments are drawn, which of them are wrong, what the answer is."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from tests.fuzz import reference
from tests.fuzz.arguments import (
    DTYPES,
    EITHER,
    FINE,
    INTEGERS,
    WRONG,
    Given,
    array_like,
    in_range,
    junk,
    pick,
    plain,
)
from tests.fuzz.outcomes import Case

NETS = {
    "logistic": jaxnet.MLP((3, 1), ("sigmoid",)),
    "softmax": jaxnet.MLP((3, 4, 2), ("tanh", "softmax")),
    "labels": jaxnet.MLP((3, 4, 2), ("gelu", "sigmoid")),
    "price": jaxnet.MLP((3, 4, 1), ("relu", "identity")),
    "deep": jaxnet.MLP((3, 4, 4, 2), ("silu", "softplus", "softmax")),
    "squared": jaxnet.MLP((3, 4, 2), ("leaky_relu", "sigmoid"), "squared_error"),
    "square": jaxnet.MLP((3, 3), ("tanh",)),
}
FITTED = ("logistic", "softmax", "price")  # every net is a program more to compile
RATE = 0.1
SGD = optax.sgd(RATE)
DRAWN: dict[str, tuple[int, Callable]] = {}  # how often a function is called, and how its cases are drawn


def draws(function: str, weight: int):
    """Enter what draws the cases of a function."""

    def enter(draw):
        DRAWN[function] = weight, draw
        return draw

    return enter


def case(seed: int, index: int) -> Case:
    """The case of that number: the same each time."""
    from tests.fuzz import calls_of_training  # noqa: F401 - enters its functions

    rng = np.random.default_rng([seed, index])
    weights = np.array([weight for weight, _ in DRAWN.values()])
    function = list(DRAWN)[rng.choice(len(DRAWN), p=weights / weights.sum())]
    return DRAWN[function][1](rng)


def changed(rng, *names: str) -> set[str]:
    """Which arguments are not given as usual: mostly one."""
    count = rng.choice((0, 1, 2), p=(0.1, 0.75, 0.15))
    return {pick(rng, names) for _ in range(count)}


def setting(rng, right=(), wrong=(), either=(), junk_too=True, leave_out=()) -> Given:
    """A setting: one of those that are right, wrong or undecided, or something that is no setting."""
    known = [
        (value, status) for values, status in ((right, FINE), (wrong, WRONG), (either, EITHER)) for value in values
    ]
    if junk_too and (not known or rng.random() < 0.5):
        return junk(rng, *leave_out)
    value, status = known[rng.integers(len(known))]
    return Given(value, status, " ".join(repr(value).split())[:60], value)


def fine(value: Any, note: str = "") -> Given:
    """An argument as usual."""
    return Given(value, FINE, note or " ".join(repr(value).split())[:60], value)


# ---- a network, its params and its data ----


class Point(NamedTuple):
    """The arguments that are right."""

    net: jaxnet.MLP
    params: list
    X: np.ndarray
    Y: np.ndarray
    weights: np.ndarray


def point(rng, name: str, m: int, several_classes: bool = False) -> Point:
    """Params with biases that are not 0, X, targets that fit the loss, and weights."""
    net = NETS[name]
    n_y = net.sizes[-1]
    params = [
        (rng.normal(size=(n, k)), rng.normal(size=(n, 1))) for k, n in zip(net.sizes, net.sizes[1:], strict=False)
    ]
    labels = rng.permutation(np.arange(m) % max(2, n_y)) if several_classes else rng.integers(max(2, n_y), size=m)
    if net.loss == "squared_error":
        Y = rng.normal(size=(n_y, m))
    elif net.activations[-1] == "softmax":
        Y = np.eye(n_y)[:, labels]
    elif n_y == 1:
        Y = labels[None].astype(float)
    else:
        Y = rng.integers(2, size=(n_y, m)).astype(float)
    return Point(net, params, 1.5 * rng.normal(size=(net.sizes[0], m)), Y, rng.uniform(0.2, 2, m))


class Meant(NamedTuple):
    """Params as numbers, and their dtype."""

    params: list
    dtype: np.dtype


def layers(params, leaf=np.asarray) -> tuple:
    """Params as jaxnet has them."""
    return tuple(jaxnet.Layer(leaf(W), leaf(b)) for W, b in params)


def _with_leaf(params, leaf) -> tuple:
    """The params with another first W."""
    first, *others = layers(params)
    return (first._replace(W=leaf(first.W)), *others)


TAKEN = {
    "numpy": layers,
    "jax": partial(layers, leaf=jnp.asarray),
    "Fortran": partial(layers, leaf=np.asfortranarray),
    "read-only": partial(layers, leaf=lambda a: np.broadcast_to(a, a.shape)),
    "negative strides": partial(layers, leaf=lambda a: np.ascontiguousarray(a[::-1])[::-1]),
}
NARROW = {"float16": np.float16, "bfloat16": jnp.bfloat16}
DOUBTFUL = {
    "float64": partial(layers, leaf=lambda a: a.astype(np.float64)),  # JAX rounds it where its 64-bit is off
    "matrix": partial(layers, leaf=np.matrix),
    "masked, no entry": partial(layers, leaf=np.ma.masked_array),
}
NOT_TAKEN = {
    "integers": partial(layers, leaf=lambda a: a.astype(np.int32)),
    "booleans": partial(layers, leaf=lambda a: a > 0),
    "complex": partial(layers, leaf=lambda a: a.astype(np.complex64)),
    "longdouble": partial(layers, leaf=lambda a: a.astype(np.longdouble)),
    "objects": partial(layers, leaf=lambda a: a.astype(object)),
    "text": partial(layers, leaf=lambda a: a.astype(str)),
    "big-endian": partial(layers, leaf=lambda a: a.astype(">f4")),
    "lists": partial(layers, leaf=lambda a: a.tolist()),
    "frames": partial(layers, leaf=DTYPES["object"]),
    "masked": partial(layers, leaf=lambda a: np.ma.masked_array(a, a > 0)),
    "tensors": partial(layers, leaf=memoryview),
    "one float16": partial(_with_leaf, leaf=lambda a: a.astype(np.float16)),
    "one None": partial(_with_leaf, leaf=lambda a: None),
    "one transposed": partial(_with_leaf, leaf=lambda a: a.T if a.shape[0] != a.shape[1] else a[:, :0]),
    "one in three dimensions": partial(_with_leaf, leaf=lambda a: a[None]),
    "one big-endian": partial(_with_leaf, leaf=lambda a: a.astype(">f4")),
    "b flat": lambda params: tuple(jaxnet.Layer(W, b.ravel()) for W, b in params),
    "a list": lambda params: list(layers(params)),
    "dicts": lambda params: tuple({"W": W, "b": b} for W, b in params),
    "pairs": lambda params: tuple((W, b) for W, b in params),
    "a layer less": lambda params: layers(params)[:-1],
    "a layer more": lambda params: (*layers(params), *layers(params)[-1:]),
    "the first layer": lambda params: layers(params)[0],
}


def params_like(rng, params) -> Given:
    """Params as somebody might give them."""
    if rng.random() < 0.15:
        return junk(rng)
    name = pick(rng, [*TAKEN, *NARROW, *DOUBTFUL, *NOT_TAKEN, "nan"])
    if name in NOT_TAKEN:
        return Given(NOT_TAKEN[name](_cast(params, np.float32)), WRONG, name)
    dtype = NARROW.get(name, np.float32)
    params = _cast(params, dtype)
    if name == "nan":
        params[0][0][0, 0] = np.nan
    make = (TAKEN | DOUBTFUL).get(name, layers)
    meant = Meant(_cast(params, np.float64), np.dtype(dtype))
    return Given(make(params), EITHER if name in DOUBTFUL else FINE, name, meant)


def _cast(params, dtype) -> list:
    return [(W.astype(dtype), b.astype(dtype)) for W, b in params]


def plain_params(rng, params, dtype=np.float32) -> Given:
    """Params as NumPy or JAX arrays."""
    name = pick(rng, ("numpy", "jax"))
    params = _cast(params, dtype)
    return Given(TAKEN[name](params), FINE, name, Meant(_cast(params, np.float64), np.dtype(dtype)))


def network_arguments(rng, names, own: Point, change: set[str]) -> dict[str, Given]:
    """Those of (net, params, X, Y, weights, precision) that a function has."""
    drawn = {
        "net": lambda new: junk(rng) if new else fine(own.net, f"{own.net.activations} {own.net.loss}"),
        "params": lambda new: params_like(rng, own.params) if new else plain_params(rng, own.params),
        "X": lambda new: array_like(rng, own.X) if new else plain(rng, own.X),
        "Y": lambda new: array_like(rng, own.Y) if new else plain(rng, own.Y),
        "weights": lambda new: _weights_like(rng, own.weights) if new else _no_weights(rng, own.weights),
        "precision": lambda new: (
            setting(rng, ("bfloat16",), ("float64", "highest", "Float32")) if new else fine("float32")
        ),
    }
    return {name: drawn[name](name in change) for name in names}


def _weights_like(rng, weights) -> Given:
    given = array_like(rng, weights)
    return given._replace(status=FINE) if given.value is None else given


def _no_weights(rng, weights) -> Given:
    return fine(None) if rng.random() < 0.5 else plain(rng, weights)


def settled(given: dict[str, Given], net, all_read: bool = False) -> dict[str, Given]:
    """The arguments once their shapes, dtypes and values are compared; `all_read` reads JAX arrays as well."""
    meant = given["params"].meaning if "params" in given else Meant([], np.dtype(np.float32))
    dtype = np.dtype(np.float32) if meant is None or all_read else meant.dtype
    given = dict(given)
    for name in {"X", "Y", "weights"} & set(given):
        if all_read:
            given[name] = given[name]._replace(on_host=True)
        given[name] = _dtype_settled(in_range(given[name], dtype), dtype, name)
    m = None
    for name, rows in (("X", net.sizes[0]), ("Y", net.sizes[-1])):
        values = given[name].meaning if name in given else None
        if values is None:
            continue
        fits = values.ndim == 2 and values.shape[0] == rows and values.shape[1] > 0 and m in (None, values.shape[1])
        given[name] = given[name].refused_if(not fits)
        m = values.shape[1] if fits and m is None else m
    if "Y" in given and given["Y"].on_host and net.loss == "cross_entropy":
        given["Y"] = _targets_settled(given["Y"], net.activations[-1])
    if "weights" in given and given["weights"].meaning is not None:
        values, wrong = given["weights"].meaning, given["weights"]
        wrong = wrong.refused_if(values.shape != (m,))
        if wrong.on_host:
            wrong = wrong.refused_if((values < 0).any())
            wrong = wrong.refused_if(not values.astype(dtype).any(), WRONG if all_read else EITHER)
        given["weights"] = wrong
    return given


def _dtype_settled(given: Given, dtype, name) -> Given:
    """JAX arrays are widened to the params' dtype, not narrowed."""
    if given.meaning is None or given.on_host:
        return given
    wide = jnp.promote_types(given.value.dtype, dtype) != dtype
    same = jnp.dtype(given.value.dtype).itemsize == dtype.itemsize
    return given.refused_if(wide, EITHER if same or name == "weights" else WRONG)


def _targets_settled(given: Given, output: str) -> Given:
    values = given.meaning
    if values is None:
        return given
    given = given.refused_if(((values < 0) | (values > 1)).any())
    if output == "softmax":
        given = given.refused_if(bool((np.abs(values.sum(axis=0) - 1) > 1e-6).any()), EITHER)
    return given


class Problem(NamedTuple):
    """What a network's function is to compute, once its arguments are known to be right."""

    net: jaxnet.MLP
    params: list
    dtype: np.dtype
    X: np.ndarray
    Y: Any
    weights: Any
    eps: float

    @classmethod
    def of(cls, given: dict[str, Given], net) -> "Problem":
        """The numbers as the computation sees them."""
        params, dtype = given["params"].meaning
        seen = {}
        with np.errstate(all="ignore"):
            for name in ("X", "Y", "weights"):
                values = given[name].meaning if name in given else None
                seen[name] = None if values is None else values.astype(dtype).astype(np.float64)
        coarse = "precision" in given and given["precision"].value == "bfloat16"
        eps = max(float(jnp.finfo(dtype).eps), 2.0**-8 if coarse else 0) * 8
        return cls(net, params, dtype, **seen, eps=eps)

    def run(self) -> reference.Pass:
        """The forward pass."""
        return reference.forward(self.net, self.params, self.X, self.eps)

    def gradients(self, columns=slice(None), mean: bool = True):
        """∂J/∂params and ∂J/∂X, and their errors, of some columns; or of Σ ℓ."""
        part = self._replace(X=self.X[:, columns])
        run, Y = part.run(), self.Y[:, columns]
        w = reference.mean_weights(self.weights, self.X.shape[1]) if mean else 1.0
        dZ = w * reference.output_dZ(self.net, run, Y)
        error = np.abs(w) * (reference.output_error(self.net, run, Y) + self.eps)
        return reference.backward(self.net, self.params, run, dZ, error, self.eps)

    def cost(self) -> tuple[float, float]:
        """J and its error."""
        run = self.run()
        w = reference.mean_weights(self.weights, self.X.shape[1])
        each = reference.losses(self.net, run.Z[-1], run.A[-1], self.Y)
        slope = 2 + np.abs(run.A[-1]) + np.abs(self.Y)
        error = ((run.error[-1] + run.error[-2].sum(axis=0) + self.eps * (1 + np.abs(run.Z[-1]))) * slope).sum(axis=0)
        return (w * each).sum(), (np.abs(w) * (error + self.eps * np.abs(each))).sum()

    @property
    def overflows(self) -> bool:
        """Whether products of this size may leave the dtype's range; then no number is promised."""
        run = self.run()
        sizes = [*run.Z, *(W for W, _ in self.params), *(v for v in (self.Y, self.weights) if v is not None)]
        largest = max(np.max(np.abs(np.nan_to_num(size, nan=0, posinf=np.inf, neginf=-np.inf))) for size in sizes)
        return bool(largest > (float(jnp.finfo(self.dtype).max) / 10) ** 0.5)


def unlike(name, got, want, error, problem: Problem, lenient=None) -> str | None:
    """What is wrong with an array of the answer: a NaN must be one; what may overflow may be anything not finite."""
    want, error = np.asarray(want), np.asarray(error)
    if not isinstance(got, jax.Array) and type(got) is not np.ndarray:
        return f"{name} is a {type(got).__name__}"
    if got.shape != want.shape or got.dtype != problem.dtype:
        return f"{name} is {got.dtype}{list(got.shape)}; expected {problem.dtype}{list(want.shape)}"
    got = np.asarray(got).astype(np.float64)
    lenient = problem.overflows if lenient is None else lenient
    small = float(jnp.finfo(problem.dtype).tiny)
    with np.errstate(all="ignore"):
        close = np.abs(got - want) <= error + problem.eps * np.abs(want) + small
    known = np.isfinite(want) & np.isfinite(error)
    alike = np.where(known, close, np.isnan(got) | ~np.isfinite(error) & ~np.isnan(want))
    if lenient:
        alike |= ~np.isfinite(got) | ~known
    if alike.all():
        return None
    where = tuple(int(i) for i in np.argwhere(~alike)[0])
    return f"{name}{list(where)} is {got[where]:.8g}; expected {want[where]:.8g} within {error[where]:.1e}"


def unlike_layers(name, got, want, errors, problem, lenient=None) -> str | None:
    """The first leaf that is wrong."""
    if not isinstance(got, tuple) or len(got) != len(want) or not all(isinstance(g, jaxnet.Layer) for g in got):
        return f"{name} is a {type(got).__name__}; expected Layers"
    for l, (layer, values, bounds) in enumerate(zip(got, want, errors, strict=True)):
        for leaf, value, error in zip(("W", "b"), values, bounds, strict=True):
            text = unlike(f"{name}[{l}].{leaf}", getattr(layer, leaf), value, error, problem, lenient)
            if text:
                return text
    return None


def network_case(rng, function, names, call, check, often=()) -> Case:
    """A case of a function of (net, params, X, ...)."""
    own = point(rng, pick(rng, NETS), int(rng.choice((1, 3))))
    given = network_arguments(rng, names, own, changed(rng, *names, *often))
    given = settled(given, own.net)

    def judged(answer):
        with np.errstate(all="ignore"):
            return check(answer, Problem.of(given, own.net))

    return Case(function, given, call, judged, usual(own, names))


def usual(own: Point, names) -> dict[str, Any]:
    """The right arguments: what a call with wrong ones may follow."""
    own = own._replace(
        params=layers(_cast(own.params, np.float32)),
        **{name: getattr(own, name).astype(np.float32) for name in ("X", "Y", "weights")},
    )
    return {name: getattr(own, name) for name in names if name in Point._fields and name != "weights"}


# ---- the two passes ----


def _lifted(rng, function):
    """The function as it is; or with params that are traced, as `jax.jit` and `jax.grad` call it."""
    if rng.random() < 0.9:
        return function

    def traced_call(net, params, **others):
        jax.eval_shape(lambda p: function(net, p, **others), params)
        return function(net, params, **others)

    return traced_call


@draws("predict", 12)
def predict(rng) -> Case:
    def check(got, problem):
        run = problem.run()
        return unlike("A", got, run.A[-1], run.error[-1], problem)

    return network_case(rng, "predict", ("net", "params", "X", "precision"), jaxnet.predict, check, ("X",) * 8)


@draws("forward", 7)
def forward(rng) -> Case:
    def check(got, problem):
        (A, cache), run = got, problem.run()
        if len(cache) != len(run.A):
            return f"cache has {len(cache)} layers"
        for l, layer in enumerate(cache):
            text = unlike(f"cache[{l}].A", layer.A, run.A[l], run.error[l], problem)
            if text:
                return text
        return unlike("A", A, run.A[-1], run.error[-1], problem)

    return network_case(rng, "forward", ("net", "params", "X", "precision"), jaxnet.forward, check, ("X",) * 8)


TARGETED = ("net", "params", "X", "Y", "weights", "precision")
OFTEN = ("X", "Y", "weights") * 3


@draws("cost", 8)
def cost(rng) -> Case:
    def check(got, problem):
        return unlike("J", got, *problem.cost(), problem)

    return network_case(rng, "cost", TARGETED, _lifted(rng, jaxnet.cost), check, OFTEN)


@draws("value_and_grad", 7)
def value_and_grad(rng) -> Case:
    def check(got, problem):
        J, grads = got
        want, errors = problem.gradients()
        return unlike("J", J, *problem.cost(), problem) or unlike_layers(
            "grads", grads, want.params, errors.params, problem
        )

    return network_case(rng, "value_and_grad", TARGETED, _lifted(rng, jaxnet.value_and_grad), check, OFTEN)


@draws("backward", 6)
def backward(rng) -> Case:
    names = ("net", "params", "cache", "dZ", "precision")
    own = point(rng, pick(rng, NETS), int(rng.choice((1, 3))))
    change = changed(rng, *names, "dZ", "cache")
    given = network_arguments(rng, ("net", "params", "precision"), own, change - {"cache", "dZ"})
    _, cache = jaxnet.forward(own.net, layers(_cast(own.params, np.float32)), jnp.asarray(own.X, jnp.float32))
    dZ = rng.normal(size=(own.net.sizes[-1], own.X.shape[1]))
    given["cache"] = _cache_like(rng, cache) if "cache" in change else fine(cache, "forward's")
    given["dZ"] = plain(rng, dZ)
    if "dZ" in change:
        odd = in_range(array_like(rng, dZ), np.float32)
        odd = odd.refused_if(odd.meaning is not None and odd.meaning.shape != dZ.shape)
        usual_array = isinstance(odd.value, np.ndarray | jax.Array) and odd.value.dtype == np.float32
        given["dZ"] = odd.refused_if(not usual_array, EITHER)
    if given["params"].meaning is not None and given["params"].meaning.dtype != np.float32:
        given["params"] = given["params"].refused_if(True, EITHER)  # another dtype than the cache's

    def check(got, _):
        problem = Problem.of(given | {"X": Given(None, FINE, "", own.X)}, own.net)
        grads, dX = got
        run = problem.run()
        want, errors = reference.backward(
            own.net, problem.params, run, given["dZ"].meaning, problem.eps * np.abs(given["dZ"].meaning), problem.eps
        )
        return unlike_layers("grads", grads, want.params, errors.params, problem) or unlike(
            "dX", dX, want.dX, errors.dX, problem
        )

    given = {name: given[name] for name in names}
    usual_ones = usual(own, ("net", "params")) | {"cache": cache, "dZ": dZ.astype(np.float32)}
    return Case("backward", given, jaxnet.backward, lambda got: check(got, None), usual_ones)


def _cache_like(rng, cache) -> Given:
    other = {
        "a layer less": cache[:-1],
        "a layer more": (*cache, cache[-1]),
        "reversed": cache[::-1] if len(cache) > 1 else (),
        "pairs of arrays": tuple(tuple(layer) for layer in cache),
        "as a list": list(cache),
        "numpy": tuple(jaxnet.mlp.LayerCache(*map(np.asarray, layer)) for layer in cache),
        "lists": tuple(jaxnet.mlp.LayerCache(*(np.asarray(a).tolist() for a in layer)) for layer in cache),
        "one None": (cache[0]._replace(Z=None), *cache[1:]),
        "one array": cache[-1].A,
        "another m": tuple(jaxnet.mlp.LayerCache(*(jnp.ones((a.shape[0], 2)) for a in layer)) for layer in cache),
        "one flat": (*cache[:-1], cache[-1]._replace(A=cache[-1].A.ravel())),
        "of text": ("a",) * len(cache),
        "of numbers": (1.0,) * len(cache),
        "half": tuple(jaxnet.mlp.LayerCache(*(a.astype(jnp.float16) for a in layer)) for layer in cache),
    }
    name = pick(rng, [*other, "junk"])
    if name == "junk":
        return junk(rng)
    undecided = name in ("pairs of arrays", "as a list", "numpy", "lists", "half")
    return Given(other[name], EITHER if undecided else WRONG, name, cache)


# ---- gradients of single examples ----

ROWS = ("net", "params", "X", "Y", "precision")


@draws("per_example_grads", 6)
def per_example_grads(rng) -> Case:
    def check(got, problem):
        each = [problem.gradients([i], mean=False) for i in range(problem.X.shape[1])]
        want, errors = (
            [
                tuple(map(np.stack, zip(*leaves, strict=True)))
                for leaves in zip(*(e[k].params for e in each), strict=True)
            ]
            for k in (0, 1)
        )
        return unlike_layers("grads", got, want, errors, problem)

    return network_case(rng, "per_example_grads", ROWS, jaxnet.per_example_grads, check, ("X", "Y") * 3)


def _norm(gradients) -> float:
    return float(np.sqrt(sum((leaf**2).sum() for layer in gradients.params for leaf in layer)))


@draws("per_example_norms", 6)
def per_example_norms(rng) -> Case:
    def check(got, problem):
        each = [problem.gradients([i], mean=False) for i in range(problem.X.shape[1])]
        want, errors = (np.array([_norm(e[k]) for e in each]) for k in (0, 1))
        return unlike("norms", got, want, errors, problem)

    return network_case(rng, "per_example_norms", ROWS, jaxnet.per_example_norms, check, ("X", "Y") * 3)


@draws("clipped_grads", 6)
def clipped_grads(rng) -> Case:
    names = (*ROWS, "max_norm", "key", "noise_multiplier")
    own = point(rng, pick(rng, NETS), int(rng.choice((1, 3))))
    change = changed(rng, *names, *("X", "Y", "max_norm", "noise_multiplier") * 2)
    given = settled(network_arguments(rng, ROWS, own, change & set(ROWS)), own.net)
    given["max_norm"] = fine(0.5)
    if "max_norm" in change:
        right = (1, 2.5, np.float32(0.5), jnp.float32(2), np.array(3), 1e-3)
        given["max_norm"] = setting(rng, right, (0, -1.0, "1", np.array([1.0, 2.0])), leave_out=POSITIVE)
    given["noise_multiplier"] = fine(0.0)
    if "noise_multiplier" in change:
        wrong = (-1.0, float("nan"), "0", np.array([0.0, 0.0]))
        given["noise_multiplier"] = setting(rng, (0, 0.5, np.float32(1)), wrong, leave_out=(*POSITIVE, "0"))
    noise = given["noise_multiplier"].value if given["noise_multiplier"].status == FINE else 0
    given["key"] = fine(jax.random.key(0), "a key") if noise or rng.random() < 0.3 else fine(None)
    if "key" in change:
        given["key"] = junk(rng, "a key")
        if given["key"].value is None:
            given["key"] = given["key"]._replace(status=WRONG if noise else FINE)
        elif not noise:
            given["key"] = given["key"]._replace(status=EITHER)

    def check(got):
        with np.errstate(all="ignore"):
            problem, C = Problem.of(given, own.net), float(given["max_norm"].value)
            total, errors = None, None
            for i in range(problem.X.shape[1]):
                grads, off = problem.gradients([i], mean=False)
                norm, norm_off = _norm(grads), _norm(off)
                c = min(1.0, C / norm) if norm else 1.0
                own_errors = [
                    tuple(
                        c * o + c * np.abs(g) * min(1, norm_off / norm if norm else 0)
                        for g, o in zip(gs, os, strict=True)
                    )
                    for gs, os in zip(grads.params, off.params, strict=True)
                ]
                clipped = [tuple(c * g for g in layer) for layer in grads.params]
                total = clipped if total is None else _sum(total, clipped)
                errors = own_errors if errors is None else _sum(errors, own_errors)
            if noise:
                errors = [tuple(o + 8 * C * float(noise) for o in layer) for layer in errors]
            return unlike_layers("grads", got, total, errors, problem)

    usual_ones = usual(own, ROWS) | {"max_norm": 0.5}
    return Case("clipped_grads", given, jaxnet.clipped_grads, check, usual_ones)


POSITIVE = ("3", "2.5", "10**30", "float32 0-d", "jax 0-d")  # junk elsewhere, but a number above 0


def _sum(first, second) -> list:
    return [tuple(a + b for a, b in zip(*pair, strict=True)) for pair in zip(first, second, strict=True)]


# ---- a step ----


@draws("train_step", 6)
def train_step(rng) -> Case:
    own = point(rng, pick(rng, NETS), int(rng.choice((1, 3))))
    data = ("params", "X", "Y", "weights")
    names = ("net", "optimizer", "gradient", "precision", "metrics", "state", *data)
    change = changed(rng, *names, *data * 2, "state")
    given = network_arguments(rng, ("net", *data, "precision"), own, change & {"net", "precision", *data})
    given = settled(given, own.net)
    given["optimizer"] = optimizers(rng) if "optimizer" in change else fine(SGD, "sgd")
    given["gradient"] = setting(rng, ("autodiff",), ("auto", "Manual")) if "gradient" in change else fine("manual")
    given["metrics"] = metrics_like(rng, own.net) if "metrics" in change else fine(None)
    params, key = given.pop("params"), jax.random.key(0)
    state = jaxnet.TrainState(params.value, (optax.EmptyState(), optax.EmptyState()), jnp.int32(0), key)
    given["state|params"] = params._replace(value=state)
    if "state" in change:
        adam = optax.adam(0.1).init(layers(_cast(own.params, np.float32)))
        others = {
            "adam's state": (state._replace(opt_state=adam), WRONG),
            "a tuple": (tuple(state), WRONG),
            "params": (layers(_cast(own.params, np.float32)), WRONG),
            "no opt_state": (state._replace(opt_state=None), WRONG),
            "step as int": (state._replace(step=0), EITHER),
            "no key": (state._replace(key=None), EITHER),
        }
        name = pick(rng, [*others, "junk"])
        value, status = others.get(name, (None, WRONG))
        odd = junk(rng) if name == "junk" else Given(value, status, name)
        given.pop("state|params")
        given["state|opt_state|optimizer|params"] = params._replace(value=odd.value, note=odd.note).refused_if(
            True, odd.status
        )

    def call(net, optimizer, gradient, precision, metrics, X, Y, weights, **state):
        step = jaxnet.train_step(net, optimizer, gradient, precision, metrics)
        return step(*state.values(), X, Y, weights)

    def check(got):
        with np.errstate(all="ignore"):
            problem = Problem.of(given | {"params": params}, own.net)
            want, errors = problem.gradients()
            new, measured = got
            J, J_error = problem.cost()
            counts = problem.weights is None or problem.weights.sum() > 0
            finite = bool(measured["finite"])
            steps = RATE * (finite and counts)  # else the state comes back unchanged
            params_wanted = [
                tuple(v - steps * g if steps else v for v, g in zip(*pair, strict=True))
                for pair in zip(problem.params, want.params, strict=True)
            ]
            off = [
                tuple(steps * o + problem.eps * np.abs(v) if steps else 0 * v for v, o in zip(*pair, strict=True))
                for pair in zip(problem.params, errors.params, strict=True)
            ]
            all_known = np.isfinite(J) and all(np.isfinite(g).all() for layer in want.params for g in layer)
            if finite != all_known and not problem.overflows:
                return f"finite is {finite}"
            text = "cost" in measured and unlike("cost", measured["cost"], J, J_error, problem)
            return text or unlike_layers("params", new.params, params_wanted, off, problem)

    return Case("train_step", given, call, check, {})


def metrics_like(rng, net) -> Given:
    """Names of metrics, or what is none."""
    right = (("cost",), ["cost", "gradient_norm"], (), {"cost"})
    wrong = ("cost", ("nope",), ("cost", 3), *(() if net.is_classifier else (("accuracy",),)))
    return setting(rng, right, wrong, leave_out=("None", "[]", "()", "{}"))


def optimizers(rng) -> Given:
    """What is no optimizer of optax."""
    return setting(rng, (), (0.1, "adam", optax.sgd, (SGD,)), leave_out=())


# ---- labels and accuracy ----


@draws("one_hot", 10)
def one_hot(rng) -> Case:
    change = changed(rng, *("labels",) * 4, "n_classes", "n_classes", "dtype")
    n, labels = int(rng.integers(1, 5)), None
    labels = rng.integers(n, size=3)
    given = {"labels": Given(labels, FINE, "int64", labels), "n_classes": fine(n), "dtype": fine(np.float32, "float32")}
    if "labels" in change:
        odd = array_like(rng, labels.astype(float), "int64", (*INTEGERS * 2, *DTYPES))
        if rng.random() < 0.1:
            odd = Given(range(n), FINE, "range", np.arange(n))
        odd = odd._replace(on_host=True)
        if odd.meaning is not None:
            dtype = (
                getattr(odd.value, "dtype", None) or np.asarray(odd.value).dtype
                if odd.status != WRONG
                else np.dtype(int)
            )
            odd = odd.refused_if(not _is_integer(dtype) or odd.meaning.ndim != 1)
            odd = odd.refused_if(((odd.meaning < 0) | (odd.meaning >= n)).any())
            odd = odd.refused_if(odd.meaning.size == 0, EITHER)
        given["labels"] = odd
    if "n_classes" in change:
        right, either = (np.int64(n), n + 1, np.uint8(n)), (jnp.int32(n), np.array(n))
        wrong = (float(n), 10**11, 2**31, 2**62, -n, str(n), [n])
        given["n_classes"] = setting(rng, right, wrong, either, leave_out=("3", "jax 0-d", "float32 0-d"))
        if given["labels"].status == WRONG and given["n_classes"].status == FINE:
            given["n_classes"] = given["n_classes"]._replace(status=EITHER)  # the label may fit it
            given["labels"] = given["labels"]._replace(status=WRONG if given["labels"].meaning is None else EITHER)
    if "dtype" in change:
        right, either = ("float16", jnp.bfloat16, int, np.dtype("int8")), (float, np.float64, bool, complex, None)
        given["dtype"] = setting(
            rng, right, ("foo", object, str, "U3", "datetime64[s]"), either, leave_out=("None", "'a'")
        )

    def check(got):
        rows = int(given["n_classes"].value)
        want = (np.arange(rows)[:, None] == given["labels"].meaning[None, :]).astype(float)
        if (
            not isinstance(got, jax.Array)
            or got.shape != want.shape
            or not (np.asarray(got).astype(float) == want).all()
        ):
            return f"got {got}"
        right = given["dtype"].status == EITHER or got.dtype == jax.dtypes.canonicalize_dtype(given["dtype"].value)
        return None if right else f"dtype {got.dtype}"

    return Case("one_hot", given, jaxnet.one_hot, check, {"labels": labels, "n_classes": n})


def _is_integer(dtype) -> bool:
    return dtype != bool and jnp.issubdtype(dtype, jnp.integer)


@draws("accuracy", 10)
def accuracy(rng) -> Case:
    n_y, m = pick(rng, ((1, 1), (1, 3), (2, 3), (3, 3), (2, 1)))
    A = rng.random((n_y, m))
    Y = (
        np.eye(n_y)[:, rng.integers(n_y, size=m)]
        if n_y > 1 and rng.random() < 0.5
        else rng.integers(2, size=(n_y, m)) + 0.0
    )
    weights = rng.uniform(0.2, 2, m)
    change = changed(rng, "A", "Y", "weights")
    given = {
        "A": array_like(rng, A) if "A" in change else plain(rng, A),
        "Y": array_like(rng, Y) if "Y" in change else plain(rng, Y),
        "weights": _weights_like(rng, weights) if "weights" in change else _no_weights(rng, weights),
    }
    for name in ("Y", "weights"):
        given[name] = in_range(given[name]._replace(on_host=True), np.float64)
    values = {name: each.meaning for name, each in given.items()}
    if values["A"] is not None:
        fits = values["A"].ndim == 2 and values["A"].size > 0
        given["A"] = given["A"].refused_if(not fits).refused_if(not np.isfinite(values["A"]).all(), FINE)
    if values["Y"] is not None:
        same = values["A"] is None or values["A"].shape == values["Y"].shape
        given["Y"] = given["Y"].refused_if(not same or values["Y"].ndim != 2 or values["Y"].size == 0)
        given["Y"] = given["Y"].refused_if(((values["Y"] < 0) | (values["Y"] > 1)).any())
        given["A"] = given["A"].refused_if(not same, EITHER)
    if values["weights"] is not None:
        w = values["weights"]
        columns = values["A"].shape[-1:] if values["A"] is not None else (m,)
        given["weights"] = given["weights"].refused_if(w.shape != columns or (w < 0).any() or not w.any())
        with np.errstate(over="ignore"):  # beyond float32 their ratios may or may not be kept
            given["weights"] = given["weights"].refused_if(not np.isfinite(w.astype(np.float32)).all(), EITHER)
            given["weights"] = given["weights"].refused_if(not w.astype(np.float32).any(), EITHER)

    def check(got):
        if not isinstance(got, jax.Array) or got.shape != ():
            return f"got {got!r}"
        w = values["weights"]
        with np.errstate(all="ignore"):
            wants = reference.accuracies(values["A"], values["Y"], None if w is None else w / w.max())
        narrow = [
            np.dtype(getattr(g.value, "dtype", np.float32)).itemsize < 4
            for g in given.values()
            if g.meaning is not None
        ]
        near = [abs(float(got) - want) < (1e-2 if any(narrow) else 1e-5) for want in wants]
        return None if any(near) else f"{float(got):.6g}; expected {' or '.join(f'{want:.6g}' for want in wants)}"

    return Case("accuracy", given, jaxnet.accuracy, check, {"A": A.astype(np.float32), "Y": Y.astype(np.float32)})

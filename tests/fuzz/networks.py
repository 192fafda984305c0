"""Networks, their params and data as somebody may give them, and the answers that are right."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from tests.fuzz import reference
from tests.fuzz.arguments import EITHER, FINE, WRONG, Given, Setting, changed, fine, junk, pick
from tests.fuzz.arrays import array_like, in_range, plain, sums_too_high
from tests.fuzz.cases import Case

NETS = {  # widths are shared, for XLA compiles every shape anew
    "logistic": jaxnet.MLP((3, 1), ("sigmoid",)),
    "softmax": jaxnet.MLP((3, 4, 2), ("tanh", "softmax")),
    "labels": jaxnet.MLP((3, 4, 2), ("gelu", "sigmoid")),
    "price": jaxnet.MLP((3, 4, 1), ("relu", "identity")),
    "deep": jaxnet.MLP((3, 4, 4, 2), ("silu", "softplus", "softmax")),
    "squared": jaxnet.MLP((3, 4, 2), ("leaky_relu", "sigmoid"), "squared_error"),
    "square": jaxnet.MLP((3, 3), ("tanh",)),
}
FEW = ("logistic", "softmax", "price")  # for what compiles whole networks
FLOAT32 = np.dtype(np.float32)
PRECISION = Setting(right=("bfloat16",), wrong=("float64", "highest", "Float32"))

# ---- points: arguments that are right ----


class Point(NamedTuple):
    """A network with numbers for all that its functions take, in float64."""

    net: jaxnet.MLP
    params: list
    X: np.ndarray
    Y: np.ndarray
    weights: np.ndarray

    def usual(self, given: dict[str, Given]) -> dict[str, Any]:
        """What is given in place of these, as most people give it; without weights where there are none."""
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("X", "Y", "weights")}
        values = {"net": self.net, "params": layers(cast(self.params, np.float32)), **arrays}
        if "weights" in given and given["weights"].value is None:
            del values["weights"]
        return {name: value for name, value in values.items() if name in given}


def point(rng, name: str, m: int, several_classes: bool = False) -> Point:
    """Params with biases that are not 0, X, targets that fit the loss, and weights."""
    net = NETS[name]
    n_y = net.sizes[-1]
    params = [(rng.normal(size=(n, n_prev)), rng.normal(size=(n, 1))) for n_prev, n in pairwise(net.sizes)]
    classes = max(2, n_y)
    labels = rng.permutation(np.arange(m) % classes) if several_classes else rng.integers(classes, size=m)
    if net.loss == "squared_error":
        Y = rng.normal(size=(n_y, m))
    elif net.activations[-1] == "softmax":
        Y = np.eye(n_y)[:, labels]
    else:
        Y = labels[None] + 0.0 if n_y == 1 else rng.integers(2, size=(n_y, m)) + 0.0
    return Point(net, params, 1.5 * rng.normal(size=(net.sizes[0], m)), Y, rng.uniform(0.2, 2, m))


def cast(params, dtype) -> list:
    """(W, b) of every layer in that dtype."""
    return [(W.astype(dtype), b.astype(dtype)) for W, b in params]


def layers(params, leaf: Callable = np.asarray) -> tuple:
    """Params as jaxnet has them, each leaf made by a function of the array."""
    return tuple(jaxnet.Layer(leaf(W), leaf(b)) for W, b in params)


# ---- params ----


class Meant(NamedTuple):
    """What params mean."""

    params: list
    dtype: np.dtype


def with_first_W(params, leaf: Callable) -> tuple:
    """The params with another first W."""
    first, *others = layers(params)
    return (first._replace(W=leaf(first.W)), *others)


def _each(leaf: Callable) -> Callable:
    return partial(layers, leaf=leaf)


def _one(leaf: Callable) -> Callable:
    return partial(with_first_W, leaf=leaf)


def _with_nan(a, leaf: Callable):
    a = a.copy()
    a[0, 0] = np.nan
    return leaf(a)


TAKEN = {
    "numpy": layers,
    "jax": _each(jnp.asarray),
    "Fortran": _each(np.asfortranarray),
    "read-only": _each(lambda a: np.broadcast_to(a, a.shape)),
    "negative strides": _each(lambda a: np.ascontiguousarray(a[::-1])[::-1]),
    "jax, nan": _one(lambda a: _with_nan(a, jnp.asarray)),
}
NARROW = {"float16": np.float16, "bfloat16": jnp.bfloat16}
DOUBTFUL = {
    "float64": _each(lambda a: a.astype(np.float64)),  # JAX rounds it where its 64-bit is off
    "matrix": _each(np.matrix),
    "masked, no entry": _each(np.ma.masked_array),
    "big-endian": _each(lambda a: a.astype(">f4")),
    "nan": _one(lambda a: _with_nan(a, np.asarray)),
}
NOT_TAKEN = {
    "integers": _each(lambda a: a.astype(np.int32)),
    "booleans": _each(lambda a: a > 0),
    "complex": _each(lambda a: a.astype(np.complex64)),
    "longdouble": _each(lambda a: a.astype(np.longdouble)),
    "objects": _each(lambda a: a.astype(object)),
    "text": _each(lambda a: a.astype(str)),
    "lists": _each(lambda a: a.tolist()),
    "masked": _each(lambda a: np.ma.masked_array(a, a > a.min())),
    "memoryviews": _each(memoryview),
    "one float16": _one(lambda a: a.astype(np.float16)),
    "one None": _one(lambda a: None),
    "one transposed": _one(lambda a: a.T if a.shape[0] != a.shape[1] else a[:, :0]),
    "one in three dimensions": _one(lambda a: a[None]),
    "b flat": lambda params: tuple(jaxnet.Layer(W, b.ravel()) for W, b in params),
    "a list": lambda params: list(layers(params)),
    "dicts": lambda params: tuple({"W": W, "b": b} for W, b in params),
    "pairs": lambda params: tuple((W, b) for W, b in params),
    "a layer less": lambda params: layers(params)[:-1],
    "a layer more": lambda params: (*layers(params), layers(params)[-1]),
    "the first layer": lambda params: layers(params)[0],
}


def params_like(rng, params) -> Given:
    """Params as somebody may give them."""
    if rng.random() < 0.15:
        return junk(rng)
    name = pick(rng, [*TAKEN, *NARROW, *DOUBTFUL, *NOT_TAKEN])
    dtype = np.dtype(NARROW.get(name, np.float32))
    params = cast(params, dtype)
    value = (NOT_TAKEN | TAKEN | DOUBTFUL).get(name, layers)(params)
    if name in NOT_TAKEN:
        return Given(value, WRONG, name)
    meaning = [tuple(map(np.asarray, layer)) for layer in value] if "nan" in name else params
    return Given(value, EITHER if name in DOUBTFUL else FINE, name, Meant(cast(meaning, np.float64), dtype))


def plain_params(rng, params) -> Given:
    """Params as NumPy or JAX arrays in float32."""
    params, name = cast(params, np.float32), pick(rng, ("numpy", "jax"))
    return Given(TAKEN[name](params), FINE, name, Meant(cast(params, np.float64), FLOAT32))


# ---- the arguments that a network's functions share ----


def network_arguments(rng, names, own: Point, change: set[str]) -> dict[str, Given]:
    """Those of (net, params, X, Y, weights, precision) that are named; those to `change` not as usual."""
    usual = {
        "net": lambda: fine(own.net, f"{own.net.activations} {own.net.loss}"),
        "params": lambda: plain_params(rng, own.params),
        "X": lambda: plain(rng, own.X),
        "Y": lambda: plain(rng, own.Y),
        "weights": lambda: usual_weights(rng, own.weights),
        "precision": lambda: fine("float32"),
    }
    unusual = {
        "net": lambda: junk(rng),
        "params": lambda: params_like(rng, own.params),
        "X": lambda: array_like(rng, own.X),
        "Y": lambda: array_like(rng, own.Y),
        "weights": lambda: weights_like(rng, own.weights),
        "precision": lambda: PRECISION.drawn(rng),
    }
    return {name: (unusual if name in change else usual)[name]() for name in names}


def usual_weights(rng, weights) -> Given:
    """None, or a plain array."""
    return fine(None) if rng.random() < 0.5 else plain(rng, weights)


def weights_like(rng, weights) -> Given:
    """Weights as somebody may give them; None is right."""
    given = array_like(rng, weights)
    return given._replace(status=FINE) if given.value is None else given


def settled(given: dict[str, Given], net, dtype=None, fewest: int = 1) -> dict[str, Given]:
    """The arguments, those refused that do not fit each other, or have less than the fewest examples.

    With a dtype they are those of training, where JAX arrays are read as well.
    """
    trains = dtype is not None
    if not trains:
        meant = given["params"].meaning
        dtype = FLOAT32 if meant is None else meant.dtype
    arrays = {name: each._replace(on_host=trains or each.on_host) for name, each in given.items() if name in DATA}
    for name, each in arrays.items():  # training scales weights by the largest before they are cast
        arrays[name] = in_range(_not_narrowed(each, name, dtype), np.float64 if trains and name == "weights" else dtype)
    m = None
    for name, rows in (("X", net.sizes[0]), ("Y", net.sizes[-1])):
        values = arrays[name].meaning if name in arrays else None
        if values is None:
            continue
        enough = values.ndim == 2 and values.shape[0] == rows and values.shape[1] >= fewest
        fits = enough and m in (None, values.shape[1])
        arrays[name] = arrays[name].refused_if(not fits)
        m = values.shape[1] if fits and m is None else m
    if "Y" in arrays and net.loss == "cross_entropy":
        arrays["Y"] = _class_targets(arrays["Y"], net.activations[-1])
    if "weights" in arrays:
        arrays["weights"] = _example_weights(arrays["weights"], m, dtype, trains)
    return given | arrays


DATA = ("X", "Y", "weights")


def _not_narrowed(given: Given, name: str, dtype) -> Given:
    """JAX arrays are widened to the params' dtype; one of a wider dtype is refused."""
    if given.meaning is None or given.on_host:
        return given
    wide = jnp.promote_types(given.value.dtype, dtype) != dtype
    as_wide = given.value.dtype.itemsize == dtype.itemsize
    return given.refused_if(wide, EITHER if as_wide or name == "weights" else WRONG)


def _class_targets(given: Given, output: str) -> Given:
    """Those outside [0, 1] are refused where they are read; columns that do not sum to 1 may be."""
    if given.meaning is None or not given.on_host:
        return given
    given = given.refused_if(((given.meaning < 0) | (given.meaning > 1)).any())
    sums = given.meaning.sum(axis=0)
    return given.refused_if(output == "softmax" and (np.abs(sums - 1) > 1e-6).any(), EITHER)


def _example_weights(given: Given, m, dtype, trains: bool) -> Given:
    """Those below 0 are refused where they are read, and in training those that are all 0."""
    if given.meaning is None:
        return given
    given = given.refused_if(given.meaning.shape != (m,))
    if not given.on_host:
        return given
    given = given.refused_if((given.meaning < 0).any())
    if trains:
        return given.refused_if(not given.meaning.any())._replace(meaning=given.meaning / given.meaning.max(initial=0))
    vanish = not given.meaning.astype(dtype).any()
    return given.refused_if(vanish or sums_too_high(given.meaning, dtype), EITHER)


# ---- what is right ----


def leafwise(function: Callable, *trees) -> list:
    """The function of the W of each layer, and of the b."""
    return [tuple(map(function, *each)) for each in zip(*trees, strict=True)]


class Problem(NamedTuple):
    """The numbers that a computation sees, once its arguments are taken."""

    net: jaxnet.MLP
    params: list
    dtype: np.dtype
    X: np.ndarray
    Y: Any
    weights: Any
    eps: float  # some roundings of the dtype

    @classmethod
    def of(cls, given: dict[str, Given], net) -> "Problem":
        """The arguments in the params' dtype."""
        params, dtype = given["params"].meaning
        seen = {}
        for name in DATA:
            values = given[name].meaning if name in given else None
            seen[name] = None if values is None else values.astype(dtype).astype(np.float64)
        rounded = "precision" in given and given["precision"].value == "bfloat16"
        eps = max(float(jnp.finfo(dtype).eps), 2.0**-8 if rounded else 0)
        return cls(net, params, dtype, **seen, eps=8 * eps)

    def run(self) -> reference.Pass:
        """The forward pass."""
        return reference.forward(self.net, self.params, self.X, self.eps)

    def cost(self) -> tuple[float, float]:
        """J and its error."""
        run, w = self.run(), reference.mean_weights(self.weights, self.X.shape[1])
        each, errors = reference.losses(self.net, run, self.Y, self.eps)
        return (w * each).sum(), (np.abs(w) * errors).sum()

    def gradients(self) -> tuple[reference.Gradients, reference.Gradients]:
        """∂J/∂params and ∂J/∂X, and their errors."""
        return self._gradients(self.X, self.Y, reference.mean_weights(self.weights, self.X.shape[1]))

    def of_each_example(self) -> list[tuple[reference.Gradients, reference.Gradients]]:
        """The gradients of ℓ of one example after the other, and their errors."""
        return [self._gradients(self.X[:, [i]], self.Y[:, [i]], 1.0) for i in range(self.X.shape[1])]

    def _gradients(self, X, Y, w):
        run = reference.forward(self.net, self.params, X, self.eps)
        dZ, error = w * reference.output_dZ(self.net, run, Y), np.abs(w) * reference.output_error(self.net, run, Y)
        return reference.backward(self.net, self.params, run, dZ, error + self.eps * np.abs(w), self.eps)

    def step(self, rate: float) -> tuple[list, list]:
        """The params after a step of gradient descent, and their errors."""
        grads, errors = self.gradients()
        after = leafwise(lambda v, g: v - rate * g, self.params, grads.params)
        return after, leafwise(lambda v, e: self.eps * np.abs(v) + rate * e, self.params, errors.params)

    @property
    def overflows(self) -> bool:
        """Whether products of such numbers may leave the dtype's range; then they need not be finite."""
        sizes = [*self.run().Z, *(W for W, _ in self.params), *(v for v in (self.Y, self.weights) if v is not None)]
        largest = max(np.max(np.abs(size), initial=0, where=~np.isnan(size)) for size in sizes)
        return bool(largest > (float(jnp.finfo(self.dtype).max) / 10) ** 0.5)


LIMITS = {  # the finite ones that an activation has where Z overflows
    "sigmoid": (0, 1), "softmax": (0, 1), "tanh": (-1, 1), "relu": (0,), "softplus": (0,), "gelu": (0,), "silu": (0,),
}  # fmt: skip


def unlike(name: str, got, want, error, problem: Problem, activation: str = "identity") -> str | None:
    """What is wrong with an array of the answer: a NaN must be one; what may overflow need not be finite.

    activation: whose A it is; where its Z may have overflowed, it may be at the limit.
    """
    want, error = np.asarray(want), np.asarray(error)
    if not isinstance(got, jax.Array) and type(got) is not np.ndarray:
        return f"{name} is a {type(got).__name__}"
    if got.shape != want.shape or got.dtype != problem.dtype:
        return f"{name} is {got.dtype}{list(got.shape)}; expected {problem.dtype}{list(want.shape)}"
    got = np.asarray(got).astype(np.float64)
    known = np.isfinite(want) & np.isfinite(error)
    close = np.abs(got - want) <= error + problem.eps * np.abs(want) + float(jnp.finfo(problem.dtype).tiny)
    alike = np.where(known, close, np.isnan(got) | ~np.isnan(want))
    if problem.overflows:
        alike |= ~np.isfinite(got) | ~known | np.isin(got, LIMITS.get(activation, ()))
    if alike.all():
        return None
    where = tuple(int(i) for i in np.argwhere(~alike)[0])
    return f"{name}{list(where)} is {got[where]:.8g}; expected {want[where]:.8g} within {error[where]:.1e}"


def unlike_layers(name: str, got, want, errors, problem: Problem) -> str | None:
    """What is wrong with the first leaf that is wrong."""
    if not isinstance(got, tuple) or [type(layer) for layer in got] != [jaxnet.Layer] * len(want):
        return f"{name} is {got}; expected Layers"
    for l, (layer, values, bounds) in enumerate(zip(got, want, errors, strict=True)):
        for leaf, *numbers in zip(("W", "b"), values, bounds, strict=True):
            text = unlike(f"{name}[{l}].{leaf}", getattr(layer, leaf), *numbers, problem)
            if text:
                return text
    return None


def network_case(rng, function: str, names, call, complaint, often=(), own: Point | None = None) -> Case:
    """A case of a function of (net, params, X, ...), whose answer is judged beside the problem it solves."""
    own = own or point(rng, pick(rng, NETS), int(rng.choice((1, 3))))
    given = settled(network_arguments(rng, names, own, changed(rng, *names, *often)), own.net)
    return Case(function, given, call, lambda answer: complaint(answer, Problem.of(given, own.net)), own.usual(given))

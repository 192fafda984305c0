"""Cases of predict, apply, forward, cost, value_and_grad and backward."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from jaxnet.mlp import LayerCache
from tests.fuzz import reference
from tests.fuzz.arguments import EITHER, WRONG, Given, changed, fine, junk, pick
from tests.fuzz.arrays import array_like, in_range, plain
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import (
    FLOAT32,
    NETS,
    Problem,
    network_arguments,
    network_case,
    point,
    unlike,
    unlike_layers,
)

WITHOUT_TARGETS = ("net", "params", "X", "precision")
WITH_TARGETS = ("net", "params", "X", "Y", "weights", "precision")


def sometimes_traced(rng, function):
    """The function; or that and before it a call with params that are traced, as `jax.grad` calls it."""
    if rng.random() < 0.9:
        return function

    def traced_too(net, params, **others):
        if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params)):
            jax.eval_shape(lambda p: function(net, p, **others), params)
        return function(net, params, **others)

    return traced_too


@draws("predict", 12)
def predict(rng) -> Case:
    def complaint(A, problem):
        run = problem.run()
        return unlike("A", A, run.A[-1], run.error[-1], problem, problem.net.activations[-1])

    return network_case(rng, "predict", WITHOUT_TARGETS, jaxnet.predict, complaint, ("X",) * 8)


@draws("apply", 3)
def apply(rng) -> Case:
    def complaint(A, problem):
        run = problem.run()
        return unlike("A", A, run.A[-1], run.error[-1], problem, problem.net.activations[-1])

    def applied(net, params, X, precision="float32"):
        return jaxnet.apply(net, precision)(params, X)

    call = sometimes_traced(rng, applied)
    return network_case(rng, "apply", WITHOUT_TARGETS, call, complaint, ("X",) * 2)


@draws("forward", 7)
def forward(rng) -> Case:
    def complaint(answer, problem):
        (A, cache), run = answer, problem.run()
        if [type(layer) for layer in cache] != [LayerCache] * len(run.A):
            return f"cache is {cache}"
        arrays = [(f"cache[{l}].A", layer.A) for l, layer in enumerate(cache)] + [("A", A)]
        wanted = [*zip(run.A, run.error, strict=True), (run.A[-1], run.error[-1])]
        names = ["identity", *problem.net.activations, problem.net.activations[-1]]
        each = zip(arrays, wanted, names, strict=True)
        texts = (unlike(*array, *want, problem, name) for array, want, name in each)
        return next(filter(None, texts), None)

    return network_case(rng, "forward", WITHOUT_TARGETS, sometimes_traced(rng, jaxnet.forward), complaint, ("X",) * 8)


@draws("cost", 8)
def cost(rng) -> Case:
    def complaint(J, problem):
        return unlike("J", J, *problem.cost(), problem)

    call = sometimes_traced(rng, jaxnet.cost)
    return network_case(rng, "cost", WITH_TARGETS, call, complaint, ("X", "Y", "weights") * 3)


@draws("value_and_grad", 7)
def value_and_grad(rng) -> Case:
    def complaint(answer, problem):
        (J, grads), (want, errors) = answer, problem.gradients()
        text = unlike("J", J, *problem.cost(), problem)
        return text or unlike_layers("grads", grads, want.params, errors.params, problem)

    call = sometimes_traced(rng, jaxnet.value_and_grad)
    return network_case(rng, "value_and_grad", WITH_TARGETS, call, complaint, ("X", "Y", "weights") * 3)


@draws("backward", 6)
def backward(rng) -> Case:
    own = point(rng, pick(rng, NETS), int(rng.choice((1, 3))))
    change = changed(rng, "net", "params", "cache", "dZ", "precision", "dZ", "cache")
    run = reference.forward(own.net, own.params, own.X, 8 * float(jnp.finfo(FLOAT32).eps))
    cache = tuple(LayerCache(*(jnp.asarray(a, jnp.float32) for a in pair)) for pair in zip(run.Z, run.A, strict=True))
    dZ = rng.normal(size=(own.net.sizes[-1], own.X.shape[1]))
    given = network_arguments(rng, ("net", "params", "precision"), own, change)
    narrow = given["params"].meaning is not None and given["params"].meaning.dtype != FLOAT32
    given["params"] = given["params"].refused_if(narrow, EITHER)  # the cache is float32
    caches = cache_like(rng, cache) if "cache" in change else {"cache": fine(cache, "forward's")}
    given |= caches | {"dZ": dZ_like(rng, dZ) if "dZ" in change else plain(rng, dZ)}

    def call(net, params, dZ, precision, **cache):
        return jaxnet.backward(net, params, *cache.values(), dZ, precision)

    def complaint(answer):
        grads, dX = answer
        numbers = given["dZ"].meaning
        problem = Problem.of(given | {"X": fine(own.X)}, own.net)._replace(Y=numbers)  # which may overflow
        if narrow:  # the result may have the one dtype or the other
            problem = problem._replace(dtype=dX.dtype)
        error = run.error[-1].max() * np.ones_like(numbers)
        want, errors = reference.backward(own.net, problem.params, run, numbers, error, problem.eps)
        text = unlike_layers("grads", grads, want.params, errors.params, problem)
        return text or unlike("dX", dX, want.X, errors.X, problem)

    usual = own.usual(given) | {"cache": cache, "dZ": dZ.astype(np.float32), "precision": "float32"}
    return Case("backward", given, call, complaint, usual)


def dZ_like(rng, dZ) -> Given:
    """An upstream gradient as somebody may give it: what is no plain float32 array may be refused."""
    given = in_range(array_like(rng, dZ), FLOAT32)
    if given.meaning is None:
        return given
    as_usual = isinstance(given.value, np.ndarray | jax.Array) and given.value.dtype == FLOAT32
    return given.refused_if(given.meaning.shape != dZ.shape).refused_if(not as_usual, EITHER)


def cache_like(rng, cache) -> dict[str, Given]:
    """A cache that is forward's in another form, or is none."""
    each = lambda leaf: tuple(LayerCache(leaf(layer.Z), leaf(layer.A)) for layer in cache)
    undecided = {
        "pairs": tuple(map(tuple, cache)),
        "a list": list(cache),
        "numpy": each(np.asarray),
        "lists": each(lambda a: np.asarray(a).tolist()),
    }
    wrong = {
        "a layer less": cache[:-1],
        "a layer more": (*cache, cache[-1]),
        "one None": (cache[0]._replace(Z=None), *cache[1:]),
        "one array": cache[-1].A,
        "one flat": (*cache[:-1], cache[-1]._replace(A=cache[-1].A.ravel())),
        "text": ("a",) * len(cache),
        "numbers": (1.0,) * len(cache),
        "another m": each(lambda a: jnp.ones((a.shape[0], 2))),
    }
    name = pick(rng, [*undecided, *wrong, "junk", "junk"])
    if name == "junk":
        return {"cache": junk(rng)}
    given = Given((undecided | wrong)[name], WRONG if name in wrong else EITHER, name, cache)
    return {"cache|dZ" if name == "another m" else "cache": given}

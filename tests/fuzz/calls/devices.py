"""Cases of jaxnet.parallel, on a mesh of two devices."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnet
from tests.fuzz.arguments import EITHER, FINE, WRONG, Given, Setting, changed, fine, junk
from tests.fuzz.arrays import array_like, plain
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import NETS


@draws("parallel.device", 1)
def device(rng) -> Case:
    given = Setting(("cpu",), ("gpu", "tpu", "cuda", "CPU", 0, ["cpu"]), optional=True).drawn(rng)

    def complaint(found):
        return (
            None
            if (found is None) is (given.value is None) and (found or jax.devices()[0]).platform == "cpu"
            else f"got {found}"
        )

    return Case(
        "parallel.device", {"device|name": given}, lambda **name: jaxnet.parallel.device(*name.values()), complaint
    )


@draws("parallel.mesh", 1)
def mesh(rng) -> Case:
    numbers = Setting((1, 2, np.int64(2)), (0, -1, 9, 1.5, "2", [1]), (jnp.int32(1),), ("3", "jax 0-d"), optional=True)
    given = numbers.drawn(rng)

    def complaint(found):
        return None if found.size == (given.value or len(jax.devices())) else f"got {found}"

    return Case("parallel.mesh", {"data": given}, jaxnet.parallel.mesh, complaint)


def of_layout(rng, function, ends) -> Case:
    """A case of a function of a net, a mesh and the name of a layout."""
    change = changed(rng, "net", "mesh", "name")
    name = Setting(("data", "fsdp"), ("tensor", "zero", "Data", 0, ["fsdp"]))  # two devices along data, one along model
    given = {
        "net": junk(rng) if "net" in change else fine(NETS["softmax"]),
        "mesh": mesh_like(rng) if "mesh" in change else two_devices(),
        "name": name.drawn(rng) if "name" in change else fine("fsdp"),
    }

    def complaint(found):
        rows = [ends(layer.W)[0] for layer in found]
        expected = ["data" if given["name"].value == "fsdp" else None] * 2
        return None if rows == expected else f"got {found}"

    return Case(f"parallel.{function.__name__}", given, function, complaint)


@draws("parallel.layout", 1)
def layout(rng) -> Case:
    return of_layout(rng, jaxnet.parallel.layout, tuple)


@draws("parallel.shardings", 1)
def shardings(rng) -> Case:
    return of_layout(rng, jaxnet.parallel.shardings, lambda sharding: tuple(sharding.spec))


def moved_to(rng, function, kind) -> Case:
    """A case of a function that takes any tree: what lies on a mesh then lies on one with axes of that kind."""
    X = jax.device_put(rng.normal(size=(3, 4)).astype(np.float32), jaxnet.parallel.columns(two_devices().value))
    given = fine({"X": X, "other": "text"}, "a tree") if rng.random() < 0.5 else two_devices()

    def complaint(found):
        mesh = found["X"].sharding.mesh if isinstance(found, dict) else found
        same = not isinstance(found, dict) or (np.array_equal(found["X"], X) and found["other"] == "text")
        return None if same and set(mesh.axis_types) == {kind} else f"got {found}"

    return Case(f"parallel.{function.__name__}", {"tree": given}, function, complaint)


@draws("parallel.typed", 1)
def typed(rng) -> Case:
    return moved_to(rng, jaxnet.parallel.typed, AxisType.Explicit)


@draws("parallel.ordinary", 1)
def ordinary(rng) -> Case:
    return moved_to(rng, jaxnet.parallel.ordinary, AxisType.Auto)


@cache
def two_devices() -> Given:
    """The mesh of all cases."""
    return Given(jaxnet.parallel.mesh(2), FINE, "a mesh")


def mesh_like(rng, optional: bool = False) -> Given:
    """A mesh, or what is none."""
    if rng.random() < 0.3:
        return two_devices()
    return Setting(wrong=(jax.devices(), two_devices().value.devices, "data"), optional=optional).drawn(rng)


@draws("parallel.columns", 1)
def columns(rng) -> Case:
    complaint = lambda layout: None if tuple(layout.spec) == (None, "data") else f"got {layout}"
    return Case("parallel.columns", {"mesh": mesh_like(rng)}, jaxnet.parallel.columns, complaint)


@draws("parallel.replicated", 1)
def replicated(rng) -> Case:
    complaint = lambda layout: None if layout.is_fully_replicated else f"got {layout}"
    return Case("parallel.replicated", {"mesh": mesh_like(rng)}, jaxnet.parallel.replicated, complaint)


@draws("parallel.check_mesh", 1)
def check_mesh(rng) -> Case:
    complaint = lambda nothing: None if nothing is None else f"got {nothing}"
    return Case("parallel.check_mesh", {"mesh": mesh_like(rng)}, jaxnet.parallel.check_mesh, complaint)


@draws("parallel.vector", 1)
def vector(rng) -> Case:
    complaint = lambda layout: None if layout.spec == P("data") else f"got {layout}"
    return Case("parallel.vector", {"mesh": mesh_like(rng)}, jaxnet.parallel.vector, complaint)


@draws("parallel.split_columns", 2)
def split_columns(rng) -> Case:
    values, change = rng.normal(size=(3, 4)), changed(rng, "X", "mesh")
    given = {
        "X": array_like(rng, values) if "X" in change else plain(rng, values),
        "mesh": mesh_like(rng, optional=True) if "mesh" in change else two_devices(),
    }
    X = given["X"]
    if isinstance(X.value, np.ndarray | jax.Array) and jnp.issubdtype(X.value.dtype, jnp.complexfloating):
        X = given["X"] = fine(X.value, X.note).refused_if(True, EITHER)  # a layout is a layout
        X = given["X"] = X.refused_if(X.value.ndim != 2 or X.value.shape[1] % 2 == 1)
    elif X.meaning is not None:  # what is no plain array may be refused
        as_usual = isinstance(X.value, jax.Array) and X.meaning.ndim == 2
        undivided = X.meaning.ndim == 2 and X.meaning.shape[1] % 2 == 1
        given["X"] = X.refused_if(undivided).refused_if(not as_usual, EITHER)
    if given["mesh"].value is None:  # X stays as it is
        given["X"] = given["X"]._replace(status=FINE if X.status == FINE else EITHER)

    def complaint(got):
        if given["mesh"].value is None:
            return None if got is given["X"].value else f"got {got}"
        got = np.asarray(got)
        want = X.meaning.astype(got.dtype)  # JAX rounds where its 64-bit is off
        alike = (got == want) | (got != got) & (want != want)
        outside = X.of_integers and np.abs(X.meaning).max(initial=0) >= 2**31  # and integers wrap around
        return None if alike.all() or outside else f"got {got}; expected {want}"

    return Case("parallel.split_columns", given, jaxnet.parallel.split_columns, complaint)


@draws("parallel.padding", 2)
def padding(rng) -> Case:
    change = changed(rng, "m", "mesh")
    counts = Setting((5, np.int64(4)), (-1, 2.5, "3", [3]), (0, jnp.int32(3)), ("0", "10**30", "jax 0-d", "3"))
    given = {
        "m": counts.drawn(rng) if "m" in change else fine(3),
        "mesh": mesh_like(rng, optional=True) if "mesh" in change else two_devices(),
    }
    if given["mesh"].value is None and given["m"].status == WRONG:  # nothing is lacking, whatever m is
        given["m"] = given["m"]._replace(status=EITHER)

    def complaint(lacking):
        want = 0 if given["mesh"].value is None else given["m"].value % 2
        return None if lacking == want else f"got {lacking}; expected {want}"

    return Case("parallel.padding", given, jaxnet.parallel.padding, complaint)

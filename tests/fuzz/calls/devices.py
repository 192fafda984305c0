"""Cases of jaxnet.parallel, on a mesh of two devices."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from tests.fuzz.arguments import FINE, Given, Setting, changed, fine, junk
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import NETS


@draws("parallel.mesh", 1)
def mesh(rng) -> Case:
    numbers = Setting((1, 2, np.int64(2)), (0, -1, 9, 1.5, "2", [1]), (jnp.int32(1),), ("3", "jax 0-d"), optional=True)
    given = numbers.drawn(rng)

    def complaint(found):
        return None if found.size == (given.value or len(jax.devices())) else f"got {found}"

    return Case("parallel.mesh", {"data": given}, jaxnet.parallel.mesh, complaint)


@draws("parallel.layout", 1)
def layout(rng) -> Case:
    change = changed(rng, "net", "mesh", "name")
    name = Setting(("data", "fsdp"), ("tensor", "zero", "Data", 0, ["fsdp"]))  # two devices along data, one along model
    given = {
        "net": junk(rng) if "net" in change else fine(NETS["softmax"]),
        "mesh": mesh_like(rng) if "mesh" in change else two_devices(),
        "name": name.drawn(rng) if "name" in change else fine("fsdp"),
    }

    def complaint(found):
        rows = [layer.W[0] for layer in found]
        expected = ["data" if given["name"].value == "fsdp" else None] * 2
        return None if rows == expected else f"got {found}"

    return Case("parallel.layout", given, jaxnet.parallel.layout, complaint)


@cache
def two_devices() -> Given:
    """The mesh of all cases."""
    return Given(jaxnet.parallel.mesh(2), FINE, "a mesh")


def mesh_like(rng) -> Given:
    """A mesh, or what is none."""
    if rng.random() < 0.3:
        return two_devices()
    return Setting(wrong=(jax.devices(), two_devices().value.devices, "data")).drawn(rng)

"""Where arrays live: devices by name, meshes, and what every layout has in common.

The examples of a batch, its columns, are split over the mesh's axis "data"; how params are split, layouts.py says.
Mini-batches are drawn from all examples, so every device holds those: split over the devices, each step would gather
its batch across them, one more all-reduce and two all-gathers.

While `fit` computes, the axes of its mesh are explicit: the type of an array tells how it is split, and the products of
a layer read it there. What users get back is on a mesh with the axes that JAX calls Auto.
"""

import collections
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from jaxnet._arguments import choice, count
from jaxnet.parallel.placing import put

DEVICES = ("cpu", "gpu", "tpu")
AXES = ("data", "model")


def device(name: str | None) -> Any:
    """Return this process's first device of that kind, or None for JAX's default; none is an error, never a CPU.

    Raises:
        ValueError: an unknown kind, or one that JAX does not find here.
    """
    if name is None:
        return None
    choice("device", name, DEVICES)
    try:
        return jax.local_devices(backend=name)[0]
    except RuntimeError as error:
        present = sorted({d.platform for d in jax.devices()})
        raise ValueError(
            f"device is {name!r}, but JAX finds only {', '.join(present)}; install the matching extra"
            ' (pip install "jaxnet[cuda13]" or "jaxnet[tpu]") or leave device=None'
        ) from error


def mesh(data: int | None = None, model: int = 1) -> Mesh:
    """Return a mesh of data x model devices, with the axes "data" and "model".

    Examples are split over "data" (None: as many devices as there are for it), the units of layers over "model". Where
    several processes have started, each gives as many of its devices as the others.

    Raises:
        ValueError: there are not so many devices, or model, or the processes, do not divide them; or some process has
            more than another.
    """
    devices = jax.devices()
    model = count("model", model)
    if data is None and len(devices) % model:
        raise ValueError(f"model is {model}, which does not divide the {len(devices)} devices; give data too")
    data = len(devices) // model if data is None else count("data", data)
    if data * model > len(devices):
        asked = f"data is {data}" + (f" and model {model}: {data * model} devices" if model > 1 else "")
        raise ValueError(
            f"{asked}, but JAX finds {len(devices)}; give at most {len(devices)}, or None for all (more on a CPU:"
            f' jax.config.update("jax_num_cpu_devices", {data * model}) before anything is computed)'
        )
    each, rest = divmod(data * model, jax.process_count())
    if rest:
        raise ValueError(
            f"data is {data} and model {model}: {data * model} devices, which {jax.process_count()} processes do not"
            " share alike; give a multiple of that"
        )
    has = collections.Counter(d.process_index for d in devices)
    if len({*has.values()}) > 1:
        raise ValueError(
            f"processes have {', '.join(map(str, has.values()))} devices; expected as many of each: start them alike"
        )
    numbers = collections.Counter()
    chosen = [d for d in devices if (numbers.update([d.process_index]) or numbers[d.process_index]) <= each]
    return jax.make_mesh((data, model), AXES, axis_types=(AxisType.Auto,) * 2, devices=chosen)


def replicated(mesh: Mesh) -> NamedSharding:
    """Where params are under data parallelism, and anything that every device holds whole."""
    return NamedSharding(mesh, P())


def over_all(mesh: Mesh) -> NamedSharding:
    """Where the members of a sweep are: the first axis is split over all devices."""
    return NamedSharding(mesh, P(mesh.axis_names))


def columns(mesh: Mesh) -> NamedSharding:
    """Where X and Y are: examples, the last axis, are split over the devices."""
    return NamedSharding(mesh, P(None, "data"))


def vector(mesh: Mesh) -> NamedSharding:
    """Where example weights are of which each process has a part; whole ones are on every device."""
    return NamedSharding(mesh, P("data"))


def split_columns(X: Float[Array, "n m"], mesh: Mesh | None) -> Float[Array, "n m"]:
    """Inside jit: lay X out over the mesh; m divides by its devices. Without a mesh X stays as it is."""
    if mesh is None:
        return X
    if not (own := jax.typeof(X).sharding.mesh).empty and own.explicit_axes:
        return jax.sharding.reshard(X, NamedSharding(own, P(None, "data")))
    return jax.lax.with_sharding_constraint(X, columns(mesh))


def padding(m: int, mesh: Mesh | None) -> int:
    """How many columns m lacks to be divided over the mesh."""
    return 0 if mesh is None else -m % mesh.shape["data"]


def typed(tree: Any) -> Any:
    """The tree with the split of each array in its type; a mesh with explicit axes for a mesh."""
    return _with_axes(AxisType.Explicit, tree)


def ordinary(tree: Any) -> Any:
    """The tree with arrays that can be indexed and reshaped as always, however they are split."""
    return _with_axes(AxisType.Auto, tree)


def _with_axes(kind: AxisType, tree: Any) -> Any:
    """All arrays on a mesh, or the mesh, on the same devices in a mesh with axes of that kind; nothing is copied."""
    of_kind = lambda mesh: Mesh(mesh.devices, mesh.axis_names, axis_types=(kind,) * len(mesh.axis_names))
    if isinstance(tree, Mesh):
        return of_kind(tree)

    def moved(leaf):
        own = getattr(leaf, "sharding", None)
        return put(leaf, NamedSharding(of_kind(own.mesh), own.spec)) if isinstance(own, NamedSharding) else leaf

    return jax.tree.map(moved, tree)


def check_mesh(mesh: Any) -> None:
    """Refuse what is not a mesh with the axis "data", and at most "model" beside it."""
    if not isinstance(mesh, Mesh) or mesh.axis_names not in (AXES[:1], AXES):
        raise ValueError(
            f"mesh is {mesh!r}; expected one with the axis 'data', or with 'data' and 'model', as"
            " jaxnet.parallel.mesh() makes"
        )
    processes = {device.process_index for device in mesh.devices.flat}
    if processes not in ({jax.process_index()}, set(range(jax.process_count()))):
        raise ValueError(
            f"mesh has devices of process {', '.join(map(str, sorted(processes)))}, and this is process"
            f" {jax.process_index()} of {jax.process_count()}; expected devices of this one alone, or of all"
        )

"""Where arrays live: devices by name, meshes, and the layout of data parallelism.

Every device of the mesh holds all params and its own share of each batch's columns; `jax.jit` then computes the one
gradient of the whole batch, with one all-reduce of the gradient's size. `forward` and `backward` know nothing of it.
Mini-batches are drawn from all examples, so every device holds those too: split over the devices, each step would
gather its batch across them, one more all-reduce and two all-gathers as XLA does it.

Source: the GSPMD partitioner, Xu et al., arXiv 2105.04663.
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from jaxnet import values
from jaxnet._arguments import choice, count, type_name

DEVICES = ("cpu", "gpu", "tpu")


def device(name: str | None) -> Any:
    """Return the first device of that kind, or None for JAX's default; an absent one is an error, never a CPU.

    Raises:
        ValueError: an unknown kind, or one that JAX does not find here.
    """
    if name is None:
        return None
    choice("device", name, DEVICES)
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        present = sorted({d.platform for d in jax.devices()})
        raise ValueError(
            f"device is {name!r}, but JAX finds only {', '.join(present)}; install the matching extra"
            ' (pip install "jaxnet[cuda13]" or "jaxnet[tpu]") or leave device=None'
        ) from error


def mesh(n_devices: int | None = None) -> Mesh:
    """Return a mesh of n devices (None: all of them) along one axis, "data".

    Raises:
        ValueError: n is not from 1 to the number of devices there are.
    """
    devices = jax.devices()
    n = len(devices) if n_devices is None else count("n_devices", n_devices)
    if n > len(devices):
        raise ValueError(
            f"n_devices is {n}, but JAX finds {len(devices)}; give at most {len(devices)}, or None for all (more on a"
            f' CPU: jax.config.update("jax_num_cpu_devices", {n}) before anything is computed)'
        )
    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:n])


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of params, and of anything that every device holds whole."""
    check_mesh(mesh)
    return NamedSharding(mesh, P())


def columns(mesh: Mesh) -> NamedSharding:
    """The layout of X and Y: examples, the last axis, are split over the devices."""
    check_mesh(mesh)
    return NamedSharding(mesh, P(None, "data"))


def split_columns(X: Float[Array, "n m"], mesh: Mesh | None) -> Float[Array, "n m"]:
    """Inside jit: lay X out over the mesh; m divides by its devices. Without a mesh X stays as it is."""
    if mesh is None:
        return X
    if not isinstance(X, jax.Array) or X.ndim != 2 or not values.holds_real_numbers(X):
        of = f" of {X.dtype}{list(X.shape)}" if hasattr(X, "dtype") and hasattr(X, "shape") else ""
        raise TypeError(f"X is {type_name(X)}{of}; expected a JAX array (n, m), such as jnp.asarray(X)")
    if padding(X.shape[1], mesh):
        raise ValueError(f"X has {X.shape[1]} columns; expected a multiple of the mesh's {mesh.size} devices: pad them")
    return jax.lax.with_sharding_constraint(X, columns(mesh))


def padding(m: int, mesh: Mesh | None) -> int:
    """How many columns m lacks to be divided over the mesh."""
    count("m", m, least=0)
    if mesh is None:
        return 0
    check_mesh(mesh)
    return -m % mesh.size


def check_mesh(mesh: Any) -> None:
    """Refuse what is not a mesh with the one axis "data", of the type Auto."""
    if not isinstance(mesh, Mesh) or mesh.axis_names != ("data",):
        raise ValueError(f"mesh is {mesh!r}; expected one with the axis 'data', as jaxnet.parallel.mesh() makes")
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"mesh has axes of type {mesh.axis_types[0]}; expected Auto: jaxnet.parallel.mesh() makes one, and so does "
            "jax.make_mesh with axis_types=(jax.sharding.AxisType.Auto,)"
        )

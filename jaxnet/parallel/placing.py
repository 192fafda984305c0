"""How arrays come to the devices of a mesh, and back to the host, where several processes have them.

What all processes have is placed by each on its own devices; of a batch each may have a part, the columns that go
there.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def put(tree: Any, where: Any) -> Any:
    """Place arrays that are the same in every process; where: a sharding, or a tree of them to a part each."""
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(where)):
        return jax.device_put(tree, where)
    return jax.tree.map(lambda sharding, part: jax.tree.map(lambda x: _put(x, sharding), part), where, tree)


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    """An array on devices of several processes, of which each places what is on its own."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):  # which JAX does not place there
        bits = _put(jax.random.key_data(x), NamedSharding(sharding.mesh, P()))
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(x))
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.device_put(x, sharding)
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def put_parts(tree: Any, where: Any) -> Any:
    """Place arrays of which each process has the columns that go to its own devices."""
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(where)):
        return jax.device_put(tree, where)
    place = lambda sharding, part: jax.tree.map(partial(jax.make_array_from_process_local_data, sharding), part)
    return jax.tree.map(place, where, tree)


@cache  # it is asked for each batch
def part(mesh: Mesh | None) -> tuple[int, int]:
    """Which of how many parts of the columns of a batch are on this process's devices.

    Raises:
        ValueError: processes share some of their rows of the mesh, but not all.
    """
    if mesh is None:
        return 0, 1
    rows: dict[int, set[int]] = {}  # of the mesh, that each process has devices of
    for place, device in np.ndenumerate(mesh.devices):
        rows.setdefault(device.process_index, set()).add(place[0])
    distinct = sorted({tuple(sorted(each)) for each in rows.values()})
    if len({len(each) for each in distinct}) > 1 or sum(map(len, distinct)) != mesh.shape["data"]:
        raise ValueError(
            f"mesh has rows along 'data' that processes share in part ({distinct}); expected whole rows of each,"
            " or whole processes in each row: give a model that divides the devices of a process, or is a multiple"
        )
    return distinct.index(tuple(sorted(rows[jax.process_index()]))), len(distinct)


def padding_of_a_part(m: int, mesh: Mesh) -> int:
    """How many columns the m of each process lack to be divided over its devices."""
    return -m % (mesh.shape["data"] // part(mesh)[1])


def own_columns(argument: str, X: jax.Array) -> np.ndarray:
    """The columns, or examples of a vector, that are on this process's devices, of an array on those of several.

    Raises:
        ValueError: its rows are split too.
    """
    pieces = {shard.index[-1].start or 0: shard.data for shard in X.addressable_shards}
    own = np.concatenate([np.asarray(pieces[start]) for start in sorted(pieces)], axis=-1)
    if own.shape[:-1] != X.shape[:-1]:
        raise ValueError(
            f"{argument} has rows that are split over devices ({X.sharding}); expected columns that are:"
            f" jax.make_array_from_process_local_data(NamedSharding(mesh, P(None, 'data')), {argument})"
        )
    return own


def on_the_host(tree: Any) -> Any:
    """Each array of which other processes have a part as a whole NumPy array, one after the other; all have to ask."""

    def whole(x):
        return np.asarray(jax.device_put(x, NamedSharding(x.sharding.mesh, P()))) if spans_processes(x) else x

    return jax.tree.map(whole, tree)


def spans_processes(x: Any) -> bool:
    """Whether it is an array of which other processes have a part."""
    return isinstance(x, jax.Array) and not x.is_fully_addressable and not x.is_fully_replicated

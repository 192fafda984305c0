"""The products of a layer whose operands are split over the devices of a mesh, as their types say.

Under a mesh with explicit axes the type of an array tells which axes of the mesh split it. Each device multiplies what
it holds, by the plain product, and what has to move follows from one rule. An axis of the mesh that splits W and

    the batch (A_prev's and dZ's columns) too    W is gathered where it is used, and dW scattered (FSDP)
    not the batch                                nothing is gathered; a sum over split units is summed over devices

    Z       = W A_prev       W gathered; summed over the axes that split W's columns
    dA_prev = Wᵀ dZ          Wᵀ gathered; summed over the axes that split W's rows
    dW      = dZ A_prevᵀ     summed over the axes that split the batch, and scattered as W is

Wᵀ is gathered anew, and as another array than W, so that no compiler keeps a whole W from one pass to the other.

Sources: Rajbhandari et al., arXiv 1910.02054 (ZeRO, stage 3); Shoeybi et al., arXiv 1909.08053 (Megatron).
"""

from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

Axes = tuple[str, ...]  # of the mesh, that split one axis of an array


def over_mesh(dot: Any) -> Any:
    """The products `dot`, with what has to move between devices where their operands are split."""

    def nn(W: Float[Array, "n n_prev"], A_prev: Float[Array, "n_prev m"]) -> Float[Array, "n m"]:
        (rows, columns), (_, batch) = split_by(W), split_by(A_prev)
        if not (rows or columns or batch):
            return dot.nn(W, A_prev)

        def local(W, A_prev):
            W = _gathered(dot, W, (rows, columns), batch)
            return _summed(dot.nn(W, A_prev), without(columns, batch))

        out = P(without(rows, batch), batch)
        return _on_each_device(local, out, (W, P(rows, columns)), (A_prev, P(without(columns, batch), batch)))

    def tn(W: Float[Array, "n n_prev"], dZ: Float[Array, "n m"]) -> Float[Array, "n_prev m"]:
        (rows, columns), (_, batch) = split_by(W), split_by(dZ)
        if not (rows or columns or batch):
            return dot.tn(W, dZ)

        def local(W, dZ):
            if set(batch) & {*rows, *columns}:
                W, dZ = jax.lax.optimization_barrier((W, dZ))  # not before dZ is there
                dA_prev = dot.nn(_gathered(dot, W.T, (columns, rows), batch), dZ)
            else:
                dA_prev = dot.tn(W, dZ)
            return _summed(dA_prev, without(rows, batch))

        out = P(without(columns, batch), batch)
        return _on_each_device(local, out, (W, P(rows, columns)), (dZ, P(without(rows, batch), batch)))

    def nt(
        dZ: Float[Array, "n m"], A_prev: Float[Array, "n_prev m"], W: Float[Array, "n n_prev"]
    ) -> Float[Array, "n n_prev"]:
        (rows, columns), (_, batch) = split_by(W), split_by(dZ)
        if not (rows or columns or batch):
            return dot.nt(dZ, A_prev)

        def local(dZ, A_prev):
            dW = dot.nt(dZ, A_prev)
            for dimension, axes in enumerate((rows, columns)):
                if scattered := tuple(axis for axis in axes if axis in batch):
                    dW = jax.lax.psum_scatter(dW, scattered, scatter_dimension=dimension, tiled=True)
            return _summed(dW, without(batch, (*rows, *columns)))

        specs = (P(without(axes, batch), batch) for axes in (rows, columns))
        return _on_each_device(local, P(rows, columns), *zip((dZ, A_prev), specs, strict=True))

    return dot._replace(nn=nn, nt=nt, tn=tn)


def refuse_elsewhere(argument: str, array: Any, other: str, like: Any) -> None:
    """Refuse an array of which it is known where it is, where that is not the mesh over which another is split by type.

    One that JAX may place comes onto the mesh where it is used. It may be whole where the other's columns are split,
    and not the other way round.
    """
    mesh, own = jax.typeof(like).sharding.mesh, jax.typeof(array).sharding.mesh
    if not mesh.explicit_axes:
        if own.explicit_axes:
            refuse_elsewhere(other, like, argument, array)
        return
    if own.empty and not isinstance(array, Tracer) and array.committed:
        where = f"on {', '.join(sorted(map(str, array.devices())))}"
    elif not own.empty and own != mesh:
        where = "on a mesh of its own" if own.explicit_axes else "on a mesh whose axes are Auto"
    else:
        return
    raise ValueError(
        f"{argument} is {where}, and {other} on a mesh with explicit axes, {dict(mesh.shape)}; expected both there:"
        " jax.device_put(array, NamedSharding(mesh, spec)), with P(None, 'data') for X and Y, and the specs of"
        " jaxnet.parallel.layout for params"
    )


def refuse_other_columns(argument: str, array: Any, like: Any) -> None:
    """Refuse a Y or weights whose examples are split by type where X's are not."""
    if more := without(split_by(array)[-1], split_by(like)[-1]):
        raise ValueError(
            f"{argument} has its examples split over {', '.join(map(repr, more))} of the mesh, and X has not; expected"
            " both alike: jax.device_put(X, NamedSharding(mesh, P(None, 'data')))"
        )


def split_alike(new: Any, old: Any) -> Any:
    """The tree with each array split as the one in its place is, as what a loop carries has to be."""

    def moved(leaf, like):
        own, kept = jax.typeof(leaf).sharding, jax.typeof(like).sharding
        return leaf if own.spec == kept.spec or kept.mesh.empty else jax.sharding.reshard(leaf, kept)

    return jax.tree.map(moved, new, old)


def split_by(x: Array) -> tuple[Axes, ...]:
    """For each axis of an array the explicit axes of the mesh that split it."""
    spec = jax.typeof(x).sharding.spec
    entries = (*spec, *[None] * (x.ndim - len(spec)))
    return tuple(entry if isinstance(entry, tuple) else (entry,) if isinstance(entry, str) else () for entry in entries)


def without(axes: Axes, others: Axes) -> Axes:
    """Those that are not among others."""
    return tuple(axis for axis in axes if axis not in others)


def _gathered(dot: Any, W, axes: tuple[Axes, ...], batch: Axes):
    """A part of a W, whole along the axes of the mesh that split the batch; it moves as the products round it."""
    for dimension, splits in enumerate(axes):
        if shared := tuple(axis for axis in splits if axis in batch):
            W = jax.lax.all_gather(dot.rounded(W), shared, axis=dimension, tiled=True)
    return W


def _summed(x, axes: Axes):
    return jax.lax.psum(x, axes) if axes else x


def _on_each_device(local, out: P, *operands):
    """local of the parts of arrays that a device holds when they are split as the specs beside them say."""
    arrays, specs = zip(*operands, strict=True)
    kinds = [jax.typeof(array).sharding for array in arrays]
    mesh = next(kind.mesh for kind in kinds if kind.mesh.explicit_axes)

    def run(*arrays):
        parts = (
            jax.sharding.reshard(array, NamedSharding(mesh, spec)) for array, spec in zip(arrays, specs, strict=True)
        )
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=out)(*parts)

    if any(kind.mesh.empty for kind in kinds):  # which comes onto the mesh with a program, and is an error without
        run = jax.jit(run, inline=True)
    return run(*arrays)

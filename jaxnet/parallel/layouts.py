"""How params are split over a mesh: by the shapes of a network, never by names.

| layout        | W of layers 1, 3, ...     | W of layers 2, 4, ...     | a device holds            |
|---------------|---------------------------|---------------------------|---------------------------|
| "data"        | whole                     | whole                     | all params                |
| "fsdp"        | rows over data            | rows over data            | 1/data of them            |
| "tensor"      | rows over model           | columns over model        | 1/model                   |
| "fsdp+tensor" | rows over model, columns  | columns over model, rows  | 1/(data model)            |
|               | over data                 | over data                 |                           |

The examples of a batch are split over data in all of them. b is split as its layer's units are by "tensor", and whole
otherwise. Where an axis does not divide the rows of a W, "fsdp" takes the columns; where it divides neither, that W is
whole. What then moves between devices is in _xla/split.py.

Sources: Rajbhandari et al., arXiv 1910.02054 (ZeRO); Shoeybi et al., arXiv 1909.08053 (Megatron).
"""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnet import checks
from jaxnet._arguments import choice
from jaxnet.mlp import MLP, Layer
from jaxnet.parallel.meshes import check_mesh

LAYOUTS = ("data", "fsdp", "tensor", "fsdp+tensor")


def layout(net: MLP, mesh: Mesh, name: str = "data") -> Any:
    """Return a tree like the params, with the PartitionSpec of each.

    Raises:
        ValueError: an unknown layout, one that needs an axis "model" of more than one device, or not a mesh.
        TypeError: net is not an MLP.
    """
    checks.mlp(net)
    check_layout("name", name, mesh)
    parts, sizes = name.split("+"), dict(mesh.shape)
    return tuple(_of_layer(l, net.sizes[l], net.sizes[l - 1], parts, sizes) for l in range(1, len(net.sizes)))


def check_layout(argument: str, name: Any, mesh: Mesh) -> None:
    """Refuse what is not a mesh, an unknown layout, or one that needs an axis "model" of more than one device."""
    check_mesh(mesh)
    choice(argument, name, LAYOUTS)
    if "tensor" in name and mesh.shape.get("model", 1) == 1:
        raise ValueError(
            f"{argument} is {name!r}, but the mesh has one device along 'model'; expected more, as mesh(model=2) has"
        )


def shardings(net: MLP, mesh: Mesh, name: str) -> Any:
    """Return a tree like the params, with where each belongs. Raises as `layout` does."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), layout(net, mesh, name))


def places(tree: Any, params: Any, where: Any, mesh: Mesh) -> Any:
    """Where each array of a tree belongs: what is kept beside the params, such as moments, lies as they do.

    That is what ends in a param's path and has its shape; all else is whole on every device.
    """
    own = jax.tree_util.tree_leaves_with_path(params)
    known = {jax.tree_util.keystr(path): leaf.shape for path, leaf in own}
    known = {path: (shape, at) for (path, shape), at in zip(known.items(), jax.tree.leaves(where), strict=True)}

    def place(path, leaf):
        name = jax.tree_util.keystr(path)
        found = (at for end, (shape, at) in known.items() if name.endswith(end) and leaf.shape == shape)
        return next(found, NamedSharding(mesh, P()))

    return jax.tree_util.tree_map_with_path(place, tree)


def _of_layer(l: int, n: int, n_prev: int, parts: list[str], sizes: dict[str, int]) -> Layer:
    """The specs of layer l."""
    lengths: tuple[int, int] = (n, n_prev)
    split: list[str | None] = [None, None]  # of W
    if "tensor" in parts:
        axis = 0 if l % 2 else 1
        split[axis] = "model" if lengths[axis] % sizes["model"] == 0 else None
    b = P(split[0], None)
    if "fsdp" in parts:
        free = [axis for axis in (0, 1) if split[axis] is None and lengths[axis] % sizes["data"] == 0]
        if free:
            split[free[0]] = "data"
    specs: Any = (P(*split), b)
    return Layer(*specs)

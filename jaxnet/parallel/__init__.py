"""Several devices, in one process or in many: `mesh`, `layout` and `start`; all else here is jaxnet's own."""

from jaxnet.parallel.layouts import layout
from jaxnet.parallel.meshes import mesh
from jaxnet.parallel.processes import start

__all__ = ["layout", "mesh", "start"]


def __dir__() -> list[str]:
    """The public names."""
    return __all__

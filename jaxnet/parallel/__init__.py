"""Several devices: meshes and layouts."""

from jaxnet.parallel.mesh import check_mesh as check_mesh
from jaxnet.parallel.mesh import columns as columns
from jaxnet.parallel.mesh import device as device
from jaxnet.parallel.mesh import mesh as mesh
from jaxnet.parallel.mesh import padding as padding
from jaxnet.parallel.mesh import replicated as replicated
from jaxnet.parallel.mesh import split_columns as split_columns

"""Several devices, in one process or in many: meshes and layouts."""

from jaxnet.parallel.layout import LAYOUTS as LAYOUTS
from jaxnet.parallel.layout import layout as layout
from jaxnet.parallel.layout import shardings as shardings
from jaxnet.parallel.mesh import check_mesh as check_mesh
from jaxnet.parallel.mesh import columns as columns
from jaxnet.parallel.mesh import device as device
from jaxnet.parallel.mesh import mesh as mesh
from jaxnet.parallel.mesh import ordinary as ordinary
from jaxnet.parallel.mesh import padding as padding
from jaxnet.parallel.mesh import replicated as replicated
from jaxnet.parallel.mesh import split_columns as split_columns
from jaxnet.parallel.mesh import typed as typed
from jaxnet.parallel.mesh import vector as vector
from jaxnet.parallel.processes import ALONE as ALONE
from jaxnet.parallel.processes import OtherProcessError as OtherProcessError
from jaxnet.parallel.processes import Team as Team
from jaxnet.parallel.processes import start as start

"""Pictures of a training, of what a network says and of the network itself, by matplotlib (the extra "plots").

    from jaxnet import plot
    plot.history(result)

Each function draws on the matplotlib Axes that it is given, or on those of a new figure, and returns them: titles,
labels and limits may be set afterwards. matplotlib is imported where something is drawn.
"""

from jaxnet.plot.graph import computation_graph
from jaxnet.plot.predictions import confusion, decision_boundary
from jaxnet.plot.training import history
from jaxnet.plot.units import network

__all__ = ["computation_graph", "confusion", "decision_boundary", "history", "network"]


def __dir__() -> list[str]:
    """The public names."""
    return __all__

"""Training: from one step to many networks."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what __getattr__ gives
    from jaxnet.train import checkpoint


__all__ = ["checkpoint"]

if not TYPE_CHECKING:  # a type checker that saw it would take any name

    def __getattr__(name: str) -> Any:
        """`jaxnet.train.checkpoint`, the only module here that is public, imported on first use."""
        if name == "checkpoint":
            return importlib.import_module("jaxnet.train.checkpoint")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return __all__

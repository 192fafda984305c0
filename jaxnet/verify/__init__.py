"""Is this hand-written gradient right, and if not, where and why?

    report = check_gradients(loss, grad_fn, params, *args)   # raises GradientMismatch with the table when it is wrong
    report = check_vjp(f, *primals)                          # the rule of a custom_vjp or custom_jvp

Knows pytrees and functions only, and imports nothing else of jaxnet. Read check.py first.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ gives
    from jaxnet.verify.check import check_gradients
    from jaxnet.verify.report import GradientMismatch, LeafReport, Report, TreeMismatch
    from jaxnet.verify.vjp import check_vjp

_HOMES = {
    "check_gradients": "check",
    "check_vjp": "vjp",
    "GradientMismatch": "report",
    "LeafReport": "report",
    "Report": "report",
    "TreeMismatch": "report",
}
__all__ = ["GradientMismatch", "LeafReport", "Report", "TreeMismatch", "check_gradients", "check_vjp"]


def __getattr__(name: str):
    """The public names, imported on first use: the pytest plugin lives here and must not load the verifier."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)

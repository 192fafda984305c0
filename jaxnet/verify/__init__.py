"""Is this hand-written gradient right, and if not, where and why?

    report = check_gradients(loss, grad_fn, params, *args)   # raises GradientMismatch with the table when it is wrong
    report = check_vjp(f, *primals)                          # the rule of a custom_vjp or custom_jvp

The algorithm, stage by stage (pipeline.py), each frozen and made from those to its left:

    Problem     the loss is traced and read again without the user's custom rules: J is never compared with itself
    Evidence    r = ∇J in float64 and, leaf by leaf, what a right gradient may lose:
                noise = max(‖a − r‖, ‖a(inputs × (1 ± u)) − a(inputs)‖, u ‖r‖), a autodiff in the leaf's own dtype
    Judgement   score = ‖g − r‖ / noise: 8 warns, 16 fails. Where it fails, or noise may hide something, one question:
                is the formula F behind g the gradient almost everywhere: F(p') = ∇J(p') in float64, p' generic near p?
                No: wrong, whatever noise or ties hide. Yes: what differs at p is rounding, or a convention at a tie,
                to be found among the gradients beside it (Clarke). Without a formula the numbers have to be a mixture
                of those; without a trace slopes of the loss judge, with Richardson's errors
    Diagnosis   causes from one table, each confirmed by a test of its own, and the layer where the error starts
    Report      PASS, FAIL or INCONCLUSIVE (nothing was proved), with the smallest error that would have been seen

Knows pytrees and functions only, and imports nothing else of jaxnet.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ gives
    from jaxnet.verify.api import check_gradients, check_vjp
    from jaxnet.verify.report import GradientInconclusive, GradientMismatch, LeafReport, Report, TreeMismatch

_HOMES = {
    "check_gradients": "api",
    "check_vjp": "api",
    "GradientInconclusive": "report",
    "GradientMismatch": "report",
    "LeafReport": "report",
    "Report": "report",
    "TreeMismatch": "report",
}
__all__ = [
    "GradientInconclusive",
    "GradientMismatch",
    "LeafReport",
    "Report",
    "TreeMismatch",
    "check_gradients",
    "check_vjp",
]

if not TYPE_CHECKING:  # a type checker that saw it would take any name

    def __getattr__(name: str):
        """The public names, imported on first use: the pytest plugin lives here and must not load the verifier."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)

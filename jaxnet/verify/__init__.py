"""Is this hand-written gradient right, and if not, where and why?

    report = check_gradients(loss, grad_fn, params, *args)   # raises GradientMismatch with the table when it is wrong
    report = check_vjp(f, *primals)                          # the rule of a custom_vjp or custom_jvp

Knows pytrees and functions only, and imports nothing else of jaxnet. Read check.py first.
"""

from jaxnet.verify.check import check_gradients, check_vjp
from jaxnet.verify.report import GradientMismatch, LeafReport, Report

__all__ = ["GradientMismatch", "LeafReport", "Report", "check_gradients", "check_vjp"]

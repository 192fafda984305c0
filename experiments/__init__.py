"""Scripts, one per claim: they import jaxnet and are never imported by it."""

import sys

from experiments.runner import program

if sys.argv[:1] == ["-m"]:  # python -m experiments..., which is about to import JAX
    program.end_at_once_on_interrupt()

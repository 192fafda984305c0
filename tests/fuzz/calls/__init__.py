"""One module for each part of the library; importing them enters their functions in `cases.DRAWN`."""

from tests.fuzz.calls import (
    callbacks,
    construction,
    devices,
    files,
    labels,
    passes,
    single_examples,
    training,
    verifier,
)

__all__ = [
    "callbacks",
    "construction",
    "devices",
    "files",
    "labels",
    "passes",
    "single_examples",
    "training",
    "verifier",
]

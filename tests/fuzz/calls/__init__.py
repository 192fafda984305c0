"""One module for each part of the library; importing them enters their functions in `cases.DRAWN`."""

from tests.fuzz.calls import construction, devices, files, labels, passes, single_examples, training, verifier

__all__ = ["construction", "devices", "files", "labels", "passes", "single_examples", "training", "verifier"]

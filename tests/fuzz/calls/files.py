"""Cases of save and load."""

import os
import tempfile
from pathlib import Path

import numpy as np

import jaxnet
from tests.fuzz.arguments import changed, fine, junk, pick
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import NETS, network_arguments, point, settled

FILE = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.safetensors"
TEXTS = ("'a'", "b'a'")  # a file of that name may be there


@draws("save", 2)
def save(rng) -> Case:
    own = point(rng, pick(rng, NETS), 1)
    change = changed(rng, "path", "net", *("params",) * 4)
    given = settled(network_arguments(rng, ("net", "params"), own, change), own.net)
    given["path"] = junk(rng, *TEXTS) if "path" in change else fine(FILE, "a file")

    def saved_and_loaded(path, net, params):
        try:
            jaxnet.save(path, net, params)
            return jaxnet.load(path)
        finally:
            FILE.unlink(missing_ok=True)

    def complaint(loaded):
        net, params = loaded
        want, dtype = given["params"].meaning
        alike = all(
            leaf.dtype == dtype and np.array_equal(np.asarray(leaf, float), values, equal_nan=True)
            for layer, own_layer in zip(params, want, strict=True)
            for leaf, values in zip(layer, own_layer, strict=True)
        )
        return None if net == own.net and alike else f"got {loaded}"

    return Case("save", given, saved_and_loaded, complaint)


@draws("load", 1)
def load(rng) -> Case:
    return Case("load", {"path": junk(rng, *TEXTS)}, jaxnet.load, lambda loaded: f"got {loaded}")

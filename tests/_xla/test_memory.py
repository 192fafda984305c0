"""Out of memory is an error with sizes; any other of JAX's stays what it is."""

import jax
import numpy as np
import pytest

from jaxnet._xla import memory


@pytest.mark.parametrize("words", ["RESOURCE_EXHAUSTED: Out of memory", "INTERNAL: Error dispatching: Out of memory"])
def test_out_of_memory_says_what_is_needed(words):
    needs = lambda: "4 TB for the params"
    with pytest.raises(MemoryError, match="out of memory: 4 TB for the params") as caught, memory.out_of_memory(needs):
        raise jax.errors.JaxRuntimeError(words)
    assert isinstance(caught.value.__cause__, jax.errors.JaxRuntimeError)


def test_other_errors_stay():
    with pytest.raises(jax.errors.JaxRuntimeError, match="UNIMPLEMENTED"), memory.out_of_memory(lambda: "nothing"):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no such operation")


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (4_000, "4 kB"), (12_300_000, "12.3 MB"), (2 * 10**9, "2 GB"), (4 * 10**12, "4 TB")],
)
def test_bytes_in_words(count, words):
    assert memory.in_units(count) == words


def test_size_of_a_tree():
    assert memory.size({"a": np.ones((2, 3), np.float32), "b": jax.ShapeDtypeStruct((10,), np.float64)}) == "104 B"

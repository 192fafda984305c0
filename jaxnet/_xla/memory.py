"""Out of memory: an error with sizes instead of JAX's own.

A buffer whose allocation failed is never ready, and reading one hangs or aborts the process: block on what a program
has made before it is read.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax


@contextlib.contextmanager
def out_of_memory(needs: Callable[[], str]) -> Iterator[None]:
    """Raise MemoryError, with what `needs` says, where a device has not enough memory for the block."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory")):
            raise
        raise MemoryError(f"out of memory: {needs()}") from error


def size(arrays) -> str:
    """The bytes of a tree of arrays or shapes, such as "1.6 GB"."""
    return in_units(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(arrays)))


def in_units(count: int) -> str:
    """A number of bytes in the largest unit of which there is at least one."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"

"""Small programs on a CPU: a loop of many short steps as one piece of machine code.

XLA runs a compiled program operation by operation, and starting one takes longer than the arithmetic of a small
network's step, which has about forty. A call that carries the attribute "xla_cpu_small_call" is emitted as one function
instead, as XLA itself does with loops over a few bytes; its products must not be handed to a library or to threads. It
runs on one core, so larger networks lose by it: `fits` draws the line.

The plain form is the fallback: a program that XLA cannot emit so, now or in another version, is compiled as usual; and
where JAX looks for NaN, for it runs a program that returns one again without its options, and XLA then aborts.
"""

import itertools
from collections.abc import Callable, Sequence

import jax

from jaxnet._xla.compile import checks_numbers
from jaxnet._xla.matmul import SMALL_PRODUCT

try:
    from jax.experimental.xla_metadata import set_xla_metadata
    from jax.extend.core import jaxpr_as_fun
except ImportError:  # moved in another JAX: small programs are then compiled as usual
    set_xla_metadata = jaxpr_as_fun = None

OPTIONS = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION",  # no products, that is
}
WORK = 100_000  # multiply-adds of a step's forward pass, up to which a single call was faster
EXAMPLES = 20_000  # in memory; XLA distributes larger operations, such as their permutation, over threads
SIDE = 128  # of a product; XLA's own code for longer ones, entry by entry, is far slower than a library's


def fits(platform: str, sizes: Sequence[int], m: int, batch_size: int | None) -> bool:
    """Whether training a network on m examples there is faster as a single call: measured, see the benchmarks."""
    examples = batch_size or m
    layers = list(itertools.pairwise(sizes))
    work = examples * sum(n * n_prev for n_prev, n in layers)
    sides_fit = all(n * n_prev <= SMALL_PRODUCT or max(n, n_prev, examples) <= SIDE for n_prev, n in layers)
    possible = platform == "cpu" and set_xla_metadata is not None and not checks_numbers()
    return possible and m <= EXAMPLES and work <= WORK and sides_fit


def single_call(function: Callable) -> Callable:
    """The function as one call that the compiler keeps together; to be traced by a jit with `OPTIONS`."""
    if set_xla_metadata is None or jaxpr_as_fun is None:
        return function
    with_metadata, as_function = set_xla_metadata, jaxpr_as_fun

    def call(*arguments):
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        whole = jax.jit(as_function(traced))
        with with_metadata(xla_cpu_small_call="true", inlineable="false"):
            leaves = whole(*jax.tree.leaves(arguments))  # what was traced before carries no attributes: it is fused
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return call

"""Small programs on a CPU: a loop of many short steps as one piece of machine code.

XLA runs a compiled program operation by operation, and starting one costs 0.1 to 0.3 µs. A step of a small network has
about forty, more than its arithmetic. A call that carries the attribute "xla_cpu_small_call" is emitted as one function
instead, as XLA itself does with loops over a few bytes; its products must not be handed to a library or to threads.

What it buys, on two cores with AVX-512: a step of 2-8-2 (batch of 4) took 0.34 µs instead of 2.7, one of 8-16-4 (batch
of 8) 0.65 instead of 3.9, one of 64-32-10 (batch of 32) 6 instead of 13. It runs on one core, so larger networks lose.

The plain form stays the fallback: a program that XLA cannot emit so, now or in another version, is compiled as usual.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import jaxpr_as_fun

from jaxnet._xla.matmul import FEW

OPTIONS = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION",  # no products, that is
}
WORK = 100_000  # multiply-adds of a step's forward pass, up to which one kernel was faster
EXAMPLES = 20_000  # in memory; XLA shares out larger operations, such as their shuffle, among threads
SIDE = 128  # of a product; XLA's own code for longer ones, entry by entry, is 30 times slower than a library's


def is_small(sizes: Sequence[int], m: int, batch_size: int | None) -> bool:
    """Whether training a network on m examples is better off in one kernel: measured, see the benchmarks."""
    examples = batch_size or m
    layers = list(itertools.pairwise(sizes))
    work = examples * sum(n * n_prev for n_prev, n in layers)
    sides_fit = all(n * n_prev <= FEW or max(n, n_prev, examples) <= SIDE for n_prev, n in layers)
    return m <= EXAMPLES and work <= WORK and sides_fit


def one_kernel(function: Callable) -> Callable:
    """The function as one call that the compiler keeps together; to be traced by a jit with `OPTIONS`."""

    def marked(*arguments):
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        whole = jax.jit(jaxpr_as_fun(traced))
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            leaves = whole(*jax.tree.leaves(arguments))  # what was traced before carries no attributes: it is fused
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return marked


def where_possible(small: Callable, plain: Callable) -> Callable:
    """`small`, or `plain` with the same arguments if the compiler refuses that; asked once for each first argument.

    Two jitted functions; the first argument is static.
    """
    refused = set()

    def either(first, *others):
        if first not in refused:
            try:
                return small(first, *others)
            except jax.errors.JaxRuntimeError:
                if any(x.is_deleted() for x in jax.tree.leaves(others) if isinstance(x, jax.Array)):
                    raise  # it ran: no refusal
                refused.add(first)
        return plain(first, *others)

    return either

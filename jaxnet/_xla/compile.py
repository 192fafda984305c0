"""How a function is compiled: faster, or with a fallback where a compiler refuses."""

import functools
from collections.abc import Callable

import jax
from jax.core import Tracer

QUICK_OPTIONS = {  # fewer passes of LLVM
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
}
if jax.__version_info__ < (0, 11, 1):  # later ones do not know it, and refuse the program
    QUICK_OPTIONS["xla_cpu_use_fusion_emitters"] = False


def jit_quickly(function: Callable) -> Callable:
    """The function jitted, its first argument static, for programs that run once: on a CPU they compile faster.

    With `QUICK_OPTIONS` where it is called by itself, plain inside another program. The plain form is the fallback,
    for a compiler that does not know the options.
    """
    plain = jax.jit(function, static_argnums=0)
    quick = with_fallback(jax.jit(function, static_argnums=0, compiler_options=QUICK_OPTIONS), plain)

    @functools.wraps(function)
    def call(static, *arguments):
        inside = any(isinstance(x, Tracer) for x in jax.tree.leaves(arguments))
        run = plain if inside or jax.default_backend() != "cpu" else quick
        return run(static, *arguments)

    return call


def with_fallback(fast: Callable, default: Callable) -> Callable:
    """`fast`, or `default` with the same arguments if the compiler refuses that; tried once for each first argument.

    Two jitted functions; the first argument is static.
    """
    refused = set()

    def call(static, *arguments):
        if static not in refused:
            try:
                return fast(static, *arguments)
            except jax.errors.JaxRuntimeError:
                if any(x.is_deleted() for x in jax.tree.leaves(arguments) if isinstance(x, jax.Array)):
                    raise  # it ran, so it was not refused
                refused.add(static)
        return default(static, *arguments)

    return call

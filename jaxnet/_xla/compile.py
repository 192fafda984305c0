"""How a function is compiled: faster, with a fallback where a compiler refuses, and how many programs are kept."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer

QUICK_OPTIONS = {  # fewer passes of LLVM
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
}
if jax.__version_info__ < (0, 11, 1):  # later ones do not know it, and refuse the program
    QUICK_OPTIONS["xla_cpu_use_fusion_emitters"] = False
KEPT = 16  # programs of a function; one takes some 4 MB


def jit_quickly(function: Callable) -> Callable:
    """The function jitted, its first argument static, for programs that run once: on a CPU they compile faster.

    With `QUICK_OPTIONS` where it is called by itself, plain inside another program. The plain form is the fallback,
    for a compiler that does not know the options.
    """
    plain = jax.jit(function, static_argnums=0)
    quick = with_fallback(jax.jit(function, static_argnums=0, compiler_options=QUICK_OPTIONS), plain)

    @functools.wraps(function)
    def call(static, *arguments):
        leaves = jax.tree.leaves(arguments)
        if any(isinstance(x, Tracer) for x in leaves):
            return plain(static, *arguments)
        platforms = {device.platform for x in leaves if isinstance(x, jax.Array) for device in x.devices()}
        run = quick if (platforms or {jax.default_backend()}) == {"cpu"} else plain
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


class BoundedJit:
    """`jax.jit` of a function whose first argument is static, with the programs of its last `KEPT` values alone.

    JAX keeps a program as long as the function that it was made of. Here each static value, such as a new optimizer
    object, has a function of its own, which goes when it has not been called for long, and its program with it.
    """

    def __init__(self, function: Callable, **options: Any):
        """Take the options of `jax.jit`, for the arguments after the first."""
        make = lambda static: jax.jit(functools.partial(function, static), **options)
        self._jitted = functools.lru_cache(KEPT)(make)
        self._lock = threading.Lock()  # or two threads would each make, and compile, a function for one value

    def __call__(self, static: Any, *arguments: Any) -> Any:
        """Run the program of that static value."""
        return self._of(static)(*arguments)

    def lower(self, static: Any, *arguments: Any) -> Any:
        """The program before it is compiled, as of a function of `jax.jit`."""
        return self._of(static).lower(*arguments)

    def _of(self, static: Any) -> Any:
        with self._lock:
            return self._jitted(static)


def checks_numbers() -> bool:
    """Whether JAX looks for NaN or infinities in what every program returns, and where it finds them runs it again.

    As jax_debug_nans and jax_debug_infs ask for: it needs the arguments for that, and calls the function without its
    compiler options.
    """
    return any(getattr(jax.config, name) for name in ("jax_debug_nans", "jax_debug_infs"))

"""JAX's settings in other threads: those set by `with jax.enable_x64(True):` and the like are each thread's own."""

import contextlib
from collections.abc import Callable

import jax

THREAD_LOCAL_CONFIG = (
    "enable_x64", "default_device", "default_matmul_precision", "threefry_partitionable",
    "numpy_dtype_promotion", "numpy_rank_promotion", "debug_nans", "debug_infs",
)  # fmt: skip


def with_current_settings(function: Callable) -> Callable:
    """The function, to be called in other threads under JAX's settings of this one."""
    settings = {name: getattr(jax.config, f"jax_{name}") for name in THREAD_LOCAL_CONFIG}

    def call(*arguments):
        with contextlib.ExitStack() as stack:
            for name, value in settings.items():
                stack.enter_context(getattr(jax, name)(value))
            return function(*arguments)

    return call

"""JAX's settings of this thread, carried into others: each thread has its own, such as `with jax.enable_x64(True):`."""

import contextlib
from collections.abc import Callable

import jax

THREAD_LOCAL = (
    "enable_x64", "default_device", "default_matmul_precision", "threefry_partitionable",
    "numpy_dtype_promotion", "numpy_rank_promotion", "debug_nans", "debug_infs",
)  # fmt: skip


def with_current_settings(function: Callable) -> Callable:
    """The function, to be called in other threads under the settings that JAX has in this one now."""
    settings = {name: getattr(jax.config, f"jax_{name}") for name in THREAD_LOCAL}

    def call(*arguments):
        with contextlib.ExitStack() as stack:
            for name, value in settings.items():
                stack.enter_context(getattr(jax, name)(value))
            return function(*arguments)

    return call

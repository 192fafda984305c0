"""Strict JAX for every test: nothing is silently promoted or broadcast, and there are eight devices to share.

And strict signatures: jaxtyping checks the shapes, and beartype alone the verifier, which knows pytrees and no shapes,
at a tenth of the cost.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

import jax
import jax.monitoring
import jaxtyping
import pytest
from beartype.claw import beartype_package

HOUSE = Path(__file__).parents[1] / "jaxnet"
WITH_SHAPES = [f"jaxnet.{room.stem}" for room in HOUSE.iterdir() if room.stem not in ("__init__", "README", "verify")]
jaxtyping.install_import_hook(WITH_SHAPES, "beartype.beartype")  # before any test imports them
beartype_package("jaxnet.verify")


class VerifierFinder:
    """Finds it ahead of pytest, which reads the package of any plugin in a way of its own, past beartype."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Where a module of the verifier is, as without pytest."""
        return PathFinder.find_spec(name, path, target) if name.startswith("jaxnet.verify") else None


sys.meta_path.insert(0, VerifierFinder)

# What XLA has compiled is kept for the other processes and the next run; `pytest --cache-clear` forgets it.
jax.config.update("jax_compilation_cache_dir", str(HOUSE.parent / ".pytest_cache" / "d" / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

COMPILED = []  # the names of all functions that XLA has compiled


@jax.monitoring.register_event_duration_secs_listener
def _note_compilation(event, seconds, **details):
    if event.endswith("backend_compile_duration"):
        COMPILED.append(details.get("fun_name"))


@pytest.fixture
def compiled():
    """The names of the functions that XLA compiles during the test, such as "jit(chunk)"."""
    COMPILED.clear()
    return COMPILED


@pytest.fixture
def key():
    """The one random key that a test splits."""
    return jax.random.key(20261122)


@pytest.fixture
def x64():
    """64-bit JAX for one test: the laws hold to 1e-12 there."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def untyped():
    """The package as users run it: the tests' checks of shape annotations switched off, our own messages seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def implicit_promotion():
    """Optax's Adam raises a float to its integer step count, which strict promotion forbids; in all threads."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")

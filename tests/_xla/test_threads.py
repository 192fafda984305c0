"""Other threads compute under the settings of the one that asks them."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest

from jaxnet._xla.threads import THREAD_LOCAL_CONFIG, with_current_settings


def settings():
    return {name: getattr(jax.config, f"jax_{name}") for name in THREAD_LOCAL_CONFIG}


def in_a_thread(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable_x64", True),
        ("default_matmul_precision", "float32"),
        ("threefry_partitionable", False),
        ("numpy_dtype_promotion", "standard"),
        ("numpy_rank_promotion", "allow"),
        ("debug_nans", True),
        ("debug_infs", True),
    ],
)
def test_each_setting_is_carried_over(name, value):
    with getattr(jax, name)(value):
        call, own = with_current_settings(settings), settings()
    assert own[name] == value and own == in_a_thread(call)
    assert in_a_thread(settings)[name] != value, "the case shows nothing: a plain thread has the setting as well"


def test_another_thread_computes_on_the_callers_device():
    device = jax.devices("cpu")[1]
    with jax.default_device(device):
        call = with_current_settings(jnp.zeros)
    assert in_a_thread(call, 3).devices() == {device} != in_a_thread(jnp.zeros, 3).devices()


def test_the_callers_own_settings_stay_as_they_are():
    with jax.enable_x64(True):
        call = with_current_settings(settings)
    before = settings()
    assert call()["enable_x64"] and settings() == before

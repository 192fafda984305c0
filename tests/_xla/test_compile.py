"""jit_quickly gives the numbers of plain jit, and falls back to it; BoundedJit forgets what was called long ago."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet._xla.compile import KEPT, QUICK_OPTIONS, BoundedJit, jit_quickly

NET = jaxnet.MLP((5, 7, 3), ("relu", "softmax"))


@pytest.mark.parametrize("scheme", ["he", "zeros", 0.01])
def test_a_start_by_itself_and_as_a_part_of_a_program_are_one(scheme):
    key = jax.random.key(0)
    alone = jaxnet.init(NET, key, scheme)
    for part in (
        jax.jit(jaxnet.init, static_argnums=(0, 2))(NET, key, scheme),
        jax.jit(lambda: jaxnet.init(NET, key, scheme))(),  # the key is a constant there
        jax.tree.map(lambda leaf: leaf[1], jax.vmap(lambda k: jaxnet.init(NET, k, scheme))(jnp.stack([key, key]))),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), alone, part)


def test_jit_quickly_is_differentiated_and_traced_as_its_function():
    power = jit_quickly(lambda n, x: x**n)
    assert power(3, 2.0) == 8.0
    assert jax.grad(lambda x: power(3, x))(2.0) == 12.0
    assert jax.eval_shape(lambda x: power(3, x), 2.0).shape == ()


def test_a_compiler_that_refuses_the_options_gets_none_and_is_asked_once(monkeypatch):
    monkeypatch.setitem(QUICK_OPTIONS, "xla_an_option_of_another_version", True)
    jit, asked = jax.jit, []

    def noting(function, **settings):
        jitted = jit(function, **settings)
        note = asked.append if "compiler_options" in settings else lambda arguments: None
        return lambda *arguments: (note(arguments), jitted(*arguments))[1]

    monkeypatch.setattr(jax, "jit", noting)
    power = jit_quickly(lambda n, x: x**n)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jit(lambda x: x, compiler_options=QUICK_OPTIONS)(3.0)
    assert power(3, 3.0) == 27.0 and power(3, 2.0) == 8.0
    assert asked == [(3, 3.0)]


class Static:
    """A static argument, equal to itself alone."""


def test_programs_of_the_last_static_values_are_kept(compiled):
    traced = []

    def shift(static, x):
        traced.append(weakref.ref(static))
        return x + 1

    run, x, first = BoundedJit(shift), jnp.ones(3), Static()
    for _ in range(3):
        run(first, x)
    assert len(traced) == 1 and compiled.count("jit(shift)") == 1
    for _ in range(KEPT):
        run(Static(), x)
    gc.collect()
    assert len([ref for ref in traced[1:] if ref() is not None]) == KEPT  # those of the last, and no other
    run(first, x)
    assert len(traced) == KEPT + 2
    gc.collect()
    assert len([ref for ref in traced[1:-1] if ref() is not None]) == KEPT - 1

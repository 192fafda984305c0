"""What runs once is compiled quickly, and gives what it gives otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.once import OPTIONS, once

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


def test_once_is_differentiated_and_traced_as_its_function():
    cube = once(lambda x, n: x**n, static_argnames=("n",))
    assert cube(2.0, n=3) == 8.0
    assert jax.grad(lambda x: cube(x, n=3))(2.0) == 12.0
    assert jax.eval_shape(lambda x: cube(x, n=3), 2.0).shape == ()


def test_a_compiler_that_refuses_the_options_gets_none(monkeypatch):
    monkeypatch.setitem(OPTIONS, "xla_an_option_of_another_version", True)
    cube = once(lambda x, n: x**n, static_argnames=("n",))
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.jit(lambda x: x, compiler_options=OPTIONS)(3.0)
    assert cube(3.0, n=3) == 27.0

"""Arguments that do not fit are refused in words that name the argument, what was given and what was expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients, check_vjp
from jaxnet.verify.options import seed_of

X = np.ones(3, np.float32)


def loss(x):
    return jnp.sum(x**2)


def gradient(x):
    return 2 * x


sine = jax.custom_vjp(jnp.sin)
sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, c: (c * jnp.cos(x),))

OF_BOTH = [
    ({"key": "a"}, TypeError, "key='a': expected an integer, a PRNG key"),
    ({"key": 1.5}, TypeError, "key=1.5: expected an integer, a PRNG key"),
    ({"key": [1, 2]}, TypeError, r"key=\[1, 2\]: expected an integer, a PRNG key"),
    ({"key": np.ones(2)}, TypeError, "key=array.*: expected an integer, a PRNG key"),
    ({"variants": None}, TypeError, "variants=None: expected a tuple of any of 'eager', 'jit', 'vmap'"),
    ({"variants": "eager"}, ValueError, "variants='eager': expected a tuple"),
    ({"variants": ("pmap",)}, ValueError, r"variants=\('pmap',\): expected any of"),
    ({"directions": None}, TypeError, "directions=None: expected an integer of 1 or more"),
    ({"directions": 1.5}, TypeError, "directions=1.5: expected an integer of 1 or more"),
    ({"directions": 0}, ValueError, "directions=0: expected 1 or more"),
    ({"witnesses": None}, ValueError, "witnesses=None: expected one of 'auto', 'fast', 'full'"),
    ({"kinks": "no"}, ValueError, "kinks='no': expected one of 'subgradient', 'strict'"),
    ({"argnums": 1}, ValueError, "argnums=1: (loss|f) was given 1 "),
    ({"argnums": (0, -1)}, ValueError, r"argnums=\(0, -1\) names an argument twice"),
]


@pytest.mark.parametrize(("options", "kind", "message"), OF_BOTH, ids=[str(case[0]) for case in OF_BOTH])
def test_an_option_that_is_none_is_named(options, kind, message):
    for check, asked in ((check_gradients, (loss, gradient, X)), (check_vjp, (sine, X))):
        with pytest.raises(kind, match=message):
            check(*asked, **options)


@pytest.mark.parametrize(
    ("asked", "options", "kind", "message"),
    [
        ((None, gradient, X), {}, TypeError, "loss is None; expected a function"),
        ((loss, "gradient", X), {}, TypeError, "grad_fn is 'gradient'; expected a function"),
        ((loss, gradient, X), {"reference": 3}, TypeError, "reference is 3; expected a function"),
        ((loss, gradient, X), {"has_aux": None}, TypeError, "has_aux=None: expected True.* or False"),
        ((loss, gradient, X), {"has_aux": True}, TypeError, r"has_aux=True: .* it returned an array of shape \(\)"),
        ((lambda x: x, gradient, X), {"has_aux": True}, TypeError, r"has_aux=True: .* an array of shape \(3,\)"),
        ((lambda x: (loss(x), 1, 2), gradient, X), {"has_aux": True}, TypeError, "it returned a tuple of 3"),
        (
            (lambda x: float(np.sum(x)), gradient, X),
            {"has_aux": True},
            TypeError,
            "has_aux=True: .* it returned a float",
        ),
        ((lambda x: None, gradient, X), {}, TypeError, "loss must return a scalar, it returned a NoneType"),
    ],
)
def test_check_gradients_names_what_does_not_fit(asked, options, kind, message):
    with pytest.raises(kind, match=message):
        check_gradients(*asked, **options)


@pytest.mark.parametrize(
    ("asked", "options", "kind", "message"),
    [
        ((None, X), {}, TypeError, "f is None; expected a function"),
        ((sine, X), {"cotangents": None}, TypeError, "cotangents=None: expected an integer of 1 or more"),
        ((sine, X), {"cotangents": 0}, ValueError, "cotangents=0: expected 1 or more"),
        ((sine, X), {"argnums": "a"}, TypeError, "argnums='a': expected an integer or a tuple of integers"),
        ((sine, X), {"argnums": (0.0,)}, TypeError, r"argnums=\(0.0,\): expected an integer or a tuple of integers"),
        ((sine, X), {"has_aux": True}, TypeError, "check_vjp has no option 'has_aux'; expected any of directions"),
    ],
)
def test_check_vjp_names_what_does_not_fit(asked, options, kind, message):
    with pytest.raises(kind, match=message):
        check_vjp(*asked, **options)


def test_argnums_that_are_not_integers_are_named():
    """Called below the tests' own check of its signature."""
    with pytest.raises(TypeError, match="argnums='a': expected an integer or a tuple"):
        check_gradients.__wrapped__(loss, gradient, X, argnums="a")


def test_integers_of_numpy_are_integers():
    assert check_vjp(sine, X, argnums=np.int64(0), directions=np.int64(2), cotangents=np.int64(1)).passed


def test_every_kind_of_key_is_a_seed():
    keys = None, 3, np.int32(3), jnp.int32(3), jax.random.key(3), jax.random.PRNGKey(3)
    seeds = [seed_of(key) for key in keys]
    assert seeds[:3] == [0, 3, 3] and seeds[4] == seeds[5] and all(isinstance(seed, int) for seed in seeds)

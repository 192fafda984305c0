"""Arguments that do not fit are refused in words that name the argument, what was given and what was expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import GradientInconclusive, GradientMismatch, check_gradients, check_vjp
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
    ({"argnums": "a"}, TypeError, "argnums='a': expected an integer or a tuple"),
    ({"argnums": (0.0,)}, TypeError, r"argnums=\(0.0,\): expected an integer or a tuple of integers"),
    ({"has_aux": None}, TypeError, "has_aux=None: expected True.* or False"),
    ({"reference": 3}, TypeError, "reference is 3; expected a function"),
    ({"raise_": "x"}, ValueError, "raise_='x': expected True or 'inconclusive' .* 'fail' .* or False"),
    ({"raise_": None}, ValueError, "raise_=None: expected True"),
    ({"raise_": 1}, ValueError, "raise_=1: expected True"),
    ({"raise_": []}, ValueError, r"raise_=\[\]: expected True"),
    ({"accuracy": "x"}, ValueError, "accuracy='x': give a number of 0 or more and below 1, or a tree of them"),
    ({"accuracy": -1e-4}, ValueError, "accuracy=-0.0001: give a number"),
    ({"accuracy": 1}, ValueError, "accuracy=1: give a number"),
    ({"accuracy": True}, ValueError, "accuracy=True: give a number"),
    ({"accuracy": float("nan")}, ValueError, "accuracy=nan: give a number"),
    ({"accuracy": {"y": 1e-4}}, ValueError, r"accuracy has a branch (\[0\])?\['y'\], but the leaves are (x|params)\."),
    ({"expected_zero": 3}, ValueError, "expected_zero=3: give True or False for each branch"),
    ({"expected_zero": ["y"]}, ValueError, "expected_zero names 'y', but the leaves are (x|params)"),
    ({"trainable": "x"}, ValueError, "trainable='x': give True or False for each branch"),
    ({"order": 3}, ValueError, "order=3: expected 1, the gradient alone, or 2"),
    ({"order": None}, TypeError, "order=None: expected 1"),
    ({"order": True}, TypeError, "order=True: expected 1"),
    ({"order": 2.0}, TypeError, "order=2.0: expected 1"),
    ({"axis": 1}, TypeError, "check_(vjp|gradients) has no option 'axis'; expected any of accuracy, argnums,"),
    ({"rtol": 1e-3}, TypeError, "no option .rtol.; .* derived from rounding; .* goes into accuracy="),
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
        ((loss, gradient, X), {"argnums": ()}, ValueError, r"argnums=\(\) chooses nothing: loss was given 1 arguments"),
        (
            (loss, gradient, X),
            {"reference": lambda x, y: x},
            TypeError,
            "reference= does not take what it is called with",
        ),
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
        ((sine, X), {"has_aux": True}, TypeError, r"has_aux=True: f must return a pair .* of shape \(3,\)"),
        ((sine, X), {"intended": 3}, TypeError, "intended is 3; expected a function"),
        ((sine, X), {"kwargs": 3}, TypeError, "kwargs=3: expected a dictionary of keyword arguments of f"),
        ((sine, X), {"kwargs": {1: 2}}, TypeError, "kwargs={1: 2}: expected a dictionary"),
        ((sine, X), {"axis": 1}, TypeError, r"A keyword argument of f goes into kwargs={'axis': ...}"),
        ((lambda x: x > 0, X), {}, TypeError, "check_vjp needs a function with a floating output"),
        ((sine, X), {"argnums": ()}, ValueError, r"argnums=\(\) chooses nothing: f was given 1 primals"),
        ((sine, X), {"reference": lambda: 0}, TypeError, "does not take .* 1 positional arguments.* too many"),
        ((sine, np.arange(3)), {}, TypeError, "check_vjp needs at least one primal with a floating leaf"),
    ],
)
def test_check_vjp_names_what_does_not_fit(asked, options, kind, message):
    with pytest.raises(kind, match=message):
        check_vjp(*asked, **options)


def test_integers_of_numpy_are_integers():
    assert check_vjp(sine, X, argnums=np.int64(0), directions=np.int64(2), cotangents=np.int64(1)).passed


def test_a_tracer_is_refused_in_the_name_of_what_was_called():
    for check, asked in ((check_gradients, (loss, gradient)), (check_vjp, (sine,))):
        with pytest.raises(TypeError, match=f"{check.__name__} needs values and was given a tracer"):
            jax.jit(lambda x, check=check, asked=asked: check(*asked, x).passed)(X)


# ---- what raises ---------------------------------------------------------------------------------------------------
RAISED = {
    True: (GradientMismatch, GradientInconclusive),
    "inconclusive": (GradientMismatch, GradientInconclusive),
    "fail": (GradientMismatch, None),
    False: (None, None),
    np.False_: (None, None),
}


@pytest.mark.parametrize("raise_", RAISED)
def test_whatever_is_not_pass_raises_unless_told_otherwise(raise_):
    wrong, open_ = (lambda x: 3 * x, X), (lambda x: 0 * x, 0 * X)  # at 0 a zero is right, and proves nothing
    for (grad_fn, x), verdict, error in zip((wrong, open_), ("FAIL", "INCONCLUSIVE"), RAISED[raise_], strict=True):
        if error is None:
            assert check_gradients(loss, grad_fn, x, raise_=raise_).verdict == verdict
            continue
        with pytest.raises(error) as caught:
            check_gradients(loss, grad_fn, x, raise_=raise_)
        assert caught.value.report.verdict == verdict and str(caught.value) == str(caught.value.report)
    assert check_gradients(loss, gradient, X, raise_=raise_).passed


def test_a_function_without_a_rule_and_an_empty_batch_raise_by_default():
    with pytest.raises(GradientInconclusive, match=r"decorate f with jax\.custom_vjp or"):
        check_vjp(jnp.sin, X)
    with pytest.raises(GradientInconclusive, match="no example to check on"):
        check_gradients(lambda w, x: jnp.sum(w @ x), lambda w, x: x.sum(1), np.ones(3, "f4"), np.ones((3, 0), "f4"))
    assert not issubclass(GradientInconclusive, GradientMismatch) and issubclass(GradientInconclusive, AssertionError)


def test_every_kind_of_key_is_a_seed():
    keys = None, 3, np.int32(3), jnp.int32(3), jax.random.key(3), jax.random.PRNGKey(3)
    seeds = [seed_of(key) for key in keys]
    assert seeds[:3] == [0, 3, 3] and seeds[4] == seeds[5] and all(isinstance(seed, int) for seed in seeds)

"""What a rule is called with: arguments never differentiated, their names, what is held, what the rule refuses."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxnet.verify import check_vjp
from jaxnet.verify.problem.arguments import argument_names
from tests.verify.rules import W, X, product, with_forward


# ---- arguments that are never differentiated ---------------------------------------------------------------------
def leaky(factor=1.0):
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def leaky(x, a):
        return jnp.where(x > 0, x, a * x)

    leaky.defvjp(lambda x, a: (leaky(x, a), x), lambda a, x, c: (factor * jnp.where(x > 0, c, a * c),))
    return leaky


def applied(factor=1.0):
    @functools.partial(jax.custom_jvp, nondiff_argnums=(0, 2))
    def applied(g, x, mode):
        return g(x).sum() if mode == "sum" else g(x).mean()

    @applied.defjvp
    def _(g, mode, primals, tangents):
        return jax.jvp(lambda x: factor * applied.fun(g, x, mode), primals, tangents)

    return applied


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_what_a_rule_never_differentiates_is_held(factor):
    verdict = "PASS" if factor == 1 else "FAIL"
    for options in ({}, {"argnums": 0}, {"argnums": (-2,)}):
        report = check_vjp(leaky(factor), X, 0.1, raise_=False, **options)
        assert report.verdict == verdict and len(report.leaves) == 1, str(report)
        assert list(report.leaves) == ["x"] and report.skipped == {"a": "float"}
    with pytest.raises(ValueError, match="never differentiates"):
        check_vjp(leaky(factor), X, 0.1, argnums=1)


def test_a_custom_jvp_holds_a_function_and_a_string():
    f = applied()
    assert check_vjp(f, jnp.sin, X, "mean").skipped == {"g": "PjitFunction", "mode": "str"}
    assert check_vjp(functools.partial(f, jnp.sin), X, "sum").passed
    assert check_vjp(lambda g, x, mode: f(g, x, mode), jnp.sin, X, "mean").passed


def test_the_code_that_repeats_a_check_imports_the_function_that_is_held():
    lines = check_vjp(applied(), jnp.sin, X, "mean").reproduce().splitlines()
    assert "from jax.numpy import sin as params" in lines
    compile("\n".join(lines), "again", "exec")


def test_a_tree_with_a_string_and_a_whole_number_among_its_leaves():
    f = with_forward(jnp.sin, jnp.sin)
    report = check_vjp(
        lambda p, n: f(p["x"]) ** n if p["mode"] == "power" else p["k"], {"x": X, "mode": "power", "k": 3}, 2
    )
    assert report.passed and report.skipped["p['mode']"] == "str"


# ---- what arguments are called, and what is held -------------------------------------------------------------------
def test_leaves_are_called_as_the_function_calls_its_arguments():
    two = product(lambda a, b, c: (c @ b.T, a.T @ c))
    assert list(check_vjp(two, X, W).leaves) == ["a", "b"]
    assert list(check_vjp(two, X, W, argnums=1).leaves) == ["b"]
    assert list(check_vjp(jax.jit(lambda p, *rest: two(p["X"], rest[0]["W"])), {"X": X}, {"W": W}).leaves) == [
        "p['X']",
        "rest[0]['W']",
    ]

    class Plain:
        """A function whose signature is not told."""

        __signature__ = "none"

        def __call__(self, a, b):
            return two(a, b)

    assert list(check_vjp(Plain(), X, W).leaves) == ["[0]", "[1]"]


@pytest.mark.parametrize("trainable", [["a"], (True, False), lambda name: name != "b"])
def test_a_leaf_is_chosen_by_its_name_or_by_its_place_in_the_tree(trainable):
    report = check_vjp(product(lambda a, b, c: (c @ b.T, 2 * a.T @ c)), X, W, trainable=trainable)
    assert {path: leaf.verdict for path, leaf in report.leaves.items()} == {"a": "PASS", "b": "FROZEN"}


def test_of_one_argument_its_own_tree_will_do():
    f = lambda p: with_forward(lambda w, b: w * b, lambda w, b: w * b)(p["w"], p["b"])
    for trainable in ({"w": True, "b": False}, ({"w": True, "b": False},), ["p['w']"]):
        report = check_vjp(f, {"w": X, "b": X}, trainable=trainable)
        assert {path: leaf.verdict for path, leaf in report.leaves.items()} == {"p['b']": "FROZEN", "p['w']": "PASS"}
    with pytest.raises(ValueError, match=r"accuracy has 2 at \[0\]\['b'\]"):
        check_vjp(f, {"w": X, "b": X}, accuracy={"w": 0, "b": 2})


def test_a_name_is_not_the_beginning_of_another():
    f = with_forward(lambda w, w2: w * w2, lambda w, w2: w * w2)
    assert check_vjp(f, X, X, trainable=["w"]).leaves["w2"].verdict == "FROZEN"


matvec = jax.custom_vjp(lambda A, v: A @ v)
matvec.defvjp(lambda A, v: (A @ v, (A, v)), lambda saved, c: (3 * jnp.outer(c, saved[1]), saved[0].T @ c))
SQUARE, VECTOR = W[:4], W[0]


class Layer:
    """Something that holds an array and can be called."""

    def __init__(self, A):
        self.A = A

    def __call__(self, v):
        return matvec(self.A, v)

    def thrice(self, v):
        return jax.lax.scan(lambda h, _: (matvec(self.A, h), None), v, None, length=3)[0]

    def while_small(self, v):
        step = lambda carry: (matvec(self.A.T, carry[0]), carry[1] + 1)
        return jax.lax.fori_loop(0, 2, lambda _, carry: step(carry), (v, 0))[0]

    def branched(self, v):
        return jax.lax.cond(jnp.sum(v) > 0, lambda v: matvec(2 * self.A, v), lambda v: v, v)


HOLDERS = {
    "partial": functools.partial(matvec, SQUARE),
    "closure": lambda v: matvec(SQUARE, v),
    "jit of a closure": jax.jit(lambda v: matvec(SQUARE + 1, v)),
    "object": Layer(SQUARE),
    "bound method, scan": Layer(SQUARE).thrice,
    "bound method, loop": Layer(SQUARE).while_small,
    "bound method, cond": Layer(SQUARE).branched,
    "remat": jax.checkpoint(lambda v: matvec(SQUARE, v)),
    "vmap": lambda v: jax.vmap(matvec, (None, 0))(SQUARE, jnp.stack([v, v])),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_a_function_holds_is_told(name):
    report = check_vjp(HOLDERS[name], VECTOR)
    (note,) = report.notes
    assert "matvec" not in note or note.startswith("A of "), note
    assert "the rule's gradient for its argument 0 (4x4) was not looked at: it is held by f" in note
    assert note.endswith("hand it over as a primal") and note.startswith("A of <lambda> (test_arguments_of_a_rule.py:")


@pytest.mark.parametrize(
    ("f", "primals", "options"),
    [
        (matvec, (SQUARE, VECTOR), {"argnums": 1}),  # left out by the caller
        (lambda A, v: matvec(A.T, jnp.tanh(v)), (SQUARE, VECTOR), {"argnums": 1}),
        (lambda v: matvec(jnp.outer(v, v), v), (VECTOR,), {}),
        (lambda h: jax.lax.scan(lambda h, _: (matvec(jnp.outer(h, h), h), None), h, None, length=2)[0], (VECTOR,), {}),
        (lambda v: jnp.sum(v * matvec(SQUARE, VECTOR)), (VECTOR,), {"raise_": False}),  # no primal passes it
    ],
)
def test_nothing_is_said_of_what_is_not_held(f, primals, options):
    assert not any("not looked at" in note for note in check_vjp(f, *primals, **({"raise_": False} | options)).notes)


def test_a_rule_through_which_no_primal_passes_proves_nothing():
    report = check_vjp(lambda v: jnp.sin(v) + matvec(SQUARE, VECTOR), VECTOR, raise_=False)
    assert report.verdict == "INCONCLUSIVE" and not report.stripped, str(report)


def test_keyword_arguments_are_held_and_told():
    f = lambda v, *, A, mode: matvec(A, v) if mode == "product" else v
    report = check_vjp(f, VECTOR, kwargs={"A": SQUARE, "mode": "product"})
    assert list(report.leaves) == ["v"] and report.skipped["mode"] == "str"
    assert "gradient was not looked at" in report.skipped["A"]
    code = report.reproduce()
    assert "kwargs=kwargs" in code and "'mode': 'product'" in code
    compile(code, "again", "exec")


def test_an_auxiliary_output_is_left_out():
    f = lambda a, b: (product(lambda a, b, c: (c @ b.T, a.T @ c))(a, b), {"mean": a.mean(), "name": "product"})
    assert check_vjp(f, X, W, has_aux=True).passed


# ---- rules that refuse an argument -----------------------------------------------------------------------------------
def refusing(factor):
    """A custom_jvp that has a derivative for its first argument alone."""
    f = jax.custom_jvp(lambda a, b: a * jnp.sin(b))

    def jvp(primals, tangents):
        (a, b), (da, db) = primals, tangents
        if not isinstance(db, jax.custom_derivatives.SymbolicZero):
            raise NotImplementedError("b has no derivative")
        return f(a, b), da * jnp.sin(b) * factor

    f.defjvp(jvp, symbolic_zeros=True)
    return f


def test_an_argument_that_the_rule_refuses_is_left_out_and_told():
    report = check_vjp(refusing(1), X, X)
    assert list(report.leaves) == ["a"] and report.skipped["b"] == "left out: NotImplementedError: b has no derivative"
    assert check_vjp(refusing(2), X, X, raise_=False).verdict == "FAIL"
    assert check_vjp(refusing(1), X, X, argnums=0).skipped == {}
    for argnums in (1, (0, 1)):
        with pytest.raises(ValueError, match=r"f refuses to be differentiated for b \(.*\); argnums=0 would do"):
            check_vjp(refusing(1), X, X, argnums=argnums)


def test_a_rule_that_refuses_everything_raises_its_own_error():
    f = jax.custom_vjp(lambda a, b: a * b)
    f.defvjp(lambda a, b: (a * b, None), lambda _, c: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        check_vjp(f, X, X)


def test_a_rule_of_equinox_goes_by_the_users_name_and_takes_its_first_argument():
    import equinox as eqx

    @eqx.filter_custom_vjp
    def weighted(layer, x):
        return layer.weight @ x

    weighted.def_fwd(lambda perturbed, layer, x: (weighted(layer, x), None))

    def backward(saved, c, perturbed, layer, x):
        return eqx.tree_at(lambda layer: layer.weight, layer, 2 * jnp.outer(c, x))

    weighted.def_bwd(backward)
    layer = eqx.nn.Linear(4, 3, use_bias=False, key=jax.random.key(0))
    report = check_vjp(weighted, layer, VECTOR, raise_=False)
    assert list(report.leaves) == ["layer.weight"] and "a factor 2 on every entry" in report.cause, str(report)
    assert len(report.stripped) == 1 and report.stripped[0].startswith("weighted (test_arguments_of_a_rule.py:")
    assert list(report.skipped) == ["layer.bias", "x"] and "Unexpected tangent" in report.skipped["x"]
    for wrapped in (eqx.filter_jit(weighted), functools.partial(weighted)):
        assert argument_names(wrapped, (layer, VECTOR)) == ("layer", "x")
    assert argument_names(functools.partial(weighted, layer), (VECTOR,)) == ("x",)


def test_what_a_rule_of_equinox_holds_goes_by_the_users_name():
    """Of the arguments after the first nothing is said: the rule has no gradient for them."""
    import equinox as eqx

    @eqx.filter_custom_vjp
    def affine(layer, x, *, scale):
        return scale * (layer.weight @ x + layer.bias)

    affine.def_fwd(lambda perturbed, layer, x, *, scale: (affine(layer, x, scale=scale), None))

    @affine.def_bwd
    def backward(saved, c, perturbed, layer, x, *, scale):
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (scale * jnp.outer(c, x), scale * c))

    layer = eqx.nn.Linear(4, 3, key=jax.random.key(0))
    of_weights = lambda weight: affine(eqx.tree_at(lambda layer: layer.weight, layer, weight), VECTOR, scale=VECTOR[0])
    (note,) = check_vjp(of_weights, layer.weight).notes
    assert note.startswith("layer.bias of affine (test_arguments_of_a_rule.py:") and "(3) was not looked at" in note, (
        note
    )


def test_a_jvp_rule_of_equinox_calls_its_arguments_as_the_user_does():
    import equinox as eqx

    @eqx.filter_custom_jvp
    def product(a, b):
        return a * b

    @product.def_jvp
    def rule(primals, tangents):
        (a, b), (da, db) = primals, tangents
        return a * b, (0 if da is None else b * da) + (0 if db is None else 2 * a * db)

    report = check_vjp(product, VECTOR, VECTOR + 1, raise_=False)
    assert {path: leaf.verdict for path, leaf in report.leaves.items()} == {"a": "PASS", "b": "FAIL"}, str(report)

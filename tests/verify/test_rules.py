"""check_vjp on the parts of a rule: the value that fwd returns, arguments that are never differentiated, linearity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnet.verify import check_vjp
from jaxnet.verify.errors import UnreadableError
from jaxnet.verify.problem.arguments import argument_names
from tests.marks import slow_but

RNG = np.random.default_rng(0)
X, W, B = (RNG.normal(size=shape).astype(np.float32) for shape in ((8, 5), (5, 4), (4,)))


def with_forward(f, forward):
    """f with the rule that fwd is `forward` and bwd is right."""
    ruled = jax.custom_vjp(f)
    ruled.defvjp(lambda *a: (forward(*a), a), lambda a, c: jax.vjp(f, *a)[1](c))
    return ruled


# ---- the value of fwd: another one -------------------------------------------------------------------------------
def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def dense(X, W, b):
    return X @ W + b


def log_sum(z):
    return z.max() + jnp.log(jnp.sum(jnp.exp(z - z.max())))


OTHERS = {
    "5 % more": (jnp.sin, lambda x: 1.05 * jnp.sin(x), (X,), "is 1.05 times what the function gives"),
    "0.1 % more": (jnp.sin, lambda x: 1.001 * jnp.sin(x), (X,), "is 1.001 times what the function gives"),
    "an approximation": (gelu, functools.partial(jax.nn.gelu, approximate=True), (X,), "is off by"),
    "a small bias left out": (dense, lambda X, W, b: X @ W, (X, W, 0.03 * B), "is off by"),
    "half a term too much": (log_sum, lambda z: log_sum(z) + jnp.log1p(0.5 * jnp.exp(-log_sum(z))), (X[0],), "off by"),
    "NaN": (jnp.sin, lambda x: jnp.sin(x).at[2, 1].set(jnp.nan), (X,), "nan in place of"),
    "the second output": (lambda x: (x, jnp.cos(x)), lambda x: (x, jnp.cos(x) + 1e-3), (X,), "output 1 is off by"),
    "bfloat16": (jnp.exp, lambda x: 1.25 * jnp.exp(x), (X.astype(jnp.bfloat16),), "is 1.2"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_forward_of_another_value_is_refused(name):
    f, forward, primals, said = OTHERS[name]
    report = check_vjp(with_forward(f, forward), *primals, raise_=False)
    assert report.verdict == "FAIL" and said in report.cause and "fwd does not return f(x)" in report.cause, str(report)
    assert all(leaf.verdict == "PASS" for leaf in report.leaves.values()), str(report)


def test_a_wrong_backward_and_a_wrong_forward_are_both_reported():
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (1.05 * jnp.sin(x), x), lambda x, c: (2 * c * jnp.cos(x),))
    cause = check_vjp(f, X, raise_=False).cause
    assert "a factor 2 on every entry" in cause and "1.05 times what the function gives" in cause


def test_a_fwd_of_another_shape_is_named():
    doubled = jax.custom_vjp(lambda x: x**2)
    doubled.defvjp(lambda x: (jnp.tile(x, 2) ** 2, x), lambda x, g: (2 * x * g[:4],))
    with pytest.raises(UnreadableError, match=r"\[\(8,\)\] where it is differentiated.*\(4,\).* the fwd"):
        check_vjp(doubled, np.arange(1, 5, dtype=np.float32))


def test_primals_that_hold_no_floating_number_are_listed_as_skipped():
    power = jax.custom_vjp(lambda x, n, names: x**n)
    power.defvjp(lambda x, n, names: (x**n, (x, n)), lambda r, g: (r[1] * r[0] ** (r[1] - 1) * g, None, None))
    report = check_vjp(power, np.arange(1, 4, dtype=np.float32), 3, {"keep": np.array([True])})
    assert list(report.skipped) == ["n", "names['keep']"] and "bool" in report.skipped["names['keep']"]


# ---- the value of fwd: the same by another formula ---------------------------------------------------------------
def attention(q, k, v):
    return jax.nn.softmax(q @ k.T / q.shape[1] ** 0.5, axis=1) @ v


def flash_attention(q, k, v, chunk=16):
    """Keys a chunk at a time, with a running maximum and sum."""
    n, d = q.shape

    def step(carry, kv):
        top, total, out = carry
        scores = q @ kv[0].T / d**0.5
        higher = jnp.maximum(top, scores.max(axis=1))
        p, shrink = jnp.exp(scores - higher[:, None]), jnp.exp(top - higher)
        return (higher, total * shrink + p.sum(axis=1), out * shrink[:, None] + p @ kv[1]), None

    start = jnp.full(n, -jnp.inf, q.dtype), jnp.zeros(n, q.dtype), jnp.zeros_like(q)
    chunks = k.reshape(-1, chunk, d), v.reshape(-1, chunk, d)
    (_, total, out), _ = jax.lax.scan(step, start, chunks)
    return out / total[:, None]


def in_dtype(f, dtype):
    """f computed in another precision."""
    return lambda *a: f(*[x.astype(dtype) for x in a]).astype(a[0].dtype)


def one_by_one(z):
    """logsumexp in one pass."""

    def step(carry, z):
        top, total = carry
        higher = jnp.maximum(top, z)
        return (higher, total * jnp.exp(top - higher) + jnp.exp(z - higher)), None

    (top, total), _ = jax.lax.scan(step, (z[0], jnp.ones_like(z[0])), z[1:])
    return top + jnp.log(total)


def spread(x):
    return jnp.mean((x - x.mean()) ** 2)


Q, K, V = (RNG.normal(size=(32, 8)).astype(np.float32) for _ in range(3))
COARSE = [x.astype(jnp.bfloat16) for x in (Q, K, V)]
SAME = {
    "flash attention": (attention, flash_attention, (Q, K, V)),
    "flash attention, bfloat16": (attention, flash_attention, COARSE),
    "flash attention, float16": (attention, flash_attention, [x.astype(np.float16) for x in (Q, K, V)]),
    "float32 for bfloat16": (attention, in_dtype(flash_attention, np.float32), COARSE),
    "logsumexp in one pass": (log_sum, one_by_one, (10 * Q[:, 0],)),
    "a naive softmax, rounded to bfloat16": (
        lambda z: (jnp.exp(z) / jnp.exp(z).sum()).astype(jnp.bfloat16),
        lambda z: jax.nn.softmax(z).astype(jnp.bfloat16),
        (Q[0],),
    ),
    "jit": (attention, jax.jit(attention), (Q, K, V)),
}


SLOW = ("flash attention", "flash attention, bfloat16", "flash attention, float16", "float32 for bfloat16")


@pytest.mark.parametrize("name", slow_but([name for name in SAME if name not in SLOW], SAME))
def test_a_forward_by_another_formula_passes(name):
    f, forward, primals = SAME[name]
    report = check_vjp(with_forward(f, forward), *primals)
    assert report.passed and not report.notes, str(report)


@pytest.mark.parametrize(
    ("f", "forward", "primals"),
    [
        (attention, in_dtype(attention, jnp.bfloat16), (Q, K, V)),
        (spread, lambda x: jnp.mean(x * x) - x.mean() ** 2, (X + 300,)),
    ],
)
def test_a_forward_that_loses_digits_on_purpose_passes_with_a_note_of_how_many(f, forward, primals):
    report = check_vjp(with_forward(f, forward), *primals)
    assert report.passed and "output 0 of fwd is off by" in report.notes[0], str(report)
    assert "loses digits as written" in report.notes[0]


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
    assert note.endswith("hand it over as a primal") and note.startswith("A of <lambda> (test_rules.py:")


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
    assert len(report.stripped) == 1 and report.stripped[0].startswith("weighted (test_rules.py:")
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
    assert note.startswith("layer.bias of affine (test_rules.py:") and "(3) was not looked at" in note, note


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


# ---- the cotangents of several outputs -----------------------------------------------------------------------------
def both(backward):
    f = jax.custom_vjp(lambda x: (jnp.sin(x), jnp.cos(x)))
    f.defvjp(lambda x: (f(x), x), lambda x, c: (backward(x, *c),))
    return f


def one(backward):
    f = jax.custom_vjp(lambda x: jnp.sin(x) @ x.T)
    value = lambda x: jnp.sin(x) @ x.T
    f.defvjp(lambda x: (f(x), x), lambda x, c: jax.vjp(value, x)[1](jnp.asarray(backward(c))))
    return f


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (both(lambda x, a, b: a * jnp.cos(x)), "the cotangent of output 1 is dropped"),
        (both(lambda x, a, b: -b * jnp.sin(x)), "the cotangent of output 0 is dropped"),
        (both(lambda x, a, b: b * jnp.cos(x) - a * jnp.sin(x)), "the cotangents of outputs 0 and 1 are swapped"),
        (both(lambda x, a, b: a * jnp.cos(x) - a * jnp.sin(x)), "the cotangent of output 0 is used for output 1 too"),
        (both(lambda x, a, b: a * jnp.cos(x) + b * jnp.sin(x)), "the cotangent of output 1 enters with a factor -1"),
        (
            both(lambda x, a, b: a[0, 0] * jnp.cos(x) - b * jnp.sin(x)),
            "entry 0 of the cotangent of output 0 is used for",
        ),
        (one(lambda c: jnp.full_like(c, c[0, 0])), "entry 0 of the cotangent is used for all of it"),
        (
            one(lambda c: jnp.broadcast_to(c[:1], c.shape)),
            "entry 0 of the cotangent along axis 0 is used for all of it",
        ),
        (one(lambda c: jnp.full_like(c, c.sum())), "the sum of the cotangent is used for each of its entries"),
        (one(lambda c: jnp.full_like(c, c.mean())), "the mean of the cotangent is used for each of its entries"),
        (one(lambda c: c.T), "the cotangent is transposed"),
    ],
)
def test_what_a_rule_does_to_its_cotangents_is_named(f, said):
    report = check_vjp(f, X[:4], raise_=False)
    assert report.verdict == "FAIL" and said in report.cause and said in report.leaves["x"].cause, str(report)


@pytest.mark.parametrize(
    "backward", [lambda x, a, b: a * jnp.cos(x) - b * jnp.cos(x), lambda x, a, b: (a + b) * jnp.sin(x)]
)
def test_what_no_other_cotangent_explains_is_not_said_of_it(backward):
    report = check_vjp(both(backward), X, raise_=False)
    assert report.verdict == "FAIL" and "cotangent" not in (report.cause or ""), str(report)


def test_right_rules_of_several_outputs_pass():
    assert check_vjp(both(lambda x, a, b: a * jnp.cos(x) - b * jnp.sin(x)), X).passed and check_vjp(one(lambda c: c), X)


def test_a_conjugated_jacobian_is_named():
    f = jax.custom_vjp(lambda z: z * z)
    f.defvjp(lambda z: (z * z, z), lambda z, c: (2 * jnp.conj(z) * c,))
    assert "the Jacobian is conjugated" in check_vjp(f, (X + 1j * X[::-1]).astype("complex64"), raise_=False).cause


# ---- linearity ---------------------------------------------------------------------------------------------------
def product(backward):
    f = jax.custom_vjp(lambda a, b: a @ b)
    f.defvjp(lambda a, b: (a @ b, (a, b)), lambda saved, c: backward(*saved, c))
    return f


def fused_loss(ignores):
    @jax.custom_vjp
    def loss(z):
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[:, 0])

    def backward(z, c):
        d = (jax.nn.softmax(z, axis=1) - jnp.eye(z.shape[1])[0]) / len(z)
        return (d if ignores else c * d,)

    loss.defvjp(lambda z: (loss(z), z), backward)
    return loss


@pytest.mark.parametrize("key", range(4))
def test_a_loss_that_ignores_its_cotangent_has_no_factor(key):
    assert check_vjp(fused_loss(False), X, key=key).passed
    report = check_vjp(fused_loss(True), X, key=key, raise_=False)
    assert report.cause.startswith("The rule ignores its cotangent") and "factor" not in str(report), str(report)


def test_one_leaf_ignores_its_cotangent_and_another_has_a_factor():
    f = product(lambda a, b, c: (2 * c @ b.T, a.T @ jnp.ones_like(c)))
    report = check_vjp(f, X, W, raise_=False)
    assert report.cause.startswith("The rule in b ignores its cotangent"), str(report)
    assert "a: a factor 2 on every entry." in report.cause


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda d, b: jnp.abs(d), None),
        (lambda d, b: jnp.clip(d, -0.5, 0.5), "clipped"),
        (lambda d, b: d + 1e-2 * b, "0.01 times the parameter too much"),
    ],
)
def test_a_rule_that_is_not_linear_in_its_cotangent_is_named(bend, said):
    report = check_vjp(product(lambda a, b, c: (c @ b.T, bend(a.T @ c, b))), X, W, raise_=False)
    assert report.cause.startswith("The rule is not linear in its cotangent"), str(report)
    assert said is None or f"For the cotangent drawn here, b: {said}" in report.cause


def test_a_wrong_rule_that_is_linear_is_not_called_nonlinear():
    report = check_vjp(product(lambda a, b, c: (c @ b.T, 2 * a.T @ c)), X, W, raise_=False)
    assert report.cause == "b: a factor 2 on every entry."


@pytest.mark.parametrize(("x", "value"), [([-1.0, 2.0], "nan"), ([0.0, 2.0], "-?inf")])
def test_a_function_that_is_not_finite_is_called_by_its_name(x, value):
    log = jax.custom_vjp(lambda x: jnp.log(x))
    log.defvjp(lambda x: (log(x), x), lambda x, c: (c / x,))
    with pytest.raises(ValueError, match=f"^f is {value} at the test point, seen by witness 1"):
        check_vjp(log, np.float32(x))


# ---- a rule that had no part in what was compared ----------------------------------------------------------------
bad, good, flat = jax.custom_vjp(jnp.sin), jax.custom_vjp(jnp.cos), jax.custom_vjp(jnp.floor)
bad.defvjp(lambda x: (jnp.sin(x), x), lambda x, c: (7 * c,))
good.defvjp(lambda x: (jnp.cos(x), x), lambda x, c: (-jnp.sin(x) * c,))
flat.defvjp(lambda x: (jnp.floor(x), None), lambda _, c: (None,))
IDLE = {
    "a branch": lambda x: lax.cond(x[0] > 5, bad, jnp.cos, x),
    "an output dropped": lambda x: (bad(x), jnp.cos(x))[1],
    "a factor 0": lambda x: 0 * bad(x) + jnp.cos(x),
    "a mask": lambda x: jnp.where(x > 5, bad(x), jnp.cos(x)),
    "no turn of a loop": lambda x: lax.fori_loop(0, 0, lambda _, y: bad(y), x) + jnp.cos(x),
    "before what is constant": lambda x: x + jnp.round(bad(x)),
    "what is stopped": lambda x: x * lax.stop_gradient(bad(x)),
}
ACTIVE = {
    "a branch": lambda x: lax.cond(x[0] > 5, jnp.sin, good, x),
    "turns of a loop": lambda x: lax.fori_loop(0, 3, lambda _, y: good(y), x),
    "one entry": lambda x: jnp.where(x == x[1], good(x), x),
    "rightly 0": lambda x: x + flat(x),
    "behind what is rightly 0": lambda x: x + good(flat(x)),
    "lifted": jax.vmap(jax.jit(good)),
    "a while loop": lambda x: good(x) + lax.stop_gradient(lax.while_loop(lambda y: y[0] < 9, lambda y: y + 1, x)),
}


@pytest.mark.parametrize("name", IDLE)
def test_a_rule_that_has_no_part_is_not_passed(name):
    report = check_vjp(IDLE[name], jnp.arange(1.0, 4.0), raise_=False)
    assert report.verdict == "INCONCLUSIVE" and "has no part in the derivative here" in str(report), str(report)


@pytest.mark.parametrize("name", ACTIVE)
def test_a_rule_that_has_a_part_is(name):
    report = check_vjp(ACTIVE[name], jnp.arange(1.0, 4.0))
    assert not any("no part" in note for note in report.notes), report.notes


def test_of_two_rules_the_idle_one_is_named():
    report = check_vjp(lambda x: good(x) + IDLE["a mask"](x), jnp.arange(1.0, 4.0))
    assert [note.split(" (")[0] for note in report.notes if "no part" in note] == ["sin"], report.notes

"""check_gradients as its users meet it: options, odd trees, odd callers, and errors that say what to mend."""

import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import GradientMismatch, check_gradients, check_vjp

W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)


def loss(W, X):
    return jnp.sum(jnp.tanh(W @ X))


def gradient(W, X):
    return (1 - jnp.tanh(W @ X) ** 2) @ X.T


def test_a_right_gradient_passes_and_is_true():
    report = check_gradients(loss, gradient, W, X)
    assert report and report.passed and report.verdict == "PASS"
    leaf = report.leaves[""]
    assert leaf.score < 8 and leaf.relative_error < 1e-5 and 0 < leaf.resolution < 1e-3
    assert leaf.ulps[0] <= leaf.ulps[1] <= leaf.ulps[2]


def test_a_wrong_gradient_raises_with_the_table():
    with pytest.raises(GradientMismatch, match="FAIL") as caught:
        check_gradients(loss, lambda W, X: 1.01 * gradient(W, X), W, X)
    assert not caught.value.report
    assert str(caught.value) == str(caught.value.report)


def test_the_worst_entry_is_shown_with_both_values():
    report = check_gradients(loss, lambda W, X: gradient(W, X).at[2, 1].add(0.5), W, X, raise_=False)
    leaf = report.leaves[""]
    assert leaf.worst_index == (2, 1)
    assert leaf.manual == pytest.approx(leaf.reference + 0.5, rel=1e-5)
    assert "[2,1]" in leaf.cause


def test_argnums_choose_the_argument():
    assert check_gradients(lambda X, W: loss(W, X), lambda X, W: gradient(W, X), X, W, argnums=1)
    both = check_gradients(
        lambda X, W: jnp.sum(W @ X),
        lambda X, W: (jnp.broadcast_to(W.sum(0)[:, None], X.shape), jnp.broadcast_to(X.sum(1)[None, :], W.shape)),
        X,
        W,
        argnums=(0, 1),
    )
    assert list(both.leaves) == ["X", "W"]


def test_leaves_without_a_gradient_are_skipped_and_listed():
    params = {"W": W, "f": jnp.tanh, "name": "net", "steps": 3, "none": None, "key": jax.random.key(0), "flag": True}
    report = check_gradients(
        lambda p, X: jnp.sum(p["f"](p["W"] @ X)), lambda p, X: {**dict.fromkeys(p), "W": gradient(p["W"], X)}, params, X
    )
    assert list(report.leaves) == ["['W']"]
    assert set(report.skipped) == {f"['{name}']" for name in params if name != "W"}


def test_a_python_float_is_a_leaf():
    assert check_gradients(lambda p: jnp.sin(p["a"]), lambda p: {"a": jnp.cos(p["a"])}, {"a": 0.5})


@pytest.mark.parametrize("trainable", [{"W": True, "b": False}, ["['W']"], lambda path: "W" in path])
def test_frozen_leaves_are_not_judged(trainable):
    params = {"W": W, "b": np.ones((4, 1), np.float32)}
    report = check_gradients(
        lambda p, X: jnp.sum(jnp.tanh(p["W"] @ X)) + jnp.sum(p["b"]),
        lambda p, X: {"W": gradient(p["W"], X), "b": 0 * p["b"]},
        params,
        X,
        trainable=trainable,
    )
    assert report and report.leaves["['b']"].verdict == "FROZEN"


def two_leaves(p, X):
    return jnp.sum(jnp.tanh(p["W"] @ X)) + jnp.sum(p["b"])


def their_gradients(p, X):
    return {"W": gradient(p["W"], X), "b": jnp.ones_like(p["b"])}


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ({"W": False}, r"says nothing of \['b'\], only of \['W'\]: give True or False for each branch"),
        ({"W": False, "b": True, "c": True}, r"a branch \['c'\], but the leaves are \['W'\], \['b'\]"),
        ([True, False], r"a branch \[0\], but the leaves are \['W'\], \['b'\]"),
        ({"W": "frozen", "b": True}, r"trainable has 'frozen' at \['W'\]"),
    ],
)
def test_a_trainable_that_does_not_fit_gets_a_clear_error(trainable, message):
    with pytest.raises(ValueError, match=message):
        check_gradients(two_leaves, their_gradients, {"W": W, "b": W[:, :1]}, X, trainable=trainable)


def test_trainable_may_be_a_prefix_of_the_tree():
    nested = {"inner": {"W": W, "b": W[:, :1]}, "other": W}

    def loss(p, X):
        return two_leaves(p["inner"], X) + jnp.sum(p["other"])

    def wrong(p, X):
        return {"inner": jax.tree.map(jnp.zeros_like, p["inner"]), "other": jnp.ones_like(p["other"])}

    report = check_gradients(loss, wrong, nested, X, trainable={"inner": False, "other": True})
    assert [leaf.verdict for leaf in report.leaves.values()] == ["FROZEN", "FROZEN", "PASS"]
    assert check_gradients(loss, wrong, nested, X, trainable=False, raise_="fail").verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda g: (1.0, g), r"returns \(value, gradient\).*lambda \*a: grad_fn\(\*a\)\[1\]"),
        (lambda g: ((1.0, {"aux": 2}), g), r"returns \(value, gradient\).*lambda \*a: grad_fn\(\*a\)\[1\]"),
        (lambda g: (g, {"aux": 2}), r"returns \(gradient, aux\).*lambda \*a: grad_fn\(\*a\)\[0\]"),
        (lambda g: (g, None), r"returns \(gradient, aux\).*lambda \*a: grad_fn\(\*a\)\[0\]"),
    ],
)
@pytest.mark.parametrize("nest", [lambda p: p, lambda p: (p["W"], p["b"])], ids=["dict", "pair"])
def test_a_gradient_with_something_beside_it_is_told_what_to_take(wrap, message, nest):
    def unnest(p):
        return p if isinstance(p, dict) else {"W": p[0], "b": p[1]}

    with pytest.raises(ValueError, match=message):
        check_gradients(
            lambda p, X: two_leaves(unnest(p), X),
            lambda p, X: wrap(nest(their_gradients(unnest(p), X))),
            nest({"W": W, "b": W[:, :1]}),
            X,
        )


def test_a_bare_array_is_called_params_in_every_sentence():
    report = check_gradients(loss, lambda W, X: X.shape[1] * gradient(W, X), W, X, witnesses="full", raise_=False)
    assert "is not the manual gradient of params" in " ".join(str(report).split()), str(report)
    assert "| `params` |" in report.to_markdown()
    with pytest.raises(GradientMismatch, match="the gradient's leaf params is str"):
        check_gradients(loss, lambda W, X: "text", W, X)


def test_nothing_is_left_to_judge_where_every_leaf_is_frozen():
    report = check_gradients(loss, gradient, W, X, trainable=lambda path: False, witnesses="full", raise_="fail")
    assert report.verdict == "INCONCLUSIVE" and not any("crashed" in note for note in report.notes)


def test_complex_leaves_follow_jaxs_convention():
    z = jnp.array([1 + 2j, 0.5 - 0.3j], jnp.complex64)

    def quartic(z):
        return jnp.sum(jnp.abs(z) ** 4)

    assert check_gradients(quartic, lambda z: (4 * jnp.abs(z) ** 2).astype(z.dtype) * jnp.conj(z), z)
    report = check_gradients(quartic, lambda z: (4 * jnp.abs(z) ** 2).astype(z.dtype) * z, z, raise_=False)
    assert "conjugate" in report.cause


def test_a_function_that_writes_into_its_inputs_is_named_and_the_inputs_are_safe():
    def writes(W, X):
        if isinstance(W, np.ndarray):
            W *= 2
            return gradient(W / 2, X)
        return gradient(W, X)

    mine = W.copy()
    report = check_gradients(loss, writes, mine, X, raise_=False)
    assert report.verdict == "FAIL" and "in place" in report.cause
    np.testing.assert_array_equal(mine, W)


@pytest.mark.parametrize("change", ["scaled", "popped", "added"])
def test_a_function_that_writes_into_a_dict_is_named(change):
    """JAX arrays cannot be written into; what holds them can."""

    def writes(p, X):
        right = {"W": gradient(p["W"], X)}
        if change == "scaled":
            p["W"] *= 0.9
        elif change == "popped":
            p.pop("W")
        else:
            p["cache"] = X
        return right

    mine = {"W": jnp.asarray(W)}
    report = check_gradients(lambda p, X: loss(p["W"], X), writes, mine, X, raise_=False)
    path = "['cache']" if change == "added" else "['W']"
    assert report.verdict == "FAIL" and f"in place: {path}" in report.cause, str(report)
    assert list(mine) == ["W"] and np.array_equal(mine["W"], W)


def test_a_list_that_is_written_into_is_told_from_the_arguments():
    """The second of two parameters is at [1] of its list, as X is of the arguments."""

    def writes(p, X):
        right = [gradient(p[0], X), gradient(p[1], X)]
        p[1] = p[1] * 2
        return right

    params = [jnp.asarray(W), jnp.asarray(W) / 2]
    report = check_gradients(lambda p, X: loss(p[0], X) + loss(p[1], X), writes, params, X, raise_=False)
    assert report.verdict == "FAIL" and "in place: [1]" in report.cause, str(report)


def test_donated_inputs_survive():
    here = jnp.asarray(W)
    assert check_gradients(loss, jax.jit(gradient, donate_argnums=0), here, X)
    assert not here.is_deleted()


def test_small_differences_between_calls_are_noise_and_are_reported():
    calls = iter(range(100))
    report = check_gradients(loss, lambda W, X: gradient(W, X) * np.float32(1 + 1e-7 * next(calls)), W, X)
    assert "second call" in report.leaves[""].note


def test_global_configuration_is_left_alone():
    names = (
        "jax_enable_x64",
        "jax_disable_jit",
        "jax_debug_nans",
        "jax_numpy_dtype_promotion",
        "jax_numpy_rank_promotion",
    )
    before = [getattr(jax.config, name) for name in names]
    check_gradients(loss, gradient, W, X, witnesses="full")
    check_gradients(loss, lambda W, X: -gradient(W, X), W, X, raise_=False)
    assert [getattr(jax.config, name) for name in names] == before


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((lambda x: x, lambda x: x, X), TypeError, r"shape \(3, 5\)"),
        ((lambda x: (jnp.sum(x), x), lambda x: x, X), TypeError, "has_aux=True.*--has-aux"),
        ((lambda x: 1.0, lambda x: x, {"a": np.arange(3), "b": None}), TypeError, r"no floating .*\['a'\] \(int64\)"),
        ((lambda p: jnp.sum(p["a"]), lambda p: {}, {"a": X}), ValueError, r"no leaf \['a'\]"),
        ((lambda p: jnp.sum(p["a"]), lambda p: {"a": X, "c": X}, {"a": X}), ValueError, r"a leaf \['c'\]"),
        ((lambda x: jnp.sum(jnp.log(x)), lambda x: 1 / x, -abs(X)), ValueError, "nan.*witness 1 .* and 2"),
        ((lambda x: jnp.sum(jnp.exp(x)), jnp.exp, X + 100), ValueError, "witness 1 .*overflows"),
    ],
)
def test_bad_use_gets_a_clear_error(arguments, kind, message):
    with pytest.raises(kind, match=message):
        check_gradients(*arguments)


def test_a_tracer_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda W: check_gradients(loss, gradient, W, X).passed)(W)


@pytest.mark.parametrize("at", ["loss", "gradient", "reference"])
def test_an_exit_of_the_users_is_no_end_without_a_verdict(at):
    def leaves(*arguments):
        sys.exit(0)

    options = {"reference": leaves} if at == "reference" else {}
    chosen = leaves if at == "loss" else loss, leaves if at == "gradient" else gradient
    with pytest.raises(RuntimeError, match=r"SystemExit\(0\) was raised by leaves \(test_check.py:\d+\)"):
        check_gradients(*chosen, W, X, **options)


def test_an_exit_in_a_rule_is_no_end_without_a_verdict():
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, c: sys.exit("done"))
    with pytest.raises(RuntimeError, match=r"SystemExit\('done'\) was raised by <lambda> \(test_check.py:"):
        check_vjp(sine, X)


def test_a_large_float16_output_does_not_overflow_in_the_cotangents_sum():
    double = jax.custom_vjp(lambda x: x * 2)
    double.defvjp(lambda x: (x * 2, None), lambda _, c: (c * 2,))
    assert check_vjp(double, np.full((64, 64), 3000.0, np.float16)).verdict == "PASS"


def test_a_forward_pass_of_the_rule_that_returns_another_value_is_refused():
    squashed = jax.custom_vjp(jnp.tanh)
    squashed.defvjp(lambda x: (2 * jnp.tanh(x), jnp.tanh(x)), lambda a, c: (c * (1 - a * a),))
    report = check_vjp(squashed, np.linspace(-1, 2, 7, dtype=np.float32), raise_=False)
    assert report.verdict == "FAIL" and "fwd does not return f(x)" in report.cause, str(report)


def test_check_vjp_checks_several_primals_and_skips_integers():
    @jax.custom_vjp
    def rows(table, tokens, scale):
        return table[tokens] * scale

    def backward(saved, g):
        table, tokens, scale = saved
        return jnp.zeros_like(table).at[tokens].add(g * scale), None, jnp.sum(g * table[tokens])

    rows.defvjp(lambda *a: (rows(*a), a), backward)
    report = check_vjp(rows, W, np.array([0, 2, 0]), jnp.float32(1.5))
    assert report and list(report.leaves) == ["table", "scale"]


# ---- memory ----------------------------------------------------------------------------------------------------------
def test_a_failing_check_holds_few_copies_of_the_gradient():
    """On the host, at its height: 3.6 times the parameters in float64 (15 when every example was kept whole).

    The net is large enough that what JAX keeps of programs, 0.3 MB and more in a long process, is nothing beside it.
    JAX may still hold a leaf that it was lent, half of the parameters, when the next is made (1 check of 6): the least
    height of three is the verifier's own.
    """
    params = [
        (jax.random.normal(key, (800, 800)) / 28, jnp.ones((800, 1))) for key in jax.random.split(jax.random.key(0))
    ]
    X = jax.random.normal(jax.random.key(1), (800, 8))

    def loss(params, X):
        (W1, b1), (W2, b2) = params
        return jnp.mean(jnp.tanh(W2 @ jnp.tanh(W1 @ X + b1) + b2) ** 2)

    def without_a_slope(params, X):
        (W1, b1), (W2, b2) = params
        A1 = jnp.tanh(W1 @ X + b1)
        A2 = jnp.tanh(W2 @ A1 + b2)
        dZ2 = 2 * A2 / A2.size * (1 - A2**2)
        dZ1 = W2.T @ dZ2  # without g[1]'(Z[1])
        return [(dZ1 @ X.T, dZ1.sum(1, keepdims=True)), (dZ2 @ A1.T, dZ2.sum(1, keepdims=True))]

    def check():
        return check_gradients(loss, without_a_slope, params, X, raise_=False)

    def height():
        tracemalloc.start()
        report = check()
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert report.starts_at == "dZ[1]"
        return highest

    check()  # what tracing and compiling take is no copy of anything
    assert min(height() for _ in range(3)) < 4 * 8 * sum(x.size for x in jax.tree.leaves(params))

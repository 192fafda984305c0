"""Causes that look like another: none is named before a second piece of evidence tells the two apart."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients, check_vjp, pipeline
from jaxnet.verify.diagnose.causes import Row, as_seen, cause_of, elsewhere
from jaxnet.verify.diagnose.evidence import Case, Evidence, Inputs, Look
from jaxnet.verify.diagnose.explain import diagnose
from jaxnet.verify.judge.cause import Kind
from tests.marks import slow_but

RNG = np.random.default_rng(0)
W, X, Y = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 12), (3, 12)))
DECAY = 0.1


def loss(W, X, Y):
    """Half the mean squared error."""
    return jnp.sum((W @ X - Y) ** 2) / 2 / X.shape[1]


def gradient(W, X, Y):
    return (W @ X - Y) @ X.T / X.shape[1]


def cause(loss, gradient, *point, **options):
    report = check_gradients(loss, gradient, *(point or (W, X, Y)), raise_=False, **options)
    assert report.verdict == "FAIL", str(report)
    return report.cause


# ---- wrong under jit, or at another call? ------------------------------------------------------------------------
@pytest.mark.parametrize("wrong", [{3}, {4}, set(range(3, 99)), set(range(3, 99, 3))])
def test_a_later_call_that_differs_is_not_blamed_on_jit_or_vmap(wrong):
    calls = []

    def forgetful(*a):
        calls.append(None)
        return gradient(*a) * (2 if len(calls) in wrong else 1)

    assert "a later call differs" in cause(loss, forgetful, variants=("eager", "jit", "vmap"))


def test_what_is_wrong_whenever_it_is_traced_is_blamed_on_jit():
    def traced(W, X, Y):
        return gradient(W, X, Y) * (2 if isinstance(W, jax.core.Tracer) else 1)

    assert cause(loss, traced) == "wrong only under jit: the eager call is right."


# ---- another order -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("move", "says"),
    [
        (lambda d: d[::-1], "axis 0: reversed"),
        (lambda d: d[:, ::-1], "axis 1: reversed"),
        (lambda d: jnp.roll(d, 1, 0), "axis 0: rolled by 1"),
        (lambda d: jnp.roll(d, -1, 1), "axis 1: rolled by -1"),
        (lambda d: d[:, jnp.array([0, 3, 2, 1])], "axis 1: 1 and 3 are swapped"),
        (lambda d: d[:, jnp.array([1, 2, 0, 3])], "axis 1: 3 of 4 stand elsewhere"),
    ],
)
def test_entries_that_stand_elsewhere_are_said_to(move, says):
    assert cause(loss, lambda *a: move(gradient(*a))) == f"params: in another order along {says}."


def test_an_order_that_depends_on_the_data_is_no_order():
    sort = lambda d: d[:, jnp.argsort(d[0])]
    assert "another order" not in (cause(loss, lambda *a: sort(gradient(*a))) or "")


# ---- a regulariser, or the data? ---------------------------------------------------------------------------------
def decayed(amount):
    return lambda W, X, Y: loss(W, X, Y) + amount(X.shape[1]) / 2 * jnp.sum(W**2)


def with_decay(amount):
    return lambda W, X, Y: gradient(W, X, Y) + amount(X.shape[1]) * W


@pytest.mark.parametrize("wrong", [lambda A, Y: -Y, lambda A, Y: 2 * A - Y])
def test_an_error_that_follows_the_data_is_no_regulariser(wrong):
    """With X = I a delta without A, or with it twice, is off by a multiple of W."""
    point = W, np.eye(4, dtype=np.float32), Y[:, :4]
    assert "weight decay" not in str(cause(loss, lambda W, X, Y: wrong(W @ X, Y) @ X.T / X.shape[1], *point))


@pytest.mark.parametrize(
    ("true", "manual", "said"),
    [
        (lambda m: DECAY, lambda m: 0, "0.1 times the parameter is missing"),
        (lambda m: DECAY, lambda m: 2 * DECAY, "0.1 times the parameter too much"),
        (lambda m: 0, lambda m: DECAY, "0.1 times the parameter too much"),
        (lambda m: DECAY / m, lambda m: 0, "0.1/m times the parameter is missing"),
        (lambda m: DECAY, lambda m: DECAY / m, "the regulariser 0.1 is divided by m, in the loss it is not"),
        (lambda m: DECAY / m, lambda m: DECAY, "the regulariser 0.1 is not divided by m, in the loss it is"),
    ],
)
def test_a_regulariser_is_named_by_what_is_missing_or_too_much(true, manual, said):
    text = cause(decayed(true), with_decay(manual))
    assert said in text and "weight decay" in text, text


# ---- a factor: of what is it made? -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("of", "said"),
    [
        (lambda m: 3 * m, "a factor m times 3 (m = 12)"),
        (lambda m: 1.7 * m, "a factor m times 1.7 (m = 12)"),
        (lambda m: 0.625 * m, "a factor m times 0.625 (m = 12)"),
        (lambda m: 35 * m / 144, "a factor 2.917 on every entry, which depends on the data"),  # 35/m, at 12 alone
        (lambda m: 0.3 / m, "a factor 0.3/m (m = 12)"),
        (lambda m: 36, "a factor 36 on every entry"),
        (lambda m: 12, "a factor 12 on every entry"),
        (lambda m: m, "1/m is missing (factor m = 12)"),
    ],
)
def test_a_factor_is_named_by_what_it_is_made_of(of, said):
    assert said in cause(loss, lambda W, X, Y: of(X.shape[1]) * gradient(W, X, Y))


def test_one_factor_is_not_listed_row_by_row():
    """Examples with weights of their own are no batch whose size could be changed."""

    def weighted(W, X, Y):
        return jnp.sum((W @ X - Y) ** 2 * jnp.arange(12.0))

    text = cause(weighted, lambda *a: 12 * jax.grad(weighted)(*a))
    assert "a factor 12 on every entry" in text and "row" not in text


# ---- a leaf of one entry: any error is a factor, and all of its entries ------------------------------------------
SCALED = {"W": W, "s": np.float32(1.2)}


def scaled(p, X, Y):
    return loss(p["s"] * jnp.tanh(p["W"]), X, Y)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda g, p, X: 1.3 * g, "['s']: a factor 1.3."),
        (lambda g, p, X: X.shape[1] * g, "['s']: 1/m is missing (factor m = 12)."),
        (lambda g, p, X: -g, "['s']: the sign is wrong (factor -1)."),
        (lambda g, p, X: 0 * g, "['s']: the leaf is zero: frozen, or never filled in."),
        (lambda g, p, X: g / p["s"], None),
        (lambda g, p, X: g + 0.1, None),
        (lambda g, p, X: g * X[0, 0], None),  # the same at other parameters
    ],
)
def test_a_leaf_of_one_entry_has_a_factor_only_if_it_has_it_elsewhere(wrong, said):
    def spoilt(p, X, Y):
        g = jax.grad(scaled)(p, X, Y)
        return g | {"s": wrong(g["s"], p, X)}

    assert cause(scaled, spoilt, SCALED, X, Y) == said


def test_a_black_box_of_one_entry_has_no_entry_that_differs():
    assert cause(lambda q: float(q) ** 3, lambda q: np.float32(q), np.float32(1.5)) is None


def test_leaves_without_a_cause_are_listed_beside_one_that_has_one():
    def spoilt(p, X, Y):
        g = jax.grad(scaled)(p, X, Y)
        return {"W": g["W"] + 0.1 * jnp.tanh(3 * p["W"]), "s": 1.3 * g["s"]}

    assert cause(scaled, spoilt, SCALED, X, Y) == "['s']: a factor 1.3. No cause could be confirmed for ['W']."


# ---- a black box: only values of the loss are known ----------------------------------------------------------------
def in_numpy(W, X, Y):
    return float(np.sum((np.asarray(W, np.float64) @ X - Y) ** 2) / 2 / X.shape[1])


def in_a_callback(W, X, Y):
    return jax.pure_callback(lambda *a: np.float32(in_numpy(*a)), jax.ShapeDtypeStruct((), np.float32), W, X, Y)


@pytest.mark.parametrize("hidden", slow_but([in_numpy], [in_numpy, in_a_callback]))
@pytest.mark.parametrize(
    ("of", "said"),
    [
        (lambda m: 2, "a factor 2 on every entry"),
        (lambda m: -1, "the sign is wrong"),
        (lambda m: m, "1/m is missing (factor m = 12)"),
        (lambda m: 1 / m, "1/m applied twice"),
        (lambda m: 12, "a factor 12 on every entry"),
    ],
)
def test_the_factor_of_a_black_box_is_found_by_slopes(hidden, of, said):
    assert said in cause(hidden, lambda W, X, Y: np.float32(of(X.shape[1])) * gradient(W, X, Y))


def test_a_black_box_s_regulariser_and_its_single_entry_are_named_too():
    decay = lambda W, X, Y: in_numpy(W, X, Y) + 0.05 * float(np.sum(np.square(W, dtype=np.float64)))
    assert "0.1 times the parameter is missing" in cause(decay, gradient)
    assert "one coordinate is wrong, params[1,2]" in cause(in_numpy, lambda *a: gradient(*a) * (1 + ENTRY))


ENTRY = np.zeros_like(W)
ENTRY[1, 2] = 0.5


def test_the_factor_of_leaves_too_large_to_difference_is_named():
    params = {"A": RNG.normal(size=(40, 20)).astype(np.float32), "b": RNG.normal(size=20).astype(np.float32)}

    def hidden(p):
        return float(np.sum(np.tanh(np.asarray(p["A"], np.float64) @ p["b"])))

    right = jax.grad(lambda p: jnp.sum(jnp.tanh(p["A"] @ p["b"])))
    assert cause(hidden, lambda p: jax.tree.map(lambda g: 2 * g, right(p)), params) == (
        "Every leaf: a factor 2 on every entry."
    )
    one = cause(hidden, lambda p: right(p) | {"A": 3 * right(p)["A"]}, params)
    assert one == "['A']: a factor 3 on every entry."
    assert not cause(hidden, lambda p: right(p) | {"A": right(p)["A"] ** 3}, params)


def test_layers_around_a_callback_that_are_wrong_are_refused_with_a_report():
    """No autodiff passes the callback: nothing that a diagnosis asks may want it."""
    params = [(RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=(3, 1)).astype(np.float32))]

    def net(activation):
        return lambda p, X: jnp.mean(activation(p[0][0] @ X + p[0][1]) ** 2)

    def on_host(Z):
        return jax.pure_callback(lambda z: np.tanh(z), jax.ShapeDtypeStruct(Z.shape, Z.dtype), Z)

    right = jax.grad(net(jnp.tanh))
    wrong = lambda p, X: [(2 * right(p, X)[0][0], right(p, X)[0][1] + 0.1)]
    report = check_gradients(net(on_host), wrong, params, X, raise_=False)
    assert report.verdict == "FAIL" and not any("crashed" in note for note in report.notes), str(report)
    assert report.starts_at == "dZ[1]" and "or each leaf has an error of its own" in report.cause, str(report)


def test_a_row_without_a_gradient_has_no_factor_of_its_own():
    """A mean over padded places is 0.8 of the true one in each row that has a gradient: no factor for each row."""
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(5, 4)).astype(np.float32), np.array([1, 1, 1, 1, 0], np.float32)
    X[:, 3] = 0  # nothing reaches the last row of W

    def mean(W, X, weights, count=jnp.sum):
        return jnp.sum(weights * jnp.sum(jnp.tanh(X @ W) ** 2, 1)) / count(weights)

    gradient = lambda W, X, weights: jax.grad(mean)(W, X, weights, jnp.size)
    W = rng.normal(size=(4, 3)).astype(np.float32)
    report = check_gradients(mean, gradient, W, X, weights, raise_=False)
    assert report.verdict == "FAIL" and "for each row" not in str(report), str(report)


# ---- a convention for symmetric arguments ------------------------------------------------------------------------
SPD = (lambda M: M @ M.swapaxes(-1, -2) + np.eye(4, dtype=np.float32))(RNG.normal(size=(3, 4, 4)).astype(np.float32))


def log_determinant(A):
    """Of one matrix, or the sum of several."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(A), axis1=-2, axis2=-1)))


def lower_half(G):
    return 2 * jnp.tril(G) - G * jnp.eye(4)


def vjp_cause(f, backward, *primals, **options):
    """The cause of a rule that gives each primal's cotangent in turn."""
    ruled = jax.custom_vjp(f)
    ruled.defvjp(lambda *p: (f(*p), p), lambda p, c: backward(c, *p))
    report = check_vjp(ruled, *primals, raise_=False, **options)
    assert report.verdict == "FAIL", str(report)
    return str(report.cause)


@pytest.mark.parametrize("A", [SPD[0], SPD])
def test_a_convention_for_symmetric_arguments_is_named(A):
    by_halves = lambda c, A: (c * lower_half(jnp.linalg.inv(A)),)
    assert "symmetric arguments" in vjp_cause(log_determinant, by_halves, A)
    ruled = jax.custom_vjp(log_determinant)
    ruled.defvjp(lambda A: (log_determinant(A), A), lambda A, c: by_halves(c, A))
    assert check_vjp(lambda A: ruled((A + jnp.swapaxes(A, -1, -2)) / 2), A)  # the advice


@pytest.mark.parametrize(
    ("f", "backward", "A"),
    [
        (log_determinant, lambda c, A: (2 * c * jnp.tril(jnp.linalg.inv(A)),), SPD[0]),  # the diagonal twice
        (lambda A: jnp.sum(jnp.sin(A)), lambda c, A: (c * (jnp.cos(A) + A - A.T),), W[:, :3]),  # not symmetric
        (lambda A: jnp.sum(jnp.sin(A)), lambda c, A: (c * (jnp.cos(A) + A),), SPD[0]),
        # antisymmetric here, and not beside the point
        (lambda A: jnp.sum(A[0] * A[1]), lambda c, A: (c * (jnp.zeros_like(A).at[:2].set(A[1::-1]) + TILT),), SPD[0]),
    ],
)
def test_an_error_that_symmetric_steps_see_is_no_convention(f, backward, A):
    assert "symmetric" not in vjp_cause(f, backward, A)


TILT = np.triu(SPD[0], 1) - np.tril(SPD[0], -1) + 1e-2 * np.eye(4, dtype=np.float32)


def test_a_transpose_at_a_symmetric_point_is_called_one():
    u, v = RNG.normal(size=(2, 4)).astype(np.float32)
    text = vjp_cause(lambda A: u @ A @ A @ v, lambda c, A: (c * (jnp.outer(A.T @ v, u) + jnp.outer(v, u @ A)),), SPD[0])
    assert "transposed" in text, text


# ---- a gradient scaled to a norm -----------------------------------------------------------------------------------
BIASED = {"W": W, "b": RNG.normal(size=(3, 1)).astype(np.float32)}


def biased(p, X, Y):
    return loss(p["W"], X, Y - jnp.tanh(p["b"]))


def scaled_to(size, g, always=False):
    """The tree scaled to a norm; unless always, only where its norm is larger."""
    factor = size / jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(g)))
    return jax.tree.map(lambda x: x * (factor if always else jnp.minimum(factor, 1)), g)


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (
            lambda g: scaled_to(0.1, g),
            {},
            "Every leaf: clipped or normalised: the true gradient, scaled to norm 0.1 as",
        ),
        (lambda g: scaled_to(9.0, g, True), {}, "scaled to norm 9 as a whole"),
        (lambda g: {k: scaled_to(0.1, x) for k, x in g.items()}, {}, "it is the true gradient scaled to norm 0.1"),
        (lambda g: g | {"W": scaled_to(0.1, g["W"])}, {}, "['W']: clipped or normalised: it is the true gradient sc"),
        (lambda g: scaled_to(0.1, g), {"trainable": ["['W']"]}, "scaled to norm 0.1 as a whole"),
    ],
)
def test_a_gradient_scaled_to_a_norm_is_named(spoil, options, said):
    text = cause(biased, lambda *a: spoil(jax.grad(biased)(*a)), BIASED, X, Y, **options)
    assert said in text, text


def test_a_norm_is_found_where_the_true_gradient_follows_the_data_alone():
    linear = lambda w, x: jnp.sum(w * x)
    assert "norm 0.5" in cause(linear, lambda w, x: scaled_to(0.5, x), W, W + 1)
    assert cause(linear, lambda w, x: 0.5 * x, W, W + 1) == "params: a factor 0.5 on every entry."


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda g, X: jax.tree.map(lambda x: 0.3 * x, g), "Every leaf: a factor 0.3 on every entry."),
        (lambda g, X: jax.tree.map(lambda x: jnp.mean(X**2) * x, g), "which depends on the data"),
        (lambda g, X: jax.tree.map(lambda x: x / jnp.sum(x**2), g), None),
    ],
)
def test_another_factor_is_no_norm(spoil, said):
    text = cause(biased, lambda p, X, Y: spoil(jax.grad(biased)(p, X, Y), X), BIASED, X, Y)
    assert "norm" not in str(text) and (said is None or said in text), text


# ---- the power of an array -----------------------------------------------------------------------------------------
P, Q = (RNG.uniform(0.5, 2.0, size=(5, 3)).astype(np.float32) for _ in range(2))
norms = lambda X: jnp.sqrt(jnp.sum(X**2, axis=1))
POWERS = {
    "x**2 for x**3": (lambda x: x**4, lambda c, x: (4 * c * x**2,), (P,), "times x**-1 (x**2 for x**3"),
    "1 / x for 1 / x**2": (lambda x: 1 / x, lambda c, x: (-c / x,), (P,), "times x (x**3 for x**2"),
    "and a constant": (lambda x: x**3, lambda c, x: (2 * c * x,), (P,), "times 0.667 x**-1"),
    "a root": (lambda x: jnp.sqrt(x), lambda c, x: (c / 2 / x,), (P,), "times x**-0.5"),
    "another primal": (lambda x, y: x * y, lambda c, x, y: (c, c * x), (P, Q), "power of y is wrong"),
    "a number": (
        lambda x, t: jnp.sin(x / t),
        lambda c, x, t: (c * jnp.cos(x / t) / t**2, -jnp.sum(c * jnp.cos(x / t) * x) / t**2),
        (P, np.float32(1.7)),
        "power of t is wrong: with x = t it is the true gradient times x**-1",
    ),
    "a result": (
        norms,
        lambda c, x: (c[:, None] * x / norms(x)[:, None] ** 2,),
        (P,),
        "power of sqrt at test_causes.py",
    ),
    "a result, one number": (
        lambda x: jnp.sqrt(jnp.sum(x**2)),
        lambda c, x: (c * x / jnp.sum(x**2),),
        (P,),
        "power of sqrt at test_causes.py",
    ),
}


@pytest.mark.parametrize("name", POWERS)
def test_a_wrong_power_is_named(name):
    f, backward, primals, said = POWERS[name]
    text = vjp_cause(f, backward, *primals)
    assert said in text, text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda c, x: c * jnp.cos(x) * P, "None"),  # of x at the point alone
        (lambda c, x: c * jnp.cos(x) * jnp.exp(x), "None"),
        (lambda c, x: c * jnp.cos(x) + 1e-3 * x, "0.001 times the parameter too much"),
        (lambda c, x: 2 * c * jnp.cos(x), "a factor 2 on every entry"),
        (lambda c, x: c * jnp.cos(x) * jnp.arange(1.0, 4), "a factor for each column"),
    ],
)
def test_another_error_is_no_power(wrong, said):
    text = vjp_cause(jnp.sin, lambda c, x: (wrong(c, x),), P)
    assert said in text and "power" not in text, text


def test_a_power_of_equal_magnitudes_is_none():
    signs = np.sign(RNG.normal(size=(5, 3))).astype(np.float32)
    assert "power" not in vjp_cause(lambda x: x**3, lambda c, x: (3 * c * x,), signs)


# ---- a function that is constant around the point ------------------------------------------------------------------
STEPS = {
    "round": lambda x: jnp.round(x),
    "sign": lambda x: jnp.sign(x),
    "greater": lambda x: (x > 1) * 1.0,
    "floor in jit": jax.jit(lambda x: jnp.floor(3 * x)),
    "argmax": lambda x: jax.nn.one_hot(jnp.argmax(x, axis=1), 3),
    "in a loop": lambda x: jax.lax.fori_loop(0, 2, lambda _, y: jnp.round(2 * y), x),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_gradient_of_a_step_is_told_that_its_function_is_constant(name):
    text = vjp_cause(STEPS[name], lambda c, x: (c,), P)
    assert "the function is constant around the point" in text and "intended=" in text, text


def test_a_function_that_is_constant_in_some_entries_is_so_there():
    text = vjp_cause(
        lambda x: jnp.where(x > 1, jnp.round(3 * x), jnp.sin(x)), lambda c, x: (jnp.where(x > 1, c, c * jnp.cos(x)),), P
    )
    assert f"constant around the point in {(P > 1).sum()} of {P.size} entries" in text, text


def test_a_unit_with_a_step_has_its_start_and_its_reason():
    """A surrogate in the place of a step's derivative."""
    rng = np.random.default_rng(1)
    layers = [
        (rng.normal(size=s).astype(np.float32), rng.normal(size=(s[0], 1)).astype(np.float32)) for s in ((6, 4), (3, 6))
    ]

    @jax.custom_vjp
    def step(Z):
        return (Z > 0).astype(Z.dtype)

    step.defvjp(lambda Z: (step(Z), Z), lambda Z, c: (c * jax.nn.sigmoid(Z) * (1 - jax.nn.sigmoid(Z)),))

    def net(layers, X, Y, g=lambda Z: (Z > 0).astype(Z.dtype)):
        (W1, b1), (W2, b2) = layers
        return jnp.mean((W2 @ g(W1 @ X + b1) + b2 - Y) ** 2)

    report = check_gradients(net, jax.grad(lambda *a: net(*a, step)), layers, X, Y, raise_=False)
    assert report.starts_at == "dZ[1]" and "dW[1] ([0][0]) and db[1] ([0][1]): the function is constant" in report.cause


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.where(x > 5, 0.0, (x - P) ** 2),  # the derivative is 0 at a minimum
        lambda x: jnp.maximum(x - 9, 0),  # no step
        lambda x: jnp.round(x) + x,  # a step beside something else
        lambda x: jnp.round(jax.lax.stop_gradient(x)) + 0 * x,
    ],
)
def test_a_derivative_that_is_0_for_another_reason_gets_no_step(f):
    assert "straight-through" not in vjp_cause(f, lambda c, x: (3 * c,), P)


# ---- NaN ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
def test_a_nan_in_every_run_is_neither_state_nor_jit(seed):
    """The norm of a row of zeros: bits differ between two runs, NaN - NaN is no difference."""
    X = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    X[2] = 0
    f = jax.custom_vjp(norms)
    f.defvjp(lambda X: (norms(X), X), lambda X, c: (c[:, None] * X / norms(X)[:, None],))
    report = check_vjp(f, X, raise_=False)
    assert "state" not in str(report) and "only under" not in str(report), str(report)
    if report.verdict == "FAIL":
        assert "first at [2,0]; autodiff of the loss is not finite there either" in report.cause, str(report)


def test_a_nan_under_jit_alone_is_blamed_on_jit():
    def traced(W, X, Y):
        return gradient(W, X, Y) * (jnp.nan if isinstance(W, jax.core.Tracer) else 1)

    assert cause(loss, traced) == "wrong only under jit: the eager call is right."


# ---- the diagnosis ---------------------------------------------------------------------------------------------------
def test_a_diagnosis_writes_into_no_leaf(monkeypatch):
    seen = []

    def watched(problem, manual, leaves, rng):
        before = [{k: v for k, v in vars(f).items() if not k.startswith("_")} for f in leaves]
        found = diagnose(problem, manual, leaves, rng)
        after = [{k: v for k, v in vars(f).items() if not k.startswith("_")} for f in leaves]
        seen.extend(all(x[k] is y[k] for k in x) for x, y in zip(before, after, strict=True))
        return found

    monkeypatch.setattr(pipeline, "diagnose", watched)
    cause(biased, lambda *a: (g := jax.grad(biased)(*a)) | {"W": 2 * g["W"]}, BIASED, X, Y)
    assert seen == [True, True]


@pytest.mark.parametrize("confirm", [as_seen, elsewhere])
def test_the_engine_names_what_its_row_confirms_and_nothing_else(confirm):
    """A relation that holds at the point alone."""
    here = lambda case: (1.0,) if case.inputs is None else None
    row = Row(Kind.OFFSET, here, confirm, lambda case: True)
    known = KnownElsewhere(W)
    assert (cause_of(Case(known, (0,)), (row,)) is None) == (confirm is elsewhere)
    assert cause_of(Case(known, (0,)), (replace(row, entries=13),)) is None
    assert cause_of(Case(known, (0,)), (replace(row, coarsest=1e-7),)) is None


class KnownElsewhere(Evidence):
    """One wrong leaf, and other inputs at which it is looked at."""

    def __init__(self, leaf):
        moved = Inputs([], [], {0: Look(leaf, leaf, leaf, 1e-6)}, {})
        vars(self).update(leaves=[SimpleNamespace(raw=leaf, wrong=True)], moved=moved, other_data=None)

    def limit(self, i):
        return 1e-6


@pytest.mark.parametrize("power", [0, 2])
def test_a_number_beside_a_loss_that_hides_its_inside_is_no_crash(power):
    """Six entries are then judged by four slopes, which no array of six has been multiplied with."""
    w = np.linspace(0.1, 1, 6)
    report = check_gradients(
        lambda w, c: float(c * np.sum(np.asarray(w) ** 3)),
        lambda w, c: 3 * c**power * np.asarray(w) ** 2,
        w, np.float32(1.7), raise_=False,
    )  # fmt: skip
    assert report.verdict == "FAIL" and "a factor" in report.cause

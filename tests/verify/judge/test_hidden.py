"""Losses that hide their inside in a kernel or in foreign code: values alone judge, and reference= sees every entry."""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback
from jax.experimental import pallas as pl

from jaxnet.verify import check_gradients, check_vjp
from jaxnet.verify.program.host import asked_wide
from tests.marks import slow_but

RNG = np.random.default_rng(0)
W, X = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 8)))
PLAIN = {"tanh": jnp.tanh, "unit columns": lambda Z: Z / jnp.sqrt(jnp.mean(Z * Z, axis=0) + 1e-3)}


def kernel_of(name):
    def kernel(z, out):
        out[...] = PLAIN[name](z[...])

    return kernel


def whole(name):
    """One block."""
    return lambda Z: pl.pallas_call(kernel_of(name), out_shape=jax.ShapeDtypeStruct(Z.shape, Z.dtype), interpret=True)(
        Z
    )


def in_blocks(name):
    """Two blocks of columns."""
    half = pl.BlockSpec((3, 4), lambda i: (0, i))
    return lambda Z: pl.pallas_call(
        kernel_of(name),
        out_shape=jax.ShapeDtypeStruct(Z.shape, Z.dtype),
        grid=(2,),
        in_specs=[half],
        out_specs=half,
        interpret=True,
    )(Z)


def by_io(name):
    def host(Z):
        return np.asarray(PLAIN[name](Z))

    return lambda Z: io_callback(host, jax.ShapeDtypeStruct(Z.shape, Z.dtype), Z)


def ruled(hidden, plain, factor):
    """A hidden forward pass with a rule of its own, off by a factor."""
    f = jax.custom_vjp(hidden)
    f.defvjp(lambda Z: (hidden(Z), Z), lambda Z, c: (factor * jax.vjp(plain, Z)[1](c)[0],))
    return f


def loss(activation):
    return lambda W, X: jnp.mean(jnp.sin(1 + activation(W @ X)))


HIDDEN = {"one block": (whole, "pallas_call"), "blocks": (in_blocks, "pallas_call"), "io": (by_io, "io_callback")}


@pytest.mark.parametrize(("how", "name"), slow_but(zip(HIDDEN, cycle(PLAIN)), product(HIDDEN, PLAIN)))
def test_a_hidden_part_is_judged_by_values_and_asks_for_a_reference(how, name):
    (make, operation), plain = HIDDEN[how], PLAIN[name]
    hidden, right = make(name), jax.jit(jax.grad(loss(plain)))
    for key in range(3):
        report = check_gradients(loss(hidden), right, W, X, key=key, raise_=False)
        assert report.verdict == "PASS", str(report)
        assert any(operation in note and "reference=" in note for note in report.notes), report.notes
    report = check_gradients(loss(hidden), lambda *a: 1.1 * right(*a), W, X, raise_=False)
    assert report.verdict == "FAIL" and report.cause == "params: a factor 1.1 on every entry.", str(report)


@pytest.mark.slow
@pytest.mark.parametrize("how", slow_but(["one block"], ["one block", "blocks"]))
def test_a_kernel_with_a_rule_of_its_own(how):
    plain = PLAIN["tanh"]
    for factor, verdict in ((1.0, "PASS"), (1.1, "FAIL")):
        f = ruled(HIDDEN[how][0]("tanh"), plain, factor)
        report = check_gradients(loss(f), jax.grad(loss(f)), W, X, raise_=False)
        assert report.verdict == verdict, str(report)
        assert check_vjp(f, W @ X, raise_=False).verdict == verdict


@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_with_a_reference_every_entry_of_a_kernel_s_rule_is_seen(factor):
    plain = PLAIN["tanh"]
    f = ruled(whole("tanh"), plain, factor)
    report = check_gradients(loss(f), jax.grad(loss(f)), W, X, reference=loss(plain), raise_=False)
    assert report.verdict == ("PASS" if factor == 1 else "FAIL") and report.leaves[""].resolution < 1e-5, str(report)
    assert factor == 1 or "a factor 1.0001 on every entry" in report.cause


@pytest.mark.parametrize("dtype", slow_but(["bfloat16"], ["bfloat16", "float16"]))
def test_a_kernel_that_multiplies_in_half_precision_is_not_refused(dtype):
    def kernel(w, x, out):
        out[...] = jnp.dot(w[...].astype(dtype), x[...].astype(dtype), preferred_element_type=jnp.float32)

    def product(W, X):
        shape = jax.ShapeDtypeStruct((3, 8), jnp.float32)
        return pl.pallas_call(kernel, out_shape=shape, interpret=True)(W, X)

    def hidden(W, X):
        return jnp.mean(jnp.sin(1 + jnp.tanh(product(W, X))))

    right = jax.jit(jax.grad(loss(jnp.tanh)))
    for key in range(12):
        W = np.random.default_rng(key).normal(size=(3, 4)).astype(np.float32)
        report = check_gradients(hidden, right, W, X, key=key, raise_=False)
        assert report.verdict != "FAIL", (key, str(report))


def test_a_foreign_function_is_judged_by_values():
    """LAPACK's own Cholesky factor, called without JAX's derivative of it."""

    def log_determinant(W, cholesky):
        return jnp.sum(jnp.log(jnp.diag(cholesky(W @ W.T + jnp.eye(3)))))

    def foreign(A):
        shapes = jax.ShapeDtypeStruct(A.shape, A.dtype), jax.ShapeDtypeStruct((), np.int32)
        return jax.ffi.ffi_call("lapack_spotrf_ffi", shapes)(A, uplo=np.uint8(ord("L")))[0]

    right = jax.grad(lambda W: log_determinant(W, jnp.linalg.cholesky))
    hidden = lambda W: log_determinant(W, foreign)
    report = check_gradients(hidden, right, W)
    assert report.passed and any("ffi_call" in note for note in report.notes), str(report)
    report = check_gradients(hidden, lambda W: -right(W), W, raise_=False)
    assert report.cause == "params: the sign is wrong (factor -1).", str(report)
    referred = check_gradients(hidden, right, W, reference=lambda W: log_determinant(W, jnp.linalg.cholesky))
    assert referred.passed and referred.leaves[""].resolution < 1e-4


# ---- the thread on which JAX calls a host function -------------------------------------------------------------------
def on_another_thread(function, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


def callback_of(function, *args):
    """The one callback of a function, and the shapes and dtypes that it takes and gives."""
    found = [e for e in jax.make_jaxpr(function)(*args).eqns if "callback" in e.params]
    assert len(found) == 1
    return found[0].params["callback"], *([v.aval for v in vs] for vs in (found[0].invars, found[0].outvars))


@pytest.mark.parametrize("wide", ["float64", "complex128", "int64"])
def test_a_callback_asked_in_float64_loses_nothing_on_a_thread_without_it(wide):
    """JAX narrows what goes in and comes out there, as jnp.asarray does: what travels has to survive that."""
    narrow = {"float64": "float32", "complex128": "complex64", "int64": "int32"}[wide]
    x = np.asarray(RNG.normal(size=(3, 2)) * 1e8, wide) / (1 if wide == "int64" else 3)
    x = np.asarray(x, wide)
    host = lambda x: (x * x, np.float32(1.5))
    shapes = jax.ShapeDtypeStruct(x.shape, narrow), jax.ShapeDtypeStruct((), np.float32)
    equation = jax.make_jaxpr(lambda x: jax.pure_callback(host, shapes, x))(x.astype(narrow)).eqns[0]

    def widened(x):
        widen = lambda d: np.dtype({narrow: wide, "float32": "float64"}[d.name])
        return asked_wide(equation, [x], widen)

    with jax.enable_x64(True):
        asked, taken, given = callback_of(widened, x)
        square, constant = widened(jnp.asarray(x))
        np.testing.assert_array_equal(square, x * x)
        assert square.dtype == wide and constant.dtype == np.float64 and constant == 1.5
        np.testing.assert_array_equal(jax.vmap(lambda x: widened(x)[0])(jnp.asarray([x, 2 * x])), [x * x, 4 * x * x])
    seen = []

    def as_jax_does():
        outs = asked(*(jnp.asarray(np.zeros(v.shape, v.dtype)) for v in taken))
        seen.extend((jnp.asarray(out).dtype, out.shape) for out in outs)

    on_another_thread(as_jax_does)
    assert seen == [(v.dtype, v.shape) for v in given]


@pytest.mark.parametrize("call", ["pure_callback", "io_callback"])
def test_a_host_function_in_its_own_dtypes_is_asked_in_its_own_precision(call):
    """What answers in float32 as JAX is without x64 does so too where the check has switched x64 on."""

    def host(z):
        if z.dtype != np.float32:
            raise TypeError("float32 only")
        assert not jax.config.jax_enable_x64 and jnp.ones(2).dtype == np.float32
        return np.float64(np.sum(np.tanh(z)))

    called = {"pure_callback": jax.pure_callback, "io_callback": io_callback}[call]
    hidden = lambda W, X: called(host, jax.ShapeDtypeStruct((), np.float32), W @ X)
    right = jax.jit(jax.grad(lambda W, X: jnp.sum(jnp.tanh(W @ X))))
    assert check_gradients(hidden, right, W, X)


@pytest.mark.parametrize(
    ("answer", "m", "n", "K"),
    slow_but(
        [("as asked", 10, 4, 3), ("float32", 200, 64, 32)],
        [(how, *size) for how in ("float32", "as asked") for size in ((10, 4, 3), (200, 64, 32), (300, 300, 10))],
    ),
)
def test_a_numpy_loss_behind_a_callback_is_checked_at_any_size(answer, m, n, K):
    X, Y = RNG.normal(size=(m, n)).astype(np.float32), RNG.normal(size=(m, K)).astype(np.float32)
    W = jnp.asarray(RNG.normal(size=(n, K)), jnp.float32)

    def host(W):
        loss = 0.5 * np.mean((X @ W - Y) ** 2)
        return np.float32(loss) if answer == "float32" else loss.astype(W.dtype)

    hidden = lambda W: jax.pure_callback(host, jax.ShapeDtypeStruct((), np.float32), W)
    for key in range(6):
        report = check_gradients(hidden, lambda W: X.T @ (X @ np.asarray(W) - Y) / Y.size, W, key=key, raise_=False)
        assert report.verdict == "PASS", str(report)


# ---- what values in float32 tell -------------------------------------------------------------------------------------
def softmax_regression(m, n, K):
    """A loss in NumPy that answers in float32, its gradient and a point."""
    rng = np.random.default_rng(1)
    X, labels = rng.normal(size=(m, n)).astype(np.float32), rng.integers(0, K, m)

    def softmax(W):
        Z = X @ np.asarray(W)
        Z = Z - Z.max(1, keepdims=True)
        return Z, np.exp(Z)

    def loss(W):
        Z, E = softmax(W)
        return np.float32(np.mean(np.log(E.sum(1)) - Z[np.arange(m), labels]))

    def gradient(W):
        E = softmax(W)[1]
        return X.T @ (E / E.sum(1, keepdims=True) - np.eye(K, dtype=np.float32)[labels]) / m

    return loss, gradient, 0.1 * rng.normal(size=(n, K)).astype(np.float32)


def in_numpy(loss):
    return loss


def in_a_callback(loss):
    return lambda W: jax.pure_callback(loss, jax.ShapeDtypeStruct((), np.float32), W)


def without_its_largest(g):
    return np.where(np.abs(g) == np.abs(g).max(), 0, g)


def with_a_column(factor):
    return lambda g: g * np.where(np.arange(g.shape[1]) == 3, np.float32(factor), 1)


WRONG = {
    "x 1.05": lambda g: np.float32(1.05) * g,
    "x 2": lambda g: 2 * g,
    "x 3": lambda g: 3 * g,
    "the largest entry is zero": without_its_largest,
    "a column x 1.5": with_a_column(1.5),
    "a column is zero": with_a_column(0),
    "rows reversed": lambda g: g[::-1].copy(),
    "the sign": lambda g: -g,
}
NAMED = {
    "x 1.05": "params: a factor 1.05 on every entry.",
    "x 2": "params: a factor 2 on every entry.",
    "x 3": "params: a factor 3 on every entry.",
    "the sign": "params: the sign is wrong (factor -1).",
}


@pytest.mark.parametrize(
    "size, box", slow_but([((100, 20, 10), in_numpy)], [((100, 20, 10), in_numpy), ((200, 64, 32), in_a_callback)])
)
def test_what_central_differences_of_float32_values_show_is_refused_and_a_cause_named_or_none(size, box):
    loss, gradient, W = softmax_regression(*size)
    true = gradient(W)
    for name, wrong in WRONG.items():
        report = check_gradients(box(loss), lambda W, wrong=wrong: wrong(gradient(W)), W, raise_=False)
        leaf, off = report.leaves[""], np.linalg.norm(wrong(true) - true) / np.linalg.norm(true)
        assert report.verdict == "FAIL" and leaf.resolution < 0.05, (name, str(report))
        assert off / 3 < leaf.relative_error < 3 * off, (name, leaf.relative_error, off)  # of five directions
        if name in NAMED:
            assert report.cause == NAMED[name], (name, str(report))
        elif name == "the largest entry is zero":
            assert "one coordinate is wrong" in report.cause
        else:
            assert report.cause is None, (name, str(report))


@pytest.mark.slow
def test_the_resolution_of_slopes_is_printed_and_kept():
    loss, gradient, W = softmax_regression(100, 20, 10)
    for key in range(8):
        report = check_gradients(loss, gradient, W, key=key, raise_=False)
        leaf = report.leaves[""]
        assert report.verdict == "PASS" and leaf.resolution < 0.02 and "resolution: an error above" in str(report)
        assert leaf.relative_error < 1e-3
        error = np.random.default_rng(key).normal(size=W.shape)
        error *= 1.05 * leaf.resolution * np.linalg.norm(gradient(W)) / np.linalg.norm(error)
        off = lambda W, error=error: gradient(W) + np.float32(error)
        assert not check_gradients(loss, off, W, key=key + 1, raise_=False)


def test_a_gradient_below_the_rounding_of_the_values_never_passes():
    loss, gradient, W = softmax_regression(100, 20, 10)
    offset = lambda W: np.float32(1e5) + loss(W)
    for g in (gradient, lambda W: 0 * gradient(W)):
        report = check_gradients(offset, g, W, raise_=False)
        assert report.verdict == "INCONCLUSIVE" and "a zero would have passed" in report.leaves[""].note


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("answer", [float, np.float32])
def test_a_kink_close_by_refuses_no_right_gradient(distance, answer):
    """Steps that all cross the kink tell of both sides, and not of the point."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        c, w = rng.normal(size=4), rng.normal(size=4).astype(np.float32)
        shift = float(distance - c @ np.float64(w))
        loss = lambda w: answer(max(c @ np.float64(w) + shift, 0.0) + np.sum(np.sin(np.float64(w))))  # noqa: B023
        gradient = lambda w: np.float32(c * (distance > 0) + np.cos(np.float64(w)))  # noqa: B023
        assert check_gradients(loss, gradient, w, key=seed, raise_=False).verdict != "FAIL", seed


def test_a_loss_that_refuses_large_steps_is_judged_by_small_ones():
    """A matrix is positive definite at the point, and not at steps as large as itself."""
    A = np.eye(4) + 0.3 * RNG.normal(size=(4, 4))
    S = (A @ A.T).astype(np.float32)
    gradient = lambda S: np.linalg.inv((np.float64(S) + np.float64(S).T) / 2).astype(np.float32)

    def loss(S):
        return np.float32(2 * np.sum(np.log(np.diag(np.linalg.cholesky((np.float64(S) + np.float64(S).T) / 2)))))

    for key in range(4):
        assert check_gradients(loss, gradient, S, key=key), key
        assert not check_gradients(loss, lambda S: 1.05 * gradient(S), S, key=key, raise_=False)


@pytest.mark.parametrize(("edge", "verdict"), [(0.0, "INCONCLUSIVE"), (1e-9, "INCONCLUSIVE"), (0.5, "PASS")])
def test_a_loss_that_refuses_small_steps_leaves_it_open(edge, verdict):
    """What it raises outside of its domain is not raised by the check: the steps there were ours."""

    def loss(x):
        if np.min(x) < 0:
            raise ValueError("a negative length")
        return np.sum(np.square(np.float64(x)))

    x = np.array([edge, 1.0], np.float32)
    report = check_gradients(loss, lambda x: 2 * np.asarray(x), x, raise_=False)
    assert report.verdict == verdict, str(report)
    assert verdict == "PASS" or "edge of the domain" in str(report)


def test_a_gradient_of_another_shape_is_refused_by_values_too():
    loss, gradient, W = softmax_regression(100, 20, 10)
    report = check_gradients(loss, lambda W: gradient(W).T, W, raise_=False)
    assert report.verdict == "FAIL" and "wrong shape: it has shape (10, 20)" in report.cause, str(report)

"""The three products, and what the policies promise."""

import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet._xla import matmul
from jaxnet._xla.matmul import POLICIES
from jaxnet.verify import check_gradients
from tests import cases
from tests.marks import slow_but


@pytest.mark.parametrize("name", ["float32", "float64", "tf32"])
def test_products_are_the_plain_ones(name, key, x64):
    k = jax.random.split(key, 3)
    W, A_prev, dZ = (jax.random.normal(k, s, jnp.float64) for k, s in zip(k, ((3, 5), (5, 7), (3, 7)), strict=True))
    dot = POLICIES[name]
    np.testing.assert_allclose(dot(W, A_prev), np.asarray(W) @ np.asarray(A_prev), rtol=1e-13)
    np.testing.assert_allclose(dot.nt(dZ, A_prev), np.asarray(dZ) @ np.asarray(A_prev).T, rtol=1e-13)
    np.testing.assert_allclose(dot.tn(W, dZ), np.asarray(W).T @ np.asarray(dZ), rtol=1e-13)


def test_float32_is_never_rounded_further():
    """Every product of a step asks the backend for full precision: no TF32 on a GPU, no bfloat16 on a TPU."""
    net = jaxnet.MLP((5, 7, 6, 4), ("tanh", "relu", "softmax"))
    params, X, Y, _ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    text = jax.jit(jaxnet.value_and_grad, static_argnums=0).lower(net, params, X, Y).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 8  # Z, dW and dA of three layers, less dX
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_float64_is_refused_where_jax_would_round(untyped):
    net = cases.NETS["binary"]
    params, X, Y, _ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    with pytest.raises(ValueError, match="precision is float64, but 64-bit is off"):
        jaxnet.cost(net, params, X, Y, precision="float64")


def test_float64_is_refused_where_the_operands_are_not(untyped, x64):
    """They would silently be multiplied in float32."""
    net, optimizer = cases.NETS["binary"], optax.sgd(0.1)
    params, X, Y, _ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(0))
    _, cache = jaxnet.forward(net, params, X)
    named = {"precision": "float64"}
    for call in (
        lambda: jaxnet.value_and_grad(net, params, X, Y, **named),
        lambda: jaxnet.predict(net, params, X, **named),
        lambda: jaxnet.backward(net, params, cache, Y, **named),
        lambda: jaxnet.per_example_norms(net, params, X, Y, **named),
        lambda: jax.jit(jaxnet.train_step(net, optimizer, **named))(state, X, Y),
        lambda: jaxnet.train_step(net, optimizer, "autodiff", **named)(state, X, Y),
    ):
        with pytest.raises(TypeError, match="precision is 'float64' but the params are float32; cast params, X and Y"):
            call()


def test_unknown_precision_names_the_nearest(untyped):
    net = cases.NETS["binary"]
    params, X, Y, _ = cases.point(net, jax.random.key(0), dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"precision is 'float23'; .*did you mean 'float32'"):
        jaxnet.cost(net, params, X, Y, precision="float23")


SHAPES = [(3, 5, 7), (16, 16, 16), (33, 48, 20), (1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_products_round_the_operands_and_nothing_else(shape, key):
    """Each product against float64 on operands rounded to bfloat16: the sums are float32's."""
    n, n_prev, m = shape
    k = jax.random.split(key, 3)
    W, A_prev, dZ = (jax.random.normal(k, s) for k, s in zip(k, ((n, n_prev), (n_prev, m), (n, m)), strict=True))
    dot = POLICIES["bfloat16"]
    W64, A64, dZ64 = (np.asarray(x.astype(jnp.bfloat16), np.float64) for x in (W, A_prev, dZ))
    for got, want in (
        (dot(W, A_prev), W64 @ A64),
        (dot.nt(dZ, A_prev), dZ64 @ A64.T),
        (dot.tn(W, dZ), W64.T @ dZ64),
    ):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_bfloat16_sums_are_float32_whatever_the_params(dtype, key):
    """Params given in less than float32 get the sums rounded once, and none that is beyond float16 on the way."""
    net = jaxnet.MLP((5, 7, 3), ("tanh", "softmax"))
    point = cases.point(net, key, dtype=dtype)[:3]
    program = jax.jit(jaxnet.value_and_grad, static_argnums=(0, 5)).lower(net, *point, None, "bfloat16")
    products = [line for line in program.as_text().splitlines() if "dot_general" in line]
    assert len(products) == 5 and all(re.search(r"-> tensor<[\dx]*f32>", line) for line in products)
    assert {leaf.dtype for leaf in jax.tree.leaves(program.out_info)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("given", [jnp.bfloat16, np.float16, np.float32])
def test_fit_keeps_bfloat16_s_master_weights_in_float32_whatever_the_data(given, key):
    net = jaxnet.MLP((5, 7, 3), ("tanh", "softmax"))
    params, X, Y, _ = cases.point(net, key, dtype=jnp.float32)
    settings = {"key": key, "optimizer": optax.sgd(0.1), "epochs": 1, "batch_size": None, "precision": "bfloat16"}
    of_low = jax.tree.map(lambda leaf: leaf.astype(given), params)
    for result in (jaxnet.fit(net, X.astype(given), Y, **settings), jaxnet.fit(net, X, Y, params=of_low, **settings)):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(result.params)} == {"float32"}


@pytest.mark.parametrize("name", slow_but(["square"], ["square", "depth4-sigmoid", "price"]))
def test_bfloat16_gradients_are_within_their_bound(name, key):
    """Off the float64 one by less than 1/16, and on the mean of eight draws by 1.5 times what autodiff is, at most."""
    net = cases.NETS[name]
    by_rule, by_jax = (
        jax.jit(gradient, static_argnums=0, static_argnames="precision")
        for gradient in (jaxnet.value_and_grad, jax.grad(jaxnet.cost, 1))
    )

    def errors(grads, want):
        pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(want), strict=True)
        return np.array([np.linalg.norm(np.asarray(g) - np.asarray(r)) / np.linalg.norm(r) for g, r in pairs])

    by_hand, autodiff = [], []
    for draw in jax.random.split(key, 8):
        with jax.enable_x64(True):
            point = cases.point(net, draw, m=64)
            want = by_rule(net, *point)[1]
        narrow = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float32)), point)
        grads = by_rule(net, *narrow, precision="bfloat16")[1]
        assert {leaf.dtype.name for leaf in jax.tree.leaves(grads)} == {"float32"}
        by_hand.append(errors(grads, want))
        autodiff.append(errors(by_jax(net, *narrow, precision="bfloat16"), want))
    assert np.max(by_hand) < 1 / 16, by_hand
    assert (np.mean(by_hand, 0) < 1.5 * np.mean(autodiff, 0)).all(), (np.mean(by_hand, 0), np.mean(autodiff, 0))
    assert np.min(by_hand, 0)[0] > 1e-5  # and it is not float32 in disguise


@pytest.mark.parametrize("name", slow_but(["price"], ["square", "depth4-sigmoid", "price"]))
def test_bfloat16_gradients_are_within_the_verifiers_bound(name, key):
    """Its rule: 16 times what autodiff of the same cost loses against float64. Half as much again is beyond it."""
    net = cases.NETS[name]
    params, X, Y, _ = cases.point(net, key, m=64, dtype=jnp.float32)

    @jax.jit
    def by_hand(params):
        return jaxnet.value_and_grad(net, params, X, Y, precision="bfloat16")[1]

    def too_long(params):
        return tuple(jaxnet.Layer(1.5 * dW, db) for dW, db in by_hand(params))

    def verdict(gradient):
        cost = lambda params: jaxnet.cost(net, params, X, Y, precision="bfloat16")
        return check_gradients(cost, gradient, params, raise_=False)

    assert verdict(by_hand).passed, verdict(by_hand)
    refused = verdict(too_long)
    assert {path for path, leaf in refused.leaves.items() if leaf.verdict == "FAIL"} == {
        path for path in refused.leaves if path.endswith(".W")
    }, refused


@pytest.mark.parametrize(
    ("precision", "gradient"),
    slow_but([("tf32", "autodiff"), ("bfloat16", "manual")], product(POLICIES, ["manual", "autodiff"])),
)
def test_every_policy_trains_inside_a_compiled_epoch(precision, gradient, key):
    """The master weights stay float32 (float64), and the cost falls."""
    net = jaxnet.MLP((20, 32, 16, 3), ("relu", "tanh", "softmax"))
    with jax.enable_x64(precision == "float64"):
        _, X, Y, _ = cases.point(net, key, m=96, dtype=jnp.float32)
        result = jaxnet.fit(
            net, X, Y, key=key, optimizer=optax.sgd(0.3, momentum=0.9), epochs=40, batch_size=32,
            precision=precision, gradient=gradient,
        )  # fmt: skip
    assert result.params[0].W.dtype == jnp.dtype("float64" if precision == "float64" else "float32")
    assert result.history["cost"][-1] < 0.3 * result.history["cost"][0]


@pytest.fixture
def refusing_bfloat16(monkeypatch):
    """A compiler that knows no product of bfloat16; the list is of what it was asked."""
    asked, compile_ = [], jax.stages.Lowered.compile

    def refuse(lowered, *args, **options):
        if re.search(r"dot_general.*bf16", lowered.as_text()):
            asked.append(lowered)
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: unsupported operand type BF16 in op dot")
        return compile_(lowered, *args, **options)

    monkeypatch.setattr(matmul, "cpu_has_bfloat16_units", lambda: True)
    matmul._without_units.cache_clear()
    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    yield asked
    matmul._without_units.cache_clear()


def test_a_compiler_that_refuses_bfloat16_is_asked_once_and_gets_float32(refusing_bfloat16, key):
    net = jaxnet.MLP((20, 17, 3), ("tanh", "softmax"))
    point = cases.point(net, key, m=33, dtype=jnp.float32)[:3]

    def gradient():  # a function of its own for each program: nothing of another is traced again
        return jax.jit(lambda *point: jaxnet.value_and_grad(net, *point, None, "bfloat16"))

    program = gradient().lower(*point)
    assert len(refusing_bfloat16) == 1 and not re.search(r"dot_general.*bf16", program.as_text())
    widened = program.compile()(*point)
    matmul._without_units.cache_clear()
    with pytest.MonkeyPatch.context() as context:
        context.setattr(matmul, "_without_units", lambda: ())
        narrow = gradient()(*point)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), widened, narrow)


def test_bfloat16_products_reach_the_matrix_units_on_a_cpu(monkeypatch):
    """In the compiled step every product multiplies bfloat16 by bfloat16, and none is transposed inside.

    As it is compiled where the processor has the units, whichever one runs the tests.
    """
    monkeypatch.setattr(matmul, "_without_units", lambda: ())
    net = jaxnet.MLP((128, 256, 128, 64), ("relu", "relu", "softmax"))
    params, X, Y, _ = cases.point(net, jax.random.key(0), m=64, dtype=jnp.float32)
    step = jax.jit(jaxnet.value_and_grad, static_argnums=(0, 5))
    text = step.lower(net, params, X, Y, None, "bfloat16").compile().as_text()
    products = [line for line in text.splitlines() if re.search(r"= f32\[[\d,]*\]\S* dot\(", line)]
    assert len(products) == 8
    assert all("lhs_contracting_dims={1}, rhs_contracting_dims={0}" in line for line in products)
    operands = {name for line in products for name in re.findall(r"dot\(%?([\w.-]+), %?([\w.-]+)\)", line)[0]}
    kinds = {re.search(rf"%?{re.escape(name)} = (\w+)\[|{re.escape(name)}: (\w+)\[", text) for name in operands}
    assert {kind.group(1) or kind.group(2) for kind in kinds} == {"bf16"}


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16 amx_bf16", True), ("flags : fpu avx2 avx512f", False),
        ("Features : fp asimd bf16", True), ("Features : fp asimd", False), ("processor : 0", True),
    ],
)  # fmt: skip
def test_units_for_bfloat16_are_read_off_the_processor_s_flags(text, units, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{text}\n")
    assert matmul.cpu_has_bfloat16_units(tmp_path / "cpuinfo") == units
    assert matmul.cpu_has_bfloat16_units(tmp_path / "absent")


def test_without_units_rounded_operands_are_multiplied_in_float32(monkeypatch, key):
    """The same numbers: float32 holds the product of two bfloat16 exactly."""
    net = jaxnet.MLP((20, 17, 3), ("tanh", "softmax"))
    point = cases.point(net, key, m=33, dtype=jnp.float32)[:3]
    results = []
    for units in (True, False):
        monkeypatch.setattr(matmul, "cpu_has_bfloat16_units", lambda units=units: units)
        matmul._without_units.cache_clear()
        program = jax.jit(lambda *point: jaxnet.value_and_grad(net, *point, None, "bfloat16")).lower(*point)
        assert bool(re.search(r"dot_general.*bf16", program.as_text())) == units
        results.append(program.compile()(*point))
    matmul._without_units.cache_clear()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)

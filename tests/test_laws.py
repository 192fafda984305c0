"""The laws that make the two passes right, over activations x losses x depths x weights x dtypes."""

from itertools import cycle

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnet
from tests import cases, oracle
from tests.comparison import assert_trees_close
from tests.marks import slow_but

EACH_NET = pytest.mark.parametrize("net", cases.NETS.values(), ids=cases.NETS)
SOME = ("square", "binary", "depth1-softmax", "depth4-sigmoid", "price", "penalised")
SOME_NETS = pytest.mark.parametrize("name", slow_but(["square", "depth4-sigmoid", "penalised"], SOME))
ONCE_EACH = [  # every hidden activation and every output once, beside the nets of other depths
    *(f"{hidden}-{output}-{loss}" for hidden, (output, loss) in zip(cycle(cases.HIDDEN), cases.OUTPUTS, strict=False)),
    *(name for name in cases.NETS if name.startswith("depth")), "square", "binary", "price", "penalised",
]  # fmt: skip


def derivatives(net, params, X, Y, weights):
    """By hand: J, and its gradients with respect to params and X."""
    A, cache = jaxnet.forward(net, params, X)
    J, grads = jaxnet.value_and_grad(net, params, X, Y, weights)
    dZ = jax.grad(lambda Z: output_cost(net, Z, Y, weights))(cache[-1].Z)
    _, dX = jaxnet.backward(net, params, cache, dZ)
    return A, J, grads, dX


def output_cost(net, Z, Y, weights):
    """J as a function of Z[L] alone: the cost of a one-layer net with W = 1 and b = 0."""
    n = Z.shape[0]
    last = jaxnet.MLP((n, n), net.activations[-1:], net.loss)
    return jaxnet.cost(last, (jaxnet.Layer(jnp.eye(n, dtype=Z.dtype), jnp.zeros((n, 1), Z.dtype)),), Z, Y, weights)


@EACH_NET
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_oracle(net, weighted, key, x64):
    params, X, Y, weights = cases.point(net, key)
    weights = weights if weighted else None
    A, J, grads, dX = derivatives(net, params, X, Y, weights)
    as_numpy = jax.tree.map(np.asarray, (params, X, Y))
    host_weights = None if weights is None else np.asarray(weights)

    want_A = oracle.forward(as_numpy[0], as_numpy[1], net.activations)
    want_J = oracle.cost(*as_numpy, net.activations, net.loss, host_weights, net.l2)
    want_grads, want_dX = oracle.backward(*as_numpy, net.activations, net.loss, host_weights, net.l2)
    want = {"A": want_A, "J": np.float64(want_J), "grads": tuple(map(tuple, want_grads)), "dX": want_dX}
    assert_trees_close({"A": A, "J": J, "grads": tuple(map(tuple, grads)), "dX": dX}, want, rtol=1e-12)


@EACH_NET
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_autodiff(net, weighted, key, x64):
    params, X, Y, weights = cases.point(net, key)
    weights = weights if weighted else None
    _, J, grads, dX = derivatives(net, params, X, Y, weights)
    want_J, (want, want_dX) = jax.value_and_grad(jaxnet.cost, argnums=(1, 2))(net, params, X, Y, weights)
    assert_trees_close({"J": J, "grads": grads, "X": dX}, {"J": want_J, "grads": want, "X": want_dX}, rtol=1e-12)


@pytest.mark.parametrize("name", slow_but(ONCE_EACH, cases.NETS))
def test_autodiff_in_float32(name, key):
    net = cases.NETS[name]
    params, X, Y, weights = cases.point(net, key, dtype=jnp.float32)
    _, _, grads, dX = derivatives(net, params, X, Y, weights)
    want = jax.grad(jaxnet.cost, argnums=(1, 2))(net, params, X, Y, weights)
    assert_trees_close((grads, dX), want, rtol=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


@SOME_NETS
def test_differences(name, key, x64):
    """Central differences of the cost, every coordinate of params and X."""
    net = cases.NETS[name]
    params, X, Y, weights = cases.point(net, key, m=4)
    flat, unflatten = jax.flatten_util.ravel_pytree((params, X))
    cost = jax.jit(lambda v: jaxnet.cost(net, *unflatten(v), Y, weights))
    h = 1e-5
    steps = h * jnp.eye(flat.size)
    differences = jax.vmap(lambda step: (cost(flat + step) - cost(flat - step)) / (2 * h))(steps)
    _, _, grads, dX = derivatives(net, params, X, Y, weights)
    by_hand, _ = jax.flatten_util.ravel_pytree((grads, dX))
    np.testing.assert_allclose(by_hand, differences, rtol=0, atol=1e-8 * np.abs(by_hand).max())


@SOME_NETS
def test_adjoint(name, key, x64):
    """<J v, w> = <v, Jᵀ w> for Z[L] as a function of params and X, with random v and w."""
    net = cases.NETS[name]
    params, X, _, _ = cases.point(net, key)
    point = (params, X)
    v = jax.tree.map(lambda leaf: jax.random.normal(jax.random.fold_in(key, leaf.size), leaf.shape, leaf.dtype), point)
    Z, Jv = jax.jvp(lambda params, X: jaxnet.forward(net, params, X)[1][-1].Z, point, v)
    w = jax.random.normal(key, Z.shape, Z.dtype)
    _, cache = jaxnet.forward(net, params, X)
    Jtw = jaxnet.backward(net, params, cache, w)
    left, right = (Jv * w).sum(), sum((a * b).sum() for a, b in zip(*map(jax.tree.leaves, (v, Jtw)), strict=True))
    np.testing.assert_allclose(left, right, rtol=1e-12)


def test_adjoint_of_one_layer(key, x64):
    """The same with J v written out: V A_prev + W U + c for Z = W A_prev + b moved along (V, U, c)."""
    net = jaxnet.MLP((5, 3), ("identity",))
    (layer,), X, _, _ = cases.point(net, key)
    V, c, U, w = (
        jax.random.normal(k, shape, jnp.float64)
        for k, shape in zip(jax.random.split(key, 4), ((3, 5), (3, 1), X.shape, (3, X.shape[1])), strict=True)
    )
    _, cache = jaxnet.forward(net, (layer,), X)
    ((dW, db),), dX = jaxnet.backward(net, (layer,), cache, w)
    left = ((V @ X + layer.W @ U + jnp.broadcast_to(c, w.shape)) * w).sum()
    np.testing.assert_allclose(left, (V * dW).sum() + (c * db).sum() + (U * dX).sum(), rtol=1e-12)


@SOME_NETS
def test_vmap(name, key, x64):
    """One example lifted is the batch, and the mean of per-example gradients is the batch gradient."""
    net = cases.NETS[name]
    params, X, Y, _ = cases.point(net, key)

    def one_example(x, y):
        _, grads = jaxnet.value_and_grad(net, params, x[:, None], y[:, None])
        return jaxnet.predict(net, params, x[:, None])[:, 0], grads

    A, per_example = jax.vmap(one_example, in_axes=1, out_axes=(1, 0))(X, Y)
    assert_trees_close(A, jaxnet.predict(net, params, X), rtol=1e-12)
    mean = jax.tree.map(lambda g: g.mean(axis=0), per_example)
    assert_trees_close(mean, jaxnet.value_and_grad(net, params, X, Y)[1], rtol=1e-12)


class Placement(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    def test_variants(self):
        """jit = no jit."""
        with jax.enable_x64(True):
            for name in ("square", "depth1-softmax", "price"):
                net = cases.NETS[name]
                point = cases.point(net, jax.random.key(1))
                value_and_grad = self.variant(lambda *point, net=net: jaxnet.value_and_grad(net, *point))
                assert_trees_close(value_and_grad(*point), jaxnet.value_and_grad(net, *point), rtol=1e-12)


@SOME_NETS
def test_eight_devices_are_one(name, key, x64):
    net = cases.NETS[name]
    params, X, Y, weights = cases.point(net, key, m=16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    columns, vector, everywhere = (NamedSharding(mesh, P(*spec)) for spec in ((None, "data"), ("data",), ()))
    placed = jax.device_put((params, X, Y, weights), (everywhere, columns, columns, vector))
    assert len(placed[1].sharding.device_set) == 8
    J, grads = jax.block_until_ready(jax.jit(jaxnet.value_and_grad, static_argnums=0)(net, *placed))
    one = jaxnet.value_and_grad(net, params, X, Y, weights)
    assert_trees_close(jax.tree.map(np.asarray, (J, grads)), jax.tree.map(np.asarray, one), rtol=1e-12)


@SOME_NETS
def test_permuted_examples(name, key, x64):
    net = cases.NETS[name]
    params, X, Y, weights = cases.point(net, key)
    order = jax.random.permutation(key, X.shape[1])
    A, J, grads, dX = derivatives(net, params, X, Y, weights)
    permuted = derivatives(net, params, X[:, order], Y[:, order], weights[order])
    assert_trees_close(permuted, (A[:, order], J, grads, dX[:, order]), rtol=1e-12)


@SOME_NETS
def test_purity(name, key, x64):
    """Inputs stay, a second call is bit-equal, and there is one trace per shape."""
    net = cases.NETS[name]
    point = cases.point(net, key)
    before = jax.tree.map(np.array, point)
    traces = []

    @jax.jit
    def traced(*point):
        traces.append(1)
        return jaxnet.value_and_grad(net, *point)

    first, second = traced(*point), traced(*point)
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal(jaxnet.value_and_grad(net, *point), jaxnet.value_and_grad(net, *point))
    chex.assert_trees_all_equal(jax.tree.map(np.array, point), before)
    assert len(traces) == 1


def test_predict_compiles_once_per_shape(key, compiled):
    net = cases.NETS["binary"]
    params, X, _, _ = cases.point(net, key, dtype=jnp.float32)
    X = jnp.tile(X, 9)  # a shape of its own, not met before
    jaxnet.predict(net, params, X)
    jaxnet.predict(jaxnet.MLP([2, 4, 1], ["tanh", "sigmoid"]), params, 2 * X)  # an equal net is the same program
    assert compiled.count("jit(_predict)") == 1


@pytest.mark.slow
@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_oracle_on_random_networks(data):
    """Any depth, widths (1 included), m (1 included), activations, loss and weights (some of them 0)."""
    widths = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=5), label="widths")
    output, loss = data.draw(st.sampled_from(cases.OUTPUTS), label="output")
    if output == "softmax":
        widths[-1] += 1
    hidden = [data.draw(st.sampled_from(cases.HIDDEN)) for _ in widths[2:]]
    net = jaxnet.MLP(widths, [*hidden, output], loss)
    m = data.draw(st.integers(1, 5), label="m")
    weights = data.draw(
        st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=m, max_size=m).filter(any), label="weights"
    )
    with jax.enable_x64(True):
        params, X, Y, _ = cases.point(net, jax.random.key(data.draw(st.integers(0, 99), label="key")), m)
        gradient = jax.jit(jaxnet.value_and_grad, static_argnums=0)
        J, grads = gradient(net, params, X, Y, None if weights is None else jnp.array(weights))
        as_numpy = jax.tree.map(np.asarray, (params, X, Y))
    want, _ = oracle.backward(*as_numpy, net.activations, net.loss, weights)
    np.testing.assert_allclose(J, oracle.cost(*as_numpy, net.activations, net.loss, weights), rtol=1e-12, atol=1e-14)
    largest = max(1e-3, *(np.abs(leaf).max() for leaf in jax.tree.leaves(want)))
    for got, expected in zip(jax.tree.leaves(grads), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * largest)


def test_sgd_is_the_notes_update(key, x64):
    """One step with optax.sgd(rate) is exactly W -= rate * dW."""
    net = cases.NETS["square"]
    params, X, Y, _ = cases.point(net, key)
    optimizer = optax.sgd(0.3)
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), key)
    state, _ = jaxnet.train_step(net, optimizer)(state, X, Y)
    _, grads = jaxnet.value_and_grad(net, params, X, Y)
    chex.assert_trees_all_equal(state.params, jax.tree.map(lambda p, g: p - 0.3 * g, params, grads))

"""A network as a function in other people's programs: the gradient by hand, autodiff elsewhere, in any nesting."""

import collections
import importlib
import re
from functools import partial

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnet
from tests import cases
from tests.comparison import assert_trees_close, wrong_leaves

MODULE = importlib.import_module("jaxnet.custom_gradient")
NAMES = ("gelu-softmax-cross_entropy", "silu-sigmoid-cross_entropy", "relu-tanh-squared_error", "depth4-sigmoid")
SMALL, BINARY = jaxnet.MLP((3, 4, 2), ("tanh", "softmax")), jaxnet.MLP((2, 4, 1), ("gelu", "sigmoid"))


def by_autodiff(net):
    return lambda params, X: jaxnet.forward(net, params, X)[0]


def point(net, key, dtype=jnp.float64):
    """Params and X, tangents like them, and a cotangent of A."""
    (params, X, *_), (*tangents, _, _), (_, _, dA, _) = (
        cases.point(net, jax.random.fold_in(key, i), dtype=dtype) for i in range(3)
    )
    return (params, X), tuple(tangents), dA


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("x64")
def test_both_modes_are_autodiff_s(name, key):
    net = cases.NETS[name]
    at, tangents, dA = point(net, key)

    def both(f):
        A, pullback = jax.vjp(f, *at)
        return A, pullback(dA), jax.jvp(f, at, tangents)

    both = jax.jit(both, static_argnums=0)
    assert_trees_close(both(jaxnet.apply(net)), both(by_autodiff(net)), 1e-12)


def hessian_products(f, at, v, dA):
    """The same product of the Hessian of ⟨dA, f + f²⟩ with v, in each nesting of the two modes."""
    J = lambda *at: ((A := f(*at)) * dA + A * A).sum()
    gradient = jax.grad(J, argnums=(0, 1))
    dot = lambda x, y: sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), x, y)))
    return {
        "forward over reverse": jax.jvp(gradient, at, v)[1],
        "reverse over forward": jax.grad(lambda *at: jax.jvp(J, at, v)[1], argnums=(0, 1))(*at),
        "reverse over reverse": jax.grad(lambda *at: dot(gradient(*at), v), argnums=(0, 1))(*at),
    }


@pytest.mark.parametrize(
    "net", [cases.NETS["gelu-softmax-cross_entropy"], cases.NETS["binary"]], ids=["gelu", "binary"]
)
@pytest.mark.usefixtures("x64")
def test_hessian_products(net, key):
    at, v, dA = point(net, key)
    got = jax.jit(hessian_products, static_argnums=0)(jaxnet.apply(net), at, v, dA)
    plain = lambda *arguments: hessian_products(by_autodiff(net), *arguments)["forward over reverse"]
    want = jax.jit(plain)(at, v, dA)
    for name, product in got.items():
        assert not wrong_leaves(product, want, 1e-11), name


@pytest.mark.usefixtures("x64")
def test_many_nets_and_many_inputs_at_once(key):
    """vmap of the gradient over params, over X, and over both, and the gradient of a vmap."""
    nets = [point(SMALL, jax.random.fold_in(key, i)) for i in range(3)]
    (params, X), _, dA = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)

    def each(f):
        gradient = jax.grad(lambda params, X, dA: (f(params, X) * dA).sum(), argnums=(0, 1))
        first = jax.tree.map(lambda leaf: leaf[0], params)
        return (
            jax.vmap(gradient)(params, X, dA),
            jax.vmap(gradient, in_axes=(0, None, None))(params, X[0], dA[0]),
            jax.vmap(gradient, in_axes=(None, 0, None))(first, X, dA[0]),
            jax.grad(lambda params: (jax.vmap(f, in_axes=(None, 0))(params, X) * dA).sum())(first),
            jax.vmap(lambda v: jax.jvp(lambda X: f(first, X), (X[0],), (v,)))(X),
        )

    assert_trees_close(
        jax.jit(each, static_argnums=0)(jaxnet.apply(SMALL)), jax.jit(each, static_argnums=0)(by_autodiff(SMALL)), 1e-12
    )


@pytest.mark.usefixtures("x64")
def test_jacobians_and_hessians(key):
    (params, X), _, _ = point(SMALL, key)

    def each(f):
        of_X = lambda X: f(params, X)
        return jax.jacfwd(of_X)(X), jax.jacrev(of_X)(X), jax.hessian(lambda X: of_X(X).sum(axis=1))(X)

    each = jax.jit(each, static_argnums=0)
    for got, want in zip(each(jaxnet.apply(SMALL)), each(by_autodiff(SMALL)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-13)


def planted(*arguments):
    """Backward with a mistake: the first dW is doubled."""
    (first, *others), dX = jaxnet.backward(*arguments)
    return (first._replace(W=2 * first.W), *others), dX


def test_reverse_mode_is_our_backward(monkeypatch, key):
    """A mistake planted there is seen in the gradient, and in no forward mode."""
    at, tangents, dA = point(SMALL, key, jnp.float32)
    both = lambda: jax.jit(lambda *at: (jax.vjp(f, *at)[1](dA), jax.jvp(f, at, tangents)))(*at)
    f = jaxnet.apply(SMALL)
    right, slope = both()
    monkeypatch.setattr(MODULE, "backward", planted)
    wrong, slope_again = both()
    assert wrong_leaves(wrong, right, 1e-5) == {"[0][0].W"}
    assert not wrong_leaves(slope_again, slope, 1e-6)


@pytest.mark.slow
def test_our_verifier_refuses_a_rule_with_a_mistake(monkeypatch, key):
    monkeypatch.setattr(MODULE, "backward", planted)
    at, *_ = point(SMALL, key, jnp.float32)
    with pytest.raises(jaxnet.GradientMismatch, match=r"\[0\]\.W"):
        jaxnet.check_vjp(jaxnet.apply(SMALL), *at)


@pytest.mark.parametrize("net", [SMALL, pytest.param(BINARY, marks=pytest.mark.slow)], ids=["softmax", "sigmoid"])
def test_our_verifier_passes_the_rule(net):
    params = jaxnet.init(net, jax.random.key(0))
    X = jax.random.normal(jax.random.key(1), (net.sizes[0], 5))
    report = jaxnet.check_vjp(jaxnet.apply(net), params, X, variants=("jit",), cotangents=1)
    assert report.verdict == "PASS" and report.stripped, report


def operations(function, *arguments):
    """How often each operation stands in the compiled program."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return collections.Counter(re.findall(r" = \S+ ([a-z-]+)\(", text))


def test_the_gradient_is_compiled_to_the_two_passes_and_nothing_else(key):
    net = jaxnet.MLP((3, 4, 4, 2), ("gelu", "tanh", "softmax"))
    (params, X), _, dA = point(net, key, jnp.float32)

    def by_hand(params, X):
        _, cache = jaxnet.forward(net, params, X)
        return jaxnet.backward(net, params, cache, MODULE.output_dZ(net, cache[-1], dA))[0]

    found = operations(jax.grad(lambda params, X: (jaxnet.apply(net)(params, X) * dA).sum()), params, X)
    assert found == operations(by_hand, params, X) and found["dot"] > 0


@pytest.mark.slow
def test_bfloat16_products_are_backward_s(key):
    at, _, dA = point(SMALL, key, jnp.float32)
    A, pullback = jax.vjp(jaxnet.apply(SMALL, "bfloat16"), *at)
    _, cache = jaxnet.forward(SMALL, *at, precision="bfloat16")
    dZ = jax.vjp(lambda Z: jax.nn.softmax(Z, axis=0), cache[-1].Z)[1](dA)[0]
    assert_trees_close(pullback(dA), jaxnet.backward(SMALL, at[0], cache, dZ, "bfloat16"), 1e-5)
    np.testing.assert_array_equal(A, jaxnet.predict(SMALL, *at, precision="bfloat16"))


def test_equal_nets_share_what_was_compiled(compiled):
    again = lambda: jaxnet.apply(jaxnet.MLP([3, 4, 2], ["tanh", "softmax"]))
    assert again() is again() is not jaxnet.apply(SMALL, "bfloat16")
    params, X = jaxnet.init(SMALL, jax.random.key(0)), jnp.ones((3, 11))
    for _ in range(2):
        jax.jit(again())(params, X)
    assert compiled.count("jit(output)") == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jaxnet.apply("net"), TypeError, "net is 'net'; expected an MLP"),
        (lambda: jaxnet.apply(SMALL, "half"), ValueError, "precision is 'half'; expected one of"),
        (lambda: jaxnet.apply(SMALL)((), np.ones((3, 2))), ValueError, "params has 0 layers"),
        (
            lambda: jaxnet.apply(SMALL)(jaxnet.init(SMALL, jax.random.key(0)), np.ones((5, 3))),
            ValueError,
            r"X has shape \(5, 3\).*pass X\.T",
        ),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------- in the programs of others


NET = jaxnet.MLP((2, 4, 1), ("tanh", "identity"))
X = jax.random.normal(jax.random.key(1), (2, 40))
Y = (X[:1] * X[1:] > 0).astype(jnp.float32)


def loss_of(model):
    return optax.sigmoid_binary_cross_entropy(model(X), Y).mean()


@pytest.fixture
def expected():
    """The gradient of the same loss by autodiff of our forward."""
    params = jaxnet.init(NET, jax.random.key(0))
    return params, jax.jit(jax.grad(lambda params: loss_of(lambda X: by_autodiff(NET)(params, X))))(params)


def test_in_a_module_of_equinox(expected):
    class Model(equinox.Module):
        params: tuple
        net: jaxnet.MLP = equinox.field(static=True)

        def __call__(self, X):
            return jaxnet.apply(self.net)(self.params, X)

    params, grads = expected
    found = equinox.filter_jit(equinox.filter_grad(loss_of))(Model(params, NET))
    assert_trees_close(found.params, grads, 1e-5)


def test_in_a_module_of_flax_nnx(expected):
    class Model(nnx.Module):
        def __init__(self, net, params):
            self.net, self.params = net, nnx.Param(params)

        def __call__(self, X):
            return jaxnet.apply(self.net)(self.params.get_value(), X)

    params, grads = expected
    found = nnx.jit(nnx.grad(loss_of))(Model(NET, params))
    assert_trees_close(found["params"].get_value(), grads, 1e-5)


@pytest.mark.usefixtures("implicit_promotion")
def test_among_other_params_with_optax(expected):
    """As Haiku's users write: params by name in a dict, a pure function of them, an optimizer of all."""
    params, grads = expected
    everything = {"mlp": params, "head": {"scale": jnp.ones(()), "unused": jnp.ones(3)}}

    def loss(everything):
        return loss_of(lambda X: everything["head"]["scale"] * jaxnet.apply(NET)(everything["mlp"], X))

    found = jax.jit(jax.grad(loss))(everything)
    assert_trees_close(found["mlp"], grads, 1e-5)
    assert not found["head"]["unused"].any() and found["head"]["scale"] != 0
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05))

    @jax.jit
    def step(carry, _):
        params, state = carry
        J, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), J

    _, costs = jax.lax.scan(step, (everything, optimizer.init(everything)), length=100)
    assert costs[-1] < 0.8 * costs[0]


@pytest.mark.parametrize("of", ["outside", "inside"])
def test_devices_that_share_the_params_and_split_the_examples(of, key):
    """In a shard_map, whose types tell what differs between devices; the gradient is that of all examples."""
    net, mesh = jaxnet.MLP((2, 5, 2), ("tanh", "softmax")), jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
    params, X = jaxnet.init(net, key), jax.random.normal(key, (2, 8))
    own = lambda params, X: (jaxnet.apply(net)(params, X)[0] ** 2).sum()
    split = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(None, "i")), out_specs=P())
    if of == "outside":
        total = split(lambda params, X: jax.lax.psum(own(params, X), "i"))
        found = jax.jit(jax.grad(total))(params, X)
    else:
        found = jax.jit(split(jax.grad(own)))(params, X)
    expected = jax.grad(lambda params: (jaxnet.predict(net, params, X)[0] ** 2).sum())(params)
    assert_trees_close(jax.device_get(found), expected, rtol=1e-5)

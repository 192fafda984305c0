"""Our own backward pass before our own judge: every activation, loss and depth; jit, vmap and eight devices."""

from itertools import product

import jax
import jax.numpy as jnp
import pytest

import jaxnet
from jaxnet import parallel
from jaxnet.parallel import meshes
from tests import cases
from tests.marks import slow_but

NETS = {
    name: net
    for name, net in cases.NETS.items()
    if net.activations[-1] in ("sigmoid", "softmax", "identity") or name.startswith(("tanh", "relu-relu", "depth"))
}


def check(net, point, **options):
    """check_gradients of value_and_grad against cost, with example weights."""

    @jax.jit
    def by_hand(params, *batch):
        return jaxnet.value_and_grad(net, params, *batch)[1]

    def loss(params, *batch):
        return jaxnet.cost(net, params, *batch)

    return jaxnet.check_gradients(loss, by_hand, *point, **options)


# Each hidden activation, each output and loss, and each depth once.
FAST = (
    "sigmoid-sigmoid-squared_error", "tanh-softplus-squared_error", "relu-identity-squared_error",
    "leaky_relu-sigmoid-cross_entropy", "softplus-softmax-cross_entropy", "gelu-identity-squared_error",
    "silu-sigmoid-squared_error", "depth1-softmax", "depth4-sigmoid", "binary",
)  # fmt: skip


@pytest.mark.parametrize("name", slow_but(FAST, NETS))
def test_every_network(name, key):
    net = NETS[name]
    report = check(net, cases.point(net, key, dtype=jnp.float32), variants=("eager",))  # compiled already
    assert isinstance(report, jaxnet.Report)
    assert report.passed and all(leaf.score < 8 for leaf in report.leaves.values()), report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "name"),
    slow_but(
        [("float64", "binary"), ("bfloat16", "depth1-softmax")],
        product(["float64", "bfloat16"], ["square", "binary", "depth1-softmax", "depth4-sigmoid", "price"]),
    ),
)
def test_other_dtypes(dtype, name, key):
    with jax.enable_x64(dtype == "float64"):
        report = check(cases.NETS[name], cases.point(cases.NETS[name], key, m=12, dtype=jnp.dtype(dtype)))
        assert report.verdict != "FAIL" and (dtype == "bfloat16" or report.passed), report


@pytest.mark.slow
def test_all_estimators_and_variants(key):
    net = cases.NETS["square"]
    report = check(net, cases.point(net, key, dtype=jnp.float32), witnesses="full", variants=("eager", "jit", "vmap"))
    assert report.passed and len(report.witnesses) >= 6, report
    said = {witness.name[0]: witness.said for witness in report.witnesses}
    assert "directions a leaf" in said["3"], report  # each has really spoken, none has crashed in silence
    assert not any("NameError" in str(text) or "crashed" in text for text in (*said.values(), *report.notes)), report


def test_complex_step_speaks_where_all_is_analytic(key):
    net = cases.NETS["tanh-identity-squared_error"]
    report = check(net, cases.point(net, key, dtype=jnp.float32)[:3], witnesses="full")
    assert "float64 roundings" in next(w.said for w in report.witnesses if w.name.startswith("5")), report


@pytest.mark.parametrize("name", slow_but(["binary"], ["square", "binary"]))
def test_eight_devices(name, key):
    mesh, net = parallel.mesh(), cases.NETS[name]
    params, X, Y, _ = cases.point(net, key, m=16, dtype=jnp.float32)
    X, Y = jax.device_put((X, Y), meshes.columns(mesh))
    report = check(net, (jax.device_put(params, meshes.replicated(mesh)), X, Y))
    assert report.passed, report


def test_a_bug_planted_in_it_is_found_where_it_is(key):
    """The misprint of the notes, g[2]' for g[1]', in our own code."""
    from tests import test_mutants

    with jax.enable_x64(True):
        point = cases.point(test_mutants.NET, key, m=4)
        old, new, leaves = test_mutants.MUTANTS["g[l+1]' for g[l]'"]
        with pytest.raises(jaxnet.GradientMismatch) as caught:
            jaxnet.check_gradients(
                lambda params, *batch: jaxnet.cost(test_mutants.NET, params, *batch, **test_mutants.STEP),
                test_mutants.mutated(old, new), *point,
            )  # fmt: skip
    report = caught.value.report
    assert {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"} == leaves
    assert report.starts_at == "dZ[2]"

"""Every layout gives one device's numbers, gradients lie as their params do, and no more moves than has to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnet
from experiments.collectives import Collective, collectives, collectives_of_text, group_size, ideal
from experiments.scaling import programs
from jaxnet import parallel
from jaxnet.parallel import meshes
from jaxnet.parallel.layouts import shardings
from jaxnet.train import batches
from jaxnet.train.epochs import run_chunk
from tests import cases
from tests.comparison import assert_trees_close
from tests.marks import slow_but

EVEN = jaxnet.MLP((16, 32, 16, 24, 8), ("gelu", "tanh", "relu", "softmax"))
ODD = jaxnet.MLP((13, 30, 20, 10), ("gelu", "relu", "softmax"))  # widths that 8 and 4 do not divide; odd depth
REGRESSION = jaxnet.MLP((4, 16, 8), ("softplus", "identity"), l2=0.1)
MESHES = [("data", 8, 1), ("fsdp", 8, 1), ("tensor", 1, 8), ("tensor", 4, 2), ("fsdp+tensor", 4, 2)]
layouts = pytest.mark.parametrize(("layout", "data", "model"), MESHES)


def laid_out(net, layout, mesh, params, X, Y, weights=None):
    """The arguments on the mesh, their split in their types."""
    mesh = meshes.typed(mesh)
    params = jax.device_put(params, shardings(net, mesh, layout))
    X, Y = jax.device_put((X, Y), NamedSharding(mesh, P(None, "data")))
    return params, X, Y, weights if weights is None else jax.device_put(weights, NamedSharding(mesh, P()))


def specs(tree):
    return jax.tree.map(lambda leaf: jax.typeof(leaf).sharding.spec, tree)


@layouts
@pytest.mark.parametrize(
    ("net", "weighted", "precision"),
    slow_but(
        FAST := [
            (EVEN, False, "float32"),
            (ODD, True, "float32"),
            (EVEN, True, "bfloat16"),
            (REGRESSION, True, "float64"),
        ],
        [*FAST, (EVEN, True, "tf32")],
    ),
)
def test_the_passes_give_one_device_s_numbers(layout, data, model, net, weighted, precision, key, x64):
    """Of 16 examples; or of 13 with weights, which a mesh has padded with examples of weight 0."""
    params, X, Y, weights = cases.point(net, key, m=13 if weighted else 16)
    weights = weights if weighted else None
    run = jax.jit(jaxnet.value_and_grad, static_argnames=("net", "precision"))
    J, grads = run(net, params, X, Y, weights, precision=precision)
    padded = batches.padded_to(16, *jax.device_get((X, Y, weights)))
    arguments = laid_out(net, layout, parallel.mesh(data, model), params, *padded)
    J_split, grads_split = run(net, *arguments, precision=precision)
    assert specs(grads_split) == specs(arguments[0]) == parallel.layout(net, parallel.mesh(data, model), layout)
    assert_trees_close(meshes.ordinary((J_split, grads_split)), (J, grads), 1e-12)


def test_what_is_not_on_the_mesh_comes_there_or_is_refused(key, x64):
    """Each call as it stands, without jit: params, or X and Y, split by their types, and the others elsewhere."""
    net = jaxnet.MLP((16, 8), ("softmax",))
    params, X, Y, _ = cases.point(net, key, m=16)
    expected = jaxnet.value_and_grad(net, params, X, Y)
    there = laid_out(net, "fsdp", parallel.mesh(), params, X, Y)
    for given in ((there[0], X, np.asarray(Y)), (params, *there[1:3])):
        assert_trees_close(meshes.ordinary(jaxnet.value_and_grad(net, *given)), expected, 1e-12)
    A, cache = jaxnet.forward(net, there[0], np.asarray(X))
    grads, _ = jaxnet.backward(net, there[0], cache, (A - Y) / 16)
    assert_trees_close(meshes.ordinary(grads), expected[1], 1e-12)

    auto, one = jax.device_put((X, Y), meshes.columns(parallel.mesh())), jax.device_put((X, Y), jax.devices()[1])
    whole = jax.device_put(X, meshes.replicated(meshes.typed(parallel.mesh())))
    explicit = r"on a mesh with explicit axes, \{'data': 8, 'model': 1\}; expected both there: jax.device_put"
    for given, says in (
        ((there[0], *one), f"X is on cpu:1, and params\\[0\\].W {explicit}"),
        ((there[0], *auto), f"X is on a mesh whose axes are Auto, and params\\[0\\].W {explicit}"),
        ((there[0], there[1], one[1]), f"Y is on cpu:1, and X {explicit}"),
        ((jax.device_put(params, jax.devices()[1]), *there[1:3]), f"params\\[0\\].W is on cpu:1, and X {explicit}"),
        ((there[0], whole, there[2]), "Y has its examples split over 'data' of the mesh, and X has not; expected both"),
    ):
        with pytest.raises(ValueError, match=says):
            jaxnet.value_and_grad(net, *given)


@layouts
def test_autodiff_agrees_under_every_layout(layout, data, model, key, x64):
    params, X, Y, _ = cases.point(EVEN, key, m=16)
    _, grads = jaxnet.value_and_grad(EVEN, params, X, Y)
    arguments = laid_out(EVEN, layout, parallel.mesh(data, model), params, X, Y)
    by_jax = jax.jit(jax.grad(jaxnet.cost, argnums=1), static_argnums=0)(EVEN, *arguments)
    assert_trees_close(meshes.ordinary(by_jax), grads, 1e-12)


@layouts
@pytest.mark.parametrize(
    ("batch_size", "net"), slow_but([(20, ODD)], [(20, ODD), (None, ODD), (20, EVEN), (None, EVEN)])
)
def test_training_gives_one_device_s_numbers(layout, data, model, batch_size, net, key, x64, implicit_promotion):
    """Batches of 20 of 61 examples, padded to what the mesh divides; clipped gradients and Adam; the best of three."""
    _, X, Y, weights = cases.point(net, key, m=61)
    settings = {"key": key, "optimizer": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01)), "epochs": 3}
    settings |= {"batch_size": batch_size, "weights": weights, "validation": (X[:, :9], Y[:, :9]), "patience": 3}
    mesh = parallel.mesh(data, model)
    one, split = (jaxnet.fit(net, X, Y, **settings, **more) for more in ({}, {"mesh": mesh, "layout": layout}))
    assert_trees_close(jax.tree.map(np.asarray, split.params), jax.tree.map(np.asarray, one.params), 1e-12)
    assert_trees_close(split.history, one.history, 1e-12)
    jax.tree.map(assert_copies_equal, (split.params, split.loop.state))
    adam = split.loop.state.opt_state[1][0]
    for leaf, moment, spec in zip(
        *map(jax.tree.leaves, (split.params, adam.mu)), jax.tree.leaves(parallel.layout(net, mesh, layout)), strict=True
    ):
        assert leaf.sharding.spec == moment.sharding.spec == spec
        assert not leaf.sharding.mesh.explicit_axes and leaf.reshape(-1).size == leaf.size


def assert_copies_equal(array):
    """Devices that hold the same part of an array hold the same bits."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    copies = {}
    for shard in array.addressable_shards:
        copies.setdefault(str(shard.index), []).append(np.asarray(shard.data).tobytes())
    assert sum(map(len, copies.values())) == 8 and all(len({*each}) == 1 for each in copies.values())


def test_copies_that_differ_are_seen():
    sharding = NamedSharding(parallel.mesh(), P())
    parts = [jax.device_put(jnp.float32(number), device) for number, device in enumerate(sharding.mesh.devices.flat)]
    with pytest.raises(AssertionError):
        assert_copies_equal(jax.make_array_from_single_device_arrays((), sharding, parts))


@pytest.mark.parametrize("layout", ["data", "fsdp"])
@pytest.mark.parametrize("before", [{"device": "cpu"}, {"mesh": parallel.mesh(4)}], ids=["one device", "four"])
def test_params_from_other_devices_start_a_training_on_a_mesh(before, layout, key):
    _, X, Y, _ = cases.point(EVEN, key, m=32, dtype=jnp.float32)
    settings = {"key": key, "optimizer": optax.sgd(0.1), "epochs": 1, "batch_size": 16}
    params = jaxnet.fit(EVEN, X, Y, **settings, **before).params
    moved = jaxnet.fit(EVEN, X, Y, params=params, **settings, mesh=parallel.mesh(), layout=layout)
    stayed = jaxnet.fit(EVEN, X, Y, params=jax.tree.map(np.asarray, params), **settings)
    assert_trees_close(jax.tree.map(np.asarray, moved.params), jax.tree.map(np.asarray, stayed.params), 1e-5)
    assert not params[0].W.is_deleted()  # the caller keeps them


@layouts
def test_no_more_moves_than_the_products_need(layout, data, model, key):
    """Of float32, but for the cost: to the byte, and in kind."""
    params, X, Y, _ = cases.point(EVEN, key, m=64, dtype=jnp.float32)
    mesh = parallel.mesh(data, model)
    run = jax.jit(jaxnet.value_and_grad, static_argnums=0)
    found = collectives(run.lower(EVEN, *laid_out(EVEN, layout, mesh, params, X, Y)).compile(), mesh.size)
    expected = list(ideal(EVEN, parallel.layout(EVEN, mesh, layout), mesh, 64, 4))
    if data > 1:
        expected.append(Collective("all-reduce", 4, data))  # the cost
    assert moved(found) == moved(expected)


@layouts
def test_a_whole_step_moves_holds_and_computes_what_the_formulas_say(layout, data, model, implicit_promotion):
    """Clipped gradients and Adam, from shapes: beside the gradient a few numbers move, norms and metrics."""
    net = programs.network(pairs=1)
    row = programs.compiled(net, layout, "train_step", "float32", parallel.mesh(data, model), examples=2048)
    assert row["ring"] == pytest.approx(row["ideal"], rel=0.01) and row["unexpected"] <= 1024
    whole, share = sum(n * n_prev for n_prev, n in itertools.pairwise(net.sizes)), row["share"]
    split = {"data": 1, "tensor": model}.get(layout, 8)  # "fsdp" splits over all
    for part in ("state", "outputs"):
        assert row[part] - share["b"] == pytest.approx(3 * 4 * whole / split, rel=0.01)
    assert row["products"] <= row["flops"] <= 1.05 * row["products"]


@pytest.mark.parametrize(("precision", "kind"), [("float32", "f32"), ("bfloat16", "bf16")])
def test_w_is_gathered_as_the_products_round_it(precision, kind, key):
    """In the program that XLA is given; what it compiles that to is its own affair (on a CPU it widens bfloat16)."""
    params, X, Y, _ = cases.point(EVEN, key, m=64, dtype=jnp.float32)
    arguments = laid_out(EVEN, "fsdp", parallel.mesh(), params, X, Y)
    run = jax.jit(jaxnet.value_and_grad, static_argnames=("net", "precision"))
    gathers = programs.gathered(run.lower(EVEN, *arguments, precision=precision))
    assert gathers == [kind] * 7  # in each pass, but for the first layer's in the backward one


class LoweredError(Exception):
    """The program of a training is there, and need not run."""


@pytest.mark.parametrize(("layout", "data", "model"), slow_but([("fsdp", 8, 1)], MESHES))
def test_nothing_moves_in_the_loop_but_what_a_step_moves(layout, data, model, key, implicit_promotion, programs_of_fit):
    """fit's loop over mini-batches: each array once a step, as in value_and_grad; beside them only single numbers."""
    _, X, Y, _ = cases.point(EVEN, key, m=61, dtype=jnp.float32)
    mesh, optimizer = parallel.mesh(data, model), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    with pytest.raises(LoweredError):
        jaxnet.fit(EVEN, X, Y, key=key, optimizer=optimizer, epochs=2, batch_size=16, mesh=mesh, layout=layout)
    found = moved(collectives(programs_of_fit[0].compile(), 8))
    expected = moved(ideal(EVEN, parallel.layout(EVEN, mesh, layout), mesh, 16, 4))
    assert {kind for kind, _ in found} == {kind for kind, _ in expected} | {"all-reduce"}
    for kind, group in found:
        beside = found[kind, group] - expected.get((kind, group), 0)
        assert 0 <= beside <= 256 if kind == "all-reduce" else beside == 0, (kind, group, beside)


@pytest.fixture
def programs_of_fit(monkeypatch):
    """The lowered program of the epochs of a fit, which is ended before it runs."""
    lowered = []

    def lower(*arguments):
        lowered.append(run_chunk.lower(*arguments))
        raise LoweredError

    monkeypatch.setattr("jaxnet.train.in_memory.run_chunk", lower)
    return lowered


def moved(found):
    """Bytes by kind and size of the group, of groups of more than one: XLA may join several of a kind."""
    total = {}
    for kind, size, group in found:
        if group > 1:
            total[kind, group] = total.get((kind, group), 0) + size
    return total


def test_every_form_of_replica_groups_is_read():
    forms = {
        "replica_groups=[2,4]<=[8], dimensions={0}": 4,
        "replica_groups=[4,2]<=[2,4]T(1,0), channel_id=1": 2,
        "replica_groups={{0,1,2,3},{4,5,6,7}}": 4,
        "replica_groups={}": 8,
        "channel_id=1": 8,
        "replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}": 4,
        "replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}": 8,
        "replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_1'}": 2,
    }
    assert {form: group_size(form, 8) for form in forms} == forms
    with pytest.raises(ValueError, match="not known"):
        group_size("replica_groups=something", 8)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%r = f32[16,4]{1,0} all-reduce(%p), replica_groups={}, to_apply=%add", ("all-reduce", 256, 8)),
        ("%r = (f32[16]{0}, bf16[2,2]{1,0}) all-reduce(%p, %q), replica_groups=[2,4]<=[8]", ("all-reduce", 72, 4)),
        ("ROOT r = f32[32,4]{1,0:T(8,128)} all-gather(p), replica_groups=[4,2]<=[8]", ("all-gather", 512, 2)),
        ("%r = f32[4]{0} reduce-scatter(f32[32]{0} %p), replica_groups={}, dimensions={0}", ("reduce-scatter", 16, 8)),
        ("%s = f32[16,4]{1,0} all-reduce-start(%p), replica_groups={}", ("all-reduce", 256, 8)),
        ("%s = (f32[16]{0}, f32[4]{0}) all-reduce-start(%p, %q), replica_groups={}", ("all-reduce", 80, 8)),
        ("%s = ((f32[16]{0}), f32[16]{0}, s32[]) all-reduce-start(%p), replica_groups={}", ("all-reduce", 64, 8)),
        ("%s = (bf16[4,4]{1,0}, bf16[32,4]{1,0}) all-gather-start(%p), replica_groups={}", ("all-gather", 256, 8)),
        (
            "%s = ((f32[4]{0}, f32[2,1]{1,0}), (f32[8]{0}, f32[4,1]{1,0})) all-gather-start(%p, %q),"
            " replica_groups={{0,1},{2,3},{4,5},{6,7}}, dimensions={0}, use_global_device_ids=true",
            ("all-gather", 48, 2),
        ),
        (
            "%s = ((f32[32]{0}, /*index=1*/f32[8]{0}), (f32[4]{0}, f32[1]{0}), u32[]) reduce-scatter-start(%p, %q),"
            " channel_id=1, replica_groups={}, dimensions={0}, to_apply=%add",
            ("reduce-scatter", 20, 8),
        ),
        (
            "%s = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1}}",
            ("collective-permute", 16, 8),
        ),
        ("%s = ((f32[4,2]{1,0}), f32[4,2]{1,0}) all-to-all-start(%p), replica_groups={}", ("all-to-all", 32, 8)),
        # what an async-start calls stands in a computation of its own, and is read there
        ("%s = ((f32[32]{0}), f32[4]{0}, s32[]) async-start(%p), calls=%wrapped_reduce_scatter", None),
        ("%d = f32[4]{0} async-done(%reduce-scatter-start.1), calls=%wrapped_reduce_scatter", None),
        ("%d = f32[32,4]{1,0} all-gather-done(%all-gather-start.1)", None),
        ('%f = f32[4]{0} fusion(%p), kind=kLoop, metadata={op_name="jit(f)/an all-reduce(x)"}', None),
    ],
)
def test_every_form_of_a_collective_is_read_once(line, expected):
    assert collectives_of_text(f"  {line}\n", 8) == ([] if expected is None else [expected])


# ---------------------------------------------------------------- what does not fit


def test_layouts_follow_from_shapes():
    mesh = parallel.mesh(4, 2)
    assert parallel.layout(EVEN, mesh, "data") == tuple(jaxnet.Layer(P(None, None), P(None, None)) for _ in range(4))
    first, second, *_ = parallel.layout(EVEN, mesh, "fsdp+tensor")
    assert first == (P("model", "data"), P("model", None)) and second == (P("data", "model"), P(None, None))
    narrow = jaxnet.MLP((8, 3, 5), ("tanh", "softmax"))
    first, second = parallel.layout(narrow, mesh, "fsdp+tensor")
    assert first == (P(None, "data"), P(None, None)) and second == (P(None, None), P(None, None))


@pytest.mark.usefixtures("untyped")
def test_bad_layouts_are_refused(key):
    _, X, Y, _ = cases.point(EVEN, key, m=16, dtype=jnp.float32)
    with pytest.raises(ValueError, match="name is 'zero'; expected one of 'data', 'fsdp'"):
        parallel.layout(EVEN, parallel.mesh(), "zero")
    with pytest.raises(ValueError, match="layout is 'tensor', but the mesh has one device along 'model'"):
        jaxnet.fit(EVEN, X, Y, key=key, mesh=parallel.mesh(), layout="tensor")
    with pytest.raises(ValueError, match="layout is 'fsdp' without a mesh; give mesh"):
        jaxnet.fit(EVEN, X, Y, key=key, layout="fsdp")
    with pytest.raises(ValueError, match="model is 3, which does not divide the 8 devices; give data too"):
        parallel.mesh(model=3)
    with pytest.raises(ValueError, match="data is 4 and model 3: 12 devices, but JAX finds 8"):
        parallel.mesh(4, 3)
    with pytest.raises(ValueError, match=r"optimizer multiplies params that are split over a mesh .*layout='data'"):
        jaxnet.fit(EVEN, X, Y, key=key, mesh=parallel.mesh(), layout="fsdp", optimizer=optax.lbfgs(), batch_size=None)

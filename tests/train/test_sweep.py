"""A sweep's member is `fit` with its settings; one that diverges leaves the others alone."""

from itertools import product

import jax
import numpy as np
import optax
import pytest

import jaxnet
from experiments.collectives import collectives
from jaxnet import parallel
from jaxnet.datasets import flower
from jaxnet.parallel import meshes
from jaxnet.parallel.meshes import over_all
from jaxnet.train import batches
from jaxnet.train.config import FitConfig
from jaxnet.train.sweep import (
    PLACEHOLDER,
    SEQUENTIAL,
    _start_members,
    _start_split,
    _train,
    _train_in_a_single_call,
    _train_split,
)
from tests.comparison import assert_trees_close
from tests.marks import slow_but

NET = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
X, Y = (array.astype(np.float32) for array in flower(60))
KEYS = jax.random.split(jax.random.key(0), 5)
RATES = [0.1, 0.3, 1e9, 0.5, 0.7]  # the third one explodes: squared error on a linear output


class Unhashable:
    """A function of the rate that has no hash."""

    __hash__ = None

    def __call__(self, rate):
        return optax.sgd(rate)


def sweep(net=NET, **changes):
    settings = {"keys": KEYS, "learning_rate": RATES, "epochs": 6, "batch_size": 16}
    return jaxnet.sweep(net, X, Y, **settings | changes)


@pytest.mark.parametrize(("batch_size", "scale"), slow_but([(None, 0.2), (16, None)], product([None, 16], [None, 0.2])))
def test_a_member_is_fit_with_its_settings(batch_size, scale):
    many = sweep(batch_size=batch_size, init_scale=scale, validation=(X[:, :20], Y[:, :20]))
    for i in (0, 3):
        init_key, _ = jax.random.split(KEYS[i])
        one = jaxnet.fit(
            NET, X, Y, key=KEYS[i], params=jaxnet.init(NET, init_key, "he" if scale is None else scale), epochs=6,
            optimizer=optax.sgd(RATES[i]), batch_size=batch_size, validation=(X[:, :20], Y[:, :20]),
        )  # fmt: skip
        assert_trees_close(jax.tree.map(lambda leaf, i=i: leaf[i], many.params), one.params, 1e-5)
        assert_trees_close({name: values[i] for name, values in many.history.items()}, one.history, 1e-5)


def test_a_member_that_diverges_leaves_the_others_alone():
    net = jaxnet.MLP((2, 4, 1), ("identity", "identity"))
    rates = [0.01, 0.02, 1e9, 0.03, 0.04]
    result = sweep(net, learning_rate=rates)
    assert result.failed.tolist() == [False, False, True, False, False]
    assert np.isnan(result.history["cost"][2, -1]) and np.isfinite(np.delete(result.history["cost"], 2, axis=0)).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
    alone = sweep(net, keys=KEYS[3:4], learning_rate=[0.03])
    assert_trees_close(
        jax.tree.map(lambda leaf: leaf[3], result.params), jax.tree.map(lambda leaf: leaf[0], alone.params), 1e-5
    )
    assert isinstance(result, jaxnet.SweepResult) and result.best != 2 and result.score[2] == np.inf
    rows = result.table().splitlines()
    assert len(rows) == 6 and rows[-1].split() == ["1e+09", "he", "1", "inf", "inf", "1"]


def test_of_members_that_all_fail_none_is_best():
    net = jaxnet.MLP((2, 4, 1), ("identity", "identity"))
    result = sweep(net, keys=KEYS[:2], learning_rate=[1e9, 1e8])
    assert result.failed.all()
    with pytest.raises(ValueError, match="failed is True of all 2 members: none is best"):
        _ = result.best


def test_a_member_that_diverges_keeps_the_params_before_the_step_that_failed():
    """As fit does; among others that go on."""
    net, rates = jaxnet.MLP((2, 4, 1), ("identity", "identity")), [0.01, 3.0, 0.02, 30.0, 0.04]
    result = sweep(net, learning_rate=rates, epochs=40, batch_size=16)
    assert result.failed.tolist() == [False, True, False, True, False]
    for i in (1, 3):
        with pytest.raises(jaxnet.NotFiniteError) as caught:
            jaxnet.fit(net, X, Y, key=KEYS[i], epochs=40, optimizer=optax.sgd(rates[i]), batch_size=16)
        alone = caught.value.result
        assert_trees_close(jax.tree.map(lambda leaf, i=i: leaf[i], result.params), alone.params, 1e-3)
        assert np.isfinite(result.history["cost"][i]).sum() == len(alone.history["cost"])


def test_one_setting_for_all():
    result = sweep(learning_rate=0.5, init_scale=[0.01, 0.01, 0.1, 0.1, 0.1])
    rows = [row.split() for row in result.table().splitlines()[1:]]
    assert [row[:3] for row in rows] == [["0.5", "0.01", "2"], ["0.5", "0.1", "3"]]
    np.testing.assert_allclose(float(rows[1][3]), result.score[2:].min(), rtol=1e-3)
    np.testing.assert_allclose(float(rows[1][4]), np.median(result.score[2:]), rtol=1e-3)


def test_members_of_the_he_scheme_share_a_line():
    """Their init_scale is NaN, which equals nothing."""
    rows = [row.split() for row in sweep(learning_rate=[0.1, 0.2, 0.1, 0.2, 0.1]).table().splitlines()[1:]]
    assert [row[:3] for row in rows] == [["0.1", "he", "3"], ["0.2", "he", "2"]]


def test_a_second_sweep_compiles_nothing(compiled):
    for rate in (0.5, 0.25):
        sweep(learning_rate=rate, epochs=7)
    assert len([name for name in compiled if "_train" in name or "_lifted" in name or "single_call" in name]) == 1


def test_a_batch_of_members_is_each_of_them():
    """What a GPU runs (vmap) against what a CPU runs (one after the other, or all in a single call)."""
    config = FitConfig(NET, PLACEHOLDER, batch_size=16)
    data = batches.Data(X.T, Y.T, None)
    settings = KEYS, np.float32([0.1, 0.3, 0.2, 0.4, 0.6]), np.full(5, np.nan, np.float32)
    members = _start_members((config, optax.sgd), settings)
    batch, loop, kernel = (
        train((config, optax.sgd, 3), members, data, None)
        for train in (_train[jax.vmap], _train[SEQUENTIAL], _train_in_a_single_call)
    )
    for members, log in (loop, kernel):
        assert_trees_close(batch[0].loop.params, members.loop.params, 1e-5)
        assert_trees_close(batch[1], log, 1e-5)
        assert not members.failed.any()


@pytest.mark.parametrize("callbacks", [(), lambda loop, history: len(history["cost"]) == 4], ids=["whole", "stopped"])
def test_devices_share_the_members_and_nothing_moves(callbacks, x64):
    """Five members on eight devices, one of which diverges; the mesh's two axes are one here."""
    net = jaxnet.MLP((2, 4, 1), ("identity", "identity"))
    settings = {"learning_rate": [0.01, 0.02, 1e99, 0.03, 0.04], "init_scale": 0.3, "callbacks": callbacks}
    settings |= {"validation": (X[:, :20], Y[:, :20]), "precision": "float64"}
    one, eight = (sweep(net, mesh=mesh, **settings) for mesh in (None, parallel.mesh(4, 2)))
    assert_trees_close(jax.tree.map(np.asarray, eight.params), jax.tree.map(np.asarray, one.params), 1e-12)
    for name, values in one.history.items():  # NaN from a failure on
        np.testing.assert_allclose(eight.history[name], values, 1e-12, err_msg=name)
    assert eight.failed.tolist() == one.failed.tolist() == [False, False, True, False, False]


def test_the_programs_of_a_sweep_on_a_mesh_hold_no_collective():
    mesh = parallel.mesh()
    static = FitConfig(NET, PLACEHOLDER, batch_size=16), optax.sgd
    data = jax.device_put(batches.Data(X.T, Y.T, None), meshes.replicated(mesh))
    settings = jax.random.split(jax.random.key(0), 8), np.full(8, 0.1, np.float32), np.full(8, np.nan, np.float32)
    settings = jax.device_put(settings, over_all(mesh))
    members = _start_split((mesh, static), settings)
    programs = [_start_split.lower((mesh, static), settings)]
    programs += [_train_split[lift].lower((mesh, (*static, 2)), members, data, None) for lift in (SEQUENTIAL, jax.vmap)]
    assert [collectives(program.compile(), 8) for program in programs] == [[], [], []]
    assert len(members.loop.params[0].W.sharding.device_set) == 8


@pytest.mark.usefixtures("untyped")
def test_a_sweep_has_a_mesh_or_a_device():
    with pytest.raises(ValueError, match="device is 'cpu' beside a mesh"):
        sweep(mesh=parallel.mesh(), device="cpu")
    with pytest.raises(ValueError, match="mesh is 3; expected one with the axis 'data'"):
        sweep(mesh=3)


@pytest.mark.usefixtures("untyped")
def test_lengths_that_do_not_go_together():
    with pytest.raises(ValueError, match="learning_rate has 3 members but there are 5; give 5 or one for all"):
        sweep(learning_rate=[0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="epochs is 0"):
        sweep(epochs=0)


def test_settings_of_jax_hold_for_all_members():
    """`with jax.enable_x64(True):` says so for one thread, and members are trained in several."""
    with jax.enable_x64(True):
        many = sweep(precision="float64", learning_rate=0.1)
        optimizer = optax.sgd(0.1)
        one = jaxnet.fit(
            NET, X, Y, key=KEYS[1], epochs=6, optimizer=optimizer, batch_size=16, precision="float64", progress=False
        )
        assert many.params[0].W.dtype == np.float64
        assert_trees_close(jax.tree.map(lambda leaf: leaf[1], many.params), one.params, 1e-12)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": 7}, "keys is an int; expected JAX random keys, such as jax.random.split"),
        ({"keys": list(KEYS)}, "keys is a list; expected JAX random keys"),
        ({"keys": KEYS[:0]}, r"keys is a \w+ of shape \(0,\); expected JAX random keys"),
        ({"learning_rate": None}, "learning_rate is None; expected an array of real numbers"),
        (
            {"learning_rate": np.nan},
            r"learning_rate holds nan at position \(0,\) \(1 such\); expected finite numbers above 0",
        ),
        ({"learning_rate": 1e-300}, r"learning_rate holds 1e-300 at position \(0,\) \(1 such\); it is 0 in float32"),
        ({"init_scale": [1e-300, 1, 1, 1, 1]}, r"init_scale holds 1e-300 at position \(0,\) .* it is 0 in float32"),
        ({"learning_rate": ["0.1"]}, "learning_rate has dtype <U3; expected real numbers"),
        ({"learning_rate": [0.1, 0.2, np.nan, 0.3, 0.4]}, r"learning_rate holds nan at position \(2,\)"),
        ({"learning_rate": "fast"}, "learning_rate is a str; expected an array of real numbers"),
        (
            {"init_scale": [0.1, -1, 0.1, 0.2, 0.3]},
            r"init_scale holds -1.0 at position \(1,\).*from 0 up, None for 'he'",
        ),
        ({"init_scale": "he"}, "init_scale is a str; expected an array of real numbers"),
        ({"optimizer": optax.sgd(0.1)}, "optimizer is .*; expected a name, or a function of the rate, such as"),
        ({"optimizer": "sdg"}, "optimizer is 'sdg'; expected one of 'sgd', .* or a function of the rate, .*mean 'sgd'"),
        ({"optimizer": Unhashable()}, "optimizer is an Unhashable without a hash"),
        ({"optimizer": lambda rate: None}, r"optimizer\(learning_rate\) is None; expected an optax.Gradient"),
        ({"optimizer": lambda rate: rate}, r"optimizer\(learning_rate\) is .*Tracer.*; expected an optax.Gradient"),
    ],
)
def test_settings_that_are_none(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sweep(**changes)


def test_rates_beyond_all_numbers_fail_alone():
    result = sweep(learning_rate=[0.1, 3e38, 1e300, 0.1, 0.2])
    assert result.failed.tolist() == [False, True, True, False, False]
    assert [row.split()[0] for row in result.table().splitlines()[1:]] == ["0.1", "0.2", "3e+38", "inf"]


@pytest.mark.parametrize("rate", [0.0, -0.1, np.inf])
def test_rates_that_no_descent_has(rate):
    with pytest.raises(
        ValueError, match=r"learning_rate holds .* at position \(1,\) \(1 such\); expected finite numbers"
    ):
        sweep(learning_rate=[0.1, rate, 0.1, 0.2, 0.3])


@pytest.mark.usefixtures("implicit_promotion")
def test_a_rate_has_no_number_where_its_optimizer_is_made():
    warm_up = lambda peak: optax.warmup_cosine_decay_schedule(0.0, peak, 5, 30)
    with pytest.raises(
        TypeError, match=r"optimizer\(learning_rate\) asks for the number of its rate.*optax\.scale\(rate\)"
    ):
        sweep(optimizer=lambda rate: optax.sgd(warm_up(rate)))
    scaled = sweep(optimizer=lambda rate: optax.chain(optax.sgd(warm_up(1.0)), optax.scale(rate)), learning_rate=0.3)
    one = jaxnet.fit(NET, X, Y, key=KEYS[1], optimizer=optax.sgd(warm_up(0.3)), epochs=6, batch_size=16)
    np.testing.assert_allclose(scaled.history["cost"][1], one.history["cost"], rtol=1e-5)


def test_jax_may_look_for_nan(capsys):
    """A healthy sweep has none; where a member fails it is JAX's error, with what was trained."""
    with jax.debug_nans(True):
        healthy = sweep(learning_rate=0.1)
        net = jaxnet.MLP((2, 4, 1), ("identity", "identity"))
        with pytest.raises(FloatingPointError, match="invalid value") as caught:
            sweep(net, learning_rate=[0.01, 1e9, 0.02, 0.03, 0.04])
    assert_trees_close(healthy.params, sweep(learning_rate=0.1).params, 1e-5)
    assert isinstance(caught.value.result, jaxnet.SweepResult) and not caught.value.result.failed.any()
    assert "de-optimized" in capsys.readouterr().out


def test_a_validation_cost_that_is_not_finite_fails_its_member():
    net = jaxnet.MLP((2, 4, 1), ("identity", "identity"))
    far = (np.full((2, 3), 1e19, np.float32), np.zeros((1, 3), np.float32))  # its square overflows, but not times 0
    result = sweep(net, init_scale=[0.0, 1.0, 1.0, 0.0, 1.0], learning_rate=1e-30, validation=far)
    assert result.failed.tolist() == [False, True, True, False, True]
    assert np.isnan(result.history["cost"][1]).all() and np.isfinite(result.history["validation_cost"][0]).all()


def test_an_interrupted_sweep_keeps_what_was_trained(monkeypatch):
    """Members that are done have their history; of the others it is NaN, and none of both has failed."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)  # one thread
    whole, done = sweep(learning_rate=0.1), []

    def interrupted(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return _train_in_a_single_call(*arguments)

    monkeypatch.setattr("jaxnet.train.sweep._train_in_a_single_call", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(learning_rate=0.1)
    result = caught.value.result
    assert not result.failed.any() and result.history["cost"].shape == (5, 6) and result.best in (0, 1)
    np.testing.assert_array_equal(result.history["cost"][:2], whole.history["cost"][:2])
    np.testing.assert_array_equal(result.params[0].W[:2], whole.params[0].W[:2])
    assert np.isnan(result.history["cost"][2:]).all() and np.isinf(result.score[2:]).all()
    start = jaxnet.init(NET, jax.random.split(KEYS[4])[0])
    assert_trees_close(jax.tree.map(lambda leaf: leaf[4], result.params), start, 1e-5)


def test_a_callback_that_raises_ends_a_sweep_with_its_result():
    def stop(loop, history):
        if history["cost"].shape[1] == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        sweep(learning_rate=0.1, callbacks=stop)
    np.testing.assert_allclose(
        caught.value.result.history["cost"], sweep(learning_rate=0.1, epochs=2).history["cost"], rtol=1e-5
    )


def test_of_interrupted_members_none_is_best():
    nothing = np.full((2, 3), np.nan)
    result = jaxnet.SweepResult((), {"cost": nothing}, np.zeros(2, bool), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="none of 2 members is best: all that did not fail were interrupted"):
        _ = result.best


@pytest.mark.parametrize("batch_size", slow_but([16], [None, 16]))
def test_callbacks_see_all_members_and_change_nothing(batch_size):
    """After each epoch the state and the history of all n, and whoever returns True stops the sweep."""
    seen = []

    def watch(loop, history):
        seen.append((loop.epoch.tolist(), loop.params[0].W.shape, history["cost"].shape))
        return len(seen) == 4

    stopped = sweep(learning_rate=0.1, batch_size=batch_size, callbacks=watch)
    assert seen == [([epoch] * 5, (5, 4, 2), (5, epoch)) for epoch in (1, 2, 3, 4)]
    whole = sweep(learning_rate=0.1, batch_size=batch_size, epochs=4)
    assert_trees_close(stopped.params, whole.params, 1e-5)
    np.testing.assert_allclose(stopped.history["cost"], whole.history["cost"], rtol=1e-5)


def test_a_member_that_fails_under_callbacks_stays_failed():
    net = jaxnet.MLP((2, 4, 1), ("identity", "identity"))
    result = sweep(net, learning_rate=[0.01, 30.0, 0.02, 0.03, 0.04], epochs=6, callbacks=lambda loop, history: False)
    assert result.failed.tolist() == [False, True, False, False, False]
    assert np.isnan(result.history["cost"][1, -1]) and np.isfinite(result.history["cost"][0]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("metrics", ["cost", 5, ["acuracy"]])
def test_metrics_of_a_sweep_are_checked_as_those_of_fit(metrics):
    with pytest.raises((ValueError, TypeError), match=r"metrics is .*; expected names|metrics\[0\] is 'acuracy'"):
        sweep(metrics=metrics)


def test_metrics_of_a_sweep():
    result = sweep(learning_rate=0.1, epochs=2, metrics=["gradient_norm"])
    assert set(result.history) == {"cost", "gradient_norm"} and result.history["gradient_norm"].shape == (5, 2)

"""`fit`: what it returns and takes, what stops it, and nothing lost on the way."""

import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet._xla.compile import KEPT
from jaxnet.train.in_memory import InMemory
from tests import cases
from tests.comparison import assert_trees_close
from tests.marks import slow_but
from tests.train.flower import NET, OPTIMIZER, X, Y, fit


def test_history():
    result = fit(validation=(X[:, :20], Y[:, :20]), epochs=4)
    assert {name: (type(v), v.shape) for name, v in result.history.items()} == {
        name: (np.ndarray, (4,)) for name in ("cost", "accuracy", "validation_cost", "validation_accuracy")
    }
    A = jaxnet.predict(NET, result.params, X[:, :20])
    np.testing.assert_allclose(result.history["validation_accuracy"][-1], jaxnet.accuracy(A, jnp.asarray(Y[:, :20])))
    cost = jaxnet.cost(NET, result.params, jnp.asarray(X[:, :20]), jnp.asarray(Y[:, :20]))
    np.testing.assert_allclose(result.history["validation_cost"][-1], cost, rtol=1e-5)


def test_validation_weights_count_in_cost_and_accuracy():
    weights = np.random.default_rng(0).choice([0.0, 1.0, 5.0], 20)
    validation = X[:, :20], Y[:, :20], weights
    result = fit(validation=validation, epochs=4)
    J = jaxnet.cost(NET, result.params, *validation)
    np.testing.assert_allclose(result.history["validation_cost"][-1], J, rtol=1e-5)
    accuracy = jaxnet.accuracy(jaxnet.predict(NET, result.params, X[:, :20]), *validation[1:])
    np.testing.assert_allclose(result.history["validation_accuracy"][-1], accuracy, rtol=1e-5)
    chex.assert_trees_all_equal(
        fit(validation=(*validation[:2], None), epochs=4), fit(validation=validation[:2], epochs=4)
    )


def test_regression_has_no_accuracy():
    net = jaxnet.MLP((2, 3, 1), ("tanh", "identity"))
    result = jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=OPTIMIZER, epochs=2, batch_size=None)
    assert isinstance(result, jaxnet.FitResult) and set(result.history) == {"cost"}


def test_first_entry_of_a_full_batch_history_is_the_start():
    start = jaxnet.init(NET, jax.random.key(1))
    result = fit(batch_size=None, steps=3, params=start, metrics=["cost", "gradient_norm"])
    J, grads = jaxnet.value_and_grad(NET, start, jnp.asarray(X), jnp.asarray(Y))
    np.testing.assert_allclose(result.history["cost"][0], J, rtol=1e-6)
    np.testing.assert_allclose(result.history["gradient_norm"][0], optax.tree.norm(grads), rtol=1e-5)


def test_reading_the_history_compiles_nothing(compiled):
    """However many epochs a chunk has run: 1, 2, 4, ..."""
    fit(batch_size=None, epochs=300)
    compiled.clear()
    fit(batch_size=None, epochs=117)
    assert compiled == []


def test_same_key_same_bits():
    first, second, other = fit(), fit(), fit(key=jax.random.key(4))
    chex.assert_trees_all_equal(first.params, second.params)
    chex.assert_trees_all_equal(first.history, second.history)
    assert not np.array_equal(first.params[0].W, other.params[0].W)


def test_params_of_the_caller_stay():
    start = jaxnet.init(NET, jax.random.key(1))
    before = jax.tree.map(np.array, start)
    first = fit(params=start)
    chex.assert_trees_all_equal(jax.tree.map(np.array, start), before)
    again = fit(params=first.params)
    assert not np.array_equal(first.params[0].W, again.params[0].W)  # and are still there to be read


@pytest.mark.parametrize("batch_size", [None, 50])
def test_data_of_the_caller_may_change_meanwhile(batch_size):
    def aligned(array):  # where JAX on a CPU takes the caller's memory as it is
        memory = np.empty(array.nbytes + 64, np.uint8)
        copy = memory[-memory.ctypes.data % 64 :][: array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    mine = [aligned(np.float32(array)) for array in (X, Y, X, Y)]

    def spoil(loop, history):
        for array in mine:
            array[...] = 0

    def train(arrays, **options):
        return fit(*arrays[:2], validation=tuple(arrays[2:]), batch_size=batch_size, epochs=4, **options)

    kept = [array.copy() for array in mine]
    result = train(mine, callbacks=spoil)
    expected = train(kept)
    assert not any(array.any() for array in mine)
    chex.assert_trees_all_equal(result.params, expected.params)
    assert (result.history["validation_cost"] == expected.history["validation_cost"]).all()


@pytest.mark.parametrize(
    "name", slow_but(["depth1-softmax", "price"], ["depth1-softmax", "square", "price", "depth4-sigmoid"])
)
def test_any_network_learns(name):
    """Any depth from logistic regression up, either loss, any output: the cost falls by half on eight examples."""
    net = cases.NETS[name]
    _, X, Y, _ = cases.point(net, jax.random.key(5), m=8, dtype=jnp.float32)
    Y = abs(Y)  # a price is not negative
    history = jaxnet.fit(
        net, X, Y, key=jax.random.key(2), optimizer=optax.sgd(0.3, momentum=0.9), steps=400, batch_size=None
    ).history
    assert history["cost"][-1] < 0.5 * history["cost"][0]


def test_float64_follows_the_inputs(x64):
    settings = {"key": jax.random.key(0), "optimizer": OPTIMIZER, "epochs": 2, "batch_size": 16}
    dtypes = {
        jaxnet.fit(NET, X.astype(given), Y, precision=precision, **settings).params[0].W.dtype.name
        for given, precision in (("float64", "float32"), ("float32", "float64"))
    }
    assert dtypes == {"float64"}
    assert jaxnet.fit(NET, X, Y, **settings).params[0].W.dtype == jnp.float32


NOT_TRAINED_IN = [">f4", ">f8", np.longdouble, np.float16, jnp.bfloat16, jnp.float8_e4m3fn, np.int8, bool]


@pytest.mark.parametrize("given", NOT_TRAINED_IN)
@pytest.mark.parametrize("batch_size", [None, 16])
def test_data_of_dtypes_that_fit_does_not_train_in(given, batch_size):
    """Of another order of bytes, or of more or fewer bits: it is trained in float32."""
    given = X.astype(given)
    result = fit(given, batch_size=batch_size)
    assert result.params[0].W.dtype == jnp.float32
    chex.assert_trees_all_equal(result.params, fit(given.astype(np.float32), batch_size=batch_size).params)


@pytest.mark.parametrize("precision", slow_but(["bfloat16"], ["float32", "tf32", "bfloat16"]))
@pytest.mark.usefixtures("implicit_promotion")
def test_adam_trains_params_and_data_of_16_bits(precision):
    """In float32: its epsilon, 1e-8, is 0 in float16, and a step of 1e-3 is no change to a bfloat16 weight of 1."""
    for given in (np.float16, jnp.bfloat16):
        start = jax.tree.map(lambda leaf, given=given: leaf.astype(given), jaxnet.init(NET, jax.random.key(1)))
        result = fit(
            X.astype(given), Y.astype(given), params=start, optimizer=optax.adam(1e-2), precision=precision, epochs=30
        )
        assert {leaf.dtype.name for leaf in jax.tree.leaves(result.params)} == {"float32"}
        assert result.history["cost"][-1] < 0.9 * result.history["cost"][0]


def test_any_device_by_name():
    chex.assert_trees_all_equal(fit(device="cpu").params, fit().params)
    assert fit(device="cpu").params[0].W.devices() == {jax.devices("cpu")[0]}


@pytest.mark.usefixtures("implicit_promotion")
def test_adam_is_the_default():
    chex.assert_trees_all_equal(fit(optimizer=None).params, fit(optimizer=optax.adam(1e-3)).params)


@pytest.mark.usefixtures("implicit_promotion")
def test_the_default_optimizer_is_compiled_once(compiled):
    fit(optimizer=None)
    compiled.clear()
    fit(optimizer=None)
    assert not any("run_epochs" in name for name in compiled)


@pytest.mark.slow
@pytest.mark.usefixtures("implicit_promotion")
def test_a_hundred_fresh_optimizers_hold_no_more_programs_than_the_last_of_them(compiled):
    """As people write it, a new object at each fit: each compiles programs of its own, and those of the last stay."""

    def programs():
        gc.collect()
        return len(jax.devices()[0].client.live_executables())

    before, kept = programs(), jax.jit(lambda x: x + 1).lower(1.0).compile()
    assert programs() == before + 1 and kept(1.0) == 2.0
    for number in range(1, 101):
        fit(optimizer=optax.adam(1e-3), batch_size=None, steps=1)
        if number == KEPT + 1:
            full = programs()
    assert compiled.count("jit(_loop_start)") == 100 and programs() <= full


def test_it_starts_from_init():
    init_key, _ = jax.random.split(jax.random.key(0))
    chex.assert_trees_all_equal(
        fit(key=jax.random.key(0)).params, fit(key=jax.random.key(0), params=jaxnet.init(NET, init_key)).params
    )


@pytest.mark.usefixtures("implicit_promotion")
def test_layers_of_one_shape_are_drawn_by_one_program(compiled):
    """Whatever their network, its activations and the scheme: drawing normal numbers takes XLA long to compile."""
    for hidden, scheme in (("tanh", "he"), ("relu", "xavier"), ("relu", 0.01)):
        jaxnet.init(jaxnet.MLP((11, 13, 13, 13, 13), [hidden] * 4), jax.random.key(0), scheme)
    jaxnet.init(jaxnet.MLP((13, 13), ["sigmoid"]), jax.random.key(1))
    assert compiled.count("jit(_layer)") == 2  # 13 x 11 and 13 x 13


@pytest.mark.parametrize("answer", [True, np.True_, np.array(True), jnp.array(True)])
def test_any_kind_of_true_stops(answer):
    assert len(fit(callbacks=lambda loop, history: answer, epochs=10).history["cost"]) == 1


@pytest.mark.parametrize("answer", [0.7, "path", (True,), np.float32(1), np.ones(1, bool), jnp.ones(3), None, 1])
def test_no_other_answer_stops(answer):
    """A callback of one line may return a metric, a path or the params."""
    assert len(fit(callbacks=lambda loop, history: answer, epochs=2).history["cost"]) == 2


def test_callbacks_see_every_epoch_and_can_stop():
    seen = []

    def watch(loop, history):
        assert isinstance(loop, jaxnet.LoopState)
        seen.append((int(loop.epoch), loop.state, len(history["cost"])))
        return loop.epoch == 3

    result = fit(callbacks=[watch], epochs=10)
    assert [(epoch, length) for epoch, _, length in seen] == [(1, 1), (2, 2), (3, 3)]
    assert len(result.history["cost"]) == 3
    chex.assert_trees_all_equal(seen[-1][1].params, result.params)
    assert int(seen[0][1].step) == 4  # an early state can still be read after later chunks
    chex.assert_trees_all_equal(result.params, fit(epochs=3).params)


def test_callbacks_may_come_from_a_generator_and_keep_what_they_are_given():
    kept = []
    fit(callbacks=(function for function in [lambda loop, history: kept.append(history)]), epochs=3)
    kept[0]["cost"][:] = -1
    assert [len(history["cost"]) for history in kept] == [1, 2, 3] and (kept[2]["cost"] > 0).all()


def test_a_callback_that_raises_loses_nothing():
    def fail(loop, history):
        if loop.epoch == 2:
            raise RuntimeError("out of coffee")

    with pytest.raises(RuntimeError, match="out of coffee") as caught:
        fit(callbacks=[fail], epochs=10)
    chex.assert_trees_all_equal(caught.value.result.params, fit(epochs=2).params)
    chex.assert_trees_all_equal(caught.value.result.history, fit(epochs=2).history)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as Python hears it in a terminal; a shell's background job is started with it ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.11, 0.3])
def test_ctrl_c_at_any_moment_loses_nothing(batch_size, delay, monkeypatch):
    """A real signal while work is in flight: state and history are both there and belong together."""
    fit(batch_size=batch_size, epochs=1)  # compiled before the clock runs
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))

    def run(self, *arguments):
        if timer.ident is None:
            timer.start()  # with the first chunk
        return run_chunk(self, *arguments)

    run_chunk = InMemory.run
    monkeypatch.setattr(InMemory, "run", run)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(batch_size=batch_size, epochs=10**9)
    result = caught.value.result
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(result.params))
    epochs, steps_per_epoch = len(result.history["cost"]), 1 if batch_size is None else 4
    assert epochs and int(result.state.step) == epochs * steps_per_epoch
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    chex.assert_trees_all_equal(result.params, fit(batch_size=batch_size, epochs=epochs).params)


def test_a_handler_of_the_caller_that_returns_does_not_end_training():
    received = []
    former = signal.signal(signal.SIGINT, lambda signum, frame: received.append(signum))
    try:
        fit(batch_size=None, epochs=1)
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        stop = lambda loop, history: bool(received)
        result = fit(batch_size=None, epochs=10**9, callbacks=stop)
    finally:
        signal.signal(signal.SIGINT, former)
    assert received == [signal.SIGINT] and len(result.history["cost"]) > 0


def test_fit_runs_in_a_thread():
    """Where there is no signal to hold back."""
    with ThreadPoolExecutor(1) as pool:
        chex.assert_trees_all_equal(pool.submit(fit).result().params, fit().params)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_cost_that_is_not_finite_is_undone_and_named(batch_size):
    """Squared error with a rate that explodes: the error says the step, the state is the last good one."""
    net = jaxnet.MLP((2, 3, 1), ("identity", "identity"))
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=1e8)
    settings = {"key": jax.random.key(0), "optimizer": optimizer, "epochs": 50, "batch_size": batch_size}
    with pytest.raises(
        jaxnet.NotFiniteError, match=r"not finite at step \d+ .*learning rate 1e\+08; \|W\[1\]\| = "
    ) as caught:
        jaxnet.fit(net, X, Y, **settings)
    result = caught.value.result
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
    assert f"step {int(result.state.step) + 1} (epoch {len(result.history['cost']) + 1})" in str(caught.value)
    assert np.isfinite(result.history["cost"]).all()


def test_new_params_that_are_not_finite_are_undone_too():
    """A finite gradient times an infinite rate."""
    with pytest.raises(
        jaxnet.NotFiniteError, match="the new params or the optimizer's state are not finite at step 1 "
    ) as caught:
        fit(optimizer=optax.sgd(jnp.inf))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(caught.value.result.params))


def test_norms_that_overflow_are_named_as_such():
    """A gradient of 1e19 has no norm in float32, and weights of 1e20 have one that is not infinite."""
    net = jaxnet.MLP((2, 1), ("sigmoid",))
    start = jaxnet.init(net, jax.random.key(0), "zeros")
    grads = jaxnet.value_and_grad(net, start, jnp.asarray(1e20 * X), jnp.asarray(Y))[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    beyond = r"a metric, .* cost 0\.693, gradient norm inf \(above 1\.8e\+19 its square overflows\); \|W\[1\]\| = 0;"
    settings = {"key": jax.random.key(0), "optimizer": optax.sgd(jnp.inf), "metrics": ["cost", "gradient_norm"]}
    for batch_size in (None, 16):
        with pytest.raises(jaxnet.NotFiniteError, match=beyond):
            jaxnet.fit(net, 1e20 * X, Y, params=start, batch_size=batch_size, **settings)
    large = (start[0]._replace(W=jnp.array([[3e20, 4e20]])),)
    with pytest.raises(jaxnet.NotFiniteError, match=r"gradient norm \d\.\d+; \|W\[1\]\| = 5e\+20;"):
        jaxnet.fit(net, X, Y, params=large, batch_size=None, **settings)


def test_an_error_brings_the_result_of_the_fit_that_it_leaves():
    """Not that of a fit inside a callback, which it left before."""

    def inner(loop, history):
        fit(optimizer=optax.sgd(jnp.inf), batch_size=None)

    with pytest.raises(jaxnet.NotFiniteError) as caught:
        fit(callbacks=inner)
    assert int(caught.value.result.state.step) == 4 and len(caught.value.result.history["cost"]) == 1


class ResultError(RuntimeError):
    """An error whose class has a result of its own."""

    result = None


@pytest.mark.parametrize("error", [RuntimeError("enough"), ResultError()])
def test_an_error_raised_twice_brings_the_second_result(error):
    def stop(loop, history):
        if loop.epoch == epochs:
            raise error

    for epochs in (1, 2):
        with pytest.raises(RuntimeError) as caught:
            fit(callbacks=stop)
        assert len(caught.value.result.history["cost"]) == epochs


def test_an_error_that_lets_no_result_be_set_comes_as_it_is_with_a_note():
    class ClosedError(RuntimeError):
        @property
        def result(self):
            return "its own"

    def stop(loop, history):
        raise ClosedError("enough")

    with pytest.raises(ClosedError, match="enough") as caught:
        fit(callbacks=stop)
    assert "this error has no .result, for ClosedError lets none be set" in caught.value.__notes__[0]


@pytest.mark.parametrize("flag", slow_but(["debug_nans"], ["debug_nans", "debug_infs"]))
def test_jax_may_look_for_numbers_that_are_not_finite(flag, capsys):
    """A healthy fit has none, its start included; one that diverges is JAX's error, with the last good state."""
    stopping = {"validation": (X[:, :20], Y[:, :20]), "patience": 3, "tol": 1e-9}
    with getattr(jax, flag)(True):
        healthy = fit(**stopping)
        net = jaxnet.MLP((2, 3, 1), ("identity", "identity"))
        with pytest.raises(FloatingPointError, match="invalid value") as caught:
            jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=optax.sgd(1e8), epochs=50, batch_size=16)
    assert_trees_close(healthy.params, fit(**stopping).params, 1e-5)
    assert not isinstance(caught.value, jaxnet.NotFiniteError)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(caught.value.result.params))
    assert "de-optimized" in capsys.readouterr().out  # JAX's own words


@pytest.mark.parametrize("options", [{"patience": 5}, {}])
def test_a_validation_cost_that_is_not_finite_is_an_error(options):
    """It is not "no better than the best so far": the params of the start would come back without a word."""
    net = jaxnet.MLP((2, 3, 1), ("relu", "identity"))
    far = (np.full((2, 4), 1e25, np.float32), np.zeros((1, 4), np.float32))
    start = jaxnet.init(net, jax.random.key(0))
    with pytest.raises(
        jaxnet.NotFiniteError,
        match=r"validation cost is inf after epoch 1.*validation \|X\| 1e\+25.*scale the validation",
    ) as caught:
        jaxnet.fit(
            net,
            X,
            Y,
            key=jax.random.key(0),
            params=start,
            validation=far,
            batch_size=16,
            optimizer=OPTIMIZER,
            **options,
        )
    chex.assert_trees_all_equal(caught.value.result.params, start)
    assert len(caught.value.result.history["validation_cost"]) == 0 and int(caught.value.result.loop.epoch) == 0


@pytest.mark.parametrize(
    ("scales", "rate", "remedy"),
    [
        ((1, 3e5), 0.5, "rescale Y, lower the learning rate or clip"),
        ((3e5, 1), 0.5, "rescale X, lower the learning rate or clip"),
        ((1, 1), 1e3, r"\.result; lower the learning rate or clip"),
        ((1, 1), jnp.nan, "the gradient is finite and the update is not: give the optimizer a lower, finite"),
    ],
)
def test_the_remedy_fits_what_is_large(scales, rate, remedy):
    net = jaxnet.MLP((2, 3, 1), ("relu", "identity"))
    x, y = scales
    with pytest.raises(jaxnet.NotFiniteError, match=remedy):
        jaxnet.fit(
            net, x * X, y * (1 + Y), key=jax.random.key(0), optimizer=optax.sgd(rate), epochs=300, batch_size=16
        )  # fmt: skip


def test_memory_that_is_not_there_is_named_with_sizes(monkeypatch):
    def allocate(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4000000000000 bytes.")

    monkeypatch.setattr("jaxnet.train.in_memory.run_small_chunk", allocate)
    words = (
        r"sizes \(2, 4, 1\) takes 68 B for the params, 68 B for the optimizer's state, and 640 B for Z and A of 16"
        r" examples, beside 720 B of data; narrow the network, or lower batch_size"
    )
    with pytest.raises(MemoryError, match=words) as caught:
        fit()
    assert int(caught.value.result.state.step) == 0


OUT_OF_MEMORY = """
import jax, jaxnet, numpy as np
n, key = 10**6, jax.random.key(0)
wide, long = jaxnet.MLP((3, n, n, 4), ("relu", "relu", "softmax")), jaxnet.MLP((1, n, 1), ("relu", "identity"))
X, Y = np.ones((3, 8)), jaxnet.one_hot(np.arange(8) % 4, 4)
for call in (
    lambda: jaxnet.init(wide, key),
    lambda: jaxnet.fit(wide, X, Y, key=key, progress=False),
    lambda: jaxnet.fit(long, np.ones((1, n)), np.ones((1, n)), key=key, batch_size=None, progress=False),
    lambda: jaxnet.sweep(wide, X, Y, keys=key, learning_rate=0.1, progress=False),
):
    try:
        call()
    except MemoryError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_network_of_terabytes_neither_hangs_nor_aborts():
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith("out of memory: ") and " TB" in line for line in lines)


def test_auto_is_all_examples_where_they_are_few():
    """The first call is often on four of them, XOR."""
    few = {"key": jax.random.key(3), "optimizer": OPTIMIZER, "epochs": 2}
    result = jaxnet.fit(NET, X, Y, **few)
    assert int(result.state.step) == 2
    chex.assert_trees_all_equal(result.params, jaxnet.fit(NET, X, Y, batch_size=60, **few).params)
    many = [np.tile(array, 3) for array in (X, Y)]
    assert int(jaxnet.fit(NET, *many, **few).state.step) == 2 * 2  # 180 examples, 128 and 52


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 128}, "batch_size is 128 but X has 60 examples; pass batch_size=None"),
        (
            {"batch_size": "all"},
            "batch_size is 'all'; expected an integer of at least 1, 'auto', or None for full-batch",
        ),
        ({"batch_size": "auto", "steps": 5}, "steps is 5 with batch_size 'auto'; .* give batch_size=None, or epochs"),
    ],
)
def test_batch_sizes_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fit(**changes)


@pytest.mark.parametrize("batch_size", slow_but([16], [None, 16]))
def test_metrics_are_those_named_and_training_is_the_same(batch_size):
    settings = {"batch_size": batch_size, "validation": (X, Y)}
    default = fit(**settings)
    for metrics in ([], ("gradient_norm", "accuracy")):
        result = fit(**settings, metrics=metrics)
        validated = {"validation_cost"} | ({"validation_accuracy"} if "accuracy" in metrics else set())
        assert set(result.history) == {*metrics} | validated
        chex.assert_trees_all_close(result.params, default.params, rtol=1e-5)
        with pytest.raises(jaxnet.NotFiniteError, match="not finite at step 1 "):
            fit(**settings, metrics=metrics, optimizer=optax.sgd(jnp.inf))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("metrics", "message"),
    [("cost", "metrics is 'cost'; expected names"), (["acuracy"], r"metrics\[0\] is 'acuracy'; .*mean 'accuracy'")],
)
def test_metrics_that_are_unknown(metrics, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(metrics=metrics)


def test_a_regression_has_no_accuracy_to_ask_for():
    net = jaxnet.MLP((2, 1), ("identity",))
    with pytest.raises(ValueError, match="metrics has 'accuracy' but the network's output is 'identity'"):
        jaxnet.fit(net, X, Y, key=jax.random.key(0), batch_size=None, metrics=["accuracy"])


def test_patience_may_watch_the_cost_of_training():
    """Without validation data; the params are those of the best epoch, and the last ones are in the loop."""
    noisy = {"optimizer": "sgd", "learning_rate": 3.0, "batch_size": 8, "epochs": 60}
    whole = fit(**noisy).history["cost"]
    best, since, stops = np.inf, 0, None
    for epoch, cost in enumerate(whole, 1):
        best, since = min(cost, best), 0 if cost < best - 1e-3 else since + 1
        if since == 4:
            stops = epoch
            break
    assert stops is not None
    result = fit(**noisy, patience=4, monitor="cost", min_delta=1e-3)
    np.testing.assert_array_equal(result.history["cost"], whole[:stops])
    assert int(result.loop.epoch) == stops
    chex.assert_trees_all_equal(result.params, fit(**noisy | {"epochs": int(np.argmin(whole[:stops])) + 1}).params)
    chex.assert_trees_all_equal(result.loop.params, fit(**noisy | {"epochs": stops}).params)

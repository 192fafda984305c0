"""Warnings: one for each symptom, none without it, and silenced as any other."""

import warnings

import jax
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.activations import ACTIVATIONS
from jaxnet.train.warnings import ON_HOST, warn_of_a_cost_beyond_the_targets, warn_of_dead_relus
from tests.train.flower import X, Y, fit


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (0.0, "the cost never changed: .* is the learning rate 0"),
        (-0.1, "the cost never fell: .* is the learning rate neg"),
    ],
)
@pytest.mark.parametrize("batch_size", [None, 50])
def test_a_rate_that_is_no_descent(rate, message, batch_size):
    optimizer = optax.sgd(rate)
    assert_one_warning(message, lambda: fit(optimizer=optimizer, batch_size=batch_size, epochs=5))


@pytest.mark.usefixtures("implicit_promotion")
def test_targets_that_no_step_reaches_are_to_be_standardised():
    net = jaxnet.MLP((2, 4, 1), ("tanh", "identity"))
    assert_one_warning(
        r"the cost never changed: .* too small for targets as large as these \(standardise Y\)",
        lambda: jaxnet.fit(net, X, 1e6 + 1e5 * X[:1], key=jax.random.key(0), epochs=5),
    )


def test_no_warning_where_the_cost_falls_or_is_zero():
    net, X, Y = jaxnet.MLP((1, 1), ("identity",)), np.ones((1, 4)), np.zeros((1, 4))
    with warnings.catch_warnings(action="error"):
        fit(epochs=5)
        fit(epochs=2, optimizer=optax.sgd(0.0))  # of two epochs nothing can be told
        start = jaxnet.init(net, jax.random.key(0), "zeros")
        jaxnet.fit(net, X, Y, params=start, key=jax.random.key(0), optimizer=optax.sgd(0.1), batch_size=None, steps=3)


SLOW = optax.sgd(1e-3)
RELU = jaxnet.MLP((2, 4, 1), ("relu", "sigmoid"))
ALIVE = jaxnet.init(RELU, jax.random.key(0))
DEAD = (ALIVE[0]._replace(b=ALIVE[0].b - 1e3), ALIVE[1])


def train(net=RELU, X=X, Y=Y, **changes):
    settings = {"key": jax.random.key(0), "optimizer": SLOW, "epochs": 3, "batch_size": 16}
    return jaxnet.fit(net, X, Y, **settings | changes)


def test_a_dead_layer_is_told():
    assert_one_warning(r"layer 1 is dead: each of its 4 'relu' units is 0 for every", lambda: train(params=DEAD))
    train(params=ALIVE)


def assert_one_warning(message, train):
    """One of this text in a fit, no other beside it, of our category, by which it is silenced as any other."""
    with pytest.warns(jaxnet.TrainingWarning, match=message) as caught:
        train()
    assert [warning.category for warning in caught] == [jaxnet.TrainingWarning]
    with warnings.catch_warnings(action="error"):
        warnings.simplefilter("ignore", jaxnet.TrainingWarning)
        train()


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optax.sgd(-0.1), "the cost never fell"),
        (optax.MultiSteps(optax.sgd(0.1), 1000).gradient_transformation(), "holds gradients of its next window"),
    ],
)
@pytest.mark.usefixtures("implicit_promotion")
def test_a_warning_that_is_raised_has_the_result(optimizer, message):
    with warnings.catch_warnings(action="error"), pytest.raises(jaxnet.TrainingWarning, match=message) as caught:
        fit(optimizer=optimizer, epochs=5)
    assert int(caught.value.result.loop.epoch) == 5 and len(caught.value.result.history["cost"]) == 5


def said(function, *arguments):
    """The warnings of a function, as texts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments)
    return [str(warning.message) for warning in caught]


def test_a_layer_is_dead_only_if_no_example_activates_any_unit():
    """One example of a thousand, or one unit of four, is alive; so is an output of 0 where all targets are 0."""
    many = np.tile(X, 17)
    assert len(said(warn_of_dead_relus, RELU, DEAD, many, Y)) == 1
    for place in (0, 500, 1019):
        alive = many.copy()
        alive[:, place] = 1e4 * np.sign(np.asarray(ALIVE[0].W[0]))
        assert said(warn_of_dead_relus, RELU, DEAD, alive, Y) == []
    one_unit = (DEAD[0]._replace(b=DEAD[0].b.at[2].set(1e3)), DEAD[1])
    assert said(warn_of_dead_relus, RELU, one_unit, many, Y) == []
    price = jaxnet.MLP((2, 1), ("relu",))
    never = (jaxnet.Layer(0 * np.ones((1, 2), np.float32), -np.ones((1, 1), np.float32)),)
    assert "layer 1 is dead: each of its 1 " in said(warn_of_dead_relus, price, never, X, Y)[0]
    assert said(warn_of_dead_relus, price, never, X, 0 * Y) == []


@pytest.mark.parametrize("before", sorted(set(ACTIVATIONS) - {"softmax"}))
def test_a_relu_layer_is_judged_behind_any_activation(before):
    """By the forward pass that training has: the layer is dead just where jaxnet says that Z is nowhere above 0."""
    net = jaxnet.MLP((2, 3, 4, 1), (before, "relu", "sigmoid"))
    params = jaxnet.init(net, jax.random.key(2), 2.0)
    _, cache = jaxnet.forward(net, params, X)
    at_most = float(cache[2].Z.max())
    for shift, dead in ((at_most + 1e-3, True), (at_most - 1e-3, False)):
        shifted = (params[0], params[1]._replace(b=params[1].b - shift), params[2])
        found = said(warn_of_dead_relus, net, shifted, X, Y)
        assert [text.startswith("layer 2 is dead") or before == "relu" for text in found] == [True] * dead
    np.testing.assert_allclose(ON_HOST[before](np.asarray(cache[1].Z)), cache[1].A, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output", ["sigmoid", "identity"])
def test_inputs_far_from_unit_scale(output):
    """Large ones beside a first cost that the targets do not explain, small ones that have taught nothing."""
    net = jaxnet.MLP((2, 4, 1), ("relu", output))
    large = r"X is as large as \S+e\+0[45], and the cost of the first epoch is \S+, far above .*standardise X"
    tiny, small = optax.sgd(1e-9), r"X is nowhere larger than \S+e-05, .* 3 epochs .*standardise X"
    assert_one_warning(large, lambda: train(net, 1e4 * X, params=ALIVE, optimizer=tiny))
    tanh = jaxnet.MLP((2, 4, 1), ("tanh", output))
    assert_one_warning(small, lambda: train(tanh, 1e-5 * X))
    saturated = r"X is as large as \S+e\+06, and in 3 epochs the cost has not fallen below .*standardise X"
    assert_one_warning(saturated, lambda: train(tanh, 1e6 * X, key=jax.random.key(1)))


def test_pixels_from_0_to_255_are_told():
    """They train a little, and the first cost is a hundred times what a network that answers 0 would have."""
    pixels, cost = (255 * np.abs(X) / np.abs(X).max()).astype(np.float32), {"cost": np.array([173.0, 20.0, 8.0])}
    (text,) = said(warn_of_a_cost_beyond_the_targets, RELU, pixels, Y, None, cost, True)
    assert text.startswith("X is as large as 255, and the cost of the first epoch is 173, far above the 0.693 that")
    assert said(warn_of_a_cost_beyond_the_targets, RELU, pixels, Y, None, cost, False) == []  # params that were given


def test_a_rate_at_which_no_number_overflows():
    """Bounded units keep the cost finite, and it goes up and down where no start has it."""
    tanh, beyond = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), r"the cost was never below \S+e\+0[78] in 5 epochs, far"
    assert_one_warning(beyond, lambda: train(tanh, optimizer=optax.sgd(1e9), epochs=5, key=jax.random.key(1)))
    cost = {"cost": np.array([900.0, 800.0, 800.0])}
    assert len(said(warn_of_a_cost_beyond_the_targets, tanh, X, Y, None, cost, True)) == 1
    assert said(warn_of_a_cost_beyond_the_targets, tanh, X, Y, None, cost, False) == []  # params that were given


def test_inputs_of_any_scale_are_fine_where_the_cost_is():
    wide, identity = 1e4 * X, jaxnet.MLP((2, 1), ("identity",))
    one_far_off = X.copy()
    one_far_off[0, 11] = 1e6
    fine = [
        (RELU, wide, Y, [0.7, 0.6, 0.5]),
        (RELU, wide, Y, []),  # not measured
        (identity, wide, 1e4 * Y, [1e8, 1e7, 1e6]),  # the targets are as large
        (RELU, 1e-5 * X, Y, [0.7, 0.6, 0.5]),  # learned all the same
        (RELU, 1e-5 * X, Y, [0.7, 0.7]),  # too early to tell
        (RELU, 2 * X, Y, [50.0, 20.0, 10.0]),
        (RELU, 1e4 * X, Y, [0.8, 0.8, 0.6]),  # learned all the same
        (RELU, one_far_off, Y, [0.7, 0.7, 0.7]),  # of one example
        (RELU, X, Y, [500.0, 200.0]),  # too early to tell
        (jaxnet.MLP((2, 1), ("sigmoid",), l2=1.0), X, Y, [500.0, 400.0, 300.0]),  # of which the penalty is most
        (RELU, 0 * X, Y, [0.7, 0.7, 0.7]),  # nothing to be scaled
    ]
    for net, inputs, targets, costs in fine:
        assert (
            said(warn_of_a_cost_beyond_the_targets, net, inputs, targets, None, {"cost": np.array(costs)}, True) == []
        )


def test_what_the_targets_explain_is_weighted():
    """Of weights that leave one class the best constant costs nothing, and a cost of 0.1 is nothing learned."""
    weights, cost = Y[0] + 1e-9, {"cost": np.full(3, 0.1)}
    assert len(said(warn_of_a_cost_beyond_the_targets, RELU, 1e-5 * X, Y, weights, cost, True)) == 1
    assert said(warn_of_a_cost_beyond_the_targets, RELU, 1e-5 * X, Y, None, cost, True) == []


def test_warnings_compile_nothing(compiled):
    train()
    compiled.clear()
    result = train()
    warn_of_dead_relus(RELU, result.params, X, Y)
    assert compiled == []


def batches_of(X, classes):
    """One-hot batches of 8 of some classes of three."""
    return [(X[:, i : i + 8], np.eye(3, dtype=np.float32)[:, classes[i : i + 8]]) for i in range(0, X.shape[1], 8)]


@pytest.mark.usefixtures("implicit_promotion")
@pytest.mark.parametrize("streamed", [False, True], ids=["arrays", "batches"])
def test_a_class_that_only_the_validation_of_a_stream_has_is_told(streamed):
    net, X = (
        jaxnet.MLP((2, 4, 3), ("tanh", "softmax")),
        np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32),
    )
    two, three = np.arange(64) % 2, np.arange(64) % 3
    validation = batches_of(X, three) if streamed else (X, np.eye(3, dtype=np.float32)[:, three])
    settings = {"key": jax.random.key(0), "epochs": 1, "validation": validation}
    with pytest.warns(jaxnet.TrainingWarning, match="class 2 is in the validation targets but in Y of no batch; split"):
        jaxnet.fit(net, batches_of(X, two), **settings)
    jaxnet.fit(net, batches_of(X, three), **settings)  # warnings are errors
    with pytest.warns(jaxnet.TrainingWarning, match="Y of all batches holds one class only .1.; expected at least two"):
        jaxnet.fit(net, batches_of(X, np.ones(64, int)), key=jax.random.key(0), epochs=1)

"""Private training: who is drawn, what a step is, what it costs; and what stands in the way of the promise."""

import contextlib
import math
import sys

import chex
import dp_accounting
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dp_accounting import pld, rdp
from jax.flatten_util import ravel_pytree
from scipy import stats

import jaxnet
from jaxnet import Privacy
from jaxnet.train import batches, epochs, optimizers
from jaxnet.train.batches import Batch, Data, poisson_batches, poisson_width
from jaxnet.train.config import FitConfig
from tests import oracle
from tests.marks import slow_but
from tests.train import flower
from tests.train.flower import NET
from tests.train.test_resume import bits

PRIVACY = Privacy(max_norm=0.7, noise_multiplier=1.5, delta=1e-5)  # between the gradients' norms at the start
CLIPPED = Privacy(0.7, 0.0, 1e-5)
X, Y = flower.X.astype(np.float64), flower.Y.astype(np.float64)  # of the oracle too: NumPy would round to float32
M, SIZE, EPOCHS = 30, 7, 1000  # of the batches whose frequencies are counted: 5 an epoch


def fit(X=X, Y=Y, **changes):
    return flower.fit(X, Y, **{"privacy": PRIVACY} | changes)


# ---- who is drawn ----


def drawn(m, size, number=1):
    """Whether each example is in each batch of so many epochs, (batches, m), and the batches as they are."""
    data = Data(jnp.zeros((m, 1)), jnp.zeros((m, 1)), None)
    keys = jax.random.split(jax.random.key(0), number)
    drawn = jax.jit(jax.vmap(lambda key: poisson_batches(key, data, size)))(keys)
    examples, counts = (np.asarray(part).reshape(-1, part.shape[-1]) for part in drawn)
    is_in = np.zeros((len(examples), m), int)
    for row, (numbers, there) in enumerate(zip(examples, counts, strict=True)):
        np.add.at(is_in[row], numbers[there == 1], 1)
    return is_in, examples, counts


def test_each_example_is_drawn_with_the_same_probability_and_independently():
    """Frequencies of examples, of pairs and of sizes, against the binomial distribution."""
    is_in, _, counts = drawn(M, SIZE, EPOCHS)
    number, q = len(is_in), SIZE / M
    assert number == EPOCHS * math.ceil(M / SIZE) and is_in.max() == 1 and set(np.unique(counts)) == {0, 1}
    error = math.sqrt(q * (1 - q) / number)
    assert np.abs(is_in.mean(axis=0) - q).max() < 4.5 * error
    sizes = is_in.sum(axis=1)
    assert (sizes == counts.sum(axis=1)).all()
    assert abs(sizes.mean() - SIZE) < 4 * math.sqrt(SIZE * (1 - q) / number)
    assert sizes.var() == pytest.approx(M * q * (1 - q), rel=0.1)
    correlations = np.corrcoef(is_in.T)[np.triu_indices(M, 1)]
    assert np.abs(correlations).max() < 4.5 / math.sqrt(number)
    between = np.corrcoef(is_in[:-1, 3], is_in[1:, 3])[0, 1]  # one batch and the next
    assert abs(between) < 4.5 / math.sqrt(number)
    expected = stats.binom.pmf(np.arange(3, 13), M, q) * number  # all above 50
    observed = np.array([(sizes == size).sum() for size in range(3, 13)])
    assert stats.chi2.sf(((observed - expected) ** 2 / expected).sum(), 9) > 1e-4


def test_a_batch_of_all_draws_all():
    is_in, examples, counts = drawn(M, M)
    assert (is_in == 1).all() and (counts == 1).all() and (examples == np.arange(M)).all()


def test_few_of_many_are_drawn_in_rising_order():
    """Places whose sum would overflow: what comes after the last example is no example."""
    is_in, examples, counts = drawn(100_000, 20_000)
    assert (is_in.sum(axis=1) == counts.sum(axis=1)).all() and is_in.max() == 1
    there = counts == 1
    assert (np.diff(examples, axis=1)[there[:, 1:]] > 0).all() and (np.diff(counts, axis=1) <= 0).all()
    assert np.abs(counts.sum(axis=1) - 20_000).max() < 5 * math.sqrt(16_000)


@pytest.mark.parametrize("m, size", [(60_000, 256), (1_000_000, 1024), (1000, 1), (1437, 700), (50, 49)])
def test_a_batch_has_room_for_whoever_is_drawn(m, size):
    width = poisson_width(m, size)
    assert width <= m and stats.binom.sf(width, m, size / m) < batches.OVERFLOW
    assert width < size + 60 + 13 * math.sqrt(size)


def test_a_batch_without_room_is_cut(monkeypatch):
    monkeypatch.setattr(batches, "OVERFLOW", 0.9)
    is_in, _, counts = drawn(M, SIZE, 100)
    assert counts.shape[1] == 9 and (counts.sum(axis=1) == 9).any() and is_in.max() == 1


# ---- what a step is ----


def clipped_by_the_notes(params, columns, C):
    """The sum of clipped gradients, each formed by loops over units."""
    total = [np.zeros_like(part) for layer in params for part in layer]
    for i in columns:
        grads, _ = oracle.backward(params, X[:, [i]], Y[:, [i]], NET.activations, NET.loss)
        parts = [part for layer in grads for part in layer]
        norm = math.sqrt(sum((part**2).sum() for part in parts))
        total = [sum_ + part * min(1, C / norm) for sum_, part in zip(total, parts, strict=True)]
    return total


def descent_by_the_notes(params, C, steps, size, rate, l2=0.0):
    """W -= rate (clipped sum / size + l2 W), on the columns of each step; params after it as (W, b) pairs."""
    for columns in steps:
        total = clipped_by_the_notes(params, columns, C)
        flat = [part for layer in params for part in layer]
        flat = [
            part - rate * (dpart / size + l2 * part * (place % 2 == 0))
            for place, (part, dpart) in enumerate(zip(flat, total, strict=True))
        ]
        params = list(zip(flat[::2], flat[1::2], strict=True))
    return params


@pytest.mark.parametrize("l2", slow_but([0.1], [0.0, 0.1]))
def test_a_full_batch_is_clipped_as_by_hand(l2, x64):
    net = jaxnet.MLP(NET.sizes, NET.activations, l2=l2)
    params = jaxnet.init(net, jax.random.key(1), dtype=jnp.float64)
    norms = jaxnet.per_example_norms(net, params, X, Y)
    assert norms.min() < CLIPPED.max_norm < norms.max()
    settings = {"key": jax.random.key(0), "params": params, "optimizer": "sgd", "learning_rate": 0.5}
    result = jaxnet.fit(net, X, Y, **settings, steps=2, batch_size=None, privacy=CLIPPED)
    expected = descent_by_the_notes(as_pairs(params), 0.7, [range(60)] * 2, 60, 0.5, l2)
    chex.assert_trees_all_close(as_pairs(result.params), expected, rtol=1e-12)
    np.testing.assert_allclose(
        result.history["cost"][0], oracle.cost(as_pairs(params), X, Y, NET.activations, NET.loss, l2=l2), rtol=1e-12
    )


def as_pairs(params):
    return [(np.asarray(W), np.asarray(b)) for W, b in params]


def test_a_batch_is_those_who_were_drawn_over_the_expected_size(x64):
    """An epoch of 8 steps, drawn by the key of the loop: each is divided by 8, whatever its size."""
    params = jaxnet.init(NET, jax.random.key(1), dtype=jnp.float64)
    settings = {"key": jax.random.key(3), "params": params, "optimizer": optax.sgd(0.5), "batch_size": 8, "epochs": 1}
    result = fit(**settings, privacy=CLIPPED)
    _, loop_key = jax.random.split(settings["key"])
    rows = Data(jnp.asarray(X.T, jnp.float64), jnp.asarray(Y.T, jnp.float64), None)
    examples, counts = poisson_batches(jax.random.split(loop_key)[1], rows, 8)
    steps = [np.asarray(numbers)[np.asarray(there) == 1] for numbers, there in zip(examples, counts, strict=True)]
    assert len(steps) == 8 and len({len(step) for step in steps}) > 2
    expected = descent_by_the_notes(as_pairs(params), 0.7, steps, 8, 0.5)
    chex.assert_trees_all_close(as_pairs(result.params), expected, rtol=1e-11)
    costs = [
        sum(oracle.cost(now, X[:, [i]], Y[:, [i]], NET.activations, NET.loss) for i in step)
        for now, step in zip(
            (descent_by_the_notes(as_pairs(params), 0.7, steps[:k], 8, 0.5) for k in range(8)), steps, strict=True
        )
    ]
    np.testing.assert_allclose(result.history["cost"], sum(costs) / sum(map(len, steps)), rtol=1e-11)


@pytest.fixture(scope="module")
def wide():
    """One private step after another of a wide net, (state, batch, key) -> (state, measured): sgd of rate 1."""
    net = jaxnet.MLP((30, 40, 3), ("tanh", "softmax"))
    optimizer = optax.sgd(1.0)
    config = FitConfig(net, optimizer, batch_size=10, metrics=("cost", "accuracy"), privacy=Privacy(0.5, 3.0, 1e-5))
    params = jaxnet.init(net, jax.random.key(0))
    state = jaxnet.TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(1))
    step = jax.jit(lambda batch, key: epochs.measured_step(config, state._replace(key=key), batch))
    return state, step


def batch(there, seed):
    """20 examples, of which so many were drawn."""
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(30, 20)), np.eye(3)[rng.integers(0, 3, 20)].T
    return Batch(*(jnp.asarray(part, jnp.float32) for part in (X, Y)), jnp.asarray(np.arange(20) < there, jnp.float32))


def moved(state, new):
    """By how much all params have changed, as one vector."""
    return np.concatenate([np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (new.params, state.params)))])  # noqa: B905


def test_an_empty_batch_is_the_noise_alone(wide):
    """The same for any data, of the standard deviation that was asked for, and not the same with another key."""
    state, step = wide
    (one, measured), (other, _) = (step(batch(0, seed), jax.random.key(5)) for seed in (0, 1))
    chex.assert_trees_all_equal(one.params, other.params)
    noise = moved(state, one)
    assert noise.std() == pytest.approx(3.0 * 0.5 / 10, rel=0.06)  # 1,363 numbers: 1.9 % is a standard deviation
    assert abs(noise.mean()) < 4 * noise.std() / math.sqrt(noise.size)
    assert stats.kstest(noise / 0.15, "norm").pvalue > 1e-3
    again = moved(state, step(batch(0, 0), jax.random.key(6))[0])
    assert abs(np.corrcoef(noise, again)[0, 1]) < 4 / math.sqrt(noise.size)
    assert measured.weight == 0 and all(np.isfinite(value) for value in measured.metrics.values())


def test_the_noise_does_not_depend_on_the_batch(wide):
    """What a batch adds to it is the clipped sum, at most C for an example, over the expected size."""
    state, step = wide
    noise = moved(state, step(batch(0, 0), jax.random.key(5))[0])
    for there in (1, 12):
        total = moved(state, step(batch(there, 0), jax.random.key(5))[0]) - noise
        X, Y, weights = batch(there, 0)
        net = jaxnet.MLP((30, 40, 3), ("tanh", "softmax"))
        clipped = jax.tree.leaves(jaxnet.clipped_grads(net, state.params, X, Y, 0.5, weights=weights))
        np.testing.assert_allclose(total, -np.concatenate(list(map(np.ravel, clipped))) / 10, atol=1e-6)
        assert np.linalg.norm(total) <= there * 0.5 / 10 * (1 + 1e-4)


@pytest.mark.parametrize("batch_size", slow_but([16], [16, None]))
def test_each_step_has_noise_of_its_own(batch_size):
    """Of gradients that vanish beside it: in 4 steps it grows by 2, and the next epoch's is another."""
    start = jaxnet.init(NET, jax.random.key(1))
    settings = {"privacy": Privacy(1e-6, 1e6, 1e-5), "params": start, "optimizer": optax.sgd(1.0)}
    once, twice = (fit(**settings, batch_size=batch_size, epochs=epochs).params for epochs in (1, 2))
    noises = [ravel_pytree(jax.tree.map(jnp.subtract, *pair))[0] for pair in ((once, start), (twice, once))]
    growth = 2 / 16 if batch_size else 1 / 60
    for noise in noises:
        assert 0.6 < np.std(noise) / growth < 1.5  # 17 numbers: 17 % is a standard deviation
    assert np.abs(noises[1] - noises[0]).min() > 1e-3 * growth


def test_batches_of_one_example_are_often_empty_and_training_goes_on():
    result = fit(batch_size=1, epochs=2, optimizer=optax.sgd(1e-3))
    assert int(result.state.step) == 120 and np.isfinite(result.history["cost"]).all()


@pytest.mark.slow
def test_a_program_without_padding_gives_the_same(monkeypatch):
    """Batches take the narrowest width that holds them: 16, 23 and 60 here."""
    whole = fit(epochs=2, optimizer=optax.sgd(0.1))
    monkeypatch.setattr(epochs, "WORTH_A_PROGRAM", 0)
    in_two = fit(epochs=2, optimizer=optax.sgd(0.1))  # another object: it is traced here
    chex.assert_trees_all_close(in_two.params, whole.params, rtol=1e-4)
    np.testing.assert_allclose(in_two.history["cost"], whole.history["cost"], rtol=1e-5)


# ---- what it costs ----


def test_epsilon_is_what_the_accountant_says_of_the_same_events():
    history = fit(epochs=3).history["epsilon"]
    assert len(history) == 3 and (np.diff(history) > 0).all()
    for epoch, epsilon in enumerate(history, 1):
        step = dp_accounting.PoissonSampledDpEvent(16 / 60, dp_accounting.GaussianDpEvent(1.5))
        accountant = rdp.RdpAccountant()
        accountant.compose(dp_accounting.SelfComposedDpEvent(step, 4 * epoch))
        assert epsilon == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)
        exact = pld.PLDAccountant()  # by convolution: no bound, and ten times as dear
        exact.compose(dp_accounting.SelfComposedDpEvent(step, 4 * epoch))
        assert exact.get_epsilon(1e-5) < epsilon < 1.35 * exact.get_epsilon(1e-5)


@pytest.mark.parametrize("sigma", [3.0, 20.0, 80.0])
def test_epsilon_of_full_batches_is_below_bun_and_steinkes_bound(sigma):
    """ρ + 2 √(ρ ln 1/δ) with ρ = T / (2 σ²), arXiv 1605.02065, and above what the Gaussian mechanism has exactly."""
    steps, rho = 100, 100 / (2 * sigma**2)
    epsilon = Privacy(1.0, sigma, 1e-5).epsilon(steps)
    mu = math.sqrt(2 * rho)  # one Gaussian mechanism of standard deviation 1/μ
    delta = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
    assert 0 < delta <= 1e-5 and 0.75 * (rho + 2 * math.sqrt(rho * math.log(1e5))) < epsilon
    assert epsilon < rho + 2 * math.sqrt(rho * math.log(1e5))


def test_epsilon_at_the_ends():
    assert PRIVACY.epsilon(0) == 0 and CLIPPED.epsilon(1) == math.inf
    assert PRIVACY.epsilon(10, 0.1) < PRIVACY.epsilon(20, 0.1) < PRIVACY.epsilon(20, 0.2) < PRIVACY.epsilon(20)
    assert fit(privacy=CLIPPED, epochs=2, batch_size=None).history["epsilon"].tolist() == [math.inf] * 2


# ---- resume ----


@pytest.mark.parametrize("batch_size", slow_but([16], [16, None]))
def test_resumed_training_is_the_whole_one_bit_for_bit(batch_size):
    settings = {"batch_size": batch_size}
    whole, result = fit(**settings, epochs=4), fit(**settings, epochs=1)
    for number in (2, 4):
        result = fit(**settings, epochs=number, resume=result, key=None)
    chex.assert_trees_all_equal(jax.tree.map(bits, result), jax.tree.map(bits, whole))


def test_steps_of_an_epoch_that_failed_are_counted():
    """The rate is infinite at step 7 of 4 an epoch; the steps before it have told what they have told."""
    rates = lambda step: jnp.where(step == 6, jnp.inf, 0.01)
    with pytest.raises(jaxnet.NotFiniteError) as caught:
        fit(epochs=3, optimizer=optax.sgd(rates))
    failed = caught.value.result
    assert int(failed.state.step) == 6 and len(failed.history["epsilon"]) == 1
    result = fit(epochs=3, optimizer=optax.sgd(lambda step: 0.01), resume=failed, key=None)
    steps = [4, 6 + 4, 6 + 8]
    np.testing.assert_allclose(result.history["epsilon"], [PRIVACY.epsilon(n, 16 / 60) for n in steps], rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": Privacy(0.7, 1.6, 1e-5)}, r"ends with epsilon .*, which no number of steps up to 4 with Privacy"),
        ({"privacy": Privacy(0.7, 1.5, 1e-6)}, "which no number of steps"),
        ({"batch_size": 20}, "each on a share of 0.3333 of the examples"),
        ({"X": X[:, :59], "Y": Y[:, :59]}, "resume with the privacy, the data and the batch_size of the earlier fit"),
        ({"privacy": None}, "resume.history has accuracy, cost, epsilon; expected accuracy, cost, which"),
    ],
)
def test_resume_refuses_another_privacy(changes, message):
    earlier = fit(epochs=1)
    with pytest.raises(ValueError, match=message):
        fit(**{"resume": earlier, "key": None, "epochs": 2} | changes)


def test_resume_refuses_what_was_not_private():
    with pytest.raises(ValueError, match=r"resume.history has accuracy, cost; expected accuracy, cost, epsilon"):
        fit(resume=fit(privacy=None, epochs=1), key=None, epochs=2)
    failed = fit(epochs=1)  # as of a first epoch of which two steps are left
    loop = failed.loop._replace(state=failed.state._replace(step=jnp.int32(2)), epoch=jnp.int32(0))
    with pytest.raises(ValueError, match="resume has taken 2 steps of an epoch that failed, and the history has no"):
        fit(resume=failed._replace(history={}, loop=loop), key=None)


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_its_privacy_or_is_refused(tmp_path):
    settings = {"checkpoint": tmp_path, "resume": True}
    fit(epochs=1, **settings)
    with (
        pytest.raises(ValueError, match=r"resume\.history ends with epsilon"),
        pytest.warns(jaxnet.TrainingWarning, match=r"privacy 'Privacy\(.*noise_multiplier=1.5.*, now .*=1.6"),
    ):
        fit(privacy=Privacy(0.7, 1.6, 1e-5), epochs=2, **settings)
    result, whole = fit(epochs=2, **settings), fit(epochs=2)
    chex.assert_trees_all_equal(jax.tree.map(bits, result), jax.tree.map(bits, whole))
    with pytest.warns(jaxnet.TrainingWarning, match=r"max_norm=0.7, .*, now .*max_norm=0.2"):  # of the same ε
        result = fit(privacy=Privacy(0.2, 1.5, 1e-5), epochs=3, **settings)
    assert result.history["epsilon"][-1] == PRIVACY.epsilon(12, 16 / 60)


# ---- what stands in the way ----


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": (1.0, 1.0, 1e-5)}, r"privacy is a tuple; expected a jaxnet\.Privacy\(max_norm, noise_multiplier"),
        ({"weights": np.ones(60)}, "weights is given beside privacy; leave it out"),
        ({"X": [(X, Y)], "Y": None, "batch_size": "auto"}, "X is a stream or a memory map beside privacy; give arrays"),
        ({"gradient": "autodiff"}, "gradient is 'autodiff' beside privacy; give 'manual'"),
        ({"precision": "bfloat16"}, "precision is 'bfloat16' beside privacy; give 'float32'"),
        ({"on_nonfinite": "skip"}, "on_nonfinite is 'skip' beside privacy; give 'raise'"),
        ({"tol": 1e-3}, "tol is 0.001 beside privacy; leave it out"),
        ({"patience": 3, "monitor": "cost"}, "monitor is 'cost' beside privacy; give validation data"),
        ({"optimizer": optax.lbfgs()}, "optimizer asks for 'value' and 'value_fn' beside privacy, and the cost"),
    ],
)
def test_fit_refuses_beside_privacy(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**changes)


def test_dropout_is_refused():
    net = jaxnet.MLP(NET.sizes, NET.activations, dropout=0.5)
    with pytest.raises(ValueError, match=r"net\.dropout is \(0\.5, 0\.0\) beside privacy; leave it out"):
        jaxnet.fit(net, X, Y, key=jax.random.key(0), privacy=PRIVACY)


def test_a_mesh_is_refused():
    with pytest.raises(ValueError, match="mesh is given beside privacy; leave it out"):
        fit(mesh=jaxnet.parallel.mesh())


@pytest.mark.usefixtures("implicit_promotion")
def test_optimizers_that_watch_the_cost_are_refused_and_others_not():
    accumulated = optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()  # takes what it would hand on
    optimizers.refuse_one_that_needs_the_cost(accumulated, jaxnet.init(NET, jax.random.key(0)))
    with pytest.raises(ValueError, match="optimizer asks for 'value' beside privacy"):
        fit(optimizer=optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.0, 1.0, 1e-5), "max_norm is 0.0; expected a finite number above 0"),
        ((1.0, -1.0, 1e-5), "noise_multiplier is -1.0; expected a finite number above 0, or 0"),
        ((1.0, math.nan, 1e-5), "noise_multiplier is nan"),
        ((1.0, 1.0, 0.0), "delta is 0.0; expected a number above 0 and below 1, such as 1e-5"),
        ((1.0, 1.0, 1), "delta is 1; expected"),
    ],
)
def test_numbers_out_of_range(numbers, message):
    with pytest.raises(ValueError, match=message):
        Privacy(*numbers)


def test_arguments_of_epsilon_out_of_range():
    with pytest.raises(ValueError, match="steps is -1; expected an integer of at least 0"):
        PRIVACY.epsilon(-1)
    with pytest.raises(
        ValueError, match=r"sampling_rate is 1.5; expected a number above 0 and below 1, such as 0.01, or"
    ):
        PRIVACY.epsilon(1, 1.5)


@pytest.mark.parametrize(("delta", "told"), [(1 / 60, True), (0.5, True), (0.016, False)])
def test_a_delta_that_promises_nothing_is_told(delta, told):
    """Who publishes one of 60 examples, drawn at random, keeps (0, 1/60)."""
    words = r"privacy has delta=\S+, but 1/m is 0.0167 for m = 60 examples, .* such as 1e-03"
    with pytest.warns(jaxnet.TrainingWarning, match=words) if told else contextlib.nullcontext():
        fit(privacy=Privacy(0.7, 1.5, delta), epochs=1)


@pytest.mark.usefixtures("untyped")
def test_equal_ones_are_one():
    assert Privacy(1, np.float32(2), 1e-5) == Privacy(1.0, 2.0, 1e-5)
    assert hash(Privacy(1, 2, 1e-5)) == hash(Privacy(1.0, 2.0, 1e-5))


def test_without_dp_accounting_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting.rdp", None)
    with pytest.raises(ImportError, match=r'pip install "jaxnet\[privacy\]"'):
        fit()


def test_the_accountant_prints_nothing(capfd, caplog):
    """Of series that do not converge it tells by the log, which goes to the terminal."""
    Privacy(1.0, 1.0, 1e-5).epsilon(10, 0.71)
    assert capfd.readouterr() == ("", "") and not caplog.records

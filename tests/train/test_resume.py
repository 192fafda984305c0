"""`fit(..., resume=result)`: bit for bit what training at once gives, and refused where it cannot be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from tests.marks import slow_but
from tests.train.flower import NET, OPTIMIZER, X, Y, fit

RESUMES = {
    "shuffled Adam": {"optimizer": optax.adam(1e-2)},
    "schedule": {"optimizer": optax.sgd(optax.cosine_decay_schedule(0.5, 48), momentum=0.9)},
    "full batch, tol": {"batch_size": None, "tol": 1e-3},
    "patience": {"validation": (X[:, :20], 1 - Y[:, :20]), "patience": 9},
    "monitored": {"validation": (X[:, :20], Y[:, :20]), "patience": 9, "monitor": "validation_accuracy"},
    "small steps": {"validation": (X[:, :20], Y[:, :20]), "patience": 9, "min_delta": 0.1},  # the lowest is not counted
    "weights": {"weights": np.arange(60) % 3},
}


@pytest.mark.usefixtures("implicit_promotion")
@pytest.mark.parametrize("name", slow_but(["shuffled Adam", "full batch, tol", "small steps"], RESUMES))
def test_resumed_training_is_the_whole_one_bit_for_bit(name):
    """4 epochs, then to 7, then to 12: params, optimizer state, key, counters and history of 12 at once."""
    settings = RESUMES[name]
    whole, result = fit(**settings, epochs=12), fit(**settings, epochs=4)
    for epochs in (7, 12):
        result = fit(**settings, epochs=epochs, resume=result, key=None)
    chex.assert_trees_all_equal(jax.tree.map(bits, result), jax.tree.map(bits, whole))
    assert (
        fit(**settings, epochs=12, resume=result, key=None).history["cost"].tolist() == whole.history["cost"].tolist()
    )


def bits(leaf):
    """A leaf as numbers, random keys included."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def test_training_stopped_by_patience_stays_stopped():
    settings = {"validation": (X, 1 - Y), "patience": 3}
    stopped = fit(**settings, epochs=50)
    again = fit(**settings, epochs=60, resume=stopped, key=None)
    assert len(again.history["cost"]) == len(stopped.history["cost"])
    chex.assert_trees_all_equal(again.params, stopped.params)
    longer = fit(**settings | {"patience": 5}, epochs=50, resume=stopped, key=None)
    assert len(longer.history["cost"]) == len(stopped.history["cost"]) + 2


def test_a_failed_training_goes_on_from_its_last_good_state():
    with pytest.raises(jaxnet.NotFiniteError) as caught:
        fit(optimizer=optax.sgd(jnp.inf), epochs=5)
    result = fit(optimizer=optax.sgd(0.1), epochs=5, resume=caught.value.result, key=None)
    assert len(result.history["cost"]) == 5 and int(result.loop.epoch) == 5


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2}, r"epochs \(or steps\) is 2 but resume has done 3; give the number for the whole"),
        ({"resume": ()}, "resume is a tuple; expected the FitResult"),
        ({"key": jax.random.key(0)}, "key is given beside resume, which brings its own; leave out key"),
        ({"params": jaxnet.init(NET, jax.random.key(0))}, "params is given beside resume"),
        (
            {"optimizer": optax.adam(1e-2)},
            r"opt_state is another optimizer's: \[0\]\.count is missing; resume with that of the earlier",
        ),
        (
            {"metrics": ["cost", "gradient_norm"]},
            "resume.history has accuracy, cost; expected cost, gradient_norm, which",
        ),
        ({"metrics": []}, "resume.history has accuracy, cost; expected nothing, which"),
        ({"precision": "float64"}, "precision is 'float64' but resume was trained in float32; resume with its"),
        ({"validation": (X, Y)}, "resume.history has accuracy, cost; expected accuracy, cost, validation_accuracy,"),
    ],
)
def test_resume_refuses(changes, message):
    earlier = fit(epochs=3)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**{"resume": earlier, "key": None, "epochs": 5} | changes)


def test_patience_and_tol_begin_anew_where_they_were_off_between():
    """What was not tracked for a while says nothing: the best is of epochs that were looked at, the counters are 0."""
    validation = {"validation": (X[:, :20], 1 - Y[:, :20])}
    first = fit(**validation, patience=50, epochs=4)
    between = fit(**validation, epochs=7, resume=first, key=None)
    again = fit(**validation, patience=50, epochs=9, resume=between, key=None)
    best = jaxnet.cost(NET, again.params, *map(jnp.asarray, validation["validation"]))
    np.testing.assert_allclose(best, again.history["validation_cost"][7:].min(), rtol=1e-5)
    stopped = fit(tol=1e9, batch_size=None, epochs=50)
    between = fit(batch_size=None, epochs=20, resume=stopped, key=None)
    assert len(fit(tol=1e-9, batch_size=None, epochs=40, resume=between, key=None).history["cost"]) > 20


def test_the_best_of_another_metric_is_not_compared_with():
    """A cost of 0.7 is more than any accuracy: patience begins anew with the metric that it watches now."""
    validation = {"validation": (X[:, :20], Y[:, :20]), "patience": 50}
    first = fit(**validation, epochs=4)
    result = fit(**validation, monitor="validation_accuracy", epochs=9, resume=first, key=None)
    assert result.loop.best_score == result.history["validation_accuracy"][4:].max()


def test_resume_refuses_another_network():
    other = jaxnet.MLP((2, 5, 1), ("tanh", "sigmoid"))
    with pytest.raises(ValueError, match=r"resume\.loop\.params\[0\]\.W has shape \(4, 2\); expected \(5, 2\)"):
        jaxnet.fit(other, X, Y, resume=fit(epochs=1), optimizer=OPTIMIZER)

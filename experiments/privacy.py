"""Clipped, noisy gradients hide any single digit: accuracy falls with the noise, and a step costs little more.

The notes' section 3 has one gradient for each example; differentially private gradient descent (DP-SGD; Abadi et al.
2016, arXiv 1607.00133) clips each to norm C, adds them up and adds noise of deviation σ C. `jaxnet.clipped_grads` does
so without forming any of them. Here 64-64-10 reads scikit-learn's digits, and every step uses all training digits (a
sampling rate of 1), so that the privacy bound needs no amplification by sampling.

What is promised: T steps with noise multiplier σ are ρ-zCDP with ρ = T / (2 σ²), for data sets that differ in one
digit added or left out, and so (ε, δ)-private with ε = ρ + 2 √(ρ ln 1/δ): an upper bound (M. Bun and T. Steinke 2016,
arXiv 1605.02065, propositions 1.3 and 1.6, lemma 2.3). Not counted: the pixels' scaling, which is taken from the
training digits, their number m, and the choice of the settings.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments import experiment
from experiments.experiment import BLUE, GREEN, GREY, ORANGE, Figure, Result
from jaxnet import data

NOTES = "section 3"
NET = jaxnet.MLP((64, 64, 10), ("tanh", "softmax"))
DELTA = 1e-5  # below 1/m, as is usual
WITNESSES = 20  # digits left out in turn, to see how far one can move the sum
ROUNDING = 1e-4  # relative, of sums over all digits in float32


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the privacy experiment."""

    noise: tuple[float, ...] = (0.0, 3.0, 10.0, 20.0, 40.0, 80.0)
    """Noise multipliers σ, rising from 0: the noise's deviation in units of the clipping norm."""
    max_norm: float = 1.0
    """The clipping norm C."""
    steps: int = 100
    """Steps, each on all training digits."""
    learning_rate: float = 0.2
    """The rate of gradient descent, with momentum 0.9."""
    starts: int = 5
    """Runs of each noise multiplier, with random starts and noise of their own."""


def run(config: Config) -> Result:
    """Train at every noise level, check what the promise rests on, and time a step."""
    if config.quick:
        config = dataclasses.replace(config, noise=(0.0, 40.0), starts=2)
    split = data.digits(config.seed)
    X, X_test = jnp.asarray(split.X), jnp.asarray(split.X_test)
    Y, Y_test = (jaxnet.one_hot(labels, 10) for labels in (split.labels, split.labels_test))
    keys = jax.random.split(jax.random.key(config.seed), config.starts)
    accuracies = {
        sigma: [
            float(jaxnet.accuracy(jaxnet.predict(NET, train(config, sigma, key, X, Y), X_test), Y_test)) for key in keys
        ]
        for sigma in config.noise
    }
    means = [float(np.mean(accuracies[sigma])) for sigma in config.noise]
    epsilons = [epsilon(config.steps, sigma) for sigma in config.noise]
    for row in zip(config.noise, epsilons, means, strict=True):
        print("noise multiplier {:4g}, epsilon at most {:6.2f}: test accuracy {:.2%}".format(*row))

    found = mechanism(config, X, Y)
    milliseconds = times(config, X, Y)
    print("  ".join(f"{name}: {time:.2f} ms" for name, time in milliseconds.items()))
    clauses = {
        "without_noise_it_learns": means[0] > 0.93,
        "more_noise_costs_accuracy": means[0] > means[-1] and all(np.diff(means) < 0.01),
        "the_sum_is_that_of_clipped_gradients": found["error_of_the_clipped_sum"] < ROUNDING,
        "one_digit_moves_it_by_at_most_C": found["largest_move_by_one_digit"] <= config.max_norm * (1 + ROUNDING),
        "the_noise_is_as_strong_as_asked": abs(found["measured_noise_multiplier"] - 1) < 0.05,
    }
    private = max(range(len(means)), key=lambda i: (epsilons[i] < 10, means[i]))
    return Result(
        claim=f"With noise multiplier {config.noise[private]:g} (ε ≤ {epsilons[private]:.1f} at δ = {DELTA:g}) the net"
        f" reads {means[private]:.1%} of unseen digits, without noise {means[0]:.1%}; a step takes"
        f" {milliseconds['clipped, noisy sum'] / milliseconds['batch gradient']:.1f} times a plain one.",
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "sampling_rate": 1.0,
            "delta": DELTA,
            **found,
            "milliseconds_a_step": milliseconds,
            "noise_multipliers": list(config.noise),
            "epsilon_at_most": [value if math.isfinite(value) else "infinite" for value in epsilons],
            "test_accuracy": means,
            "test_accuracies": list(accuracies.values()),
        },
        figure=draw(config, accuracies, milliseconds),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def train(config: Config, sigma: float, key, X, Y) -> jaxnet.network.Params:
    """Gradient descent with momentum on clipped, noisy sums over m; return the params."""
    optimizer = optax.sgd(config.learning_rate, momentum=0.9)
    start_key, noise_key = jax.random.split(key)
    params = jaxnet.init(NET, start_key)

    def step(carry, key):
        params, state = carry
        total = jaxnet.clipped_grads(NET, params, X, Y, config.max_norm, key, sigma)
        mean = jax.tree.map(lambda leaf: leaf / X.shape[1], total)
        updates, state = optimizer.update(mean, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(noise_key, config.steps))
    return params


def epsilon(steps: int, sigma: float) -> float:
    """An upper bound of ε at DELTA after so many steps on all examples: zCDP composed, then converted."""
    if sigma == 0:
        return math.inf
    rho = steps / (2 * sigma**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / DELTA))


def by_example(params, X, Y, max_norm: float):
    """The clipped sum the plain way: every example's gradient formed, clipped and added."""
    grads = jaxnet.per_example_grads(NET, params, X, Y)
    norms = jax.vmap(optax.tree.norm)(grads)
    return jax.tree.map(lambda g: jnp.tensordot(jnp.minimum(1, max_norm / norms), g, axes=1), grads)


def mechanism(config: Config, X, Y) -> dict[str, float]:
    """What the promise rests on, measured: the sum, how far one digit moves it, and the noise."""
    C = config.max_norm
    key, noise_key = jax.random.split(jax.random.key(config.seed))
    params = jaxnet.init(NET, key)
    clipped = jax.jit(lambda X, Y: jaxnet.clipped_grads(NET, params, X, Y, C))
    total, plain = clipped(X, Y), jax.jit(by_example)(params, X, Y, C)
    others = (np.delete(np.arange(X.shape[1]), i) for i in range(WITNESSES))
    moves = [distance(total, clipped(X[:, kept], Y[:, kept])) for kept in others]
    noisy = jaxnet.clipped_grads(NET, params, X, Y, C, noise_key, 1.0)
    n = sum(leaf.size for leaf in jax.tree.leaves(params))
    return {
        "error_of_the_clipped_sum": distance(total, plain) / float(optax.tree.norm(plain)),
        "largest_move_by_one_digit": max(moves),
        "measured_noise_multiplier": distance(noisy, total) / C / math.sqrt(n),
    }


def distance(one, other) -> float:
    """The norm of the difference of two trees."""
    return float(optax.tree.norm(jax.tree.map(jnp.subtract, one, other)))


def times(config: Config, X, Y) -> dict[str, float]:
    """Milliseconds of one gradient on all digits: plain, clipped, clipped and noisy, and by forming each digit's."""
    params, C = jaxnet.init(NET, jax.random.key(config.seed)), config.max_norm
    ways = {
        "batch gradient": lambda p, X, Y, key: jaxnet.value_and_grad(NET, p, X, Y)[1],
        "clipped sum": lambda p, X, Y, key: jaxnet.clipped_grads(NET, p, X, Y, C),
        "clipped, noisy sum": lambda p, X, Y, key: jaxnet.clipped_grads(NET, p, X, Y, C, key, 1.0),
        "each gradient formed": lambda p, X, Y, key: by_example(p, X, Y, C),
    }
    key = jax.random.key(config.seed)
    return {name: 1000 * experiment.seconds(jax.jit(way), params, X, Y, key) for name, way in ways.items()}


def draw(config: Config, accuracies: dict[float, list[float]], milliseconds: dict[str, float]) -> Figure:
    """Accuracy against noise, with the bound on ε; and the time of a step."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(accuracies))
    for place, values in zip(places, accuracies.values(), strict=True):
        label = None if place else "one run each"
        left.plot([place] * len(values), 100 * np.array(values), "o", color=GREY, markersize=4, label=label)
    means = [100 * np.mean(values) for values in accuracies.values()]
    left.plot(places, means, "-", color=BLUE, label=f"mean of {config.starts}")
    names = []
    for sigma in accuracies:
        bound = epsilon(config.steps, sigma)
        names.append(f"{sigma:g}\nε ≤ {bound:.1f}" if math.isfinite(bound) else f"{sigma:g}\nno ε")
    left.set(
        title=f"{config.steps} steps, C = {config.max_norm:g}, δ = {DELTA:g}", xticks=places, xticklabels=names,
        xlabel="noise multiplier σ, and the upper bound of ε", ylabel="test digits read right (%)",
    )  # fmt: skip
    left.legend()
    colours = (GREY, BLUE, GREEN, ORANGE)
    bars = right.barh(list(milliseconds), list(milliseconds.values()), color=colours)
    right.bar_label(bars, fmt="%.2f ms", padding=3)
    right.set(title="One gradient on all training digits", xlabel="median time (ms)")
    right.margins(x=0.2)
    right.invert_yaxis()
    return figure


if __name__ == "__main__":
    experiment.main("privacy", run, Config)

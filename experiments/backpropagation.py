"""Derivatives flow back through one example's graph, each equal to autodiff's, and gradient descent follows them.

The notes' sections 8 and 9. For one example and a network 2-3-1, tanh then sigmoid, every node of the graph has a
value, computed forwards, and the derivative of ℓ with respect to it, computed backwards by the chain rule. Autodiff is
asked for the derivative at each node as well. Then gradient descent with the notes' six formulas, in a loop as the
notes have it, is laid beside `jaxnet.fit` on scikit-learn's digits, even against odd.
"""

import dataclasses
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from experiments import notes
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, above, at_most, below
from experiments.runner.experiment import largest_difference
from experiments.runner.options import Positive, Range
from jaxnet import datasets
from jaxnet.activations import ACTIVATIONS
from jaxnet.plot.colours import BLUE, ORANGE, RED

NOTES = "sections 8 and 9"
DATA = (datasets.digits,)
NET = jaxnet.MLP((2, 3, 1), ("tanh", "sigmoid"))
DIGITS = jaxnet.MLP((64, 16, 1), ("tanh", "sigmoid"))
SAME = 1e-12  # a derivative and autodiff's, in float64
TOGETHER = 1e-9  # two descents after some hundred steps, in float64: roundings add up


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the backpropagation experiment."""

    QUICK: ClassVar = {"steps": 100}

    steps: Annotated[int, Range(2)] = 400
    """Steps of gradient descent."""
    learning_rate: Positive[float] = 0.3
    """The rate of W -= rate * dW."""


def measure(config: Config) -> dict:
    """Walk the graph forwards and backwards, ask autodiff at every node, and descend."""
    with jax.enable_x64(True):
        params, x, y = example(config)
        values = jax.jit(forwards)(params, x, y)
        derivatives = jax.jit(backwards)(values, y)
        at_zero = jax.tree.map(np.zeros_like, values)
        autodiff = jax.jit(jax.grad(loss_of_shifts, argnums=2))(values, y, at_zero)
        grads, dX = jax.jit(gradient_by_jaxnet)(params, x, y)
        descent = descend(config)
    found = {
        "params": params,
        "x": x,
        "y": y,
        "values": values,
        "derivatives": derivatives,
        "autodiff": autodiff,
        "jaxnet": {"W1": grads[0].W, "b1": grads[0].b, "W2": grads[1].W, "b2": grads[1].b, "x": dX},
        "descent": descent,
    }
    errors = differences(found)
    print("\n".join(f"d{name:5} differs from jax.grad's by {error:.1e}" for name, error in errors.items()))
    return found


def example(config: Config):
    """Params, x and y of the graph."""
    params, x = notes.random_point(np.random.default_rng(config.seed), NET.sizes, W=0.8, b=0.3)
    return params, x, np.ones((1, 1))


def differences(found: dict) -> dict[str, float]:
    """How far the derivative at each node is from autodiff's."""
    return {name: largest_difference(found["derivatives"][name], own) for name, own in found["autodiff"].items()}


def difference_from_jaxnet(found: dict) -> float:
    """How far the derivatives of params and x are from the library's."""
    return max(largest_difference(found["derivatives"][name], own) for name, own in found["jaxnet"].items())


def difference_from_fit(found: dict) -> float:
    """How far the two descents' costs are apart."""
    return largest_difference(found["descent"]["the six formulas"], found["descent"]["jaxnet.fit"])


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """Every derivative is right, and the descent by them learns."""
    return {
        "difference_of_a_derivative_from_autodiff": at_most(list(differences(found).values()), SAME),
        "difference_from_backward_of_jaxnet": at_most(difference_from_jaxnet(found), SAME),
        "difference_of_the_costs_from_fit": at_most(difference_from_fit(found), TOGETHER),
        "change_of_the_cost_in_a_step": below(np.diff(found["descent"]["the six formulas"]), 0),
        "accuracy": above(found["descent"]["accuracy"], 0.85),
    }


def claim(found: dict) -> str:
    """The largest difference from autodiff, and the costs of the descent."""
    costs = found["descent"]["the six formulas"]
    return (
        f"All {len(found['values'])} derivatives of the graph equal jax.grad's to"
        f" {max(differences(found).values()):.0e}; by the six formulas J falls from {costs[0]:.3f} to {costs[-1]:.3f}"
        f" in {len(costs)} steps, as jaxnet.fit's does to {difference_from_fit(found):.0e}."
    )


def metrics(found: dict) -> dict:
    """Values, derivatives and differences."""
    costs = found["descent"]["the six formulas"]
    return {
        "values": found["values"],
        "derivatives": found["derivatives"],
        "difference_from_autodiff": differences(found),
        "difference_from_jaxnet": difference_from_jaxnet(found),
        "descent": {
            "first_cost": costs[0],
            "last_cost": costs[-1],
            "difference_from_fit": difference_from_fit(found),
            "training_accuracy": found["descent"]["accuracy"],
        },
    }


def explore(config: Config) -> dict:
    """The example and the params of its graph, for the figure of section 9."""
    params, x, y = example(config)
    params, x = jax.tree.map(lambda numbers: numbers.round(3), params), x.round(2)  # as they are written there
    ax = jaxnet.plot.computation_graph(NET, params, x, y, ax=plots.figure(11, 5.5).subplots())
    ax.set_title("")
    ax.get_legend().remove()  # the caption says it
    alt = "The graph of one example through a 2-3-1 network: the values, and the derivatives of the loss"
    return {
        "still": plots.svg(ax.figure, "backpropagation", alt),
        **{f"W{l}": W for l, (W, _) in enumerate(params, 1)},
        **{f"b{l}": b[:, 0] for l, (_, b) in enumerate(params, 1)},
        "x": x[:, 0],
        "y": int(y.item()),
    }


def forwards(params, x, y) -> dict:
    """The value of every node, from left to right."""
    (W1, b1), (W2, b2) = params
    start = {"x": x, "W1": W1, "b1": b1, "W2": W2, "b2": b2}
    return graph(start, y, lambda name, value: value)


def graph(start: dict, y, at):
    """The computation graph; at(name, value) may look at each node, or shift it, as it is computed."""
    x, W1, b1, W2, b2 = (at(name, start[name]) for name in ("x", "W1", "b1", "W2", "b2"))
    z1 = at("z1", W1 @ x + b1)
    a1 = at("a1", ACTIVATIONS["tanh"].apply(z1))
    z2 = at("z2", W2 @ a1 + b2)
    a2 = at("a2", ACTIVATIONS["sigmoid"].apply(z2))
    loss = at("loss", -(y * jnp.log(a2) + (1 - y) * jnp.log(1 - a2)))
    return {"x": x, "W1": W1, "b1": b1, "z1": z1, "a1": a1, "W2": W2, "b2": b2, "z2": z2, "a2": a2, "loss": loss}


def loss_of_shifts(start: dict, y, shifts: dict):
    """ℓ where every node is shifted: its derivative at 0 is the derivative with respect to each node."""
    return graph(start, y, lambda name, value: value + shifts[name])["loss"][0, 0]


def backwards(values: dict, y) -> dict:
    """The derivative of ℓ with respect to every node, from right to left, one application of the chain rule a line."""
    x, W2, a1, a2 = values["x"], values["W2"], values["a1"], values["a2"]
    dloss = jnp.ones_like(a2)
    da2 = dloss * (-y / a2 + (1 - y) / (1 - a2))
    dz2 = da2 * a2 * (1 - a2)  # = a2 - y
    dW2, db2 = dz2 @ a1.T, dz2
    da1 = W2.T @ dz2
    dz1 = da1 * (1 - a1 * a1)
    dW1, db1 = dz1 @ x.T, dz1
    dx = values["W1"].T @ dz1
    return {"x": dx, "W1": dW1, "b1": db1, "z1": dz1, "a1": da1, "W2": dW2, "b2": db2, "z2": dz2, "a2": da2,
            "loss": dloss}  # fmt: skip


def gradient_by_jaxnet(params, x, y):
    """The same by the library: the gradient over the params, and over x."""
    A, cache = jaxnet.forward(NET, params, x)
    return jaxnet.backward(NET, params, cache, A - y)


def descend(config: Config) -> dict:
    """Costs before each step, by the notes' loop and by jaxnet.fit, from one start; and the loop's last accuracy."""
    split = datasets.digits(config.seed)
    X, Y = (jnp.asarray(part.astype(np.float64)) for part in (split.X, split.labels[None, :] % 2))
    rate = config.learning_rate
    start = jaxnet.init(DIGITS, jax.random.key(config.seed), "xavier", jnp.float64)
    fitted = experiment.fit(
        config, DIGITS, X, Y, params=start, optimizer=optax.sgd(rate), steps=config.steps, batch_size=None
    )

    @jax.jit
    def repeat(params):
        grads = notes.gradient(params, X, Y, jnp)
        stepped = jax.tree.map(lambda leaf, dleaf: leaf - rate * dleaf, params, grads)
        return stepped, jaxnet.cost(DIGITS, params, X, Y)

    params, costs = start, []
    for _ in range(config.steps):
        params, J = repeat(params)
        costs.append(float(J))
    _, accuracy = map(float, experiment.cost_and_accuracy(DIGITS, params, X, Y))
    return {"the six formulas": np.array(costs), "jaxnet.fit": fitted.history["cost"], "accuracy": accuracy}


def draw(found: dict):
    """The graph with its values and derivatives; under it their agreement with autodiff, and the descent."""
    figure, errors, descent = plots.figure(14, 10), differences(found), found["descent"]
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.75, 1))
    axes = top.subplots()
    jaxnet.plot.computation_graph(NET, found["params"], found["x"], found["y"], ax=axes)
    agreement, costs = bottom.subplots(1, 2)
    places = np.arange(len(errors))
    floor = 1e-18  # an exact agreement has no place on a log axis
    agreement.semilogy(places, [max(error, floor) for error in errors.values()], "o", color=BLUE)
    agreement.axhline(SAME, color=RED, linestyle="--", label="limit")
    agreement.set(
        title="Difference from jax.grad's derivative (0 drawn at the bottom)", ylabel="largest difference (nats)",
        xlabel="derivative of ℓ with respect to", xticks=places, xticklabels=["ℓ" if name == "loss" else name
                                                                         for name in errors],
        ylim=(floor / 3, 1e-10),
    )  # fmt: skip
    agreement.legend(loc="center right", fontsize="small")
    steps = np.arange(len(descent["jaxnet.fit"]))
    costs.plot(steps, descent["the six formulas"], color=ORANGE, linewidth=5, alpha=0.6, label="the six formulas")
    costs.plot(steps, descent["jaxnet.fit"], color=BLUE, linestyle="--", label="jaxnet.fit")
    costs.set(title="Gradient descent: digits, even or odd", xlabel="step", ylabel="cost J (nats an example)")
    costs.legend()
    return figure


if __name__ == "__main__":
    experiment.main("backpropagation")

"""A linear output prices some houses below zero; relu, which cannot, is nearer on just those houses.

The notes' section 6: a real-valued output is linear, or relu where it is never negative. Two data sets: 1,000 invented
houses whose prices are max(0, w·x + base + noise) with known w, and the progression of diabetes in 442 real patients.
On several random splits networks of one layer and of two are trained with a linear and with a relu output, and compared
with scikit-learn's ridge regression, whose penalty is chosen by cross-validation. A hidden layer bends the price by
itself: over all houses the two outputs then about tie, and those that the linear one prices below zero stay relu's.
"""

import dataclasses
from typing import ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment
from experiments.runner.experiment import BLUE, GREEN, GREY, ORANGE, Figure, Result
from jaxnet import checks, datasets

NOTES = "section 6"
DATA = (datasets.house_prices, datasets.diabetes)
HIDDEN = 8
UNITS = {"houses": "thousand euros", "diabetes": "points of progression"}
RECOVERED = 5.0  # thousand euros: how far the effect of one deviation of a feature may be from the known one
NEAR = 1.05  # an error that is at most this multiple of another ties with it
RIVALS = {"ridge": "relu", "linear": "relu", "linear, hidden layer": "relu, hidden layer"}  # each beside a relu output
COLOURS = {"ridge": GREY, "linear": ORANGE, "relu": BLUE, "linear, hidden layer": ORANGE, "relu, hidden layer": BLUE}
NETS = [name for name in COLOURS if name != "ridge"]


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the house-price experiment."""

    QUICK: ClassVar = {"splits": 2}

    houses: int = 1000
    """Invented houses."""
    splits: int = 5
    """Random splits into 80 % for training and 20 % for the errors."""
    epochs: int = 100
    """Passes over the training part."""
    learning_rate: float = 0.01
    """Adam's rate."""


def run(config: Config) -> Result:
    """Train every network on every split of both data sets; compare errors, signs and weights."""
    seeds = range(config.seed, config.seed + checks.count("splits", config.splits))
    sets = {"houses": datasets.house_prices(checks.count("houses", config.houses, 100), config.seed)}
    sets["diabetes"] = datasets.diabetes()
    adam = optax.adam(checks.positive("learning_rate", config.learning_rate))  # one object: one program for all

    def on_every_split(XY):
        return [measure(config, adam, datasets.regression_split(*XY, seed), seed) for seed in seeds]

    outcomes = dict(zip(sets, experiment.side_by_side(on_every_split, list(sets.values()), "data set"), strict=True))
    errors = {name: {model: [runs[model]["error"] for runs in outcome] for model in COLOURS}
              for name, outcome in outcomes.items()}  # fmt: skip
    mean = {name: {model: float(np.mean(values)) for model, values in by.items()} for name, by in errors.items()}
    lowest = {name: {model: min(float(runs[model]["predicted"].min()) for runs in outcome) for model in COLOURS}
              for name, outcome in outcomes.items()}  # fmt: skip
    below_zero = {model: where_negative(model, relu, outcomes["houses"]) for model, relu in RIVALS.items()}
    effects = {model: np.mean([runs[model]["effect"] for runs in outcomes["houses"]], axis=0) for model in
               ("linear", "relu")}  # fmt: skip
    known = np.mean([runs["known"] for runs in outcomes["houses"]], axis=0)
    for name, by_model in mean.items():
        print(f"{name}, error ({UNITS[name]}):", ", ".join(f"{model} {error:.1f}" for model, error in by_model.items()))
    told = ", ".join(in_words(model, there) for model, there in below_zero.items())
    print(f"houses priced below zero: {told}")

    houses, patients = mean["houses"], mean["diabetes"]
    clauses = {
        "relu_outputs_predict_nothing_below_zero": all(
            by_model[relu] >= 0 for by_model in lowest.values() for relu in set(RIVALS.values())
        ),
        "ridge_and_linear_outputs_price_houses_below_zero": all(there["houses"] > 0 for there in below_zero.values()),
        "relu_is_nearer_on_those_houses": all(
            there["houses"] > 0 and there["relu_error"] < there["error"] for there in below_zero.values()
        ),
        "without_a_hidden_layer_relu_has_the_least_error": houses["relu"] < min(houses["linear"], houses["ridge"]),
        f"with_one_it_is_at_most_{NEAR - 1:.0%}_worse": houses["relu, hidden layer"]
        <= NEAR * houses["linear, hidden layer"],
        "relu_finds_the_known_weights": float(np.abs(effects["relu"] - known).max()) < RECOVERED,
        "one_layer_is_near_ridge_on_patients": max(patients["linear"], patients["relu"]) < NEAR * patients["ridge"],
    }
    return Result(
        claim=f"Test houses priced below zero: {told}; the lowest price of relu is"
        f" {min(lowest['houses'][relu] for relu in RIVALS.values()):.1f}. On all houses relu is off by"
        f" {houses['relu']:.1f}, linear by {houses['linear']:.1f}, ridge by {houses['ridge']:.1f} thousand euros, with"
        f" a hidden layer relu by {houses['relu, hidden layer']:.1f}, linear by"
        f" {houses['linear, hidden layer']:.1f}; on patients relu by {patients['relu']:.1f}, linear by"
        f" {patients['linear']:.1f}, ridge by {patients['ridge']:.1f} points.",
        held=all(clauses.values()),
        metrics={
            "clauses": clauses,
            "units": UNITS,
            "root_mean_squared_test_error": mean,
            "by_split": errors,
            "lowest_prediction": lowest,
            "test_houses_priced_below_zero": below_zero,
            "effect_of_one_deviation": {
                feature: {"known": known[i], **{f"{model} output": effect[i] for model, effect in effects.items()}}
                for i, feature in enumerate(datasets.HOUSE_FEATURES)
            },
        },
        figure=draw(outcomes["houses"][0], known, effects, errors, below_zero),
    )


def where_negative(model: str, relu: str, outcomes: list[dict]) -> dict[str, float | None]:
    """On how many test houses of all splits a model is below zero, its error there and that of a relu output."""
    truth, own, other = (
        np.concatenate(parts)
        for parts in zip(
            *((runs["truth"], runs[model]["predicted"], runs[relu]["predicted"]) for runs in outcomes), strict=True
        )
    )
    there = own < 0
    return {
        "houses": int(there.sum()),
        "error": error(own[there], truth[there]),
        "relu_error": error(other[there], truth[there]),
    }


def error(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    """The root of the mean squared error, in the target's unit; None of no example."""
    return float(np.sqrt(np.mean((predicted - truth) ** 2))) if len(truth) else None


def in_words(model: str, there: dict[str, float | None]) -> str:
    """How many a model prices below zero, and how far off it and relu are there."""
    if not there["houses"]:
        return f"none by {model}"
    return (
        f"{there['houses']} by {model} (off by {there['error']:.1f} thousand euros there, relu by"
        f" {there['relu_error']:.1f})"
    )


def measure(config: Config, optimizer, split: datasets.RegressionSplit, seed: int) -> dict:
    """Fit every model to a split: its test predictions, error and weights; and what the weights of houses are."""
    runs = {"ridge": ridge(split), "truth": split.Y_test[0]}
    if len(split.X) == len(datasets.HOUSE_WEIGHTS):
        runs["known"] = np.array(datasets.HOUSE_WEIGHTS) * split.deviation[:, 0]
    for model in NETS:
        output = "relu" if model.startswith("relu") else "identity"
        hidden = (HIDDEN,) if "hidden" in model else ()
        net = jaxnet.MLP((len(split.X), *hidden, 1), (*["relu"] * len(hidden), output))
        runs[model] = train(config, optimizer, net, split, seed)
    for model in COLOURS:
        runs[model]["error"] = error(runs[model]["predicted"], split.Y_test[0])
    return runs


def ridge(split: datasets.RegressionSplit) -> dict:
    """Scikit-learn's ridge regression."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(np.logspace(-2, 3, 20)).fit(split.X.T, split.Y[0])
    return {"predicted": model.predict(split.X_test.T)}


def train(config: Config, optimizer, net: jaxnet.MLP, split: datasets.RegressionSplit, seed: int) -> dict:
    """Train on targets divided by their deviation, from the mean target on, so that no relu output starts dead."""
    X, X_test = (part.astype(np.float32) for part in (split.X, split.X_test))
    scale, key = split.Y.std(), jax.random.key(seed)
    *hidden, last = jaxnet.init(net, key)
    params = (*hidden, last._replace(b=last.b + np.float32(split.Y.mean() / scale)))
    result = jaxnet.fit(
        net, X, (split.Y / scale).astype(np.float32), key=key, params=params, batch_size=32,
        optimizer=optimizer, epochs=config.epochs, progress=False,
        device=config.device,
    )  # fmt: skip
    found = {"predicted": np.asarray(jaxnet.predict(net, result.params, X_test))[0] * scale}
    return found if hidden else found | {"effect": np.asarray(result.params[0].W)[0] * scale}


def draw(first: dict, known, effects, errors, below_zero) -> Figure:
    """Predictions of houses, the weights found, and the errors of both data sets."""
    figure = Figure(figsize=(11.5, 8.5), layout="constrained")
    (prices, weights), bars = figure.subplots(2, 2)
    labels = {"linear": f"linear output: {below_zero['linear']['houses']} below zero in all splits",
              "relu": "relu output"}  # fmt: skip
    for model, marker in (("linear", "^"), ("relu", "o")):
        prices.scatter(first["truth"], first[model]["predicted"], s=14, marker=marker, color=COLOURS[model],
                       label=labels[model], alpha=0.7)  # fmt: skip
    prices.axline((0, 0), slope=1, color=GREY, linestyle="--", label="right")
    prices.axhline(0, color="black", linewidth=0.8)
    prices.set(title="Test houses, first split, one layer", xlabel="price (thousand euros)",
               ylabel="predicted price (thousand euros)")  # fmt: skip
    prices.legend(loc="upper left", fontsize="small")

    for shift, name, effect, colour in ((-0.25, "known", known, GREEN), (0, "linear output", effects["linear"], ORANGE),
                                        (0.25, "relu output", effects["relu"], BLUE)):  # fmt: skip
        weights.bar(np.arange(len(effect)) + shift, effect, 0.25, color=colour, label=name)
    weights.axhline(0, color="black", linewidth=0.8)
    weights.set(title="What one deviation of a feature does", ylabel="effect on the price (thousand euros)",
                xticks=range(len(known)), xticklabels=[name.split(" (")[0].replace(" to ", "\nto ")
                                                       for name in datasets.HOUSE_FEATURES])  # fmt: skip
    weights.legend(fontsize="small")
    for axes, (name, by_model) in zip(bars, errors.items(), strict=True):
        draw_errors(axes, name, by_model)
    return figure


def draw_errors(axes, name: str, by_model: dict[str, list[float]]) -> None:
    """The error of every model: the mean as a bar, each split as a dot."""
    for place, (model, values) in enumerate(by_model.items()):
        axes.barh(-place, np.mean(values), color=COLOURS[model], alpha=0.6)
        axes.plot(values, [-place] * len(values), "ko", markersize=3)
        axes.text(0.5, -place, f"{np.mean(values):.1f}", va="center", fontsize="small")
    axes.set(
        title=f"Test errors, {name}: mean of {len(values)} splits", xlabel=f"root mean squared error ({UNITS[name]})",
        yticks=[-place for place in range(len(by_model))], yticklabels=list(by_model),
    )  # fmt: skip


if __name__ == "__main__":
    experiment.main("house_prices")

"""A linear output prices some houses below zero; relu, which cannot, is nearer on just those houses.

The notes' section 6: a real-valued output is linear, or relu where it is never negative. Two data sets: 1,000 invented
houses whose prices are max(0, w·x + base + noise) with known w, and the progression of diabetes in 442 real patients.
On several random splits networks of one layer and of two are trained with a linear and with a relu output, and compared
with scikit-learn's ridge regression, whose penalty is chosen by cross-validation. A hidden layer bends the price by
itself: over all houses the two outputs then about tie, and those that the linear one prices below zero stay relu's.
"""

import dataclasses
from typing import Annotated, ClassVar

import jax
import numpy as np
import optax

import jaxnet
from experiments.runner import experiment, plots
from experiments.runner.comparisons import Comparison, at_least, at_most, below
from experiments.runner.options import Positive, Range
from jaxnet import datasets
from jaxnet.plot.colours import BLUE, GREEN, GREY, ORANGE

NOTES = "section 6"
DATA = (datasets.house_prices, datasets.diabetes)
HIDDEN = 8
UNITS = {"houses": "thousand euros", "diabetes": "points of progression"}
RECOVERED = 5.0  # thousand euros: how far the effect of one standard deviation of a feature may be from the known one
NEAR = 1.05  # an error that is at most this multiple of another ties with it
RIVALS = {"ridge": "relu", "linear": "relu", "linear, hidden layer": "relu, hidden layer"}  # each beside a relu output
COLOURS = {"ridge": GREY, "linear": ORANGE, "relu": BLUE, "linear, hidden layer": ORANGE, "relu, hidden layer": BLUE}
NETS = [name for name in COLOURS if name != "ridge"]


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Settings of the house-price experiment."""

    QUICK: ClassVar = {"splits": 2}

    houses: Annotated[int, Range(100)] = 1000
    """Invented houses."""
    splits: Positive[int] = 5
    """Random splits into 80 % for training and 20 % for the errors."""
    epochs: Positive[int] = 100
    """Passes over the training part."""
    learning_rate: Positive[float] = 0.01
    """Adam's rate."""


def measure(config: Config) -> dict:
    """Train every network on every split of both data sets."""
    seeds = range(config.seed, config.seed + config.splits)
    sets = {"houses": datasets.house_prices(config.houses, config.seed), "diabetes": datasets.diabetes()}
    adam = optax.adam(config.learning_rate)  # one object: one program for all

    def on_every_split(XY):
        return [outcome(config, adam, datasets.regression_split(*XY, seed), seed) for seed in seeds]

    found = dict(zip(sets, experiment.thread_map(on_every_split, list(sets.values()), "data set"), strict=True))
    for name, by_model in mean_errors(found).items():
        print(f"{name}, error ({UNITS[name]}):", ", ".join(f"{model} {error:.1f}" for model, error in by_model.items()))
    print(f"houses priced below zero: {in_words(below_zero(found))}")
    return found


def errors(found: dict) -> dict[str, dict[str, list[float]]]:
    """The test error on each split, by data set and model."""
    return {
        name: {model: [error(split[model]["predicted"], split["truth"]) for split in splits] for model in COLOURS}
        for name, splits in found.items()
    }


def mean_errors(found: dict) -> dict[str, dict[str, float]]:
    """The mean test error over the splits, by data set and model."""
    return {
        name: {model: float(np.mean(values)) for model, values in by_model.items()}
        for name, by_model in errors(found).items()
    }


def lowest_predictions(found: dict) -> dict[str, dict[str, float]]:
    """The lowest prediction of any split, by data set and model."""
    return {
        name: {model: min(float(split[model]["predicted"].min()) for split in splits) for model in COLOURS}
        for name, splits in found.items()
    }


def below_zero(found: dict) -> dict[str, dict[str, float | None]]:
    """For each model that can price a house below zero: on how many it does, and the errors there."""
    return {model: where_negative(model, relu, found["houses"]) for model, relu in RIVALS.items()}


def mean_over_splits(found: dict, model: str, what: str) -> np.ndarray:
    """The mean of a vector, one entry a feature of the houses, over the splits."""
    return np.mean([split[model][what] for split in found["houses"]], axis=0)


def effects(found: dict) -> dict[str, np.ndarray]:
    """The effect of one standard deviation of each feature on the price: as known, and as each network has it."""
    networks = {model: mean_over_splits(found, model, "effect") for model in ("linear", "relu")}
    return {"known": np.mean([split["known"] for split in found["houses"]], axis=0), **networks}


def clauses(found: dict) -> dict[str, bool | Comparison]:
    """relu prices nothing below zero, is nearer where others do, and about ties elsewhere."""
    lowest, negative, effect = lowest_predictions(found), below_zero(found).values(), effects(found)
    houses, patients = mean_errors(found).values()
    return {
        "lowest_prediction_of_relu": at_least(
            [by_model[relu] for by_model in lowest.values() for relu in set(RIVALS.values())], 0
        ),
        "ridge_and_linear_outputs_price_houses_below_zero": all(there["houses"] > 0 for there in negative),
        "relu_is_nearer_on_those_houses": all(
            there["houses"] > 0 and there["relu_error"] < there["error"] for there in negative
        ),
        "error_of_relu": below(houses["relu"], min(houses["linear"], houses["ridge"])),
        "error_of_relu_with_a_hidden_layer": at_most(
            houses["relu, hidden layer"], NEAR * houses["linear, hidden layer"]
        ),
        "distance_from_the_known_weights": below(np.abs(effect["relu"] - effect["known"]), RECOVERED),
        "error_of_one_layer_on_patients": below([patients["linear"], patients["relu"]], NEAR * patients["ridge"]),
    }


def claim(found: dict) -> str:
    """How many houses are priced below zero, and the errors of all models."""
    houses, patients = mean_errors(found).values()
    return (
        f"Test houses priced below zero: {in_words(below_zero(found))}, none by relu. The root mean squared error is"
        f" {houses['relu']:.1f} thousand euros with relu, {houses['linear']:.1f} with a linear output and"
        f" {houses['ridge']:.1f} by ridge; on patients, whose target is far above zero, the three are"
        f" {patients['relu']:.1f}, {patients['linear']:.1f} and {patients['ridge']:.1f} points."
    )


def metrics(found: dict) -> dict:
    """Errors, lowest predictions and weights."""
    effect = {name if name == "known" else f"{name} output": values for name, values in effects(found).items()}
    return {
        "units": UNITS,
        "root_mean_squared_test_error": mean_errors(found),
        "by_split": errors(found),
        "lowest_prediction": lowest_predictions(found),
        "test_houses_priced_below_zero": below_zero(found),
        "effect_of_one_standard_deviation": {
            feature: {name: values[i] for name, values in effect.items()}
            for i, feature in enumerate(datasets.HOUSE_FEATURES)
        },
    }


def where_negative(model: str, relu: str, splits: list[dict]) -> dict[str, float | None]:
    """On how many test houses of all splits a model is below zero, its error there and that of a relu output."""
    truth, own, other = (
        np.concatenate(parts)
        for parts in zip(
            *((split["truth"], split[model]["predicted"], split[relu]["predicted"]) for split in splits), strict=True
        )
    )
    there = own < 0
    return {
        "houses": int(there.sum()),
        "error": error(own[there], truth[there]),
        "relu_error": error(other[there], truth[there]),
    }


def error(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    """The root of the mean squared error, in the target's unit; None where there is no example."""
    return float(np.sqrt(np.mean((predicted - truth) ** 2))) if len(truth) else None


def in_words(negative: dict[str, dict[str, float | None]]) -> str:
    """How many houses each model prices below zero."""
    return ", ".join(f"{there['houses'] or 'none'} by {model}" for model, there in negative.items())


def outcome(config: Config, optimizer, split: datasets.RegressionSplit, seed: int) -> dict:
    """Fit every model to a split: its predictions and weights, beside the test targets and the known weights."""
    found = {"truth": split.Y_test[0], "ridge": ridge(split)}
    if len(split.X) == len(datasets.HOUSE_WEIGHTS):
        found["known"] = np.array(datasets.HOUSE_WEIGHTS) * split.std[:, 0]
    for model in NETS:
        output = "relu" if model.startswith("relu") else "identity"
        hidden = (HIDDEN,) if "hidden" in model else ()
        net = jaxnet.MLP((len(split.X), *hidden, 1), (*["relu"] * len(hidden), output))
        found[model] = train(config, optimizer, net, split, seed)
    return found


def ridge(split: datasets.RegressionSplit) -> dict:
    """Scikit-learn's ridge regression."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(np.logspace(-2, 3, 20)).fit(split.X.T, split.Y[0])
    return {"predicted": model.predict(split.X_test.T)}


def train(config: Config, optimizer, net: jaxnet.MLP, split: datasets.RegressionSplit, seed: int) -> dict:
    """Train on targets in units of their standard deviation, from their mean, so that no relu output starts dead."""
    X, X_test = (part.astype(np.float32) for part in (split.X, split.X_test))
    scale, key = split.Y.std(), jax.random.key(seed)
    *hidden, last = jaxnet.init(net, key)
    params = (*hidden, last._replace(b=last.b + np.float32(split.Y.mean() / scale)))
    result = experiment.fit(
        config, net, X, (split.Y / scale).astype(np.float32), key=key, params=params, batch_size=32,
        optimizer=optimizer, epochs=config.epochs,
    )  # fmt: skip
    found = {"predicted": np.asarray(jaxnet.predict(net, result.params, X_test))[0] * scale}
    return found if hidden else found | {"effect": np.asarray(result.params[0].W)[0] * scale}


def draw(found: dict):
    """Predictions of houses, the weights found, and the errors of both data sets."""
    figure, first, negative = plots.figure(11.5, 8.5), found["houses"][0], below_zero(found)
    (prices, weights), bars = figure.subplots(2, 2)
    labels = {"linear": f"linear output: {negative['linear']['houses']} below zero in all splits",
              "relu": "relu output"}  # fmt: skip
    for model, marker in (("linear", "^"), ("relu", "o")):
        prices.scatter(first["truth"], first[model]["predicted"], s=14, marker=marker, color=COLOURS[model],
                       label=labels[model], alpha=0.7)  # fmt: skip
    prices.axline((0, 0), slope=1, color=GREY, linestyle="--", label="correct")
    prices.axhline(0, color="black", linewidth=0.8)
    prices.set(title="Test houses, first split, one layer", xlabel="price (thousand euros)",
               ylabel="predicted price (thousand euros)")  # fmt: skip
    prices.legend(loc="upper left", fontsize="small")

    labels = {"known": "known", "linear": "linear output", "relu": "relu output"}
    for (name, effect), shift, colour in zip(
        effects(found).items(), (-0.25, 0, 0.25), (GREEN, ORANGE, BLUE), strict=True
    ):
        weights.bar(np.arange(len(effect)) + shift, effect, 0.25, color=colour, label=labels[name])
    weights.axhline(0, color="black", linewidth=0.8)
    weights.set(title="Effect of one standard deviation", ylabel="effect on the price (thousand euros)",
                xticks=range(len(effect)), xticklabels=[name.split(" (")[0].replace(" to ", "\nto ")
                                                       for name in datasets.HOUSE_FEATURES])  # fmt: skip
    weights.legend(fontsize="small")
    for axes, (name, by_model) in zip(bars, errors(found).items(), strict=True):
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

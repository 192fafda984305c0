"""What a training that went through says about itself: one warning for each symptom, silenced as any other.

All of it is read from the history, or computed on the host: no fit compiles anything for it, but for an activation of
one's own that stands before a relu layer.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnet.activations import LEAK
from jaxnet.mlp import MLP, Params

ENOUGH = 3  # epochs, before which a cost that has not fallen tells nothing
LARGE = 1e4  # a cost whose targets are of some 100 deviations
UNCHANGED = 1e-6  # relative: the rounding of float32 in an epoch's mean
SCALES = (1e-3, 1e3)  # between which the largest |X| is no reason that nothing is learned
UNIT = 10  # the largest |X| of features of unit scale
FAR_ABOVE = 10  # times what the cost would be of a network that answers 0: a start draws answers of about 1
LOST = 100  # times the same: what no epoch of a descent costs from a start that `fit` draws
SAMPLE = 32  # examples at once: of a layer that is alive, some of them activate a unit


def _special() -> Any:
    """scipy.special, which takes long to import, and is asked in rare cases alone."""
    from scipy import special

    return special


ON_HOST = {  # the activations of hidden layers
    "identity": lambda Z: Z,
    "sigmoid": lambda Z: _special().expit(Z),
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0),
    "leaky_relu": lambda Z: np.where(Z > 0, Z, LEAK * Z),
    "softplus": lambda Z: np.logaddexp(0, Z),
    "gelu": lambda Z: Z * _special().ndtr(Z),
    "silu": lambda Z: Z * _special().expit(Z),
}


class TrainingWarning(UserWarning):
    """Training went through, and yet something about it is hardly what was meant."""


def warn(message: str, stacklevel: int = 4) -> None:
    """Warn the caller of the function that calls the function that calls this."""
    warnings.warn(message, TrainingWarning, stacklevel=stacklevel)


def warn_of_a_cost_that_never_fell(history: Mapping[str, np.ndarray]) -> None:
    """Warn where the cost stayed what it was in the first epoch, or rose: the one sign of a rate of 0 or below."""
    costs = history.get("cost", np.zeros(0))
    if len(costs) < ENOUGH or costs[0] == 0 or costs.min() < costs[0] * (1 - UNCHANGED):
        return
    first, last = costs[0], costs[-1]
    if last > 1.01 * first:
        warn(
            f"the cost never fell: {first:.6g} in the first epoch, {last:.6g} in the last; is the learning rate"
            " negative, or too high?"
        )
    elif costs.max() <= first * (1 + UNCHANGED):
        of_targets = ", or far too small for targets as large as these (standardise Y)," if first > LARGE else ","
        warn(
            f"the cost never changed: {first:.6g} in all {len(costs)} epochs; is the learning rate 0{of_targets} or the"
            " gradient 0, as with weights that are all 0?"
        )


def warn_of_a_large_delta(delta: float, m: int) -> None:
    """Warn where δ of a privacy is 1/m or more: to publish an example drawn at random, as it is, would keep that."""
    if delta * m >= 1:
        warn(
            f"privacy has delta={delta:g}, but 1/m is {1 / m:.3g} for m = {m} examples, and who publishes one of them"
            f" whole, drawn at random, promises as much; give a delta far below 1/m, such as"
            f" {10.0 ** -math.ceil(math.log10(10 * m)):.0e}"
        )


def warn_of_a_cost_beyond_the_targets(
    net: MLP,
    X: np.ndarray,
    Y: np.ndarray,
    weights: np.ndarray | None,
    history: Mapping[str, np.ndarray],
    is_own_start: bool,
) -> None:
    """Warn where the cost is what inputs far from unit scale, or a rate that is far too high, make of it.

    Large inputs drive the first cost far above what the targets ask for, or saturate the units, and from small ones
    nothing is learned that a constant does not know. A rate that is too high keeps the cost where no start has it that
    `fit` draws.
    """
    costs = history.get("cost", np.zeros(0))
    if not costs.size:
        return
    largest, at_zero = max(float(X.max()), -float(X.min())), _cost_at_zero(net, Y, weights)
    enough = len(costs) >= ENOUGH
    scale = f"as large as {largest:.3g}" if largest > UNIT else f"nowhere larger than {largest:.3g}"
    remedy = "standardise X: subtract each feature's mean and divide by its standard deviation"
    if largest > (UNIT if is_own_start else SCALES[1]) and costs[0] > FAR_ABOVE * at_zero:
        warn(
            f"X is {scale}, and the cost of the first epoch is {costs[0]:.3g}, far above the {at_zero:.3g} that the"
            f" targets explain; {remedy}"
        )
    elif enough and _is_unscaled(X, largest) and costs.min() > 0.99 * _cost_of_a_constant(net, Y, weights):
        warn(
            f"X is {scale}, and in {len(costs)} epochs the cost has not fallen below that of the best constant answer;"
            f" it is {costs[-1]:.3g}; {remedy}"
        )
    elif enough and is_own_start and not net.l2 and costs[0] > costs.min() > LOST * at_zero:  # of l2 J has another part
        warn(
            f"the cost was never below {costs.min():.3g} in {len(costs)} epochs, far above the {at_zero:.3g} of a"
            " network that answers 0; lower the learning rate, or standardise X"
        )


def _is_unscaled(X: np.ndarray, largest: float) -> bool:
    """Whether all of X is far from unit scale; one example that is far off is no reason for the cost of the others."""
    return 0 < largest < SCALES[0] or (largest > SCALES[1] and float(np.median(np.abs(X))) > SCALES[1])


def _cost_at_zero(net: MLP, Y: np.ndarray, weights: np.ndarray | None) -> float:
    """J of a network whose Z[L] is 0; of squared errors with 1/2 more for each output, for answers of about 1."""
    if net.loss == "cross_entropy":
        return math.log(len(Y)) if net.activations[-1] == "softmax" else len(Y) * math.log(2)
    return 0.5 * float(np.average(Y.astype(np.float64) ** 2, axis=1, weights=weights).sum() + len(Y))


def _cost_of_a_constant(net: MLP, Y: np.ndarray, weights: np.ndarray | None) -> float:
    """J of the best answer that is the same for all examples, their mean: an entropy, or half the variance."""
    Y = Y.astype(np.float64)
    mean = np.average(Y, axis=1, weights=weights)
    if net.loss == "cross_entropy":
        entr = _special().entr
        return float((entr(mean) + (0 if net.activations[-1] == "softmax" else entr(1 - mean))).sum())
    return 0.5 * float(np.average((Y - mean[:, None]) ** 2, axis=1, weights=weights).sum())


def warn_of_classes(seen: set[int], validated: set[int]) -> None:
    """Warn where the batches of a stream have named one class, or not all that its validation data have.

    Of arrays that is an error before training begins.
    """
    if len(seen) == 1:
        warn(f"Y of all batches holds one class only ({min(seen)}); expected at least two classes to tell apart")
    elif unseen := validated - seen:
        warn(
            f"class {min(unseen)} is in the validation targets but in Y of no batch; split so that training sees every"
            " class"
        )


def warn_of_dead_relus(net: MLP, params: Params, X: np.ndarray, Y: np.ndarray) -> None:
    """Warn where all units of a relu layer are 0 for every example; an output of 0 where all targets are is meant."""
    dead = {l for l, name in enumerate(net.activations, 1) if name == "relu" and (l < len(params) or Y.any())}
    if not dead:
        return
    layers = [(np.asarray(W), np.asarray(b)) for W, b in params[: max(dead)]]
    stride = -(-X.shape[1] // SAMPLE)
    for first in range(stride):  # the first of them, in a network that is alive
        dead &= _inactive(net, layers, X[:, first::stride])
        if not dead:
            return
    l = min(dead)
    warn(
        f"layer {l} is dead: each of its {net.sizes[l]} 'relu' units is 0 for every example of X, and with it their"
        " gradient; lower the learning rate, standardise X, or take 'leaky_relu'"
    )


def _inactive(net: MLP, layers: list[tuple[np.ndarray, np.ndarray]], A: np.ndarray) -> set[int]:
    """The layers, counted from 1, of which no unit has a Z above 0 for these examples."""
    inactive = set()
    with np.errstate(all="ignore"):  # of sums that overflow only the sign counts
        for l, ((W, b), name) in enumerate(zip(layers, net.activations, strict=False), 1):
            Z = W @ A + b
            if not (Z > 0).any():
                inactive.add(l)
            A = ON_HOST[name](Z) if isinstance(name, str) else np.asarray(name(jnp.asarray(Z)))
    return inactive

"""What a training that went through says about itself: one warning for each symptom, silenced as any other."""

import warnings
from collections.abc import Mapping

import numpy as np

ENOUGH = 3  # epochs, before which a cost that has not fallen tells nothing
UNCHANGED = 1e-6  # relative: the rounding of float32 in an epoch's mean


class TrainingWarning(UserWarning):
    """Training went through, and yet something about it is hardly what was meant."""


def warn(message: str) -> None:
    """Warn the caller of the function that calls a function of this package."""
    warnings.warn(message, TrainingWarning, stacklevel=4)


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
        warn(
            f"the cost never changed: {first:.6g} in all {len(costs)} epochs; is the learning rate 0, or the"
            " gradient, as with weights that are all 0?"
        )

"""In words: which numbers of a training were not finite, at which step, and what helps."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnet.parallel import placing
from jaxnet.train import optimizers
from jaxnet.train.state import LoopState, TrainState

LARGE = 10  # of a feature or target that has not been scaled: of a million normal numbers none is beyond 5


def of_a_step(loop: LoopState, state: TrainState, measured: dict[str, Array], X, Y, all_skipped: bool) -> str:
    """A step from that state, of the loop's next epoch, on such data; perhaps all of the epoch were skipped."""
    largest = _largest(X, Y)
    rate = optimizers.learning_rate(state.opt_state)
    norm = measured["gradient_norm"]
    most = float(np.finfo(norm.dtype).max) ** 0.5
    numbers = ", ".join(f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in measured.items())
    beyond = f" (above {most:.2g} its square overflows)" if np.isposinf(norm) else ""
    at_rate = "" if rate is None else f", learning rate {rate:.3g}"
    wide = [
        np.asarray(layer.W, np.float64) for layer in placing.on_the_host(state.params)
    ]  # where squares of float32 do not overflow
    norms = ", ".join(f"|W[{number}]| = {np.linalg.norm(W):.3g}" for number, W in enumerate(wide, 1))
    others = " and at all others of that epoch" if all_skipped else ""
    return (
        "the cost, a metric, the new params or the optimizer's state are not finite"
        f" at step {int(state.step) + 1} (epoch {int(loop.epoch) + 1}){others}: {numbers}{beyond}{at_rate}; {norms};"
        f" largest |X| {largest['X']:.3g}, |Y| {largest['Y']:.3g}."
        f" The step was undone and the state before it is in this error's .result; {_remedy(measured, largest)}"
    )


def of_validation(loop: LoopState, J: Float[Array, ""], cost: Float[Array, ""], validation, training) -> str:
    """The validation cost after the loop's next epoch, whose last batch has that cost; both data are (X, Y)."""
    of, largest = _largest(*validation), _largest(*training)
    return (
        f"the validation cost is {J:.3g} after epoch {int(loop.epoch) + 1}, where the last batch of training costs"
        f" {cost:.3g}; largest validation |X| {of['X']:.3g}, |Y| {of['Y']:.3g}, in training"
        f" {largest['X']:.3g}, {largest['Y']:.3g}. The epoch was undone and the state before it is in this"
        " error's .result; scale the validation data as those of training, or lower the learning rate"
    )


def _largest(X: Array, Y: Array) -> dict[str, float]:
    """The largest absolute value in X and in Y."""
    return {name: float(jnp.maximum(array.max(), -array.min())) for name, array in (("X", X), ("Y", Y))}


def _remedy(measured: dict[str, Array], largest: dict[str, float]) -> str:
    unscaled = " and ".join(name for name, value in largest.items() if value > LARGE)
    rescale = f"rescale {unscaled}, " if unscaled else ""
    if all(np.isfinite(measured[name]) for name in ("cost", "gradient_norm")):
        return (
            f"the gradient is finite and the update is not: {rescale}give the optimizer a lower, finite learning rate"
        )
    return f"{rescale}lower the learning rate or clip the gradient (optax.clip_by_global_norm)"

"""Differentially private training, DP-SGD: how a step's gradient is made, and what it costs in privacy.

Each of the m examples enters a step's batch with probability q = batch_size / m, whoever else does (Poisson sampling);
its gradient is clipped to norm C, and the step is

    (Σ_i min(1, C / ‖g_i‖) g_i + σ C N(0, 1)) / batch_size        + λ W, the penalty's, which is no example's

The divisor is the expected size, for the size that was drawn would tell who was there. What T such steps reveal of one
example is (ε, δ): for all sets S of trained params, and data sets D, D' that differ in one example more or less,
P(S | D) <= e^ε P(S | D') + δ. The accountant composes the steps' Rényi divergences, an upper bound.

Source: M. Abadi et al. 2016, arXiv 1607.00133; I. Mironov et al. 2019, arXiv 1908.10530 (the sampled Gaussian
mechanism); dp-accounting, which computes its divergences.
"""

import bisect
import functools
import importlib
import logging
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnet._arguments import count, from_zero, positive, share
from jaxnet.losses import penalty_derivative
from jaxnet.mlp import MLP, Params
from jaxnet.network import cost_and_output
from jaxnet.per_example import clipped_grads

SAME = 1e-9  # relative, by which two ways to add up the same privacy may be rounded


@dataclass(frozen=True)
class Privacy:
    """What `fit(..., privacy=)` trains with: differential privacy for each example, by clipped gradients and noise.

    `history["epsilon"]` is then ε after each epoch: whoever sees the params of all steps until then, and the data of
    all examples but one, learns of that one no more than (ε, δ) says. It holds for params alone. Cost and accuracy of
    the training data in the history are measured without noise, and m, the scaling of X and the choice of settings
    (several fits, of which the best is kept) are not counted: publish params, not a result or its checkpoints, which
    hold the key too. Who knows the key can take the noise away: make it of randomness that nobody can guess, such as
    `jax.random.wrap_key_data(np.frombuffer(os.urandom(8), np.uint32))`, and use it once. The noise is drawn in floating
    point, without a defence against attacks on its last digits.

    A batch has room for so many examples that a larger one is drawn with a probability below 1e-30; what it would add
    to δ, times the number of steps, is nothing beside it.

    Args:
        max_norm: C, the norm to which each example's gradient is clipped, over all params.
        noise_multiplier: σ, the noise's standard deviation in units of max_norm; 0 is clipping alone, where ε is
            infinite.
        delta: δ, between 0 and 1: far below 1/m, and `fit` warns where it is not below.

    Raises:
        ValueError: one of them is out of its range.

    >>> net, (X, Y) = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid")), jaxnet.datasets.flower()
    >>> privacy = jaxnet.Privacy(max_norm=1.0, noise_multiplier=2.0, delta=1e-5)
    >>> result = jaxnet.fit(net, X, Y, key=jax.random.key(0), privacy=privacy, epochs=3, batch_size=40)
    >>> print(result.history["epsilon"].round(2), round(privacy.epsilon(steps=30, sampling_rate=0.1), 2))
    [0.94 1.23 1.46] 1.46
    """

    max_norm: float
    noise_multiplier: float
    delta: float

    def __post_init__(self):
        """Check the numbers."""
        checked = {
            "max_norm": positive("max_norm", self.max_norm),
            "noise_multiplier": from_zero("noise_multiplier", self.noise_multiplier),
            "delta": share("delta", self.delta, example="1e-5"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def epsilon(self, steps: int, sampling_rate: float = 1.0) -> float:
        """Return ε after so many steps, each of which every example enters with that probability: an upper bound.

        Raises:
            ValueError: steps is below 0, or sampling_rate not above 0 and at most 1.
            ImportError: dp-accounting is not installed.
        """
        steps = count("steps", steps, least=0)
        sampling_rate = 1.0 if sampling_rate == 1 else share("sampling_rate", sampling_rate, ", or 1", "0.01")
        if steps == 0:
            return 0.0
        if self.noise_multiplier == 0:
            return float("inf")
        orders, divergences = _divergences(self.noise_multiplier, sampling_rate)
        return float(accounting().compute_epsilon(orders, steps * divergences, self.delta)[0])

    def epsilon_is_after(self, epsilon: float, most_steps: int, sampling_rate: float) -> bool:
        """Whether this ε is that of so many steps or fewer."""
        of = functools.partial(self.epsilon, sampling_rate=sampling_rate)
        steps = bisect.bisect_left(range(most_steps), epsilon * (1 - SAME), key=of)
        return bool(np.isclose(of(steps), epsilon, rtol=SAME, atol=0))


def sampling_rate(batch_size: int | None, m: int) -> float:
    """The probability q with which an example enters a batch: 1 where all do."""
    return 1.0 if batch_size is None else batch_size / m


def accounting() -> Any:
    """The accountant's module, imported where it is used."""
    try:
        return importlib.import_module("dp_accounting.rdp")
    except ImportError as error:
        raise ImportError(
            'privacy needs dp-accounting, which is not installed; pip install "jaxnet[privacy]" brings it'
        ) from error


@functools.lru_cache(maxsize=64)
def _divergences(noise_multiplier: float, sampling_rate: float) -> tuple[Any, Any]:
    """The orders, and the Rényi divergence of one step at each: composing steps adds them."""
    accountant, events = accounting().RdpAccountant(), importlib.import_module("dp_accounting")
    step = events.PoissonSampledDpEvent(sampling_rate, events.GaussianDpEvent(noise_multiplier))
    logger, silence = logging.getLogger("absl"), lambda record: False
    logger.addFilter(silence)  # it tells of each order whose series does not converge, and leaves it out
    try:
        accountant.compose(step)
    finally:
        logger.removeFilter(silence)
    return accountant.orders, accountant.rdp


def private_value_output_and_grad(
    privacy: Privacy,
    expected_size: int,
    net: MLP,
    params: Params,
    X: Float[Array, "n_x m"],
    Y: Float[Array, "n_y m"],
    weights: Float[Array, " m"] | None,
    precision: str,
    key: PRNGKeyArray | Array | None,
) -> tuple[tuple[Float[Array, ""], Float[Array, "n_y m"]], Params]:
    """((J, A[L]), the clipped, noisy gradient): J and A[L] as they are, without noise.

    weights: 1 for those that were drawn, 0 for padding; None is 1 each.
    """
    J, A = cost_and_output(net, params, X, Y, weights, precision)
    noise = privacy.max_norm, key, privacy.noise_multiplier
    grads = jax.tree.map(
        lambda total: total / expected_size, clipped_grads(net, params, X, Y, *noise, precision, weights)
    )
    if net.l2:
        decay = [penalty_derivative(net.l2, W) for W, _ in params]
        grads = tuple(grad._replace(W=grad.W + dW) for grad, dW in zip(grads, decay, strict=True))
    return (J, A), grads

"""How exact can a gradient be? The tolerance of each leaf, derived from the problem.

    r   the gradient in float64             u   the unit roundoff of the leaf's dtype
    a   autodiff in the leaf's own dtype    g   the gradient under test

    noise = max(‖a − r‖, max over 3 draws of ‖a(inputs × (1 ± u)) − a(inputs)‖, u ‖r‖)
    score = ‖g − r‖ / noise, and the same with the largest entry in place of the norm

The first term is what the compiler's own gradient loses, the second measures conditioning, the third is the rounding of
the result itself. More than 8 warns, more than 16 fails. (Measured: correct gradients score 0.5 to 4.4, the weakest
visible bug thousands.)
"""

from dataclasses import dataclass

import numpy as np

from jaxnet.verify.sizes import largest, norm, ratio

WARN, FAIL = 8.0, 16.0


@dataclass(frozen=True)
class Noise:
    """The error that a correct gradient of a leaf may have: of its norm, and of its largest entry."""

    norm: float
    entry: float
    terms: tuple[float, ...] = ()

    def widened(self, norm: float, entry: float) -> "Noise":
        """This noise, or a larger one."""
        return Noise(max(self.norm, norm), max(self.entry, entry), (*self.terms, norm))


def noise_of(r: np.ndarray, a: np.ndarray | None, draws: list[tuple[float, float]], unit: float) -> Noise:
    """The three terms for one leaf; `draws` holds norm and largest entry of each perturbed difference."""
    gap = (norm(a - r), largest(a - r)) if a is not None else (0.0, 0.0)
    shaken = (max((d[0] for d in draws), default=0.0), max((d[1] for d in draws), default=0.0))
    rounding = (unit * norm(r), unit * largest(r))
    terms = [gap, shaken, rounding]
    # A witness that is itself not finite says nothing about noise.
    finite = [t if np.isfinite(t).all() else (0.0, 0.0) for t in terms]
    return Noise(max(t[0] for t in finite), max(t[1] for t in finite), tuple(t[0] for t in finite))


def score(g: np.ndarray, r: np.ndarray, noise: Noise) -> float:
    """Error over noise, the worse of norm and largest entry."""
    error = g - r
    return max(ratio(norm(error), noise.norm), ratio(largest(error), noise.entry))


def resolution(r: np.ndarray, noise: Noise) -> float:
    """The smallest relative error of a leaf that would have failed; 1 or more means that nothing was checked."""
    size = norm(r)
    return FAIL * noise.norm / size if size > 0.0 else float("inf")


def ulps(g: np.ndarray, r: np.ndarray, dtype) -> tuple[float, float, float]:
    """Median, 99th percentile and largest distance of g from r, in units of the last place of r."""
    if g.size == 0:
        return (0.0, 0.0, 0.0)
    import jax.numpy as jnp

    info = jnp.finfo(dtype)
    size = np.maximum(np.abs(r), float(info.tiny))
    place = np.exp2(np.floor(np.log2(size))) * float(info.eps)
    distance = np.abs(g - r) / place
    # Sorting millions of entries would cost more than the gradient: percentiles come from a sample.
    sample = distance.ravel()[:: max(1, distance.size // 65536)]
    p50, p99 = np.quantile(sample, [0.5, 0.99])
    return (float(p50), float(p99), float(np.max(distance)))

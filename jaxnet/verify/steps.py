"""The step over a tie is no noise, though a rounding of the inputs takes it.

    a_k    autodiff in the leaf's own dtype, here and at inputs one rounding away
    noise = max(max over k of ‖a_k − the nearest mixture of the gradients next to the point‖, u ‖r‖)

One rounding makes one of two equal numbers the larger, and the gradient steps from one of its values there to another.
Sixteen such steps are no tolerance: a gradient at a tie is a mixture of those values (kinks.py), whatever rounding
does. Only ties that are exact in float64 are meant: what is a hair away from its kink may fall to either side in
another formula, and that is noise; what it hides of a formula is found beside the kink (beside_kinks.py).
"""

import numpy as np

from jaxnet.verify.judgement import Finding, grade
from jaxnet.verify.kinks import Subgradients
from jaxnet.verify.noise import FAIL, Noise, largest, norm, score
from jaxnet.verify.tree import wide
from jaxnet.verify.truth import DRAWS


def is_shaken(f: Finding) -> bool:
    """Whether a leaf's noise is more than rounding of the leaf itself: it may hold the step over a tie."""
    gap, shaken, rounding = (*f.noise.terms, 0.0, 0.0, 0.0)[:3]
    return not f.overflows and max(gap, shaken) > 4 * rounding


def in_doubt(f: Finding) -> bool:
    """Whether the verdict hangs on such noise."""
    return is_shaken(f) and (
        f.verdict == "INCONCLUSIVE" or (f.verdict == "PASS" and score(f.g, f.r, _rounding(f)) > FAIL)
    )


def take_steps_out_of_the_noise(check, nearby: Subgradients, leaves: dict[int, Finding]):
    """Measures the noise of some leaves anew, if exact ties are seen to move them as much, and grades them by it."""
    leaves = {i: f for i, f in leaves.items() if not f.cause and nearby.jumps[i] > f.noise.norm / FAIL}
    if not leaves or not check.problem.reversible:
        return
    sizes = nearby.exact_jumps()
    leaves = {i: f for i, f in leaves.items() if sizes[i] > f.noise.norm / FAIL}
    if not leaves:
        return
    least = {i: _rounding(f) for i, f in leaves.items()}
    left = []
    for k in range(DRAWS + 1):
        _, a = check.problem.reverse(check.seed + k, float(k > 0))
        there = check.problem.shaken(check.seed + k) if k else nearby.point
        left.append(nearby.without_steps(there, {i: wide(a[i]) for i in leaves}, least))
    for i, f in leaves.items():
        # A draw of which a step is left was not explained, and tells nothing.
        explained = [parts[i] if largest(parts[i]) < f.noise.entry / FAIL else np.zeros(0) for parts in left]
        if not any(x.size for x in explained[1:]):
            continue
        gap, *shaken = map(norm, explained)
        terms = (gap, max(shaken), least[i].norm)
        f.noise = Noise(max(terms), max(least[i].entry, *map(largest, explained)), terms)
        f.verdict, f.note, f.score = "PASS", None, score(f.g, f.r, f.noise)
        grade(f)


def _rounding(f: Finding) -> Noise:
    """The rounding of the leaf itself."""
    return Noise(f.unit * f.r_norm, f.unit * largest(f.r))

"""Why a leaf has its verdict: an enumeration that knows its words. No code reads a sentence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Reason(Enum):
    """What decided about a leaf, or what has to be said of it."""

    EMPTY = "the leaf has no entries: nothing to judge"
    NO_EXAMPLES = "an empty array among the arguments: no example to check on"
    IMPURE = "the loss is not a function of its input"
    UNUSED = "the loss does not use this leaf, or stops it, and its gradient is exactly zero"
    DEAD = "the true gradient is exactly zero here (dead or saturated)"
    BELOW_NOISE = "the true gradient is below the noise: a zero would have passed ({why})"
    BELOW_DIFFERENCES = "the true gradient is below the noise of finite differences: a zero would have passed"
    HIGH = "warning: {score:.1f} x noise is more than a correct gradient usually shows"
    OVERFLOWS = "autodiff overflows in {dtype}, here or one rounding away: the noise has no bound"
    SECOND_CALL = "the second call differs in its bits, by {far:.2g} x noise"
    # where autodiff is not finite
    NOT_FINITE = "autodiff is not finite {where}: {remedy}"
    NOT_FINITE_RIGHT = "autodiff is not finite {where}; finite differences agree with the manual gradient"
    NOT_FINITE_KINK = "autodiff is not finite {where}; there the manual gradient lies between the one-sided derivatives"
    NOT_FINITE_WRONG = "finite differences refute it where autodiff is not finite ({where})"
    NOT_FINITE_ENTRY = (
        "finite differences refute it where autodiff is not finite ({where}): {at} is {manual:.4g}, its {slopes}"
    )
    NOT_FINITE_STEEP = (
        "autodiff is not finite {where}; at {at} the loss jumps or is infinitely steep wherever it is defined: no"
        " number is its derivative; {remedy}"
    )
    # the formula
    CANCELS = "the formula as written cancels in {dtype}{place} ({excess:.2g} x the noise of autodiff{how})"
    HIDDEN = "within the noise of its inputs' rounding; but the formula is wrong in float64"
    FALLS_ELSEWHERE = "under {variant} it takes a step over a kink nearby"
    SMALL_ENTRIES = "{count} entries far below the largest are off by 1 % or more: wrong, or rounding"
    # at a kink
    CONVENTION = (
        "a subgradient: at a kink the manual {manual:.3g} and autodiff's {auto:.3g} both lie in"
        " [{low:.3g}, {high:.3g}]; a convention, no error"
    )
    BEYOND = (
        "at a kink, and beyond it: an entry is {manual:.4g} where the one-sided derivatives are {low:.4g} and"
        " {high:.4g}"
    )
    NOT_AT_ONCE = "at a kink: each entry may lie between its one-sided derivatives, but no ties give all at once"
    UNDECIDED = "at a kink: no mixture of the gradients next to it is this one, nor is it ruled out"
    CANCELLING_TIES = "at ties that cancel, where there is none: an entry is {manual:.4g}, its derivative {true:.4g}"
    STEP_IN_NOISE = (
        "the noise holds a step over a tie, which hides errors of numbers; give a function of the parameters"
    )
    NOT_EXAMINED = "at a kink that could not be examined: {error}"
    # finite differences
    EVERYWHERE_KINKED = "a kink or the edge of the domain in every direction"
    STOPPED = "what is stopped feeds a rule that cannot be replaced: values do not tell which derivative is meant"
    SEVERAL_WRONG = "several coordinates are wrong; the leaf is too large to difference each"
    SEVERAL_COARSE = "several coordinates are wrong; the values are too coarse to difference each"
    # declared by the caller
    ACCURACY = "right to the declared accuracy {accuracy:.2g}, not to rounding ({score:.2g} x noise)"
    FINER = (
        "not shown to the declared accuracy {accuracy:.2g}: an error of {seen:.2g} would have passed for noise;"
        " {remedy}"
    )
    EXPECTED_ZERO = "zero, as declared"


@dataclass(frozen=True)
class Note:
    """A reason and its numbers."""

    reason: Reason
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The sentence."""
        return self.reason.value.format(**self.numbers)


def note(reason: Reason, **numbers: Any) -> Note:
    """A reason with its numbers."""
    return Note(reason, numbers)

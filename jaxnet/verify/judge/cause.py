"""Why a leaf is wrong, as data: a kind of fault and its numbers. A kind knows its words; no code reads a sentence."""

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(Enum):
    """What may be wrong with a leaf; the value is its sentence, with places for the numbers of a `Cause`."""

    # what the run itself shows
    MISSING = "no gradient for this leaf (None)"
    STATE = "{} call differs from the first by {:.2g} x noise: state is kept, or chance"
    VARIANT = "wrong only under {}: the eager call is right"
    EXPECTED_ZERO = "expected zero, but the true gradient is not"
    NAN_WHERE_FINITE = "NaN or Inf in the manual gradient{}, where the loss has finite slopes"
    ONE_ENTRY = "one coordinate is wrong, {}[{}] (found by halving, {} slopes)"
    SMALL_ENTRIES = "{} of {} {}, far below the leaf's largest entries"
    SHAPE = "{}it has shape {}, the parameter {}"
    COMPLEX = "complex numbers, for a leaf that is real"
    NOT_FINITE = "NaN or Inf in {} of {} entries, first at [{}]{}{}"

    # what a leaf equals, or where it differs
    ZERO = "the leaf is zero: frozen, or never filled in"
    STOPS = "differentiates through stop_gradient (at {})"
    CONJUGATE = "the complex conjugate of JAX's gradient (its convention is dJ = Re(Σ g v))"
    CONSTANT_FUNCTION = (
        "the function is constant around the point{} ({}): its derivative is 0. If another rule is meant, such as a "
        "straight-through one, state it: check_vjp(..., intended=), a function of primals and cotangents"
    )
    TRANSPOSED = "transposed: it equals the true gradient's transpose"
    SYMMETRIC = (
        "a convention for symmetric arguments: it differs from the true gradient by an antisymmetric matrix, which no "
        "symmetric step sees; f((A + A.T) / 2) in place of f(A) has the gradient that both conventions share"
    )
    MOVED = "in another order along axis {}: {}"
    ANOTHER_LEAF = "it equals the gradient of another leaf, {}"
    ENTRIES = "only {}: {}"
    LINES = "a factor for each {}: {}"
    UNITS = "dZ[{}] has a factor for each unit: {}."

    # g = α r
    FACTOR = "a factor {} on every entry"
    FACTOR_OF_ONE_ENTRY = "a factor {}"
    FACTOR_OF_DATA = "a factor {} on every entry, which depends on the data"
    SIGN = "the sign is wrong (factor -1)"
    MEAN_MISSING = "1/m is missing (factor m = {})"
    MEAN_TWICE = "1/m applied twice"
    MEAN_OF_SUM = "1/m too much: the loss is a sum, the gradient that of a mean"
    MEAN_UNBIASED = "1/(m-1) in place of 1/m (factor m/(m-1))"
    MEAN_MISSING_AND_SIGN = "1/m is missing and the sign is wrong"
    MEAN_OF_UNITS = "1/{} in place of 1/m"
    TIMES_M = "a factor m times {} (m = {})"
    OVER_M = "a factor {}/m (m = {})"
    NORM = "clipped or normalised: it is the true gradient scaled to norm {:.4g}"
    GLOBAL_NORM = "clipped or normalised: the true gradient, scaled to norm {:.4g} as a whole (factor {:.3g} here)"
    POWER = "a power of {0} is wrong: with x = {0} it is the true gradient times {1}{2}"

    # g = r + λ θ
    DECAY_MISSING = "{:.3g} times the parameter is missing{}"
    DECAY_TOO_MUCH = "{:.3g} times the parameter too much{}"
    DECAY_OVER_M_MISSING = "weight decay: {:.3g}/m times the parameter is missing (m = {})"
    DECAY_OVER_M_TOO_MUCH = "weight decay: {:.3g}/m times the parameter too much (m = {})"
    DECAY_DIVIDED = "weight decay: the regulariser {:.3g} is divided by m, in the loss it is not (m = {})"
    DECAY_NOT_DIVIDED = "weight decay: the regulariser {:.3g} is not divided by m, in the loss it is (m = {})"

    # g = φ(r), entry by entry
    CLIPPED = "clipped: it equals the true gradient with entries cut off at ±{:.4g}"
    OFFSET = "an offset: every entry is off by {:+.4g}"
    SIGN_ONLY = "only the sign is left: every entry is ±{:.4g}"
    ROUNDED = "precision: it equals the true gradient rounded to {}"
    PRECISION = "precision: right in float64, {} 2^{:.1f} of it"

    # what single examples show
    AXIS = "summed over axis 0, the units, in place of axis 1, the examples (silent because m = n)"
    EXAMPLE = "example {} is {}"
    EXAMPLES_IGNORED = "example {}: the loss ignores it (padding or weight 0), the gradient does not"


# Of one fault a factor is the same in every leaf.
FACTORS = frozenset(k for k in Kind if k.name.startswith(("FACTOR", "SIGN", "MEAN", "TIMES", "OVER")))
# What is done to a finished leaf: no wrong step of a backward pass brings it about.
_FINISHED = "SHAPE STOPS CONJUGATE TRANSPOSED SYMMETRIC MOVED ANOTHER_LEAF NORM CLIPPED OFFSET SIGN_ONLY ROUNDED AXIS"
FINISHED = frozenset(k for k in Kind if k.name.startswith("DECAY") or k.name in _FINISHED.split())


@dataclass(frozen=True)
class Cause:
    """A kind of fault and its numbers. Leaves with equal causes may have one fault in common.

    kind     a member of an enumeration whose value is a sentence
    numbers  what is put into that sentence; a text stands for the whole sentence
    """

    kind: Enum | str
    numbers: tuple[Any, ...] | str = ()

    def __str__(self) -> str:
        """The sentence."""
        return self.text

    @property
    def text(self) -> str:
        """The sentence."""
        if isinstance(self.kind, Enum) and not isinstance(self.numbers, str):
            return self.kind.value.format(*self.numbers)
        return str(self.numbers)

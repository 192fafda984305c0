"""The places where an error starts, by the pattern of right and wrong leaves and by what their values say of it.

A wrong dZ[l] leaves nothing in layer l and below it right, but so do faults that each leaf has by itself. Only values
tell the two apart: leaves that agree on one dZ[l] confirm it, leaves that contradict each other refute it.
"""

from dataclasses import dataclass, field

from jaxnet.verify.chain import explain
from jaxnet.verify.inheritance import followers
from jaxnet.verify.layers import start_of_error
from jaxnet.verify.noise import WARN
from jaxnet.verify.trouble import tolerated

# What is done to a finished leaf: no wrong dZ brings it about.
BY_ITSELF = frozenset(
    {"shape", "transposed", "another leaf", "regulariser", "stops", "conjugate", "axis", "clipped", "offset", "sign"}
    | {"rounded to bfloat16", "rounded to float16"}
)


@dataclass
class Start:
    """A place where an error starts.

    kind     "dZ": in what the leaves of a layer and all below it are made from; "dW" or "db": in that leaf;
             "layer": in its leaves, which no one dZ explains
    leaves   the wrong leaves that show it
    follows  of a dZ, which of the wrong leaves from there down have the values that follow from it, as far as known
    """

    kind: str
    number: int
    leaves: tuple[int, ...]
    follows: dict[int, bool] = field(default_factory=dict)

    @property
    def confirmed(self) -> bool:
        """Whether values say that this dZ is wrong, not only the pattern of right and wrong leaves."""
        return any(self.follows.values())

    @property
    def showing(self) -> list[int]:
        """The leaves of the layer that this dZ may explain."""
        return [i for i in self.leaves if self.kind == "dZ" and self.follows.get(i, True)]


def starts_of_error(evidence, wrong) -> list[Start]:
    """From the top down. A layer whose leaves no dZ explains is one start; below it only a confirmed dZ is another."""
    starts, layers = [], evidence.layers
    while layers:
        found = [Start(*start) for start in start_of_error(layers, set(wrong), right(evidence))]
        starts += [start for start in found if start.kind != "dZ"]
        if not found or found[-1].kind != "dZ":
            return starts
        start, refuted = found[-1], any(other.kind == "layer" for other in starts)
        start.follows = _followers(evidence, start.number, wrong)
        if start.confirmed or not (refuted or all(by_itself(evidence.findings[i]) for i in start.showing)):
            return [*starts, start]
        if not refuted:
            starts.append(Start("layer", start.number, start.leaves))
        layers = layers[: start.number - 1]
    return starts


def right(evidence) -> set[int]:
    """The leaves that were found right beyond doubt; frozen and inconclusive ones are neither right nor wrong."""
    return {i for i, f in enumerate(evidence.findings) if f.verdict == "PASS" and f.score <= WARN}


def by_itself(f) -> bool:
    """Whether what is wrong with a leaf has been found to be no matter of its dZ."""
    return f.cause is not None and f.cause.kind in BY_ITSELF


def _followers(evidence, number, wrong) -> dict[int, bool]:
    """Which of the wrong leaves follow from one wrong dZ[number], as far as their values tell."""
    if evidence.examples is not None:
        with tolerated(evidence.problem, "the diagnosis"):
            return followers(evidence, number, set(wrong), explained(evidence, "dZ", number) is not None)
    return {}


def explained(evidence, kind, number) -> str | None:
    """Which step of the layer is wrong."""
    if evidence.examples is not None:
        with tolerated(evidence.problem, "the diagnosis"):  # evidence that could not be had names nothing
            return explain(evidence, kind, number)
    return None

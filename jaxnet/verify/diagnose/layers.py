"""Layered parameters: the layers in any tree, and where in the backward pass the errors of their gradient start.

What is a layer is read from the program (dataflow.py), whatever the leaves are called and however they are nested: W[l]
is a matrix that one product is made with, b[l] the leaf that is added to it. Layers are a chain if W[l] is multiplied
with something that depends on all the layers below it and on no other. Two towers side by side are no chain, nor are
weights that two layers share.

Backwards, dZ[l] enters dW[l] = dZ[l] A[l-1]ᵀ, db[l] = Σ dZ[l] and, by dZ[l-1] = (W[l]ᵀ dZ[l]) * g[l-1]'(Z[l-1]),
everything below. So one right leaf in layer l or below it shows that dZ[l] is right, and what is wrong in layer l is
wrong by itself: dW[l] in A[l-1] or the product, db[l] in the sum. Where no leaf speaks for dZ[l] the error may start
there, or each leaf may have a fault of its own. Only values tell these two apart: leaves that agree on one wrong dZ[l]
confirm it, leaves that contradict each other refute it.
"""

from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from jaxnet.verify.diagnose.backward import AGREEING, Example, informative, times, wrong_step
from jaxnet.verify.errors import tolerated
from jaxnet.verify.evidence.noise import WARN
from jaxnet.verify.judge.cause import FINISHED, Cause
from jaxnet.verify.program.dataflow import Flow, Product
from jaxnet.verify.sizes import norm

FAR = 1e-2  # a value that is off by more, relative to what it should be, is another one


# ---- the layers ------------------------------------------------------------------------------------------------------
def find_layers(flow: Flow, shapes: list[tuple[int, ...]]) -> list[Product] | None:
    """The layers in order from the input up, or None where the leaves are not a chain of dense layers."""
    products = list(dict.fromkeys(flow.products))  # a network that the loss runs twice is one network
    leaves = [i for product in products for i in product.leaves]
    if len(leaves) < 2 or len(set(leaves)) < len(leaves) or set(leaves) != flow.used or flow.unclear & flow.used:
        return None
    weights = {product.W for product in products}
    layers = sorted(products, key=lambda product: len(product.fed & weights))
    for number, layer in enumerate(layers):
        below = {other.W for other in layers[:number]}
        if layer.fed & weights != below or (number and _ends(layers[number - 1], shapes)[1] != _ends(layer, shapes)[0]):
            return None
    return layers


def _ends(layer: Product, shapes) -> tuple[int, int]:
    """n_prev and n."""
    return layer.matrix(np.empty(shapes[layer.W], bool)).shape[::-1]


# ---- where errors start ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
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

    @property
    def doubtful(self) -> list[int]:
        """The leaf of which it is open whether it shows a wrong dZ, or is wrong by itself."""
        return self.showing if len(self.showing) == 1 and not self.confirmed else []


def start_of_error(layers: list[Product], wrong: set[int], right: set[int]) -> list[tuple[str, int, tuple[int, ...]]]:
    """Where errors start by the pattern alone, from the top down: (kind, layer from 1, the leaves that show it).

    Leaves that are neither wrong nor right (frozen, inconclusive) speak neither for nor against: a "dZ" that only one
    leaf shows may as well be that leaf's own error.
    """
    starts = []
    for number in range(len(layers), 0, -1):
        layer = layers[number - 1]
        bad = tuple(i for i in layer.leaves if i in wrong)
        if bad and not any(i in right for below in layers[:number] for i in below.leaves):
            return [*starts, ("dZ", number, bad)]
        starts += [("dW" if i == layer.W else "db", number, (i,)) for i in bad]
    return starts


def starts_of_error(evidence, wrong: list[int], causes: dict[int, Cause]) -> list[Start]:
    """From the top down. A layer whose leaves no dZ explains is one start; below it only a confirmed dZ is another."""
    starts, layers = [], evidence.layers
    while layers:
        found = [Start(*start) for start in start_of_error(layers, set(wrong), right_leaves(evidence))]
        starts += [start for start in found if start.kind != "dZ"]
        if not found or found[-1].kind != "dZ":
            return starts
        number, leaves = found[-1].number, found[-1].leaves
        start = Start("dZ", number, leaves, propagation(evidence, number, set(wrong)))
        refuted = any(other.kind == "layer" for other in starts)
        if start.confirmed or not (refuted or all(of_finished_leaf(causes.get(i)) for i in start.showing)):
            return [*starts, start]
        if not refuted:
            starts.append(Start("layer", number, leaves))
        layers = layers[: number - 1]
    return starts


def right_leaves(evidence) -> set[int]:
    """The leaves that were found right beyond doubt; frozen and inconclusive ones are neither right nor wrong."""
    return {i for i, f in enumerate(evidence.leaves) if f.verdict == "PASS" and f.score <= WARN}


def of_finished_leaf(cause: Cause | None) -> bool:
    """Whether what is wrong with a leaf has been found to be no matter of its dZ."""
    return cause is not None and cause.kind in FINISHED


def step_at(evidence, kind: str, number: int) -> Cause | None:
    """Which step of a layer is wrong, as far as single examples can be asked."""
    if evidence.examples is not None:
        with tolerated(evidence.problem.journal, "the diagnosis"):  # evidence that could not be had names nothing
            return wrong_step(evidence, kind, number)
    return None


# ---- error propagation: the values that a wrong dZ brings about ------------------------------------------------------
def propagation(evidence, number: int, wrong: set[int]) -> dict[int, bool]:
    """Of the wrong leaves in layer `number` and below: whether each has the value that one wrong dZ[number] brings.

    A leaf is missing where that cannot be told. True for any: that dZ[number] is wrong is confirmed, by two leaves that
    agree on it or by its name. False for both leaves of the layer: no one dZ[number] explains them.
    """
    if evidence.examples is None:
        return {}
    with tolerated(evidence.problem.journal, "the diagnosis"):
        named = wrong_step(evidence, "dZ", number) is not None  # then the dZ[number] that db[number] holds is the one
        examples = [one for _, one in islice(informative(evidence, number), AGREEING)]
        if len(examples) == AGREEING:
            first, *others = (_followers(one, evidence.layers, number, wrong, named) for one in examples)
            return {i: follows for i, follows in first.items() if all(other.get(i) is follows for other in others)}
    return {}


def _followers(one: Example, layers, number: int, wrong: set[int], named: bool) -> dict[int, bool]:
    """Both leaves of the layer hold a dZ: the one that others follow from is the one that was handed down."""
    W, b = layers[number - 1].W, layers[number - 1].b
    product = one.manual_dW[number]
    sources = {W: product and product.dZ} | ({} if b is None else {b: one.manual_dZ[number]})
    following = {
        source: _brought_about(one, layers, number, delta, wrong)
        for source, delta in sources.items()
        if delta is not None and source in wrong and not one.equal(delta, one.dZ[number])  # right on this example
    }
    holder = W if b is None else b
    if named and holder in following:
        return following[holder]
    best = max(following.values(), key=lambda of_one: sum(of_one.values()), default={})
    if sum(best.values()) > 1:  # itself and another at least
        return best
    if b is None or following.get(b, {}).get(W) is not False:
        return {}
    # dW[l] does not hold the dZ[l] of db[l]: it is no product with A, or one with another dZ. db[l]'s may still be the
    # one that was handed down, unless a leaf below says that it was not.
    below = {i for layer in layers[: number - 1] for i in layer.leaves}
    handed_down = sources[W] is None and not any(following[b].get(i) is False for i in below)
    return {W: False} if handed_down else {W: False, b: False}


def _brought_about(one: Example, layers, number: int, delta, wrong: set[int]) -> dict[int, bool]:
    """Of the wrong leaves from layer `number` down: whether each has the value that dZ[number] = delta brings about."""
    following, sure = {}, True
    for l in range(number, 0, -1):
        if l < number:
            slope = one.dZ[l] / np.where(one.dA[l] == 0, np.inf, one.dA[l])
            delta = times(one.W[l + 1].T, delta) * slope
            sure = sure and one.activation(l) is not None  # else dA may reach dZ by more than a slope
        W, b = layers[l - 1].W, layers[l - 1].b
        sizes = {W: norm(delta) * norm(one.A[l - 1]), b: norm(delta)}
        gaps = {
            W: one.manual_dW[l] and one.manual_dW[l].off(delta),
            b: None if one.manual_dZ[l] is None else norm(one.manual_dZ[l] - delta),
        }
        for i, gap in gaps.items():
            if i not in wrong or gap is None:
                continue
            if sizes[i] > 0 and gap <= one.tolerance * sizes[i]:
                following[i] = True
            elif sure and gap > FAR * sizes[i]:
                following[i] = False
    return following

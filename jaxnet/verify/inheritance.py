"""What follows from a wrong dZ[l]: the values that the leaves below it then have, on two examples.

dW[l] = dZ[l] A[l-1]ᵀ,  db[l] = Σ dZ[l],  dZ[l-1] = (W[l]ᵀ dZ[l]) * g[l-1]'(Z[l-1]),  and so on down
"""

import numpy as np

from jaxnet.verify.chain import EXAMPLES, TRIED, Seen, activation, look, times
from jaxnet.verify.noise import norm

FAR = 1e-2  # a value that is off by more, relative to what it should be, is another one


def followers(evidence, number: int, wrong: set[int], named: bool) -> dict[int, bool]:
    """Of the wrong leaves in layer `number` and below: whether each has the value that one wrong dZ[number] brings.

    A leaf is missing where that cannot be told. True for any: that dZ[number] is wrong is confirmed, by two leaves that
    agree on it or by its name. False for both leaves of the layer: no one dZ[number] explains them.
    named   the dZ[number] that db[number] holds has been explained: it is the one
    """
    agreed, count = {}, 0
    for k in range(min(evidence.batch.m, TRIED)):
        seen = look(evidence, k)
        if seen is None or norm(seen.dZ[number]) == 0.0:
            continue
        told = _followers(seen, evidence.layers, number, wrong, named)
        agreed = {i: t for i, t in agreed.items() if told.get(i) is t} if count else told
        count += 1
        if count == EXAMPLES:
            return agreed
    return {}


def _followers(seen: Seen, layers, number: int, wrong: set[int], named: bool) -> dict[int, bool]:
    """Both leaves of the layer hold a dZ: the one that others follow from is the one that was handed down."""
    W, b = layers[number - 1].W, layers[number - 1].b
    product = seen.manual_dW[number]
    sources = {W: product and product.dZ(seen.tolerance)} | ({} if b is None else {b: seen.manual_dZ[number]})
    told = {
        source: _brought_about(seen, layers, number, delta, wrong)
        for source, delta in sources.items()
        if delta is not None and source in wrong and not seen.equal(delta, seen.dZ[number])  # right on this example
    }
    holder = W if b is None else b
    if named and holder in told:
        return told[holder]
    best = max(told.values(), key=lambda of_one: sum(of_one.values()), default={})
    if sum(best.values()) > 1:  # itself and another at least
        return best
    if b is None or told.get(b, {}).get(W) is not False:
        return {}
    # dW[l] does not hold the dZ[l] of db[l]: it is no product with A, or one with another dZ. db[l]'s may still be the
    # one that was handed down, unless a leaf below says that it was not.
    below = {i for layer in layers[: number - 1] for i in layer.leaves}
    handed_down = sources[W] is None and not any(told[b].get(i) is False for i in below)
    return {W: False} if handed_down else {W: False, b: False}


def _brought_about(seen: Seen, layers, number: int, delta, wrong: set[int]) -> dict[int, bool]:
    """Of the wrong leaves from layer `number` down: whether each has the value that dZ[number] = delta brings about."""
    told, sure = {}, True
    for l in range(number, 0, -1):
        if l < number:
            slope = seen.dZ[l] / np.where(seen.dA[l] == 0, np.inf, seen.dA[l])
            delta = times(seen.W[l + 1].T, delta) * slope
            sure = sure and activation(seen, l) is not None  # else dA may reach dZ by more than a slope
        W, b = layers[l - 1].W, layers[l - 1].b
        sizes = {W: norm(delta) * norm(seen.A[l - 1]), b: norm(delta)}
        gaps = {
            W: seen.manual_dW[l] and seen.manual_dW[l].off(delta),
            b: None if seen.manual_dZ[l] is None else norm(seen.manual_dZ[l] - delta),
        }
        for i, gap in gaps.items():
            if i not in wrong or gap is None:
                continue
            if sizes[i] > 0 and gap <= seen.tolerance * sizes[i]:
                told[i] = True
            elif sure and gap > FAR * sizes[i]:
                told[i] = False
    return told

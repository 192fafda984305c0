"""Inside the backward pass of a chain of dense layers, seen from outside.

For one example every dW[l] has rank one, dW[l] = dZ[l] A[l-1]ᵀ, and db[l] = dZ[l]. So the true gradient gives away
dZ[l] and A[l-1], the parameters give Z[l] = W[l] A[l-1] + b[l] and dA[l] = W[l+1]ᵀ dZ[l+1], and the manual gradient
gives the quantities it used. Each name below is an equation that has to hold on two examples; one that any damage to
a finished leaf might bring about, on a mixture of the two as well.

    the step in layer l        dZ[l] = dA[l] * g[l]'(Z[l])
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.verify.functions import ACTIVATIONS, BY_A, sigmoid, softmax
from jaxnet.verify.noise import norm
from jaxnet.verify.tree import sample, wide

EXAMPLES = 2  # so many have to agree on a name
TRIED = 8
FINE = 2e-4  # relative, between vectors that are equal
COLUMNS = 64  # of a matrix, enough to tell what is orthogonal to one vector


class Projected:
    """The manual dW[l] of one example as far as it is asked for: a whole matrix for each would fill the memory.

    delta   dW A / ‖A‖², the dZ in it if dW = dZ Aᵀ with the true A[l-1]
    used    dWᵀ δ / ‖δ‖², the A in it if dW = δ Aᵀ with the true δ = dZ[l]
    """

    def __init__(self, dW, A, dZ):
        """Projects dW on the true A[l-1] and dZ[l]."""
        self.size, self.A_size = norm(dW), norm(A)
        self.delta, self.used = times(dW, A) / norm(A) ** 2, times(dW.T, dZ) / norm(dZ) ** 2
        self.beside_A = self._beside(norm(self.delta) * norm(A))
        self.beside_dZ = self._beside(norm(self.used) * norm(dZ))

    def _beside(self, projection: float) -> float:
        """The norm of what is orthogonal to a projection."""
        return self.size * float(np.sqrt(max(0.0, 1 - (projection / self.size) ** 2))) if self.size else 0.0

    def off(self, delta) -> float:
        """‖dW − delta Aᵀ‖ with the true A[l-1]."""
        return float(np.hypot(self.beside_A, norm(self.delta - delta) * self.A_size))

    def dZ(self, tolerance: float):
        """The dZ in dW = dZ Aᵀ; None where it is not of that form."""
        return self.delta if self.beside_A <= tolerance * self.size else None

    def A(self, tolerance: float):
        """The A in dW = dZ[l] Aᵀ; None where it is not of that form."""
        return self.used if self.beside_dZ <= tolerance * self.size else None


@dataclass(frozen=True)
class Seen:
    """One example: lists by layer (0 is the input) of what is true, and dZ and dW as the manual gradient has them.

    few    a few entries of the manual and of the true gradient, by leaf
    """

    Z: list
    A: list
    dZ: list  # noqa: N815 - the notes' names
    dA: list  # noqa: N815
    W: list
    manual_dZ: list  # noqa: N815
    manual_dW: list  # noqa: N815
    tolerance: float
    few: list

    def equal(self, x, y) -> bool:
        """Whether two vectors agree to within what the manual gradient's dtype can tell."""
        return x.shape == y.shape and norm(y) > 0 and norm(x - y) <= self.tolerance * norm(y)


def explain(evidence, kind: str, number: int) -> str | None:
    """The sentence that names what is wrong in dZ[number], dW[number] or db[number]; None if nothing is confirmed."""
    names = {"dZ": _names_of_dZ, "dW": _names_of_activation}.get(kind)
    if names is None:
        return None
    agreed, asked = None, []
    for k in range(min(evidence.batch.m, TRIED)):
        seen = look(evidence, k)
        if seen is None or norm(seen.dZ[number]) == 0.0:
            continue
        fits = set(names(seen, number, evidence, k))
        agreed = fits if agreed is None else agreed & fits
        asked.append(k)
        if not agreed:
            return None
        if len(asked) >= EXAMPLES and len(agreed) == 1:
            name = next(iter(agreed))
            sure = name != _another_activation(number) or _adds_up(evidence, number, asked[:2], seen.tolerance)
            return name if sure else None
    return None


def _adds_up(evidence, number: int, two: list[int], tolerance: float) -> bool:
    """Whether the manual dW of mixtures of two examples is mixed from theirs as the true one is.

    Two mixtures, each with the one example where the other has the other: what is kept for each place adds up as well.
    """
    i, batch = evidence.layers[number - 1].W, evidence.batch
    first = np.arange(batch.m) < batch.m // 2
    mixtures = [batch.take(np.where(first, k, other)) for k, other in (two, two[::-1])]
    told = [evidence.both_at(there, coarse=tolerance < evidence.findings[i].unit) for there in mixtures]
    if any(g is None for g, _ in told):
        return False
    few = [*(_few_of_both(g[i], r[i]) for g, r in told), *(seen.few[i] for k in two if (seen := look(evidence, k)))]
    g, r = (np.stack(side, axis=1) for side in zip(*few, strict=True))
    mixed, true = g[:, 0] + g[:, 1], r[:, 0] + r[:, 1]
    shares = np.linalg.lstsq(r[:, 2:], true)[0]
    return bool(norm(mixed - g[:, 2:] @ shares) <= 8 * tolerance * norm(mixed))


def _few_of_both(g, r) -> tuple:
    """A few entries of one leaf of the manual and of the true gradient."""
    return tuple(None if leaf is None else np.array(wide(sample(leaf))) for leaf in (g, r))


def look(evidence, k: int) -> Seen | None:
    """Example k taken apart, once; None where the layers turn out not to be dense."""
    if k not in evidence.taken_apart:
        evidence.taken_apart[k] = _take_apart(evidence, k)
    return evidence.taken_apart[k]


def _take_apart(evidence, k: int) -> Seen | None:
    layers = evidence.layers
    units = [evidence.findings[i].unit for layer in layers for i in layer.leaves]
    tolerance, values = max(FINE, 64 * max(units)), [np.asarray(v) for v in evidence.problem.params.values]
    coarse = tolerance > 1e-2  # to tell anything: the formula says more than its values
    if coarse:
        tolerance, values = FINE, [wide(v) for v in values]
    g, r = evidence.both_at(evidence.batch.alone(k), coarse)
    if g is None:
        return None
    Z, A, dZ, decay = [None], [], [None], _decay(layers, r, values)
    W: list[Any] = [None]
    manual_dZ: list[np.ndarray | None] = [None]
    manual_dW: list[Projected | None] = [None]
    for layer in layers:
        W.append(layer.matrix(values[layer.W]))
        found = _factored(layer, r, W[-1], decay, lambda: _may_enter(evidence, k, Z))
        if found is None:
            return None
        delta, A_prev = found
        A.append(A_prev)
        dZ.append(delta)
        Z.append(times(W[-1], A_prev) + (0.0 if layer.b is None else values[layer.b].ravel()))
        known = _alike(g[layer.W], r[layer.W]) and norm(A_prev) > 0.0
        manual_dW.append(
            Projected(_without(decay, W[-1], layer.matrix(wide(g[layer.W]))), A_prev, delta) if known else None
        )
        if layer.b is None or evidence.findings[layer.b].frozen:  # whatever stands there: dW = dZ Aᵀ tells as well
            manual_dZ.append(manual_dW[-1] and manual_dW[-1].dZ(tolerance))
        else:
            manual_dZ.append(wide(g[layer.b]).ravel() if _alike(g[layer.b], r[layer.b]) else None)
    dA = [None, *(times(W[n + 1].T, dZ[n + 1]) for n in range(1, len(layers))), None]
    few = [_few_of_both(g[i], r[i]) for i in range(len(r))]
    return Seen(Z, [*A, None], dZ, dA, W, manual_dZ, manual_dW, tolerance, few)


def times(W, x):
    """W x; not by BLAS: see noise.norm."""
    return np.einsum("ij,j->i", W, x)


def _decay(layers, r, values) -> float:
    """λ of a regulariser λ/2 ‖W‖²: what of dW[l] = dZ[l] A[l-1]ᵀ + λ W[l] is orthogonal to dZ[l] = db[l] is W's."""
    found = []
    for layer in layers:
        if layer.b is None or np.size(r[layer.b]) == 1 or norm(r[layer.b]) == 0.0:
            continue
        unit = wide(r[layer.b]).ravel() / norm(r[layer.b])
        step = layer.matrix(r[layer.W]).shape[1] // COLUMNS + 1
        true, W = (wide(layer.matrix(x[layer.W])[:, ::step]) for x in (r, values))
        beside, W = (x - np.outer(unit, times(x.T, unit)) for x in (true, W))
        if norm(W) > 0.0:
            found.append(float(np.vdot(W, beside)) / norm(W) ** 2 if norm(beside) > 1e-9 * norm(true) else 0.0)
    return found[0] if found and np.ptp(found) <= 1e-6 * abs(found[0]) else 0.0


def _without(decay: float, W, dW):
    """dW without the share of a regulariser."""
    return dW - decay * W if decay else dW  # no temporary of the leaf's size


def _factored(layer, r, W, decay: float, may_enter):
    """dZ and A[l-1] of a layer for one example; A[l-1] has to be guessed where there is no db[l] = dZ[l]."""
    true = _without(decay, W, layer.matrix(r[layer.W]))
    if layer.b is not None:
        delta = r[layer.b].ravel()
        pairs = [(delta, times(true.T, delta) / norm(delta) ** 2)] if norm(delta) > 0.0 else []
    else:
        pairs = [(times(true, A) / norm(A) ** 2, A) for A in may_enter() if A.size == true.shape[1] and norm(A) > 0.0]
    fits = (pair for pair in pairs if norm(pair[0]) > 0.0 and norm(true - np.outer(*pair)) <= 1e-6 * norm(true))
    return next(fits, None)


def _may_enter(evidence, k: int, Z: list):
    """What may enter the layer above Z: an argument of the loss, or what an activation makes of Z."""
    if len(Z) > 1:
        return [Z[-1], *(g(Z[-1]) for g, _ in ACTIVATIONS.values())]
    return [wide(x).ravel() for x in evidence.batch.take([k]) if np.ndim(x) and x.dtype.kind in "fiubV"]


def _alike(g, r) -> bool:
    return g is not None and g.shape == r.shape


def _names_of_dZ(seen: Seen, l: int, evidence, k: int):
    found = seen.manual_dZ[l]
    if found is None:
        return
    L = len(evidence.layers)
    if l == L:
        yield from _names_of_output_delta(seen, l, evidence, k)
        return
    slope = seen.dZ[l] / np.where(seen.dA[l] == 0, np.inf, seen.dA[l])
    candidates = {}
    if not np.allclose(slope, 1.0, rtol=1e-2):
        candidates[f"g[{l}]'(Z[{l}]) is omitted: dZ[{l}] equals dA[{l}]."] = seen.dA[l]
        candidates[f"g[{l}]'(Z[{l}]) is applied twice."] = seen.dA[l] * slope**2
    W_above = seen.W[l + 1]
    if W_above.shape[0] == W_above.shape[1]:
        text = f"W[{l + 1}] dZ[{l + 1}] in place of W[{l + 1}]ᵀ dZ[{l + 1}]: not transposed."
        candidates[text] = times(W_above, seen.dZ[l + 1]) * slope
    candidates.update(_other_derivatives(seen, l, L, evidence, k))
    for text, value in candidates.items():
        if seen.equal(found, value) and not seen.equal(seen.dZ[l], value):
            yield text


def _other_derivatives(seen: Seen, l: int, L: int, evidence, k: int):
    own = activation(seen, l)
    if own is None:
        return {}
    derivative = ACTIVATIONS[own][1]
    places = {f"A[{l}]": seen.A[l], **{f"Z[{j}]": seen.Z[j] for j in range(1, L + 1) if j != l}}
    found = {}
    for place, at in places.items():
        if at is not None and at.shape == seen.dA[l].shape:
            found[f"The ratio matches g[{l}]'({place}) / g[{l}]'(Z[{l}]): {place} in place of Z[{l}]."] = seen.dA[
                l
            ] * derivative(at)
    above = _output(seen, L, evidence, k) if l + 1 == L else activation(seen, l + 1)
    for other, (_, derivative) in ACTIVATIONS.items():
        if other != own:
            its = f"g[{l + 1}]" if other == ("sigmoid" if above == "softmax" else above) else other
            text = f"The ratio matches {its}'(Z[{l}]) / g[{l}]'(Z[{l}]): {other}' in place of {own}'."
            found[text] = seen.dA[l] * derivative(seen.Z[l])
    for other, (formula, slope) in BY_A.items():
        if other != own:
            text = f"The ratio matches {formula} / g[{l}]'(Z[{l}]) with A = A[{l}]: {other}' in place of {own}'."
            found[text] = seen.dA[l] * slope(seen.A[l])
    return found


def _names_of_output_delta(seen: Seen, L: int, evidence, k: int):
    found, Z = seen.manual_dZ[L], seen.Z[L]
    for Y in _targets(evidence, k, Z.shape):
        for name, A in (("softmax", softmax(Z)), ("sigmoid", sigmoid(Z)), ("identity", Z)):
            scale = _factor(seen, seen.dZ[L], A - Y)
            if scale is None:
                continue
            if name != "identity" and seen.equal(found, scale * (A - Y) * A * (1 - A)):
                yield f"dZ[{L}] = A - Y is multiplied by g[{L}]' = A(1 - A), which the cost has already taken in."
            is_one_hot = Y.size > 2 and set(np.unique(Y)) == {0.0, 1.0} and Y.sum() == 1
            for shift in (1, -1) if is_one_hot else ():
                if seen.equal(found, scale * (A - np.roll(Y, shift))):
                    yield f"The one-hot labels are off by one class ({shift:+d})."


def _names_of_activation(seen: Seen, l: int, evidence, k: int):
    used = seen.manual_dW[l] and seen.manual_dW[l].A(seen.tolerance)
    if used is None:
        return
    right = f"A[{l - 1}]" if l > 1 else "X"
    others = {"X, the input A[0],": seen.A[0]} if l > 1 else {}
    others.update({f"Z[{j}]": seen.Z[j] for j in range(1, len(seen.Z))})
    others.update({f"A[{j}]": seen.A[j] for j in range(1, len(seen.A) - 1) if j != l - 1})
    output = _output(seen, len(seen.Z) - 1, evidence, k)
    if output is not None:
        top = len(seen.Z) - 1
        others[f"A[{top}]"] = softmax(seen.Z[top]) if output == "softmax" else sigmoid(seen.Z[top])
    named = False
    for name, value in others.items():
        if value is not None and seen.equal(used, value) and not seen.equal(seen.A[l - 1], value):
            named = True
            yield f"dW[{l}] uses {name} in place of {right}."
    multiple = _factor(seen, used, seen.A[l - 1]) is not None  # a factor is no other activation
    if not named and not multiple and seen.dZ[l].size > 1:  # with one unit any dW is of that form
        yield _another_activation(l)


def _another_activation(l: int) -> str:
    right = f"A[{l - 1}]" if l > 1 else "X"
    return f"dW[{l}] = dZ[{l}] {right}ᵀ has another activation than {right} in it."


def activation(seen: Seen, l: int) -> str | None:
    """Which function layer l computes: the one for which A[l] = g(Z[l])."""
    if seen.A[l] is None:
        return None
    fits = [name for name, (g, _) in ACTIVATIONS.items() if norm(seen.A[l] - g(seen.Z[l])) <= 1e-6 * norm(seen.A[l])]
    return fits[0] if len(fits) == 1 else None


def _output(seen: Seen, L: int, evidence, k: int) -> str | None:
    """softmax or sigmoid, if dZ[L] = A - Y with one of them and targets among the arguments."""
    for Y in _targets(evidence, k, seen.Z[L].shape):
        for name, A in (("softmax", softmax(seen.Z[L])), ("sigmoid", sigmoid(seen.Z[L]))):
            if _factor(seen, seen.dZ[L], A - Y) is not None:
                return name
    return None


def _factor(seen: Seen, x, y) -> float | None:
    """c with x = c y (the loss may carry a constant), if there is one; of one unit only c = 1 says anything."""
    if x.shape != y.shape or norm(y) == 0.0:
        return None
    c = float(np.dot(x, y)) / norm(y) ** 2 if x.size > 1 else 1.0
    return c if seen.equal(c * y, x) else None


def _targets(evidence, k: int, shape):
    """What may be the labels of example k: arguments with the output's shape, or one integer, as one-hot."""
    for x in evidence.batch.take([k]):
        x = np.asarray(x)
        if x.dtype.kind in "iub" and x.size == 1 and 0 <= int(x.ravel()[0]) < shape[0]:
            yield np.eye(shape[0])[int(x.ravel()[0])]
        elif x.dtype.kind not in "OUS" and x.size == shape[0]:
            yield x.astype(np.float64).ravel()

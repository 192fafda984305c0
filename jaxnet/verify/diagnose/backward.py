"""Inside the backward pass of a chain of dense layers, seen from outside.

For one example every dW[l] has rank one, dW[l] = dZ[l] A[l-1]ᵀ, and db[l] = dZ[l]. So the true gradient gives away
dZ[l] and A[l-1], the parameters give Z[l] = W[l] A[l-1] + b[l] and dA[l] = W[l+1]ᵀ dZ[l+1], and the manual gradient
gives the quantities it used. Each name below is an equation that has to hold on two examples; one that any damage to
a finished leaf might bring about, on a mixture of the two as well.

    the step in layer l        dZ[l] = dA[l] * g[l]'(Z[l])
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from jaxnet.verify.judge.cause import Cause
from jaxnet.verify.problem.trees import sample, wide
from jaxnet.verify.sizes import norm

AGREEING = 2  # examples that a name needs
TRIED = 8
FINE = 2e-4  # relative, between vectors that are equal
COLUMNS = 64  # of a matrix, enough to tell what is orthogonal to one vector


class Step(Enum):
    """What may be wrong in one step of the backward pass; the value is its sentence."""

    SLOPE_OMITTED = "g[{0}]'(Z[{0}]) is omitted: dZ[{0}] equals dA[{0}]."
    SLOPE_TWICE = "g[{0}]'(Z[{0}]) is applied twice."
    NOT_TRANSPOSED = "W[{0}] dZ[{0}] in place of W[{0}]ᵀ dZ[{0}]: not transposed."
    SLOPE_ELSEWHERE = "The ratio matches g[{0}]'({1}) / g[{0}]'(Z[{0}]): {1} in place of Z[{0}]."
    OTHER_SLOPE = "The ratio matches {1}'(Z[{0}]) / g[{0}]'(Z[{0}]): {2}' in place of {3}'."
    OTHER_SLOPE_BY_A = "The ratio matches {1} / g[{0}]'(Z[{0}]) with A = A[{0}]: {2}' in place of {3}'."
    DELTA_WITH_SLOPE = "dZ[{0}] = A - Y is multiplied by g[{0}]' = A(1 - A), which the cost has already taken in."
    LABELS_SHIFTED = "The one-hot labels are off by one class ({1:+d})."
    OTHER_INPUT = "dW[{0}] uses {1} in place of {2}."
    UNKNOWN_INPUT = "dW[{0}] = dZ[{0}] {1}ᵀ has another activation than {1} in it."


# ---- what layers compute ---------------------------------------------------------------------------------------------
def sigmoid(z):
    """σ, safe from overflow."""
    return 0.5 * (1 + np.tanh(z / 2))


def softmax(z):
    """Of the entries of a vector."""
    e = np.exp(z - z.max())
    return e / e.sum()


def _normal(z):
    """The standard normal distribution and its density."""
    return (1 + np.vectorize(math.erf, otypes=[float])(z / np.sqrt(2))) / 2, np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def _inner(z):
    """What tanh is taken of in the approximation of gelu, and its derivative."""
    c = np.sqrt(2 / np.pi)
    return c * (z + 0.044715 * z**3), c * (1 + 3 * 0.044715 * z**2)


ACTIVATIONS = {  # g and g'
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "softplus": (lambda z: np.logaddexp(z, 0), sigmoid),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z)))),
    "gelu": (lambda z: z * _normal(z)[0], lambda z: _normal(z)[0] + z * _normal(z)[1]),
    "approximate gelu": (
        lambda z: z / 2 * (1 + np.tanh(_inner(z)[0])),
        lambda z: (1 + np.tanh(_inner(z)[0])) / 2 + z / 2 * (1 - np.tanh(_inner(z)[0]) ** 2) * _inner(z)[1],
    ),
}
BY_A = {"sigmoid": ("A(1 - A)", lambda A: A * (1 - A)), "tanh": ("1 - A²", lambda A: 1 - A * A)}  # g' with A = g(Z)
OUTPUTS = {"softmax": softmax, "sigmoid": sigmoid, "identity": lambda z: z}  # with which dZ[L] = A - Y


# ---- one example -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Projected:
    """The manual dW[l] of one example as far as it is asked for: a whole matrix for each would fill the memory.

    delta   dW A / ‖A‖², with the true A[l-1]
    beside  the norm of what is orthogonal to delta Aᵀ
    dZ      the dZ in dW = dZ Aᵀ with the true A[l-1]; None where it is not of that form
    A       the A in dW = dZ Aᵀ with the true dZ[l]; None where it is not of that form
    """

    A_size: float
    delta: np.ndarray
    beside: float
    dZ: np.ndarray | None  # noqa: N815 - the notes' names
    A: np.ndarray | None

    @classmethod
    def of(cls, dW, A, dZ, tolerance: float) -> "Projected":
        """dW projected on the true A[l-1] and dZ[l]."""
        size = norm(dW)
        delta, used = times(dW, A) / norm(A) ** 2, times(dW.T, dZ) / norm(dZ) ** 2
        lengths = norm(delta) * norm(A), norm(used) * norm(dZ)
        # What is orthogonal to either projection.
        beside, rest = (size * float(np.sqrt(max(0.0, 1 - (p / size) ** 2))) if size else 0.0 for p in lengths)
        dZ_of, A_of = delta if beside <= tolerance * size else None, used if rest <= tolerance * size else None
        return cls(norm(A), delta, beside, dZ_of, A_of)

    def off(self, delta) -> float:
        """‖dW − delta Aᵀ‖ with the true A[l-1]."""
        return float(np.hypot(self.beside, norm(self.delta - delta) * self.A_size))


@dataclass(frozen=True)
class Example:
    """One example: lists by layer (0 is the input) of what is true, and dZ and dW as the manual gradient has them.

    targets  what may be its labels
    few      a few entries of the manual and of the true gradient, by leaf
    """

    Z: list
    A: list
    dZ: list  # noqa: N815 - the notes' names
    dA: list  # noqa: N815
    W: list
    manual_dZ: list  # noqa: N815
    manual_dW: list  # noqa: N815
    targets: list
    tolerance: float
    few: list

    @property
    def top(self) -> int:
        """The number of the last layer."""
        return len(self.Z) - 1

    def equal(self, x, y) -> bool:
        """Whether two vectors agree to within what the manual gradient's dtype can tell."""
        return x.shape == y.shape and norm(y) > 0 and norm(x - y) <= self.tolerance * norm(y)

    def factor(self, x, y) -> float | None:
        """c with x = c y (the loss may carry a constant), if there is one; of one unit only c = 1 says anything."""
        if x.shape != y.shape or norm(y) == 0.0:
            return None
        c = float(np.dot(x, y)) / norm(y) ** 2 if x.size > 1 else 1.0
        return c if self.equal(c * y, x) else None

    def activation(self, l: int) -> str | None:
        """Which function layer l computes: the one for which A[l] = g(Z[l])."""
        Z, A = self.Z[l], self.A[l]
        if A is None:
            return None
        fits = [name for name, (g, _) in ACTIVATIONS.items() if norm(A - g(Z)) <= 1e-6 * norm(A)]
        return fits[0] if len(fits) == 1 else None

    def outputs(self) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
        """Each output function, A[L] and Y with which dZ[L] = c (A[L] - Y), and c."""
        for Y in self.targets:
            for name, g in OUTPUTS.items():
                A = g(self.Z[self.top])
                c = self.factor(self.dZ[self.top], A - Y)
                if c is not None:
                    yield name, A, Y, c

    def output(self) -> tuple[str, np.ndarray] | tuple[None, None]:
        """softmax or sigmoid, whichever the last layer ends with, and A[L]."""
        return next(((name, A) for name, A, _, _ in self.outputs() if name != "identity"), (None, None))


def example(evidence, k: int) -> Example | None:
    """Example k taken apart, once; None where the layers turn out not to be dense."""
    if k not in evidence.taken_apart:
        evidence.taken_apart[k] = _take_apart(evidence, k)
    return evidence.taken_apart[k]


def informative(evidence, number: int) -> Iterator[tuple[int, Example]]:
    """The first examples that can be taken apart and have a dZ[number]."""
    for k in range(min(evidence.batch.m, TRIED)):
        one = example(evidence, k)
        if one is not None and norm(one.dZ[number]) > 0.0:
            yield k, one


def _take_apart(evidence, k: int) -> Example | None:
    layers, leaves = evidence.layers, evidence.leaves
    units = [leaves[i].unit for layer in layers for i in layer.leaves]
    tolerance, values = max(FINE, 64 * max(units)), [np.asarray(v) for v in evidence.problem.params.values]
    coarse = tolerance > 1e-2  # to tell anything: the formula says more than its values
    if coarse:
        tolerance, values = FINE, [wide(v) for v in values]
    g, r = evidence.both_at(evidence.batch.alone(k), coarse)
    if g is None:
        return None
    arguments, decay = evidence.batch.take([k]), _decay(layers, r, values)
    none: list[Any] = [None]
    Z, A, dZ, W, manual_dZ, manual_dW = none[:], [], none[:], none[:], none[:], none[:]
    for layer in layers:
        W.append(layer.matrix(values[layer.W]))
        factored = _factored(layer, r, W[-1], decay, arguments, Z)
        if factored is None:
            return None
        delta, A_prev = factored
        A.append(A_prev)
        dZ.append(delta)
        Z.append(times(W[-1], A_prev) + (0.0 if layer.b is None else values[layer.b].ravel()))
        known = _alike(g[layer.W], r[layer.W]) and norm(A_prev) > 0.0
        dW = _without(decay, W[-1], layer.matrix(wide(g[layer.W]))) if known else None
        manual = Projected.of(dW, A_prev, delta, tolerance) if known else None
        manual_dW.append(manual)
        if layer.b is None or leaves[layer.b].frozen:  # whatever stands there: dW = dZ Aᵀ tells as well
            manual_dZ.append(manual and manual.dZ)
        else:
            manual_dZ.append(wide(g[layer.b]).ravel() if _alike(g[layer.b], r[layer.b]) else None)
    dA = [None, *(times(W[n + 1].T, dZ[n + 1]) for n in range(1, len(layers))), None]
    targets = list(_targets(arguments, Z[-1].shape))
    return Example(Z, [*A, None], dZ, dA, W, manual_dZ, manual_dW, targets, tolerance, _few_entries(g, r))


def times(W, x):
    """W x; not by BLAS: see noise.norm."""
    return np.einsum("ij,j->i", W, x)


def _few_entries(g, r) -> list[tuple]:
    """A few entries of each leaf of the manual and of the true gradient."""
    return [tuple(None if x is None else np.array(wide(sample(x))) for x in pair) for pair in zip(g, r, strict=True)]


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
    """dW without what a regulariser adds."""
    return dW - decay * W if decay else dW  # no temporary of the leaf's size


def _factored(layer, r, W, decay: float, arguments, Z: list):
    """dZ and A[l-1] of a layer for one example; A[l-1] has to be guessed where there is no db[l] = dZ[l]."""
    true = _without(decay, W, layer.matrix(r[layer.W]))
    if layer.b is not None:
        delta = r[layer.b].ravel()
        pairs = [(delta, times(true.T, delta) / norm(delta) ** 2)] if norm(delta) > 0.0 else []
    else:  # an argument of the loss, or what an activation makes of the layer below
        given = [wide(x).ravel() for x in arguments if np.ndim(x) and x.dtype.kind in "fiubV"]
        inputs = [Z[-1], *(g(Z[-1]) for g, _ in ACTIVATIONS.values())] if len(Z) > 1 else given
        pairs = [(times(true, A) / norm(A) ** 2, A) for A in inputs if A.size == true.shape[1] and norm(A) > 0.0]
    fits = (pair for pair in pairs if norm(pair[0]) > 0.0 and norm(true - np.outer(*pair)) <= 1e-6 * norm(true))
    return next(fits, None)


def _targets(arguments, shape) -> Iterator[np.ndarray]:
    """What may be the labels of an example: arguments with the output's shape, or one integer, as one-hot."""
    for x in map(np.asarray, arguments):
        if x.dtype.kind in "iub" and x.size == 1 and 0 <= int(x.ravel()[0]) < shape[0]:
            yield np.eye(shape[0])[int(x.ravel()[0])]
        elif x.dtype.kind not in "OUS" and x.size == shape[0]:
            yield x.astype(np.float64).ravel()


def _alike(g, r) -> bool:
    return g is not None and g.shape == r.shape


# ---- names -----------------------------------------------------------------------------------------------------------
def wrong_step(evidence, kind: str, number: int) -> Cause | None:
    """What is wrong in dZ[number] or dW[number]: the one name on which examples agree; None if none is confirmed."""
    if kind not in EXPLANATIONS:
        return None
    agreed, asked = None, []
    for k, one in informative(evidence, number):
        fits = EXPLANATIONS[kind](one, number)
        agreed = fits if agreed is None else agreed & fits
        asked.append(k)
        if not agreed:
            return None
        if len(asked) >= AGREEING and len(agreed) == 1:
            name = next(iter(agreed))
            sure = name.kind is not Step.UNKNOWN_INPUT or _adds_up(evidence, number, asked[:2], one.tolerance)
            return name if sure else None
    return None


def _explanations_of_dZ(one: Example, l: int) -> set[Cause]:
    found = one.manual_dZ[l]
    if found is None:
        return set()
    candidates = _output_deltas(one, l) if l == one.top else _hidden_deltas(one, l)
    return {name for name, value in candidates if one.equal(found, value) and not one.equal(one.dZ[l], value)}


def _hidden_deltas(one: Example, l: int) -> Iterator[tuple[Cause, np.ndarray]]:
    """What dZ[l] is with a slip in dZ[l] = (W[l+1]ᵀ dZ[l+1]) * g[l]'(Z[l])."""
    dA, Z, A, own = one.dA[l], one.Z[l], one.A[l], one.activation(l)
    slope = one.dZ[l] / np.where(dA == 0, np.inf, dA)
    if not np.allclose(slope, 1.0, rtol=1e-2):
        yield Cause(Step.SLOPE_OMITTED, (l,)), dA
        yield Cause(Step.SLOPE_TWICE, (l,)), dA * slope**2
    W = one.W[l + 1]
    if W.shape[0] == W.shape[1]:
        yield Cause(Step.NOT_TRANSPOSED, (l + 1,)), times(W, one.dZ[l + 1]) * slope
    if own is None:
        return
    for place, at in {f"A[{l}]": A, **{f"Z[{j}]": one.Z[j] for j in range(1, one.top + 1) if j != l}}.items():
        if at is not None and at.shape == dA.shape:
            yield Cause(Step.SLOPE_ELSEWHERE, (l, place)), dA * ACTIVATIONS[own][1](at)
    above = one.output()[0] if l + 1 == one.top else one.activation(l + 1)
    for other, (_, derivative) in ACTIVATIONS.items():
        if other != own:
            name = f"g[{l + 1}]" if other == ("sigmoid" if above == "softmax" else above) else other
            yield Cause(Step.OTHER_SLOPE, (l, name, other, own)), dA * derivative(Z)
    for other, (formula, derivative) in BY_A.items():
        if other != own:
            yield Cause(Step.OTHER_SLOPE_BY_A, (l, formula, other, own)), dA * derivative(A)


def _output_deltas(one: Example, L: int) -> Iterator[tuple[Cause, np.ndarray]]:
    """What dZ[L] is with a slip in dZ[L] = c (A[L] - Y)."""
    for name, A, Y, c in one.outputs():
        if name != "identity":
            yield Cause(Step.DELTA_WITH_SLOPE, (L,)), c * (A - Y) * A * (1 - A)
        is_one_hot = Y.size > 2 and set(np.unique(Y)) == {0.0, 1.0} and Y.sum() == 1
        for shift in (1, -1) if is_one_hot else ():
            yield Cause(Step.LABELS_SHIFTED, (L, shift)), c * (A - np.roll(Y, shift))


def _explanations_of_dW(one: Example, l: int) -> set[Cause]:
    """What stands in place of A[l-1] in dW[l] = dZ[l] A[l-1]ᵀ."""
    used, true = one.manual_dW[l] and one.manual_dW[l].A, one.A[l - 1]
    if used is None:
        return set()
    right = f"A[{l - 1}]" if l > 1 else "X"
    others = {"X, the input A[0],": one.A[0]} if l > 1 else {}
    others |= {f"Z[{j}]": one.Z[j] for j in range(1, one.top + 1)}
    others |= {f"A[{j}]": one.A[j] for j in range(1, one.top) if j != l - 1} | {f"A[{one.top}]": one.output()[1]}
    known = {name: value for name, value in others.items() if value is not None}
    fits = {
        Cause(Step.OTHER_INPUT, (l, name, right))
        for name, value in known.items()
        if one.equal(used, value) and not one.equal(true, value)
    }
    # A factor is no other activation; and with one unit any dW is of that form.
    unknown = not fits and one.factor(used, true) is None and one.dZ[l].size > 1
    return {Cause(Step.UNKNOWN_INPUT, (l, right))} if unknown else fits


EXPLANATIONS = {"dZ": _explanations_of_dZ, "dW": _explanations_of_dW}


def _adds_up(evidence, number: int, two: list[int], tolerance: float) -> bool:
    """Whether the manual dW of mixtures of two examples is mixed from theirs as the true one is.

    Two mixtures, each with the one example where the other has the other: what is kept for each place adds up as well.
    """
    i, batch = evidence.layers[number - 1].W, evidence.batch
    first = np.arange(batch.m) < batch.m // 2
    mixtures = [batch.take(np.where(first, k, other)) for k, other in (two, two[::-1])]
    pairs = [evidence.both_at(given, coarse=tolerance < evidence.leaves[i].unit) for given in mixtures]
    if any(g is None for g, _ in pairs):
        return False
    apart = [one for one in (example(evidence, k) for k in two) if one is not None]
    few = [_few_entries(*pair)[i] for pair in pairs] + [one.few[i] for one in apart]
    g, r = (np.stack(side, axis=1) for side in zip(*few, strict=True))
    mixed, true = g[:, 0] + g[:, 1], r[:, 0] + r[:, 1]
    weights = np.linalg.lstsq(r[:, 2:], true)[0]
    return bool(norm(mixed - g[:, 2:] @ weights) <= 8 * tolerance * norm(mixed))

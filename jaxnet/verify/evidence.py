"""What a diagnosis is made of: the findings, and whatever has to be run again, run once and only if asked for."""

from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnet.verify.batch import Batch, find_batch, restricted
from jaxnet.verify.dataflow import Product, flow_of
from jaxnet.verify.judgement import Finding
from jaxnet.verify.layers import find_layers
from jaxnet.verify.manual import Manual
from jaxnet.verify.noise import norm
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.tree import called, is_inexact, sample, wide
from jaxnet.verify.trouble import tolerated
from jaxnet.verify.witnesses import Problem

SWEPT = 16  # single examples that are tried one by one
TOLD = 4096  # entries of a leaf that are compared elsewhere: at scale whole leaves would not fit


class Few(NamedTuple):
    """Some entries of each wrong leaf of a tree, and the norm of all the entries of these leaves."""

    entries: dict[int, np.ndarray]
    size: float


class Elsewhere(NamedTuple):
    """What the parameters, the manual and the true gradient are at other inputs."""

    theta: Few
    g: Few
    r: Few

    def both(self, i: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Entries of the manual and of the true gradient of leaf i; None where there are none."""
        return self.g.entries.get(i), self.r.entries.get(i)


class Compared(NamedTuple):
    """Two gradients of a leaf, None where there are none, and the relative tolerance to which they may be compared."""

    g: np.ndarray | None
    r: np.ndarray | None
    tolerance: float


class Evidence:
    """A problem, its manual gradient and what was found, with all that further runs can tell."""

    def __init__(self, problem: Problem, manual: Manual, findings: list[Finding], rng):
        """Nothing is run yet."""
        self.problem, self.manual, self.findings, self.rng = problem, manual, findings, rng
        self.taken_apart: dict = {}  # examples, as chain.py sees them

    @cached_property
    def layers(self) -> list[Product] | None:
        """The parameters as a chain of dense layers, if that is what they are."""
        if not self.problem.layered or self.problem.trace is None:
            return None
        shapes = [np.shape(v) for v in self.problem.params.values]
        return find_layers(flow_of(self.problem.trace, len(shapes)), shapes)

    @cached_property
    def batch(self) -> Batch | Any:
        """The examples among the arguments; None where there are none, of which nobody asks for a single one."""
        return find_batch(self.problem)

    @property
    def examples(self) -> Batch | None:
        """The same, if the gradient of a single one can be asked for."""
        return self.batch

    @cached_property
    def exact(self) -> list | None:
        """The manual gradient as written, in float64."""
        with tolerated(self.problem, "the diagnosis"):
            return self._own.exact() if self._own.traceable else None
        return None

    @cached_property
    def _own(self) -> OwnRounding:
        return OwnRounding(self.problem, self.manual, 0)

    # ---- other inputs ----------------------------------------------------------------------------------------------
    @cached_property
    def second(self) -> Elsewhere | None:
        """Another batch size, `batch.half_m`."""
        if self.batch is None:
            return None
        with tolerated(self.problem, "the diagnosis"):  # a gradient that insists on its batch size
            half = self.batch.half
            self._expect_true(half)
            manual = self._few(self.manual_at(self.batch.take(np.arange(self.batch.half_m))))
            return Elsewhere(self._few(self.problem.params.values), manual, self._true(half))
        return None

    @cached_property
    def moved(self) -> Elsewhere | None:
        """Other parameters: each entry moved by up to 10 %."""
        nearby = self._by_a_tenth(self.problem.params.values)
        with tolerated(self.problem, "the diagnosis"):
            manual = self._few(self.manual.eager(nearby).leaves)
            return Elsewhere(self._few(nearby), manual, self._true(self.problem, nearby))
        return None

    @cached_property
    def other_data(self) -> Elsewhere | None:
        """Other numbers in the fixed arrays; None if these hold no numbers."""
        given = self._by_a_tenth(self.problem.given.values)
        if all(new is old for new, old in zip(given, self.problem.given.values, strict=True)):
            return None
        with tolerated(self.problem, "the diagnosis"):
            manual = self._few(self.manual_at(given))
            return Elsewhere(self._few(self.problem.params.values), manual, self._true(self.problem, given=given))
        return None

    def compared(self, i: int) -> Compared:
        """What of the manual and of the true gradient of leaf i can be compared."""
        f = self.findings[i]
        return Compared(f.g, f.r, self.tolerance(f)) if f.comparable else Compared(None, None, np.inf)

    def _true(self, problem: Problem, values=None, given=None) -> Few:
        """A true gradient."""
        return self._few(problem.double(values, given)[1])

    def _expect_true(self, problem: Problem):
        """Begins to compile what a true gradient takes."""
        problem.expect_double()

    def _few(self, leaves) -> Few:
        entries, squares = {}, 0.0
        for i, places in self._telling.items():
            if np.shape(leaves[i]) == self.findings[i].shape:
                entries[i] = wide(np.ravel(leaves[i])[places])
                squares += norm(wide(leaves[i])) ** 2
        return Few(entries, float(np.sqrt(squares)))

    @cached_property
    def _telling(self) -> dict[int, np.ndarray]:
        """Of each wrong leaf the places where its error is largest: what is asked for elsewhere."""
        return {i: _largest(f.g - f.r) for i, f in enumerate(self.findings) if f.wrong and f.comparable}

    def _by_a_tenth(self, arrays) -> list:
        """Arrays with each floating entry moved by up to 10 %, in their own dtypes."""
        return [
            np.asarray(wide(x) * (1 + 0.1 * self.rng.uniform(-1, 1, np.shape(x))), jnp.result_type(x))
            if is_inexact(x)
            else x
            for x in arrays
        ]

    @cached_property
    def through_stops(self) -> list | None:
        """The gradient of the loss without its stop_gradients, if it has any."""
        with tolerated(self.problem, "the diagnosis"):
            return self.problem.double_through_stops() if self.problem.stops else None
        return None

    def both_at(self, given, coarse: bool = False) -> tuple[list | None, list]:
        """Manual and true gradient at other examples; what is too coarse to tell anything by its values, as written."""
        return self.as_written(given) if coarse else self.manual_at(given), self.problem.double(given=given)[1]

    def example(self, k: int) -> tuple[list, list]:
        """The same of a batch of copies of example k."""
        given = self.batch.alone(k)
        return self.manual_at(given), self.problem.double(given=given)[1]

    def true_at(self, k: int) -> list[np.ndarray]:
        """The true gradient of a batch of copies of example k: m times what it adds to the gradient of a mean."""
        return self.problem.double(given=self.batch.alone(k))[1]

    def as_written(self, given) -> list | None:
        """The manual gradient at other examples in float64, if its formula and not its rounding is what is wrong."""
        found = [f for f in self.findings if f.wrong]
        if self.exact is None or not all(f.comparable for f in found):
            return None
        for f, exact in zip(self.findings, self.exact, strict=True):
            if f.wrong and not norm(exact - f.g) <= min(self.tolerance(f) * norm(f.g), 0.1 * norm(f.g - f.r)):
                return None
        return self._own.exact(given=given)

    def manual_at(self, given) -> list:
        """The manual gradient with other fixed arrays; in one compiled piece where their shapes are new."""
        return self.manual.elsewhere(given).leaves

    @cached_property
    def shares(self) -> dict[int, list[np.ndarray]]:
        """A few entries of the shares of some examples."""
        m = self.batch.m
        return {k: [sample(x) / m for x in self.true_at(k)] for k in dict.fromkeys([m - 1, 0, *range(min(m, SWEPT))])}

    @cached_property
    def ignored(self) -> list[int]:
        """Examples without which the loss is what it was: of those that are blank in some argument."""
        if self._one_fewer is None:
            return []
        blank = [k for k in range(self.batch.m) if self._blank(k)][:SWEPT]
        theta, base = [wide(v) for v in self.problem.params.values], self.problem.level
        found = []
        for k in blank:
            keep = [j for j in range(self.batch.m) if j != k]
            without = self._one_fewer.value(theta, self.batch.take(keep))
            if abs(without - base) <= 1e-9 * abs(base):
                found.append(k)
        return found

    def _blank(self, k) -> bool:
        """Whether example k is all zero in some argument, or has a negative label: padding, a mask, a weight."""
        slices = [x for x, axis in zip(self.batch.take([k]), self.batch.axes, strict=True) if axis is not None]
        plain = [np.asarray(x) for x in slices if getattr(x, "dtype", None) is not None and x.dtype.kind in "fiubV"]
        return any(not np.any(x) or (x.dtype.kind == "i" and bool(np.all(x < 0))) for x in plain)

    @cached_property
    def _one_fewer(self) -> Problem | None:
        with tolerated(self.problem, "the diagnosis"):  # a loss that insists on its batch size
            return restricted(self.problem, self.batch.take(np.arange(self.batch.m - 1)))
        return None

    # ---- arithmetic --------------------------------------------------------------------------------------------------
    def tolerance(self, f: Finding) -> float:
        """How far a confirmed relation may be off, relative to the leaf."""
        return max(8 * f.noise.norm / max(f.r_norm, 1e-300), 16 * f.unit)

    def equal(self, g, other, f: Finding) -> bool:
        """Whether two gradients agree to within the tolerance of a leaf."""
        if g.shape != other.shape:
            return False
        limit = self.tolerance(f) * max(norm(other), 1e-300)
        few = sample(g) - sample(other)  # already too far? then the millions need not be compared
        return not norm(few) > limit and bool(norm(g - other) <= limit)

    def units(self, i: int) -> tuple[str, int] | None:
        """Name and number of the units of the layer that leaf i belongs to."""
        for number, layer in enumerate(self.layers or (), start=1):
            if i in layer.leaves:
                return f"n[{number}]", layer.matrix(np.asarray(self.problem.params.values[layer.W])).shape[0]
        return None

    def name(self, i: int) -> str:
        """dW[l] or db[l] of a layered leaf, the path of any other."""
        for number, layer in enumerate(self.layers or (), start=1):
            if i in layer.leaves:
                return f"{'dW' if i == layer.W else 'db'}[{number}]"
        return called(self.findings[i].path)


def alpha_of(g, r, tolerance: float) -> float | None:
    """α with g = α r, if there is one."""
    if g is None or r is None or g.shape != r.shape or norm(r) == 0.0 or not np.isfinite(g).all():
        return None
    length = norm(r)
    alpha = complex(np.einsum("i,i->", (r / length).ravel().conj(), g.ravel())) / length  # not by BLAS: see noise.norm
    if abs(alpha.imag) > tolerance * abs(alpha) or norm(g - alpha.real * r) > tolerance * norm(g):
        return None
    return alpha.real


def near(a, b, tolerance) -> bool:
    """Whether two numbers agree to a relative tolerance."""
    return bool(a == b or (np.isfinite([a, b]).all() and abs(a - b) <= tolerance * max(abs(a), abs(b))))


def _largest(x) -> np.ndarray:
    """Where the TOLD entries of largest magnitude are, in the flattened array."""
    size = np.abs(x).ravel()
    return np.argpartition(size, -TOLD)[-TOLD:] if size.size > TOLD else np.arange(size.size)

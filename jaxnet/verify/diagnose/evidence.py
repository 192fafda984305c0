"""What a diagnosis is made of: the judged leaves, and whatever has to be run again, run once and only if asked for.

    Look     one leaf at some inputs: the parameter, the manual and the true gradient
    Inputs   every wrong leaf at other inputs: other parameters, other data, another batch size
    Case     the leaves that one fault may explain, at the point or at other inputs: what a test of a cause is given

`Evidence` is that of a loss whose gradient is known, `Slopes` that of a loss of which only values are. A relation that
is linear, g = α r or g = r + λ θ, holds of the slopes <g, v>, <r, v>, <θ, v> if it holds of the entries; and of a few
random directions v it does not hold by chance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, islice
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnet.verify.diagnose.layers import find_layers
from jaxnet.verify.errors import tolerated
from jaxnet.verify.evidence import differences
from jaxnet.verify.judge.cause import Kind
from jaxnet.verify.judge.verdict import LeafJudgement
from jaxnet.verify.problem.batch import Batch, find_batch, restricted
from jaxnet.verify.problem.gradient import Manual
from jaxnet.verify.problem.loss import Problem, direction, in_float64, inner_product
from jaxnet.verify.problem.trees import called, is_inexact, sample, wide
from jaxnet.verify.program.dataflow import Product, flow_of
from jaxnet.verify.sizes import norm, ratio

EXAMPLES = 16  # single examples that are tried one by one
ENTRIES = 4096  # of a leaf that are compared at other inputs: at scale whole leaves would not fit
DIRECTIONS = 4  # of each leaf of a black box
MOVED = 0.1  # of a number: by so much at most it is another one at other inputs


class Look(NamedTuple):
    """One leaf at some inputs: all of its entries at the point, some of them elsewhere, in a square of square leaves.

    tolerance  how far a relation may be off, relative to the leaf
    """

    theta: np.ndarray
    g: Any
    r: Any
    tolerance: float


class Inputs(NamedTuple):
    """The wrong leaves at other inputs, what these are, and the norm of each leaf of the manual gradient there."""

    values: list
    given: list
    looks: dict[int, Look]
    norms: dict[int, float]


def optional(run: Callable[[Any], Any]) -> cached_property:
    """A property that is run once, when it is asked for; None where it fails: evidence that could not be had."""

    def attempt(self):
        with tolerated(self.problem.journal, "the diagnosis"):
            return run(self)
        return None

    return cached_property(attempt)


@dataclass(frozen=True, eq=False)
class Evidence:
    """A problem, its manual gradient and its judged leaves, with all that further runs can tell."""

    problem: Problem
    manual: Manual
    leaves: Sequence[LeafJudgement]
    rng: np.random.Generator
    taken_apart: dict = field(default_factory=dict, init=False)  # examples, as backward.py has them: a cache
    by_entry: ClassVar[bool] = True  # whether looks hold entries

    @cached_property
    def values(self) -> list:
        """The leaves that vary."""
        return self.problem.params.values

    @cached_property
    def given(self) -> list:
        """The arrays that stay fixed."""
        return self.problem.given.values

    # ---- the point ---------------------------------------------------------------------------------------------------
    def look(self, i: int) -> Look:
        """Leaf i."""
        f = self.leaves[i]
        g, r = (f.g, f.r) if f.comparable else (None, None)
        return Look(wide(self.values[i]), g, r, self.limit(i))

    def limit(self, i: int) -> float:
        """How far a relation may be off in leaf i, relative to the leaf; no relation holds of one without a r."""
        f = self.leaves[i]
        return self.tolerance(f) if f.comparable else np.inf

    @cached_property
    def norms(self) -> dict[int, float]:
        """The norm of each leaf of the manual gradient."""
        return _norms([f.raw for f in self.leaves])

    @optional
    def exact(self):
        """The manual gradient as written, in float64; None where it cannot be traced."""
        return self.manual.formula.exact() if self.manual.formula.traceable else None

    @optional
    def through_stops(self):
        """The gradient of the loss without its stop_gradients, if it has any."""
        return self.problem.double_through_stops() if self.problem.trace.stops else None

    def is_constant(self, i: int, where) -> bool:
        """Whether the loss, in float64, stays as it is when the entries `where` of leaf i move a little either way."""
        here = [wide(v) for v in self.values]
        step = 1e-6 * where * direction(self.rng, here[i])
        with tolerated(self.problem.journal, "the diagnosis"):
            values = [self.problem.value([x + s * step if j == i else x for j, x in enumerate(here)]) for s in (-1, 1)]
            return all(v == self.problem.level for v in values)
        return False

    # ---- other inputs ------------------------------------------------------------------------------------------------
    @optional
    def moved(self):
        """Other parameters."""
        values = self._moved(self.values)
        return self._at(self.problem, values, self.given, self.manual.eager(values).leaves)

    @optional
    def other_data(self):
        """Other numbers in the fixed arrays; None if these hold no numbers."""
        given = self._moved(self.given)
        if all(new is old for new, old in zip(given, self.given, strict=True)):
            return None
        return self._at(self.problem, self.values, given, self.manual_at(given))

    @property
    def others(self) -> list[Inputs | None]:
        """The inputs at which a relation has to hold again: other parameters and, where there are any, other data."""
        return [self.moved] if self.other_data is None else [self.moved, self.other_data]

    @optional
    def half_batch(self):
        """Another batch size, `batch.half_m`; None for a gradient that insists on its own."""
        if self.batch is None:
            return None
        self._expect_true(self.batch.half)
        given = self.batch.take(np.arange(self.batch.half_m))
        return self._at(self.batch.half, self.values, given, self.manual_at(given))

    def _at(self, problem: Problem, values, given, manual) -> Inputs:
        """What the leaves are at some inputs, which are those of `problem`."""
        theta, g, r = self._entries(values), self._entries(manual), self._true(problem, values, given)
        looks = {i: Look(theta[i], g[i], r[i], self.limit(i)) for i in r if i in g}
        return Inputs(values, given, looks, _norms(manual))

    def _moved(self, arrays) -> list:
        """Arrays with each floating entry made smaller by up to 10 %, in their own dtypes.

        All change in one direction: norms and sums of many entries would hardly change otherwise. A symmetric matrix
        stays symmetric, and positive definite: D A D.
        """

        def moved(x):
            symmetric = is_symmetric(wide(x))
            change = self.rng.uniform(1 - MOVED, 1, np.shape(x)[:-1] if symmetric else np.shape(x))
            change = np.sqrt(change[..., :, None] * change[..., None, :]) if symmetric else change
            return np.asarray(wide(x) * change, jnp.result_type(x))

        return [moved(x) if is_inexact(x) else x for x in arrays]

    def _true(self, problem: Problem, values, given) -> dict[int, np.ndarray]:
        """Entries of the true gradient."""
        return self._entries(problem.double(values, given)[1])

    def _expect_true(self, problem: Problem):
        """Begins to compile what a true gradient takes."""
        problem.expect_double()

    def _entries(self, leaves) -> dict[int, np.ndarray]:
        """Of each wrong leaf the entries that are compared, where the leaf has its shape."""
        return {i: wide(np.asarray(x)[self._places[i]]) for i, x in self._compared(leaves)}

    def _compared(self, leaves) -> list[tuple[int, Any]]:
        """The wrong leaves that can be compared: those that are there, in their shape."""
        found = ((i, leaves[i]) for i in self._places)
        return [(i, x) for i, x in found if x is not None and np.shape(x) == self.leaves[i].shape]

    @cached_property
    def _places(self) -> dict[int, Any]:
        """Of each wrong leaf an index of the entries where its error is largest."""
        return {i: _largest(np.abs(f.g - f.r)) for i, f in enumerate(self.leaves) if f.wrong and f.comparable}

    def sources(self, i: int, inputs: Inputs | None, results) -> Iterator[tuple[str, np.ndarray]]:
        """What leaf i may have been multiplied with, as its look has it: the leaf itself, then the other arrays.

        results  builds the reading of the program that gives results of it to try as well; None for none
        """
        values, given = (self.values, self.given) if inputs is None else (inputs.values, inputs.given)
        names = map(called, [*self.problem.params.names, *self.problem.given.names])
        named = list(zip(names, [*values, *given], strict=True))
        named.insert(0, named.pop(i))
        if results is not None:
            with in_float64():
                found, places = self.problem.call(results, [wide(v) for v in values], given)
            named += zip(places.value, map(np.asarray, found), strict=True)
        for name, x in named:
            if is_inexact(x) and not np.iscomplexobj(x):
                for shape in spread(np.shape(x), self.leaves[i].shape):
                    whole = np.broadcast_to(wide(x).reshape(shape), self.leaves[i].shape)
                    yield name, whole if inputs is None else whole[self._places[i]]

    # ---- examples ----------------------------------------------------------------------------------------------------
    @cached_property
    def batch(self) -> Batch | Any:
        """The examples among the arguments; None where there are none, of which nobody asks for a single one."""
        return find_batch(self.problem)

    @property
    def examples(self) -> Batch | None:
        """The same, if the gradient of a single one can be asked for."""
        return self.batch

    def both_at(self, given, coarse: bool = False) -> tuple[Sequence | None, list]:
        """Manual and true gradient at other examples; what is too coarse to tell anything by its values, as written."""
        return self.as_written(given) if coarse else self.manual_at(given), self.problem.double(given=given)[1]

    def true_at(self, k: int) -> list[np.ndarray]:
        """The true gradient of a batch of copies of example k: m times what it adds to the gradient of a mean."""
        return self.problem.double(given=self.batch.alone(k))[1]

    def as_written(self, given) -> list | None:
        """The manual gradient at other examples in float64, if its formula and not its rounding is what is wrong."""
        wrong = [f for f in self.leaves if f.wrong]
        if self.exact is None or not all(f.comparable for f in wrong):
            return None
        for f, exact in zip(self.leaves, self.exact, strict=True):
            if f.wrong and not norm(exact - f.g) <= min(self.tolerance(f) * norm(f.g), 0.1 * norm(f.g - f.r)):
                return None
        return self.manual.formula.exact(given=given)

    def manual_at(self, given) -> tuple:
        """The manual gradient with other fixed arrays; in one compiled piece where their shapes are new."""
        return self.manual.elsewhere(given).leaves

    @cached_property
    def contributions(self) -> dict[int, list[np.ndarray]]:
        """A few entries of what some examples add to the gradient of a mean."""
        m = self.batch.m
        chosen = dict.fromkeys([m - 1, 0, *range(min(m, EXAMPLES))])
        return {k: [sample(x) / m for x in self.true_at(k)] for k in chosen}

    @cached_property
    def ignored(self) -> list[int]:
        """Examples without which the loss is what it was: of those that are blank in some argument."""
        if self._one_fewer is None:
            return []
        theta, base, every = [wide(v) for v in self.values], self.problem.level, np.arange(self.batch.m)
        blank = filter(self._is_blank, every.tolist())
        without = ((k, self._one_fewer.value(theta, self.batch.take(every[every != k]))) for k in blank)
        return [k for k, value in islice(without, EXAMPLES) if abs(value - base) <= 1e-9 * abs(base)]

    def _is_blank(self, k: int) -> bool:
        """Whether example k is all zero in some argument, or has a negative label: padding, a mask, a weight."""
        slices = [x for x, axis in zip(self.batch.take([k]), self.batch.axes, strict=True) if axis is not None]
        plain = [np.asarray(x) for x in slices if getattr(x, "dtype", None) is not None and x.dtype.kind in "fiubV"]
        return any(not np.any(x) or (x.dtype.kind == "i" and bool(np.all(x < 0))) for x in plain)

    @optional
    def _one_fewer(self):
        """The problem with one example fewer; None for a loss that insists on its batch size."""
        return restricted(self.problem, self.batch.take(np.arange(self.batch.m - 1)))

    # ---- arithmetic and names ----------------------------------------------------------------------------------------
    def tolerance(self, f: LeafJudgement) -> float:
        """How far a confirmed relation may be off, relative to the leaf."""
        return max(8 * f.noise.norm / max(f.r_norm, 1e-300), 16 * f.unit)

    def equal(self, g, other, f: LeafJudgement) -> bool:
        """Whether two gradients agree to within the tolerance of a leaf."""
        if g.shape != other.shape:
            return False
        limit = self.tolerance(f) * max(norm(other), 1e-300)
        few = sample(g) - sample(other)  # already too far? then the millions need not be compared
        return not norm(few) > limit and bool(norm(g - other) <= limit)

    @cached_property
    def layers(self) -> list[Product] | None:
        """The parameters as a chain of dense layers, if that is what they are."""
        if not self.problem.layered or not self.problem.traceable:
            return None
        shapes = [np.shape(v) for v in self.values]
        return find_layers(flow_of(self.problem.trace.closed, len(shapes)), shapes)

    def layer_of(self, i: int) -> tuple[int, Product] | None:
        """Number and layer that leaf i belongs to."""
        return next(((l, layer) for l, layer in enumerate(self.layers or (), 1) if i in layer.leaves), None)

    def name(self, i: int) -> str:
        """dW[l] or db[l] of a layered leaf, the path of any other."""
        found = self.layer_of(i)
        return f"{'dW' if i == found[1].W else 'db'}[{found[0]}]" if found else called(self.leaves[i].path)


@dataclass(frozen=True, eq=False)
class Slopes(Evidence):
    """The evidence on a black box: slopes of each wrong leaf along a few directions, in place of its entries."""

    by_entry: ClassVar[bool] = False

    @property
    def examples(self) -> None:
        """Single examples' gradients would take a difference for each entry."""
        return None

    @optional
    def here(self):
        """The slopes at the point itself."""
        return self._at(self.problem, self.values, self.given, [f.raw for f in self.leaves])

    def look(self, i: int) -> Look:
        """The slopes of a leaf, which are known better than its entries."""
        if self.leaves[i].slopes is None or self.here is None or i not in self.here.looks:
            return super().look(i)
        return self.here.looks[i]

    def limit(self, i: int) -> float:
        """How far slopes may be off."""
        f = self.leaves[i]
        return super().limit(i) if f.slopes is None else max(8 * ratio(f.slopes.noise, f.slopes.norm), 16 * f.unit)

    def _true(self, problem: Problem, values, given) -> dict[int, np.ndarray]:
        x = [wide(v) for v in values]
        level = problem.value(x, given)

        def slope(along) -> float:
            found = differences.slope(lambda x: problem.value(x, given), x, along, level, blur=self._blur)
            return np.nan if found is None else found.central

        return {i: np.array([slope({i: v}) for v in vs]) for i, vs in self._directions.items()}

    def _expect_true(self, problem: Problem):
        """Values are compiled when they are asked for."""

    def _entries(self, leaves) -> dict[int, np.ndarray]:
        return {
            i: np.array([inner_product(wide(x), v) for v in self._directions[i]]) for i, x in self._compared(leaves)
        }

    @cached_property
    def _places(self) -> dict[int, Any]:
        return self._directions

    @cached_property
    def _directions(self) -> dict[int, list[np.ndarray]]:
        """Of each wrong leaf."""
        x = {i: wide(v) for i, v in enumerate(self.values) if self.leaves[i].wrong}
        return {i: [direction(self.rng, v) for _ in range(DIRECTIONS)] for i, v in x.items()}

    @cached_property
    def _blur(self) -> float:
        return self.problem.blur(self.problem.level)


@dataclass(frozen=True)
class Case:
    """Leaves that one fault may explain, one or several, at the point or at other inputs; iterates over their looks.

    At other inputs only leaves that are wrong are looked at. One leaf at a time is in double precision.
    """

    evidence: Evidence
    leaves: tuple[int, ...]
    inputs: Inputs | None = None

    def __iter__(self) -> Iterator[Look]:
        """The looks of the leaves."""
        if self.inputs is None:
            return iter([self.look]) if len(self.leaves) == 1 else map(self.evidence.look, self.leaves)
        return (self.inputs.looks[i] for i in self.leaves if self.evidence.leaves[i].wrong)

    def again(self, measure: Callable[["Case"], Any], inputs: Inputs | None) -> Any:
        """What `measure` finds at other inputs; None where it finds nothing or there are no such inputs."""
        if inputs is None or any(i not in inputs.looks for i in self.leaves if self.evidence.leaves[i].wrong):
            return None
        return measure(replace(self, inputs=inputs))

    @property
    def i(self) -> int:
        """The leaf, of a case of one."""
        return self.leaves[0]

    @property
    def f(self) -> Any:
        """The same leaf as it was judged."""
        return self.evidence.leaves[self.i]

    @cached_property
    def look(self) -> Look:
        """The same leaf at these inputs; of several leaves the first."""
        return self.evidence.look(self.i) if self.inputs is None else self.inputs.looks[self.i]

    @cached_property
    def g(self) -> np.ndarray:
        """The manual gradient of the same leaf at the point."""
        entries = self.evidence.by_entry and self.inputs is None and self.look.g is not None
        return np.asarray(self.look.g if entries else self.f.g)

    @cached_property
    def finite(self) -> bool:
        """Whether the manual gradient is, at the point."""
        leaves = [self.g] if len(self.leaves) == 1 else (f.g for f in self.judged)
        return all(np.isfinite(g).all() for g in leaves)

    @property
    def judged(self) -> list:
        """The leaves as they were judged."""
        return [self.evidence.leaves[i] for i in self.leaves]

    @property
    def tolerance(self) -> float:
        """The largest of the leaves' tolerances."""
        return max(map(self.evidence.limit, self.leaves))

    @property
    def entries(self) -> int:
        """How many there are in all the leaves."""
        return sum(np.size(f.raw) for f in self.judged)

    @property
    def norms(self) -> dict[Kind, float]:
        """The norm of the manual gradient as a whole and, of a case of one leaf, of that leaf."""
        norms = self.evidence.norms if self.inputs is None else self.inputs.norms
        whole = float(np.sqrt(sum(x**2 for x in norms.values())))
        return ({Kind.NORM: norms[self.i]} if len(self.leaves) == 1 else {}) | {Kind.GLOBAL_NORM: whole}


def is_square(shape: tuple[int, ...]) -> bool:
    """Whether arrays of a shape are square matrices, or stacks of them."""
    return len(shape) > 1 and shape[-1] == shape[-2] > 1


def is_symmetric(x: np.ndarray) -> bool:
    """Whether an array is a symmetric (Hermitian) matrix to within the rounding of float32, or a stack of them."""
    if not is_square(x.shape):
        return False
    gap = np.abs(x - np.swapaxes(x, -1, -2).conj())
    return bool(np.max(gap, initial=0.0) <= 1e-6 * np.max(np.abs(x), initial=0.0))


def _norms(leaves) -> dict[int, float]:
    return {i: norm(wide(x)) for i, x in enumerate(leaves) if x is not None}


def spread(shape: tuple[int, ...], onto: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The shapes, with axes of length 1 put in, in which an array can be multiplied with one of shape `onto`."""
    if np.prod(shape) == 1:
        yield (1,) * len(onto)
        return
    for places in combinations(range(len(onto)), len(shape)):
        if all(n in (1, onto[k]) for n, k in zip(shape, places, strict=True)):
            lengths = dict(zip(places, shape, strict=True))
            yield tuple(lengths.get(k, 1) for k in range(len(onto)))


def _largest(error) -> Any:
    """An index of the ENTRIES largest numbers or so: of square matrices that of some rows and of the same columns."""
    if error.size <= ENTRIES:
        return ...
    if not is_square(error.shape):
        return np.unravel_index(np.argpartition(error.ravel(), -ENTRIES)[-ENTRIES:], error.shape)
    n = error.shape[-1]
    total = error.reshape(-1, n, n).sum(axis=0)
    few = max(2, int(n * np.sqrt(ENTRIES / error.size)))
    lines = np.sort(np.argsort(total.sum(axis=0) + total.sum(axis=1))[-few:])
    return np.ix_(*map(np.arange, error.shape[:-2]), lines, lines)

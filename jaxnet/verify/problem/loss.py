"""The witnesses: independent ways of knowing the derivative of a loss.

    1 reverse       autodiff in the leaf's own dtype, the user's custom rules stripped
    2 float64       the same program in double precision
    3 forward       jvp along random directions, against <g, v>
    4 differences   float64 finite differences (in differences.py)
    5 complex step  Im J(x + ihv) / h, where every operation is analytic
    6 relations     what holds without any reference (in relations.py)

The loss of a `Problem` is traced once; every witness reads that trace (trace.py). Each is compiled at most once for all
leaves (transforms.py), on another core where it is known beforehand that it will be asked.
"""

import contextlib
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.errors import RefusedError, UnreadableError, call_user, note
from jaxnet.verify.journal import Journal, first_line
from jaxnet.verify.problem.arguments import positions
from jaxnet.verify.problem.trace import Trace, trace_of
from jaxnet.verify.problem.trees import Tree, below, called, is_array, is_inexact, take_apart, wide, wide_shape
from jaxnet.verify.program import transforms
from jaxnet.verify.program.cache import same_program
from jaxnet.verify.program.dtypes import unit_roundoff
from jaxnet.verify.program.jaxprs import with_whole_tracebacks
from jaxnet.verify.program.rules import differentiated, equations
from jaxnet.verify.program.ties import has_kinks

TURNS, ANY = 10**5, 2**62  # of a while loop away from the point, and at it
ROUNDINGS = 64  # by which two values of one loss may differ: a host may add in another order


@contextlib.contextmanager
def quiet():
    """Whatever the caller has switched on (disable_jit, debug_nans, strict promotion), off for the block."""
    with (
        with_whole_tracebacks(),
        jax.disable_jit(False),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        np.errstate(all="ignore"),  # NaN and Inf are findings here, not accidents
    ):
        yield


@contextlib.contextmanager
def in_float64():
    """Double precision for the block; then JAX lets go of the NumPy arrays that it was given: at a collection only."""
    with jax.enable_x64(True):
        yield
    gc.collect(0)


def value_of(out, has_aux: bool, what_returned="loss"):
    """The value in what a function returned, its auxiliary output dropped; raises TypeError where there is no pair."""
    if not has_aux:
        return out
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        shape = getattr(out, "shape", None)
        what = f"a {type(out).__name__}" if shape is None else f"an array of shape {tuple(shape)}"
        what += f" of {len(out)}" if isinstance(out, (tuple, list)) else ""
        raise RefusedError(
            f"has_aux=True: {what_returned} must return a pair (value, auxiliary), it returned {what}; leave "
            "has_aux out where there is no auxiliary output."
        )
    return out[0]


def scalar_of(out, has_aux: bool) -> Any:
    """The value in what a loss returned; raises TypeError where it is not a real scalar."""
    value = value_of(out, has_aux)
    shape = getattr(value, "shape", None)
    if shape is None and not isinstance(value, (int, float, complex)):
        remedy = " (is has_aux=True missing, or --has-aux in a shell?)" if isinstance(value, tuple) else ""
        raise RefusedError(f"loss must return a scalar, it returned a {type(value).__name__}{remedy}.")
    if shape not in (None, ()):
        raise RefusedError(
            f"loss must return a scalar, it returned shape {tuple(shape)}; reduce it, e.g. with jnp.mean."
        )
    if jnp.issubdtype(jnp.result_type(value), jnp.complexfloating):
        raise RefusedError(f"loss must return a real floating scalar, it returned {jnp.result_type(value)}.")
    return value


@dataclass(frozen=True, eq=False)
class Problem:
    """A loss at a point: `params` holds the differentiable leaves, `given` the arrays that stay fixed.

    names       what a reader calls each of the arguments (params, *args)
    function    what a reader calls the function whose values the loss has
    own_dtypes  of the leaves, in the caller's precision
    trace       the loss as a program; empty before it was traced, and of a loss that is no JAX function
    reversible  whether reverse mode is to be had and believed, as far as is known: evidence/autodiff.py finds out
    journal     where what happens on the way is noted for the report
    """

    loss: Callable
    params: Tree
    given: Tree
    argnums: int | tuple[int, ...]
    has_aux: bool
    names: Sequence[str] | None
    function: str
    own_dtypes: tuple[np.dtype, ...]
    trace: Trace = field(default_factory=Trace)
    reversible: bool = True
    journal: Journal = field(default_factory=Journal)

    @classmethod
    def of(cls, loss, params, args, argnums, has_aux, names=None, function="loss") -> "Problem":
        """Takes the arguments (params, *args) apart; nothing is run yet."""
        everything = (params, *args)
        n = len(everything)
        argnums = positions(argnums, n, f"loss was given {n} arguments, (params, *args)")
        one, chosen = isinstance(argnums, int), (argnums,) if isinstance(argnums, int) else argnums
        picked = lambda things: things[chosen[0]] if one else tuple(things[i] for i in chosen)
        varying = take_apart(picked(everything), is_inexact)
        fixed = take_apart(tuple(None if i in chosen else a for i, a in enumerate(everything)), is_array)
        if names:
            varying, fixed = varying.called_by(picked(names)), fixed.called_by(names)
        own = tuple(np.dtype(jax.dtypes.canonicalize_dtype(jnp.result_type(v))) for v in varying.values)
        return cls(loss, varying, fixed, argnums, bool(has_aux), names, function, own)

    @property
    def units(self) -> list[float]:
        """The unit roundoff of each leaf."""
        return [unit_roundoff(d) for d in self.own_dtypes]

    def label(self, path: str) -> str:
        """What a reader calls the place at a path into (params, *args); one tree of parameters begins its own paths."""
        return below(path, self.names) if self.names else path.removeprefix(f"[{self.argnums}]")

    def arguments(self, values, given) -> tuple:
        """The positional arguments of loss and gradient, from differentiable leaves and fixed arrays."""
        varying = self.params.rebuilt(values)
        pairs = ((self.argnums, varying),) if isinstance(self.argnums, int) else zip(self.argnums, varying, strict=True)
        parts = dict(pairs)
        others = self.given.rebuilt(given)
        return tuple(parts[i] if i in parts else others[i] for i in range(len(others)))

    def scalar(self, values, given):
        """The loss as a function of lists of leaves, its auxiliary output dropped."""
        value = scalar_of(call_user(self.loss, *self.arguments(values, given)), self.has_aux)
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise RefusedError(f"loss must return a real floating scalar, it returned {jnp.result_type(value)}.")
        return value

    def own(self, values) -> list:
        """The leaves in their own dtypes, as arrays."""
        return [
            v if isinstance(v, jax.Array) else np.asarray(v, d) for v, d in zip(values, self.own_dtypes, strict=True)
        ]

    def traced(self) -> "Problem":
        """The same with the trace of its loss, taken once. Raises what the loss raises."""
        if self.traceable:
            return self
        return replace(self, trace=trace_of(self.scalar, self.own(self.params.values), self.given.values))

    @property
    def traceable(self) -> bool:
        """Whether the loss has been traced: it is a JAX function."""
        return self.trace.closed is not None

    @property
    def layered(self) -> bool:
        """Whether the leaves may be the layers of a network: arguments that are bare arrays are not."""
        return isinstance(self.argnums, int) or not all(map(is_array, self.params.rebuilt(self.params.values)))

    @property
    def valued_only(self) -> bool:
        """Whether only values of the loss are to be had: it is no JAX function, or no autodiff is to be believed."""
        return not self.traceable or bool(self.trace.opaque or self.trace.untrusted)

    def call(self, build, *arguments, quickly=True):
        """What `build` (of transforms.py) gives at these arguments."""
        return self.trace.program.compiled(build, quickly)(self.trace.closed.consts, *arguments)

    # ---- witness 1 -------------------------------------------------------------------------------------------------
    def reverse(self, seed: int = 0, shake: float = 0.0) -> tuple[jax.Array, list]:
        """Value and gradient in the leaves' own dtypes, at inputs × (1 ± shake u), signs drawn from `seed`.

        Not waited for.
        """
        build = transforms.reverse if self.reversible else transforms.own_forward
        return self.call(build, *self._here(), *_shaking(seed, shake), quickly=False)

    def shaken(self, seed: int) -> list[np.ndarray]:
        """The leaves one rounding away, where that gradient is taken."""
        return [wide(x) for x in self.call(transforms.shaken, *self._here(), *_shaking(seed, 1.0))]

    def _here(self):
        return self.own(self.params.values), self.given.values

    # ---- witness 2 -------------------------------------------------------------------------------------------------
    def double(self, values=None, given=None) -> tuple[float, list[np.ndarray]]:
        """Value and gradient in float64; at other values or fixed arrays of the same shapes if given."""
        with in_float64():
            value, grads = self.call(self._doubling, *self._here_doubled(values, given))
            return float(value), [np.asarray(g) for g in grads]

    @property
    def _doubling(self):
        """Forward mode for what cannot be reversed (while loops)."""
        return transforms.double if self.reversible else transforms.forward

    def _here_doubled(self, values=None, given=None):
        values = [wide(v) for v in (self.params.values if values is None else values)]
        return values, self.given.values if given is None else given

    def double_through_stops(self) -> list[np.ndarray]:
        """The gradient in float64 of the loss without its stop_gradients."""
        with in_float64():
            return [np.asarray(g) for g in self.call(transforms.through_stops, *self._here_doubled())[1]]

    # ---- the loss itself -------------------------------------------------------------------------------------------
    def value(self, values, given=None) -> float:
        """The loss in float64 at other values of the leaves, or with other fixed arrays of the same shapes.

        What the loss's author stopped is held where it is at the leaves' own values. A loop that ends at these may go
        round for ever at others: there it has TURNS, and the loss is NaN.
        """
        given = self.given.values if given is None else given
        if not self.traceable:  # not a JAX function: call it, on copies that it may spoil
            values, given = ([np.array(x) for x in arrays] for arrays in (values, given))
            kept = [x.copy() for x in [*values, *given]]
            out = call_user(self.loss, *self.arguments(values, given))
            named = zip([*self.params.names, *self.given.names], [*values, *given], kept, strict=True)
            self.journal.spoilt.update(dict.fromkeys(called(n) for n, x, k in named if x.tobytes() != k.tobytes()))
            return float(scalar_of(out, self.has_aux))
        here = all(x is v or np.array_equal(x, v) for x, v in zip(values, self.params.values, strict=True))
        build, arguments = self._valued(values, given, ANY if here else TURNS)
        with in_float64():
            return float(self.call(build, *arguments))

    @cached_property
    def level(self) -> float:
        """The loss in float64 at the leaves' own values, for which many ask."""
        return self.value([wide(v) for v in self.params.values])

    def blur(self, level: float, seed: int = 0, draws: int = 3) -> float:
        """How far one rounding of what hides its inside moves the loss from its `level` at the leaves."""
        if not self.trace.opaque:
            return 0.0
        with in_float64():
            seeds = (np.uint32((seed + k) % 2**32) for k in range(draws))
            seen = [float(self.call(transforms.blurred, *self._here_doubled(), s)) for s in seeds]
        return max(abs(j - level) for j in seen)

    def _valued(self, values, given, turns=0):
        """What values the loss, and its arguments."""
        if self.holds_stops:
            return transforms.held, (values, self.params.values, given, np.int64(turns))
        return transforms.value, (values, given, np.int64(turns))

    def value_through_stops(self, values) -> float:
        """The same, what is stopped moving with the rest: all that the values of a loss can show by themselves."""
        with in_float64():
            return float(self.call(transforms.value, values, self.given.values, np.int64(TURNS)))

    @property
    def holds_stops(self) -> bool:
        """Whether there are stops to hold, in a program that can be read in two lanes."""
        hidden = set(self.trace.opaque) - {"pure_callback", "pallas_call"}
        return bool(self.trace.stops or self.trace.stated) and not hidden

    # ---- witness 3 -------------------------------------------------------------------------------------------------
    def slope(self, direction, values=None) -> float:
        """The derivative along a direction (one array or None a leaf) by forward mode in float64."""
        values = self.params.values if values is None else values
        with in_float64():
            v = [
                np.zeros(np.shape(x), wide(x).dtype) if d is None else d for x, d in zip(values, direction, strict=True)
            ]
            return float(self.call(transforms.slope, values, self.given.values, v))

    # ---- witness 5 -------------------------------------------------------------------------------------------------
    def complex_slope(self, direction, step: float = 1e-30) -> float:
        """The derivative along a direction by a complex step; UnreadableError names what is in its way."""
        if any(jnp.issubdtype(d, jnp.complexfloating) for d in self.own_dtypes):
            raise UnreadableError("a complex leaf")
        with in_float64():
            values = [
                wide(x) + (0.0j if d is None else 1j * step * d)
                for x, d in zip(self.params.values, direction, strict=True)
            ]
            return float(jnp.imag(self.call(transforms.continued, values, self.given.values))) / step

    # ---- on another core ---------------------------------------------------------------------------------------------
    def expect_reverse(self):
        """Begins to compile witness 1."""
        self._expect(transforms.reverse, *self._here(), *_shaking(0, 0.0), quickly=False)

    def expect_double(self):
        """Begins to compile witness 2."""
        with in_float64():
            self._expect(self._doubling, *self._shapes_doubled())

    def expect_value(self):
        """Begins to compile the loss in float64."""
        build, arguments = self._valued(*self._shapes_doubled())
        with in_float64():
            self._expect(build, *arguments)

    def _expect(self, build, *arguments, quickly=True):
        self.trace.program.expect(build, (self.trace.closed.consts, *arguments), quickly=quickly)

    def _shapes_doubled(self):
        return [wide_shape(v) for v in self.params.values], self.given.values

    # ---- kinks -----------------------------------------------------------------------------------------------------
    def has_kinks(self) -> bool:
        """Whether the gradient passes any operation that is not smooth everywhere."""
        return self.traceable and has_kinks(self.trace.closed, equations if self.trace.stated else differentiated)

    def tilted(self, share: float, width: float) -> list[np.ndarray]:
        """The float64 gradient with one convention at each tie: see program/ties.py."""
        with in_float64():
            found = self.call(transforms.tilted, *self._here_doubled(), np.float64(share), np.float64(width))
            return [np.asarray(x) for x in found]


def restricted(problem: Problem, given) -> Problem:
    """The problem with other fixed arrays, of other shapes perhaps; its own trace, if it can be traced."""
    there = replace(problem, given=problem.given.holding(given), trace=Trace())
    return there.traced() if problem.traceable else there


def impurity(problem: Problem) -> str | None:
    """In words, that the loss gives two values for the same input; None of a function.

    What draws a new mask or counts its calls does so when it is called: a loss of JAX when it is traced, so its second
    trace is another program; a host function whenever a value is asked for.
    """
    try:
        again = restricted(problem, problem.given.values)
        alike = problem.traceable and same_program(problem.trace.closed, again.trace.closed)
    except Exception as error:  # what an earlier call has left behind may be unusable in a later one
        note(problem.journal, error, "the second trace")
        return f"the loss cannot be called twice, it keeps state: {first_line(error)}"
    if alike and not problem.trace.opaque:
        return None
    x = [wide(v) for v in problem.params.values]
    there = problem if alike else again  # what is alike is compiled already
    return differing(problem.value(x), there.value(x), max(problem.units))


def differing(one: float, other: float, unit: float) -> str | None:
    """In words, that two values of the loss are not one value but for rounding."""
    slack = ROUNDINGS * max(unit, unit_roundoff(np.float32)) * max(abs(one), abs(other))
    if not np.isfinite([one, other]).all() or abs(one - other) <= slack:
        return None
    return f"the loss itself gives two values for the same input: {one:.6g} and {other:.6g}"


def _shaking(seed, shake):
    return np.uint32(seed % 2**32), np.float32(shake)


def inner_product(g, v) -> float:
    """Re Σ g v, in float64."""
    return float(np.real(np.sum(g * v)))


def direction(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """±U[0.5, 1.5] in each coordinate, scaled to the leaf.

    Plain ±1 misses an opposite pair of errors half the time, a Gaussian a single coordinate 8 % of the time.
    """
    v = rng.choice([-1.0, 1.0], x.shape) * rng.uniform(0.5, 1.5, x.shape)
    if np.iscomplexobj(x):
        v = v + 1j * rng.choice([-1.0, 1.0], x.shape) * rng.uniform(0.5, 1.5, x.shape)
    scale = float(np.sqrt(np.mean(np.abs(x) ** 2))) if x.size else 1.0
    return np.asarray(v * (scale if np.isfinite(scale) and scale > 0 else 1.0))

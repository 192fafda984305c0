"""The witnesses: independent ways of knowing the derivative of a loss.

    1 reverse       autodiff in the leaf's own dtype, the user's custom rules stripped
    2 float64       the same program in double precision
    3 forward       jvp along random directions, against <g, v>
    4 differences   float64 finite differences (in differences.py)
    5 complex step  Im J(x + ihv) / h, where every operation is analytic
    6 relations     what holds without any reference (in relations.py)

A `Problem` traces the loss once; every witness reads that trace. Each is compiled at most once for all leaves
(transforms.py), on another core where it is known beforehand that it will be asked.
"""

import contextlib
import gc
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.errors import RefusedError, UnreadableError, call_user, note
from jaxnet.verify.journal import first_line
from jaxnet.verify.problem.arguments import positions
from jaxnet.verify.problem.trees import Tree, below, called, is_array, is_inexact, take_apart, wide, wide_shape
from jaxnet.verify.program import transforms
from jaxnet.verify.program.cache import Program, program_of, same_program
from jaxnet.verify.program.dtypes import unit_roundoff
from jaxnet.verify.program.jaxprs import with_whole_tracebacks
from jaxnet.verify.program.rules import (
    equations,
    is_stated,
    opaque_operations,
    places_of_stops,
    readable,
    rules_left_out,
    rules_that_stay,
)
from jaxnet.verify.program.ties import has_kinks

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


class Problem:
    """A loss at a point: `params` holds the differentiable leaves, `given` the arrays that stay fixed.

    The question is never changed. What is learnt of the loss on the way is kept here, once for all who ask: its trace
    and what that holds, whether reverse mode works (`references` finds out, before anything is judged), and, for the
    report, `troubles` and `spoilt`.
    """

    def __init__(self, loss, params, args, argnums, has_aux, names=None, function="loss"):
        """Takes the arguments apart; nothing is run yet.

        names       what a reader calls each of (params, *args)
        function    what a reader calls the function whose values the loss has
        """
        self.everything = (params, *args)
        n = len(self.everything)
        self.argnums = positions(argnums, n, f"loss was given {n} arguments, (params, *args)")
        self.reversible = True  # until reverse mode has failed, or is not to be believed
        self.params: Tree = take_apart(self._varying(), is_inexact)
        others = tuple(None if i in self._positions() else a for i, a in enumerate(self.everything))
        self.given: Tree = take_apart(others, is_array)
        self.names, self.function = names, function
        if names:
            chosen = [names[i] for i in self._positions()]
            self.params = self.params.called_by(chosen[0] if isinstance(self.argnums, int) else chosen)
            self.given = self.given.called_by(names)
        self.loss, self.has_aux = loss, has_aux
        self.own_dtypes = [np.dtype(jax.dtypes.canonicalize_dtype(jnp.result_type(v))) for v in self.params.values]
        self.units = [unit_roundoff(d) for d in self.own_dtypes]
        self.trace = None
        self.stripped: list[str] = []  # the user's rules, which their primals stand in for
        self.opaque: list[str] = []
        self.untrusted: list[str] = []  # the user's rules that no primal can stand in for
        self.stops: list[str] = []  # places at which the loss's author stops gradients
        self.stated = False  # whether it is the loss of a rule that is stated
        self.troubles: list[str] = []  # mistakes of the verifier itself, told first in the report
        self.spoilt: dict[str, None] = {}  # inputs that the loss, called as a plain function, has written into
        self._program: Program | None = None

    def _positions(self):
        return (self.argnums,) if isinstance(self.argnums, int) else self.argnums

    def _varying(self):
        if isinstance(self.argnums, int):
            return self.everything[self.argnums]
        return tuple(self.everything[i] for i in self.argnums)

    def label(self, path: str) -> str:
        """What a reader calls the place at a path into (params, *args); one tree of parameters begins its own paths."""
        return below(path, self.names) if self.names else path.removeprefix(f"[{self.argnums}]")

    def arguments(self, values, given) -> tuple:
        """The positional arguments of loss and gradient, from differentiable leaves and fixed arrays."""
        varying = self.params.rebuilt(values)
        parts = dict(zip(self._positions(), (varying,) if isinstance(self.argnums, int) else varying, strict=True))
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

    def traced(self):
        """The loss as a closed jaxpr without the user's rules; traced once. Raises what the loss raises."""
        if self.trace is None:
            trace = jax.make_jaxpr(self.scalar)(self.own(self.params.values), self.given.values)
            self.opaque, self.untrusted = opaque_operations(trace), rules_that_stay(trace)
            self.stops, self.stripped = places_of_stops(trace), rules_left_out(trace)
            self.stated = any(map(is_stated, equations(trace)))
            self.trace = readable(trace)
        return self.trace

    @property
    def layered(self) -> bool:
        """Whether the leaves may be the layers of a network: arguments that are bare arrays are not."""
        return isinstance(self.argnums, int) or any(not is_array(self.everything[i]) for i in self.argnums)

    @property
    def valued_only(self) -> bool:
        """Whether only values of the loss are to be had: it is no JAX function, or no autodiff is to be believed."""
        return self.trace is None or bool(self.opaque or self.untrusted)

    @property
    def program(self) -> Program:
        """The loss's program, shared with every check of an equal loss."""
        if self._program is None:
            self._program = program_of(self.traced())
        return self._program

    def call(self, build, *arguments, quickly=True):
        """What `build` (of transforms.py) gives at these arguments."""
        return self.program.compiled(build, quickly)(self.traced().consts, *arguments)

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
        self.traced()  # in the caller's precision
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

        What the loss's author stopped is held where it is at the leaves' own values.
        """
        given = self.given.values if given is None else given
        if self.trace is None:  # not a JAX function: call it, on copies that it may spoil
            values, given = ([np.array(x) for x in arrays] for arrays in (values, given))
            kept = [x.copy() for x in [*values, *given]]
            out = call_user(self.loss, *self.arguments(values, given))
            named = zip([*self.params.names, *self.given.names], [*values, *given], kept, strict=True)
            self.spoilt.update(dict.fromkeys(called(n) for n, x, k in named if x.tobytes() != k.tobytes()))
            return float(scalar_of(out, self.has_aux))
        build, arguments = self._valued(values, given)
        with in_float64():
            return float(self.call(build, *arguments))

    @cached_property
    def level(self) -> float:
        """The loss in float64 at the leaves' own values, for which many ask."""
        return self.value([wide(v) for v in self.params.values])

    def blur(self, level: float, seed: int = 0, draws: int = 3) -> float:
        """How far one rounding of what hides its inside moves the loss from its `level` at the leaves."""
        if not self.opaque:
            return 0.0
        with in_float64():
            seeds = (np.uint32((seed + k) % 2**32) for k in range(draws))
            seen = [float(self.call(transforms.blurred, *self._here_doubled(), s)) for s in seeds]
        return max(abs(j - level) for j in seen)

    def _valued(self, values, given):
        """What values the loss, and its arguments."""
        if self.holds_stops:
            return transforms.held, (values, self.params.values, given)
        return transforms.value, (values, given)

    def value_through_stops(self, values) -> float:
        """The same, what is stopped moving with the rest: all that the values of a loss can show by themselves."""
        with in_float64():
            return float(self.call(transforms.value, values, self.given.values))

    @property
    def holds_stops(self) -> bool:
        """Whether there are stops to hold, in a program that can be read in two lanes."""
        return bool(self.stops or self.stated) and set(self.opaque) <= {"pure_callback", "pallas_call"}

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
        self.program.expect(transforms.reverse, (self.traced().consts, *self._here(), *_shaking(0, 0.0)))

    def expect_double(self):
        """Begins to compile witness 2."""
        consts = self.traced().consts
        with in_float64():
            self.program.expect(self._doubling, (consts, *self._shapes_doubled()), quickly=True)

    def expect_value(self):
        """Begins to compile the loss in float64."""
        build, arguments = self._valued(*self._shapes_doubled())
        with in_float64():
            self.program.expect(build, (self.traced().consts, *arguments), quickly=True)

    def _shapes_doubled(self):
        return [wide_shape(v) for v in self.params.values], self.given.values

    # ---- kinks -----------------------------------------------------------------------------------------------------
    def has_kinks(self) -> bool:
        """Whether the gradient passes any operation that is not smooth everywhere."""
        return self.trace is not None and has_kinks(self.trace)

    def tilted(self, share: float, width: float) -> list[np.ndarray]:
        """The float64 gradient with one convention at each tie: see program/ties.py."""
        with in_float64():
            found = self.call(transforms.tilted, *self._here_doubled(), np.float64(share), np.float64(width))
            return [np.asarray(x) for x in found]


def restricted(problem: Problem, given) -> Problem:
    """The problem with other fixed arrays, of other shapes perhaps; its own trace, if it can be traced."""
    arguments = problem.arguments(problem.params.values, given)
    there = Problem(problem.loss, arguments[0], arguments[1:], problem.argnums, problem.has_aux)
    there.reversible = problem.reversible
    if problem.trace is not None:
        there.traced()
    return there


def impurity(problem: Problem) -> str | None:
    """In words, that the loss gives two values for the same input; None of a function.

    What draws a new mask or counts its calls does so when it is called: a loss of JAX when it is traced, so its second
    trace is another program; a host function whenever a value is asked for.
    """
    try:
        again = restricted(problem, problem.given.values)
        alike = problem.trace is not None and same_program(problem.trace, again.traced())
    except Exception as error:  # what an earlier call has left behind may be unusable in a later one
        note(problem, error, "the second trace")
        return f"the loss cannot be called twice, it keeps state: {first_line(error)}"
    if alike and not problem.opaque:
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

"""The witnesses: independent ways of knowing the derivative of a loss.

    1 reverse       autodiff in the leaf's own dtype, the user's custom rules stripped
    2 float64       the same program in double precision
    3 forward       jvp along random directions, against <g, v>
    4 differences   float64 finite differences (in differences.py)
    5 complex step  Im J(x + ihv) / h, where every operation is analytic
    6 relations     what holds without any reference (in relations.py)

A `Problem` traces the loss once; every witness reads that trace. Each is compiled at most once for all leaves
(derivatives.py), on another core where it is known beforehand that it will be asked.
"""

import contextlib
import gc
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify import derivatives
from jaxnet.verify.conventions import has_kinks
from jaxnet.verify.interpret import UnreadableError
from jaxnet.verify.options import positions
from jaxnet.verify.programs import Program, program_of
from jaxnet.verify.stops import places_of_stops
from jaxnet.verify.strip import opaque_operations, rules_that_stay
from jaxnet.verify.tree import Tree, called, is_array, is_inexact, take_apart, unit_roundoff, wide, wide_shape
from jaxnet.verify.trouble import RefusedError


@contextlib.contextmanager
def quiet():
    """Whatever the caller has switched on (disable_jit, debug_nans, strict promotion), off for the block."""
    with (
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


def value_of(out, has_aux: bool):
    """The value in what a loss returned, its auxiliary output dropped; raises TypeError where there is no pair."""
    if not has_aux:
        return out
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        shape = getattr(out, "shape", None)
        what = f"a {type(out).__name__}" if shape is None else f"an array of shape {tuple(shape)}"
        what += f" of {len(out)}" if isinstance(out, (tuple, list)) else ""
        raise RefusedError(
            f"has_aux=True: loss must return a pair (value, auxiliary), it returned {what}; leave "
            "has_aux out where there is no auxiliary output."
        )
    return out[0]


class Problem:
    """A loss at a point: `point` holds the differentiable leaves, `given` the arrays that stay fixed."""

    def __init__(self, loss, params, args, argnums, has_aux):
        """Takes the arguments apart; nothing is run yet."""
        self.everything = (params, *args)
        n = len(self.everything)
        self.argnums = positions(argnums, n, f"loss was given {n} arguments, (params, *args)")
        self.reversible = True  # until reverse mode has failed, or is not to be believed
        self.params: Tree = take_apart(self._varying(), is_inexact)
        others = tuple(None if i in self._positions() else a for i, a in enumerate(self.everything))
        self.given: Tree = take_apart(others, is_array)
        self.loss, self.has_aux = loss, has_aux
        self.own_dtypes = [np.dtype(jax.dtypes.canonicalize_dtype(jnp.result_type(v))) for v in self.params.values]
        self.units = [unit_roundoff(d) for d in self.own_dtypes]
        self.trace = None
        self.stripped: list[str] = []
        self.opaque: list[str] = []
        self.untrusted: list[str] = []  # the user's rules that no primal can stand in for
        self.stops: list[str] = []  # places at which the loss's author stops gradients
        self.troubles: list[str] = []  # mistakes of the verifier itself, told first in the report
        self.spoilt: dict[str, None] = {}  # inputs that the loss, called as a plain function, has written into
        self._program: Program | None = None

    def _positions(self):
        return (self.argnums,) if isinstance(self.argnums, int) else self.argnums

    def _varying(self):
        if isinstance(self.argnums, int):
            return self.everything[self.argnums]
        return tuple(self.everything[i] for i in self.argnums)

    def arguments(self, values, given) -> tuple:
        """The positional arguments of loss and gradient, from differentiable leaves and fixed arrays."""
        varying = self.params.rebuilt(values)
        parts = dict(zip(self._positions(), (varying,) if isinstance(self.argnums, int) else varying, strict=True))
        others = self.given.rebuilt(given)
        return tuple(parts[i] if i in parts else others[i] for i in range(len(others)))

    def scalar(self, values, given):
        """The loss as a function of lists of leaves, its auxiliary output dropped."""
        value = value_of(self.loss(*self.arguments(values, given)), self.has_aux)
        shape = getattr(value, "shape", None)
        if shape is None and not isinstance(value, (int, float, complex)):
            mend = " (is has_aux=True missing, or --has-aux in a shell?)" if isinstance(value, tuple) else ""
            what = f"a {type(value).__name__}{mend}"
            raise RefusedError(f"loss must return a scalar, it returned {what}.")
        if shape not in (None, ()):
            raise RefusedError(
                f"loss must return a scalar, it returned shape {tuple(shape)}; reduce it, e.g. with jnp.mean."
            )
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise RefusedError(f"loss must return a real floating scalar, it returned {jnp.result_type(value)}.")
        return value

    def own(self, values) -> list:
        """The leaves in their own dtypes, as arrays."""
        return [
            v if isinstance(v, jax.Array) else np.asarray(v, d) for v, d in zip(values, self.own_dtypes, strict=True)
        ]

    def traced(self):
        """The loss as a closed jaxpr; traced once. Raises what the loss raises."""
        if self.trace is None:
            self.trace = jax.make_jaxpr(self.scalar)(self.own(self.params.values), self.given.values)
            self.opaque, self.untrusted = opaque_operations(self.trace), rules_that_stay(self.trace)
            self.stops = places_of_stops(self.trace)
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
        """What `build` (of derivatives.py) gives at these arguments, and the rules that it stripped noted."""
        program = self.program
        out = program.compiled(build, quickly)(self.traced().consts, *arguments)
        self.stripped = list(program.stripped)
        return out

    # ---- witness 1 -------------------------------------------------------------------------------------------------
    def reverse(self, seed: int = 0, shake: float = 0.0) -> tuple[jax.Array, list]:
        """Value and gradient in the leaves' own dtypes, at inputs × (1 ± shake u), signs drawn from `seed`.

        Not waited for.
        """
        build = derivatives.reverse if self.reversible else derivatives.own_forward
        return self.call(build, *self._here(), *_shaking(seed, shake), quickly=False)

    def shaken(self, seed: int) -> list[np.ndarray]:
        """The leaves one rounding away, where that gradient is taken."""
        return [wide(x) for x in self.call(derivatives.shaken, *self._here(), *_shaking(seed, 1.0))]

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
        return derivatives.double if self.reversible else derivatives.forward

    def _here_doubled(self, values=None, given=None):
        values = [wide(v) for v in (self.params.values if values is None else values)]
        return values, self.given.values if given is None else given

    def double_through_stops(self) -> list[np.ndarray]:
        """The gradient in float64 of the loss without its stop_gradients."""
        with in_float64():
            return [np.asarray(g) for g in self.call(derivatives.through_stops, *self._here_doubled())[1]]

    # ---- the loss itself -------------------------------------------------------------------------------------------
    def value(self, values, given=None) -> float:
        """The loss in float64 at other values of the leaves, or with other fixed arrays of the same shapes.

        What the loss's author stopped is held where it is at the leaves' own values.
        """
        given = self.given.values if given is None else given
        if self.trace is None:  # not a JAX function: call it, on copies that it may spoil
            values, given = ([np.array(x) for x in arrays] for arrays in (values, given))
            kept = [x.copy() for x in [*values, *given]]
            out = self.loss(*self.arguments(values, given))
            named = zip([*self.params.names, *self.given.names], [*values, *given], kept, strict=True)
            self.spoilt.update(dict.fromkeys(called(n) for n, x, k in named if x.tobytes() != k.tobytes()))
            return float(value_of(out, self.has_aux))
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
            seen = [float(self.call(derivatives.blurred, *self._here_doubled(), s)) for s in seeds]
        return max(abs(j - level) for j in seen)

    def _valued(self, values, given):
        """What values the loss, and its arguments."""
        if self.holds_stops:
            return derivatives.held, (values, self.params.values, given)
        return derivatives.value, (values, given)

    def value_through_stops(self, values) -> float:
        """The same, what is stopped moving with the rest: all that the values of a loss can show by themselves."""
        with in_float64():
            return float(self.call(derivatives.value, values, self.given.values))

    @property
    def holds_stops(self) -> bool:
        """Whether there are stops to hold, in a program that can be read in two lanes."""
        return bool(self.stops) and set(self.opaque) <= {"pure_callback", "pallas_call"}

    # ---- witness 3 -------------------------------------------------------------------------------------------------
    def slope(self, direction, values=None) -> float:
        """The derivative along a direction (one array or None a leaf) by forward mode in float64."""
        values = self.params.values if values is None else values
        with in_float64():
            v = [
                np.zeros(np.shape(x), wide(x).dtype) if d is None else d for x, d in zip(values, direction, strict=True)
            ]
            return float(self.call(derivatives.slope, values, self.given.values, v))

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
            return float(jnp.imag(self.call(derivatives.continued, values, self.given.values))) / step

    # ---- on another core ---------------------------------------------------------------------------------------------
    def expect_reverse(self):
        """Begins to compile witness 1."""
        self.program.expect(derivatives.reverse, (self.traced().consts, *self._here(), *_shaking(0, 0.0)))

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

"""A function that carries a custom rule, at a point: which of its arguments vary, and the losses that question it.

    ⟨c, f(x)⟩                            through the rule its gradient is what the rule makes of the cotangent c
    ⟨c, reference(x)⟩                    the same of another function with f's signature, in place of f without its rule
    ⟨stop_gradient(intended(x, c)), x⟩   its gradient is what `intended` says, here and wherever it is asked

The last one needs no machinery of its own. Its derivative does not pass through the stop, so it is intended(x, c) in
every reading of the program: in float64, at inputs one rounding away, a hair away, along a direction; and the values of
the loss, read with what is stopped held (see program/readings.py), are linear in x with just that slope.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.verify.errors import RefusedError, UnreadableError, call_user
from jaxnet.verify.journal import first_line
from jaxnet.verify.problem.arguments import argument_names, positions
from jaxnet.verify.problem.gradient import bits_differ
from jaxnet.verify.problem.loss import Problem, direction, value_of
from jaxnet.verify.problem.trees import (
    Tree,
    first_difference,
    gradient_leaves,
    is_array,
    is_inexact,
    kind,
    take_apart,
    wide,
)
from jaxnet.verify.program.cache import quick
from jaxnet.verify.program.interpreter import read_at
from jaxnet.verify.program.readings import felt
from jaxnet.verify.program.rule_calls import HeldArgument, RuleCall, calls_of_rules
from jaxnet.verify.program.rules import rules_that_stay


@dataclass(frozen=True, eq=False)
class Ruled:
    """f(*primals, **kwargs) as a function of the floating leaves of the chosen primals.

    argnums   the primals that vary; by default all that hold a floating leaf and are not `held`
    refused   primals that the rule does not take for ones that vary, and why
    """

    f: Callable
    primals: tuple
    argnums: Any = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    has_aux: bool = False
    refused: Mapping[int, str] = field(default_factory=dict)

    # ---- its arguments -----------------------------------------------------------------------------------------------
    @functools.cached_property
    def held(self) -> dict[int, Any]:
        """Primals that are never handed to JAX: what the rule declares (nondiff_argnums), what holds no number."""
        declared = _never_differentiated(self.f)
        return {i: p for i, p in enumerate(self.primals) if i in declared or not _holds_numbers(p)}

    @functools.cached_property
    def free(self) -> list[int]:
        """The positions of the others."""
        return [i for i in range(len(self.primals)) if i not in self.held]

    @functools.cached_property
    def given(self) -> tuple:
        """The others, of which `chosen` vary."""
        return tuple(self.primals[i] for i in self.free)

    @functools.cached_property
    def chosen(self) -> int | tuple[int, ...]:
        """argnums, counted among `given`. Raises TypeError where nothing varies, ValueError for impossible argnums."""
        if self.argnums is None:
            found = tuple(k for k, primal in enumerate(self.given) if _floats(primal))
            if not found:
                raise RefusedError("check_vjp needs at least one primal with a floating leaf.")
            return found
        counted = positions(self.argnums, len(self.primals), f"f was given {len(self.primals)} primals")
        for i in (counted,) if isinstance(counted, int) else counted:
            if i in self.held:
                raise ValueError(f"argnums={i}: the rule never differentiates this argument, it is held as it is.")
        return self.free.index(counted) if isinstance(counted, int) else tuple(map(self.free.index, counted))

    @property
    def varied(self) -> tuple[int, ...]:
        """The same, as a tuple also where argnums are one integer."""
        return (self.chosen,) if isinstance(self.chosen, int) else self.chosen

    def complete(self, given) -> list:
        """The primals, with the held ones in their places."""
        rest = iter(given)
        return [self.held[i] if i in self.held else next(rest) for i in range(len(self.primals))]

    def varying(self, given) -> Tree:
        """What varies of these arguments, as check_gradients has it, under the names that f has for them."""
        one, names = isinstance(self.chosen, int), [self.name(self.free[k]) for k in self.varied]
        tree = take_apart(given[self.chosen] if one else tuple(given[k] for k in self.varied), is_inexact)
        return tree if self.called is None else tree.called_by(names[0] if one else names)

    @functools.cached_property
    def tree(self) -> Tree:
        """What varies at the point."""
        return self.varying(self.given)

    def arguments(self, values, given=None) -> list:
        """The arguments with these values of what varies."""
        given = self.given if given is None else given
        varied = self.varying(given).rebuilt(values)
        parts = dict(zip(self.varied, (varied,) if isinstance(self.chosen, int) else varied, strict=True))
        return [parts.get(k, x) for k, x in enumerate(given)]

    # ---- what they are called ----------------------------------------------------------------------------------------
    @functools.cached_property
    def called(self) -> tuple[str, ...] | None:
        """What f calls its arguments; None where it has no signature."""
        return argument_names(self.f, self.primals, self.kwargs)

    def name(self, i: int) -> str:
        """What a reader calls primal i."""
        return f"argument {i}" if self.called is None else self.called[i]

    @property
    def names(self) -> tuple[str, ...] | None:
        """What a reader calls each of (*given, c); None where f has no signature."""
        return None if self.called is None else (*(self.called[i] for i in self.free), "the cotangent")

    # ---- its outputs -------------------------------------------------------------------------------------------------
    def call(self, function, given):
        """What f, or a function of its signature, returns; its auxiliary output dropped."""
        out = call_user(functools.partial(function, **self.kwargs), *self.complete(given))
        return value_of(out, self.has_aux, "f")

    def outputs(self, values, function=None) -> list:
        """The leaves of the output of f, or of another function, at values of what varies."""
        return [jnp.asarray(out) for out in _leaves(self.call(function or self.f, self.arguments(values)))]

    @functools.cached_property
    def output(self):
        """Shape and dtype of each output, in the tree that f returns."""
        arrays = lambda values: jax.tree_util.tree_map(jnp.asarray, self.call(self.f, self.arguments(values)))
        return jax.eval_shape(arrays, self.tree.values)

    @property
    def shapes(self) -> list:
        """Shape and dtype of each output."""
        return _leaves(self.output)

    @property
    def floating(self) -> list[int]:
        """The outputs that get a cotangent."""
        return [i for i, s in enumerate(self.shapes) if jnp.issubdtype(s.dtype, jnp.inexact)]

    def cotangent(self, rng: np.random.Generator) -> list:
        """A random cotangent for each floating output."""
        return [_drawn(rng, self.shapes[i]) for i in self.floating]

    @property
    def _no_cotangent(self) -> list:
        """A cotangent of zeros."""
        return [np.zeros(self.shapes[i].shape, self.shapes[i].dtype) for i in self.floating]

    def _complete_cotangent(self, cotangent) -> list:
        """A cotangent for each output, as JAX hands it to a rule: none, of JAX's own kind, for what is not floating."""
        rest = iter(cotangent)
        return [
            jnp.asarray(next(rest)) if i in self.floating else np.zeros(s.shape, jax.dtypes.float0)
            for i, s in enumerate(self.shapes)
        ]

    # ---- the losses ------------------------------------------------------------------------------------------------
    def problem(self, loss, cotangent) -> Problem:
        """One of these losses, at the point and a cotangent."""
        arguments = self.given[0], (*self.given[1:], cotangent)
        return Problem.of(loss, *arguments, self.chosen, False, self.names, "f")

    def paired(self, function) -> Callable:
        """⟨c, function(x)⟩, a loss of (*given, c)."""

        def loss(*arguments):
            *given, cotangent = arguments
            outs = _leaves(self.call(function, given))
            floating = [outs[i] for i in self.floating]
            seen, expected = list(map(jnp.shape, floating)), list(map(np.shape, cotangent))
            if seen != expected:
                raise UnreadableError(
                    f"f returns {seen} where it is differentiated, and {expected} by itself: the fwd of a custom_vjp, "
                    "or the first result of a jvp, has to have the shapes of f"
                )
            return inner(cotangent, floating)

        return loss

    def rule(self, *arguments):
        """What the rule makes of the cotangent, as a gradient function of (*given, c)."""
        *given, cotangent = arguments
        tree, loss = self.varying(given), self.paired(self.f)
        return tree.rebuilt(jax.grad(lambda values: loss(*self.arguments(values, given), cotangent))(tree.values))

    def stated(self, intended) -> Callable:
        """⟨stop_gradient(intended(x, c)), x⟩, a loss of (*given, c) whose gradient is what `intended` says."""

        def loss(*arguments):
            *given, cotangent = arguments
            pairs = zip(self.meant(intended, given, cotangent), self.varying(given).values, strict=True)
            said = [(lax.stop_gradient(g), jnp.asarray(x)) for g, x in pairs if g is not None]
            return inner([g for g, _ in said], [x for _, x in said])

        return loss

    def meant(self, intended, given, cotangent) -> list:
        """What `intended` says for each leaf that varies; raises TypeError where it is not of their tree and shapes."""
        structure = jax.tree_util.tree_structure(self.output)
        whole = jax.tree_util.tree_unflatten(structure, self._complete_cotangent(cotangent))
        said = call_user(functools.partial(intended, **self.kwargs), *self.complete(given), whole)
        tree = self.varying(given)
        if isinstance(self.chosen, tuple) and len(self.chosen) == 1 and first_difference(tree, said) is not None:
            said = (said,)  # for one primal its own tree will do
        difference = first_difference(tree, said)
        if difference is not None:
            raise RefusedError(
                f"intended= has to return the cotangents of the primals that vary, {', '.join(tree.names)}, as a tuple "
                f"of trees like theirs: {difference}."
            )
        found = [None if g is None else jnp.asarray(g) for g in gradient_leaves(tree, said)]
        for name, g, x in zip(tree.names, found, tree.values, strict=True):
            if g is not None and g.shape != np.shape(x):
                raise RefusedError(f"intended= returns shape {g.shape} for {name}; expected {np.shape(x)}, as it has.")
        return found

    def pulled(self, cotangents, values=None) -> list[list]:
        """What the rule makes of each list of cotangents (one for each floating output), a gradient a varying leaf."""
        _, pull = jax.vjp(self.outputs, self.tree.values if values is None else values)
        return [pull(self._complete_cotangent(given))[0] for given in cotangents]

    # ---- what does not fit -------------------------------------------------------------------------------------------
    def require_traceable(self, intended):
        """Raises TypeError where JAX cannot trace what `intended` does."""
        stated = self.stated(intended)
        try:
            jax.eval_shape(lambda values: stated(*self.arguments(values), self._no_cotangent), self.tree.values)
        except RefusedError:
            raise
        except Exception as error:  # whatever the function raises
            names = ", ".join(map(self.name, range(len(self.primals))))
            raise RefusedError(
                f"intended= cannot be traced ({first_line(error)}): it is called with {names} and the cotangent, and "
                "has to be written in jax.numpy."
            ) from error

    def require_like(self, reference):
        """Raises TypeError where a reference returns outputs of other shapes than f."""
        theirs = jax.eval_shape(lambda values: self.outputs(values, reference), self.tree.values)
        if [s.shape for s in theirs] != [s.shape for s in self.shapes]:
            shapes = [", ".join(str(s.shape) for s in some) for some in (theirs, self.shapes)]
            raise RefusedError(f"reference= returns outputs of shapes {shapes[0]}; f returns {shapes[1]}.")

    def without_refused(self) -> "Ruled":
        """The same, with the primals that the rule refuses to differentiate left out.

        Raises ValueError where argnums ask for one of them, TypeError where f returns nothing that could be
        differentiated. A rule that raises for every primal is left as it is: that is for the check to meet.
        """
        if not self.floating:
            raise RefusedError("check_vjp needs a function with a floating output; f returns none.")
        if self._refusal(self.varied) is None:
            return self
        refusals = {k: self._refusal((k,)) for k, primal in enumerate(self.given) if _floats(primal)}
        taken = [k for k, error in refusals.items() if error is None]
        if not taken or self._refusal(taken) is not None:
            return self
        refused = {self.free[k]: first_line(error) for k, error in refusals.items() if error is not None}
        argnums = tuple(self.free[k] for k in taken)
        if self.argnums is None:
            return replace(self, argnums=argnums, refused=refused)
        names = ", ".join(f"{self.name(i)} ({why})" for i, why in refused.items())
        instead = argnums if len(taken) > 1 else argnums[0]
        raise ValueError(
            f"argnums={self.argnums}: f refuses to be differentiated for {names}; argnums={instead} would do."
        )

    def _refusal(self, among_given) -> Exception | None:
        """What differentiating f for some of `given` raises, seen without running it."""
        there = replace(self, argnums=tuple(self.free[k] for k in among_given))
        try:
            jax.eval_shape(lambda values: there.pulled([self._no_cotangent], values), there.tree.values)
        except Exception as error:  # whatever the rule raises
            return error
        return None

    # ---- what is not looked at -------------------------------------------------------------------------------------
    @property
    def skipped(self) -> dict[str, str]:
        """What is held and what is left out, and of which kind it is."""
        found = {self.name(i): kind(p) for i, p in self.held.items()}
        found |= {self.name(i): f"left out: {why}" for i, why in self.refused.items()}
        for i in self.free:
            tree = take_apart(self.primals[i], is_inexact)
            found |= {} if tree.chosen else {self.name(i) + path: text for path, text in tree.skipped.items()}
        for name, value in self.kwargs.items():
            tree = take_apart(value, is_inexact)
            told = dict.fromkeys(tree.names, "floating, held as a keyword argument: its gradient was not looked at")
            found |= {name + path: text for path, text in (tree.skipped | told).items()}
        return found

    @functools.cached_property
    def _traced(self):
        """f as a program of floating arrays, which of them vary, and the arrays: the varying leaves come first."""
        others = tuple(None if k in self.varied else primal for k, primal in enumerate(self.given))
        fixed = take_apart(others, lambda leaf: is_array(leaf) and is_inexact(leaf))

        def outputs(values, others):
            rest = fixed.rebuilt(others)
            given = [x if k in self.varied else rest[k] for k, x in enumerate(self.given)]
            return [jnp.asarray(out) for out in _leaves(self.call(self.f, self.arguments(values, given)))]

        varies = [True] * len(self.tree.values)
        try:
            trace = jax.make_jaxpr(outputs)(self.tree.values, fixed.values)
            return trace, [*varies, *[False] * len(fixed.values)], [*self.tree.values, *fixed.values]
        except Exception:  # an argument that f only takes as it is
            return jax.make_jaxpr(self.outputs)(self.tree.values), varies, self.tree.values

    @functools.cached_property
    def rules(self) -> tuple[str, ...]:
        """The names of the custom rules through which what varies passes."""
        trace, varies, _ = self._traced
        calls = [call.rule for call in calls_of_rules(trace, varies)]
        return tuple(dict.fromkeys([*calls, *rules_that_stay(trace)]))

    def idle(self, rng: np.random.Generator) -> list[str]:
        """The names of the rules that have no part in the derivative at the point.

        They stand in a branch that is not taken, are multiplied by 0, or their outputs are dropped.
        """
        trace, varies, inputs = self._traced
        names = list(dict.fromkeys(call.rule for call in calls_of_rules(trace, varies)))
        cotangent = self.cotangent(rng)
        v = [jnp.asarray(direction(rng, wide(x)), jnp.result_type(x)) for x in self.tree.values]

        @functools.partial(jax.jit, compiler_options=quick())
        def slope(values, strength):
            held = inputs[len(values) :]
            outs = lambda x: read_at(trace.jaxpr, trace.consts, [*x, *held], felt(strength))
            moved = jax.jvp(outs, (list(map(jnp.asarray, values)),), (v,))[1]
            return inner(cotangent, [moved[i] for i in self.floating])

        at = lambda strength: slope(self.tree.values, strength)
        whole = dict.fromkeys(names, 1.0)
        return [name for name in names if not bits_differ(at(whole), at(whole | {name: 0.0}))]

    @property
    def unseen(self) -> list[str]:
        """In a sentence each, the arguments of these rules that no primal reaches."""
        trace, varies, _ = self._traced
        calls = [call for call in calls_of_rules(trace, [True] * len(varies)) if call.rule in self.rules]
        return list(dict.fromkeys(_unseen(call, held) for call in calls for held in call.held))


def _unseen(call: RuleCall, held: HeldArgument) -> str:
    """That the rule's gradient for an argument was not looked at."""
    shape = "x".join(map(str, held.shape)) or "a number"
    return (
        f"{f'{held.name} of ' if held.name else ''}{call.rule}: the rule's gradient for its argument {held.position} "
        f"({shape}) was not looked at: it is held by f; hand it over as a primal"
    )


def inner(weights, outs):
    """Re Σ w x over arrays, in float32 or more: a large sum would overflow in float16 and round away in bfloat16."""
    terms = [jnp.sum(jnp.real(_at_least_float32(w) * _at_least_float32(x))) for w, x in zip(weights, outs, strict=True)]
    total = terms[0] if terms else jnp.zeros(())
    for term in terms[1:]:
        total = total + term.astype(total.dtype)
    return total


def _at_least_float32(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _drawn(rng, shape):
    sample = rng.standard_normal(shape.shape)
    if jnp.issubdtype(shape.dtype, jnp.complexfloating):
        sample = sample + 1j * rng.standard_normal(shape.shape)
    return np.asarray(sample, shape.dtype)


def _never_differentiated(f) -> set[int]:
    """The nondiff_argnums of a custom_vjp or custom_jvp, some of whose first arguments a partial has filled in."""
    if isinstance(f, functools.partial):
        return {i - len(f.args) for i in _never_differentiated(f.func) if i >= len(f.args)}
    return set(getattr(f, "nondiff_argnums", ()))


def _holds_numbers(primal) -> bool:
    """Whether there is anything in a primal that JAX could take."""
    return any(is_array(leaf) or isinstance(leaf, (int, float, complex)) for leaf in _leaves(primal))


def _floats(primal) -> bool:
    """Whether a primal has a leaf that may vary."""
    return any(map(is_inexact, _leaves(primal)))


_leaves = jax.tree_util.tree_leaves

"""Running the gradient under test: eagerly and twice, jitted, batched by vmap, on copies of the inputs.

The caller's arrays are never handed over: a function that writes into its inputs, or donates them, works on copies and
what it did to them is seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.errors import DeliberateError, RefusedError, call_user, note
from jaxnet.verify.problem.formula import Formula
from jaxnet.verify.problem.loss import Problem
from jaxnet.verify.problem.trees import called, first_difference, gradient_leaves, more_than_asked
from jaxnet.verify.program.cache import program_of, quick
from jaxnet.verify.program.dataflow import dependent
from jaxnet.verify.program.jaxprs import ClosedJaxpr
from jaxnet.verify.program.rules import readable
from jaxnet.verify.program.transforms import as_it_is

PLAIN = (jax.tree_util.DictKey, jax.tree_util.SequenceKey)  # of containers that keep no state by convention


@dataclass(frozen=True)
class Run:
    """One variant's result: the leaves as host arrays, or none and why it did not run; what it changed in place."""

    variant: str
    leaves: tuple = ()
    refused: str | None = None
    mutated: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Manual:
    """The gradient under test, at the problem's point."""

    problem: Problem
    grad_fn: Callable
    seed: int = 0

    @cached_property
    def formula(self) -> Formula:
        """It as a formula, traced once."""
        return Formula(self.problem, self.trace(), self.seed)

    def leaves(self, values, given) -> list:
        """The gradient's leaves in the order of the problem's; raises ValueError where the trees differ."""
        return self._called(self.problem.arguments(values, given))

    def _called(self, arguments) -> list:
        try:
            gradient = call_user(self.grad_fn, *arguments)
        except jax.errors.UnexpectedTracerError as error:
            raise RefusedError(
                "grad_fn was given a value that was kept while something else was traced, such as a forward pass that "
                "stores its activations: compute them in grad_fn, or hand them over as arguments."
            ) from error
        difference = first_difference(self.problem.params, gradient)
        if difference is not None:
            raise DifferentTreeError(difference + more_than_asked(self.problem.params, gradient))
        found = gradient_leaves(self.problem.params, gradient)
        for path, leaf in zip(self.problem.params.names, found, strict=True):
            if isinstance(leaf, str) or callable(leaf):
                raise DifferentTreeError(f"the gradient's leaf {called(path)} is {type(leaf).__name__}, not an array")
        return found

    def eager(self, values=None, given=None) -> Run:
        """Called as it is."""
        values = _copies(self.problem.params.values if values is None else values)
        given = _copies(self.problem.given.values if given is None else given)
        before = [np.copy(x) if isinstance(x, np.ndarray) else None for x in [*values, *given]]
        arguments = self.problem.arguments(values, given)
        before_the_call = self._places(arguments)
        found = tuple(_host(leaf) for leaf in self._called(arguments))
        names = [*self.problem.params.names, *self.problem.given.names]
        changed = [
            called(name)
            for name, x, kept in zip(names, [*values, *given], before, strict=True)
            if kept is not None and not _same(x, kept)
        ]
        after = self._places(arguments)
        paths = {**before_the_call, **after}
        replaced = [path for path in paths if after.get(path) is not before_the_call.get(path)]
        changed += [called(self.problem.label(path)) for path in replaced]
        return Run("eager", found, mutated=tuple(changed))

    @staticmethod
    def _places(arguments) -> dict:
        """What stands at each path of the arguments through dicts and lists; a plain function leaves them alone."""
        once, again = (jax.tree_util.tree_flatten_with_path(arguments)[0] for _ in range(2))
        return {
            jax.tree_util.keystr(path): leaf
            for (path, leaf), (_, same) in zip(once, again, strict=True)
            if leaf is same and all(isinstance(key, PLAIN) for key in path)  # same: not made anew by taking apart
        }

    def elsewhere(self, given) -> Run:
        """Called with other fixed arrays: where their shapes are new, compiled whole if that is possible.

        (Eagerly, each operation would be compiled by itself: half a second for a small network.)
        """
        if [np.shape(x) for x in given] != [np.shape(x) for x in self.problem.given.values]:
            whole = jax.jit(self.leaves, compiler_options=quick())
            run = self._compiled("elsewhere", whole, self.problem.params.values, given)
            if not run.refused:
                return run
        return self.eager(given=given)

    def jitted(self) -> Run:
        """Called under jit; refused when it cannot be traced."""
        return self._compiled("jit", self._jit, self.problem.params.values, self.problem.given.values)

    def _jit(self, values, given) -> list:
        """The trace compiled, by an earlier check of an equal gradient perhaps; failing that, what jit raises."""
        closed = self.trace()
        if closed is None:
            return jax.jit(self.leaves)(values, given)
        run = program_of(closed).compiled(as_it_is)
        found = iter(run(closed.consts, [*values, *given]))
        return [next(found) if there else None for there in self._trace[1]]

    def vmapped(self) -> Run:
        """Called under vmap over two copies of the leaves, of which the second is reported."""

        def twice(values, given):
            return jax.vmap(self.leaves, in_axes=(0, None))(
                [jnp.stack([v, v]) for v in map(jnp.asarray, values)], given
            )

        run = self._compiled("vmap", twice, self.problem.params.values, self.problem.given.values)
        return replace(run, leaves=tuple(None if leaf is None else leaf[1] for leaf in run.leaves))

    def _compiled(self, variant, function, values, given) -> Run:
        try:
            found = function(self.problem.own(_copies(values)), _copies(given))
            return Run(variant, tuple(map(_host, found)))
        except DifferentTreeError:
            raise
        except Exception as error:  # whatever a function that cannot be traced raises
            note(self.problem.journal, error, f"the {variant} variant")
            return Run(variant, refused=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:100]}")

    def is_constant(self, moved: list[np.ndarray]) -> bool:
        """Whether it gives the same at other parameters: it holds numbers, or keeps its first answer."""
        closed = self.trace()
        if closed is not None:
            return not any(dependent(closed, len(moved)))
        here, there = self.eager().leaves, self.eager(moved).leaves
        return not any(one is not None and bits_differ(one, other) for one, other in zip(here, there, strict=True))

    def trace(self) -> ClosedJaxpr | None:
        """The gradient as a closed jaxpr, or None where it cannot be traced."""
        return self._trace[0]

    @cached_property
    def _trace(self) -> tuple[ClosedJaxpr | None, tuple[bool, ...]]:
        """The same, taken once, and which leaves it gives: a missing one is none of its outputs."""
        try:
            own = self.problem.own(self.problem.params.values)
            closed, shapes = jax.make_jaxpr(self.leaves, return_shape=True)(own, self.problem.given.values)
            return readable(closed), tuple(leaf is not None for leaf in shapes)
        except Exception as error:  # as in _compiled
            note(self.problem.journal, error, "tracing the gradient")
            return None, ()


class DifferentTreeError(DeliberateError, ValueError):
    """The gradient's tree is not that of the parameters."""


def bits_differ(first, second) -> bool:
    """Whether two leaves differ in any bit; NaNs of equal place are equal."""
    return not _same(np.asarray(first), np.asarray(second))


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def _copies(leaves) -> list:
    """Copies in the same places; device_put because jnp.copy would be compiled for each shape."""
    return [
        jax.device_put(x, may_alias=False)
        if isinstance(x, jax.Array)
        else np.copy(x)
        if isinstance(x, np.ndarray)
        else x
        for x in leaves
    ]


def _host(leaf):
    """As a host array of its own: a gradient may write its next answer into the array that it returned."""
    return None if leaf is None else np.array(leaf) if isinstance(leaf, np.ndarray) else np.asarray(leaf)

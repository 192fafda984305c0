"""A function that carries a custom rule, at a point: which of its arguments vary and which are held as they are."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.options import positions
from jaxnet.verify.tree import Tree, is_array, is_inexact, kind, take_apart
from jaxnet.verify.trouble import RefusedError


class Ruled:
    """f(*primals) as a function of the floating leaves of the chosen primals.

    Held, and never handed to JAX: what the rule declares (nondiff_argnums), and what holds no number (a string, a
    function). `given` are the other primals, `argnums` the chosen ones among them.
    """

    def __init__(self, f, primals, argnums):
        """Nothing is run yet. Raises TypeError where nothing is left to vary, ValueError for impossible argnums."""
        declared = _never_differentiated(f)
        self.f, self.count = f, len(primals)
        self.held = {i: p for i, p in enumerate(primals) if i in declared or not _holds_numbers(p)}
        free = [i for i in range(self.count) if i not in self.held]
        self.given = tuple(primals[i] for i in free)
        if argnums is None:
            self.argnums = tuple(k for k, p in enumerate(self.given) if any(map(is_inexact, _leaves(p))))
        else:
            self.argnums = self._among(free, positions(argnums, self.count, f"f was given {self.count} primals"))
        if self.argnums == ():
            raise RefusedError("check_vjp needs at least one primal with a floating leaf.")
        self.tree = self.varying(self.given)

    def _among(self, free, argnums) -> Any:
        """The user's argnums, counted among the primals that are not held."""
        if not isinstance(argnums, int):
            return tuple(self._among(free, i) for i in argnums)
        if argnums in self.held:
            raise ValueError(f"argnums={argnums}: the rule never differentiates this argument, it is held as it is.")
        return free.index(argnums)

    def __call__(self, *given):
        """f with the held arguments in their places."""
        rest = iter(given)
        return self.f(*[self.held[i] if i in self.held else next(rest) for i in range(self.count)])

    def varying(self, given) -> Tree:
        """What varies of these arguments, as check_gradients has it."""
        chosen = self.argnums
        return take_apart(given[chosen] if isinstance(chosen, int) else tuple(given[i] for i in chosen), is_inexact)

    def arguments(self, varied, given) -> list:
        """These arguments with the chosen ones replaced."""
        one = isinstance(self.argnums, int)
        parts = {self.argnums: varied} if one else dict(zip(self.argnums, varied, strict=True))
        return [parts.get(i, x) for i, x in enumerate(given)]

    def outputs(self, values) -> list:
        """The leaves of f's output, at values of what varies."""
        outs = self(*self.arguments(self.tree.rebuilt(values), self.given))
        return [jnp.asarray(out) for out in jax.tree_util.tree_leaves(outs)]

    @functools.cached_property
    def shapes(self) -> list:
        """Shape and dtype of each output."""
        return jax.eval_shape(self.outputs, self.tree.values)

    @property
    def floating(self) -> list[int]:
        """The outputs that get a cotangent."""
        return [i for i, s in enumerate(self.shapes) if jnp.issubdtype(s.dtype, jnp.inexact)]

    def pulled(self, cotangents) -> list[list]:
        """What the rule makes of each list of cotangents (one for each floating output), a gradient a varying leaf."""
        outs, pull = jax.vjp(self.outputs, self.tree.values)
        found = []
        for given in cotangents:
            rest = iter(given)
            full = [
                jnp.asarray(next(rest)) if i in self.floating else np.zeros(o.shape, jax.dtypes.float0)
                for i, o in enumerate(outs)
            ]
            found.append(pull(full)[0])
        return found

    @property
    def skipped(self) -> dict[str, str]:
        """Position and kind of what is held."""
        return {f"argument {i}": kind(p) for i, p in self.held.items()}


def _never_differentiated(f) -> set[int]:
    """The nondiff_argnums of a custom_vjp or custom_jvp, some of whose first arguments a partial has filled in."""
    if isinstance(f, functools.partial):
        return {i - len(f.args) for i in _never_differentiated(f.func) if i >= len(f.args)}
    return set(getattr(f, "nondiff_argnums", ()))


def _holds_numbers(primal) -> bool:
    """Whether there is anything in a primal that JAX could take."""
    return any(is_array(leaf) or isinstance(leaf, (int, float, complex)) for leaf in _leaves(primal))


_leaves = jax.tree_util.tree_leaves

"""Trees of anything: which leaves have a gradient, what they are called, and how to put them back.

A leaf is differentiable when it is a real or complex floating array (or a Python float among the parameters). None,
integers, booleans, PRNG keys, strings and functions pass through untouched and are listed as skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_array(leaf) -> bool:
    """Whether a leaf is an array of JAX or NumPy."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def is_inexact(leaf) -> bool:
    """Whether a leaf can have a gradient: floating or complex numbers."""
    if isinstance(leaf, (float, complex)):
        return True
    return is_array(leaf) and (
        jnp.issubdtype(leaf.dtype, jnp.floating) or jnp.issubdtype(leaf.dtype, jnp.complexfloating)
    )


def kind(leaf) -> str:
    """A leaf in a word, for the list of skipped ones."""
    if leaf is None:
        return "None"
    return str(leaf.dtype) if is_array(leaf) else type(leaf).__name__


@dataclass(frozen=True)
class Tree:
    """A pytree taken apart. `chosen` are the positions of the leaves that vary, the rest is fixed.

    paths   where each leaf stands in the tree; labels: what a reader calls it, which is its path unless arguments have
            names
    """

    paths: tuple[str, ...]
    leaves: tuple[Any, ...]
    structure: Any
    chosen: tuple[int, ...]
    labels: tuple[str, ...]

    @property
    def values(self) -> list:
        """The leaves that vary."""
        return [self.leaves[i] for i in self.chosen]

    @property
    def names(self) -> list[str]:
        """What a reader calls the leaves that vary."""
        return [self.labels[i] for i in self.chosen]

    @property
    def places(self) -> list[str]:
        """The paths of the leaves that vary."""
        return [self.paths[i] for i in self.chosen]

    def called_by(self, names: str | Sequence[str]) -> "Tree":
        """The tree under the name of an argument, or that of a tuple of arguments under the names of each."""
        if isinstance(names, str):
            return replace(self, labels=tuple(names + path for path in self.paths))
        return replace(self, labels=tuple(below(path, names) for path in self.paths))

    def holding(self, values) -> "Tree":
        """The same with `values` in place of the leaves that vary."""
        leaves = list(self.leaves)
        for i, value in zip(self.chosen, values, strict=True):
            leaves[i] = value
        return replace(self, leaves=tuple(leaves))

    def rebuilt(self, values):
        """The pytree with `values` in place of the leaves that vary."""
        return jax.tree_util.tree_unflatten(self.structure, self.holding(values).leaves)

    @property
    def skipped(self) -> dict[str, str]:
        """Name and kind of the leaves that don't vary."""
        fixed = set(range(len(self.leaves))) - set(self.chosen)
        return {self.labels[i]: kind(self.leaves[i]) for i in sorted(fixed)}


def take_apart(tree, choose) -> Tree:
    """`tree` as a Tree whose varying leaves are those for which `choose(leaf)` holds; None counts as a leaf."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    paths = tuple(jax.tree_util.keystr(path) for path, _ in pairs)
    leaves = tuple(leaf for _, leaf in pairs)
    chosen = tuple(i for i, leaf in enumerate(leaves) if choose(leaf))
    return Tree(paths, leaves, structure, chosen, paths)


def below(path: str, names: Sequence[str]) -> str:
    """A path into a tuple, with the name of the element in place of its position."""
    position, _, rest = path.removeprefix("[").partition("]")
    return names[int(position)] + rest


def first_difference(params: Tree, gradient) -> str | None:
    """Where the tree of the gradient departs from that of the parameters, in words; None if it doesn't.

    A gradient may leave out, or have None or anything else for, leaves that are not differentiable.
    """
    theirs = take_apart(gradient, lambda leaf: True)
    ours, found = list(params.paths), list(theirs.paths)
    if theirs.structure == params.structure or ours == found:
        return None
    needed = set(params.places)
    for path in params.places:
        if path not in found:
            return f"the gradient has no leaf {called(path)}; it has {', '.join(map(called, found[:6])) or 'none'}"
    for path in found:
        if path not in ours:
            return f"the gradient has a leaf {called(path)} that the parameters have not"
    order = [path for path in found if path in needed]
    return None if order == params.places else f"the gradient's leaves come in another order: {', '.join(order[:6])}"


def more_than_asked(params: Tree, gradient) -> str:
    """A hint at the mend where the gradient is one of a pair; otherwise empty."""
    if not isinstance(gradient, tuple) or len(gradient) != 2:
        return ""
    first, second = (first_difference(params, part) is None for part in gradient)
    if second:
        return (
            ". grad_fn returns (value, gradient), as jax.value_and_grad does; the gradient alone is expected: "
            "lambda *a: grad_fn(*a)[1]"
        )
    if first:
        return (
            ". grad_fn returns (gradient, aux), as jax.grad(..., has_aux=True) does; the gradient alone is expected: "
            "lambda *a: grad_fn(*a)[0]"
        )
    return ""


def gradient_leaves(params: Tree, gradient) -> list:
    """The gradient's leaves in the order of the parameters' varying leaves."""
    theirs = take_apart(gradient, lambda leaf: True)
    by_path = dict(zip(theirs.paths, theirs.leaves, strict=True))
    return [by_path[path] for path in params.places]


def called(path: str) -> str:
    """A path for the reader: a tree that is a single leaf has the empty path."""
    return path or "params"


def wide(leaf) -> np.ndarray:
    """A leaf on the host in float64 or complex128, to be read only: it is the leaf itself if that is so already."""
    array = np.asarray(leaf)
    return array.astype(_wide_dtype(array.dtype), copy=False)


def wide_shape(leaf) -> jax.ShapeDtypeStruct:
    """What `wide` gives, for a compiler: no numbers, and nothing copied."""
    return jax.ShapeDtypeStruct(np.shape(leaf), _wide_dtype(jnp.result_type(leaf)))


def _wide_dtype(dtype):
    return np.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else np.float64


def sample(x) -> np.ndarray:
    """At most a thousand entries, evenly spread."""
    flat = np.ravel(x)
    return flat[:: max(1, flat.size // 1000) | 1]

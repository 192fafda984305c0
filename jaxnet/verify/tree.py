"""Trees of anything: which leaves have a gradient, what they are called, and how to put them back.

A leaf is differentiable when it is a real or complex floating array (or a Python float among the parameters). None,
integers, booleans, PRNG keys, strings and functions pass through untouched and are listed as skipped.
"""

from dataclasses import dataclass
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
    """A pytree taken apart. `chosen` are the positions of the leaves that vary, the rest is fixed."""

    paths: tuple[str, ...]
    leaves: tuple[Any, ...]
    structure: Any
    chosen: tuple[int, ...]

    @property
    def values(self) -> list:
        """The leaves that vary."""
        return [self.leaves[i] for i in self.chosen]

    @property
    def names(self) -> list[str]:
        """The paths of the leaves that vary."""
        return [self.paths[i] for i in self.chosen]

    def rebuilt(self, values):
        """The tree with `values` in place of the leaves that vary."""
        leaves = list(self.leaves)
        for i, value in zip(self.chosen, values, strict=True):
            leaves[i] = value
        return jax.tree_util.tree_unflatten(self.structure, leaves)

    @property
    def skipped(self) -> dict[str, str]:
        """Path and kind of the leaves that don't vary."""
        fixed = set(range(len(self.leaves))) - set(self.chosen)
        return {self.paths[i]: kind(self.leaves[i]) for i in sorted(fixed)}


def take_apart(tree, choose) -> Tree:
    """`tree` as a Tree whose varying leaves are those for which `choose(leaf)` holds; None counts as a leaf."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    paths = tuple(jax.tree_util.keystr(path) for path, _ in pairs)
    leaves = tuple(leaf for _, leaf in pairs)
    chosen = tuple(i for i, leaf in enumerate(leaves) if choose(leaf))
    return Tree(paths, leaves, structure, chosen)


def first_difference(params: Tree, gradient) -> str | None:
    """Where the tree of the gradient departs from that of the parameters, in words; None if it doesn't.

    A gradient may leave out, or have None or anything else for, leaves that are not differentiable.
    """
    theirs = take_apart(gradient, lambda leaf: True)
    ours, found = list(params.paths), list(theirs.paths)
    if theirs.structure == params.structure or ours == found:
        return None
    needed = set(params.names)
    for path in params.names:
        if path not in found:
            return f"the gradient has no leaf {called(path)}; it has {', '.join(map(called, found[:6])) or 'none'}"
    for path in found:
        if path not in ours:
            return f"the gradient has a leaf {called(path)} that the parameters have not"
    order = [path for path in found if path in needed]
    return None if order == params.names else f"the gradient's leaves come in another order: {', '.join(order[:6])}"


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
    return [by_path[path] for path in params.names]


def frozen(trainable, params: Tree) -> list[bool]:
    """Which varying leaves `trainable` excludes: a prefix tree of booleans, a list of paths, or a function of a path.

    Raises ValueError where it names what is no leaf, or says nothing of one.
    """
    names = ", ".join(map(called, params.names))
    if trainable is None:
        return [False] * len(params.names)
    if callable(trainable):
        return [not trainable(path) for path in params.names]
    if isinstance(trainable, (list, tuple, set)) and all(isinstance(t, str) for t in trainable):
        for prefix in trainable:
            if not any(p.startswith(prefix) for p in params.names):
                raise ValueError(f"trainable names {prefix!r}, but the leaves are {names}.")
        return [not any(path.startswith(t) for t in trainable) for path in params.names]
    tree = take_apart(trainable, lambda leaf: leaf is not None)
    flags = dict(zip(tree.names, tree.values, strict=True))
    mend = "give True or False for each branch of the parameters, a list of paths, or a function of a path"
    for branch, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise ValueError(f"trainable has {flag!r} at {called(branch)}: {mend}.")
        if not any(_lies_in(branch, path) for path in params.paths):
            raise ValueError(f"trainable has a branch {called(branch)}, but the leaves are {names}.")
    for path in params.names:
        if not any(_lies_in(branch, path) for branch in flags):
            said = ", ".join(map(called, flags)) or "nothing"
            raise ValueError(f"trainable says nothing of {called(path)}, only of {said}: {mend}.")
    return [not all(flag for branch, flag in flags.items() if _lies_in(branch, path)) for path in params.names]


def _lies_in(branch: str, path: str) -> bool:
    return path.startswith(branch) and path[len(branch) :][:1] in ("", "[", ".")


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


def unit_roundoff(dtype) -> float:
    """u: half the distance from 1 to the next number of the dtype (2^-24 in float32, 2^-8 in bfloat16)."""
    return float(jnp.finfo(dtype).eps) / 2

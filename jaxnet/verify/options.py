"""The arguments of check_gradients and check_vjp: a message names one, what was given and what was expected."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.errors import RefusedError
from jaxnet.verify.problem.arguments import is_integer, shown
from jaxnet.verify.problem.trees import Tree, called, take_apart

WITNESSES = ("auto", "fast", "full")
VARIANTS = ("eager", "jit", "vmap")
KINKS = ("subgradient", "strict")
ORDERS = (1, 2)
RAISED = {True: ("FAIL", "INCONCLUSIVE"), "inconclusive": ("FAIL", "INCONCLUSIVE"), "fail": ("FAIL",), False: ()}


@dataclass(frozen=True)
class Options:
    """How a gradient is judged, the same for check_gradients and check_vjp; docs stand at check_gradients.

    Raises TypeError or ValueError for an option that is not one.
    """

    witnesses: Any = "auto"
    directions: Any = 5
    variants: Any = ("eager", "jit")
    kinks: Any = "subgradient"
    trainable: Any = None
    accuracy: Any = None
    expected_zero: Any = None
    has_aux: Any = False
    raise_: Any = True
    order: Any = 1

    def __post_init__(self):
        """Refuses what does not fit; what depends on the leaves is looked at when they are known."""
        _require_choice("witnesses", self.witnesses, WITNESSES)
        _require_choice("kinks", self.kinks, KINKS)
        require_count("directions", self.directions)
        variants = self.variants
        if isinstance(variants, str) or not isinstance(variants, (tuple, list, set, frozenset)):
            error = ValueError if isinstance(variants, str) else RefusedError
            raise error(
                f"variants={shown(variants)}: expected a tuple of any of {_listed(VARIANTS)}, such as ('eager',)."
            )
        for variant in variants:
            if not (isinstance(variant, str) and variant in VARIANTS):
                raise ValueError(f"variants={shown(variants)}: expected any of {_listed(VARIANTS)}.")
        if not isinstance(self.has_aux, (bool, np.bool_)):
            raise RefusedError(
                f"has_aux={shown(self.has_aux)}: expected True, where the function returns (value, auxiliary), or "
                "False."
            )
        verdicts_that_raise(self.raise_)
        if not is_integer(self.order) or self.order not in ORDERS:
            error = ValueError if is_integer(self.order) else RefusedError
            raise error(f"order={shown(self.order)}: expected 1, the gradient alone, or 2, its own derivative too.")


def verdicts_that_raise(raise_) -> tuple[str, ...]:
    """The verdicts for which a check raises."""
    choice = bool(raise_) if isinstance(raise_, np.bool_) else raise_
    if not isinstance(choice, (bool, str)) or choice not in RAISED:
        raise ValueError(
            f"raise_={shown(raise_)}: expected True or 'inconclusive' (whatever is not PASS raises), 'fail' (FAIL "
            "alone) or False."
        )
    return RAISED[choice]


def require_function(name: str, function):
    """Raises TypeError for what cannot be called."""
    if not callable(function):
        raise RefusedError(f"{name} is {shown(function)}; expected a function.")


TOLERANCES = ("atol", "eps", "rtol", "tol")  # as other checkers call them


def require_known(checker: Callable, unknown: Mapping, hint: str):
    """Raises TypeError for a keyword argument that the checker has not, with a hint where it would belong."""
    if unknown:
        name, kinds = min(unknown), (inspect.Parameter.KEYWORD_ONLY,)
        known = sorted(p.name for p in inspect.signature(checker).parameters.values() if p.kind in kinds)
        if name in TOLERANCES:
            hint = "The tolerance is derived from rounding; an error that is meant goes into accuracy=."
        raise RefusedError(
            f"{checker.__name__} has no option {name!r}; expected any of {', '.join(known)}. {hint.format(name=name)}"
        )


def require_keywords(kwargs) -> dict[str, Any]:
    """kwargs as a dictionary, empty for None; raises TypeError for what is not one of keyword arguments."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise RefusedError(f"kwargs={shown(kwargs)}: expected a dictionary of keyword arguments of f, or None.")
    return dict(kwargs)


def require_count(name: str, number):
    """Raises TypeError for what is not an integer, ValueError below 1."""
    if not is_integer(number):
        raise RefusedError(f"{name}={shown(number)}: expected an integer of 1 or more.")
    if number < 1:
        raise ValueError(f"{name}={number}: expected 1 or more.")


def seed_of(key) -> int:
    """An integer or PRNG key as a seed for NumPy; raises TypeError for anything else."""
    if key is None:
        return 0
    if isinstance(key, (int, np.integer)):
        return int(key) % 2**31
    dtype: Any = getattr(key, "dtype", None)
    if isinstance(key, jax.Array) and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    elif dtype is None or not jnp.issubdtype(dtype, jnp.integer):
        raise RefusedError(f"key={shown(key)}: expected an integer, a PRNG key such as jax.random.key(0), or None.")
    return int(np.random.SeedSequence([int(k) for k in np.asarray(key).ravel()]).generate_state(1)[0] % 2**31)


# ---- what is said of each leaf ---------------------------------------------------------------------------------------
def excluded(trainable, params: Tree) -> list[bool]:
    """Which varying leaves `trainable` leaves out."""
    return [not flag for flag in _flags("trainable", trainable, params, True)]


def expected_zeros(expected_zero, params: Tree) -> list[bool]:
    """Which varying leaves `expected_zero` names."""
    return _flags("expected_zero", expected_zero, params, False)


def accuracies(accuracy, params: Tree) -> list[float]:
    """The declared accuracy of each varying leaf, relative to its norm; 0 where none is."""
    if accuracy is None:
        return [0.0] * len(params.names)
    found = _by_branches(
        "accuracy", accuracy, params, _is_accuracy, "a number of 0 or more and below 1, or a tree of them"
    )
    return [max(map(float, numbers)) for numbers in found]


def _flags(name: str, given, params: Tree, otherwise: bool) -> list[bool]:
    """Yes or no for each varying leaf: from a prefix tree of booleans, a list of paths, or a function of a path.

    Raises ValueError where it names what is no leaf, or says nothing of one.
    """
    if given is None:
        return [otherwise] * len(params.names)
    if callable(given):
        return [bool(given(path)) for path in params.names]
    if isinstance(given, (list, tuple, set, frozenset)) and all(isinstance(t, str) for t in given):
        for branch in given:
            if not any(_lies_in(branch, path) for path in params.names):
                raise ValueError(f"{name} names {branch!r}, but the leaves are {_named(params)}.")
        return [any(_lies_in(branch, path) for branch in given) for path in params.names]
    expected = "True or False for each branch of the parameters, a list of paths, or a function of a path"
    return [all(flags) for flags in _by_branches(name, given, params, _is_flag, expected)]


def _by_branches(name: str, given, params: Tree, fits: Callable[[Any], bool], expected: str) -> list[list]:
    """What a prefix tree has for each varying leaf; raises ValueError for what does not fit, or for a leaf left out.

    The branches are those of the tree itself: they go by its structure, and not by the names of arguments. Where one
    argument of several might vary, its own tree will do.
    """
    of_one = all(path.startswith("[0]") for path in params.paths) and not isinstance(given, (tuple, list))
    tree = take_apart((given,) if of_one else given, lambda leaf: leaf is not None)
    branches = dict(zip(tree.places, tree.values, strict=True))
    for branch, value in branches.items():
        if not fits(value):
            where = f"{name}={shown(value)}" if value is given else f"{name} has {shown(value)} at {branch}"
            raise ValueError(f"{where}: give {expected}.")
        if not any(_lies_in(branch, path) for path in params.paths):
            raise ValueError(f"{name} has a branch {called(branch)}, but the leaves are {_named(params)}.")
    found = [[value for branch, value in branches.items() if _lies_in(branch, path)] for path in params.places]
    for path, values in zip(params.names, found, strict=True):
        if not values:
            said = ", ".join(map(called, branches)) or "nothing"
            raise ValueError(f"{name} says nothing of {called(path)}, only of {said}: give {expected}.")
    return found


def _named(params: Tree) -> str:
    return ", ".join(map(called, params.names))


def _is_flag(value) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_accuracy(value) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating, jax.Array)) and not isinstance(value, bool)
    return number and np.ndim(value) == 0 and bool(0 <= value < 1)


def _lies_in(branch: str, path: str) -> bool:
    return path.startswith(branch) and path[len(branch) :][:1] in ("", "[", ".")


def _require_choice(name: str, value, allowed: tuple[str, ...]):
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name}={shown(value)}: expected one of {_listed(allowed)}.")


def _listed(names) -> str:
    return ", ".join(map(repr, names))

"""The inputs of a check, and the Python code that makes them again."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

WRITTEN_OUT = 1000  # arrays up to this size stand in the code


@dataclass(frozen=True)
class Case:
    """What a check was called with."""

    loss: Any
    grad_fn: Any
    params: Any
    args: tuple
    options: dict
    seed: int
    checker: str = "check_gradients"  # or "check_vjp", where loss is the function and there is no grad_fn

    @property
    def compares_with_itself(self) -> bool:
        """Whether a function was compared with itself, but for the rule that it carries."""
        stated = (self.options.get(name) for name in ("reference", "intended"))
        return self.checker == "check_vjp" and all(function is None for function in stated)

    def code(self, report) -> str:
        """A script that repeats the check; what it cannot write out it asks for, by name and shape."""
        lines = ["import jax", "import numpy as np", f"from jaxnet.verify import {self.checker}"]
        functions = {"loss": self.loss, "grad_fn": self.grad_fn} if self.grad_fn is not None else {"f": self.loss}
        options = {**self.options, "key": self.seed, "raise_": False}
        options = {name: value for name, value in options.items() if value is not None}
        further = {name: options.pop(name) for name in ("reference", "intended") if name in options}
        trees = {name: options.pop(name) for name in ("kwargs", "accuracy") if name in options}
        frozen = [path for path, leaf in report.leaves.items() if leaf.verdict == "FROZEN"]
        zeros = [path for path, leaf in report.leaves.items() if leaf.expected_zero]
        lines += [*(_import(function, name) for name, function in {**functions, **further}.items()), ""]
        lines += [f"# verdict {report.verdict}: {report.cause or 'no cause named'}"]
        lines += _assign("params", self.params)
        names = []
        for i, arg in enumerate(self.args):
            names.append(f"arg{i}")
            lines += _assign(names[-1], arg)
        for name, tree in trees.items():
            lines += _assign(name, tree)
        written = [f"{k}={v!r}" for k, v in options.items()] + [f"{name}={name}" for name in (*further, *trees)]
        written += [f"trainable=lambda path: path not in {frozen!r}"] if frozen else []
        written += [f"expected_zero=lambda path: path in {zeros!r}"] if zeros else []
        call = ", ".join([*functions, "params", *names, *written])
        lines += [f"print({self.checker}({call}))"]
        arrays = jax.tree_util.tree_leaves((self.params, self.args, trees.get("kwargs")))
        x64 = any(getattr(x, "dtype", None) == np.float64 for x in arrays)
        return "\n".join([lines[0], *(['jax.config.update("jax_enable_x64", True)'] if x64 else []), *lines[1:]])


def _import(function, name: str) -> str:
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module and qualified and "<" not in qualified and "." not in qualified and module != "__main__":
        return f"from {module} import {qualified} as {name}"
    return f"{name} = ...  # {qualified or type(function).__name__} of {module}: not importable by name, paste it here"


def _assign(name: str, tree) -> list[str]:
    if callable(tree) and hasattr(tree, "__qualname__"):  # a function; a module that can be called is a tree
        return [_import(tree, name)]
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    leaves = [_literal(leaf) for _, leaf in pairs]
    try:
        return [f"{name} = {_written(tree)}"]
    except TypeError:
        lines = [f"# {name}: {structure}"]
        return [*lines, f"{name}_leaves = [{', '.join(leaves)}]", f"{name} = ...  # the leaves in the tree above"]


def _written(tree) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {_written(v)}" for k, v in tree.items()) + "}"
    if type(tree) is tuple:
        return "(" + "".join(_written(v) + ", " for v in tree) + ")"
    if type(tree) is list:
        return "[" + ", ".join(map(_written, tree)) + "]"
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):  # a plain tuple has the same leaves
        kind = type(tree)
        return f"__import__({kind.__module__!r}, fromlist=['x']).{kind.__qualname__}({', '.join(map(_written, tree))})"
    if isinstance(tree, (jax.Array, np.ndarray, np.generic, int, float, complex, bool, str, type(None))):
        return _literal(tree)
    raise TypeError(type(tree).__name__)


def _literal(leaf) -> str:
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        impl = str(jax.random.key_impl(leaf))
        return f"jax.random.wrap_key_data({_literal(np.asarray(jax.random.key_data(leaf)))}, impl={impl!r})"
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return repr(leaf)
    array = np.asarray(leaf)
    if array.size > WRITTEN_OUT:
        return f"...  # {array.dtype}{list(array.shape)}, too large to write out".replace("...  #", "None  #")
    numbers = array.astype(np.float64).tolist() if array.dtype.kind in "fV" else array.tolist()
    text = f"np.array({numbers!r}).reshape({array.shape})".replace("nan", "np.nan").replace("inf", "np.inf")
    return (
        f"jax.numpy.asarray({text}, {str(array.dtype)!r})"
        if isinstance(leaf, jax.Array)
        else f"{text}.astype({str(array.dtype)!r})"
    )

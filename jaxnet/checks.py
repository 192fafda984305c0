"""Argument checks where a function is traced: types, names, shapes and dtypes. Free under `jit`.

A message names the argument, what it is, what was expected, and the remedy. What depends on values is checked once, on
the host, in train/inputs.py.

Legend: X (n_x, m) and Y (n_y, m) hold examples as columns; sizes = (n_x, ..., n_y).
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._arguments import choice, positive, type_name
from jaxnet._xla.matmul import POLICIES
from jaxnet.mlp import MLP, Layer


def float_dtype(argument: str, dtype: Any) -> np.dtype:
    """Return the dtype if it is a real floating one that JAX will keep as it is."""
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{argument} is {dtype}; expected a floating dtype such as float32")
    if dtype == jnp.float64 != jax.dtypes.canonicalize_dtype(dtype):
        raise ValueError(
            f"{argument} is float64, but 64-bit is off in JAX, which would silently round to float32;"
            ' turn it on with jax.config.update("jax_enable_x64", True) or `with jax.enable_x64(True):`'
        )
    return dtype


def init_scheme(scheme: Any, choices: Iterable[str]) -> Any:
    """Return the scheme: one of the names, or a positive float (the s of the notes' randn * s)."""
    names = tuple(choices)
    if isinstance(scheme, str):
        return choice("scheme", scheme, names)
    return positive("scheme", scheme, f", or one of {', '.join(map(repr, names))}")


def mlp(net: Any) -> None:
    """Refuse what is not an MLP."""
    if not isinstance(net, MLP):
        raise TypeError(f"net is {net!r}; expected an MLP, such as MLP((2, 4, 1), ('tanh', 'sigmoid'))")


def params(net: Any, params: Any, argument: str = "params") -> None:
    """Refuse params that are not one Layer(W, b) per layer, W (n, n_prev) and b (n, 1), of one dtype."""
    mlp(net)
    sizes = net.sizes
    wanted = f"a tuple of {len(sizes) - 1} Layer(W, b) for sizes {sizes}, as init returns"
    if not isinstance(params, tuple) or isinstance(params, Layer):
        raise ValueError(f"{argument} is {type_name(params)}; expected {wanted}")
    if len(params) != len(sizes) - 1:
        raise ValueError(f"{argument} has {len(params)} layer{'s' * (len(params) != 1)}; expected {wanted}")
    dtypes = {}
    for position, (layer, n_prev, n) in enumerate(zip(params, sizes[:-1], sizes[1:], strict=True)):
        if not isinstance(layer, Layer):
            raise ValueError(f"{argument}[{position}] is {type_name(layer)}; expected {wanted}")
        for name, leaf, expected in zip(("W", "b"), layer, ((n, n_prev), (n, 1)), strict=True):
            place = f"{argument}[{position}].{name}"
            _array(place, leaf)
            if jnp.shape(leaf) != expected:
                raise ValueError(f"{place} has shape {jnp.shape(leaf)}; expected {expected} for sizes {sizes}")
            dtypes[place] = jnp.result_type(leaf)
    first, *others = dtypes
    for other in others:
        if dtypes[other] != dtypes[first]:
            raise TypeError(f"{other} is {dtypes[other]} but {first} is {dtypes[first]}; cast the params to one dtype")


def inputs(net: Any, p: Any, X: Any, precision: Any) -> None:
    """Refuse an X that is not (n_x, m), or whose dtype is not that of the params; and a precision unknown or unfit."""
    params(net, p)
    columns("X", X, net.sizes[0], "n_x")
    _same_dtype("X", X, "the params", p[0].W)
    policy(precision, p)


def targets(net: Any, X: Any, Y: Any, weights: Any) -> None:
    """Refuse a Y that is not (n_y, m) of X's dtype, or weights that are not (m,), for the m examples of X."""
    m = jnp.shape(X)[1]
    columns("Y", Y, net.sizes[-1], "n_y")
    if jnp.shape(Y)[1] != m:
        raise ValueError(f"Y has {jnp.shape(Y)[1]} examples but X has {m}; X and Y need as many columns")
    _same_dtype("Y", Y, "X", X)
    if weights is None:
        return
    _array("weights", weights)
    if jnp.shape(weights) != (m,):
        raise ValueError(f"weights has shape {jnp.shape(weights)}; expected ({m},), one number an example")


def output_derivative(net: Any, p: Any, cache: Any, dZ: Any, precision: Any) -> None:
    """Refuse a cache of another network, or a dZ that does not have the shape of its Z[L]."""
    params(net, p)
    policy(precision, p)
    shapes = [jnp.shape(array) for layer in cache for array in layer]
    m = shapes[0][-1]
    if shapes != [(n, m) for n in net.sizes for _ in ("Z", "A")]:
        raise ValueError(f"cache holds shapes {shapes}, not those of sizes {net.sizes}; pass forward's cache")
    if jnp.shape(dZ) != shapes[-1]:
        raise ValueError(f"dZ has shape {jnp.shape(dZ)}; expected {shapes[-1]}, the shape of Z[L]")


def policy(precision: Any, params: Any = None) -> str:
    """Return the name of a precision policy; "float64" is refused where JAX would round it, and for other params."""
    choice("precision", precision, POLICIES)
    if precision == "float64":
        float_dtype("precision", jnp.float64)
        got = jnp.float64 if params is None else jnp.result_type(params[0].W)
        if got != jnp.float64:
            raise TypeError(
                f"precision is 'float64' but the params are {got}; cast params, X and Y to float64, such as"
                " init(net, key, dtype=jnp.float64) (nothing is promoted silently; `fit` casts what it is given)"
            )
    return precision


def _array(argument: str, array: Any) -> None:
    """Refuse a list: a tree of numbers to JAX."""
    if isinstance(array, list | tuple):
        raise TypeError(f"{argument} is {type_name(array)}; expected an array: jnp.asarray({argument})")


def _same_dtype(argument: str, array: Any, other: str, reference: Any) -> None:
    got, expected = jnp.result_type(array), jnp.result_type(reference)
    if got != expected:
        verb = "are" if other.endswith("params") else "is"
        raise TypeError(
            f"{argument} is {got} but {other} {verb} {expected}; cast one to the other's dtype (nothing is promoted"
            " silently)"
        )


def columns(argument: str, array: Any, rows: int, symbol: str) -> None:
    """Refuse an array that is not (rows, m) with m > 0, naming the reading that would fit."""
    _array(argument, array)
    shape = jnp.shape(array)
    expected = f"({symbol}={rows}, m): one example a column"
    if len(shape) == 1:
        fits = "one_hot(labels, n_classes)" if symbol == "n_y" and rows > 1 else f"{argument}.reshape({rows}, -1)"
        raise ValueError(f"{argument} has shape {shape}; expected {expected}; use {fits}")
    if len(shape) != 2:
        raise ValueError(f"{argument} has shape {shape}; expected {expected}")
    if shape[1] == 0 or shape[0] == 0:
        raise ValueError(f"{argument} is empty, its shape is {shape}; expected {expected}")
    if shape[0] != rows:
        transposed = shape[1] == rows
        hint = f"; it reads as {shape[0]} examples in rows: pass {argument}.T" if transposed else ""
        raise ValueError(f"{argument} has shape {shape}; expected {expected}{hint}")


def key(key: Any) -> None:
    """Refuse what is not a single JAX random key."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()
    raw = getattr(key, "dtype", None) == np.uint32 and key.shape == raw_key_shape()
    if not (typed or raw):
        raise TypeError(f"key is {key!r}; expected one JAX random key, such as jax.random.key(0)")


def raw_key_shape() -> tuple[int, ...]:
    """The shape of a key as plain numbers, of the generator that JAX is set to."""
    return jax.eval_shape(jax.random.PRNGKey, 0).shape

"""The one door of the pure functions: arguments as arrays of the params' dtype, or a refusal by name. Free under `jit`.

Values of the host (NumPy arrays, lists, frames, of whatever real dtype) are read by values.py, and cast to the params'
dtype. JAX arrays, which may be traced, are judged by shape and dtype alone: integers, booleans and narrower floats are
cast, wider floats refused, for nothing is rounded silently.

A message names the argument, what it is, what was expected, and the remedy.

Legend: X (n_x, m) and Y (n_y, m) hold examples as columns; sizes = (n_x, ..., n_y).
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import values
from jaxnet._arguments import choice, positive, shown, type_name
from jaxnet._xla import split
from jaxnet._xla.matmul import POLICIES
from jaxnet.mlp import MLP, Cache, Layer, LayerCache, Params


def float_dtype(argument: str, dtype: Any) -> np.dtype:
    """Return the dtype if it is a real floating one that JAX will keep as it is."""
    return _dtype(argument, dtype, (jnp.floating,), "a floating dtype such as float32")


def real_dtype(argument: str, dtype: Any) -> np.dtype:
    """Return the dtype if it is one of real numbers or booleans that JAX will keep as it is."""
    return _dtype(argument, dtype, (jnp.floating, jnp.integer, jnp.bool_), "a dtype of real numbers such as float32")


def _dtype(argument: str, given: Any, kinds: tuple[type, ...], expected: str) -> np.dtype:
    try:
        dtype = jnp.dtype(given)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument} is {given!r}; expected {expected}") from error
    if not (any(jnp.issubdtype(dtype, kind) for kind in kinds) and dtype.isnative and dtype.itemsize <= 8):
        raise TypeError(f"{argument} is {dtype}; expected {expected}")
    kept = jax.dtypes.canonicalize_dtype(dtype)
    if dtype != kept:
        raise ValueError(
            f"{argument} is {dtype}, but 64-bit is off in JAX, which would silently round to {kept};"
            ' turn it on with jax.config.update("jax_enable_x64", True) or `with jax.enable_x64(True):`'
        )
    return dtype


def init_scheme(scheme: Any, choices: Iterable[str], dtype: np.dtype) -> Any:
    """Return the scheme: one of the names, or a positive float (the s of the notes' randn * s) fit for the dtype."""
    names = tuple(choices)
    if isinstance(scheme, str):
        return choice("scheme", scheme, names)
    scheme = positive("scheme", scheme, f", or one of {', '.join(map(repr, names))}")
    least, most = float(jnp.finfo(dtype).tiny), float(jnp.finfo(dtype).max) / 10  # randn stays below 10
    if isinstance(scheme, float) and not least <= scheme <= most:
        raise ValueError(f"scheme is {scheme}; expected {least:.2g} to {most:.2g}, or {dtype} holds no randn * scheme")
    return scheme


def mlp(net: Any) -> None:
    """Refuse what is not an MLP."""
    if not isinstance(net, MLP):
        raise TypeError(f"net is {shown(net)}; expected an MLP, such as MLP((2, 4, 1), ('tanh', 'sigmoid'))")


def read(argument: str, given: Any, dtype: Any, other: str) -> np.ndarray | jax.Array:
    """Return what was given in that dtype: values of the host, checked and cast, or a JAX array, at most widened."""
    dtype = np.dtype(dtype)
    if not isinstance(given, jax.Array):
        return values.host_array(argument, given, dtype)
    got = given.dtype
    if got == dtype:
        return given
    if not values.holds_real_numbers(given):
        raise TypeError(f"{argument} is {got}; expected real numbers")
    if jnp.issubdtype(got, jnp.floating) and jnp.finfo(got).bits >= jnp.finfo(dtype).bits:
        raise TypeError(
            f"{argument} is {got} but {other} {dtype}; cast one to the other's dtype (nothing is rounded silently)"
        )
    return given.astype(dtype)


def params(net: Any, params: Any, argument: str = "params") -> Params:
    """Return the params as JAX arrays: one Layer(W, b) per layer, W (n, n_prev) and b (n, 1), of one floating dtype."""
    mlp(net)
    sizes = net.sizes
    wanted = f"a tuple of {len(sizes) - 1} Layer(W, b) for sizes {sizes}, as init returns"
    if hasattr(params, "params"):  # of a result, or of a state
        raise ValueError(f"{argument} is {type_name(params)}; expected {wanted}: give its .params")
    if not isinstance(params, tuple) or isinstance(params, Layer):
        raise ValueError(f"{argument} is {type_name(params)}; expected {wanted}")
    if len(params) != len(sizes) - 1:
        raise ValueError(f"{argument} has {len(params)} layer{'s' * (len(params) != 1)}; expected {wanted}")
    dtypes, layers = {}, []
    for position, (layer, n_prev, n) in enumerate(zip(params, sizes[:-1], sizes[1:], strict=True)):
        if not isinstance(layer, Layer):
            raise ValueError(
                f"{argument}[{position}] is {type_name(layer)}; expected a Layer: jaxnet.Layer(W, b) for each of the"
                f" {len(sizes) - 1} layers of sizes {sizes}"
            )
        leaves = []
        for name, leaf, expected in zip(("W", "b"), layer, ((n, n_prev), (n, 1)), strict=True):
            place = f"{argument}[{position}].{name}"
            leaf = _leaf(place, leaf)
            if leaf.shape != expected:
                raise ValueError(f"{place} has shape {leaf.shape}; expected {expected} for sizes {sizes}")
            dtypes[place] = leaf.dtype
            leaves.append(leaf)
        layers.append(Layer(*leaves))
    first, *others = dtypes
    for other in others:
        if dtypes[other] != dtypes[first]:
            raise TypeError(f"{other} is {dtypes[other]} but {first} is {dtypes[first]}; cast the params to one dtype")
    return tuple(layers)


def _leaf(place: str, leaf: Any) -> jax.Array:
    """A leaf of the params, in the dtype that it has: theirs decides in which all is computed."""
    if not isinstance(leaf, jax.Array | np.ndarray):
        raise TypeError(f"{place} is {type_name(leaf)}; expected an array: jnp.asarray({place})")
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype.itemsize > 8:
        raise TypeError(f"{place} is {leaf.dtype}; expected a floating dtype such as float32")
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype.newbyteorder("="))
    if isinstance(leaf, jax.Array) and dtype != leaf.dtype:
        raise TypeError(
            f"{place} is {leaf.dtype} but JAX, whose 64-bit is off, computes in {dtype}; switch it on,"
            " jax.config.update('jax_enable_x64', True), or cast the params (nothing is rounded silently)"
        )
    return jnp.asarray(read(place, leaf, dtype, "JAX computes in"))


def inputs(net: Any, p: Any, X: Any, precision: Any, empty: bool = False, key: Any = None) -> tuple[Params, jax.Array]:
    """Return params, and X as an array (n_x, m) of their dtype; refuse a precision unknown or unfit for them.

    m is above 0, unless X may be empty. A key, where there is one, is one of JAX.
    """
    if key is not None:
        random_key(key)
    p, X = inputs_as_read(net, p, X, precision, empty)
    X = jnp.asarray(X)
    split.refuse_elsewhere("X", X, "params[0].W", p[0].W)
    return p, X


def inputs_as_read(
    net: Any, p: Any, X: Any, precision: Any, empty: bool = False
) -> tuple[Params, np.ndarray | jax.Array]:
    """The same, with values of the host as a NumPy array."""
    p = params(net, p)
    X = read("X", X, p[0].W.dtype, "the params are")
    columns("X", X, net.sizes[0], "n_x", empty)
    policy(precision, p)
    return p, X


def targets(net: Any, X: jax.Array, Y: Any, weights: Any) -> tuple[jax.Array, jax.Array | None]:
    """Return Y as an array (n_y, m), and weights as (m,) or None, for the m examples of X and in its dtype."""
    given, Y = Y, read("Y", Y, X.dtype, "X is")
    given_weights = weights
    if weights is not None:
        weights = read("weights", weights, X.dtype, "X is")
    target_shapes(net, X, Y, weights)
    if isinstance(Y, np.ndarray) and net.loss == "cross_entropy":
        values.class_targets("Y", Y, net.activations[-1], given)
    if isinstance(weights, np.ndarray):
        values.masking_weights(weights, given_weights)
    Y, weights = jnp.asarray(Y), None if weights is None else jnp.asarray(weights)
    for name, array in (("Y", Y), ("weights", weights)):
        if array is not None:
            split.refuse_elsewhere(name, array, "X", X)
            split.refuse_other_columns(name, array, X)
    return Y, weights


def target_shapes(net: Any, X: Any, Y: Any, weights: Any, of: str = "") -> None:
    """Refuse a Y that is not (n_y, m), or weights that are not (m,), for the m examples of X."""
    m = X.shape[1]
    columns(f"{of}Y", Y, net.sizes[-1], "n_y", empty=m == 0)
    if Y.shape[1] != m:
        raise ValueError(f"{of}Y has {Y.shape[1]} examples but {of}X has {m}; {of}X and {of}Y need as many columns")
    if weights is not None:
        weights_shape(weights, m, f"{of}weights")


def weights_shape(weights: Any, m: int, argument: str = "weights") -> None:
    """Refuse weights that are not (m,)."""
    if weights.shape != (m,):
        raise ValueError(f"{argument} has shape {weights.shape}; expected ({m},), one number an example")


def output_derivative(net: Any, p: Any, cache: Any, dZ: Any, precision: Any) -> tuple[Params, Cache, jax.Array]:
    """Return params, cache and dZ as arrays; refuse a cache of another network, or a dZ unlike its Z[L]."""
    p = params(net, p)
    policy(precision, p)
    if not isinstance(cache, tuple) or not all(isinstance(layer, LayerCache) for layer in cache):
        raise TypeError(f"cache is {type_name(cache)}; expected a tuple of LayerCache(Z, A): pass forward's cache")
    dtype = p[0].W.dtype
    as_array = lambda name, given: jnp.asarray(read(name, given, dtype, "the params are"))
    cache = tuple(
        LayerCache(
            as_array(f"cache[{l}].Z", Z),
            as_array(f"cache[{l}].A", A),
            None if D is None else as_array(f"cache[{l}].D", D),
        )
        for l, (Z, A, D) in enumerate(cache)
    )
    shapes = [[array.shape for array in jax.tree.leaves(layer)] for layer in cache]
    m = shapes[0][0][-1] if shapes and shapes[0][0] else 0
    if len(cache) != len(net.sizes) or any(set(of) != {(n, m)} for of, n in zip(shapes, net.sizes, strict=True)):
        raise ValueError(f"cache holds shapes {shapes}, not those of sizes {net.sizes}; pass forward's cache")
    dZ = as_array("dZ", dZ)
    if dZ.shape != shapes[-1][0]:
        raise ValueError(f"dZ has shape {dZ.shape}; expected {shapes[-1][0]}, the shape of Z[L]")
    return p, cache, dZ


def policy(precision: Any, params: Any = None) -> str:
    """Return the name of a precision policy; "float64" is refused where JAX would round it, and for other params."""
    choice("precision", precision, POLICIES)
    if precision == "float64":
        float_dtype("precision", jnp.float64)
        got = jnp.float64 if params is None else params[0].W.dtype
        if got != jnp.float64:
            raise TypeError(
                f"precision is 'float64' but the params are {got}; cast params, X and Y to float64, such as"
                " init(net, key, dtype=jnp.float64) (nothing is promoted silently; `fit` casts what it is given)"
            )
    return precision


def columns(argument: str, array: Any, rows: int, symbol: str, empty: bool = False) -> None:
    """Refuse an array that is not (rows, m), with m > 0 unless it may be empty, naming the reading that would fit."""
    shape = array.shape
    expected = f"({symbol}={rows}, m): one example a column"
    if len(shape) == 1:
        fits = "one_hot(labels, n_classes)" if symbol == "n_y" and rows > 1 else f"{argument}.reshape({rows}, -1)"
        raise ValueError(f"{argument} has shape {shape}; expected {expected}; use {fits}")
    if len(shape) != 2:
        raise ValueError(f"{argument} has shape {shape}; expected {expected}")
    if shape[0] == 0 or (shape[1] == 0 and not empty):
        raise ValueError(f"{argument} is empty, its shape is {shape}; expected {expected}")
    if shape[0] != rows:
        hint = ""
        if shape[1] == rows:
            hint = f"; it reads as {shape[0]} examples in rows: pass {argument}.T"
        elif symbol == "n_y" and shape[0] == 1:
            hint = f"; if it holds labels, use one_hot({argument}[0], {rows})"
        raise ValueError(f"{argument} has shape {shape}; expected {expected}{hint}")


def random_key(key: Any) -> None:
    """Refuse what is not a single JAX random key."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()
    raw = getattr(key, "dtype", None) == np.uint32 and key.shape == raw_key_shape()
    if not (typed or raw):
        raise TypeError(f"key is {shown(key)}; expected one JAX random key, such as jax.random.key(0)")


def raw_key_shape() -> tuple[int, ...]:
    """The shape of a key as plain numbers, of the generator that JAX is set to."""
    return jax.eval_shape(jax.random.PRNGKey, 0).shape

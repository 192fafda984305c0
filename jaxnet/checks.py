"""What comes through the public door: every check, and every message that a bad input gets.

A message names the argument, what came, what was expected, and the mend. Checks of names, shapes and dtypes run
where a function is traced, so they cost nothing under `jit`; checks of values run once, on the host, in `fit`.

Legend: X (n_x, m) and Y (n_y, m) hold examples as columns; sizes = (n_x, ..., n_y).
"""

import difflib
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._xla.matmul import PRECISIONS
from jaxnet.activations import ACTIVATIONS
from jaxnet.losses import LOSSES

CROSS_ENTROPY_OUTPUTS = ("sigmoid", "softmax")


# Names and numbers


def choice(argument: str, name: Any, choices: Iterable[str]) -> str:
    """Return the name if it is one of the choices; else raise with the choices and the nearest of them."""
    choices = tuple(choices)
    if isinstance(name, str) and name in choices:
        return name
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{argument} is {name!r}; expected one of {', '.join(map(repr, choices))}{hint}")


def positive(argument: str, value: Any, otherwise: str = "") -> float | jax.Array:
    """Return the value as a float if it is a finite number above zero: a scalar of Python, NumPy or JAX.

    A traced scalar, which has no value yet, is returned as it came. The message adds what else would do.
    """
    scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and value.shape == ()
    if scalar and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        if isinstance(value, jax.core.Tracer):
            return value
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < float("inf"):
        raise ValueError(f"{argument} is {value!r}; expected a finite number above 0{otherwise}")
    return float(value)


def count(argument: str, value: Any, least: int = 1) -> int:
    """Return the value as an int if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{argument} is {value!r}; expected an integer of at least {least}")
    return int(value)


def float_dtype(argument: str, dtype: Any) -> np.dtype:
    """Return the dtype if it is a real floating one that JAX will keep as it is."""
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{argument} is {dtype}; expected a floating dtype such as float32")
    if dtype == jnp.float64 and not jax.config.jax_enable_x64:
        raise ValueError(
            f"{argument} is float64, but 64-bit is off in JAX, which would round to float32 in silence;"
            ' turn it on with jax.config.update("jax_enable_x64", True) or `with jax.enable_x64(True):`'
        )
    return dtype


# The network


def network(sizes: Any, activations: Any, loss: str | None) -> tuple[tuple[int, ...], tuple[str, ...], str]:
    """Return sizes, activations and loss as the tuples and the name that an MLP keeps; loss None is filled in."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or len(sizes) < 2:
        raise ValueError(
            f"sizes is {sizes!r}; expected the width of the input and of every layer, such as (2, 4, 1):"
            " at least two numbers"
        )
    for position, size in enumerate(sizes):
        count(f"sizes[{position}]", size)
    if isinstance(activations, str) or not isinstance(activations, Sequence):
        raise ValueError(f"activations is {activations!r}; expected one name per layer, such as ('tanh', 'sigmoid')")
    if len(activations) != len(sizes) - 1:
        raise ValueError(
            f"activations has {len(activations)} names but sizes {tuple(sizes)} make {len(sizes) - 1} layers"
            " (the input is not counted); give one activation per layer"
        )
    for position, name in enumerate(activations):
        choice(f"activations[{position}]", name, ACTIVATIONS)
    if "softmax" in activations[:-1]:
        raise ValueError(
            f"activations[{activations.index('softmax')}] is 'softmax' in a hidden layer; it is for the output"
            " only: use 'relu' or 'tanh' there"
        )
    output, n_y = activations[-1], sizes[-1]
    if output == "softmax" and n_y == 1:
        raise ValueError(
            "softmax with one output is always 1; for two classes use 'sigmoid' with one output, or two outputs"
        )
    if loss is None:
        loss = "cross_entropy" if output in CROSS_ENTROPY_OUTPUTS else "squared_error"
    choice("loss", loss, LOSSES)
    if loss == "cross_entropy" and output not in CROSS_ENTROPY_OUTPUTS:
        raise ValueError(
            f"loss is 'cross_entropy' with output activation {output!r}; cross-entropy needs probabilities:"
            " end with 'sigmoid' or 'softmax', or use loss='squared_error'"
        )
    if loss == "squared_error" and output == "softmax":
        raise ValueError(
            "loss is 'squared_error' with a softmax output; use loss='cross_entropy', or another output activation"
        )
    return tuple(int(n) for n in sizes), tuple(activations), loss


def init_scheme(scheme: Any, choices: Iterable[str]) -> str | float:
    """Return the scheme: one of the names, or a positive float (the s of the notes' randn * s)."""
    names = tuple(choices)
    if isinstance(scheme, str):
        return choice("scheme", scheme, names)
    return positive("scheme", scheme, f", or one of {', '.join(map(repr, names))}")


def mlp(net: Any) -> tuple[int, ...]:
    """Return the sizes of a network; anything else than an MLP is refused."""
    if not (hasattr(net, "sizes") and hasattr(net, "activations")):
        raise TypeError(f"net is {net!r}; expected an MLP, such as MLP((2, 4, 1), ('tanh', 'sigmoid'))")
    return net.sizes


def train_state(state: Any) -> None:
    """Refuse what is no TrainState, such as the params alone."""
    if getattr(state, "_fields", None) != ("params", "opt_state", "step", "key"):
        raise TypeError(
            f"state is a {type(state).__name__}; expected a TrainState(params, opt_state, step, key), such as"
            " TrainState(params, optimizer.init(params), jnp.int32(0), key)"
        )


def params_of(net: Any, params: Any) -> None:
    """Refuse params that are not one Layer(W, b) per layer, W (n, n_prev) and b (n, 1), of one dtype."""
    sizes = mlp(net)
    wanted = f"a tuple of {len(sizes) - 1} Layer(W, b) for sizes {sizes}, as init returns"
    if not isinstance(params, tuple) or len(params) != len(sizes) - 1:
        came = f"{len(params)} layers" if isinstance(params, tuple) else f"a {type(params).__name__}"
        raise ValueError(f"params is {came}; expected {wanted}")
    dtypes = {}
    for position, (layer, n_prev, n) in enumerate(zip(params, sizes[:-1], sizes[1:], strict=True)):
        if getattr(layer, "_fields", None) != ("W", "b"):
            raise ValueError(f"params[{position}] is a {type(layer).__name__}; expected {wanted}")
        for name, leaf, expected in zip(("W", "b"), layer, ((n, n_prev), (n, 1)), strict=True):
            _array(f"params[{position}].{name}", leaf)
            if jnp.shape(leaf) != expected:
                raise ValueError(
                    f"params[{position}].{name} has shape {jnp.shape(leaf)}; expected {expected} for sizes {sizes}"
                )
            dtypes[f"params[{position}].{name}"] = jnp.result_type(leaf)
    first, *others = dtypes
    for other in others:
        if dtypes[other] != dtypes[first]:
            raise TypeError(f"{other} is {dtypes[other]} but {first} is {dtypes[first]}; cast the params to one dtype")


def inputs(net: Any, params: Any, X: Any) -> None:
    """Refuse an X that is not (n_x, m), or whose dtype is not that of the params."""
    params_of(net, params)
    _columns("X", X, net.sizes[0], "n_x")
    _same_dtype("X", X, "params", params[0].W)


def targets(net: Any, X: Any, Y: Any, weights: Any) -> None:
    """Refuse a Y that is not (n_y, m) of X's dtype, or weights that are not (m,), for the m examples of X."""
    m = jnp.shape(X)[1]
    _columns("Y", Y, net.sizes[-1], "n_y")
    if jnp.shape(Y)[1] != m:
        raise ValueError(f"Y has {jnp.shape(Y)[1]} examples but X has {m}; X and Y need as many columns")
    _same_dtype("Y", Y, "X", X)
    if weights is None:
        return
    _array("weights", weights)
    if jnp.shape(weights) != (m,):
        raise ValueError(f"weights has shape {jnp.shape(weights)}; expected ({m},), one number an example")


def output_derivative(net: Any, params: Any, cache: Any, dZ: Any) -> None:
    """Refuse a cache of another network, or a dZ that has not the shape of its Z[L]."""
    params_of(net, params)
    shapes = [jnp.shape(array) for activity in cache for array in activity]
    m = shapes[0][-1]
    if shapes != [(n, m) for n in net.sizes for _ in ("Z", "A")]:
        raise ValueError(f"cache holds shapes {shapes}, not those of sizes {net.sizes}; pass forward's cache")
    if jnp.shape(dZ) != shapes[-1]:
        raise ValueError(f"dZ has shape {jnp.shape(dZ)}; expected {shapes[-1]}, the shape of Z[L]")


def _array(argument: str, array: Any) -> None:
    """Refuse a list: a tree of numbers to JAX."""
    if isinstance(array, list | tuple):
        raise TypeError(f"{argument} is a {type(array).__name__}; expected an array: jnp.asarray({argument})")


def _same_dtype(argument: str, array: Any, other: str, reference: Any) -> None:
    came, expected = jnp.result_type(array), jnp.result_type(reference)
    if came != expected:
        raise TypeError(
            f"{argument} is {came} but {other} are {expected}; cast one to the other's dtype (nothing is promoted in"
            " silence)"
        )


def _columns(argument: str, array: Any, rows: int, symbol: str) -> None:
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
        turned = shape[1] == rows
        hint = f"; it reads as {shape[0]} examples in rows: pass {argument}.T" if turned else ""
        raise ValueError(f"{argument} has shape {shape}; expected {expected}{hint}")


# Values, on the host


def host_array(argument: str, values: Any, dtype: np.dtype) -> np.ndarray:
    """Return the values as a finite NumPy array of that dtype, or raise naming what stands in the way and where.

    An array that fits comes back as it is, no copy.
    """
    if hasattr(values, "toarray"):
        raise TypeError(f"{argument} is sparse ({type(values).__name__}); expected a dense array: {argument}.toarray()")
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.extended):
        raise TypeError(f"{argument} has dtype {values.dtype}; expected real numbers: draw them with the key")
    if np.ma.is_masked(values):
        raise TypeError(f"{argument} is masked at some places; expected plain numbers: fill or drop them first")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{argument} is ragged: its rows differ in length; expected a rectangular array") from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise TypeError(f"{argument} has dtype {array.dtype}; expected real numbers: encode text and categories first")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{argument} is complex ({array.dtype}); expected real numbers: pass real and imaginary parts")
    if jnp.issubdtype(array.dtype, jnp.floating):
        _not_finite(argument, array, array, "expected finite numbers: clean or impute")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if cast is not array:
        _not_finite(argument, array, cast, f"it overflows {dtype}: rescale {argument}")
    return cast


def _not_finite(argument: str, came: np.ndarray, array: np.ndarray, mend: str) -> None:
    """Refuse an array with an infinity or NaN, which a sum would show: it takes no memory, as a mask does."""
    with np.errstate(all="ignore"):
        if not np.isfinite(array.sum()):
            _first_bad(argument, came, ~np.isfinite(array), mend)


def _first_bad(argument: str, array: np.ndarray, bad: np.ndarray, mend: str) -> None:
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f"row {where[0]}, column {where[1]}" if len(where) == 2 else f"position {where}"
        raise ValueError(f"{argument} holds {array[where]} at {place} ({bad.sum()} such); {mend}")


def class_targets(output: str, Y: np.ndarray, argument: str, came: Any) -> None:
    """Refuse targets that are no probabilities: outside [0, 1], or for softmax not summing to one per example.

    What came, before it was cast, says to how many digits they sum.
    """
    bad = (Y < 0) | (Y > 1)
    _first_bad(argument, Y, bad, "expected targets from 0 to 1: number two classes 0 and 1, or use one_hot")
    if output == "softmax":
        sums = Y.sum(axis=0, dtype=np.float64)
        itemsize = getattr(getattr(came, "dtype", None), "itemsize", 8)
        off = np.flatnonzero(np.abs(sums - 1) > (1e-2 if itemsize < 4 else 1e-5))
        if off.size:
            raise ValueError(
                f"{argument}[:, {off[0]}] sums to {sums[off[0]]:g}; expected class probabilities that sum to 1 in"
                " every column, such as one_hot(labels, n_classes)"
            )


def not_one_hot(Y: np.ndarray) -> None:
    """Refuse one-hot targets of several classes, which sigmoids would take for independent."""
    if Y.shape[0] > 1 and Y.shape[1] > 1 and ((Y == 0) | (Y == 1)).all() and (Y.sum(axis=0) == 1).all():
        raise ValueError(
            f"Y is one-hot over {Y.shape[0]} classes but the output is 'sigmoid', which treats them as independent;"
            " end the network with 'softmax'"
        )


def several_classes(output: str, Y: np.ndarray, Y_validation: np.ndarray | None) -> None:
    """Refuse hard class targets of which all are the same class, or a validation class that training lacks."""
    if Y.shape[1] < 2 or not ((Y == 0) | (Y == 1)).all():
        return
    present = _classes(Y)
    if len(present) == 1 and (output == "softmax" or Y.shape[0] == 1):
        raise ValueError(f"Y holds one class only ({present[0]}); expected at least two classes to tell apart")
    if Y_validation is not None:
        unseen = np.setdiff1d(_classes(Y_validation), present)
        if unseen.size and (output == "softmax" or Y.shape[0] == 1):
            raise ValueError(
                f"class {unseen[0]} is in the validation targets but not in Y; split so that training sees every class"
            )


def _classes(Y: np.ndarray) -> np.ndarray:
    return np.unique(Y.argmax(axis=0) if Y.shape[0] > 1 else (Y[0] > 0.5).astype(int))


def example_weights(weights: Any, dtype: np.dtype) -> np.ndarray:
    """Return the weights as a NumPy vector that is finite, nowhere negative and somewhere positive."""
    weights = host_array("weights", weights, np.dtype(np.float64))
    _first_bad("weights", weights, weights < 0, "expected weights of at least 0")
    if not weights.any():
        raise ValueError("weights are all 0; expected at least one example that counts")
    # Only their ratios count; sums of 1e38 or 1e-40 would not be told from infinity or 0.
    return (weights / weights.max()).astype(dtype)


def dataset(net: Any, X: Any, Y: Any, weights: Any, validation: Any, dtype: np.dtype) -> tuple:
    """Return X, Y, weights and the validation pair as NumPy arrays of that dtype, all of them fit for net.

    The net is an MLP: its sizes, activations and loss are read.
    """
    mlp(net)
    X, Y, weights = _examples(net, X, Y, weights, dtype)
    if validation is not None:
        if not isinstance(validation, tuple) or len(validation) != 2:
            length = f" of {len(validation)}" if isinstance(validation, tuple) else ""
            raise ValueError(f"validation is a {type(validation).__name__}{length}; expected a tuple (X, Y)")
        *validation, _ = _examples(net, *validation, None, dtype, "validation ")
        validation = tuple(validation)
    if net.loss == "cross_entropy":
        if net.activations[-1] == "sigmoid":
            not_one_hot(Y)
        several_classes(net.activations[-1], Y, validation[1] if validation else None)
    return X, Y, weights, validation


def _examples(net: Any, X: Any, Y: Any, weights: Any, dtype: np.dtype, of: str = "") -> tuple:
    came = Y
    X, Y = host_array(of + "X", X, dtype), host_array(of + "Y", Y, dtype)
    _columns(of + "X", X, net.sizes[0], "n_x")
    targets(net, X, Y, None)
    if weights is not None:
        weights = example_weights(weights, dtype)
        targets(net, X, Y, weights)
    if net.loss == "cross_entropy":
        class_targets(net.activations[-1], Y, of + "Y", came)
    return X, Y, weights


def working_dtype(X: Any, params: Any, precision: str) -> np.dtype:
    """Return the dtype to train in: float64 if asked for, or if the params, else X, have it; in all else float32.

    JAX with 64-bit off knows no float64; float64 data is then trained in float32. So is what has fewer bits: float16
    has no 1e-8, Adam's epsilon, and the updates of most steps are less than a bfloat16 weight's last digit.
    """
    came = params[0].W.dtype if params is not None else getattr(X, "dtype", None)
    follows = isinstance(came, np.dtype) and came.name == "float64"  # in any order of its bytes, of NumPy or JAX
    name = "float64" if follows or precision == "float64" else "float32"
    return jnp.dtype(jax.dtypes.canonicalize_dtype(name))


def batches(batch_size: int | None, m: int) -> int | None:
    """Return the batch size if it is None (full batch) or from 1 to m."""
    if batch_size is None:
        return None
    count("batch_size", batch_size)
    if batch_size > m:
        raise ValueError(
            f"batch_size is {batch_size} but X has {m} examples; pass batch_size=None for full-batch gradient"
            f" descent, or at most {m}"
        )
    return int(batch_size)


def precision(name: str, params: Any = None) -> str:
    """Return the name of a precision policy; "float64" is refused where JAX would round it, and for other params."""
    choice("precision", name, PRECISIONS)
    if name == "float64":
        float_dtype("precision", jnp.float64)
        came = jnp.float64 if params is None else jnp.result_type(params[0].W)
        if came != jnp.float64:
            raise TypeError(
                f"precision is 'float64' but params are {came}; cast params, X and Y to float64, such as"
                " init(net, key, dtype=jnp.float64) (nothing is promoted in silence; `fit` casts what it is given)"
            )
    return name


def gradient_transformation(optimizer: Any, argument: str = "optimizer") -> Any:
    """Return the optimizer if it has optax's (init, update)."""
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(
            f"{argument} is {optimizer!r}; expected an optax.GradientTransformation such as optax.sgd(0.1) or"
            " optax.adam(1e-3)"
        )
    return optimizer


def epochs(epochs: int, steps: int | None, batch_size: int | None) -> int:
    """Return the number of epochs; for full batches `steps` is another name for it."""
    if steps is None:
        return count("epochs", epochs)
    if batch_size is not None:
        raise ValueError(f"steps is {steps} with batch_size {batch_size}; steps is for batch_size=None: give epochs")
    return count("steps", steps)


def stopping(patience: int | None, tol: float | None, validation: Any) -> None:
    """Refuse a patience without validation data, or a patience or tol out of range."""
    if patience is not None:
        count("patience", patience)
        if validation is None:
            raise ValueError("patience needs a validation cost to watch; give validation=(X, Y)")
    if tol is not None:
        positive("tol", tol)


def callbacks(callbacks: Any) -> tuple:
    """Return the callbacks as a tuple of functions; a single function is taken as one."""
    if not callable(callbacks) and not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks is {callbacks!r}; expected functions (epoch, state, history), or one")
    callbacks = (callbacks,) if callable(callbacks) else tuple(callbacks)
    for position, callback in enumerate(callbacks):
        if not callable(callback):
            raise TypeError(f"callbacks[{position}] is {callback!r}; expected a function (epoch, state, history)")
    return callbacks


def placement(device: str | None, mesh: Any) -> None:
    """Refuse a mesh that is none, or one beside a device: the mesh already says where to compute."""
    if mesh is None:
        return
    if not isinstance(mesh, jax.sharding.Mesh) or mesh.axis_names != ("data",):
        raise ValueError(f"mesh is {mesh!r}; expected one with the axis 'data', as jaxnet.parallel.mesh() makes")
    if any(kind != jax.sharding.AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"mesh has axes of type {mesh.axis_types[0]}; expected Auto: jaxnet.parallel.mesh() makes one, and so does "
            "jax.make_mesh with axis_types=(jax.sharding.AxisType.Auto,)"
        )
    if device is not None:
        raise ValueError(f"device is {device!r} beside a mesh, which has its own devices; give one of the two")


def key(key: Any) -> None:
    """Refuse what is no single JAX random key."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()
    raw = getattr(key, "dtype", None) == np.uint32 and key.shape == _raw_key_shape()
    if not (typed or raw):
        raise TypeError(f"key is {key!r}; expected one JAX random key, such as jax.random.key(0)")


def _raw_key_shape() -> tuple[int, ...]:
    """The shape of a key as plain numbers, of the generator that JAX is set to."""
    return jax.eval_shape(jax.random.PRNGKey, 0).shape


# Settings of many networks


def keys(keys: Any) -> Any:
    """Return one or several JAX random keys as a vector of them."""
    shape, own = getattr(keys, "shape", ()), _raw_key_shape()
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    raw = getattr(keys, "dtype", None) == np.uint32 and shape[-1:] == own
    if not (typed or raw) or 0 in shape:
        came = f"a {type(keys).__name__}" + (f" of shape {shape}" if shape else "")
        raise TypeError(f"keys is {came}; expected JAX random keys, such as jax.random.split(jax.random.key(0), 8)")
    return keys.reshape(-1) if typed else keys.reshape(-1, *own)


def settings(argument: str, values: Any, dtype: np.dtype, bad: Callable, mend: str) -> np.ndarray:
    """Return a number, or one for each member, as a vector of that dtype; too large ones become infinite."""
    try:
        numbers = np.atleast_1d(np.asarray(values, np.float64))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument} is {values!r}; expected a number, or one for each member") from error
    _first_bad(argument, numbers, bad(numbers), mend)
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


def function_of_rate(optimizer: Any) -> None:
    """Refuse an optimizer where a function that makes one is wanted."""
    if not callable(optimizer):
        raise TypeError(f"optimizer is {optimizer!r}; expected a function of the rate, such as optax.sgd itself")

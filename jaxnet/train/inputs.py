"""Host arrays on their way into training: checked once, by value, and cast to one dtype.

A message names the argument, what it is, what was expected, and the remedy.

Legend: X (n_x, m) and Y (n_y, m) hold examples as columns.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import checks
from jaxnet._arguments import count, type_name
from jaxnet.mlp import MLP

AUTO = 128  # examples of a mini-batch, where there are as many


class HostData(NamedTuple):
    """A checked data set as NumPy arrays of one dtype, by columns."""

    X: np.ndarray
    Y: np.ndarray
    weights: np.ndarray | None
    validation: tuple[np.ndarray, np.ndarray] | None


def dataset(net: MLP, X: Any, Y: Any, weights: Any, validation: Any, dtype: np.dtype) -> HostData:
    """Return X, Y, weights and the validation pair as NumPy arrays of that dtype, all of them fit for net."""
    checks.mlp(net)
    X, Y, weights = _examples(net, X, Y, weights, dtype)
    if validation is not None:
        if not isinstance(validation, tuple) or len(validation) != 2:
            length = f" of {len(validation)}" if isinstance(validation, tuple) else ""
            raise ValueError(f"validation is {type_name(validation)}{length}; expected a tuple (X, Y)")
        *validation, _ = _examples(net, *validation, None, dtype, "validation ")
        validation = tuple(validation)
    if net.loss == "cross_entropy":
        if net.activations[-1] == "sigmoid":
            _not_one_hot(Y)
        _several_classes(net.activations[-1], Y, validation[1] if validation else None)
    return HostData(X, Y, weights, validation)


def _examples(net: MLP, X: Any, Y: Any, weights: Any, dtype: np.dtype, of: str = "") -> tuple:
    given = Y
    X, Y = host_array(of + "X", X, dtype), host_array(of + "Y", Y, dtype)
    checks.columns(of + "X", X, net.sizes[0], "n_x")
    checks.targets(net, X, Y, None)
    if weights is not None:
        weights = _example_weights(weights, dtype)
        checks.targets(net, X, Y, weights)
    if net.loss == "cross_entropy":
        _class_targets(net.activations[-1], Y, of + "Y", given)
    return X, Y, weights


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


def _not_finite(argument: str, given: np.ndarray, array: np.ndarray, remedy: str) -> None:
    """Refuse an array with an infinity or NaN, which a sum would show: it takes no memory, as a mask does."""
    with np.errstate(all="ignore"):
        if not np.isfinite(array.sum()):
            refuse_first(argument, given, ~np.isfinite(array), remedy)


def refuse_first(argument: str, array: np.ndarray, bad: np.ndarray, remedy: str) -> None:
    """Raise if any entry is bad, naming the first and where it stands."""
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f"row {where[0]}, column {where[1]}" if len(where) == 2 else f"position {where}"
        raise ValueError(f"{argument} holds {array[where]} at {place} ({bad.sum()} such); {remedy}")


def _class_targets(output: str, Y: np.ndarray, argument: str, given: Any) -> None:
    """Refuse targets that are not probabilities: outside [0, 1], or for softmax not summing to one per example.

    What was given, before it was cast, says to how many digits they sum.
    """
    bad = (Y < 0) | (Y > 1)
    refuse_first(argument, Y, bad, "expected targets from 0 to 1: number two classes 0 and 1, or use one_hot")
    if output == "softmax":
        sums = Y.sum(axis=0, dtype=np.float64)
        itemsize = getattr(getattr(given, "dtype", None), "itemsize", 8)
        off = np.flatnonzero(np.abs(sums - 1) > (1e-2 if itemsize < 4 else 1e-5))
        if off.size:
            raise ValueError(
                f"{argument}[:, {off[0]}] sums to {sums[off[0]]:g}; expected class probabilities that sum to 1 in"
                " every column, such as one_hot(labels, n_classes)"
            )


def _not_one_hot(Y: np.ndarray) -> None:
    """Refuse one-hot targets of several classes, which sigmoids would take for independent."""
    if Y.shape[0] > 1 and Y.shape[1] > 1 and ((Y == 0) | (Y == 1)).all() and (Y.sum(axis=0) == 1).all():
        raise ValueError(
            f"Y is one-hot over {Y.shape[0]} classes but the output is 'sigmoid', which treats them as independent;"
            " end the network with 'softmax'"
        )


def _several_classes(output: str, Y: np.ndarray, Y_validation: np.ndarray | None) -> None:
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


def _example_weights(weights: Any, dtype: np.dtype) -> np.ndarray:
    """Return the weights as a NumPy vector that is finite, nowhere negative and somewhere positive."""
    weights = host_array("weights", weights, np.dtype(np.float64))
    refuse_first("weights", weights, weights < 0, "expected weights of at least 0")
    if not weights.any():
        raise ValueError("weights are all 0; expected at least one example that counts")
    # Only their ratios count; sums of 1e38 or 1e-40 could not be distinguished from infinity or 0.
    return (weights / weights.max()).astype(dtype)


def working_dtype(X: Any, params: Any, precision: str) -> np.dtype:
    """Return the dtype to train in: float64 if asked for, or if the params, else X, have it; in all else float32.

    JAX with 64-bit off knows no float64; float64 data is then trained in float32. So is what has fewer bits: float16
    has no 1e-8, Adam's epsilon, and the updates of most steps are less than a bfloat16 weight's last digit.
    """
    given = params[0].W.dtype if params is not None else getattr(X, "dtype", None)
    follows = isinstance(given, np.dtype) and given.name == "float64"  # in any order of its bytes, of NumPy or JAX
    name = "float64" if follows or precision == "float64" else "float32"
    return jnp.dtype(jax.dtypes.canonicalize_dtype(name))


def batch_size(size: int | str | None, m: int) -> int | None:
    """Return the batch size if it is None (full batch) or from 1 to m; "auto" is `AUTO`, or m where that is less."""
    if size is None:
        return None
    if size == "auto":
        return min(AUTO, m)
    number = count("batch_size", size, otherwise=", 'auto', or None for full-batch gradient descent")
    if number > m:
        raise ValueError(
            f"batch_size is {number} but X has {m} examples; pass batch_size=None for full-batch gradient"
            f" descent, or at most {m}"
        )
    return number

"""Host arrays on their way into training: checked once, by value, and cast to one dtype.

A message names the argument, what it is, what was expected, and the remedy.

Legend: X (n_x, m) and Y (n_y, m) hold examples as columns.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxnet import checks, values
from jaxnet._arguments import count, type_name
from jaxnet.mlp import MLP
from jaxnet.parallel import placing
from jaxnet.values import class_targets, host_array, masking_weights, real_numbers

Pair, Weighted = tuple[ArrayLike, ArrayLike], tuple[ArrayLike, ArrayLike, ArrayLike | None]
Validation = Pair | Weighted | Iterable  # (X, Y[, weights]), or batches of them
AUTO = 128  # examples of a mini-batch, where there are as many


class HostData(NamedTuple):
    """A checked data set as NumPy arrays of one dtype, by columns."""

    X: np.ndarray
    Y: np.ndarray
    weights: np.ndarray | None
    validation: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None


def own_parts(X: Any, Y: Any, weights: Any) -> tuple:
    """What this process has of arrays on devices of several.

    Raises:
        TypeError: Y or weights is not such an array, beside an X that is.
    """
    for name, value in (("Y", Y), ("weights", weights)):
        if value is not None and not placing.spans_processes(value):
            raise TypeError(
                f"{name} is {type_name(value)} beside an X of which each process has a part; make it as X is made, by"
                " jax.make_array_from_process_local_data"
            )
    named = {"X": X, "Y": Y, "weights": weights}
    return tuple(None if value is None else placing.own_columns(name, value) for name, value in named.items())


def dataset(
    net: MLP,
    X: Any,
    Y: Any,
    weights: Any,
    validation: Any,
    dtype: np.dtype,
    is_part: bool = False,
    is_part_of_validation: bool = False,
    goes_on: bool = False,
) -> HostData:
    """Return X, Y, weights and the validation data as NumPy arrays of that dtype, all of them fit for net.

    is_part: whether X is what one process has of it, which need not show all classes, nor an example that counts.
    goes_on: whether an earlier training is resumed, which may have seen classes that these data do not show.
    """
    checks.mlp(net)
    X, Y, weights = batch(net, (X, Y, weights), dtype, "") if is_part else examples(net, X, Y, weights, dtype)
    if validation is not None:
        validation = validation_examples(net, validation, dtype, is_part_of_validation)
    if net.loss == "cross_entropy" and not is_part and not goes_on:
        if net.activations[-1] == "sigmoid":
            _not_one_hot(Y)
        _several_classes(net.activations[-1], Y, validation[1] if validation and not is_part_of_validation else None)
    return HostData(X, Y, weights, validation)


def validation_examples(net: MLP, validation: Any, dtype: np.dtype, is_part: bool = False) -> tuple:
    """Return the validation data, or a process's part of them, as NumPy arrays of that dtype."""
    if not isinstance(validation, tuple) or len(validation) not in (2, 3):
        length = f" of {len(validation)}" if isinstance(validation, tuple) else ""
        raise ValueError(f"validation is {type_name(validation)}{length}; expected a tuple (X, Y), or (X, Y, weights)")
    X, Y, weights = (*validation, None)[:3]
    if is_part:
        return batch(net, (X, Y, weights), dtype, "validation ")
    return examples(net, X, Y, weights, dtype, "validation ")


def parts_of_a_batch(batch: Any, of: str) -> tuple:
    """Return a batch of a stream as (X, Y, weights), not yet looked at; weights may be None."""
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        length = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise TypeError(
            f"{of}is {type_name(batch)}{length}; expected (X, Y) or (X, Y, weights), with examples as columns"
        )
    return (*batch, None)[:3]


def batch(net: MLP, parts: tuple, dtype: np.dtype, of: str) -> tuple:
    """Return the parts as NumPy arrays of that dtype; the weights may all be 0, and then the batch counts nothing."""
    X, Y, weights = parts
    X, Y, _ = examples(net, X, Y, None, dtype, of)
    if weights is not None:
        weights = batch_weights(f"{of}weights", weights, dtype)
        checks.weights_shape(weights, X.shape[1], f"{of}weights")
    return X, Y, weights


def batch_weights(argument: str, weights: Any, dtype: np.dtype) -> np.ndarray:
    """Return the weights as they are, in that dtype: they count beside those of other batches, or processes."""
    given, weights = weights, host_array(argument, weights, dtype)
    masking_weights(weights, given, argument)
    return weights


def examples(net: MLP, X: Any, Y: Any, weights: Any, dtype: np.dtype, of: str = "") -> tuple:
    """Return X, Y and weights as NumPy arrays of that dtype; `of` stands before their names in messages."""
    given = X, Y
    X, Y = host_array(f"{of}X", X, dtype), host_array(f"{of}Y", Y, dtype)
    if weights is not None:
        weights = example_weights(f"{of}weights", weights).astype(dtype)
    checks.columns(f"{of}X", X, net.sizes[0], "n_x")
    checks.target_shapes(net, X, Y, weights, of)
    for name, before, cast in zip(("X", "Y"), given, (X, Y), strict=True):
        refuse_merged(f"{of}{name}", before, cast)
    if net.loss == "cross_entropy":
        class_targets(f"{of}Y", Y, net.activations[-1], given[1])
    return X, Y, weights


def refuse_merged(argument: str, given: Any, cast: np.ndarray, feature: str = "row") -> None:
    """Refuse a row of which the cast merges most values, as float32 does with time stamps in seconds.

    A row that varies by the rounding of its own dtype alone counts as constant. feature: what a row is to the user.
    """
    given = np.asarray(given)
    if given.dtype.itemsize <= cast.dtype.itemsize:
        return
    low, high = given.min(axis=1).astype(np.float64), given.max(axis=1).astype(np.float64)
    largest, spread = np.maximum(np.abs(low), np.abs(high)), high - low
    varies = spread > 8 * np.finfo(np.float64).eps * largest
    for row in np.flatnonzero(varies & (spread < 4096 * np.finfo(cast.dtype).eps * largest)):
        distinct, kept = len(np.unique(given[row])), len(np.unique(cast[row]))
        if 2 * kept < distinct:
            raise ValueError(
                f"{argument} holds {distinct} different numbers in {feature} {row}, from {low[row]:.17g} to"
                f" {high[row]:.17g}, of which {cast.dtype} keeps {kept} apart; subtract the {feature}'s mean, or train"
                " in float64, after jax.config.update('jax_enable_x64', True)"
            )


def _not_one_hot(Y: np.ndarray) -> None:
    """Refuse one-hot targets of several classes, which sigmoids would take for independent."""
    if Y.shape[0] > 1 and Y.shape[1] > 1 and ((Y == 0) | (Y == 1)).all() and (Y.sum(axis=0) == 1).all():
        raise ValueError(
            f"Y is one-hot over {Y.shape[0]} classes but the output is 'sigmoid', which treats them as independent;"
            " end the network with 'softmax'"
        )


def _several_classes(output: Any, Y: np.ndarray, Y_validation: np.ndarray | None) -> None:
    """Refuse hard class targets of which all are the same class, or a validation class that training lacks."""
    if Y.shape[1] < 2 or not _are_hard(Y):
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


class Classes:
    """The classes of the hard targets of many batches; none of a network that tells no classes apart."""

    def __init__(self, net: MLP):
        """None yet."""
        self._tells = net.loss == "cross_entropy" and (net.activations[-1] == "softmax" or net.sizes[-1] == 1)
        self.seen: set[int] = set()

    def note(self, Y: np.ndarray) -> None:
        """Add those of a batch."""
        if self._tells and _are_hard(Y):
            self.seen |= {*_classes(Y).tolist()}


def _are_hard(Y: np.ndarray) -> bool:
    return bool(((Y == 0) | (Y == 1)).all())


def _classes(Y: np.ndarray) -> np.ndarray:
    return np.unique(Y.argmax(axis=0) if Y.shape[0] > 1 else (Y[0] > 0.5).astype(int))


def example_weights(argument: str, weights: Any) -> np.ndarray:
    """Return the weights as a NumPy vector that is finite, nowhere negative and of which the largest is 1.

    Only their ratios count; sums of 1e38 or 1e-40 could not be distinguished from infinity or 0.
    """
    weights = host_array(argument, weights, np.dtype(np.float64))
    values.example_weights(weights, weights, argument)
    return weights / weights.max()


def working_dtype(X: Any, params: Any, precision: str) -> np.dtype:
    """Return the dtype to train in: float64 if asked for, or if the params, else X, have it; in all else float32.

    JAX with 64-bit off knows no float64; float64 data is then trained in float32. So is what has fewer bits: float16
    has no 1e-8, Adam's epsilon, and the updates of most steps are less than a bfloat16 weight's last digit.
    """
    if params is not None:
        given = params[0].W.dtype
    elif hasattr(X, "dtype") or jax.dtypes.canonicalize_dtype("float64") == jnp.float32:
        given = getattr(X, "dtype", None)
    else:  # a frame or list of float64, as NumPy reads it
        given = real_numbers("X", X).dtype
    follows = isinstance(given, np.dtype) and given.name == "float64"  # in any order of its bytes, of NumPy or JAX
    name = "float64" if follows or precision == "float64" else "float32"
    return jnp.dtype(jax.dtypes.canonicalize_dtype(name))


def steps_per_epoch(steps: int | None) -> int | None:
    """Return the number of batches of an epoch; None is a pass over them."""
    return None if steps is None else count("steps_per_epoch", steps, otherwise=", or None for a pass over the batches")


def batch_size(size: int | str | None, m: int) -> int | None:
    """Return the batch size if it is None (full batch) or from 1 to m; "auto" is `AUTO`, or m where that is less."""
    if size is None:
        return None
    if isinstance(size, str) and size == "auto":
        return min(AUTO, m)
    number = count("batch_size", size, otherwise=", 'auto', or None for full-batch gradient descent")
    if number > m:
        raise ValueError(
            f"batch_size is {number} but X has {m} examples; pass batch_size=None for full-batch gradient"
            f" descent, or at most {m}"
        )
    return number

"""Host values on their way in: read once, and refused by name, place and remedy.

Whatever holds real numbers is taken: arrays, lists, frames, integers, booleans, bytes in any order. What only values
can tell is told here: numbers that are not finite or overflow, targets that are no probabilities, negative weights.

Legend: X (n_x, m) and Y (n_y, m) hold examples as columns.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnet._arguments import type_name

if TYPE_CHECKING:  # what type checkers let pass where the tests check the shapes of arrays
    import jaxtyping

    class _Frame(Protocol):
        def __array__(self) -> np.ndarray: ...

    ArrayLike: TypeAlias = jaxtyping.ArrayLike | list[Any] | tuple[Any, ...] | _Frame
else:
    from jaxtyping import ArrayLike as ArrayLike


def host_array(argument: str, values: Any, dtype: np.dtype) -> np.ndarray:
    """Return the values as a finite NumPy array of that dtype, or raise naming what stands in the way and where.

    An array that fits comes back as it is, no copy.
    """
    array = real_numbers(argument, values)
    if jnp.issubdtype(array.dtype, jnp.floating):
        _refuse_not_finite(argument, array, array, "expected finite numbers: clean or impute")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if cast is not array:
        _refuse_not_finite(argument, array, cast, f"it overflows {dtype}: rescale {argument}")
    return cast


def host_integers(argument: str, values: Any, remedy: str) -> np.ndarray:
    """Return the values as a NumPy array of integers, of whatever dtype they have."""
    array = _plain_array(argument, values)
    if not np.issubdtype(array.dtype, np.integer) or array.dtype.kind == "m":
        raise TypeError(f"{argument} has dtype {array.dtype}; expected integers: {remedy}")
    return array


def real_numbers(argument: str, values: Any) -> np.ndarray:
    """The values as a NumPy array of real numbers, in the dtype they have."""
    array = _plain_array(argument, values)
    if array.dtype == object:
        raise TypeError(_object_message(argument, array))
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{argument} is complex ({array.dtype}); expected real numbers: pass real and imaginary parts")
    if not holds_real_numbers(array):
        raise TypeError(f"{argument} has dtype {array.dtype}; expected real numbers: encode text and categories first")
    return array


def holds_real_numbers(array: Any) -> bool:
    """Whether an array's dtype is one of real numbers or booleans; NumPy counts durations as integers, we do not."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    is_duration = isinstance(array.dtype, np.dtype) and array.dtype.kind == "m"
    return not is_duration and any(jnp.issubdtype(array.dtype, kind) for kind in kinds)


def _plain_array(argument: str, values: Any) -> np.ndarray:
    """What NumPy makes of the values; what it cannot read, or would read wrongly, is refused by name."""
    if values is None or isinstance(values, str | bytes | dict | set | frozenset | type) or callable(values):
        got = "None" if values is None else type_name(values)
        raise TypeError(f"{argument} is {got}; expected an array of real numbers")
    if isinstance(values, Iterator) or (hasattr(values, "__iter__") and not hasattr(values, "__len__")):
        raise TypeError(
            f"{argument} is {type_name(values)}, which has to be read to the end; expected an array of real numbers:"
            f" np.stack(list({argument}), axis=-1) of single examples, np.concatenate(list({argument}), axis=-1) of"
            " batches of columns, or fit(net, batches), which reads them as it trains"
        )
    if isinstance(values, Tracer):
        raise TypeError(f"{argument} is traced, and has no values to check yet; call this outside jit, grad and vmap")
    if hasattr(values, "toarray") or hasattr(values, "todense"):
        dense = "toarray" if hasattr(values, "toarray") else "todense"
        raise TypeError(f"{argument} is sparse ({type(values).__name__}); expected a dense array: {argument}.{dense}()")
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.extended):
        raise TypeError(f"{argument} has dtype {values.dtype}; expected real numbers: draw them with the key")
    require_whole(argument, values)
    if np.ma.is_masked(values):
        raise TypeError(f"{argument} is masked at some places; expected plain numbers: fill or drop them first")
    try:
        return np.asarray(values)
    except jax.errors.TracerArrayConversionError as error:  # jit takes a list for a tree
        raise TypeError(
            f"{argument} is {type_name(values)} of traced numbers; expected an array: jnp.asarray"
        ) from error
    except Exception as error:  # whatever the reading of another library's object raises
        if isinstance(values, list | tuple):
            raise ValueError(
                f"{argument} is ragged: its rows differ in length; expected a rectangular array"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TypeError(
            f"{argument} is {type_name(values)} that NumPy cannot read ({reason}); expected an array of real numbers"
        ) from error


def require_whole(argument: str, array: Any) -> None:
    """Refuse an array of which other processes have a part."""
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        raise TypeError(
            f"{argument} is an array of which other processes have a part; expected one that is here as a whole:"
            " jax.experimental.multihost_utils.process_allgather(..., tiled=True), called in all of them"
        )


def _object_message(argument: str, array: np.ndarray) -> str:
    """Why an array of Python objects is no array of numbers: the first entry that is none."""
    number = int | float | np.number
    for place, entry in np.ndenumerate(array):
        if not isinstance(entry, number):
            where = _place(place) if place else "all"
            return (
                f"{argument} has dtype object and holds {type_name(entry)} at {where}; expected real numbers: encode"
                " text and categories, and fill what is missing, first"
            )
    return f"{argument} has dtype object; expected real numbers in a dtype of numbers: {argument}.astype(float)"


def _refuse_not_finite(argument: str, given: np.ndarray, array: np.ndarray, remedy: str) -> None:
    """Refuse an array with an infinity or NaN, which a sum would show: it takes no memory, as a mask does."""
    with np.errstate(all="ignore"):
        if not np.isfinite(array.sum()):
            refuse_first(argument, given, ~np.isfinite(array), remedy)


def refuse_first(argument: str, array: np.ndarray, bad: np.ndarray, remedy: str) -> None:
    """Raise if any entry is bad, naming the first and where it stands."""
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{argument} holds {array[where]} at {_place(where)} ({bad.sum()} such); {remedy}")


def _place(where: tuple[int, ...]) -> str:
    return f"row {where[0]}, column {where[1]}" if len(where) == 2 else f"position {where}"


def class_targets(argument: str, Y: np.ndarray, output: Any, given: Any) -> None:
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


def masking_weights(weights: np.ndarray, given: Any, argument: str = "weights") -> None:
    """Refuse weights below 0, and those whose sum has no inverse in the float32 or float64 that they are summed in.

    What was given, before it was cast, says whether they vanished on the way.
    """
    refuse_first(argument, weights, ~(weights >= 0), "expected weights of at least 0")
    most, total = 1 / jnp.finfo(np.promote_types(weights.dtype, np.float32)).tiny, weights.sum(dtype=np.float64)
    if total > most:
        raise ValueError(f"{argument} sum to {total:.3g}; expected at most {most:.2g}: divide them by the largest")
    if not weights.any() and np.any(np.asarray(given)):
        raise ValueError(f"{argument} are all 0 in {weights.dtype}; divide them by the largest")


def example_weights(weights: np.ndarray, given: Any, argument: str = "weights") -> None:
    """Refuse weights below 0, or of which none counts."""
    masking_weights(weights, given, argument)
    if not weights.any():
        raise ValueError(f"{argument} are all 0; expected at least one example that counts")

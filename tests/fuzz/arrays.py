"""Arrays as somebody may give them: an entry or the shape of float64 values changed, in some dtype and form.

A form is a layout, a container, or another library's type.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse

from tests.fuzz.arguments import EITHER, FINE, WRONG, Given, junk, pick

# ---- values and shapes ----

SPECIAL = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e39, 3.4e38, 5e-324, -0.0, 2.0**62, -(2.0**62), 1e10, -1.0, 2.0)


def with_special_value(rng, values):
    """The values with one entry replaced, and that in words."""
    value, values = SPECIAL[rng.integers(len(SPECIAL))], values.copy()
    values[tuple(rng.integers(n) for n in values.shape)] = value
    return values, f"{value:g}"


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda a: a.T,
    "a row": lambda a: a.ravel()[: a.shape[-1]],
    "flat": lambda a: a.ravel(),
    "a column": lambda a: a.reshape(-1, 1),
    "3-d": lambda a: a[None],
    "0-d": lambda a: a.ravel()[0].reshape(()),
    "no examples": lambda a: a[..., :0],
    "no rows": lambda a: a[:0],
    "one more": lambda a: np.concatenate([a, a[..., :1]], axis=-1),
    "the first only": lambda a: a[..., :1],
    "one row more": lambda a: np.concatenate([a, a[:1]]),
}

# ---- dtypes ----


def _integers(dtype):
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**62)), min(info.max, 2**62)
    return lambda a: np.array([int(v) for v in np.clip(np.nan_to_num(a), low, high).flat], dtype).reshape(a.shape)


_seconds = _integers(np.int64)
INTEGERS = ("int64", "int32", "int8", "uint8", "uint64", "bool")
DTYPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{name: (lambda a, dtype=name: a.astype(dtype)) for name in ("float32", "float64", "float16", "longdouble")},
    "bfloat16": lambda a: a.astype(jnp.bfloat16),
    **{name: _integers(np.dtype(name)) for name in INTEGERS if name != "bool"},
    "bool": lambda a: a > 0,
    "complex64": lambda a: a.astype("complex64"),
    "complex128": lambda a: a + 0j,
    "object": lambda a: a.astype(object),
    "U": lambda a: a.astype(str),
    "S": lambda a: a.astype(bytes),
    "void": lambda a: np.ascontiguousarray(a, np.float32).view("V4"),
    "record": lambda a: np.ascontiguousarray(a, np.float32).view([("value", "f4")]),
    "datetime": lambda a: _seconds(a).astype("datetime64[s]"),
    "timedelta": lambda a: _seconds(a).astype("timedelta64[s]"),
}

# ---- forms ----


class Frame:
    """What a table of another library is like: it has no buffer, but `__array__`."""

    def __init__(self, array):
        """Hold the array."""
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        """The values."""
        return self._array if dtype is None else self._array.astype(dtype)


class Tensor(Frame):
    """What a tensor of PyTorch is like, with a gradient or without."""

    def __init__(self, array, requires_grad=False):
        """Hold the array."""
        super().__init__(array)
        self.requires_grad = requires_grad

    def detach(self):
        """The tensor without its gradient."""
        return Tensor(self._array)

    def numpy(self):
        """The values, of a tensor without a gradient."""
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self._array

    def __array__(self, dtype=None, copy=None):
        """The values, of a tensor without a gradient."""
        return self.numpy() if dtype is None else self.numpy().astype(dtype)


class Subclass(np.ndarray):
    """A subclass of NumPy's array."""


def _as_tuple(values):
    return tuple(map(_as_tuple, values)) if isinstance(values, list) else values


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _unaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)
    view = room[1:].view(a.dtype)[: a.size].reshape(a.shape)
    view[...] = a
    return view


def _pandas(a):
    return pd.Series(a) if a.ndim == 1 else pd.DataFrame(a)


def _jax(a):
    with np.errstate(all="ignore"):
        return jnp.asarray(a)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "plain": lambda a: a,
    "Fortran": np.asfortranarray,
    "negative strides": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "read-only": _read_only,
    "unaligned": _unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: _as_tuple(a.tolist()),
    "list of arrays": list,
    "memoryview": memoryview,
    "pandas": _pandas,
    "frame": Frame,
    "tensor": Tensor,
    "tensor with grad": lambda a: Tensor(a, requires_grad=True),
    "subclass": lambda a: a.view(Subclass),
    "matrix": np.matrix,
    "masked, no entry": np.ma.masked_array,
    "jax": _jax,
    "masked": lambda a: np.ma.masked_array(a, np.arange(a.size).reshape(a.shape) == a.size // 2),
    "objects": lambda a: a.astype(object),
    "sparse matrix": scipy.sparse.csr_matrix,
    "sparse array": scipy.sparse.coo_array,
    "generator": lambda a: (row for row in a),
}
REFUSED = ("masked", "objects", "sparse matrix", "sparse array", "generator")
UNDECIDED = ("tensor with grad", "list of arrays")


def is_real(dtype) -> bool:
    """Whether the dtype is of integers, booleans or real floats."""
    durations = dtype.kind == "m"  # a kind of integer to NumPy
    return not durations and any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def plain(rng, values, dtype=np.float32) -> Given:
    """The values as a NumPy or a JAX array of that dtype."""
    array, on_host = values.astype(dtype), rng.random() < 0.5
    value, note = (array, "numpy") if on_host else (jnp.asarray(array), "jax")
    return Given(value, FINE, note, array.astype(np.float64), on_host, array.dtype)


def array_like(rng, values, own="float32", dtypes=tuple(DTYPES)) -> Given:
    """The values as somebody may give them: changed, of another shape, dtype or form; or no array at all."""
    if rng.random() < 0.12:
        return junk(rng)
    notes = []
    if rng.random() < 0.3:
        values, note = with_special_value(rng, values)
        notes.append(note)
    if rng.random() < 0.2:
        shape = pick(rng, SHAPES)
        values = SHAPES[shape](values)
        notes.append(shape)
    dtype = pick(rng, dtypes) if rng.random() < 0.5 else own
    form = pick(rng, FORMS) if rng.random() < 0.7 else "plain"
    with np.errstate(all="ignore"):
        array = np.asarray(DTYPES[dtype](values))
    try:
        value = FORMS[form](array)
    except (TypeError, ValueError, IndexError, NotImplementedError):  # not all forms take all dtypes and shapes
        form, value = "plain", array
    return _given(array, value, form, " ".join([*notes, dtype, form]))


def _given(array, value, form, note) -> Given:
    if isinstance(value, jax.Array | np.matrix | list | tuple) and array.size:  # of another dtype, or another shape
        array = np.asarray(value)
    if not is_real(array.dtype):
        return Given(value, WRONG, note)
    given = Given(value, FINE, note, array.astype(np.float64), not isinstance(value, jax.Array), array.dtype)
    lost = form in ("list", "tuple", "list of arrays") and array.size == 0  # its dtype and its shape
    nothing_masked = form == "masked" and array.size == 0
    return given.refused_if(lost or (form in REFUSED and not nothing_masked)).refused_if(form in UNDECIDED, EITHER)


def sums_too_high(weights, dtype) -> bool:
    """Whether the sum of weights has no inverse in float32, or in their wider dtype."""
    return weights.sum() > 1 / float(jnp.finfo(jnp.promote_types(dtype, np.float32)).tiny)


def in_range(given: Given, dtype) -> Given:
    """Refused where a number that is read is not finite, or overflows the dtype."""
    if given.meaning is None or not given.on_host:
        return given
    with np.errstate(over="ignore"):
        return given.refused_if(not np.isfinite(given.meaning.astype(dtype)).all())

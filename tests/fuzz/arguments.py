"""Arguments as somebody may give them: right, wrong, or right in an odd dress.

An array begins as float64 values. Some entry or its shape may be changed, then it is cast to a dtype and put in a
dress: a layout, a container, another library's type. What it means, and whether the contract takes it, is known:

    FINE    it must be taken, and the answer be that of the values
    EITHER  it may be taken or refused by name
    WRONG   it must be refused by name
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse

FINE, EITHER, WRONG = "fine", "either", "wrong"


class Given(NamedTuple):
    """An argument: its value, whether it must be taken, what it is in words, and the numbers that it means."""

    value: Any
    status: str
    note: str
    meaning: Any = None
    on_host: bool = True  # False for JAX arrays, whose values are not read

    def refused_if(self, condition: bool, status: str = WRONG) -> "Given":
        """The same, with a worse status where the condition holds."""
        worst = max(self.status, status, key=(FINE, EITHER, WRONG).index)
        return self._replace(status=worst) if condition else self


# ---- what is no array at all ----


class Class:
    """A class given in place of a value."""


def function(*arguments):
    """A function given in place of a value."""
    return 0


JUNK: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "'a'": lambda: "a",
    "b'a'": lambda: b"a",
    "object()": object,
    "{}": dict,
    "{'W': 1}": lambda: {"W": 1.0},
    "a set": lambda: {1.0, 2.0},
    "a function": lambda: function,
    "a class": lambda: Class,
    "...": lambda: ...,
    "3": lambda: 3,
    "-1": lambda: -1,
    "0": lambda: 0,
    "2.5": lambda: 2.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1j": lambda: 1j,
    "True": lambda: True,
    "10**30": lambda: 10**30,
    "[]": list,
    "()": tuple,
    "[None]": lambda: [None],
    "['a', 'b']": lambda: ["a", "b"],
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "a list of dicts": lambda: [{"a": 1.0}],
    "float32 0-d": lambda: np.float32(1),
    "jax 0-d": lambda: jnp.float32(1),
    "a key": lambda: jax.random.key(0),
    "ShapeDtypeStruct": lambda: jax.ShapeDtypeStruct((3, 3), np.float32),
    "frame of text": lambda: pd.DataFrame({"a": ["x", "y", "z"]}),
    "frame with NA": lambda: pd.DataFrame({"a": pd.array([1.0, None, 2.0], dtype="Float64")}),
    "an exception": lambda: ValueError("a"),
    "generator": lambda: (row for row in [[1.0], [2.0]]),
}


def pick(rng, names):
    """One of the names."""
    names = list(names)
    return names[rng.integers(len(names))]


def junk(rng, *leave_out: str) -> Given:
    """Something that no argument wants, but for what is left out."""
    name = pick(rng, [name for name in JUNK if name not in leave_out])
    return Given(JUNK[name](), WRONG, name)


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
FLOATS = ("float32", "float64", "float16", "bfloat16", "longdouble")
INTEGERS = ("int64", "int32", "int8", "uint8", "uint64", "bool")
OTHERS = ("complex64", "complex128", "object", "U", "S", "void", "record", "datetime", "timedelta")
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

# ---- dresses ----


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


DRESSES: dict[str, Callable[[np.ndarray], Any]] = {
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
    return not durations and (
        dtype == bool or jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    )


def plain(rng, values, dtype=np.float32) -> Given:
    """The values as a NumPy or a JAX array of that dtype."""
    array, on_host = values.astype(dtype), rng.random() < 0.5
    if on_host:
        return Given(array, FINE, "numpy", array.astype(np.float64))
    return Given(jnp.asarray(array), FINE, "jax", array.astype(np.float64), on_host=False)


def array_like(rng, values, own="float32", dtypes=tuple(DTYPES)) -> Given:
    """The values as somebody might give them: of another dtype, shape, value, in a dress, or no array at all."""
    if rng.random() < 0.12:
        return junk(rng)
    notes = []
    if rng.random() < 0.3:
        values, note = with_special_value(rng, values)
        notes.append(note)
    if rng.random() < 0.2:
        name = pick(rng, SHAPES)
        values, notes = SHAPES[name](values), [*notes, name]
    dtype = pick(rng, dtypes) if rng.random() < 0.5 else own
    name = pick(rng, DRESSES) if rng.random() < 0.7 else "plain"
    with np.errstate(all="ignore"):
        array = np.asarray(DTYPES[dtype](values))
    try:
        value = DRESSES[name](array)
    except (TypeError, ValueError, IndexError, NotImplementedError):  # no such dress for this dtype or shape
        name, value = "plain", array
    return _given(array, value, name, " ".join([*notes, dtype, name]))


def _given(array, value, dress, note) -> Given:
    if isinstance(value, jax.Array | np.matrix):
        array = np.asarray(value)
    if not is_real(array.dtype):
        return Given(value, WRONG, note)
    meaning = array.astype(np.float64)
    given = Given(value, FINE, note, meaning, on_host=not isinstance(value, jax.Array))
    given = given.refused_if(dress in UNDECIDED, EITHER)
    # an empty list has lost its dtype and its shape
    given = given.refused_if(dress in ("list", "tuple", "list of arrays") and array.size == 0)
    return given.refused_if(dress in REFUSED)


def in_range(given: Given, dtype) -> Given:
    """Refused where a number on the host is not finite, or overflows the dtype."""
    if given.meaning is None or not given.on_host:
        return given
    with np.errstate(over="ignore"):
        return given.refused_if(not np.isfinite(given.meaning.astype(dtype)).all())

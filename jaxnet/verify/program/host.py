"""Host functions, asked in a precision that holds on whatever thread JAX calls them.

`jax.enable_x64` holds on one thread. A large callback runs on another, where JAX makes float32 of every float64 that
goes in or comes out. So wide numbers travel as their bits, in words of 32, which JAX leaves as they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.verify.program import jaxprs
from jaxnet.verify.program.dtypes import is_wide

WORD = np.dtype(np.uint32)


def asked_wide(equation, inputs, widen) -> list:
    """The answers of a pure callback asked in wider dtypes; one that only takes its own is asked in these."""
    host, own = jaxprs.host_function(equation), as_written(equation)
    taken, given = [x.dtype for x in inputs], [widen(v.aval.dtype) for v in equation.outvars]

    def on_any_thread(*words):
        args = [_numbers(w, dtype) for w, dtype in zip(words, taken, strict=True)]
        try:
            with jax.enable_x64(True):
                outs = [np.asarray(out) for out in host(*map(jnp.asarray, args))]
        except Exception:  # the host function's own complaint about a dtype; any type of error
            outs = own(*args)
        return tuple(_words(np.asarray(out, dtype)) for out, dtype in zip(outs, given, strict=True))

    travel = [_travelling(v.aval.shape, d) for v, d in zip(equation.outvars, given, strict=True)]
    sent = [_sent(x) for x in inputs]
    answers = jax.pure_callback(on_any_thread, tuple(travel), *sent, vmap_method="sequential")
    return [_received(x, dtype) for x, dtype in zip(answers, given, strict=True)]


def as_written(equation):
    """The host function of a callback, in its own dtypes and the precision of JAX in which it was written."""
    host = jaxprs.host_function(equation)
    taken, given = ([v.aval.dtype for v in variables] for variables in (equation.invars, equation.outvars))
    x64 = any(is_wide(dtype) for dtype in (*taken, *given))

    def own(*args):
        with jax.enable_x64(x64):
            outs = host(*[jnp.asarray(np.asarray(a, dtype)) for a, dtype in zip(args, taken, strict=True)])
            return tuple(np.asarray(out, dtype) for out, dtype in zip(outs, given, strict=True))

    return own


# ---- on the way ------------------------------------------------------------------------------------------------------
def _travelling(shape, dtype):
    """What a number of a dtype is on its way: its words, along a last axis."""
    if not is_wide(dtype):
        return jax.ShapeDtypeStruct(shape, dtype)
    return jax.ShapeDtypeStruct((*shape, dtype.itemsize // WORD.itemsize), WORD)


def _sent(x):
    """A traced array as it travels."""
    if not is_wide(x.dtype):
        return x
    parts = jnp.stack([lax.real(x), lax.imag(x)], -1) if jnp.iscomplexobj(x) else x
    return lax.bitcast_convert_type(parts, WORD).reshape(_travelling(x.shape, x.dtype).shape)


def _received(words, dtype):
    """A traced array from what has travelled."""
    if not is_wide(dtype):
        return words
    if dtype.kind != "c":
        return lax.bitcast_convert_type(words, dtype)
    parts = lax.bitcast_convert_type(words.reshape(*words.shape[:-1], 2, 2), np.float64)
    return lax.complex(parts[..., 0], parts[..., 1])


def _numbers(words, dtype) -> np.ndarray:
    """The same on the host."""
    words = np.asarray(words)
    return np.ascontiguousarray(words).view(dtype)[..., 0] if is_wide(dtype) else words


def _words(numbers: np.ndarray) -> np.ndarray:
    """An array of the host as it travels."""
    if not is_wide(numbers.dtype):
        return numbers
    return np.ascontiguousarray(numbers[..., None]).view(WORD)

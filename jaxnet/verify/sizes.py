"""How large arrays are and how they compare: norms that neither under- nor overflow, ratios, factors."""

import numpy as np


def norm(x) -> float:
    """Euclidean norm of all entries, safe from under- and overflow."""
    if np.asarray(x).dtype in (np.float64, np.complex128):
        length = _length(np.ravel(x))  # one pass, and no temporary of the leaf's size
        if 1e-100 < length < 1e100:  # no square was lost that would have counted
            return length
    top = largest(x)
    return top * _length((x / top).ravel()) if 0 < top < np.inf else top


def _length(flat) -> float:
    """Not by BLAS, whose threads wait for each other on a busy machine longer than the sum takes."""
    return float(np.sqrt(np.einsum("i,i->", flat, flat.conj()).real))


def largest(x) -> float:
    """The largest magnitude; nan if any entry is."""
    if np.size(x) == 0:
        return 0.0
    if np.iscomplexobj(x):
        return float(np.max(np.abs(x)))
    return float(np.maximum(np.max(x), -np.min(x))) + 0.0  # no -0, no temporary of the leaf's size


def ratio(error: float, noise: float) -> float:
    """error / noise, where 0/0 is agreement and anything else over 0 is infinite."""
    if np.isnan(error):
        return float("inf")
    if error == 0.0:
        return 0.0
    return error / noise if noise > 0.0 else float("inf")


def alpha_of(g, r, tolerance: float) -> float | None:
    """α with g = α r, if there is one."""
    if g is None or r is None or g.shape != r.shape or norm(r) == 0.0 or not np.isfinite(g).all():
        return None
    length = norm(r)
    alpha = complex(np.einsum("i,i->", (r / length).ravel().conj(), g.ravel())) / length  # not by BLAS: see _length
    if abs(alpha.imag) > tolerance * abs(alpha) or norm(g - alpha.real * r) > tolerance * norm(g):
        return None
    return alpha.real


def near(a, b, tolerance) -> bool:
    """Whether two numbers, as far as they were found, agree to a relative tolerance."""
    if a is None or b is None:
        return False
    return bool(a == b or (np.isfinite([a, b]).all() and abs(a - b) <= tolerance * max(abs(a), abs(b))))


def digits(factor: float, within: float = 0.0) -> str:
    """Four digits, or as many as it takes to tell by how much a factor differs from 1; fewer if they fit `within`."""
    apart = abs(factor - 1)
    count = max(4, 2 + int(np.ceil(-np.log10(apart))) if 0 < apart < 1 else 0)
    told = next(s for n in range(1, count + 1) if near(float(s := f"{factor:.{n}g}"), factor, within) or n == count)
    return f"{float(told):g}" if 1e-4 <= abs(factor) < 1e6 and "e" in told else told  # 10 rather than 1e+01

"""How good predictions are: accuracy."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def accuracy(
    A: Float[Array, "n_y m"], Y: Float[Array, "n_y m"], weights: Float[Array, " m"] | None = None
) -> Float[Array, ""]:
    """Return the (weighted) proportion of examples whose predicted class is the true one, from 0 to 1.

    With one row a class is A > 1/2; with several rows it is the row of the largest entry. A NaN is never right.

    Raises:
        ValueError: A and Y differ in shape, or weights are not (m,).
    """
    if A.shape != Y.shape:
        raise ValueError(f"A has shape {A.shape} but Y has {Y.shape}; expected the same (n_y, m)")
    if weights is None:
        weights = jnp.ones(A.shape[1], np.promote_types(A.dtype, np.float32))
    elif weights.shape != A.shape[1:]:
        raise ValueError(f"weights has shape {weights.shape}; expected {A.shape[1:]}, one number an example")
    right = ((A > 0.5) == (Y > 0.5))[0] if A.shape[0] == 1 else A.argmax(axis=0) == Y.argmax(axis=0)
    right &= ~jnp.isnan(A).any(axis=0)
    total = weights.sum()
    return jnp.where(right, weights, 0).sum() / jnp.where(total > 0, total, 1)

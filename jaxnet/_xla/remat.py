"""Rematerialisation: an activation computed again in the backward pass instead of kept since the forward pass."""

import jax.numpy as jnp


def remat(g, Z, A, dA):
    """Return Z and A = g(Z) for the backward pass; where `g.remat`, A is computed again, so that Z alone is stored.

    The sum below is a false data dependency on dA, which adds exactly 0. Without it XLA's common-subexpression
    elimination reuses the forward pass's A and no memory is saved; `jax.lax.optimization_barrier` does not prevent
    that on a CPU.
    """
    if not g.remat:
        return Z, A
    Z = Z + jnp.minimum(jnp.abs(dA), 0)
    return Z, g(Z)

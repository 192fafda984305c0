"""The verdict on one gradient, for the tests at kinks."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify import check_gradients


def verdict(loss, g, params, *args, whole=True, **options):
    """The verdict on a gradient given as numbers or as a function, which is compiled whole or runs as it is."""
    g = g if callable(g) or isinstance(params, tuple) else np.array(g)
    if callable(g):
        gradient = jax.jit(g) if whole else g
    else:
        gradient = lambda *_: jax.tree.map(lambda x, p: jnp.asarray(x, p.dtype), g, params)
    report = check_gradients(loss, gradient, params, *args, raise_=False, **options)
    assert not any("crashed" in note for note in report.notes), report.notes
    return report.verdict

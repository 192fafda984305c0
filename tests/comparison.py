"""Trees compared leaf by leaf, the wrong leaf named by its path."""

import jax
import jax.numpy as jnp
import numpy as np


def relative_errors(actual, expected):
    """The largest error of each leaf over the leaf's largest entry, by path; inf where shape or dtype differ."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    errors = {}
    for (path, want), got in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(actual), strict=True):
        name = jax.tree_util.keystr(path)
        if jnp.shape(got) != jnp.shape(want) or jnp.result_type(got) != jnp.result_type(want):
            errors[name] = float("inf")
        else:
            got, want = np.asarray(got), np.asarray(want)  # on the host, where nothing is compiled
            scale, error = float(np.max(np.abs(want))), float(np.max(np.abs(got - want)))
            errors[name] = error / scale if scale > 0 else error  # a leaf that is truly 0 must be 0
    return errors


def wrong_leaves(actual, expected, rtol):
    """The paths of the leaves that are not equal to within rtol; a NaN is never equal."""
    return {path for path, error in relative_errors(actual, expected).items() if not error <= rtol}


def assert_trees_close(actual, expected, rtol):
    """Fail naming each leaf whose error exceeds rtol."""
    errors = relative_errors(actual, expected)
    wrong = {path: f"{error:.1e}" for path, error in errors.items() if not error <= rtol}
    assert not wrong, f"relative errors above {rtol:.0e}: {wrong}"

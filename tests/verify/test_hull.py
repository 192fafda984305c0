"""The point of a convex hull that is nearest to the origin."""

import numpy as np
import pytest

from jaxnet.verify.hull import nearest_to_origin


@pytest.mark.parametrize("seed", range(20))
def test_no_point_of_the_hull_is_nearer(seed):
    """y is nearest to the origin if and only if <p, y> ≥ <y, y> for every corner p."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=rng.integers(1, 30, 2)) + rng.normal() * (seed % 3)
    points = np.sign(points) if seed % 4 == 0 else points  # many equal corners
    w = nearest_to_origin(points)
    y = points @ w
    assert (w >= 0).all() and abs(w.sum() - 1) < 1e-12
    assert (points.T @ y >= y @ y - 1e-12 * np.abs(points).max() ** 2).all()

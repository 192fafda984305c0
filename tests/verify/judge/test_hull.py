"""The point of a convex hull that is nearest to the origin."""

import numpy as np
import pytest

from jaxnet.verify.judge import hull
from jaxnet.verify.judge.hull import nearest_to_origin


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


def test_corners_a_rounding_apart_do_not_go_round(monkeypatch):
    """Which of them is nearest is chance: there is nothing to gain, and each would take the other's place for ever."""
    planes, of_the_plane = [], hull._of_the_plane
    monkeypatch.setattr(hull, "_of_the_plane", lambda corners: planes.append(1) or of_the_plane(corners))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        points = rng.normal(size=(5, 1)) + 1e-16 * rng.normal(size=(5, 100))
        points -= points[:, :8].mean(axis=1, keepdims=True) * (seed % 2)
        planes.clear()
        w = nearest_to_origin(points)
        assert (w >= 0).all() and abs(w.sum() - 1) < 1e-12
        assert len(planes) <= 2 * points.shape[1]

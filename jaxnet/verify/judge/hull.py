"""The point of a convex hull that is nearest to the origin."""

from typing import Any

import numpy as np

ROUNDING = 1e-15  # of the product of two lengths: what an inner product may be off by
GAIN, PATIENCE = 1e-9, 64  # of the distance, in so many steps together: what gains less goes round in rounding


def nearest_to_origin(points: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Weights w ≥ 0, Σ w = 1, that make ‖points @ w‖ smallest; the points are columns.

    start   weights of the first points, from which it goes on: the solution before the others were added

    Source: P. Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11 (1976).
    """
    count = points.shape[1]
    if points.shape[0] > count:  # the lengths and angles are all that matters
        points = np.linalg.qr(points, mode="r")  # pyright: ignore[reportAssignmentType] - NumPy's stub knows Q and R only
    lengths = np.sqrt(np.einsum("ij,ij->j", points, points))
    corners, w = [int(np.argmin(lengths))], np.ones(1)
    if start is not None:
        corners = [int(k) for k in np.flatnonzero(start)]
        w = start[corners]
    least, waited = np.inf, 0
    for _ in range(16 * count):  # it needs far fewer, and what it has is always a point of the hull
        y = points[:, corners] @ w
        ahead = points.T @ y
        best = int(np.argmin(ahead))
        size = np.sqrt(y @ y)
        least, waited = (size, 0) if size < (1 - GAIN) * least else (least, waited + 1)
        if waited > PATIENCE or best in corners or ahead[best] >= size * (size - ROUNDING * lengths.max()):
            break
        corners, w = [*corners, best], np.append(w, 0.0)
        while True:
            flat = _of_the_plane(points[:, corners])
            if (flat > 0).all():
                w = flat
                break
            # As far towards the plane's nearest point as the hull reaches; the corner that is in the way goes.
            down = np.flatnonzero(flat <= 0)
            steps = w[down] / np.maximum(w[down] - flat[down], 1e-300)
            w = w + steps.min() * (flat - w)
            kept = np.arange(len(w)) != down[int(np.argmin(steps))]
            corners, w = [c for c, k in zip(corners, kept, strict=True) if k], w[kept].clip(0) / w[kept].clip(0).sum()
    weights = np.zeros(count)
    weights[corners] = w
    return weights


def _of_the_plane(corners: np.ndarray) -> np.ndarray:
    """Weights of any sign, Σ = 1, of the point nearest to the origin in the plane through the corners."""
    from scipy.linalg import lstsq  # which takes long to import, and is asked at ties alone

    last = corners[:, -1]
    # by QR with pivots, which is four times faster than NumPy's singular values
    solved: Any = lstsq(corners[:, :-1] - last[:, None], -last, lapack_driver="gelsy", check_finite=False)
    return np.append(solved[0], 1 - solved[0].sum())

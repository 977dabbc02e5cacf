"""Thinning of candidate geometries: farthest points in descriptor space."""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray, IntArray


def farthest_points(
    candidates: FloatArray, count: int, existing: FloatArray | None = None, nearest: float = 0.0
) -> IntArray:
    """Greedy farthest-point selection (Gonzalez, Theor. Comput. Sci. 38, 293, 1985).

    candidates (S, D) and existing (K, D), descriptors on a common scale. Picks up to `count` indices into the
    candidates, each the one farthest from the existing points and from those picked before; stops when the
    farthest is not farther than `nearest`. Without existing points the first is the one nearest to the mean.
    """
    candidates = np.asarray(candidates, float)
    if len(candidates) == 0 or count <= 0:
        return np.zeros(0, np.int64)
    picked: list[int] = []
    if existing is not None and len(existing):
        distance = np.full(len(candidates), np.inf)
        for point in existing:
            np.minimum(distance, ((candidates - point) ** 2).sum(1), out=distance)
    else:
        picked.append(int(np.argmin(((candidates - candidates.mean(0)) ** 2).sum(1))))
        distance = ((candidates - candidates[picked[0]]) ** 2).sum(1)
    while len(picked) < min(count, len(candidates)):
        best = int(np.argmax(distance))
        if distance[best] <= max(nearest, 1e-12) ** 2:
            break
        picked.append(best)
        np.minimum(distance, ((candidates - candidates[best]) ** 2).sum(1), out=distance)
    return np.array(picked, np.int64)

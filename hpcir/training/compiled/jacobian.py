"""Compiled products with the derivatives of the inputs by the positions, read once each from where they lie.

The derivatives of a label are by far the most that a step reads from memory; a copy of a batch's would be read twice
more. Columns go in pairs, the last one with zeros beside it: the rounding does not depend on how many there are. Each
row of the derivatives (labels, N, 3, C, K) is of one moved atom's component; slot c of an atom is of the centre that
`centres` says.
"""

from __future__ import annotations

import numpy as np

from hpcir.descriptors.lanes import KERNEL, njit

LOOPS = {**KERNEL, "fastmath": {"contract", "nsz", "reassoc"}}


@njit(**LOOPS)
def forwards(derivatives, labels, centres, slopes, forces):  # type: ignore[no-untyped-def]
    """forces[m, b, a, x] = sum_(c, k) derivatives[labels[b], a, x, c, k] slopes[m, b, centre of (a, c), k].

    labels (B,); centres (all labels, N, C), or (0, 0, 0) where slot c is centre c; slopes (columns, B, N, K); forces
    (columns, B, N, 3).
    """
    columns, batch, atoms, width = slopes.shape
    slots = derivatives.shape[3]
    pair = np.zeros((2, slots * width), slopes.dtype)
    for b in range(batch):
        label = labels[b]
        for a in range(atoms):
            rows = derivatives[label, a].reshape(3, slots * width)
            for m in range(0, columns, 2):
                count = min(2, columns - m)
                if count == 1:
                    pair[1] = 0.0
                if len(centres) or count == 1:
                    for n in range(count):
                        for c in range(slots):
                            centre = centres[label, a, c] if len(centres) else c
                            pair[n, c * width : (c + 1) * width] = slopes[m + n, b, centre]
                    first, second = pair[0], pair[1]
                else:
                    first, second = slopes[m, b].reshape(-1), slopes[m + 1, b].reshape(-1)
                px, py, pz, qx, qy, qz = _products(rows[0], rows[1], rows[2], first, second)
                own = forces[m, b, a]
                own[0], own[1], own[2] = px, py, pz
                if count == 2:
                    own = forces[m + 1, b, a]
                    own[0], own[1], own[2] = qx, qy, qz


@njit(**LOOPS)
def _products(x, y, z, p, q):  # type: ignore[no-untyped-def]
    """The products of p and of q with x, y, z."""
    zero = x.dtype.type(0.0)
    px, py, pz, qx, qy, qz = zero, zero, zero, zero, zero, zero
    for k in range(len(x)):
        u, v, w, f, g = x[k], y[k], z[k], p[k], q[k]
        px += u * f
        py += v * f
        pz += w * f
        qx += u * g
        qy += v * g
        qz += w * g
    return px, py, pz, qx, qy, qz


@njit(**LOOPS)
def backwards(derivatives, labels, centres, bars, slope_bars):  # type: ignore[no-untyped-def]
    """The transpose of `forwards`: slope_bars (columns, B, N, K) from bars (columns, B, N, 3)."""
    columns, batch, atoms, width = slope_bars.shape
    slots = derivatives.shape[3]
    for b in range(batch):
        label = labels[b]
        slope_bars[:, b] = 0.0
        for a in range(atoms):
            rows = derivatives[label, a].reshape(3, slots * width)
            for m in range(columns):
                bar = bars[m, b, a]
                u, v, w = bar[0], bar[1], bar[2]
                if len(centres) == 0:
                    _add_rows(rows[0], rows[1], rows[2], u, v, w, slope_bars[m, b].reshape(-1))
                    continue
                for c in range(slots):
                    part = rows[:, c * width : (c + 1) * width]
                    _add_rows(part[0], part[1], part[2], u, v, w, slope_bars[m, b, centres[label, a, c]])


@njit(**LOOPS)
def _add_rows(x, y, z, u, v, w, result):  # type: ignore[no-untyped-def]
    for k in range(len(x)):
        result[k] += u * x[k] + v * y[k] + w * z[k]

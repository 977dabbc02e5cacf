"""Velocities projected on the normal modes of the basin that each frame is in, with exactly known thermal width.

A mode's direction u (mass-weighted) is turned with the molecule, freed of the components along the rigid motions at
the present geometry and normalised: e = P u / |P u|. For canonical velocities y (mass-weighted; with or without
those of translation and rotation) e.y has variance kT whatever the positions are, so that its square and products
are control variates with known means. The time derivative of the Eckart-frame normal coordinate, which the
assignment uses, has not: its variance grows with the displacement (Coriolis coupling). It also may not jump, while a
projection may change over to another basin's modes from one frame to the next: another conformer, or the same with a
methyl group turned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.spectra.basins import Basin, nearest_basin

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def thermal_velocities(
    positions: FloatArray, velocities: FloatArray, masses: FloatArray, basins: Sequence[Basin]
) -> tuple[FloatArray, IntArray]:
    """Normalised mode velocities (F, M) with variance kT each, and the basin (F,) that each frame is in.

    positions (F, N, 3) in bohr, velocities (F, N, 3), masses (N,), all atomic units. The basins must have equally many
    modes; mode m is the m-th in ascending order of each. Raises InputError otherwise.
    """
    if len({len(basin.modes) for basin in basins}) != 1:
        raise InputError("the minima have different numbers of modes", value=[len(basin.modes) for basin in basins])
    index, rotations = nearest_basin(positions, masses, basins)
    root = np.sqrt(masses)[:, None]
    count = len(positions)
    directions = np.array([basin.modes for basin in basins])[index]
    # Rows of the rotation turn the basin's vectors back into the frame of the trajectory.
    directions = np.matmul(directions, rotations[:, None]).reshape(count, directions.shape[1], -1)
    rigid = rigid_directions(positions, masses)
    directions = directions - np.matmul(np.matmul(directions, np.swapaxes(rigid, 1, 2)), rigid)
    weighted = (velocities * root).reshape(count, -1)
    length = np.sqrt((directions**2).sum(axis=2))
    return np.einsum("fmx,fx->fm", directions, weighted) / length, index


def bond_velocities(
    positions: FloatArray, velocities: FloatArray, masses: FloatArray, pairs: Sequence[tuple[int, int]]
) -> FloatArray:
    """Normalised stretching velocities (F, B) of bonded pairs, with variance kT each at any geometry.

    sqrt(reduced mass) times the rate of change of the distance. They need no minimum, and no motion of a conformer or a
    rotor disturbs them; for stretches of hydrogen they are the better mode.
    """
    first, second = np.array(pairs).T
    delta = positions[:, first] - positions[:, second]
    unit = delta / np.linalg.norm(delta, axis=2, keepdims=True)
    rate = ((velocities[:, first] - velocities[:, second]) * unit).sum(axis=2)
    return np.asarray(rate / np.sqrt(1 / masses[first] + 1 / masses[second]))


def bond_wavenumbers(basin: Basin, masses: FloatArray, pairs: Sequence[tuple[int, int]]) -> FloatArray:
    """Where in the spectrum each bond's stretch (B,) belongs: the modes' mean square wavenumber, weighted by
    overlap."""
    unit = np.zeros((len(pairs), *basin.positions.shape))
    for row, (i, j) in enumerate(pairs):
        direction = basin.positions[i] - basin.positions[j]
        unit[row, i], unit[row, j] = direction / np.sqrt(masses[i]), -direction / np.sqrt(masses[j])
    overlap = np.einsum("bia,mia->bm", unit, basin.modes) ** 2
    return np.asarray(np.sqrt(overlap @ basin.wavenumbers**2 / overlap.sum(axis=1)))


def rigid_directions(positions: FloatArray, masses: FloatArray) -> FloatArray:
    """Orthonormal mass-weighted directions (F, 6, 3N) of translation and rotation at geometries (F, N, 3).

    At a linear geometry the direction that does not exist is zero.
    """
    count, atoms = positions.shape[:2]
    root = np.sqrt(masses)
    relative = positions - np.einsum("i,fia->fa", masses / masses.sum(), positions)[:, None]
    vectors = np.zeros((count, 6, atoms, 3))
    for axis in range(3):
        vectors[:, axis, :, axis] = root / np.sqrt(masses.sum())
        vectors[:, 3 + axis] = np.cross(np.eye(3)[axis], relative) * root[:, None]
    rows: FloatArray = vectors.reshape(count, 6, -1)
    inertia, axes = np.linalg.eigh(np.matmul(rows[:, 3:], np.swapaxes(rows[:, 3:], 1, 2)))
    present = inertia > 1e-6 * inertia[:, 2:]
    scale = np.where(present, 1 / np.sqrt(np.where(present, inertia, 1.0)), 0.0)
    rows[:, 3:] = np.matmul(np.swapaxes(axes, 1, 2) * scale[:, :, None], rows[:, 3:])
    return rows

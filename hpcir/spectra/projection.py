"""Velocities of the normal modes of the basin that each frame is in, with exactly known thermal width.

A mode has a direction g_m at every geometry: a combination of internal coordinates (`curvilinear`) or, where those do
not do (linear parts, very large molecules), the Cartesian mode turned with the molecule and freed of the rigid motions
of the present geometry. Gram and Schmidt, from the stiffest mode to the softest, make them orthonormal, e_m. For
canonical velocities y (mass-weighted; with or without those of translation and rotation) the s_m = e_m.y are
independent normal numbers of variance kT whatever the positions are, so all their Hermite products, and those times
functions of the positions, have known means (`controls`).

The time derivative of the Eckart-frame normal coordinate has not: its variance grows with the displacement (Coriolis
coupling). It also may not jump, while a projection may change over to another basin's modes from one frame to the
next: another conformer, or the same with a methyl group turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.dynamics.thermal import is_linear
from hpcir.errors import InputError
from hpcir.molecules.structures import Structure
from hpcir.spectra.basins import Basin, nearest_basin, nearest_basin_index
from hpcir.spectra.curvilinear import CurvilinearModes
from hpcir.units import PER_CM

# Molecules with more modes than this get Cartesian directions that are normalised, not orthogonal: their energies are
# controls, their products are not.
MAX_ORTHONORMAL = 30
# Least moment of inertia as a fraction of the largest; smaller ones count as none.
MIN_INERTIA = 1e-6
# Added to the Gram matrix's diagonal, so that no geometry is singular.
GRAM_SHIFT = 1e-10
# Numbers in the directions of frames that are projected together: limited for cache and memory.
BATCH = 400_000


@dataclass(frozen=True)
class Projection:
    """A projection of a molecule's velocities: basins, masses (N,), and their modes in internal coordinates
    (None: Cartesian)."""

    basins: Sequence[Basin]
    masses: FloatArray
    internal: CurvilinearModes | None

    @classmethod
    def of(cls, basins: Sequence[Basin], structure: Structure, masses: FloatArray) -> Projection:
        """On basins, which must have equally many modes (mode m is the m-th in ascending order of each); structure
        gives the bonds. Raises InputError otherwise."""
        if len({len(basin.modes) for basin in basins}) != 1:
            raise InputError("the minima have different numbers of modes", value=[len(basin.modes) for basin in basins])
        small = len(basins[0].modes) <= MAX_ORTHONORMAL
        return cls(basins, masses, CurvilinearModes.of(basins, structure, masses) if small else None)

    @property
    def orthonormal(self) -> bool:
        return len(self.basins[0].modes) <= MAX_ORTHONORMAL

    def velocities(self, positions: FloatArray, velocities: FloatArray) -> tuple[FloatArray, IntArray]:
        """s (F, M) in sqrt(hartree), modes in ascending order, and the basin (F,) of each frame.

        positions (F, N, 3) in bohr and velocities (F, N, 3), all atomic units.
        """
        modes, size = self.basins[0].modes.shape[0], 3 * len(self.masses)
        batch = max(1, BATCH // (modes * size))
        found = np.empty((len(positions), modes))
        index = np.empty(len(positions), np.int64)
        for first in range(0, len(positions), batch):
            part = slice(first, first + batch)
            directions, index[part] = self._directions(positions[part])
            weighted = (velocities[part] * np.sqrt(self.masses)[:, None]).reshape(-1, size)
            found[part] = _rates(directions, weighted, self.orthonormal)[:, ::-1]
        return found, index

    def _directions(self, positions: FloatArray) -> tuple[FloatArray, IntArray]:
        """Directions (F, M, 3N), the stiffest mode first, and basins (F,) at geometries (F, N, 3)."""
        if self.internal is not None:
            index = nearest_basin_index(positions, self.masses, self.basins)
            return self.internal.directions(positions, self.masses, index), index
        index, rotations = nearest_basin(positions, self.masses, self.basins)
        directions = np.array([basin.modes[::-1] for basin in self.basins])[index]
        # Rows of the rotation turn the basin's vectors back into the frame of the trajectory.
        directions = np.matmul(directions, rotations[:, None]).reshape(len(positions), directions.shape[1], -1)
        rigid = rigid_directions(positions, self.masses)
        if is_linear(self.basins[0].positions, self.masses):
            # Turning a bent geometry about its axis is what the two bends do out of phase.
            rigid = np.delete(rigid, 3, axis=1)
        return directions - np.matmul(np.matmul(directions, np.swapaxes(rigid, 1, 2)), rigid), index


def _rates(directions: FloatArray, weighted: FloatArray, orthonormal: bool) -> FloatArray:
    """Components (F, M) of mass-weighted velocities (F, 3N) along directions (F, M, 3N) made orthonormal or unit."""
    directions = directions / np.sqrt((directions**2).sum(axis=2, keepdims=True))
    rates = np.matmul(directions, weighted[:, :, None])
    if orthonormal:
        gram = np.matmul(directions, np.swapaxes(directions, 1, 2)) + GRAM_SHIFT * np.eye(directions.shape[1])
        # A replica that became unphysical may hold no geometry; its results are left out later.
        gram[~np.isfinite(gram).all(axis=(1, 2))] = np.eye(directions.shape[1])
        # Gram and Schmidt: the Gram matrix is L L^T, and L^-1 takes from each direction what the ones before it hold.
        rates = np.linalg.solve(np.linalg.cholesky(gram), rates)
    return np.asarray(rates[:, :, 0])


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
    """Wavenumbers of the bonds' stretches (B,) in the spectrum: the modes' mean square wavenumber, weighted by
    overlap."""
    unit = np.zeros((len(pairs), *basin.positions.shape))
    for row, (i, j) in enumerate(pairs):
        direction = basin.positions[i] - basin.positions[j]
        unit[row, i], unit[row, j] = direction / np.sqrt(masses[i]), -direction / np.sqrt(masses[j])
    overlap = np.einsum("bia,mia->bm", unit, basin.modes) ** 2
    return np.asarray(np.sqrt(overlap @ basin.wavenumbers**2 / overlap.sum(axis=1)))


def rotation_velocities(positions: FloatArray, velocities: FloatArray, masses: FloatArray) -> FloatArray:
    """Velocities (F, 3) of rotation about the principal axes of each frame, the least inertia first, with variance kT
    each: sqrt(I) times the angular velocity. Zero about the axis of a linear frame."""
    directions = rigid_directions(positions, masses)[:, 3:]
    weighted = (velocities * np.sqrt(masses)[:, None]).reshape(len(positions), -1)
    return np.asarray(np.matmul(directions, weighted[:, :, None])[:, :, 0])


def rotation_wavenumbers(positions: FloatArray, masses: FloatArray, temperature: float) -> FloatArray:
    """Wavenumbers (3,) of the thermal rotation of a geometry (N, 3), the least inertia first, or (2,) for a
    linear one: sqrt(2 kT / I) in cm-1."""
    relative = positions - masses @ positions / masses.sum()
    second = (relative * masses[:, None]).T @ relative
    moments = np.linalg.eigvalsh(np.trace(second) * np.eye(3) - second)
    moments = moments[moments > MIN_INERTIA * moments[-1]]
    return np.asarray(np.sqrt(2 * temperature / moments) / PER_CM)


def rigid_directions(positions: FloatArray, masses: FloatArray) -> FloatArray:
    """Orthonormal mass-weighted directions (F, 6, 3N) of translation and rotation at geometries (F, N, 3).

    Rotations come after translations, the least inertia first. At a linear geometry the direction that does not exist
    is zero.
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
    present = inertia > MIN_INERTIA * inertia[:, 2:]
    scale = np.where(present, 1 / np.sqrt(np.where(present, inertia, 1.0)), 0.0)
    rows[:, 3:] = np.matmul(np.swapaxes(axes, 1, 2) * scale[:, :, None], rows[:, 3:])
    return rows

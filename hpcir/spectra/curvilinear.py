"""Directions of normal modes in internal coordinates, at any geometry.

At a minimum a mode is a combination of changes of bond lengths, angles and torsions, Q_m = sum_p T_mp S_p. Read so
anywhere (curvilinear normal coordinates: Hoy, Mills, Strey, Mol. Phys. 24, 1265, 1972) its rate of change holds
nothing of the stretches when a rotor is far from the minimum, as that of a straight Cartesian mode does, and no frame
of reference is needed: the rows of dS/dx are free of translation and rotation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.molecules.internal_coordinates import internal_coordinates
from hpcir.molecules.structures import Structure
from hpcir.spectra.basins import Basin

KINDS = ("stretch", "bend", "torsion", "out of plane")
# Least part of a mode that its internal coordinates must describe: 1 where they are complete.
MIN_COMPLETENESS = 1e-6


@dataclass(frozen=True)
class CurvilinearModes:
    """Normal modes of several basins as combinations of internal coordinates.

    atoms: for each kind of coordinate (KINDS) its atoms (P_kind, 2 to 4); combinations (K, M, P): each basin's T, its
    modes from the stiffest to the softest.
    """

    atoms: dict[str, IntArray]
    combinations: FloatArray

    @classmethod
    def of(cls, basins: Sequence[Basin], structure: Structure, masses: FloatArray) -> CurvilinearModes | None:
        """Of basins of one molecule; structure gives the bonds and force constants of the weights. None where internal
        coordinates do not describe every mode (linear parts, separate molecules)."""
        coordinates = internal_coordinates(structure)
        if any(coordinate.kind not in KINDS for coordinate in coordinates):
            return None
        ordered = sorted(coordinates, key=lambda coordinate: KINDS.index(coordinate.kind))
        atoms = {
            kind: np.array([c.atoms for c in ordered if c.kind == kind], np.int64)
            for kind in KINDS
            if any(c.kind == kind for c in ordered)
        }
        # One weight for a kind: the same in all copies of a basin, whichever bond happens to be the longer.
        constants = {kind: np.mean([c.force_constant for c in ordered if c.kind == kind]) for kind in atoms}
        root = np.sqrt([constants[c.kind] for c in ordered])
        combinations = []
        for basin in basins:
            displacements = (basin.modes[::-1] / np.sqrt(masses)[:, None]).reshape(len(basin.modes), -1)
            rates = internal_rows(basin.positions[None], atoms)[0] @ displacements.T
            weighted = root[:, None] * rates
            singular = np.linalg.svd(weighted / np.linalg.norm(weighted, axis=0), compute_uv=False)
            if len(ordered) < len(displacements) or singular[-1] < MIN_COMPLETENESS:
                return None
            # The left inverse of least squares, stiff coordinates first: T (dS/dQ) = 1.
            combinations.append(np.linalg.pinv(weighted, rcond=1e-10) * root)
        return cls(atoms, np.array(combinations))

    def directions(self, positions: FloatArray, masses: FloatArray, index: IntArray) -> FloatArray:
        """Mass-weighted directions T dS/dx M^(-1/2) (F, M, 3N), the stiffest mode first and of any length, at
        geometries (F, N, 3) that are in basins index (F,)."""
        rows = internal_rows(positions, self.atoms)
        directions = np.empty((len(rows), self.combinations.shape[1], rows.shape[2]))
        for basin in np.unique(index):
            own = index == basin
            directions[own] = np.matmul(self.combinations[basin], rows[own])
        return np.asarray(directions / np.repeat(np.sqrt(masses), 3))


def internal_rows(positions: FloatArray, atoms: dict[str, IntArray]) -> FloatArray:
    """Derivatives (F, P, 3N) of internal coordinates at geometries (F, N, 3), kinds in the order of `atoms`.

    The s-vectors of Wilson, Decius, Cross, Molecular Vibrations, ch. 4.
    """
    count, size = positions.shape[:2]
    rows = np.zeros((count, sum(map(len, atoms.values())), size, 3))
    first = 0
    for kind, members in atoms.items():
        numbers = np.arange(first, first + len(members))
        points = [positions[:, column] for column in members.T]
        for column, vector in zip(members.T, _VECTORS[kind](*points), strict=True):
            rows[:, numbers, column] += vector
        first += len(members)
    return rows.reshape(count, first, -1)


def _stretch(i: FloatArray, j: FloatArray) -> tuple[FloatArray, ...]:
    unit = _unit(i - j)[0]
    return unit, -unit


def _bend(i: FloatArray, j: FloatArray, k: FloatArray) -> tuple[FloatArray, ...]:
    (u, a), (v, b) = _unit(i - j), _unit(k - j)
    cosine = (u * v).sum(axis=-1, keepdims=True)
    sine = np.sqrt(np.maximum(1 - cosine**2, 1e-8))
    first, third = (cosine * u - v) / (a * sine), (cosine * v - u) / (b * sine)
    return first, -first - third, third


def _torsion(i: FloatArray, j: FloatArray, k: FloatArray, l: FloatArray) -> tuple[FloatArray, ...]:
    u, w, v = i - j, k - j, l - k
    length = np.linalg.norm(w, axis=-1, keepdims=True)
    first, second = np.cross(u, w), np.cross(v, w)
    one, two = (np.maximum((a**2).sum(axis=-1, keepdims=True), 1e-8) for a in (first, second))
    start, end = length * first / one, -length * second / two
    along, back = ((a * w).sum(axis=-1, keepdims=True) / length**2 for a in (u, v))
    second_atom = (along - 1) * start + back * end
    return start, second_atom, -start - second_atom - end, end


def _out_of_plane(i: FloatArray, j: FloatArray, k: FloatArray, l: FloatArray) -> tuple[FloatArray, ...]:
    """The height of j over the plane of i, k, l, up to a factor: three times the volume that the four span."""
    a, b, c = i - j, k - j, l - j
    first, third, fourth = np.cross(b, c), np.cross(c, a), np.cross(a, b)
    return first, -first - third - fourth, third, fourth


def _unit(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / length, length


_VECTORS: dict[str, Callable[..., tuple[FloatArray, ...]]] = {
    "stretch": _stretch,
    "bend": _bend,
    "torsion": _torsion,
    "out of plane": _out_of_plane,
}

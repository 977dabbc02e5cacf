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
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hpcir.errors import InputError
from hpcir.sampling.eckart import eckart_frame
from hpcir.structures import Structure, bonds

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Most copies of one minimum that turned rotors make: 3^4; further rotors are left as they are.
MOST_COPIES = 81
# Minima with a mass-weighted root mean square distance below this (bohr) are one.
SAME_BASIN = 0.05


@dataclass(frozen=True)
class Basin:
    """A minimum and its normal modes.

    positions (N, 3) in bohr; modes (M, N, 3) mass-weighted, orthonormal, in ascending order of wavenumbers (M,) in
    cm-1; kind: which conformer (copies of one minimum with turned rotors are of one kind).
    """

    positions: FloatArray
    modes: FloatArray
    wavenumbers: FloatArray
    kind: int = 0

    def relabelled(self, order: IntArray) -> Basin:
        """The copy with atoms (N,) taken in another order."""
        return replace(self, positions=self.positions[order], modes=self.modes[:, order])


def _neighbours(structure: Structure) -> list[list[int]]:
    neighbours: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in bonds(structure):
        neighbours[i].append(j)
        neighbours[j].append(i)
    return neighbours


def _equal_ends(structure: Structure) -> list[tuple[int, list[int]]]:
    """(centre, atoms) for every set of two or more equal terminal atoms on one centre."""
    neighbours = _neighbours(structure)
    found = []
    for centre, near in enumerate(neighbours):
        ends = [atom for atom in near if len(neighbours[atom]) == 1]
        for number in sorted({int(structure.numbers[atom]) for atom in ends}):
            alike = [atom for atom in ends if structure.numbers[atom] == number]
            if len(alike) > 1:
                found.append((centre, alike))
    return found


def rotors(structure: Structure) -> list[list[int]]:
    """Threes of equal terminal atoms on one four-connected centre (CH3, NH3+, CF3), each in cyclic order."""
    neighbours = _neighbours(structure)
    return [ends for centre, ends in _equal_ends(structure) if len(ends) == 3 and len(neighbours[centre]) == 4]


def rotor_copies(basin: Basin, structure: Structure) -> list[Basin]:
    """The basin and its copies with every three-fold rotor turned (3^n for n rotors, MOST_COPIES at most).

    Right for isotopologues too only where the three atoms have one mass.
    """
    groups = rotors(structure)
    while 3 ** len(groups) > MOST_COPIES:
        groups.pop()
    copies = []
    for turns in product(range(3), repeat=len(groups)):
        order = np.arange(len(structure))
        for group, turn in zip(groups, turns, strict=True):
            order[group] = np.roll(group, turn)
        copies.append(basin.relabelled(order))
    return copies


def mirror_copy(basin: Basin, structure: Structure) -> Basin | None:
    """The mirror image with atoms labelled so that motion can reach it, such as the other gauche form of ethanol.

    Reflection changes the handedness of labels about every four-connected centre; two equal terminal atoms swapped
    there bring it back. None where a centre has no such pair: its mirror image is another molecule, or is not sought.
    """
    neighbours = _neighbours(structure)
    ends = dict(_equal_ends(structure))
    order = np.arange(len(structure))
    for centre, near in enumerate(neighbours):
        if len(near) == 4:
            if centre not in ends:
                return None
            one, other = ends[centre][:2]
            order[[one, other]] = [other, one]
    flip = np.array([1.0, 1.0, -1.0])
    return replace(basin, positions=basin.positions * flip, modes=basin.modes * flip).relabelled(order)


def basin_copies(basin: Basin, structure: Structure) -> list[Basin]:
    """All the copies of a minimum that turned rotors and reflection make, each once."""
    mirror = mirror_copy(basin, structure)
    candidates = rotor_copies(basin, structure) + ([] if mirror is None else rotor_copies(mirror, structure))
    copies: list[Basin] = []
    masses = structure.masses
    for candidate in candidates:
        if copies:
            framed = (eckart_frame(candidate.positions, copy.positions, masses)[0] - copy.positions for copy in copies)
            if min(float(masses @ (delta**2).sum(axis=1)) for delta in framed) < SAME_BASIN**2 * masses.sum():
                continue
        copies.append(candidate)
    return copies


def nearest_basin(positions: FloatArray, masses: FloatArray, basins: Sequence[Basin]) -> tuple[IntArray, FloatArray]:
    """Index (F,) of the basin with the least mass-weighted distance, and the rotations (F, 3, 3) onto it.

    positions (F, N, 3) in bohr; a vector v of a frame is v @ rotation.T in the basin's.
    """
    best = np.full(len(positions), np.inf)
    index = np.zeros(len(positions), np.int64)
    rotations = np.zeros((len(positions), 3, 3))
    for number, basin in enumerate(basins):
        framed, rotation = eckart_frame(positions, basin.positions, masses)
        distance = np.einsum("fia,i->f", (framed - basin.positions) ** 2, masses)
        nearer = distance < best
        best[nearer], index[nearer], rotations[nearer] = distance[nearer], number, rotation[nearer]
    return index, rotations


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

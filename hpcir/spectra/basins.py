"""Basins: minima with their normal modes, the copies of one that motion can reach, and the basins of frames.

A conformer's copies are the same atoms with other labels: a methyl group turned by a third, the other gauche form of
ethanol. They have the same energy; with unequal masses on a rotor (isotopologues) they are different molecules with
different modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.molecules.eckart import eckart_frame
from hpcir.molecules.structures import Structure, bonds
from hpcir.units import PER_CM
from hpcir.vibrations.normal_modes import NormalModes, normal_modes

# Most copies of one minimum that turned rotors make: 3^4; further rotors are left as they are.
MAX_COPIES = 81
# Largest mass-weighted root mean square distance (bohr) of equivalent minima.
MAX_BASIN_DISTANCE = 0.05
# Largest difference in wavenumbers (cm-1) of copies of one kind.
MAX_DIFFERENCE = 0.1
# Newton steps for the largest eigenvalue: they double the digits once near, and only which is largest matters.
NEWTON_STEPS = 20


@dataclass(frozen=True)
class Basin:
    """A minimum and its normal modes.

    positions (N, 3) in bohr; modes (M, N, 3) mass-weighted, orthonormal, in ascending order of wavenumbers (M,) in
    cm-1; kind: the conformer (copies of one minimum with turned rotors are of one kind); dipoles (M, 3): derivatives
    of the dipole by the normal coordinates, e/sqrt(electron mass).
    """

    positions: FloatArray
    modes: FloatArray
    wavenumbers: FloatArray
    kind: int = 0
    dipoles: FloatArray | None = None

    def relabelled(self, order: IntArray) -> Basin:
        """The copy with atoms (N,) taken in another order."""
        return replace(self, positions=self.positions[order], modes=self.modes[:, order])

    def reflected(self) -> Basin:
        """The mirror image."""
        flip = np.array([1.0, 1.0, -1.0])
        dipoles = None if self.dipoles is None else self.dipoles * flip
        return replace(self, positions=self.positions * flip, modes=self.modes * flip, dipoles=dipoles)


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


def rotor_orders(structure: Structure) -> list[IntArray]:
    """Orders (N,) of the atoms with every three-fold rotor turned (3^n for n rotors, MAX_COPIES at most)."""
    groups = rotors(structure)
    while 3 ** len(groups) > MAX_COPIES:
        groups.pop()
    orders = []
    for turns in product(range(3), repeat=len(groups)):
        order = np.arange(len(structure))
        for group, turn in zip(groups, turns, strict=True):
            order[group] = np.roll(group, turn)
        orders.append(order)
    return orders


def mirror_order(structure: Structure) -> IntArray | None:
    """The order (N,) of the atoms that lets motion reach a mirror image, such as the other gauche form of ethanol.

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
    return order


def with_masses(basin: Basin, structure: Structure, before: FloatArray, masses: FloatArray) -> Basin:
    """The basin whose modes were of the masses (N,) `before`, for others: the same force constants, new modes.

    Only vibrations have force constants at a minimum, so the modes and their wavenumbers hold the whole Hessian.
    """
    if np.array_equal(before, masses):
        return basin
    rows = (basin.modes * np.sqrt(before)[:, None]).reshape(len(basin.modes), -1)
    omega = basin.wavenumbers * PER_CM
    hessian = rows.T @ (np.sign(omega) * omega**2 * rows.T).T
    modes = normal_modes(structure.moved(basin.positions), hessian, masses=masses)
    dipoles = None
    if basin.dipoles is not None:
        displacements = (modes.modes / np.sqrt(masses)[:, None]).reshape(len(modes), -1)
        dipoles = displacements @ rows.T @ basin.dipoles
    return replace(basin, modes=modes.modes, wavenumbers=modes.wavenumbers, dipoles=dipoles)


def basin_copies(basin: Basin, structure: Structure, masses: FloatArray | None = None) -> list[Basin]:
    """All the copies of a minimum that turned rotors and reflection make, each once.

    masses (N,): those that the basin's modes are of (default: the structure's). Where they are not the same on a
    rotor, the copies have modes of their own.
    """
    masses = structure.masses if masses is None else masses
    orders = rotor_orders(structure)
    candidates = [(basin.relabelled(order), masses[order]) for order in orders]
    mirror = mirror_order(structure)
    if mirror is not None:
        image = basin.reflected().relabelled(mirror)
        candidates += [(image.relabelled(order), masses[mirror][order]) for order in orders]
    copies: list[Basin] = []
    for candidate, own in candidates:
        if copies and min(distance_squared(candidate, copy, masses) for copy in copies) < MAX_BASIN_DISTANCE**2:
            continue
        copies.append(with_masses(candidate, structure, own, masses))
    return copies


def distance_squared(one: Basin, other: Basin, weights: FloatArray) -> float:
    """Mean square distance (bohr^2) of two minima laid on each other, weighted."""
    delta = eckart_frame(one.positions, other.positions, weights)[0] - other.positions
    return float(weights @ (delta**2).sum(axis=1) / weights.sum())


def all_basins(minima: Sequence[NormalModes], structure: Structure) -> list[Basin]:
    """The copies of every minimum. Copies of one minimum with equal wavenumbers are of one kind."""
    found: list[Basin] = []
    kinds: list[FloatArray] = []
    for modes in minima:
        own = Basin(modes.positions, modes.modes, modes.wavenumbers, dipoles=modes.mode_dipoles)
        first = len(kinds)
        for copy in basin_copies(own, structure.moved(modes.positions), modes.masses):
            same = [k for k in range(first, len(kinds)) if np.allclose(kinds[k], copy.wavenumbers, atol=MAX_DIFFERENCE)]
            if not same:
                kinds.append(copy.wavenumbers)
            found.append(replace(copy, kind=same[0] if same else len(kinds) - 1))
    return found


def nearest_basin(positions: FloatArray, masses: FloatArray, basins: Sequence[Basin]) -> tuple[IntArray, FloatArray]:
    """Index (F,) of the basin with the least mass-weighted distance, and the rotations (F, 3, 3) onto it.

    positions (F, N, 3) in bohr; a vector v of a frame is v @ rotation.T in the basin's.
    """
    index = nearest_basin_index(positions, masses, basins)
    return index, eckart_rotations(positions, masses, basins, index)


def eckart_rotations(positions: FloatArray, masses: FloatArray, basins: Sequence[Basin], index: IntArray) -> FloatArray:
    """Rotations (F, 3, 3) of frames (F, N, 3) onto basins index (F,): a frame's vector v is v @ rotation.T there."""
    rotations = np.zeros((len(positions), 3, 3))
    for number in np.unique(index):
        own = index == number
        rotations[own] = eckart_frame(positions[own], basins[number].positions, masses)[1]
    return rotations


def nearest_basin_index(positions: FloatArray, masses: FloatArray, basins: Sequence[Basin]) -> IntArray:
    """The index (F,) of `nearest_basin` alone."""
    if len(basins) == 1:
        return np.zeros(len(positions), np.int64)
    return np.argmax(_overlaps(positions, masses, basins), axis=1)


def _overlaps(positions: FloatArray, masses: FloatArray, basins: Sequence[Basin]) -> FloatArray:
    """Minus half the least square distances (F, K) to the basins, up to a constant of each frame, without rotations.

    The distance's varying part is the largest eigenvalue of Horn's matrix, which Newton's method finds on the
    characteristic polynomial from above (Theobald, Acta Cryst. A 61, 478, 2005); many times as fast as eigenvectors.
    """
    weights = masses / masses.sum()
    relative = positions - np.einsum("i,fia->fa", weights, positions)[:, None]
    targets = np.array([basin.positions - weights @ basin.positions for basin in basins])
    columns = (weights[None, :, None] * targets).transpose(1, 0, 2).reshape(len(weights), -1)
    matrix = np.matmul(np.swapaxes(relative, 1, 2), columns).reshape(len(positions), 3, len(basins), 3)
    matrix = np.ascontiguousarray(np.swapaxes(matrix, 1, 2))
    own = np.einsum("i,kia->k", weights, targets**2)
    bound = 0.5 * (np.einsum("i,fia->f", weights, relative**2)[:, None] + own)
    squared = np.matmul(np.swapaxes(matrix, 2, 3), matrix)
    trace = np.trace(squared, axis1=2, axis2=3)
    quadratic, linear = -2 * trace, -8 * np.linalg.det(matrix)
    # The determinant of Horn's traceless symmetric matrix by the invariants of M^T M.
    constant = 2 * (squared**2).sum(axis=(2, 3)) - trace**2
    root = bound
    for _ in range(NEWTON_STEPS):
        value = ((root**2 + quadratic) * root + linear) * root + constant
        slope = (4 * root**2 + 2 * quadratic) * root + linear
        root = root - value / np.where(slope > 0, slope, np.inf)
    return np.asarray(root - 0.5 * own)

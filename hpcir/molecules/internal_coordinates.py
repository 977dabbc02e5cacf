"""Internal coordinates from the bond graph: stretches, bends, torsions, out-of-plane wags, and a model force field.

Wilson, Decius, Cross, "Molecular Vibrations", 1955 (B matrix); Fischer, Almlof, J. Phys. Chem. 96, 9768, 1992
(model force constants).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.molecules.structures import Structure, bonds
from hpcir.units import ANGSTROM

Kind = Literal["stretch", "bend", "linear bend", "torsion", "out of plane"]

# A bend wider than this is described by two perpendicular displacements, as its angle has no derivative at 180.
LINEAR_COSINE = -0.996


@dataclass(frozen=True)
class InternalCoordinate:
    """One coordinate: its kind, its atoms (stretch i j; bend i centre k; torsion i j k l; out of plane i centre k l).

    row (3N,): derivatives by the Cartesian positions, 1 or radian/bohr; force_constant: of the model force field,
    hartree/bohr^2 or hartree/radian^2.
    """

    kind: Kind
    atoms: tuple[int, ...]
    row: FloatArray
    force_constant: float


def neighbours(structure: Structure) -> list[list[int]]:
    """The bonded neighbours of every atom."""
    lists: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in bonds(structure):
        lists[i].append(j)
        lists[j].append(i)
    return lists


def internal_coordinates(structure: Structure) -> list[InternalCoordinate]:
    """Every stretch, bend, torsion and out-of-plane wag of the bond graph (redundant on purpose)."""
    positions, lists = structure.positions, neighbours(structure)
    pairs = bonds(structure)
    found = [_stretch(structure, i, j) for i, j in pairs]
    for j, near in enumerate(lists):
        for i, k in combinations(near, 2):
            found += _bend(structure, i, j, k)
        if len(near) == 3:
            found += _out_of_plane(positions, j, near)
    for j, k in pairs:
        found += _torsions(structure, lists, j, k)
    return found


def model_hessian(structure: Structure, stiffness: float = 0.01) -> FloatArray:
    """A guess of the Hessian (3N, 3N) in hartree/bohr^2 from model force constants, plus stiffness on the diagonal."""
    hessian = stiffness * np.eye(3 * len(structure))
    for coordinate in internal_coordinates(structure):
        hessian += coordinate.force_constant * np.outer(coordinate.row, coordinate.row)
    return hessian


def _covalent(structure: Structure, i: int, j: int) -> float:
    from ase.data import covalent_radii

    return float(covalent_radii[structure.numbers[i]] + covalent_radii[structure.numbers[j]]) * ANGSTROM


def _row(size: int, parts: dict[int, FloatArray]) -> FloatArray:
    row = np.zeros((size, 3))
    for atom, vector in parts.items():
        row[atom] += vector
    return row.ravel()


def _stretch(structure: Structure, i: int, j: int) -> InternalCoordinate:
    delta = structure.positions[i] - structure.positions[j]
    length = np.linalg.norm(delta)
    unit = delta / length
    constant = 0.3601 * np.exp(-1.944 * (length - _covalent(structure, i, j)))
    return InternalCoordinate("stretch", (i, j), _row(len(structure), {i: unit, j: -unit}), float(constant))


def _bend(structure: Structure, i: int, j: int, k: int) -> list[InternalCoordinate]:
    positions, size = structure.positions, len(structure)
    u, v = positions[i] - positions[j], positions[k] - positions[j]
    a, b = np.linalg.norm(u), np.linalg.norm(v)
    u, v = u / a, v / b
    cosine = float(u @ v)
    radii = _covalent(structure, i, j), _covalent(structure, j, k)
    excess = a + b - radii[0] - radii[1]
    constant = float(0.089 + 0.11 / (radii[0] * radii[1]) ** -0.42 * np.exp(-0.44 * excess))
    if cosine < LINEAR_COSINE:
        axes = np.linalg.svd((u - v)[None])[2][1:]
        return [
            InternalCoordinate("linear bend", (i, j, k), _row(size, {i: e / a, k: e / b, j: -e / a - e / b}), constant)
            for e in axes
        ]
    sine = np.sqrt(1 - cosine**2)
    first, second = (cosine * u - v) / (a * sine), (cosine * v - u) / (b * sine)
    return [InternalCoordinate("bend", (i, j, k), _row(size, {i: first, k: second, j: -first - second}), constant)]


def _out_of_plane(positions: FloatArray, j: int, near: list[int]) -> list[InternalCoordinate]:
    """The height of a three-connected centre above its neighbours' plane, as an angle; only where it is planar."""
    i, k, l = near
    normal = np.cross(positions[k] - positions[i], positions[l] - positions[i])
    normal /= np.linalg.norm(normal)
    arms = positions[near] - positions[j]
    length = float(np.linalg.norm(arms, axis=1).mean())
    if abs(float(normal @ arms[0])) > 0.2 * length:
        return []
    # The centre above its foot in the plane, in barycentric coordinates, so that turning the molecule adds nothing.
    foot = positions[j] - float(normal @ (positions[j] - positions[i])) * normal
    area = np.linalg.lstsq(np.vstack([positions[near].T, np.ones(3)]), np.append(foot, 1.0), rcond=None)[0]
    parts = {j: 3 * normal / length}
    parts |= {atom: -3 * part * normal / length for atom, part in zip(near, area, strict=True)}
    return [InternalCoordinate("out of plane", (i, j, k, l), _row(len(positions), parts), 0.03)]


def _torsions(structure: Structure, lists: list[list[int]], j: int, k: int) -> list[InternalCoordinate]:
    found = []
    ends = [(i, l) for i in lists[j] for l in lists[k] if i != k and l != j and i != l]
    length = np.linalg.norm(structure.positions[j] - structure.positions[k])
    radius = _covalent(structure, j, k)
    order = max(len(ends), 1)
    constant = 0.0015 + 14.0 * order**0.57 / (length * radius) ** 4 * np.exp(-2.85 * (length - radius))
    for i, l in ends:
        row = _torsion_row(structure.positions, i, j, k, l)
        if row is not None:
            found.append(InternalCoordinate("torsion", (i, j, k, l), row, float(constant) / order))
    return found


def _torsion_row(positions: FloatArray, i: int, j: int, k: int, l: int) -> FloatArray | None:
    """Derivatives (3N,) of the dihedral angle i-j-k-l; None where three of the atoms lie on a line."""
    u, w, v = positions[i] - positions[j], positions[k] - positions[j], positions[l] - positions[k]
    length = np.linalg.norm(w)
    first, second = np.cross(u, w), np.cross(v, w)
    one, two = float(first @ first), float(second @ second)
    if one < 0.008 * (u @ u) * (w @ w) or two < 0.008 * (v @ v) * (w @ w):
        return None
    end, other = first * length / one, -second * length / two
    along, beyond = float(u @ w) / length**2, float(v @ w) / length**2
    parts = {i: end, l: other, j: -(1 - along) * end + beyond * other, k: -(1 + beyond) * other - along * end}
    return _row(len(positions), parts)

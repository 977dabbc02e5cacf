"""Exact vibrational levels of triatomics on a grid of Radau coordinates, without rotation, and the bends of linear
ones.

Johnson, Reinhardt, J. Chem. Phys. 85, 4538, 1986 (Radau coordinates); Bacic, Light, Annu. Rev. Phys. Chem. 40, 469,
1989 (discrete variables, contraction by diagonalisation and truncation). In Radau coordinates the kinetic energy is
    T = -d2/dr1^2 / (2 m1) - d2/dr2^2 / (2 m2) + [1/(2 m1 r1^2) + 1/(2 m2 r2^2)] j^2,
j^2 = -(1/sin t) d/dt sin t d/dt + K^2/sin^2 t: K = 0 without rotation; K = 1 is the whole Hamiltonian of the states
with J = 1 whose parity forbids K = 0, among them the bending fundamental of a linear molecule (l = 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.special import lpmv

from hpcir.arrays import FloatArray
from hpcir.errors import RunStopped
from hpcir.molecules.structures import Structure
from hpcir.vibrations.levels.grids import Modals, modals, walls
from hpcir.vibrations.levels.surface import Surface


@dataclass(frozen=True)
class TriatomicGrid:
    """Size of the grid: radial functions and points of each distance; the wall (hartree above the minimum) at which
    distances end; the energy up to which functions of the angle are kept, and how many at most; the energy at which the
    potential is capped; the energy that the Legendre functions reach as rotation."""

    radial: int = 12
    wall: float = 0.14
    keep: float = 0.16
    most: int = 1200
    cap: float = 0.3
    turning: float = 0.15

    def legendre(self, masses: FloatArray, distances: tuple[float, float]) -> int:
        """Legendre functions for the ends' masses (2,) at the Radau distances of the minimum: E = j^2 sum 1/(2 m
        r^2)."""
        constant = float((0.5 / (masses * np.array(distances) ** 2)).sum())
        return int(np.ceil(np.sqrt(self.turning / constant))) + 4


@dataclass(frozen=True)
class TriatomicLevels:
    """energies (S,) hartree above the minimum without rotation; shares (S, 3): mean r1, r2 and cos t of each state
    (bohr, bohr, 1); bends: for linear molecules, energies (S,) of the states with one unit of angular momentum about
    the axis (J = l = 1, their rotational energy B taken off), else empty."""

    energies: FloatArray
    means: FloatArray
    bends: FloatArray


def radau_positions(first: FloatArray, second: FloatArray, cosine: FloatArray, masses: FloatArray) -> FloatArray:
    """Geometries (S, 3, 3) in bohr, about the centre of mass, of Radau coordinates (S,) each.

    masses (3,): the central atom first, then those at the ends of r1 and r2.
    """
    total, ends = masses.sum(), masses[1] + masses[2]
    factor = (1 / np.sqrt(masses[0] / total) - 1) / ends
    radau = np.zeros((len(first), 2, 3))
    radau[:, 0, 0] = first
    radau[:, 1, 0] = second * cosine
    radau[:, 1, 1] = second * np.sqrt(np.maximum(1 - cosine**2, 0.0))
    bonds = radau + factor * np.einsum("i,sia->sa", masses[1:], radau)[:, None]
    positions = np.concatenate([np.zeros((len(first), 1, 3)), bonds], axis=1)
    return positions - np.einsum("i,sia->sa", masses / total, positions)[:, None]


def radau_coordinates(positions: FloatArray, masses: FloatArray) -> tuple[float, float, float]:
    """r1, r2 and cos t of a geometry (3, 3), central atom first."""
    bonds = positions[1:] - positions[0]
    alpha = np.sqrt(masses[0] / masses.sum())
    radau = bonds + (alpha - 1) / (masses[1] + masses[2]) * (masses[1:] @ bonds)
    lengths = np.linalg.norm(radau, axis=1)
    return float(lengths[0]), float(lengths[1]), float(np.clip(radau[0] @ radau[1] / lengths.prod(), -1, 1))


def central_atom(structure: Structure) -> int:
    """The atom with the smallest sum of distances to the others."""
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
    return int(distances.sum(1).argmin())


def triatomic_levels(
    surface: Surface,
    structure: Structure,
    masses: FloatArray,
    count: int = 40,
    linear: bool = False,
    grid: TriatomicGrid | None = None,
) -> TriatomicLevels:
    """The lowest `count` levels on a surface; structure: three atoms at the minimum, in any order; masses (3,).

    Raises RunStopped where the surface has a lower minimum on the grid.
    """
    grid = grid or TriatomicGrid()
    middle = central_atom(structure)
    order = np.array([middle, *(a for a in range(3) if a != middle)])
    own = masses[order]
    at_rest = radau_coordinates(structure.positions[order], own)

    def energies(first: FloatArray, second: FloatArray, cosine: FloatArray) -> FloatArray:
        positions = np.empty((len(first), 3, 3))
        positions[:, order] = radau_positions(first, second, cosine, own)
        return surface(positions).energies

    bottom = float(energies(*(np.array([x]) for x in at_rest))[0])
    stretches = [_stretch(energies, at_rest, bottom, own, index, grid) for index in (0, 1)]
    angular = grid.legendre(own[1:], at_rest[:2])
    cosines, weights = np.polynomial.legendre.leggauss(angular + 8)
    potential = _potential(energies, stretches, cosines, at_rest, bottom, grid)
    if potential.min() < -2e-4:
        raise RunStopped(f"the surface of {structure.name} has a lower minimum elsewhere")
    found, means = _solve(potential, stretches, cosines, weights, own, 0, count, (angular, grid))
    bends = np.zeros(0)
    if linear:
        whole, places = _solve(potential, stretches, cosines, weights, own, 1, count, (angular, grid))
        bends = whole - 0.5 / (own[1] * places[:, 0] ** 2 + own[2] * places[:, 1] ** 2)
    return TriatomicLevels(found, means, bends)


def _stretch(
    energies: object,
    at_rest: tuple[float, float, float],
    bottom: float,
    masses: FloatArray,
    index: int,
    grid: TriatomicGrid,
) -> Modals:
    """Functions and points of r1 or r2, the other coordinates at rest."""
    assert callable(energies)
    rest = at_rest[index]
    trial = rest * np.linspace(0.5, 2.2, 69)
    middle = int(np.abs(trial - rest).argmin())
    trial += rest - trial[middle]

    def along(r: FloatArray) -> FloatArray:
        columns = [np.full(len(r), x) for x in at_rest]
        columns[index] = r
        return np.asarray(energies(*columns)) - bottom

    lower, upper = walls(trial, along(trial), middle, grid.wall)
    fine = np.linspace(lower, upper, 80)
    return modals(fine, along(fine), float(masses[1 + index]), grid.radial, grid.radial)


def _potential(
    energies: object,
    stretches: list[Modals],
    cosines: FloatArray,
    at_rest: tuple[float, float, float],
    bottom: float,
    grid: TriatomicGrid,
) -> FloatArray:
    """V (p1, p2, points) above the minimum; far from anything bound it is put at the highest value, unasked."""
    assert callable(energies)
    first, second = (stretch.points for stretch in stretches)
    mesh = [x.ravel() for x in np.meshgrid(first, second, cosines, indexing="ij")]
    # The coordinates one by one give a first guess of the energy, and spare three quarters of the labels.
    columns = [first, second, cosines]
    parts = []
    for index, values in enumerate(columns):
        cut = [np.full(len(values), x) for x in at_rest]
        cut[index] = values
        parts.append(np.asarray(energies(*cut)) - bottom)
    guess = np.add.outer(np.add.outer(parts[0], parts[1]), parts[2]).ravel()
    limit = grid.cap
    ask = guess < limit
    result = np.full(len(guess), limit)
    result[ask] = np.asarray(energies(*(x[ask] for x in mesh))) - bottom
    return np.minimum(result, limit).reshape(len(first), len(second), len(cosines))


def _solve(
    potential: FloatArray,
    stretches: list[Modals],
    cosines: FloatArray,
    weights: FloatArray,
    masses: FloatArray,
    rotation: int,
    count: int,
    limits: tuple[int, TriatomicGrid],
) -> tuple[FloatArray, FloatArray]:
    """Energies (count,) and mean coordinates (count, 3) for K = rotation.

    At each pair of radial points the angle's problem is solved, and its states below an energy are the basis; limits:
    the number of Legendre functions, and the grid.
    """
    angular, grid = limits
    first, second = stretches
    p1, p2 = len(first.points), len(second.points)
    legendre, squares = _legendre(cosines, weights, rotation, angular)
    # Kinetic energy of each distance between its points.
    radial = [s.transform.T @ s.kinetic @ s.transform for s in stretches]
    vectors: list[FloatArray] = []
    values: list[FloatArray] = []
    owner: list[tuple[int, int]] = []
    for i in range(p1):
        for j in range(p2):
            turning = 0.5 / (masses[1] * first.points[i] ** 2) + 0.5 / (masses[2] * second.points[j] ** 2)
            matrix = (legendre * potential[i, j]) @ legendre.T
            matrix[np.diag_indices(len(matrix))] += turning * squares
            own, states = np.linalg.eigh(matrix)
            vectors.append(states)
            values.append(own)
            owner.append((i, j))
    every = np.sort(np.concatenate(values))
    keep = min(grid.keep, float(every[min(grid.most, len(every) - 1)]))
    counts = [int((own < keep).sum()) for own in values]
    vectors = [states[:, :few] for states, few in zip(vectors, counts, strict=True)]
    values = [own[:few] for own, few in zip(values, counts, strict=True)]
    return _contracted(vectors, values, owner, radial, stretches, legendre, cosines, count)


def _legendre(cosines: FloatArray, weights: FloatArray, rotation: int, angular: int) -> tuple[FloatArray, FloatArray]:
    """Normalised associated Legendre functions times the root of the weights (angular, points), and j(j + 1)."""
    degrees = np.arange(rotation, rotation + angular)
    values = np.array([lpmv(rotation, degree, cosines) for degree in degrees])
    table = values * np.sqrt(weights)
    norms = (2 * degrees + 1) / 2.0
    for step in range(rotation):
        norms = norms / ((degrees - step) * (degrees + step + 1))
    return table * np.sqrt(norms)[:, None], (degrees * (degrees + 1)).astype(float)


def _contracted(
    vectors: list[FloatArray],
    values: list[FloatArray],
    owner: list[tuple[int, int]],
    radial: list[FloatArray],
    stretches: list[Modals],
    legendre: FloatArray,
    cosines: FloatArray,
    count: int,
) -> tuple[FloatArray, FloatArray]:
    starts = np.concatenate([[0], np.cumsum([len(v) for v in values])])
    size = int(starts[-1])
    if size < count:
        raise RunStopped(f"only {size} states fit on the grid below its limit, and {count} levels are wanted")
    matrix = np.zeros((size, size))
    matrix[np.diag_indices(size)] = np.concatenate(values)
    for a, (i, j) in enumerate(owner):
        for b, (k, l) in enumerate(owner):
            coupling = (radial[0][i, k] if j == l else 0.0) + (radial[1][j, l] if i == k else 0.0)
            if coupling == 0.0 or not vectors[a].shape[1] or not vectors[b].shape[1]:
                continue
            block = coupling * (vectors[a].T @ vectors[b])
            matrix[starts[a] : starts[a + 1], starts[b] : starts[b + 1]] += block
    energies, states = eigh(matrix, subset_by_index=(0, count - 1))
    means = np.zeros((count, 3))
    for a, (i, j) in enumerate(owner):
        amplitudes = vectors[a] @ states[starts[a] : starts[a + 1]]
        share = (amplitudes**2).sum(0)
        means[:, 0] += share * stretches[0].points[i]
        means[:, 1] += share * stretches[1].points[j]
        means[:, 2] += cosines @ ((legendre.T @ amplitudes) ** 2)
    return energies, means

"""One-dimensional problems on grids: sinc functions, potential-optimised points, and the exact levels of diatomics.

Colbert, Miller, J. Chem. Phys. 96, 1982, 1992 (sinc functions); Echave, Clary, Chem. Phys. Lett. 190, 225, 1992
(potential-optimised points).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import RunStopped
from hpcir.molecules.structures import Structure
from hpcir.vibrations.levels.surface import Surface


@dataclass(frozen=True)
class Modals:
    """Functions of one coordinate x that solve its own problem, and quadrature points made of them.

    energies (m,) hartree; points (p,) and transform (m, p), orthonormal rows in the limit m = p: <a| f |b> =
    sum_p T_ap f(x_p) T_bp; position, derivative (m, m): <a|x|b>, <a|d/dx|b>; kinetic (m, m) hartree.
    """

    energies: FloatArray
    points: FloatArray
    transform: FloatArray
    position: FloatArray
    derivative: FloatArray
    kinetic: FloatArray

    def __len__(self) -> int:
        return len(self.energies)


def sinc_kinetic(points: FloatArray, mass: float) -> FloatArray:
    """-1/(2 mass) d2/dx2 (n, n) between sinc functions on a uniform grid (n,)."""
    n, spacing = len(points), points[1] - points[0]
    steps = np.subtract.outer(np.arange(n), np.arange(n))
    safe = np.where(steps == 0, 1, steps)
    kinetic = np.where(steps == 0, np.pi**2 / 3, 2.0 * (-1.0) ** steps / safe**2)
    return np.asarray(kinetic / (2 * mass * spacing**2))


def sinc_derivative(points: FloatArray) -> FloatArray:
    """d/dx (n, n) between sinc functions on a uniform grid (n,)."""
    n, spacing = len(points), points[1] - points[0]
    steps = np.subtract.outer(np.arange(n), np.arange(n))
    safe = np.where(steps == 0, 1, steps)
    return np.asarray(np.where(steps == 0, 0.0, (-1.0) ** steps / safe) / spacing)


def modals(points: FloatArray, potential: FloatArray, mass: float, functions: int, quadrature: int) -> Modals:
    """The lowest `functions` states of a potential (n,) in hartree on a uniform grid (n,), with `quadrature` points at
    the eigenvalues of x in the lowest `quadrature` states."""
    kinetic = sinc_kinetic(points, mass)
    energies, vectors = np.linalg.eigh(kinetic + np.diag(potential))
    vectors = vectors * np.where(vectors.T @ np.exp(np.linspace(0, 1, len(points))) < 0, -1.0, 1.0)
    many, few = vectors[:, :quadrature], vectors[:, :functions]
    nodes, rotation = np.linalg.eigh(many.T @ (points[:, None] * many))
    return Modals(
        energies=energies[:functions],
        points=nodes,
        transform=rotation[:functions],
        position=few.T @ (points[:, None] * few),
        derivative=few.T @ sinc_derivative(points) @ few,
        kinetic=few.T @ kinetic @ few,
    )


@dataclass(frozen=True)
class DiatomicLevels:
    """Exact levels of a diatomic without rotation: energies (v,) hartree above the potential's minimum; rotational (v,)
    B_v in hartree; moments (v,) <0|mu_z|v> in e bohr, nan without a dipole."""

    energies: FloatArray
    rotational: FloatArray
    moments: FloatArray


# The walls of the grid: where the potential passes this many hartree above the minimum (44,000 cm-1), and points in it.
WALL, POINTS = 0.2, 96
# What is deeper than the minimum by more than this (hartree) is another minimum.
LOWER = 1e-4


def diatomic_levels(
    surface: Surface, structure: Structure, masses: FloatArray, count: int = 6, wall: float = WALL, points: int = POINTS
) -> DiatomicLevels:
    """The lowest `count` vibrational levels on a surface, by sinc functions on a grid between walls of the potential.

    structure: two atoms at the minimum. A lower minimum elsewhere is walled off, at the height of the barrier to it.
    Raises RunStopped when fewer bound levels are on the grid.
    """
    axis = structure.positions[1] - structure.positions[0]
    bond = float(np.linalg.norm(axis))
    reduced = float(masses[0] * masses[1] / masses.sum())
    lower, upper = bond_range(surface, bond, wall)
    r = np.linspace(lower, upper, points)
    values = surface(diatomic_geometries(r, masses))
    at_minimum = surface(diatomic_geometries(np.array([bond]), masses)).energies[0]
    potential = _own_basin(np.minimum(values.energies - at_minimum, 4 * wall), int(np.argmin(np.abs(r - bond))))
    energies, vectors = np.linalg.eigh(sinc_kinetic(r, reduced) + np.diag(potential))
    if energies[count - 1] > potential[[0, -1]].min():
        raise RunStopped(f"the surface of {structure.name} holds fewer than {count} levels on the grid")
    few = vectors[:, :count]
    return DiatomicLevels(
        energies=energies[:count],
        rotational=np.asarray((few**2).T @ (1 / (2 * reduced * r**2))),
        moments=np.asarray(few.T @ (values.dipoles[:, 2] * few[:, 0])),
    )


def _own_basin(potential: FloatArray, bottom: int) -> FloatArray:
    """A potential (P,) above its minimum at index `bottom`; where it falls below that, as high as the barrier from the
    barrier on."""
    walled = potential.copy()
    for side in (slice(bottom, None), slice(bottom, None, -1)):
        own = walled[side]
        lower = np.flatnonzero(own < -LOWER)
        if len(lower):
            top = int(np.argmax(own[: lower[0]]))
            own[top:] = own[top]
    return walled


def diatomic_geometries(bonds: FloatArray, masses: FloatArray) -> FloatArray:
    """Geometries (S, 2, 3) along z about the centre of mass, for bond lengths (S,)."""
    positions = np.zeros((len(bonds), 2, 3))
    positions[:, 0, 2] = -bonds * masses[1] / masses.sum()
    positions[:, 1, 2] = bonds * masses[0] / masses.sum()
    return positions


def bond_range(surface: Surface, bond: float, wall: float) -> tuple[float, float]:
    """Bond lengths at which the potential of a diatomic first passes the wall, inwards and outwards (at most 2.5
    bonds)."""
    trial = bond * np.concatenate([np.linspace(0.4, 1.0, 25), np.linspace(1.0, 2.5, 61)[1:]])
    energies = surface(diatomic_geometries(trial, np.ones(2))).energies
    energies = energies - energies[24]
    return walls(trial, energies, 24, wall)


def walls(points: FloatArray, energies: FloatArray, middle: int, wall: float) -> tuple[float, float]:
    """The nearest points on both sides of `middle` where energies pass the wall; the ends where they do not."""
    left = np.flatnonzero(~(energies[: middle + 1] < wall))
    right = np.flatnonzero(~(energies[middle:] < wall))
    return float(points[left[-1]] if len(left) else points[0]), float(
        points[middle + right[0]] if len(right) else points[-1]
    )

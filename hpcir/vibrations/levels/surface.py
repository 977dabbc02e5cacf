"""A potential energy and dipole surface of one molecule, whatever stands behind it: a trained model, one member of its
committee, a label engine, or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.labels.base import Label
from hpcir.labels.potential import EnginePotential
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure

# Geometries that the kernels take in one call.
LANES = 64


@dataclass(frozen=True)
class SurfaceValues:
    """Energies (S,) hartree, forces (S, N, 3) hartree/bohr, and dipoles (S, 3) e bohr about the centre of mass (nan
    where the surface knows none) of S geometries."""

    energies: FloatArray
    forces: FloatArray
    dipoles: FloatArray


class Surface(Protocol):
    """The surface that levels are computed on: energies, forces and dipoles at geometries (S, N, 3) in bohr."""

    def __call__(self, positions: FloatArray) -> SurfaceValues: ...


class PotentialSurface:
    """A trained potential (the committee's mean) on one molecule, evaluated in lockstep.

    masses (N,) in electron masses give the centre that dipoles are about, which matters for ions.
    """

    def __init__(self, potential: Potential, structure: Structure, masses: FloatArray) -> None:
        self.lanes = potential.replicas(structure.numbers, LANES, structure.charge, masses)

    def __call__(self, positions: FloatArray) -> SurfaceValues:
        parts = [self._block(positions[start : start + LANES]) for start in range(0, len(positions), LANES)]
        energies, forces, dipoles = (np.concatenate(column) for column in zip(*parts, strict=True))
        return SurfaceValues(energies, forces, dipoles)

    def _block(self, positions: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        count = len(positions)
        filled = np.repeat(positions[:1], LANES, 0)
        filled[:count] = positions
        found = self.lanes.evaluate_with_dipoles(np.ascontiguousarray(filled.transpose(1, 2, 0)))
        dipoles = np.full((3, LANES), np.nan) if found.dipoles is None else found.dipoles
        return found.energies[:count], found.forces.transpose(2, 0, 1)[:count], dipoles.T[:count]


class LabelSurface:
    """A label function (an engine's `label`, or any) on one molecule, geometry by geometry; `count` labels so far."""

    def __init__(self, label: Callable[[Structure], Label], structure: Structure, masses: FloatArray) -> None:
        self.label, self.structure = label, structure
        nuclear = structure.numbers.astype(float)
        self.shift = structure.charge * (nuclear / nuclear.sum() - masses / masses.sum())
        self.count = 0

    def __call__(self, positions: FloatArray) -> SurfaceValues:
        labels = [self.label(self.structure.moved(geometry)) for geometry in positions]
        self.count += len(labels)
        dipoles = np.array([label.dipole for label in labels]) + np.einsum("i,sia->sa", self.shift, positions)
        return SurfaceValues(
            np.array([label.energy for label in labels]), np.array([label.forces for label in labels]), dipoles
        )


def surface_of(potential: Potential, structure: Structure, masses: FloatArray) -> Surface:
    """The surface of any potential, masses (N,) in electron masses; label engines get one geometry at a time."""
    if isinstance(potential, EnginePotential):
        return LabelSurface(potential.engine.label, structure, masses)
    return PotentialSurface(potential, structure, masses)


def member_surfaces(potential: Potential, structure: Structure, masses: FloatArray) -> list[Surface]:
    """One surface for each member of a potential's committee; none where there is a single one."""
    if potential.members < 2:
        return []
    return [PotentialSurface(potential.member(m), structure, masses) for m in range(potential.members)]


def as_label(surface: Surface) -> Callable[[Structure], Label]:
    """The surface in the place of a label engine, for optimisation; its dipoles are about the centre of nuclear charge,
    which only matters for ions and is not converted here: use it for geometries."""

    def label(structure: Structure) -> Label:
        values = surface(structure.positions[None])
        return Label(float(values.energies[0]), values.forces[0], values.dipoles[0])

    return label

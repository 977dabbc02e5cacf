"""A potential energy and dipole surface of one molecule, whatever stands behind it: a trained model, one member of its
committee, a label engine, or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpcir.exchange.potentials import AnyPotential, on_replicas
from hpcir.labels.base import Label
from hpcir.models.evaluator import Evaluator
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure, centre

FloatArray = NDArray[np.float64]

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
    """What levels are computed on: energies, forces and dipoles at geometries (S, N, 3) in bohr."""

    def __call__(self, positions: FloatArray) -> SurfaceValues: ...


class PotentialSurface:
    """A trained potential (the committee's mean) on one molecule, evaluated in lockstep.

    masses (N,) in electron masses give the centre that dipoles are about, which matters for ions.
    """

    def __init__(self, potential: AnyPotential, structure: Structure, masses: FloatArray) -> None:
        self.lanes = on_replicas(potential, structure.numbers, LANES, structure.charge, masses)

    def __call__(self, positions: FloatArray) -> SurfaceValues:
        parts = [self._block(positions[start : start + LANES]) for start in range(0, len(positions), LANES)]
        energies, forces, dipoles = (np.concatenate(column) for column in zip(*parts, strict=True))
        return SurfaceValues(energies, forces, dipoles)

    def _block(self, positions: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        count = len(positions)
        filled = np.repeat(positions[:1], LANES, 0)
        filled[:count] = positions
        replicas = np.ascontiguousarray(filled.transpose(1, 2, 0))
        lanes = self.lanes
        dipoles = np.full((3, LANES), np.nan)
        if isinstance(lanes, Evaluator):
            energies, forces = lanes.evaluate(replicas)
            if lanes.has_charges:
                dipoles = lanes.dipoles(replicas)[0]
        else:
            energies, forces, *rest = lanes(replicas)
            dipoles = rest[0] if rest else dipoles
        return energies[:count], forces.transpose(2, 0, 1)[:count], dipoles.T[:count]


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


def member_surfaces(potential: AnyPotential, structure: Structure, masses: FloatArray) -> list[PotentialSurface]:
    """One surface for each committee member of a model; none for a single member, or for n2p2's own potentials."""
    if not isinstance(potential, Model) or potential.members < 2:
        return []
    found = []
    for member in range(potential.members):
        energy = {z: committee.member(member) for z, committee in potential.energy.items()}
        charge = {z: committee.member(member) for z, committee in potential.charge.items()}
        found.append(PotentialSurface(replace(potential, energy=energy, charge=charge), structure, masses))
    return found


def as_label(surface: Surface) -> Callable[[Structure], Label]:
    """The surface in the place of a label engine, for optimisation; its dipoles are about the centre of nuclear charge,
    which only matters for ions and is not converted here: use it for geometries."""

    def label(structure: Structure) -> Label:
        values = surface(structure.positions[None])
        return Label(float(values.energies[0]), values.forces[0], values.dipoles[0])

    return label


def about_mass(positions: FloatArray, masses: FloatArray) -> FloatArray:
    """Positions (N, 3) about their centre of mass."""
    return positions - centre(positions, masses)

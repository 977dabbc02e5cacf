"""Minimum, normal modes and intensities of a surface, to the accuracy that levels need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.labels.base import Label
from hpcir.molecules.structures import Structure
from hpcir.units import KM_PER_MOL_PER_E2_ME, PER_CM
from hpcir.vibrations.levels.surface import Surface, SurfaceValues, as_label
from hpcir.vibrations.normal_modes import (
    STEP,
    NormalModes,
    derivatives_from_labels,
    displaced_geometries,
    normal_modes,
)
from hpcir.vibrations.optimise import optimise

FORCE_TOLERANCE = 2e-6
"""Largest force on an atom at a minimum for levels, hartree/bohr."""

# Displacements along the modes, in dimensionless normal coordinates; softer modes than this (cm-1) are displaced as if
# they had it.
MODE_STEP, SOFTEST = 0.15, 150.0


def minimum_of(surface: Surface, near: Structure) -> Structure:
    """The minimum of a surface near a structure. Raises RunStopped when there is none to be found."""
    return optimise(near, as_label(surface), force_tolerance=FORCE_TOLERANCE).structure


def surface_modes(surface: Surface, minimum: Structure, masses: FloatArray) -> NormalModes:
    """Normal modes at a minimum, from forces at one, two and three steps along first modes: the error is of sixth order
    in the step (central differences of 0.02 bohr leave 5 cm-1 in an O-H stretch)."""
    geometries = [minimum, *displaced_geometries(minimum, STEP)]
    labels = _labels(surface(np.array([geometry.positions for geometry in geometries])))
    first = normal_modes(minimum, *derivatives_from_labels(minimum, labels[0], labels[1:], STEP), masses)
    return refined(surface, first)


def _labels(values: SurfaceValues) -> list[Label]:
    return [
        Label(float(energy), forces, dipole)
        for energy, forces, dipole in zip(values.energies, values.forces, values.dipoles, strict=True)
    ]


def refined(surface: Surface, modes: NormalModes) -> NormalModes:
    """The same vibrations from differences of sixth order along them; dipole derivatives about the centre of mass."""
    n = len(modes)
    omega = np.maximum(np.abs(modes.wavenumbers), SOFTEST) * PER_CM
    steps = MODE_STEP / np.sqrt(omega)
    cartesian = modes.modes / np.sqrt(modes.masses)[:, None]
    factors = np.array([1, -1, 2, -2, 3, -3])
    moved = modes.positions + np.einsum("f,k,kia->fkia", factors, steps, cartesian)
    values = surface(moved.reshape(-1, *modes.positions.shape))
    slopes = -np.einsum("sia,kia->sk", values.forces, cartesian).reshape(6, n, n)
    dipoles = values.dipoles.reshape(6, n, 3)
    hessian = _sixth_order(slopes, steps)
    squares, rotation = np.linalg.eigh(0.5 * (hessian + hessian.T))
    vectors = np.tensordot(rotation.T, modes.modes, 1)
    signs = np.where(vectors.reshape(n, -1) @ np.cos(1.0 + np.arange(modes.modes[0].size)) < 0, -1.0, 1.0)
    vectors *= signs[:, None, None]
    mode_dipoles = signs[:, None] * (rotation.T @ _sixth_order(dipoles, steps))
    return replace(
        modes,
        wavenumbers=np.sign(squares) * np.sqrt(np.abs(squares)) / PER_CM,
        modes=vectors,
        reduced_masses=1 / (vectors**2 / modes.masses[:, None]).sum((1, 2)),
        mode_dipoles=mode_dipoles,
        intensities=KM_PER_MOL_PER_E2_ME * (mode_dipoles**2).sum(1),
    )


def _sixth_order(values: FloatArray, steps: FloatArray) -> FloatArray:
    """First derivatives (n, C) of values (6, n, C) at +1, -1, +2, -2, +3, -3 steps (n,)."""
    odd = values[0::2] - values[1::2]
    return np.asarray((45 * odd[0] - 9 * odd[1] + odd[2]) / (60 * steps[:, None]))

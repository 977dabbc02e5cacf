"""Harmonic vibrations of a potential: at its own minimum, at a geometry as it is, or from labels around a minimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.labels import Label
from hpcir.models.potential import Potential
from hpcir.molecules.structures import Structure
from hpcir.vibrations.normal_modes import (
    STEP,
    NormalModes,
    derivatives_from_labels,
    displaced_geometries,
    normal_modes,
)
from hpcir.vibrations.optimise import optimise


def modes_of(minimum: Structure, labels: Sequence[Label], masses: FloatArray | None = None) -> NormalModes:
    """Normal modes and intensities from the labels of the minimum and of `displaced_geometries(minimum, STEP)`."""
    return normal_modes(minimum, *derivatives_from_labels(minimum, labels[0], labels[1:], STEP), masses)


def as_label_function(model: Potential) -> Callable[[Structure], Label]:
    """The model in the place of a label engine."""

    def label(structure: Structure) -> Label:
        result = model.evaluate(structure.numbers, structure.positions, structure.charge)
        return Label(result.energy, result.forces, result.dipole)

    return label


def model_harmonics(model: Potential, near: Structure, masses: FloatArray | None = None) -> NormalModes:
    """Normal modes and harmonic intensities of the model at its own minimum near a structure."""
    return harmonics_at(model, optimise(near, as_label_function(model)).structure, masses)


def harmonics_at(model: Potential, structure: Structure, masses: FloatArray | None = None) -> NormalModes:
    """Normal modes and harmonic intensities of the model at a structure as it is, near a minimum or not quite."""
    label = as_label_function(model)
    labels = [label(geometry) for geometry in (structure, *displaced_geometries(structure, STEP))]
    return modes_of(structure, labels, masses)


def harmonic_error(model: NormalModes, reference: NormalModes) -> float:
    """Mean absolute difference of the sorted wavenumbers, cm-1."""
    return float(np.mean(np.abs(np.sort(model.wavenumbers) - np.sort(reference.wavenumbers))))

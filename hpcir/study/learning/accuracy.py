"""The model error's share of a spectrum, by labels that no member has learnt, held against the deck's accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.deck.sections import AccuracySettings
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.study.learning.committee import LearntLabel
from hpcir.vibrations.local_frequencies import MIN_GEOMETRIES, local_frequencies


@dataclass(frozen=True)
class ModelShare:
    """Largest shift of a kind of vibration by the model's forces, with twice its standard error, cm-1; `motion`: that
    kind; intensity: the largest relative error of intensities that the dipoles' errors can make."""

    motion: str
    wavenumber: float
    intensity: float

    def meets(self, wanted: AccuracySettings) -> bool:
        """True where both are within the accuracy."""
        return self.wavenumber <= wanted.wavenumber and self.intensity <= wanted.intensity

    def words(self) -> str:
        """The share in a sentence."""
        return (
            f"by labels held out, the model shifts no vibration by more than {self.wavenumber:.2g} cm-1 "
            f"({self.motion}) and changes no intensity by more than {100 * self.intensity:.2g} %"
        )


def model_share(model: Model, structure: Structure, held_out: Sequence[LearntLabel]) -> ModelShare | None:
    """The share of a model's errors in the spectrum of a molecule; None where fewer than MIN_GEOMETRIES whole labels of
    it were held out, or the model has no charges.

    Shifts are those of effective frequencies (`vibrations.local_frequencies`). Intensities go by the square of the
    dipole's changes: with r the root mean square error of these over their own root mean square, by 2 r at most.
    """
    own = [item for item in held_out if item.forces is None and _same_molecule(item.structure, structure)]
    if len(own) < MIN_GEOMETRIES or not model.charge:
        return None
    positions = np.array([item.structure.positions for item in own])
    results = [model.evaluate(structure.numbers, x, structure.charge) for x in positions]
    reference = np.array([item.label.forces for item in own])
    found = local_frequencies(structure, positions, reference, np.array([result.forces for result in results]))
    if not found:
        return None
    largest = max(found, key=lambda one: abs(one.shift) + 2 * one.error)
    dipoles = np.array([item.label.dipole for item in own])
    error = np.array([result.dipole for result in results]) - dipoles
    changes = np.sqrt(np.mean((dipoles - dipoles.mean(0)) ** 2))
    intensity = 2 * np.sqrt(np.mean((error - error.mean(0)) ** 2)) / max(changes, 1e-12)
    return ModelShare(largest.motion, abs(largest.shift) + 2 * largest.error, float(intensity))


def _same_molecule(one: Structure, other: Structure) -> bool:
    return one.charge == other.charge and np.array_equal(one.numbers, other.numbers)

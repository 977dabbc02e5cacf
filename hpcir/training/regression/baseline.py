"""The values that a process is the difference to: constants, or a model or labels of the level of theory below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hpcir.arrays import BoolArray, FloatArray, IntArray
from hpcir.models.model import Model
from hpcir.training.batches import composition_offsets, fit_offsets
from hpcir.training.dataset import GroupTensors, TrainingData, dipole_operator
from hpcir.training.evaluation import Prediction, predict


@dataclass(frozen=True)
class Values:
    """Values of one group, its atoms in the order of the arrays that they belong to: energies (S,) hartree, forces
    (S, N, 3) hartree/bohr, dipoles (S, 3) e bohr; nan where a calculation failed or has no dipole."""

    energies: FloatArray
    forces: FloatArray
    dipoles: FloatArray

    def of(self, rows: IntArray) -> Values:
        """Those of some geometries."""
        return Values(self.energies[rows], self.forces[rows], self.dipoles[rows])

    @property
    def known(self) -> BoolArray:
        """(S,) True where the calculation succeeded."""
        return np.isfinite(self.energies)


class Baseline(Protocol):
    """Values below a member's process, for the labels and for the displaced geometries."""

    def values(self, tensors: GroupTensors, member: int) -> Values:
        """Those of one group of the training set."""


class Constants:
    """Atomic energies, one for each element, and no charges but the molecule's."""

    def __init__(self, data: TrainingData, with_vectors: bool) -> None:
        self.offsets, self.with_vectors = fit_offsets(data, None), with_vectors

    def values(self, tensors: GroupTensors, member: int) -> Values:
        group = tensors.group
        level = sum(self.offsets[int(z)] for z in group.numbers)
        constant = dipole_operator(tensors, self.with_vectors)[1]
        return Values(np.full(len(group), level), np.zeros(group.positions.shape), constant)


@dataclass
class ModelBelow:
    """A model, its member m for member m (modulo its members), and what the labels' mean energies are beyond its own.

    data: the training set with the labels and the displaced geometries, of the model's reduction.
    """

    model: Model
    data: TrainingData
    with_vectors: bool
    _found: dict[int, Prediction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        offsets = fit_offsets(self.data, self.model)
        self.shifts = {z: offsets[z] - self.model.offsets[z] for z in offsets}

    def values(self, tensors: GroupTensors, member: int) -> Values:
        if id(tensors) not in self._found:
            self._found[id(tensors)] = predict(self.model, self.data, tensors)
        found, row = self._found[id(tensors)], member % self.model.members
        assert found.forces is not None
        shift = sum(self.shifts[int(z)] for z in tensors.group.numbers)
        dipoles = dipole_operator(tensors, self.with_vectors)[1] if found.dipoles is None else found.dipoles[row]
        return Values(found.energies[row] + shift, found.forces[row], dipoles)


class LabelsBelow:
    """Labels of the level below, the same for all members, and its model's values where it has none; no charges where
    it has no dipoles.

    found: of the first groups of `data`, those of the labels at least, atoms sorted by element likewise. model: for the
    other groups.
    """

    def __init__(self, data: TrainingData, found: Sequence[Values], with_vectors: bool, model: ModelBelow) -> None:
        self.model = model
        pairs = list(zip(data.groups, found, strict=False))
        self.found = {id(tensors): values for tensors, values in pairs}
        without = any(np.isnan(values.dipoles[values.known]).any() for values in found)
        self.dipoles = {
            id(t): dipole_operator(t, with_vectors)[1] if without else values.dipoles for t, values in pairs
        }
        self.offsets = composition_offsets(data, lambda tensors: self.found[id(tensors)].energies)

    def values(self, tensors: GroupTensors, member: int) -> Values:
        if id(tensors) not in self.found:
            return self.model.values(tensors, member)
        found = self.found[id(tensors)]
        shift = sum(self.offsets[int(z)] for z in tensors.group.numbers)
        return Values(found.energies + shift, found.forces, self.dipoles[id(tensors)])

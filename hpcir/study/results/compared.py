"""Label engine and model side by side over the geometries of the independent test; test.h5 and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import InputError
from hpcir.labels.base import Label
from hpcir.molecules.structures import Structure
from hpcir.storage.hdf5 import read_h5, write_h5
from hpcir.study.results.records import IndependentTest
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM

if TYPE_CHECKING:
    from hpcir.models.model import Model


def _axes(unit: str, axes: str) -> dict[str, str]:
    return {"unit": unit, "axes": axes}


VECTORS = "geometry,atom,xyz"
TENSORS = "geometry,atom,xyz of the atom,xyz of the dipole"


@dataclass(frozen=True)
class Compared:
    """Label engine and model over the G geometries of a test, atomic units; the axes of every array are in its
    metadata. Polar tensors where all labels have them and the model has charges."""

    positions: FloatArray = field(metadata=_axes("bohr", VECTORS))
    energy_reference: FloatArray = field(metadata=_axes("hartree", "geometry"))
    energy_model: FloatArray = field(metadata=_axes("hartree", "geometry"))
    forces_reference: FloatArray = field(metadata=_axes("hartree/bohr", VECTORS))
    forces_model: FloatArray = field(metadata=_axes("hartree/bohr", VECTORS))
    forces_spread: FloatArray = field(metadata=_axes("hartree/bohr", VECTORS))
    dipole_reference: FloatArray = field(metadata=_axes("e bohr", "geometry,xyz"))
    dipole_model: FloatArray = field(metadata=_axes("e bohr", "geometry,xyz"))
    polar_reference: FloatArray | None = field(default=None, metadata=_axes("e", TENSORS))
    polar_model: FloatArray | None = field(default=None, metadata=_axes("e", TENSORS))

    @classmethod
    def of(cls, model: Model, pairs: Sequence[tuple[Structure, Label]]) -> Compared:
        """A model on labelled geometries."""
        from hpcir.models.polar import polar_tensors

        results = [model.evaluate(s.numbers, s.positions, s.charge) for s, _ in pairs]
        labels = [label for _, label in pairs]
        reference = tensors = None
        if model.charge and pairs and all(label.polar_tensors is not None for label in labels):
            reference = np.array([label.polar_tensors for label in labels], dtype=float)
            tensors = np.array([polar_tensors(model, s.numbers, s.positions, s.charge) for s, _ in pairs], dtype=float)
        return cls(
            positions=np.array([s.positions for s, _ in pairs], dtype=float),
            energy_reference=np.array([label.energy for label in labels], dtype=float),
            energy_model=np.array([result.energy for result in results], dtype=float),
            forces_reference=np.array([label.forces for label in labels], dtype=float),
            forces_model=np.array([result.forces for result in results], dtype=float),
            forces_spread=np.array([result.forces_spread for result in results], dtype=float),
            dipole_reference=np.array([label.dipole for label in labels], dtype=float),
            dipole_model=np.array([result.dipole for result in results], dtype=float),
            polar_reference=reference,
            polar_model=tensors,
        )

    @classmethod
    def read(cls, path: Path) -> Compared:
        """From test.h5. Raises RunStopped when it cannot be read or is damaged, InputError when it is another file."""
        arrays, _ = read_h5(path)
        try:
            return cls(**{one.name: arrays[one.name] for one in fields(cls) if one.name in arrays})
        except TypeError as error:
            raise InputError(f"no independent test: {error}", where=str(path)) from error

    def write(self, path: Path, level: str) -> None:
        """Write test.h5; level: of the labels. Raises RunStopped when that fails."""
        named = ((one, getattr(self, one.name)) for one in fields(self))
        arrays = {
            one.name: (value, one.metadata["unit"], one.metadata["axes"]) for one, value in named if value is not None
        }
        write_h5(path, arrays, {"format": "hpcir test", "level": level})

    def figures(self) -> IndependentTest:
        """Root mean square errors in user units: energies of the molecule, components of vectors."""
        error = self.energy_model - self.energy_reference
        polar = None
        if self.polar_model is not None and self.polar_reference is not None:
            polar = _rmse(self.polar_model, self.polar_reference)
        return IndependentTest(
            n=len(error),
            energy_rmse_kcal_per_mol=_rmse(self.energy_model, self.energy_reference) / KCAL_PER_MOL,
            energy_offset_kcal_per_mol=float(error.mean()) / KCAL_PER_MOL,
            force_rmse_kcal_per_mol_angstrom=_rmse(self.forces_model, self.forces_reference) / KCAL_PER_MOL_ANGSTROM,
            dipole_rmse_debye=_rmse(self.dipole_model, self.dipole_reference) / DEBYE,
            polar_tensor_rmse_e=polar,
            force_rmse_relative_stderr=self.force_uncertainty() if len(error) > 1 else None,
        )

    def force_uncertainty(self) -> float:
        """The relative standard error of the root mean square error of forces: by the scatter of the geometries' own
        mean squares, half of that of their mean; infinite of a single geometry."""
        squares = ((self.forces_model - self.forces_reference) ** 2).mean(axis=(1, 2))
        if len(squares) < 2:
            return float("inf")
        return float(squares.std(ddof=1) / np.sqrt(len(squares)) / max(2 * squares.mean(), 1e-300))


def _rmse(model: FloatArray, reference: FloatArray) -> float:
    return float(np.sqrt(np.mean((model - reference) ** 2)))

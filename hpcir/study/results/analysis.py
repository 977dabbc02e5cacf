"""The model held against its label engine: harmonic frequencies at its own minimum, and the independent test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcir.deck.study import Study, heavy_atoms
from hpcir.errors import InputError
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.models.polar import polar_tensors
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5, write_h5
from hpcir.study.context import Context
from hpcir.study.label_farm import TEST, LabelFarm, candidates
from hpcir.study.learning.curve import LearningCurve
from hpcir.study.learning.loop import intact_model
from hpcir.study.learning.reference import PURPOSE, harmonic_analysis, optimised, write
from hpcir.study.production.block import TrajectoryBlock, spread_geometries
from hpcir.study.production.targets import Target
from hpcir.study.results.records import IndependentTest, LocalFrequencyRow
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM
from hpcir.vibrations.local_frequencies import local_frequencies
from hpcir.vibrations.normal_modes import stiff_hessian

FloatArray = NDArray[np.float64]
# Atoms of a molecule whose harmonic spectrum any engine gives in a little time.
SMALL_MOLECULE = 12


@collective
def engine_reference(study: Study, farm: LabelFarm, target: Target) -> Target:
    """A target with the label engine's minimum and harmonic spectrum, where it is labelled whole, has none yet and the
    deck wants it (collective). No model learns these labels."""
    context, structure = target.context, target.structure
    if target.reference is not None or not study.labelled_whole(structure) or not _wanted(context, structure):
        return target
    near = structure.moved(target.main.modes.positions)
    hessian = stiff_hessian(target.main.modes)
    minimum = optimised(context, farm, near, f"{TEST} optimisation", hessian=hessian)
    reference = harmonic_analysis(context, farm, minimum, f"{TEST} {PURPOSE}")
    if context.root:
        write(context, reference)
    return replace(target, reference=reference)


def _wanted(context: Context, structure: Structure) -> bool:
    wanted = context.deck.test.harmonic
    cheap = context.deck.labels.engine == "tblite" or len(structure) <= SMALL_MOLECULE
    return wanted == "yes" or (wanted == "auto" and cheap)


@collective
def independent_test(
    context: Context, farm: LabelFarm, model: Model, target: Target, curve: LearningCurve | None = None
) -> IndependentTest:
    """Label geometries of a target's own trajectories and compare (collective); figures for the summary.

    context: the run's, for the learning curve; curve: its rounds' models are put to the same test.
    """
    settings, structure = context.deck.test, target.structure
    if settings.count == 0 or heavy_atoms(structure) > settings.largest:
        return IndependentTest(n=0)
    own = target.context
    geometries = own.at_root(lambda: _snapshots(own, structure, target.main.blocks, settings.count))
    if not own.on_root(lambda: bool(geometries)):
        return IndependentTest(n=0)  # every trajectory went astray: the spectrum stage says so
    labels = farm.label(candidates(geometries or (), TEST))

    def figures() -> IndependentTest:
        pairs = [(g, label) for g, label in zip(geometries or (), labels, strict=True) if label is not None]
        compared = Compared.of(model, pairs)
        compared.write(own.directory / layout.TEST, farm.level)
        if curve is not None:
            judge_rounds(context, curve, pairs)
        return replace(compared.figures(), local_frequencies=_local_frequencies(structure, compared))

    return own.on_root(figures)


def _local_frequencies(structure: Structure, compared: Compared) -> tuple[LocalFrequencyRow, ...]:
    """Where the model's forces put each kind of vibration, for the summary."""
    found = local_frequencies(structure, compared.positions, compared.forces_reference, compared.forces_model)
    return tuple(
        LocalFrequencyRow(
            motion=one.motion,
            count=one.count,
            wavenumber_per_cm=one.wavenumber,
            shift_per_cm=one.shift,
            shift_error_per_cm=one.error,
        )
        for one in found
    )


def judge_rounds(context: Context, curve: LearningCurve, pairs: Sequence[tuple[Structure, Label]]) -> None:
    """Add the test's errors of every round's model to models/learning_curve.json (rank 0)."""
    folder = context.directory / layout.MODELS
    for number, entry in enumerate(curve.rounds):
        model = intact_model(folder / layout.round_file(number))
        if model is not None and pairs:
            figures = Compared.of(model, pairs).figures()
            curve.rounds[number] = replace(
                entry,
                test_energy_rmse_kcal_per_mol=figures.energy_rmse_kcal_per_mol,
                test_force_rmse_kcal_per_mol_angstrom=figures.force_rmse_kcal_per_mol_angstrom,
                test_dipole_rmse_debye=figures.dipole_rmse_debye,
                test_polar_tensor_rmse_e=figures.polar_tensor_rmse_e,
            )
    curve.save(folder)


def _snapshots(context: Context, structure: Structure, blocks: Sequence[str], count: int) -> list[Structure]:
    """`count` geometries at chunk ends of sane trajectories, spread evenly over them all."""
    read = [TrajectoryBlock.read(context.directory / name) for name in blocks]
    return [structure.moved(positions) for positions in spread_geometries(read, count)]


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
        """From test.h5. Raises RunStopped when it cannot be read or is damaged, InputError when it is no such file."""
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
        )


def _rmse(model: FloatArray, reference: FloatArray) -> float:
    return float(np.sqrt(np.mean((model - reference) ** 2)))

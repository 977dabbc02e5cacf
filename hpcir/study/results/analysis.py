"""The model held against its label engine: harmonic frequencies at its own minimum, and the independent test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpcir.exchange.potentials import AnyPotential
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.storage import layout
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm
from hpcir.study.learning.curve import LearningCurve
from hpcir.study.learning.loop import intact_model
from hpcir.study.learning.reference import modes_of
from hpcir.study.production.block import TrajectoryBlock, spread_geometries
from hpcir.study.results.compared import Compared
from hpcir.study.results.records import IndependentTest, LocalFrequencyRow
from hpcir.vibrations.local_frequencies import local_frequencies
from hpcir.vibrations.normal_modes import STEP, NormalModes, displaced_geometries
from hpcir.vibrations.optimise import optimise

FloatArray = NDArray[np.float64]


def as_label_function(model: AnyPotential) -> Callable[[Structure], Label]:
    """The model in the place of a label engine."""

    def label(structure: Structure) -> Label:
        result = model.evaluate(structure.numbers, structure.positions, structure.charge)
        return Label(result.energy, result.forces, result.dipole)

    return label


def model_harmonics(model: AnyPotential, near: Structure, masses: FloatArray | None = None) -> NormalModes:
    """Normal modes and harmonic intensities of the model at its own minimum near a structure."""
    return harmonics_at(model, optimise(near, as_label_function(model)).structure, masses)


def harmonics_at(model: AnyPotential, structure: Structure, masses: FloatArray | None = None) -> NormalModes:
    """Normal modes and harmonic intensities of the model at a structure as it is, near a minimum or not quite."""
    label = as_label_function(model)
    labels = [label(geometry) for geometry in (structure, *displaced_geometries(structure, STEP))]
    return modes_of(structure, labels, masses)


def harmonic_error(model: NormalModes, reference: NormalModes) -> float:
    """Mean absolute difference of the sorted wavenumbers, cm-1."""
    return float(np.mean(np.abs(np.sort(model.wavenumbers) - np.sort(reference.wavenumbers))))


def independent_test(
    context: Context,
    farm: LabelFarm,
    model: Model,
    structure: Structure,
    blocks: Sequence[str],
    curve: LearningCurve | None = None,
) -> IndependentTest:
    """Label geometries of the final model's own trajectories and compare (collective); figures for the summary.

    curve: its rounds' models are put to the same test.
    """
    count = context.deck.test.count
    geometries = _snapshots(context, structure, blocks, count) if context.root else None
    if not context.comm.bcast(len(geometries) if geometries is not None else None):
        return IndependentTest(n=0)  # every trajectory went astray: the spectrum stage says so
    labels = farm.label(geometries, "test")
    pairs = [(g, label) for g, label in zip(geometries, labels, strict=True) if label is not None] if geometries else []
    figures: IndependentTest | None = None
    if context.root:
        compared = Compared.of(model, pairs)
        compared.write(context.directory / layout.TEST, farm.level)
        if curve is not None:
            judge_rounds(context, curve, pairs)
        figures = replace(compared.figures(), local_frequencies=_local_frequencies(structure, compared))
    shared: IndependentTest = context.comm.bcast(figures)
    return shared


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

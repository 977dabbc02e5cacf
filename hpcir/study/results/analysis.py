"""Comparison of the model with its label engine: harmonic frequencies at its own minimum, and the independent test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from hpcir.deck.study import Study, heavy_atoms
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.hdf5 import read_h5
from hpcir.study.context import Context
from hpcir.study.label_farm import TEST, LabelFarm, candidates
from hpcir.study.learning.curve import LearningCurve
from hpcir.study.learning.loop import intact_model
from hpcir.study.learning.reference import PURPOSE, harmonic_analysis, optimised, write
from hpcir.study.production.block import TrajectoryBlock, spread_geometries
from hpcir.study.production.parts import first_blocks
from hpcir.study.production.sets import TrajectorySet
from hpcir.study.production.targets import Target
from hpcir.study.results.compared import Compared
from hpcir.study.results.records import IndependentTest, LocalFrequencyRow, OtherModel
from hpcir.vibrations.local_frequencies import local_frequencies
from hpcir.vibrations.normal_modes import stiff_hessian

# Parts of the test that are labelled one after the other, every so many geometries; geometries of the first part, at
# least; and the relative standard error of the force error at which there are enough.
STRIDES, FIRST_PART, FORCE_ERROR_KNOWN = (4, 2, 1), 16, 0.1
# Most atoms of a molecule whose harmonic spectrum is cheap with any engine.
MAX_HARMONIC_ATOMS = 12


@collective
def engine_reference(study: Study, farm: LabelFarm, target: Target) -> Target:
    """A target with the label engine's minimum and harmonic spectrum, where it is labelled whole, has none yet and the
    deck wants it (collective). No model learns these labels."""
    context, structure = target.context, target.structure
    if target.reference is not None or not study.labelled_whole(structure) or not _needs_reference(context, structure):
        return target
    near = structure.moved(target.main.modes.positions)
    hessian = stiff_hessian(target.main.modes)
    minimum = optimised(context, farm, near, f"{TEST} optimisation", hessian=hessian)
    reference = harmonic_analysis(context, farm, minimum, f"{TEST} {PURPOSE}")
    if context.root:
        write(context, reference)
    return replace(target, reference=reference)


def _needs_reference(context: Context, structure: Structure) -> bool:
    wanted = context.deck.test.harmonic
    cheap = context.deck.labels.engine == "tblite" or len(structure) <= MAX_HARMONIC_ATOMS
    return wanted == "yes" or (wanted == "auto" and cheap)


@collective
def independent_test(
    context: Context,
    farm: LabelFarm,
    model: Model,
    target: Target,
    curve: LearningCurve | None = None,
    others: Mapping[str, Model] | None = None,
) -> IndependentTest:
    """Label geometries of a target's own trajectories and compare (collective); figures for the summary.

    A quarter of the geometries are labelled, evenly spread, then half and all, until the test's figures are known.

    context: the run's, for the learning curve; curve: the models of its rounds are tested on the same labels;
    others: further models, by name, that are tested on them too.
    """
    settings, structure = context.deck.test, target.structure
    if settings.count == 0 or heavy_atoms(structure) > settings.largest:
        return IndependentTest(n=0)
    own = target.context
    geometries = own.at_root(lambda: _met(own, structure, target.main, settings.count))
    if not own.on_root(lambda: bool(geometries)):
        return IndependentTest(n=0)  # no trajectory is valid: the spectrum stage reports it
    pairs, compared = _labelled(own, farm, model, geometries)

    def figures() -> IndependentTest:
        assert compared is not None
        compared.write(own.directory / layout.TEST, farm.level)
        if curve is not None:
            judge_rounds(context, curve, pairs)
        found = {name: other_model(Compared.of(other, pairs)) for name, other in (others or {}).items()}
        return replace(
            compared.figures(), local_frequencies=_local_frequencies(structure, compared), others=found or None
        )

    return own.on_root(figures)


@collective
def _labelled(
    context: Context, farm: LabelFarm, model: Model, geometries: Sequence[Structure] | None
) -> tuple[list[tuple[Structure, Label]], Compared | None]:
    """As many labels of geometries (rank 0's) as the test's figures take, and model and engine on them (collective;
    both on rank 0)."""
    pairs: list[tuple[Structure, Label]] = []
    compared: Compared | None = None
    total = context.on_root(lambda: len(geometries or ()))
    for stride in STRIDES:
        if stride > 1 and total < FIRST_PART * stride:
            continue
        part = list(geometries or ())[::stride]
        labels = farm.label(candidates(part, TEST))
        if context.root:
            pairs = [(one, label) for one, label in zip(part, labels, strict=True) if label is not None]
        compared = context.at_root(partial(Compared.of, model, pairs))
        if context.on_root(partial(_is_known, context, pairs, compared)):
            break
    return pairs, compared


def _is_known(context: Context, pairs: Sequence[tuple[Structure, Label]], compared: Compared | None) -> bool:
    """True where the force error is known to FORCE_ERROR_KNOWN, and the shifts of vibrations to the deck's accuracy."""
    if compared is None or len(pairs) < FIRST_PART // 2:
        return False
    shifts = [row.shift_error_per_cm for row in _local_frequencies(pairs[0][0], compared)]
    precise = all(error <= context.deck.accuracy.wavenumber for error in shifts)
    return precise and compared.force_uncertainty() <= FORCE_ERROR_KNOWN


def _local_frequencies(structure: Structure, compared: Compared) -> tuple[LocalFrequencyRow, ...]:
    """Effective frequencies of each kind of vibration by the model's forces, for the summary."""
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


def other_model(compared: Compared) -> OtherModel:
    """Errors of forces and dipole of a further model."""
    figures = compared.figures()
    return OtherModel(figures.force_rmse_kcal_per_mol_angstrom, figures.dipole_rmse_debye)


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


def _met(context: Context, structure: Structure, main: TrajectorySet, count: int) -> list[Structure]:
    """`count` geometries that the trajectories met; the trajectories of PIGS being those of centroids, every other one
    is a bead of the rings that were averaged."""
    if context.deck.dynamics.nuclei != "pigs":
        return _snapshots(context, structure, main, count)
    beads = read_h5(context.directory / layout.centroids_file(layout.MAIN_SET))[0]["beads"]
    picked = np.unique(np.linspace(0, len(beads) - 1, count // 2).round().astype(int))
    return _snapshots(context, structure, main, count - len(picked)) + [structure.moved(beads[n]) for n in picked]


def _snapshots(context: Context, structure: Structure, main: TrajectorySet, count: int) -> list[Structure]:
    """`count` geometries at chunk ends of valid trajectories, spread evenly over the first part of them, so that a run
    with another accuracy labels the same ones; over all where the first part has too few."""
    found: list[Structure] = []
    for blocks in (first_blocks(context, main), main.blocks):
        read = [TrajectoryBlock.read(context.directory / name) for name in blocks]
        found = [structure.moved(positions) for positions in spread_geometries(read, count)]
        if len(found) >= count:
            break
    return found

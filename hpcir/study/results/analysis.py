"""The model held against its label engine: harmonic frequencies at its own minimum, and the independent test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.deck.study import Study, heavy_atoms
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.models.polar import polar_tensors
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage.hdf5 import read_h5, write_h5
from hpcir.study.context import Context
from hpcir.study.label_farm import TEST, LabelFarm, candidates
from hpcir.study.learning.loop import FOLDER, Sampling, intact_model, round_file
from hpcir.study.learning.reference import PURPOSE, harmonic_analysis, optimised, write
from hpcir.study.production.targets import Target
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM
from hpcir.vibrations.local_frequencies import local_frequencies
from hpcir.vibrations.normal_modes import stiff_hessian

FloatArray = NDArray[np.float64]
# Atoms of a molecule whose harmonic spectrum any engine gives in a little time.
SMALL_MOLECULE = 12
TEST_FILE = "test.h5"


TestFigures = dict[str, Any]


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
    context: Context, farm: LabelFarm, model: Model, target: Target, sampling: Sampling | None = None
) -> TestFigures:
    """Label geometries of a target's own trajectories and compare (collective); figures for the summary.

    context: the run's, for the learning curve; sampling: its rounds' models are put to the same test.
    """
    settings, structure = context.deck.test, target.structure
    if settings.count == 0 or heavy_atoms(structure) > settings.largest:
        return {"n": 0}
    own = target.context
    geometries = own.at_root(lambda: _snapshots(own, structure, target.main.blocks, settings.count))
    if not own.on_root(lambda: bool(geometries)):
        return {"n": 0}  # every trajectory went astray: the spectrum stage says so
    labels = farm.label(candidates(geometries or (), TEST))

    def compared() -> TestFigures:
        pairs = [(g, label) for g, label in zip(geometries or (), labels, strict=True) if label is not None]
        arrays = test_arrays(model, pairs)
        write_h5(own.directory / TEST_FILE, arrays, {"format": "hpcir test", "level": farm.level})
        if sampling is not None:
            judge_rounds(context, sampling, pairs)
        plain = {name: item[0] for name, item in arrays.items()}
        return test_figures(plain) | {"local_frequencies": _local_frequencies(structure, plain)}

    return own.on_root(compared)


def _local_frequencies(structure: Structure, arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the model's forces put each kind of vibration, for the summary."""
    found = local_frequencies(structure, arrays["positions"], arrays["forces_reference"], arrays["forces_model"])
    return [
        {
            "motion": one.motion,
            "count": one.count,
            "wavenumber_per_cm": one.wavenumber,
            "shift_per_cm": one.shift,
            "shift_error_per_cm": one.error,
        }
        for one in found
    ]


def judge_rounds(context: Context, sampling: Sampling, pairs: Sequence[tuple[Structure, Label]]) -> None:
    """Add the test's errors of every round's model to models/learning_curve.json, as test_* (rank 0)."""
    folder = context.directory / FOLDER
    for number, entry in enumerate(sampling.rounds):
        model = intact_model(round_file(folder, number))
        if model is not None and pairs:
            arrays = {name: item[0] for name, item in test_arrays(model, pairs).items()}
            entry |= {f"test_{name}": value for name, value in test_figures(arrays).items() if "rmse" in name}
    sampling.save(folder)


def _snapshots(context: Context, structure: Structure, blocks: Sequence[str], count: int) -> list[Structure]:
    """`count` geometries at chunk ends of sane trajectories, spread evenly over them all."""
    frames = []
    for name in blocks:
        arrays, _ = read_h5(context.directory / name)
        frames.append(arrays["snapshots"][..., arrays["sane"]].transpose(0, 3, 1, 2).reshape(-1, len(structure), 3))
    every = np.concatenate(frames)
    picked = np.unique(np.linspace(0, max(len(every) - 1, 0), count).round().astype(int))[: len(every)]
    return [structure.moved(every[index]) for index in picked]


def test_arrays(model: Model, pairs: Sequence[tuple[Structure, Label]]) -> dict[str, tuple[Any, str, str]]:
    """Reference and model values over the test set, as datasets with units and axes; polar tensors are among them where
    all labels have them and the model has charges."""
    results = [model.evaluate(s.numbers, s.positions, s.charge) for s, _ in pairs]
    labels = [label for _, label in pairs]

    def column(values: list[Any]) -> Any:
        return np.array(values, dtype=float)

    arrays = {
        "positions": (column([s.positions for s, _ in pairs]), "bohr", "geometry,atom,xyz"),
        "energy_reference": (column([label.energy for label in labels]), "hartree", "geometry"),
        "energy_model": (column([result.energy for result in results]), "hartree", "geometry"),
        "forces_reference": (column([label.forces for label in labels]), "hartree/bohr", "geometry,atom,xyz"),
        "forces_model": (column([result.forces for result in results]), "hartree/bohr", "geometry,atom,xyz"),
        "forces_spread": (column([result.forces_spread for result in results]), "hartree/bohr", "geometry,atom,xyz"),
        "dipole_reference": (column([label.dipole for label in labels]), "e bohr", "geometry,xyz"),
        "dipole_model": (column([result.dipole for result in results]), "e bohr", "geometry,xyz"),
    }
    if model.charge and pairs and all(label.polar_tensors is not None for label in labels):
        tensors = [polar_tensors(model, s.numbers, s.positions, s.charge) for s, _ in pairs]
        axes = "geometry,atom,xyz of the atom,xyz of the dipole"
        arrays["polar_reference"] = (column([label.polar_tensors for label in labels]), "e", axes)
        arrays["polar_model"] = (column(tensors), "e", axes)
    return arrays


def test_figures(arrays: dict[str, Any]) -> dict[str, Any]:
    """Root mean square errors over the test set in user units: energies of the molecule, components of vectors."""

    def rmse(name: str) -> float:
        return float(np.sqrt(np.mean((arrays[f"{name}_model"] - arrays[f"{name}_reference"]) ** 2)))

    error = arrays["energy_model"] - arrays["energy_reference"]
    figures = {
        "n": len(error),
        "energy_rmse_kcal_per_mol": rmse("energy") / KCAL_PER_MOL,
        "energy_offset_kcal_per_mol": float(error.mean()) / KCAL_PER_MOL,
        "force_rmse_kcal_per_mol_angstrom": rmse("forces") / KCAL_PER_MOL_ANGSTROM,
        "dipole_rmse_debye": rmse("dipole") / DEBYE,
    }
    if "polar_model" in arrays:
        figures["polar_tensor_rmse_e"] = rmse("polar")
    return figures

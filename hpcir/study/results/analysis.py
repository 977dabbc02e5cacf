"""The model held against its label engine: harmonic frequencies at its own minimum, and the independent test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcir.exchange.potentials import AnyPotential
from hpcir.labels import Label
from hpcir.models.model import Model
from hpcir.models.polar import polar_tensors
from hpcir.molecules.structures import Structure
from hpcir.storage.hdf5 import read_h5, write_h5
from hpcir.study.context import Context
from hpcir.study.label_farm import LabelFarm
from hpcir.study.learning.loop import FOLDER, Sampling, intact_model, round_file
from hpcir.study.learning.reference import Reference, modes_of
from hpcir.units import DEBYE, KCAL_PER_MOL, KCAL_PER_MOL_ANGSTROM
from hpcir.vibrations.local_frequencies import local_frequencies
from hpcir.vibrations.normal_modes import STEP, NormalModes, displaced_geometries
from hpcir.vibrations.optimise import optimise

FloatArray = NDArray[np.float64]
TEST_FILE = "test.h5"


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
    reference: Reference,
    blocks: Sequence[str],
    sampling: Sampling | None = None,
) -> dict[str, Any]:
    """Label geometries of the final model's own trajectories and compare (collective); figures for the summary.

    sampling: its rounds' models are put to the same test, for the learning curve.
    """
    count = context.deck.test.count
    geometries = _snapshots(context, reference.structure, blocks, count) if context.root else None
    if not context.comm.bcast(len(geometries) if geometries is not None else None):
        return {"n": 0}  # every trajectory went astray: the spectrum stage says so
    labels = farm.label(geometries, "test")
    pairs = [(g, label) for g, label in zip(geometries, labels, strict=True) if label is not None] if geometries else []
    if not context.root:
        figures: dict[str, Any] = context.comm.bcast(None)
        return figures
    arrays = test_arrays(model, pairs)
    write_h5(context.directory / TEST_FILE, arrays, {"format": "hpcir test", "level": farm.level})
    if sampling is not None:
        judge_rounds(context, sampling, pairs)
    plain = {name: item[0] for name, item in arrays.items()}
    figures = test_figures(plain) | {"local_frequencies": _local_frequencies(reference.structure, plain)}
    return dict(context.comm.bcast(figures))


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

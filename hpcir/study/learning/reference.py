"""Stage prepare: the minimum, its normal modes and its harmonic infrared spectrum, from the label engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import RunStopped
from hpcir.labels import Label
from hpcir.molecules.structures import Structure
from hpcir.runtime.mpi import collective
from hpcir.storage import layout
from hpcir.storage.hdf5 import write_h5
from hpcir.study.context import Context
from hpcir.study.label_farm import Candidate, LabelFarm, candidates
from hpcir.vibrations.harmonics import modes_of
from hpcir.vibrations.normal_modes import (
    STEP,
    NormalModes,
    displaced_geometries,
)
from hpcir.vibrations.optimise import optimise

FILE = layout.REFERENCE
# Purpose of the displaced geometries in the label store; they train too.
PURPOSE = "normal modes"


@dataclass(frozen=True)
class Reference:
    """The minimum of one level of theory, with its harmonic analysis; labelled: by the level's engine, and not by a
    model."""

    structure: Structure
    modes: NormalModes
    energy: float
    labelled: bool = True


@collective
def optimised(
    context: Context,
    farm: LabelFarm,
    start: Structure,
    purpose: str = "optimisation",
    hessian: FloatArray | None = None,
    beside: Sequence[Candidate] = (),
) -> Structure:
    """The minimum near `start`, found by rank 0 and broadcast (collective).

    hessian (3N, 3N): of a cheaper level, in hartree/bohr^2. beside: geometries that the other ranks label for what
    comes later as long as rank 0 is at it (rank 0's list counts).
    """

    def label(structure: Structure) -> Label:
        context.stop.check()
        return farm.one(structure, purpose)

    def search() -> Structure:
        with context.progress.stage(purpose, total=None):
            return optimise(start, label, hessian).structure

    return farm.label_beside(beside, search)


def harmonic_analysis(context: Context, farm: LabelFarm, minimum: Structure, purpose: str = PURPOSE) -> Reference:
    """Hessian and dipole derivatives by central differences of labels, spread over the ranks."""
    geometries = [minimum, *displaced_geometries(minimum, STEP)]
    labels = farm.label(candidates(geometries, purpose))
    missing = [index for index, label in enumerate(labels) if label is None]
    if missing:
        raise RunStopped(
            f"{len(missing)} of the {len(labels)} geometries around the minimum could not be labelled; the harmonic "
            "analysis needs them all. Try labels.max_cycles or another functional"
        )
    good = [label for label in labels if label is not None]
    return Reference(minimum, modes_of(minimum, good), good[0].energy)


def write(context: Context, reference: Reference) -> None:
    """prepare.h5: the minimum and its harmonic spectrum."""
    modes = reference.modes
    write_h5(
        context.directory / FILE,
        {
            "numbers": (reference.structure.numbers, "atomic number", "atom"),
            "positions": (reference.structure.positions, "bohr", "atom,xyz"),
            "energy": (np.float64(reference.energy), "hartree", ""),
            "harmonic_wavenumbers_per_cm": (modes.wavenumbers, "cm-1", "mode"),
            "harmonic_intensities_km_per_mol": (modes.intensities, "km/mol", "mode"),
            "modes": (modes.modes, "mass-weighted, orthonormal", "mode,atom,xyz"),
        },
        {"format": "hpcir reference"},
    )


def check_minimum(context: Context, modes: NormalModes) -> None:
    """Warn when the optimised structure is not a minimum: its harmonic spectrum is then only a guide."""
    imaginary = modes.wavenumbers[modes.wavenumbers < -50]
    if len(imaginary):
        context.progress.log(
            "the optimised structure is a saddle point: imaginary modes at "
            + ", ".join(f"{-w:.0f}i" for w in imaginary)
            + " cm-1",
            warning=True,
        )

"""Stage prepare: the minimum, its normal modes and its harmonic infrared spectrum, from the label engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcir.errors import RunStopped
from hpcir.labels import Label
from hpcir.sampling.normal_modes import (
    NormalModes,
    dipole_derivatives_from_labels,
    displaced_geometries,
    hessian_from_labels,
    normal_modes,
)
from hpcir.sampling.optimise import optimise
from hpcir.stages.context import Context
from hpcir.stages.farm import LabelFarm, LabelStore
from hpcir.store import write_h5
from hpcir.structures import Structure

FILE = "prepare.h5"
# Displacement of the central differences, bohr: the error of the Hessian is below 0.2 cm-1 a mode either way.
STEP = 0.01
"""Purpose of the displaced geometries in the label store; they train too."""
PURPOSE = "normal modes"


@dataclass(frozen=True)
class Reference:
    """The minimum of one level of theory, with its harmonic analysis."""

    structure: Structure
    modes: NormalModes
    energy: float


def optimised(context: Context, farm: LabelFarm, start: Structure, purpose: str = "optimisation") -> Structure:
    """The minimum near `start`, found by rank 0 and told to all."""

    def label(structure: Structure) -> Label:
        context.stop.check()
        return farm.one(structure, purpose)

    minimum = None
    if context.root:
        with context.progress.stage(f"{purpose}", total=None):
            minimum = optimise(start, label).structure
    return context.comm.bcast(minimum)


def harmonic_analysis(context: Context, farm: LabelFarm, minimum: Structure, purpose: str = PURPOSE) -> Reference:
    """Hessian and dipole derivatives by central differences of labels, spread over the ranks."""
    geometries = [minimum, *displaced_geometries(minimum, STEP)]
    labels = farm.label(geometries, purpose)
    missing = [index for index, label in enumerate(labels) if label is None]
    if missing:
        raise RunStopped(
            f"{len(missing)} of the {len(labels)} geometries around the minimum could not be labelled; the harmonic "
            "analysis needs them all. Try labels.max_cycles or another functional"
        )
    good = [label for label in labels if label is not None]
    hessian = hessian_from_labels(good[1:], STEP)
    derivatives = dipole_derivatives_from_labels(good[1:], STEP)
    return Reference(minimum, normal_modes(minimum, hessian, derivatives), good[0].energy)


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
    """Say so when the optimised structure is no minimum: its harmonic spectrum is then only a guide."""
    imaginary = modes.wavenumbers[modes.wavenumbers < -50]
    if len(imaginary):
        context.progress.log(
            f"the optimised structure is a saddle point: imaginary modes at {', '.join(f'{-w:.0f}i' for w in imaginary)} cm-1",
            warning=True,
        )


LabelFunction = Callable[[Structure], Label]
__all__ = ["FILE", "PURPOSE", "LabelStore", "Reference", "check_minimum", "harmonic_analysis", "optimised", "write"]

"""Geometry optimisation with any function that labels a structure: BFGS of ASE from a model Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.errors import LabelFailed, RunStopped
from hpcir.labels.base import Label
from hpcir.molecules.internal_coordinates import model_hessian
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM
from hpcir.vibrations.normal_modes import rigid_motions

# Typical number of labels of an optimisation, from small molecules.
TYPICAL_LABELS = 15
LabelFunction = Callable[[Structure], Label]


@dataclass(frozen=True)
class Optimisation:
    """The minimum found, its label, and how many labels it took; largest_force in hartree/bohr."""

    structure: Structure
    label: Label
    labels: int
    largest_force: float


def optimise(
    structure: Structure,
    label_function: LabelFunction,
    hessian: FloatArray | None = None,
    force_tolerance: float = 5e-5,
    max_labels: int = 500,
    max_step: float = 0.3,
) -> Optimisation:
    """The stationary point downhill of a structure: every atom's force below force_tolerance (hartree/bohr).

    hessian (3N, 3N): what to begin with, in hartree/bohr^2, positive definite (default: a model of bonds, bends and
    torsions). max_step is the longest step of an atom in bohr. Where symmetry holds the start on a saddle point the
    result is the saddle: the caller sees imaginary modes. Errors: RunStopped when max_labels are spent, or a label
    fails.
    """
    from ase import Atoms
    from ase.optimize import BFGS

    calculator = _labelling_calculator(structure, label_function)
    atoms = Atoms(numbers=structure.numbers, positions=structure.positions / ANGSTROM, calculator=calculator)
    with BFGS(atoms, logfile=None, maxstep=max_step / ANGSTROM) as optimiser:
        # It knows stiff stretches from soft torsions, so the first steps already fit.
        first = model_hessian(structure) if hessian is None else hessian
        optimiser.H0 = first * ANGSTROM / EV_PER_ANGSTROM
        try:
            converged = optimiser.run(fmax=force_tolerance / EV_PER_ANGSTROM, steps=max_labels - 1)
        except LabelFailed as error:
            raise RunStopped(
                f"the optimisation of {structure.name} stopped at label {calculator.count}: {error}. Start from a "
                "better structure, or change the level of theory in labels"
            ) from error
    label = calculator.last
    inner = _without_rigid_motion(label.forces, atoms.positions)
    largest = float(np.sqrt((inner**2).sum(1).max()))
    if not converged:
        raise RunStopped(
            f"the optimisation of {structure.name} did not converge in {max_labels} labels: the largest force is "
            f"{largest:.2e} hartree/bohr, {force_tolerance:.0e} is required. Start from a better structure"
        )
    return Optimisation(structure.moved(atoms.positions * ANGSTROM), label, calculator.count, largest)


def _labelling_calculator(structure: Structure, label_function: LabelFunction) -> Any:
    """An ASE calculator (eV, angstrom) that calls the label function and keeps its last label."""
    from ase.calculators.calculator import Calculator, all_changes

    class LabellingCalculator(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012
        count = 0
        last: Label

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            moved: Any = self.atoms
            self.last = label_function(structure.moved(moved.positions * ANGSTROM))
            self.count += 1
            inner = _without_rigid_motion(self.last.forces, moved.positions)
            self.results = {"energy": self.last.energy / EV, "forces": inner / EV_PER_ANGSTROM}

    return LabellingCalculator()


def _without_rigid_motion(forces: FloatArray, positions: FloatArray) -> FloatArray:
    """Forces (N, 3) at positions (N, 3) in angstrom without the net force and torque that the integration grids of
    density functionals leave: with them the optimiser would push the molecule about without end."""
    rigid = rigid_motions(positions * ANGSTROM, np.ones(len(positions)))
    flat = forces.ravel()
    found: FloatArray = (flat - rigid.T @ (rigid @ flat)).reshape(forces.shape)
    return found

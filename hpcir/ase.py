"""hpcir's models as a calculator of ASE (Larsen et al., J. Phys.: Condens. Matter 29, 273002, 2017).

    from hpcir.ase import Calculator
    atoms.calc = Calculator("run/models")

Works in ASE's optimisers, vibrations (`ase.vibrations.Infrared` for the harmonic spectrum) and dynamics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator as _AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes

from hpcir.errors import InputError
from hpcir.exchange.potentials import as_potential
from hpcir.models.evaluation import Evaluation
from hpcir.models.potential import Potential
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM


class Calculator(_AseCalculator):
    """Energy, forces, dipole and charges of a trained model, in ASE's units.

    model: a hpcir.models.potential.Potential, such as a Model; or a model directory or file, or a folder with n2p2's
    input.nn (hartree, bohr).
    charge: the total charge in e (default: the charge that the model was trained with).

    results: energy and free_energy (eV), forces (N, 3) eV/A, and, where the model has charge networks for the
    elements at hand, dipole (3,) e*A and charges (N,) e. Spreads over the committee (standard deviations, in the
    same units and shapes): energy_spread, forces_spread, dipole_spread, charges_spread. The dipole is about the
    centre of nuclear charge: for a neutral molecule the origin does not matter; for an ion the derivative by
    the positions differs from that about the centre of mass (`dipole_about` shifts it), while rigid motion leaves
    this one unchanged but for the rotation.

    Raises InputError for an element the model does not know and for periodic cells, and ASE's
    PropertyNotImplementedError for a property that the model does not have: never a zero in its place.
    """

    implemented_properties = ["energy", "free_energy", "forces", "dipole", "charges"]  # noqa: RUF012 - as ASE has it

    def __init__(self, model: Potential | str | Path, charge: int | None = None, **keywords: Any) -> None:
        base: Any = super()
        base.__init__(**keywords)
        self.model = as_potential(model)
        self.charge = charge

    def __repr__(self) -> str:
        from hpcir.molecules.structures import symbols

        elements = ", ".join(symbols(np.array(self.model.elements)))
        charge = "" if self.charge is None else f", charge {self.charge:+d}"
        level = self.model.level
        return f"hpcir.ase.Calculator({elements}{f'; {level}' if level else ''}{charge})"

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = tuple(all_changes)
    ) -> None:
        """Fill `results` for `atoms` (ASE calls this)."""
        base: Any = super()
        base.calculate(atoms, properties, system_changes)
        current: Any = self.atoms
        if np.any(current.pbc):
            raise InputError(
                "hpcir's models are of molecules, not of periodic cells",
                where="atoms.pbc",
                value=current.pbc.tolist(),
                hint="set atoms.pbc = False",
            )
        self.model.require(current.numbers)
        found = self.model.evaluate(current.numbers, current.positions * ANGSTROM, self.charge)
        self.results = _results(found)
        missing = [name for name in properties if name not in self.results]
        if missing:
            raise PropertyNotImplementedError(
                f"this model does not give {', '.join(missing)}; it gives {', '.join(self.results)}"
                + (" (it has no charge networks for these elements)" if "dipole" in missing else "")
            )

    def dipole_about(self, origin: Any, atoms: Any = None) -> Any:
        """The dipole (3,) in e*A about another origin (3,) in A, for an ion: mu + Q (R0 - origin)."""
        atoms = self.atoms if atoms is None else atoms
        own: Any = self
        dipole = own.get_property("dipole", atoms)
        numbers = atoms.numbers.astype(float)
        nuclear = numbers @ atoms.positions / numbers.sum()
        total = float(np.sum(own.get_property("charges", atoms)))
        return dipole + total * (nuclear - np.asarray(origin, float))


def _results(found: Evaluation) -> dict[str, Any]:
    """ASE's dictionary of an evaluation; what is NaN, because the model does not have it, is left out."""
    results: dict[str, Any] = {
        "energy": found.energy / EV,
        "free_energy": found.energy / EV,
        "energy_spread": found.energy_spread / EV,
        "forces": found.forces / EV_PER_ANGSTROM,
        "forces_spread": found.forces_spread / EV_PER_ANGSTROM,
    }
    if np.all(np.isfinite(found.charges)):
        results |= {"charges": found.charges, "charges_spread": found.charges_spread}
    if np.all(np.isfinite(found.dipole)):
        results |= {"dipole": found.dipole / ANGSTROM, "dipole_spread": found.dipole_spread / ANGSTROM}
    return results

"""Label engine ASE: any calculator of the Atomic Simulation Environment, by its import path from the deck.

Larsen et al., J. Phys.: Condens. Matter 29, 273002, 2017 (ASE).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.deck.sections import LabelSettings
from hpcir.errors import InputError, LabelFailed
from hpcir.labels.base import Label
from hpcir.labels.checks import finished_label, nearest_names, nuclear_charge_centre
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM, EV, EV_PER_ANGSTROM

# The way (angstrom) that a molecule is moved to see whether its dipole moves, and how far (e) the charge that this
# tells may be off for the noise of grids; likewise unpaired electrons, which spin contamination changes little.
SHIFT = np.array([0.7, -0.5, 0.9])
CHARGE_TOLERANCE, SPIN_TOLERANCE = 0.2, 0.5
# Energies (eV) that differ by less are those of one state.
SAME_ENERGY = 1e-6
# Arguments under which calculators take the charge, 2S+1 and 2S.
_CHARGE = re.compile(r"(?:total_?|net_?|mol(?:ecular)?_?)?charge|q|total", re.IGNORECASE)
_MULTIPLICITY = re.compile(r"(?:spin_?)?mult(?:iplicity)?", re.IGNORECASE)
_UNPAIRED = re.compile(r"uhf|nopen|n?_?unpaired(?:_electrons)?", re.IGNORECASE)
_WHERE = "labels.calculator"
_FORM = "write 'package.module:Class', such as 'ase.calculators.emt:EMT'"


class AseEngine:
    """Labels by an ASE calculator, made anew for every label so that none depends on the one before.

    The calculator gets the deck's keyword arguments, and charge and multiplicity as initial charges and magnetic
    moments of the atoms (what ASE knows); calculators that read neither need them among the arguments. The dipole
    is what the calculator returns, in e angstrom; for an ion it must be about the origin of the coordinates, which
    is put at the centre of nuclear charge. Whether the calculator heard of the charge is asked once, by one more
    calculation of the first geometry, moved: the dipole of an ion about an origin at rest moves by the charge times
    the way. Of a multiplicity that is not the lowest, and of the charge where there is no dipole, another calculation
    without it must give another energy.
    """

    def __init__(self, settings: LabelSettings) -> None:
        self.settings = settings
        arguments = json.dumps(settings.arguments, sort_keys=True, default=str) if settings.arguments else ""
        self.level = f"{settings.calculator} {arguments}".strip() + " (ASE)"
        self._class: Any = None
        self._heard = False

    def check(self, structure: Structure) -> None:
        """InputError when the calculator cannot be imported, refuses its arguments, or knows no forces or dipole, or
        when the deck wants polar tensors."""
        if self.settings.polar_tensors:
            raise InputError(
                "calculators of ASE have no electric field for polar tensors",
                where="labels.polar_tensors",
                value=True,
                hint="set it to false, or take labels.engine: pyscf or tblite",
            )
        calculator = self._calculator()
        known = list(getattr(calculator, "implemented_properties", []))
        for name in ("energy", "forces", "dipole")[: 3 if self.settings.dipoles else 2]:
            if known and name not in known:
                below = "; the first of several levels may do without (dipoles: false)" if name == "dipole" else ""
                raise InputError(
                    f"this calculator returns no {name}",
                    where=_WHERE,
                    value=self.settings.calculator,
                    hint="an infrared spectrum needs energy, forces and dipole of every geometry; "
                    f"it knows: {', '.join(known)}{below}",
                )

    def label(self, structure: Structure, polar: bool = False) -> Label:
        """Label one geometry; LabelFailed when the calculator raises, or a property is missing or not finite, or polar
        tensors are requested."""
        if polar:
            raise LabelFailed(f"{structure.name}: calculators of ASE have no electric field for polar tensors")
        start = time.perf_counter()
        molecule = self._molecule(structure, np.zeros(3))
        try:
            energy = float(molecule.get_potential_energy()) * EV
            forces = np.asarray(molecule.get_forces(), float) * EV_PER_ANGSTROM
        except Exception as error:  # a calculator may raise anything
            raise LabelFailed(f"{structure.name}: {self._name()} failed: {type(error).__name__}: {error}") from error
        if not self.settings.dipoles:
            self._ask_once(structure, molecule, energy / EV, None)
            seconds = time.perf_counter() - start
            return finished_label(structure, energy, forces, np.full(3, np.nan), seconds, "default", dipoles=False)
        try:
            dipole = np.asarray(molecule.get_dipole_moment(), float) * ANGSTROM
        except Exception as error:
            raise LabelFailed(
                f"{structure.name}: {self._name()} returned no dipole ({type(error).__name__}: {error}); "
                "an infrared spectrum needs it"
            ) from error
        seconds = time.perf_counter() - start
        label = finished_label(structure, energy, forces, dipole, seconds, "default")
        self._ask_once(structure, molecule, energy / EV, dipole)
        return label

    def _molecule(self, structure: Structure, moved: FloatArray, arguments: Mapping[str, Any] | None = None) -> Any:
        """ASE Atoms with a new calculator, the centre of nuclear charge at `moved` (3,) in angstrom; arguments: other
        ones than the deck's."""
        from ase import Atoms

        count = len(structure)
        molecule: Any = Atoms(  # ASE has no types
            numbers=structure.numbers,
            positions=(structure.positions - nuclear_charge_centre(structure)) / ANGSTROM + moved,
            charges=np.full(count, structure.charge / count),
            magmoms=np.full(count, (structure.multiplicity - 1) / count),
        )
        molecule.calc = self._calculator(arguments)
        return molecule

    def _ask_once(self, structure: Structure, molecule: Any, energy: float, dipole: FloatArray | None) -> None:
        """Raise InputError when the calculator computed another charge or multiplicity than the deck's, as far as its
        answers tell; energy in eV, dipole (3,) in e bohr (None: it gives none)."""
        if self._heard:
            return
        lowest = 1 + int(structure.numbers.sum() - structure.charge) % 2
        if dipole is not None:
            self._ask_about_charge(structure, dipole)
        elif structure.charge:
            neutral = replace(structure, charge=0, multiplicity=1 + int(structure.numbers.sum()) % 2)
            self._ask_by_energy(structure, neutral, energy, f"total charge {structure.charge:+d}")
        self._ask_about_spin(structure, molecule)
        told = getattr(molecule.calc, "results", {}).get("magmom")
        if structure.multiplicity > lowest and told is None:
            other = replace(structure, multiplicity=lowest)
            self._ask_by_energy(structure, other, energy, f"multiplicity {structure.multiplicity}")
        self._heard = True

    def _ask_by_energy(self, structure: Structure, other: Structure, energy: float, what: str) -> None:
        """Raise InputError when another charge or multiplicity gives the same energy in eV, also by the arguments."""
        spoken = {
            name: changed
            for name, value in self.settings.arguments.items()
            for pattern, right, changed in _words_of(structure, other)
            if pattern.fullmatch(name) and value == right
        }
        try:
            found = float(
                self._molecule(other, np.zeros(3), {**self.settings.arguments, **spoken}).get_potential_energy()
            )
        except Exception:  # it cares
            return
        if abs(found - energy) < SAME_ENERGY:
            raise InputError(
                f"the calculator gives the same energy with and without the {what}: it has not heard of it",
                where="labels.arguments",
                value=dict(self.settings.arguments),
                hint="give it under the name that this calculator has for it; one that knows nothing of it is for "
                "neutral molecules in their lowest multiplicity",
            )

    def _ask_about_charge(self, structure: Structure, dipole: FloatArray) -> None:
        again = self._molecule(structure, SHIFT)
        try:
            other = np.asarray(again.get_dipole_moment(), float) * ANGSTROM
        except Exception as error:  # a calculator may raise anything
            raise LabelFailed(f"{structure.name}: {self._name()} failed: {type(error).__name__}: {error}") from error
        way = SHIFT * ANGSTROM
        found = round(float((other - dipole) @ way / (way @ way)), 2) + 0.0  # no minus before zero
        if abs(found - structure.charge) > CHARGE_TOLERANCE:
            raise InputError(
                f"the calculator's dipole moves as that of a molecule with charge {found:+.2f}, and "
                f"{structure.charge:+d} is declared",
                where="labels.arguments",
                value=dict(self.settings.arguments),
                hint="give the total charge under the name that this calculator has for it, such as labels.arguments: "
                f"{{charge: {structure.charge}}}; the dipole of an ion must be about the origin of the coordinates",
            )

    def _ask_about_spin(self, structure: Structure, molecule: Any) -> None:
        for name, value in self.settings.arguments.items():
            for pattern, right, _ in _words_of(structure, structure)[1:]:
                if pattern.fullmatch(name) and isinstance(value, int | float) and value != right:
                    raise InputError(
                        f"the calculator is given another multiplicity than the deck's, {structure.multiplicity}",
                        where=f"labels.arguments.{name}",
                        value=value,
                        hint="mend it, or system.multiplicity",
                    )
        moment = getattr(molecule.calc, "results", {}).get("magmom")
        if moment is not None and abs(abs(float(moment)) - (structure.multiplicity - 1)) > SPIN_TOLERANCE:
            raise InputError(
                f"the calculator's magnetic moment, {float(moment):.2f}, is not that of multiplicity "
                f"{structure.multiplicity}",
                where="labels.arguments",
                value=dict(self.settings.arguments),
                hint="give the multiplicity under the name that this calculator has for it",
            )

    def _name(self) -> str:
        return f"the ASE calculator {self.settings.calculator}"

    def _calculator(self, arguments: Mapping[str, Any] | None = None) -> Any:
        if self._class is None:
            self._class = _imported(self.settings.calculator)
        try:
            return self._class(**(self.settings.arguments if arguments is None else arguments))
        except Exception as error:
            raise InputError(
                f"the calculator refuses its arguments: {type(error).__name__}: {error}",
                where="labels.arguments",
                value=dict(self.settings.arguments),
            ) from error


def _words_of(structure: Structure, other: Structure) -> tuple[tuple[re.Pattern[str], int, int], ...]:
    """Names of the charge and of the multiplicity in arguments, with their values for two states of a molecule."""
    return (
        (_CHARGE, structure.charge, other.charge),
        (_MULTIPLICITY, structure.multiplicity, other.multiplicity),
        (_UNPAIRED, structure.multiplicity - 1, other.multiplicity - 1),
    )


def _imported(path: str) -> Any:
    """The class at 'module:Class'. Raises InputError saying which half is wrong."""
    module_name, _, class_name = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), class_name)):
        raise InputError("no import path of an ASE calculator", where=_WHERE, value=path, hint=_FORM)
    try:
        found = find_spec(module_name) is not None
        module = import_module(module_name) if found else None
    except Exception as error:
        raise InputError(
            f"the module of the calculator cannot be imported: {type(error).__name__}: {error}",
            where=_WHERE,
            value=path,
        ) from error
    if module is None:
        raise InputError(f"there is no module '{module_name}'", where=_WHERE, value=path, hint=_FORM)
    if not callable(getattr(module, class_name, None)):
        names = [name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")]
        raise InputError(
            f"the module '{module_name}' has no class '{class_name}'",
            where=_WHERE,
            value=path,
            hint=nearest_names(class_name, names, names[:12]),
        )
    return getattr(module, class_name)


def create(settings: LabelSettings, reference: Structure | None = None) -> AseEngine:
    """The engine of the deck; the reference is not needed."""
    return AseEngine(settings)

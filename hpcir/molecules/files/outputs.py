"""Outputs of Gaussian, ORCA and Turbomole: which program wrote one, its charge, multiplicity and isotopes, and the
geometries of those that ASE does not read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.molecules.files.inputs import BOHR
from hpcir.molecules.isotopes import MASSES, isotope_mass

SUFFIXES = (".out", ".log")
_HEAD = 200_000
# What the programs print of charge and multiplicity, the last of which counts.
_PRINTED = (
    re.compile(r"Charge\s*=\s*(-?\d+)\s+Multiplicity\s*=\s*(\d+)"),
    re.compile(r"Total Charge\s+Charge\s+\.+\s+(-?\d+)\s+Multiplicity\s+Mult\s+\.+\s+(\d+)"),
)
# Mass numbers of the isotopes that Gaussian takes where none is asked for.
_UNASKED = {"H": 1, "Li": 7, "B": 11, "C": 12, "N": 14, "O": 16, "F": 19, "Si": 28, "S": 32, "Cl": 35, "Br": 79}
_MASS_NUMBERS = re.compile(r"^\s*IAtWgt=((?:\s+\d+)+)\s*$", re.MULTILINE)
_ORCA_MASSES = re.compile(r"^\s*NO LB\s+ZA\s+FRAG\s+MASS\s+X\s+Y\s+Z\s*\n((?:\s+\d+ \S+ .*\n)+)", re.MULTILINE)
_TURBOMOLE_TABLE = re.compile(
    r"^ *atomic coordinates +atom +(?:shells +)?charge.*isotop *\n((?:(?: +-?\d+\.\d+){3} +[a-z]+ .*\n)+)",
    re.MULTILINE,
)
_TURBOMOLE_CHARGE = re.compile(r"^\s*charge\s*\n\s*-+\s*\n\s*\d+\.\d+\s+-\d+\.\d+\s+(-?\d+\.\d+)\s*$", re.MULTILINE)
# A mass that differs by more (amu) from the standard weight is an isotope's, and so near one of the table it is that.
_OTHER_MASS, _SAME_MASS = 0.15, 0.01


def is_output(path: Path) -> bool:
    """True for a file whose name is that of an output."""
    return path.suffix.lower() in SUFFIXES


def program_of(text: str) -> str | None:
    """'gaussian-out', 'orca-output' (ASE's names) or 'turbomole-output' of the text of an output; None of another."""
    head = text[:_HEAD]
    if "O   R   C   A" in head:
        return "orca-output"
    if "Gaussian, Inc" in head or "Entering Gaussian System" in head:
        return "gaussian-out"
    return "turbomole-output" if "TURBOMOLE" in head else None


def printed_state(text: str) -> dict[str, int]:
    """The charge and the multiplicity that an output prints."""
    for pattern in _PRINTED:
        found = pattern.findall(text)
        if found:
            return {"charge": int(found[-1][0]), "multiplicity": int(found[-1][1])}
    moments = _TURBOMOLE_CHARGE.findall(text)
    return {"charge": round(float(moments[-1]))} if moments else {}


def set_isotopes(frames: Sequence[Any], text: str, program: str | None) -> None:
    """Give ASE Atoms the masses of the isotopes that an output of Gaussian or ORCA was computed with."""
    for atoms in frames:
        masses = _gaussian_masses(text, atoms) if program == "gaussian-out" else _orca_masses(text, atoms)
        if not np.all(np.isnan(masses)):
            atoms.set_masses(np.where(np.isnan(masses), atoms.get_masses(), masses))


def _gaussian_masses(text: str, atoms: Any) -> Any:
    """(N,) masses of isotopes that are not the usual ones, else nan."""
    numbers = [int(word) for match in _MASS_NUMBERS.finditer(text) for word in match.group(1).split()]
    masses = np.full(len(atoms), np.nan)
    if len(numbers) >= len(atoms):
        for atom, symbol in enumerate(atoms.symbols):
            number = numbers[atom]
            if symbol in _UNASKED and number != _UNASKED[symbol]:
                masses[atom] = MASSES.get((symbol, number), float(number))
    return masses


def _orca_masses(text: str, atoms: Any) -> Any:
    masses = np.full(len(atoms), np.nan)
    tables = _ORCA_MASSES.findall(text)
    rows = [line.split() for line in tables[-1].split("\n") if line] if tables else []
    if len(rows) != len(atoms):
        return masses
    for atom, (symbol, usual, row) in enumerate(zip(atoms.symbols, atoms.get_masses(), rows, strict=True)):
        try:
            mass = float(row[4])
        except (ValueError, IndexError):
            continue
        if abs(mass - usual) > _OTHER_MASS:
            near = [own for (element, _), own in MASSES.items() if element == symbol and abs(own - mass) < _SAME_MASS]
            masses[atom] = near[0] if near else mass
    return masses


def turbomole_frames(path: Path, text: str) -> list[Any]:
    """Every geometry that an output of Turbomole prints, ASE Atoms in angstrom. Raises InputError."""
    from ase import Atoms

    frames = []
    for table in _TURBOMOLE_TABLE.findall(text):
        rows = [line.split() for line in table.split("\n") if line]
        names = [row[3].capitalize() for row in rows]
        try:
            atoms: Any = Atoms(names, np.array([[float(word) for word in row[:3]] for row in rows]) * BOHR)
        except (KeyError, ValueError):
            raise InputError(
                "an atom of the output is of no element", where=str(path), value=", ".join(names[:12])
            ) from None
        masses = atoms.get_masses()
        for atom, row in enumerate(rows):
            if row[-1].isdecimal() and int(row[-1]):
                masses[atom] = isotope_mass(names[atom], int(row[-1]), str(path))
        atoms.set_masses(masses)
        atoms.info |= printed_state(text)
        frames.append(atoms)
    if not frames:
        raise InputError(
            "the output of Turbomole prints no geometry", where=str(path), hint="its coordinates are in the file coord"
        )
    return frames

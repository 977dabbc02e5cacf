"""Inputs of ORCA, Gaussian and Turbomole, and PDB files, in the forms that people write: read, or made readable to
ASE."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.molecules.isotopes import isotope, isotope_mass
from hpcir.molecules.plain_xyz import read_plain_xyz, text_lines
from hpcir.units import is_number

# The word of `info` under which a reader says why a file leaves the total charge open.
UNSAID_CHARGE = "charge_left_open"
BOHR = 0.529177210544
_STARRED = re.compile(r"^\s*\*\s*(xyzfile|xyz|int|internal|gzmt|gzmtfile)\b", re.IGNORECASE)
_ORCA_MASS = re.compile(r"\bM\s*=\s*([\d.]+)", re.IGNORECASE)
_ORCA_FRAGMENT = re.compile(r"^(\s*[A-Za-z]{1,2})\(\d+\)")
# Charge and multiplicity of the whole, and of each fragment after it; a freeze code between element and coordinates.
_GAUSSIAN_STATE = re.compile(r"^\s*(-?\d+)[\s,]+(\d+)(?:(?:[\s,]+-?\d+[\s,]+\d+)*)\s*$")
_GAUSSIAN_ATOM = re.compile(
    r"^\s*([A-Za-z]{1,2}\d*(?:\([^)]*\))?|\d+)[\s,]+(?:(?:0|-\d)[\s,]+(?=\S+[\s,]+\S+[\s,]+\S+\s*$))?(\S.*)$"
)
_GAUSSIAN_VARIABLE = re.compile(r"^\s*([A-Za-z]\w*)[\s=,]+(-?\d*\.?\d+)\s*$")
_LINK = re.compile(r"^\s*--link1--", re.IGNORECASE)
_TURBOMOLE_STATE = re.compile(
    r"^\$eht\b.*?\bcharge=\s*(-?\d+)(?:.*?\bunpaired=\s*(\d+))?", re.MULTILINE | re.IGNORECASE
)
_PDB_CHARGE = re.compile(r"^(?:(\d)([+-])|([+-])(\d))$")


def is_orca_input(lines: list[str]) -> bool:
    """True for lines with a geometry of an ORCA input."""
    return any(_STARRED.match(line) or line.strip().lower() == "%coords" for line in lines)


def orca_input(path: Path, lines: list[str]) -> Any:
    """The geometry of an ORCA input, ASE Atoms in angstrom: '* xyz CHARGE MULTIPLICITY' with masses as M = 2.014, and
    '* xyzfile CHARGE MULTIPLICITY FILE'. Raises InputError for the other forms, ghosts, dummies and point charges."""
    start = next((n for n, line in enumerate(lines) if _STARRED.match(line)), -1)
    words = lines[start].replace("*", " * ", 1).split() if start >= 0 else ["", "%coords"]
    where = f"{path}:{start + 1}" if start >= 0 else str(path)
    if words[1].lower() not in ("xyz", "xyzfile"):
        raise InputError(
            "geometries of an ORCA input are read of '* xyz' and '* xyzfile'",
            where=where,
            value=words[1],
            hint="write it so, or give an xyz file",
        )
    try:
        charge, multiplicity = int(words[2]), int(words[3])
    except (ValueError, IndexError):
        raise InputError(
            "the geometry of the ORCA input cannot be read: charge and multiplicity", where=where, value=lines[start]
        ) from None
    if words[1].lower() == "xyzfile":
        atoms = _orca_file(path, words[4:], where)
    else:
        atoms = _orca_rows(path, lines, start)
    atoms.info |= {"charge": charge, "multiplicity": multiplicity}
    return atoms


def _orca_file(path: Path, words: list[str], where: str) -> Any:
    from ase import Atoms

    name = " ".join(words).strip("\"'")
    frames = read_plain_xyz(path.parent / name, first=True) if name else None
    if not frames:
        raise InputError("'* xyzfile' names no plain xyz file", where=where, value=name)
    return Atoms(numbers=frames[0].numbers, positions=frames[0].positions)


def _orca_rows(path: Path, lines: list[str], start: int) -> Any:
    from ase import Atoms
    from ase.data import atomic_numbers

    rows: list[list[str]] = []
    masses: list[float] = []
    at = start
    try:
        for line in lines[start + 1 :]:
            at += 1
            if line.strip().startswith("*") or line.strip().lower() == "end":
                break
            if line.strip():
                rows.append(_ORCA_FRAGMENT.sub(r"\1", line).split())
                mass = _ORCA_MASS.search(line)
                masses.append(float(mass.group(1)) if mass else np.nan)
                # Not as a formula, in which a long number would be so many atoms.
                _ = [float(word) for word in rows[-1][1:4]], atomic_numbers[rows[-1][0].capitalize()]
        places = np.array([[float(word) for word in row[1:4]] for row in rows], float).reshape(-1, 3)
        atoms: Any = Atoms([row[0].capitalize() for row in rows], places)
    except (ValueError, IndexError, KeyError):
        raise InputError(
            "the geometry of the ORCA input cannot be read: expected an element and three coordinates",
            where=f"{path}:{at + 1}",
            value=lines[at].strip()[:60],
            hint="leave out ghost and dummy atoms and point charges",
        ) from None
    if any(re.match(r"^\s*!.*\bbohrs?\b", line, re.IGNORECASE) for line in lines):
        atoms.positions *= BOHR
    if not np.all(np.isnan(masses)):
        atoms.set_masses(np.where(np.isnan(masses), atoms.get_masses(), masses))
    return atoms


def gaussian_text(path: Path) -> tuple[str, float]:
    """The first step of a Gaussian input as ASE reads it: '0 1' for '0,1', no states of fragments, no freeze codes, no
    whole numbers as coordinates, variables written out; and the unit of its coordinates in angstrom."""
    lines = text_lines(path)
    lines = lines[: next((n for n, line in enumerate(lines) if n and _LINK.match(line)), len(lines))]
    route = " ".join(line for line in lines if line.lstrip().startswith("#")).lower()
    in_bohr = re.search(r"units?\s*[=(]\s*\(?[^)\s]*\b(?:au|bohr)\b", route) is not None
    start = next((n for n, line in enumerate(lines) if n > 2 and _GAUSSIAN_STATE.match(line)), None)
    if start is None:
        return "\n".join(lines), BOHR if in_bohr else 1.0
    end = next((n for n in range(start, len(lines)) if not lines[n].strip()), len(lines))
    variables = {m.group(1): m.group(2) for m in map(_GAUSSIAN_VARIABLE.match, lines[end:]) if m}
    atoms = [_gaussian_atom(line, variables) for line in lines[start + 1 : end]]
    state = _GAUSSIAN_STATE.sub(r"\1 \2", lines[start])
    return "\n".join([*lines[:start], state, *atoms, "", ""]), BOHR if in_bohr else 1.0


def _gaussian_atom(line: str, variables: dict[str, str]) -> str:
    """A line of a Gaussian geometry: no freeze code, coordinates with decimal points, values in the place of names."""
    match = _GAUSSIAN_ATOM.match(line)
    if match is None:
        return line
    words = re.split(r"[\s,]+", match.group(2).strip())
    words = [
        f"{'-' if word[0] == '-' else ''}{variables[word.lstrip('-')]}" if word.lstrip("-") in variables else word
        for word in words
    ]
    if len(words) == 3 and all(is_number(word) for word in words):
        words = [f"{word}.0" if re.fullmatch(r"[+-]?\d+", word) else word for word in words]
    return " ".join([match.group(1), *words])


def coord_text(path: Path) -> str:
    """Turbomole's coordinates in bohr, as ASE reads them. Raises InputError for fractional ones, isotopes by symbol and
    dummy atoms."""
    out, within, scale = [], False, 1.0
    for number, line in enumerate(text_lines(path), 1):
        words = line.split()
        if not words:
            continue
        if line.startswith("$"):
            within = words[0].lower() == "$coord"
            options = [word.lower() for word in words[1:]] if within else []
            if "frac" in options:
                raise InputError(
                    "fractional coordinates are of a crystal", where=f"{path}:{number}", value=line.strip()
                )
            scale = 1 / BOHR if any(word.startswith("angs") for word in options) else 1.0
            out.append("$coord" if within else line)
            continue
        if within and len(words) >= 4:
            symbol = words[3].capitalize()
            if symbol in ("Q", "X") or isotope(symbol) is not None:
                raise InputError(
                    "no element, and an isotope of Turbomole's has its mass in another file",
                    where=f"{path}:{number}",
                    value=words[3],
                    hint="write the element, and the mass as system.isotopes; leave out dummy atoms",
                )
            if scale != 1.0:
                words[:3] = [f"{_fortran(word, f'{path}:{number}') * scale:.10f}" for word in words[:3]]
            line = " ".join(words)
        out.append(line)
    return "\n".join(out)


def coord_state(text: str) -> dict[str, int]:
    """The charge and the multiplicity that a line $eht of Turbomole's coordinates has."""
    found = _TURBOMOLE_STATE.search(text)
    if found is None:
        return {}
    return {"charge": int(found.group(1)), "multiplicity": int(found.group(2) or 0) + 1}


def _fortran(word: str, where: str) -> float:
    """A number that may have D for its exponent. Raises InputError."""
    try:
        return float(word.replace("D", "e").replace("d", "e"))
    except ValueError:
        raise InputError("a coordinate is no number", where=where, value=word[:40]) from None


def pdb_text(path: Path) -> tuple[str, int | None, dict[int, float]]:
    """A PDB file with an element in every atom's columns 77 and 78; the total of the formal charges in 79 and 80 (None:
    no atom has one); and the masses (amu) of atoms, counted from 0, whose element is an isotope's symbol (D). Raises
    InputError for atoms in alternative places and for names that two elements fit."""
    out, charges = [], []
    masses: dict[int, float] = {}
    atom = -1
    for number, line in enumerate(text_lines(path), 1):
        if not line.startswith(("ATOM", "HETATM")):
            out.append(line)
            continue
        atom += 1
        heavy = isotope(line[76:78].strip())
        if heavy is not None:
            masses[atom] = isotope_mass(*heavy, f"{path}:{number}")
            line = f"{line[:76]}{heavy[0]:>2s}{line[78:]}"
        if line[16:17].strip():
            raise InputError(
                "the file has atoms in alternative places",
                where=f"{path}:{number}",
                value=line.rstrip(),
                hint="keep one of each",
            )
        charge = _PDB_CHARGE.match(line[78:80].strip())
        if charge:
            sign, size = charge.group(2) or charge.group(3), charge.group(1) or charge.group(4)
            charges.append(int(f"{sign}{size}"))
        if not line[76:78].strip():
            line = f"{line[:76]:76s}{_pdb_element(line, f'{path}:{number}'):>2s}"
        out.append(line)
    return "\n".join(out), sum(charges) if charges else None, masses


def _pdb_element(line: str, where: str) -> str:
    """The element of an atom by its name: one letter begins in column 14, two letters in 13, and four characters with H
    are a hydrogen's. Raises InputError for a name in column 13 that two elements fit, such as CA."""
    from ase.data import atomic_numbers

    field, residue = f"{line[12:16]:4s}", line[17:20].strip().upper()
    name = field.strip().lstrip("0123456789")
    one, two = name[:1].upper(), name[:2].capitalize()
    if residue == name.rstrip("0123456789").upper() and two in atomic_numbers:
        return two
    first_column = field[:1].isalpha()
    fits = [symbol for symbol in (one, two) if symbol in atomic_numbers and symbol != "X"]
    if not first_column or (len(field.strip()) == 4 and one == "H"):
        fits = [symbol for symbol in fits if symbol == one]
    if len(set(fits)) != 1:
        raise InputError(
            "the element of the atom is not said, and its name fits "
            + (" and ".join(dict.fromkeys(fits)) if fits else "none"),
            where=where,
            value=field.strip(),
            hint="write elements in columns 77 and 78",
        )
    return fits[0]

"""Molecular structures: atomic numbers, positions, charge, spin; bonds; superposition; (ext)xyz at the edge."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.arrays import FloatArray, IntArray
from hpcir.errors import InputError
from hpcir.molecules.files.inputs import UNSAID_CHARGE
from hpcir.molecules.files.outputs import is_output
from hpcir.molecules.isotopes import LAST_ELEMENT, check_mass, check_numbers, isotope_symbol
from hpcir.molecules.plain_xyz import PlainFrame, extended_lines, read_plain_xyz
from hpcir.units import AMU, ANGSTROM

# Largest distances of overlapping and of bonded atoms as fractions of the sum of their covalent radii.
OVERLAP_FRACTION = 0.5
BOND_FRACTION = 1.3


@dataclass(frozen=True)
class Structure:
    """One molecule.

    numbers (N,) atomic numbers; positions (N, 3) in bohr; charge in e; multiplicity 2S+1; name for reports;
    nuclear_masses (N,) in electron masses, where the file names isotopes (None: standard atomic weights).
    """

    numbers: IntArray
    positions: FloatArray
    charge: int = 0
    multiplicity: int = 1
    name: str = "molecule"
    source: str = field(default="", compare=False)
    nuclear_masses: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        return symbols(self.numbers)

    @property
    def masses(self) -> FloatArray:
        """(N,) in electron masses: those of the isotopes that the file names, standard atomic weights of all others."""
        return standard_masses(self.numbers) if self.nuclear_masses is None else self.nuclear_masses

    def moved(self, positions: FloatArray) -> Structure:
        """The same molecule with other positions (N, 3) in bohr."""
        return replace(self, positions=np.asarray(positions, float))


def symbols(numbers: IntArray) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in numbers]


def standard_masses(numbers: IntArray) -> FloatArray:
    """(N,) IUPAC standard atomic weights in electron masses (through ASE)."""
    from ase.data import atomic_masses

    return np.asarray(atomic_masses, float)[np.asarray(numbers)] * AMU


# Words under which files keep the total charge; the first is hpcir's own.
CHARGE_WORDS = ("charge", "total_charge", "totalcharge", "net_charge", "molecular_charge", "mol_charge", "Charge", "q")
SPIN_WORDS = ("multiplicity", "Multiplicity", "mult", "spin_multiplicity")
# Words that mean 2S+1, 2S or S, by the program.
_UNSURE_SPIN_WORDS = ("spin", "total_spin", "uhf", "unpaired", "nopen")
# Bohr: a millimetre, far from any origin that a program takes.
LARGEST_COORDINATE = 1e7 * ANGSTROM
# A comment line of charge and multiplicity alone, as "-1 1", and "+1 2 H2O" with a sign (QCElemental's xyz+).
_CHARGE_AND_SPIN = re.compile(r"\s*(?=[+-]|[0-9]\s+[1-9]\s*$)([+-]?[0-9])\s+([1-9])(?:\s+[A-Z]\w*)?\s*$")
# Sums of atomic charges and magnetic moments that are so near a whole number mean it.
WHOLE_SUM = 0.02
_XYZ_HINT = "an xyz file has the atom count, a comment, then 'Symbol x y z' in angstrom on each line"
# An integer under a name in a comment line: charge=1, charge: -1, total_charge="1", charge 1.
_NAMED_INTEGER = r'(?:^|[\s,;(]){}\s*{}\s*"?([+-]?\d+)(?:\.0*)?"?(?=$|[\s,;)])'


def read_frames(path: str | Path) -> list[Any]:
    """Every frame of a structure file as ASE Atoms: xyz in its dialects, and the formats of `molecules.formats`.

    Isotopes are masses of the atoms; what a file says of charge and multiplicity is in `info`. Raises InputError.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("the structure file does not exist", where=str(path), hint="check the path")
    if path.suffix.lower() in (".xyz", ".extxyz"):
        plain = read_plain_xyz(path)
        frames = _extended(path) if plain is None else [_atoms(frame) for frame in plain]
    else:
        from hpcir.molecules.formats import foreign_frames

        frames = foreign_frames(path)
    if not frames or any(len(frame) == 0 for frame in frames):
        raise InputError("the structure file holds no frame, or one without atoms", where=str(path))
    for frame in frames:
        take_sums(frame)
    return frames


def take_sums(atoms: Any) -> None:
    """Put the sums of ASE Atoms' initial charges and magnetic moments into `info` as total charge and multiplicity,
    where nothing there says them: what a calculator of ASE is given of both. No sum but a whole number counts, and no
    zero."""
    for column, words in (("initial_charges", CHARGE_WORDS), ("initial_magmoms", SPIN_WORDS)):
        if column not in atoms.arrays or any(word in atoms.info for word in words):
            continue
        values = np.asarray(atoms.arrays[column], float)
        total = float(values.sum()) if values.ndim == 1 and np.all(np.isfinite(values)) else 0.0
        whole = round(total) if abs(total) < len(atoms) * LAST_ELEMENT else 0
        if whole and abs(total - whole) < WHOLE_SUM:
            atoms.info[words[0]] = whole if column == "initial_charges" else abs(whole) + 1


def _extended(path: Path) -> list[Any]:
    from ase.io import read

    text, masses = extended_lines(path)
    try:
        # Not ASE's parallel way: it broadcasts over all ranks, and here rank 0 often reads alone.
        frames: Any = read(io.StringIO(text), index=":", format="extxyz", parallel=False)
    except Exception as error:  # ASE raises whatever its many readers raise
        raise InputError(
            f"the structure cannot be read: {type(error).__name__}: {error}",
            where=str(path),
            hint=_XYZ_HINT,
        ) from error
    for atoms in frames:
        check_numbers(atoms.numbers, str(path))
    for number, own in masses.items():
        if number >= len(frames) or max(own) >= len(frames[number]):
            raise InputError(
                "a frame has lines of atoms without positions", where=str(path), value=f"frame {number + 1}"
            )
        new = frames[number].get_masses()
        new[list(own)] = list(own.values())
        frames[number].set_masses(new)
    return list(frames)


def _atoms(frame: PlainFrame) -> Any:
    """A plain frame as ASE Atoms, the words of its comment line in `info`."""
    from ase import Atoms

    atoms: Any = Atoms(numbers=frame.numbers, positions=frame.positions)
    atoms.info = _words_of_comment(frame.comment)
    for word in CHARGE_WORDS + SPIN_WORDS:
        between = "[=:]?" if word in (CHARGE_WORDS[0], SPIN_WORDS[0]) else "[=:]"
        match = re.search(_NAMED_INTEGER.format(word, between), frame.comment)
        if match:
            atoms.info[word] = int(match.group(1))
    bare = _CHARGE_AND_SPIN.match(frame.comment)
    if bare is not None and not atoms.info.keys() & {*CHARGE_WORDS, *SPIN_WORDS}:
        charge, multiplicity = map(int, bare.groups())
        if (int(frame.numbers.sum()) - charge + multiplicity) % 2:
            atoms.info |= {"charge": charge, "multiplicity": multiplicity}
    if frame.masses is not None:
        atoms.set_masses(np.where(np.isnan(frame.masses), atoms.get_masses(), frame.masses))
    return atoms


def _words_of_comment(comment: str) -> dict[str, Any]:
    """KEY=VALUE pairs of a comment line as ASE reads them, True for words without a value; {} where it cannot."""
    if "=" not in comment:  # prose: importing ASE's readers for it takes half a second
        return dict.fromkeys(comment.split(), True)
    from ase.io.extxyz import key_val_str_to_dict

    try:
        return dict(key_val_str_to_dict(comment))
    except Exception:  # prose that looks like anything
        return {}


def stated(info: Mapping[str, Any], words: Sequence[str], where: str) -> int | None:
    """The whole number that a frame's `info` has under one of several names; None when it has none.

    Raises InputError for a number that is not whole.
    """
    for word in words:
        if word in info and info[word] is not True:  # True: a word of prose without a value
            try:
                number = float(str(info[word]))
            except ValueError:
                number = 0.5
            if number != round(number):
                raise InputError(f"the {word} is not a whole number", where=where, value=str(info[word]))
            return round(number)
    return None


def isotopes_of(atoms: Any) -> FloatArray | None:
    """(N,) masses in electron masses of ASE Atoms that have some of their own; None without any.

    Raises InputError for an invalid mass.
    """
    if not atoms.has("masses"):
        return None
    masses = np.asarray(atoms.get_masses(), float)
    for atom, (symbol, mass) in enumerate(zip(atoms.symbols, masses, strict=True), 1):
        check_mass(symbol, float(mass), f"mass of atom {atom}")
    # Weights that another program rounds are no isotopes.
    return None if np.all(np.abs(masses * AMU - standard_masses(atoms.numbers)) < 0.15 * AMU) else masses * AMU


def read_structure(
    path: str | Path,
    charge: int | None = None,
    multiplicity: int | None = None,
    name: str | None = None,
    spin_where: str = "",
) -> Structure:
    """The first frame of a structure file, or the last of a program's output (where an optimisation ends), checked:
    known elements, finite positions, no overlapping atoms, a spin that the electrons allow (`spin_where`: the place
    that an error about it names, when that is not the file).

    charge, multiplicity: None for what the file says (else 0 and 1). Raises InputError, too, for a charge or a
    multiplicity that is not the one which the file states, and for a periodic cell.
    """
    plain = read_plain_xyz(path, first=True)
    atoms = _atoms(plain[0]) if plain else read_frames(path)[-1 if is_output(Path(path)) else 0]
    if np.any(atoms.pbc):
        raise InputError("the geometry is a periodic cell; hpcir works on molecules", where=str(path))
    said = stated(atoms.info, CHARGE_WORDS, str(path))
    if charge is None and said is None and UNSAID_CHARGE in atoms.info:
        raise InputError(
            "the file does not say the total charge of what looks like an ion",
            where=str(path),
            value=str(atoms.info[UNSAID_CHARGE]),
            hint="give it: --charge, or system.charge",
        )
    if charge is not None and said is not None and said != charge:
        raise InputError(
            f"the structure file states the total charge {said:+d}, and {charge:+d} is declared",
            where=spin_where or str(path),
            value=f"{path}: charge {said}",
            hint=f"give system.charge: {said} (--charge {said}), or mend the file",
        )
    spin = _spin_of(atoms.info, multiplicity, str(path), spin_where)
    total = charge if charge is not None else said or 0
    structure = structure_of(atoms, total, spin, name or Path(path).stem, str(path))
    check_spin(structure, spin_where)
    return structure


def structure_of(atoms: Any, charge: int, multiplicity: int, name: str, source: str) -> Structure:
    """The structure of ASE Atoms. Raises InputError as `check_geometry`."""
    structure = Structure(
        numbers=np.asarray(atoms.numbers, np.int64),
        positions=np.asarray(atoms.positions, float) * ANGSTROM,
        charge=charge,
        multiplicity=multiplicity,
        name=name,
        source=source,
        nuclear_masses=isotopes_of(atoms),
    )
    check_geometry(structure)
    return structure


def _spin_of(info: Mapping[str, Any], declared: int | None, path: str, where: str) -> int:
    """The multiplicity that is declared, or that a frame's `info` states, else 1. Raises InputError where they differ,
    and where the file has a spin, under a name of several meanings, that is neither."""
    said = stated(info, SPIN_WORDS, path)
    if declared is not None and said is not None and said != declared:
        raise InputError(
            f"the structure file states the multiplicity {said}, and {declared} is declared",
            where=where or path,
            value=f"{path}: multiplicity {said}",
            hint=f"give system.multiplicity: {said} (--multiplicity {said}), or mend the file",
        )
    spin = declared or said or 1
    unsure = stated(info, _UNSURE_SPIN_WORDS, path)
    if said is None and unsure is not None and spin not in (unsure, unsure + 1, 2 * unsure + 1):
        name = next(word for word in _UNSURE_SPIN_WORDS if word in info)
        raise InputError(
            f"the structure file has a spin under '{name}', which fits no multiplicity of {spin}",
            where=path,
            value=f"{name}={unsure}",
            hint="write multiplicity=2S+1 into its comment line, or give system.multiplicity (--multiplicity)",
        )
    return spin


def check_structure(structure: Structure) -> None:
    """Raise InputError for unknown elements, non-finite positions, overlaps, or a spin the electrons forbid."""
    check_geometry(structure)
    check_spin(structure)


def check_geometry(structure: Structure) -> None:
    """Raise InputError for unknown elements, positions that are not finite or a millimetre away, overlapping atoms."""
    where = structure.source
    if np.any(structure.numbers < 1):
        atom = int(np.argmax(structure.numbers < 1)) + 1
        raise InputError(f"atom {atom} is of no known element", where=where, value="X")
    if not np.all(np.isfinite(structure.positions)):
        raise InputError("a coordinate is not a finite number", where=where)
    if np.abs(structure.positions).max() > LARGEST_COORDINATE:
        largest = f"{np.abs(structure.positions).max() / ANGSTROM:.3g} A"
        raise InputError("a coordinate that no molecule has", where=where, value=largest, hint="give angstrom")
    for i, j, distance, ratio in close_pairs(structure):
        names = structure.symbols
        if ratio < OVERLAP_FRACTION:
            raise InputError(
                f"atoms {i + 1} ({names[i]}) and {j + 1} ({names[j]}) overlap",
                where=where,
                value=f"{distance / ANGSTROM:.3f} A apart",
                hint="check the coordinates and that they are in angstrom",
            )


def check_spin(structure: Structure, where: str = "") -> None:
    """Raise InputError for a multiplicity that the number of electrons forbids."""
    electrons = int(structure.numbers.sum()) - structure.charge
    unpaired = structure.multiplicity - 1
    if electrons < 1:
        raise InputError(
            "no electrons are left at this charge",
            where=where or structure.source,
            value=structure.charge,
            hint="check the charge: --charge, or system.charge",
        )
    if unpaired > electrons or (electrons - unpaired) % 2:
        odd = electrons % 2
        raise InputError(
            f"{electrons} electrons cannot have multiplicity {structure.multiplicity}",
            where=where or structure.source,
            value=f"charge {structure.charge}, multiplicity {structure.multiplicity}",
            hint=f"an {'odd' if odd else 'even'} number of electrons needs an "
            f"{'even' if odd else 'odd'} multiplicity; check system.charge and system.multiplicity",
        )


def check_vibrates(structure: Structure) -> None:
    """Raise InputError for a single atom, which has no vibrations and so no infrared spectrum."""
    if len(structure) < 2:
        raise InputError(
            "a single atom has no vibrations, so no infrared spectrum",
            where=structure.source or "system.structure",
            value=" ".join(structure.symbols),
            hint="give a molecule",
        )


def close_pairs(structure: Structure) -> list[tuple[int, int, float, float]]:
    """Pairs (i, j, distance, distance / sum of covalent radii) that are within bonding distance or nearer."""
    from ase.data import covalent_radii

    radii = np.asarray(covalent_radii)[structure.numbers] * ANGSTROM
    delta = structure.positions[:, None] - structure.positions[None]
    distance = np.sqrt((delta**2).sum(-1))
    ratio = distance / (radii[:, None] + radii[None])
    rows, columns = np.nonzero(np.triu(ratio < BOND_FRACTION, 1))
    return [(int(i), int(j), float(distance[i, j]), float(ratio[i, j])) for i, j in zip(rows, columns, strict=True)]


def xyz_text(structure: Structure) -> str:
    """The structure as an xyz file, angstrom."""
    comment = structure.name
    if structure.charge or structure.multiplicity != 1:
        comment += f" charge={structure.charge} multiplicity={structure.multiplicity}"
    lines = [str(len(structure)), comment]
    for symbol, position in zip(_written_symbols(structure), structure.positions / ANGSTROM, strict=True):
        lines.append(f"{symbol:2s} " + " ".join(f"{x:16.10f}" for x in position))
    return "\n".join(lines) + "\n"


def _written_symbols(structure: Structure) -> list[str]:
    """Symbols of the elements, or of the isotopes where the structure has masses of its own."""
    if structure.nuclear_masses is None:
        return structure.symbols
    pairs = zip(structure.symbols, structure.nuclear_masses / AMU, strict=True)
    return [isotope_symbol(element, mass) or element for element, mass in pairs]


def bonds(structure: Structure) -> list[tuple[int, int]]:
    """Bonded pairs (i < j) by covalent radii (Alvarez via ASE), distance below 1.3 times their sum."""
    return [(i, j) for i, j, _, _ in close_pairs(structure)]


def centre(positions: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted centre (3,) of positions (N, 3): of mass, or of nuclear charge when weights are the numbers."""
    return np.asarray(weights @ positions / weights.sum(), float)


def superimpose(
    positions: FloatArray, reference: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rotate positions (N, 3) onto a reference (N, 3), weighted least squares (Kabsch, Acta Cryst. A32, 922, 1976).

    Returns the superimposed positions (N, 3), the rotation (3, 3) with superimposed = (positions - centre) @
    rotation.T + reference centre, and the centre (3,). A vector v of the original frame is v @ rotation.T in
    the new one, and v @ rotation brings it back.
    """
    own, other = centre(positions, weights), centre(reference, weights)
    covariance = ((positions - own) * weights[:, None]).T @ (reference - other)
    u, _, vt = np.linalg.svd(covariance)
    handed = np.sign(np.linalg.det(vt.T @ u.T))
    rotation = vt.T @ np.diag([1.0, 1.0, handed]) @ u.T
    return (positions - own) @ rotation.T + other, rotation, own

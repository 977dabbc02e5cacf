"""Structure files of other programs: ASE and RDKit read them, charge and multiplicity are taken along.

Every reader gives ASE Atoms in angstrom; `info` has the total charge and the multiplicity that the file states, the
masses are those of its isotopes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.molecules.files.inputs import (
    UNSAID_CHARGE,
    coord_state,
    coord_text,
    gaussian_text,
    is_orca_input,
    orca_input,
    pdb_text,
)
from hpcir.molecules.files.outputs import is_output, printed_state, program_of, set_isotopes, turbomole_frames
from hpcir.molecules.isotopes import check_numbers, isotope_mass
from hpcir.molecules.plain_xyz import text_lines
from hpcir.storage.files import decoded

_RDKIT_SUFFIXES = (".mol", ".sdf", ".mol2")
# Edges of a cell (angstrom) and atoms in it that a molecular crystal may have.
MIN_EDGE, MAX_EDGE, MAX_CRYSTAL_ATOMS = 2.0, 300.0, 20_000
_DUMP_HEAD = 4000
# An occupancy below it is of an atom that is not always there.
WHOLE = 0.999
# Types of SYBYL that atoms of ions have: carboxylates and phosphates, ammonium, guanidinium.
_ION_TYPES = re.compile(r"(?<=\s)(?:O\.co2|N\.4|C\.cat)(?=\s)")
# Codes of radicals of both kinds of mol files: 1 a singlet, 2 a doublet, 3 a triplet.
_RADICALS = re.compile(r"^M  RAD\s*\d{1,2}((?:\s+\d{1,3}\s+[123](?!\d))+)\s*$", re.MULTILINE)
_RADICALS_V3000 = re.compile(r"\sRAD=([123])(?!\d)")
_FLAT_HINT = "give three-dimensional coordinates with all hydrogens, or start from the molecule's SMILES: init --smiles"


def foreign_frames(path: Path) -> list[Any]:
    """Every frame of a structure file that is no xyz file. Raises InputError."""
    suffix = path.suffix.lower()
    if suffix in _RDKIT_SUFFIXES:
        return _by_rdkit(path, suffix)
    if suffix == ".inp" or (suffix in (".txt", "") and path.name != "coord"):
        lines = text_lines(path)
        if is_orca_input(lines):
            return [orca_input(path, lines)]
    special: dict[str, Callable[[Path], list[Any]]] = {".pdb": _pdb, ".ent": _pdb, ".cif": _cif}
    if suffix in special:
        return special[suffix](path)
    return _by_ase(path)


def _ase_frames(path: Path, form: str | None = None, text: str | None = None, **options: Any) -> list[Any]:
    """Frames as ASE reads them, of the file or of a text that stands for it."""
    from ase.io import read

    try:
        # Not ASE's parallel way: it broadcasts over all ranks, and here rank 0 often reads alone.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = str(path) if text is None else io.StringIO(text)
            frames = list(read(source, index=":", format=form, parallel=False, **options))
    except Exception as error:  # ASE raises whatever its many readers raise
        raise InputError(
            f"the structure cannot be read: {type(error).__name__}: {error}",
            where=str(path),
            hint="read are xyz, mol, sdf, mol2, pdb, cif, inputs and outputs of Gaussian, ORCA and Turbomole, and what "
            "else ASE reads",
        ) from error
    for atoms in frames:
        check_numbers(atoms.numbers, str(path))
    return frames


def _by_ase(path: Path) -> list[Any]:
    if is_output(path):
        return _output(path)
    gaussian = "gaussian-in" if path.suffix.lower() in (".gjf", ".com") else None
    coord = "turbomole" if path.name == "coord" or path.suffix.lower() == ".coord" else None
    options = {"attach_calculator": True} if gaussian else {}
    text, unit = None, 1.0
    if gaussian:
        text, unit = gaussian_text(path)
    elif coord:
        text = coord_text(path)
    elif _is_dump(path):
        raise InputError(
            "a dump of LAMMPS without a column of elements: its types are numbers, and not those of elements",
            where=str(path),
            hint="write it with dump_modify element, and the columns element x y z",
        )
    frames = _ase_frames(path, gaussian or coord, text, **options)
    for atoms in frames:
        atoms.positions *= unit
        if coord and text is not None:
            atoms.info |= coord_state(text)
        if gaussian:
            try:
                _of_gaussian_input(path, atoms)
            except (ValueError, TypeError) as error:
                raise InputError(f"the Gaussian input cannot be read: {error}", where=str(path)) from None
    return frames


def _is_dump(path: Path) -> bool:
    """True for a dump file of LAMMPS whose atoms are of types alone."""
    with path.open("rb") as file:
        head = file.read(_DUMP_HEAD)
    columns = re.search(rb"^ITEM: ATOMS\b(.*)$", head, re.MULTILINE) if head.startswith(b"ITEM:") else None
    return columns is not None and b"element" not in columns.group(1).split()


def _output(path: Path) -> list[Any]:
    """Every geometry of a program's output, with the charge, multiplicity and isotopes that it was computed with."""
    text = decoded(path.read_bytes())
    program = program_of(text)
    if program == "turbomole-output":
        return turbomole_frames(path, text)
    frames = _ase_frames(path, program, text if program else None)
    if program is not None:
        set_isotopes(frames, text, program)
    for atoms in frames:
        atoms.info |= printed_state(text)
    return frames


def _of_gaussian_input(path: Path, atoms: Any) -> None:
    """Charge, multiplicity and isotopes of a Gaussian input, which ASE keeps with the calculator's parameters."""
    said = dict(getattr(atoms.calc, "parameters", None) or {})
    for name, word in (("charge", "charge"), ("mult", "multiplicity")):
        if said.get(name) is not None:
            atoms.info[word] = int(said[name])
    isotopes = said.get("isolist") or []
    if any(mass is not None for mass in isotopes):
        masses = atoms.get_masses()
        for atom, (symbol, mass) in enumerate(zip(atoms.symbols, isotopes, strict=True)):
            if mass is not None:
                whole = float(mass) == round(float(mass))
                masses[atom] = isotope_mass(symbol, round(float(mass)), str(path)) if whole else float(mass)
        atoms.set_masses(masses)


def _by_rdkit(path: Path, suffix: str) -> list[Any]:
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise InputError(
            "reading this format needs the package rdkit", where=str(path), hint="pip install 'hpcir[fragments]'"
        ) from error
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    text = "\n".join(text_lines(path))
    if suffix == ".mol2":
        blocks = ["@<TRIPOS>MOLECULE" + part for part in text.split("@<TRIPOS>MOLECULE")[1:]]
        found = [Chem.MolFromMol2Block(block, sanitize=False, removeHs=False) for block in blocks]
    else:
        # What ends a molecule is a whole line; the next one's title may be an empty one.
        blocks = [part.partition("\n")[2] for part in ("\n" + text).split("\n$$$$")]
        found = [
            Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
            or Chem.MolFromMolBlock(block.lstrip("\n"), sanitize=False, removeHs=False)
            for block in blocks
            if block.strip()
        ]
    if not found or any(one is None or one.GetNumAtoms() == 0 for one in found):
        raise InputError("the structure cannot be read: RDKit finds no molecule in it", where=str(path))
    frames = [_from_rdkit(path, one, suffix == ".mol2") for one in found]
    for atoms, block in zip(frames, blocks if suffix == ".mol2" else [b for b in blocks if b.strip()], strict=True):
        if suffix == ".mol2":
            _charge_of_types(path, atoms, block)
        else:
            _refuse_drawing(path, atoms, block)
            _singlets(atoms, block)
    return frames


def _charge_of_types(path: Path, atoms: Any, block: str) -> None:
    """A mol2 file that says of itself that it has no charges states none; one with atom types of ions says so."""
    if "NO_CHARGES" not in block:
        return
    del atoms.info["charge"]
    ions = sorted(set(_ION_TYPES.findall(block)))
    if ions:
        atoms.info[UNSAID_CHARGE] = f"{', '.join(ions)} among the atom types of a file without charges"


def _refuse_drawing(path: Path, atoms: Any, block: str) -> None:
    """Raise InputError for a flat mol file that says of itself that its coordinates are of a drawing."""
    head = block.split("\n")[:3]
    if len(atoms) > 2 and not np.any(atoms.positions[:, 2]) and any(line[20:22] == "2D" for line in head):
        raise InputError("the file says that its coordinates are of a drawing (2D)", where=str(path), hint=_FLAT_HINT)


def _singlets(atoms: Any, block: str) -> None:
    """The multiplicity of atoms with two unpaired electrons each that a mol file calls singlets: RDKit counts theirs
    as those of triplets."""
    radicals = [int(code) for line in _RADICALS.findall(block) for code in line.split()[1::2]]
    radicals += [int(code) for code in _RADICALS_V3000.findall(block)]
    if 1 in radicals:
        atoms.info["multiplicity"] = 1 + sum(max(0, code - 1) for code in radicals)


def _from_rdkit(path: Path, molecule: Any, partial: bool) -> Any:
    """ASE Atoms of an RDKit molecule, which must have coordinates in space. partial: the total charge is the sum of the
    file's partial charges (mol2), not of formal ones."""
    from ase import Atoms

    if molecule.GetNumConformers() == 0:
        raise InputError("the file holds no coordinates", where=str(path), hint=_FLAT_HINT)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    if 0 in numbers:
        raise InputError("an atom is of no element", where=str(path), value=f"atom {numbers.index(0) + 1}")
    places = np.asarray(molecule.GetConformer().GetPositions(), float)
    flat = len(numbers) > 3 and not np.any(places[:, 2])
    if flat and 1 not in numbers:
        raise InputError("a flat drawing without hydrogens is no structure", where=str(path), hint=_FLAT_HINT)
    atoms: Any = Atoms(numbers=numbers, positions=places)
    charge = float(sum(atom.GetFormalCharge() for atom in molecule.GetAtoms()))
    if partial:
        parts = [
            atom.GetProp("_TriposPartialCharge") for atom in molecule.GetAtoms() if atom.HasProp("_TriposPartialCharge")
        ]
        charge = _sum_of_charges(parts, path) if parts else charge
        if abs(charge - round(charge)) > 0.1:
            raise InputError(
                "the partial charges of the file do not sum to a whole number", where=str(path), value=f"{charge:.3f}"
            )
    radicals = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    atoms.info["charge"] = round(charge)
    if radicals:
        atoms.info["multiplicity"] = radicals + 1
    masses = [atom.GetMass() if atom.GetIsotope() else np.nan for atom in molecule.GetAtoms()]
    if not np.all(np.isnan(masses)):
        atoms.set_masses(np.where(np.isnan(masses), atoms.get_masses(), masses))
    return atoms


def _sum_of_charges(parts: list[str], path: Path) -> float:
    """The sum of partial charges. Raises InputError for what is no finite number."""
    for atom, part in enumerate(parts, 1):
        try:
            good = bool(np.isfinite(float(part)))
        except ValueError:
            good = False
        if not good:
            raise InputError("a partial charge is not a finite number", where=f"{path}, atom {atom}", value=part)
    return sum(map(float, parts))


def _pdb(path: Path) -> list[Any]:
    """Frames of a PDB file; its box, which most programs write as a formality, does not count."""
    text, charge, isotopes = pdb_text(path)
    frames = _ase_frames(path, "proteindatabank", text)
    masses = [atoms.get_masses() for atoms in frames]
    for place, mass in isotopes.items():  # atoms of all models are counted through
        frame = 0
        while place >= len(masses[frame]):
            place, frame = place - len(masses[frame]), frame + 1
        masses[frame][place] = mass
        frames[frame].set_masses(masses[frame])
    for atoms in frames:
        atoms.pbc = False
        atoms.cell = None
        if charge is not None:
            atoms.info["charge"] = charge
    return frames


def _check_sites(path: Path, crystal: Any) -> None:
    """Refuse sites that are not always occupied, and give D the mass of its atom: ASE's is that of the nucleus."""
    partial = [kind for kind in crystal.info.get("occupancy", {}).values() if min(kind.values()) < WHOLE]
    if partial:
        raise InputError(
            "atoms of partial occupancy: the crystal is disordered",
            where=str(path),
            value=", ".join(f"{symbol} {part:g}" for kind in partial[:6] for symbol, part in kind.items()),
            hint="keep one of the alternatives, with an occupancy of 1",
        )
    masses = crystal.get_masses()
    heavy = (crystal.numbers == 1) & (masses > 1.5)
    if heavy.any():
        masses[heavy] = [isotope_mass("H", round(mass)) for mass in masses[heavy]]
        crystal.set_masses(masses)


def _cif(path: Path) -> list[Any]:
    """One molecule out of a crystal: its molecules, made whole, must be of one kind."""
    from ase.neighborlist import natural_cutoffs, neighbor_list

    crystals = _ase_frames(path, "cif")
    edges = crystals[0].cell.lengths() if crystals and len(crystals[0]) else np.zeros(3)
    if not np.all((edges > MIN_EDGE) & (edges < MAX_EDGE)) or len(crystals[0]) > MAX_CRYSTAL_ATOMS:
        raise InputError(
            "the file holds no crystal of molecules",
            where=str(path),
            value=f"cell of {', '.join(f'{edge:g}' for edge in edges)} A",
        )
    crystal = crystals[0]
    _check_sites(path, crystal)
    first, second, shifts = neighbor_list("ijS", crystal, natural_cutoffs(crystal, mult=1.15))
    links: list[list[tuple[int, Any]]] = [[] for _ in range(len(crystal))]
    for i, j, shift in zip(first, second, shifts, strict=True):
        links[i].append((int(j), shift))
    seen: dict[int, Any] = {}
    molecules = []
    for start in range(len(crystal)):
        if start in seen:
            continue
        seen[start], members, queue = np.zeros(3, int), [start], [start]
        while queue:
            atom = queue.pop()
            for other, shift in links[atom]:
                if other not in seen:
                    seen[other] = seen[atom] + shift
                    members.append(other)
                    queue.append(other)
                elif np.any(seen[other] != seen[atom] + shift):
                    raise InputError("the crystal is a network of bonds, not one of molecules", where=str(path))
        members.sort()
        molecule = crystal[members]
        molecule.positions += np.array([seen[m] for m in members]) @ crystal.cell
        molecule.pbc = False
        molecule.cell = None
        molecules.append(molecule)
    formulas = sorted({molecule.get_chemical_formula("hill") for molecule in molecules})
    if len(formulas) > 1:
        raise InputError(
            "the crystal has several kinds of molecules, and which one is meant is not said",
            where=str(path),
            value=", ".join(formulas),
            hint="write the one that is meant as an xyz file",
        )
    molecules[0].info = {}
    return molecules[:1]

"""Molecules from a SMILES string or a name: RDKit makes the conformer, charge and spin come from the string.

Conformers by ETKDGv3 (Wang et al., J. Chem. Inf. Model. 60, 2044, 2020), relaxed with MMFF94s or UFF, the lowest taken.
Names by the tables of the package `chemicals`, without a network. Of any structure `drawn` gives the formula that it
is understood as.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcir.errors import InputError
from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import rdkit_molecule
from hpcir.molecules.structures import Structure, check_structure, standard_masses
from hpcir.units import AMU, ANGSTROM

# Conformers that are embedded: more for more rotatable bonds, fewer of large molecules.
MIN_CONFORMERS, CONFORMERS_PER_BOND, MAX_CONFORMERS = 6, 10, 60
# Atoms of all conformers together: what a force field relaxes in seconds.
MAX_ATOMS_RELAXED = 1500
MAX_ATOMS = 400
# Most atoms of a molecule that is drawn: the drawing of more shows nothing.
MAX_DRAWN = 200
_SEED = 1


@dataclass(frozen=True)
class Understood:
    """The molecule of a string: the structure, its canonical SMILES, a drawing (SVG), rotatable bonds, and notes on
    choices and unusual features."""

    structure: Structure
    smiles: str
    drawing: str
    rotatable: int
    notes: tuple[str, ...]


def smiles_of_name(name: str) -> str:
    """The SMILES string of a name. Raises InputError when the tables do not know it, or are not installed, and for a
    formula that several compounds have."""
    try:
        from chemicals.identifiers import search_chemical
    except ImportError as error:
        raise InputError(
            "names are looked up in the package chemicals, which is not installed",
            where="--name",
            value=name,
            hint="pip install 'hpcir[names]', or give --smiles",
        ) from error
    elements = _composition(name)
    if elements:
        return _smiles_of_formula(name, elements)
    try:
        if not name.strip():
            raise ValueError
        return str(search_chemical(name).smiles)
    except ValueError:
        raise _no_such_name(name) from None


def _no_such_name(name: str) -> InputError:
    return InputError(
        "no such name in the tables of the package chemicals", where="--name", value=name, hint="give --smiles"
    )


def _composition(name: str) -> dict[str, float]:
    """The elements of a formula such as CH3OH and their counts; {} of what is none."""
    from chemicals.elements import nested_formula_parser

    if not re.fullmatch(r"[A-Z(][A-Za-z0-9()]*", name.strip(), re.ASCII):
        return {}
    try:
        return dict(nested_formula_parser(name.strip(), check=True))
    except (ValueError, KeyError, IndexError):
        return {}


def _smiles_of_formula(name: str, elements: dict[str, float]) -> str:
    """The SMILES string of the one neutral compound of a formula, or of that which has it as a name (C2H5OH). The
    package's own search takes the first of several, and CN for a SMILES string. Raises InputError for several."""
    from chemicals.identifiers import pubchem_db

    pubchem_db.finish_loading()
    every = list({id(one): one for one in pubchem_db.CAS_index.values()}.values())
    found = [one for one in every if _composition(one.formula) == elements]
    by_name = pubchem_db.search_name(name.strip().lower())
    if by_name and any(one is by_name for one in found):
        found = [by_name]
    if not found:
        raise _no_such_name(name)
    if len(found) > 1:
        names = " or ".join(str(one.common_name) for one in found[:6])
        raise InputError(
            f"a formula that {len(found)} compounds have",
            where="--name",
            value=name,
            hint=f"give the name of the one that is meant, such as {names}, or --smiles",
        )
    return str(found[0].smiles)


def from_smiles(text: str, name: str = "") -> Understood:
    """The molecule of a SMILES string, with all hydrogens, in its lowest conformer by a force field.

    Raises InputError for what is no SMILES string, several molecules (a salt, a mixture), an unknown atom, and a
    molecule that cannot be built in space.
    """
    Chem = _rdkit()
    from rdkit.Chem import AllChem, rdMolDescriptors

    parsed = Chem.MolFromSmiles(text.strip()) if text.strip() else None
    if parsed is None or parsed.GetNumAtoms() == 0:
        raise InputError(
            "no SMILES string that can be read", where="--smiles", value=text, hint="such as CCO for ethanol"
        )
    parts = Chem.GetMolFrags(parsed, asMols=True)
    if len(parts) > 1:
        raise InputError(
            f"the string is of {len(parts)} molecules or ions, a salt or a mixture; a run is of one",
            where="--smiles",
            value=text,
            hint="give one of them: " + " or ".join(dict.fromkeys(Chem.MolToSmiles(part) for part in parts)),
        )
    if any(atom.GetAtomicNum() == 0 for atom in parsed.GetAtoms()):
        raise InputError(
            "the string has an atom of no element", where="--smiles", value=text, hint="write R groups out"
        )
    molecule = Chem.AddHs(parsed)
    if molecule.GetNumAtoms() > MAX_ATOMS:
        raise InputError(
            f"more than {MAX_ATOMS} atoms",
            where="--smiles",
            value=molecule.GetNumAtoms(),
            hint="give a structure file",
        )
    rotatable = int(rdMolDescriptors.CalcNumRotatableBonds(parsed))
    notes = _stereo_notes(Chem, parsed)
    best, force_field = _lowest_conformer(AllChem, molecule, rotatable, text)
    structure = _structure(molecule, best, name or rdMolDescriptors.CalcMolFormula(parsed))
    notes += _charge_notes(Chem, parsed)
    check_structure(structure)
    said = f"the lowest of {molecule.GetNumConformers()} conformers by {force_field}"
    return Understood(structure, Chem.MolToSmiles(parsed), _drawing(parsed), rotatable, (*notes, said))


def _rdkit() -> Any:
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise InputError("a SMILES string needs the package rdkit", hint="pip install 'hpcir[fragments]'") from error
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    return Chem


def _stereo_notes(chem: Any, parsed: Any) -> list[str]:
    """Stereo centres and double bonds that the string leaves open: one of each is built, with a note."""
    open_centres = [
        f"{parsed.GetAtomWithIdx(found.centeredOn).GetSymbol()}{found.centeredOn + 1}"
        for found in chem.FindPotentialStereo(parsed)
        if str(found.specified) == "Unspecified" and "Atom" in str(found.type)
    ]
    open_bonds = [
        found
        for found in chem.FindPotentialStereo(parsed)
        if str(found.specified) == "Unspecified" and "Bond_Double" in str(found.type)
    ]
    notes = []
    if open_centres:
        notes.append(f"the string leaves the handedness of {', '.join(open_centres)} open: one was built")
    if open_bonds:
        notes.append(f"the string leaves cis and trans of {len(open_bonds)} double bonds open: one of each was built")
    return notes


def _charge_notes(chem: Any, parsed: Any) -> list[str]:
    charges = [atom.GetFormalCharge() for atom in parsed.GetAtoms()]
    neighbours = {
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in parsed.GetBonds() if bond.GetBondTypeAsDouble() >= 1
    }
    paired = [
        i
        for i, charge in enumerate(charges)
        if charge and any({i} & set(pair) and charges[sum(pair) - i] == -charge for pair in neighbours)
    ]
    apart = [charge for i, charge in enumerate(charges) if charge and i not in paired]
    if min(apart, default=0) < 0 < max(apart, default=0):
        return ["a zwitterion: without a solvent its proton most likely goes back"]
    return []


def _lowest_conformer(forces: Any, molecule: Any, rotatable: int, text: str) -> tuple[int, str]:
    """The id of the conformer with the lowest energy, and the name of the force field."""
    settings = forces.ETKDGv3()
    settings.randomSeed = _SEED
    affordable = max(MIN_CONFORMERS, MAX_ATOMS_RELAXED // molecule.GetNumAtoms())
    count = min(MAX_CONFORMERS, MIN_CONFORMERS + CONFORMERS_PER_BOND * rotatable, affordable)
    ids = list(forces.EmbedMultipleConfs(molecule, count, settings))
    if not ids:
        settings.useRandomCoords = True
        ids = list(forces.EmbedMultipleConfs(molecule, 1, settings))
    if not ids:
        raise InputError(
            "the molecule cannot be built in space", where="--smiles", value=text, hint="give a structure file"
        )
    if forces.MMFFHasAllMoleculeParams(molecule):
        found, name = forces.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000, mmffVariant="MMFF94s"), "MMFF94s"
    elif forces.UFFHasAllMoleculeParams(molecule):
        found, name = forces.UFFOptimizeMoleculeConfs(molecule, maxIters=2000), "UFF"
    else:
        return ids[0], "no force field, which knows not all of its atoms"
    energies = [energy if np.isfinite(energy) else np.inf for _, energy in found]
    return ids[int(np.argmin(energies))], name


def _structure(molecule: Any, conformer: int, name: str) -> Structure:
    atoms = list(molecule.GetAtoms())
    masses = np.array([atom.GetMass() for atom in atoms]) * AMU
    return Structure(
        numbers=np.array([atom.GetAtomicNum() for atom in atoms], np.int64),
        positions=np.asarray(molecule.GetConformer(conformer).GetPositions(), float) * ANGSTROM,
        charge=sum(atom.GetFormalCharge() for atom in atoms),
        multiplicity=1 + sum(atom.GetNumRadicalElectrons() for atom in atoms),
        name=name,
        nuclear_masses=masses if any(atom.GetIsotope() for atom in atoms) else None,
    )


@dataclass(frozen=True)
class Drawn:
    """A structure as it is understood by its bonds: canonical SMILES, and a drawing (SVG)."""

    smiles: str
    drawing: str


def drawn(structure: Structure) -> Drawn | None:
    """The bonds, charges and handedness that a structure is understood to have; None without RDKit, and where no bond
    orders give the molecule its charge, or which is too large for a drawing."""
    if len(structure) > MAX_DRAWN:
        return None
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        return None
    with rdBase.BlockLogs():
        try:
            molecule = rdkit_molecule(structure, bond_graph(structure))
            _label_isotopes(molecule, structure)
            Chem.AssignStereochemistryFrom3D(molecule)
            molecule = Chem.RemoveHs(molecule) if len(structure) > 2 else molecule
            molecule.RemoveAllConformers()
            return Drawn(Chem.MolToSmiles(molecule), _drawing(molecule))
        except (InputError, ValueError, RuntimeError):
            return None


def _label_isotopes(molecule: Any, structure: Structure) -> None:
    if structure.nuclear_masses is None:
        return
    usual = standard_masses(structure.numbers)
    for atom, mass, other in zip(molecule.GetAtoms(), structure.nuclear_masses / AMU, usual / AMU, strict=True):
        if abs(mass - other) > 0.15:
            atom.SetIsotope(round(float(mass)))


def _drawing(parsed: Any) -> str:
    """The molecule as the string was understood, as SVG."""
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas: Any = rdMolDraw2D.MolDraw2DSVG(360, 280)
    canvas.drawOptions().addStereoAnnotation = True
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, parsed)
    canvas.FinishDrawing()
    return str(canvas.GetDrawingText())

"""Conformers found of small molecules, against all minima of MMFF94 from a grid of torsions that knows no symmetry.

The grid and its minima are RDKit's. Its conformers are told apart by their energies alone: copies and mirror images
have equal ones.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import conformers, kind
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM, KCAL_PER_MOL

chem = pytest.importorskip("rdkit.Chem")

WINDOW, SAME = 3.0, 0.003  # kcal/mol

# Angles of the grid: off the planes in which symmetry would keep a geometry on a saddle point.
THIRDS, SIXTHS = (67, 187, 307), (7, 67, 127, 187, 247, 307)
# SMILES, embedded geometries that the grid begins with, angles.
MOLECULES = {
    "ethylamine": ("CCN", 1, THIRDS),
    "ethylenediamine": ("NCCN", 1, THIRDS),
    "glycine": ("NCC(=O)O", 1, SIXTHS),
    "ethanol": ("CCO", 1, THIRDS),
    "hydrogen peroxide": ("OO", 2, SIXTHS),
    "butane": ("CCCC", 1, THIRDS),
    "cyclohexane": ("C1CCCCC1", 30, ()),
    "1,2-ethanediol": ("OCCO", 1, THIRDS),
}


class Surface:
    """MMFF94 of a molecule."""

    def __init__(self, smiles):
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

        self.fields = rdForceFieldHelpers
        self.molecule = chem.AddHs(chem.MolFromSmiles(smiles))
        rdDistGeom.EmbedMolecule(self.molecule, randomSeed=7)
        self.properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(self.molecule)
        numbers = np.array([atom.GetAtomicNum() for atom in self.molecule.GetAtoms()])
        first = self.minimum(self.molecule.GetConformer().GetPositions())[0]
        self.structure = Structure(numbers, first * ANGSTROM)

    def minimum(self, frame):
        """Positions in angstrom and the energy in kcal/mol of the minimum below a geometry."""
        from rdkit.Geometry import Point3D

        conformer = self.molecule.GetConformer()
        for atom, point in enumerate(frame.tolist()):
            conformer.SetAtomPosition(atom, Point3D(*point))
        field = self.fields.MMFFGetMoleculeForceField(self.molecule, self.properties)
        field.Initialize()
        for _ in range(20):
            if not field.Minimize(maxIts=1000, forceTol=1e-5, energyTol=1e-9):
                break
        return conformer.GetPositions(), field.CalcEnergy()

    def relax(self, structure):
        positions, energy = self.minimum(structure.positions / ANGSTROM)
        return structure.moved(positions * ANGSTROM), energy * KCAL_PER_MOL

    def axes(self):
        """A torsion for every single bond outside rings with something to turn at both ends."""
        pattern = chem.MolFromSmarts("[*]~[!$([CH3])]-;!@[!$([CH3])]~[*]")
        seen, found = set(), []
        for atoms in self.molecule.GetSubstructMatches(pattern):
            bond = frozenset(atoms[1:3])
            if bond not in seen and atoms[0] != atoms[3]:
                seen.add(bond)
                found.append(atoms)
        return found

    def grid(self, angles, embedded):
        """Minima from every combination of angles, of several embedded geometries: positions and energies."""
        from rdkit.Chem import rdDistGeom, rdMolTransforms

        copy = chem.Mol(self.molecule)
        found = []
        for number in rdDistGeom.EmbedMultipleConfs(copy, embedded, randomSeed=11):
            for setting in product(angles or (None,), repeat=len(self.axes()) if angles else 0):
                conformer = chem.Conformer(copy.GetConformer(number))
                for atoms, angle in zip(self.axes(), setting, strict=False):
                    rdMolTransforms.SetDihedralDeg(conformer, *atoms, float(angle))
                found.append(self.minimum(conformer.GetPositions()))
        return found


def levels(energies):
    """Distinct energies within the window of the lowest."""
    found = []
    for energy in sorted(energies):
        if energy < min(energies) + WINDOW and (not found or energy - found[-1] > SAME):
            found.append(energy)
    return np.array(found)


def check(surface, embedded, angles, count):
    graph = bond_graph(surface.structure)
    wanted = levels([energy for _, energy in surface.grid(angles, embedded)])
    found = conformers(surface.structure, count, 1, surface.relax, WINDOW * KCAL_PER_MOL, graph=graph)
    energies = np.array([item.energy for item in found]) / KCAL_PER_MOL
    missing = [level for level in wanted if np.abs(energies - level).min() > SAME]
    assert not missing, f"{len(missing)} of {len(wanted)}: {[kind(i.structure, graph) for i in found]}"
    return found, energies


@pytest.mark.parametrize("name", list(MOLECULES))
def test_all_conformers_within_3_kcal_per_mol_are_found_once(name):
    smiles, embedded, angles = MOLECULES[name]
    found, energies = check(Surface(smiles), embedded, angles, 60)
    # Each once: what is left of equal energy would be a copy.
    assert len(levels(energies)) == len(found)


def test_all_conformers_of_serine_within_3_kcal_per_mol_are_found():
    check(Surface("N[C@@H](CO)C(=O)O"), 1, THIRDS, 150)

"""Rotamers of acids and amides: their names, and Monte Carlo moves that turn them over as often as is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.conformers import planar_torsions, torsion, turned
from hpcir.molecules.rotamer_names import RotamerNames
from hpcir.molecules.rotamers import pivots, torsion_moves
from hpcir.molecules.structures import Structure, read_structure
from hpcir.units import ANGSTROM

INPUTS = Path(__file__).parents[2] / "inputs"


def embedded(smiles: str) -> Structure:
    """A geometry of a molecule."""
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import rdDistGeom

    molecule = chem.AddHs(chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(molecule, randomSeed=3)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return Structure(numbers, molecule.GetConformer().GetPositions() * ANGSTROM)


def over_and_back(structure: Structure) -> list[str]:
    """The names of a structure with its first planar group at 0 and at 180 degrees."""
    graph = bond_graph(structure)
    names, item = RotamerNames(graph), planar_torsions(graph)[0][1]
    assert names.several
    return [names.name(turned(structure.positions, graph, item, angle)) for angle in (0.0, 180.0)]


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("OC=O", ["syn", "anti"]),
        ("CNC=O", ["trans", "cis"]),
        ("NCC(=O)O", ["syn", "anti"]),
        ("CCC(=O)OC", ["syn", "anti"]),
    ],
)
def test_acids_esters_and_amides_are_in_the_names_of_rotamers(smiles, words):
    assert [name.split()[-1] for name in over_and_back(embedded(smiles))] == words


def test_of_several_acids_those_that_are_turned_over_are_counted():
    def anti(name: str) -> int:
        words = name.split()
        return int(words[words.index("anti") - 1]) if "anti" in words else 0

    near, far = over_and_back(embedded("OC(=O)CC(=O)O"))
    assert anti(far) == anti(near) + 1


def test_an_acid_is_turned_over_as_often_as_its_energies_say():
    """Formic acid with two states of equal width, kT ln 3 apart: a quarter is anti."""
    acid, random = read_structure(INPUTS / "formic-acid.xyz"), np.random.default_rng(11)
    moving = pivots(bond_graph(acid))
    assert [pivot.states for pivot in moving] == [(0.0, 180.0)]

    def energies_of(frames):
        angles = np.radians([torsion(frame, moving[0].atoms) for frame in frames])
        return 10 * np.sin(angles) ** 2 + np.where(np.cos(angles) < 0, np.log(3), 0.0)

    frames, over = np.repeat(acid.positions[None], 60, 0), []
    for _ in range(60):
        frames = torsion_moves(energies_of, lambda x: np.ones(len(x), bool), moving, frames, 1.0, 5, random).positions
        over.append(np.mean([abs(torsion(frame, moving[0].atoms)) > 90 for frame in frames]))
    assert np.mean(over[10:]) == pytest.approx(0.25, abs=0.03)

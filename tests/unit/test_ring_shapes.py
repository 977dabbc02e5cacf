"""Ring puckers and double bonds as conformers: chair and twist-boat, E and Z; named, told apart, and found."""

from __future__ import annotations

import numpy as np
import pytest

from hpcir.molecules.bond_orders import bond_graph
from hpcir.molecules.bonding import ring_bonds
from hpcir.molecules.conformers import MIN_DISTANCE, embedded, unlike
from hpcir.molecules.rotamer_names import RotamerNames, puckered_rings, ring_word
from hpcir.molecules.structures import Structure
from hpcir.units import ANGSTROM

chem = pytest.importorskip("rdkit.Chem")


def made(smiles: str, count: int = 1, seed: int = 7) -> list[Structure]:
    """Geometries of a molecule at minima of MMFF94, by their energy."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    molecule = chem.AddHs(chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMultipleConfs(
        molecule, count, randomSeed=seed, useBasicKnowledge=False, useExpTorsionAnglePrefs=False
    )
    energies = [energy for _, energy in rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)]
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    order = np.argsort(energies, kind="stable")
    frames = [molecule.GetConformer(int(k)).GetPositions() * ANGSTROM for k in order]
    return [Structure(numbers, frame, name=smiles) for frame in frames]


@pytest.fixture(scope="module")
def cyclohexane() -> list[Structure]:
    return made("C1CCCCC1", 60)


def test_chair_and_twist_boat_are_found_named_and_unlike(cyclohexane):
    graph = bond_graph(cyclohexane[0])
    names = [RotamerNames(graph).name(item.positions) for item in cyclohexane]
    assert names[0] == "chair"
    assert "twist-boat" in names
    kept = [names[index] for index in unlike(cyclohexane, MIN_DISTANCE, graph)]
    assert kept.count("chair") == 1
    assert kept.count("twist-boat") == 1


def test_the_search_of_a_run_finds_both_puckers(cyclohexane):
    graph = bond_graph(cyclohexane[0])
    found = {RotamerNames(graph).name(item.positions) for item in embedded(cyclohexane[0], 60, 1, graph)}
    assert {"chair", "twist-boat"} <= found


def test_a_ring_is_named_whatever_its_atoms_are_called(cyclohexane):
    graph = bond_graph(cyclohexane[0])
    (ring,) = puckered_rings(graph)
    for item in cyclohexane[:10]:
        words = {ring_word(item.positions, ring[k:] + ring[:k]) for k in range(6)}
        words |= {ring_word(item.positions * np.array([1, 1, -1]), ring[::-1])}
        assert len(words) == 1


def test_axial_and_equatorial_methylcyclohexane_are_unlike():
    found = made("CC1CCCCC1", 60)
    graph = bond_graph(found[0])
    chairs = [item for item in found if RotamerNames(graph).name(item.positions) == "chair"]
    assert len(unlike(chairs, MIN_DISTANCE, graph)) == 2


def test_flat_and_smaller_rings_have_no_shape():
    for smiles in ("c1ccccc1", "C1CCCC1"):
        graph = bond_graph(made(smiles)[0])
        assert puckered_rings(graph) == []
        assert ring_bonds(len(graph), graph.pairs).any()


def test_e_and_z_are_different_conformers():
    one, other = made("C/C=C/C")[0], made("C/C=C\\C")[0]
    graph = bond_graph(one)
    assert np.array_equal(graph.numbers, bond_graph(other).numbers)
    assert unlike([one, other], MIN_DISTANCE, graph) == [0, 1]
    # Turned methyl groups and mirror images are not.
    assert unlike([one, one.moved(-one.positions)], MIN_DISTANCE, graph) == [0]


def test_larger_rings_are_named_by_their_signs_and_fused_ones_are_each_found():
    found = made("C1CCCCCC1", 20)
    graph = bond_graph(found[0])
    (ring,) = puckered_rings(graph)
    assert len(ring) == 7
    for item in found:
        words = {ring_word(item.positions, ring[k:] + ring[:k]) for k in range(7)}
        assert len(words | {ring_word(-item.positions, ring[::-1])}) == 1
    decalin = made("C1CCC2CCCCC2C1")[0]
    assert sorted(len(own) for own in puckered_rings(bond_graph(decalin))) == [6, 6]
